//! From what an Instance has to where its domain runs. Pure.

use std::collections::{BTreeMap, BTreeSet};

use virga_core::{hypervisor::partition, instance::pinning};
use virga_crds::{HypervisorSpec, InstanceTopology};
use virga_hypervisor::{Affinity, GuestCell, HostFacts, PciAddress, PciAddressError};
use virga_scheduler::topology::{CpuSet, PinnedCell};

use super::online;

/// Where a domain runs. One without CPUs or nodes of its own runs on the CPUs that operators let guests share, so that
/// the dedicated ones stay with whom they are given to (Nova's `cpu_shared_set`).
pub fn affinity(held: Option<&InstanceTopology>, spec: &HypervisorSpec, facts: &HostFacts) -> Affinity {
    let held = held.map(pinning).unwrap_or_default();
    if held.cells.is_empty() {
        return shared(spec, facts);
    }
    Affinity::Cells {
        cells: held.cells.iter().map(|cell| guest_cell(cell, facts)).collect(),
        emulator: numbers(&held.emulator),
    }
}

/// The devices that are passed through.
pub fn pci_devices(held: Option<&InstanceTopology>) -> Result<Vec<PciAddress>, PciAddressError> {
    let devices = held.map_or(&[][..], |held| &held.pci_devices);
    devices.iter().map(|device| device.address.parse()).collect()
}

/// A host without shared CPUs takes no such guest any more. One that came before the cut runs on what is nobody's.
fn shared(spec: &HypervisorSpec, facts: &HostFacts) -> Affinity {
    let partition = partition(spec).unwrap_or_default();
    let Some(shared) = partition.shared else {
        return Affinity::Any;
    };
    let online = online(facts);
    let choices = [shared.intersection(&online), online.difference(&partition.dedicated)];
    let chosen = choices.into_iter().find(|cpus| !cpus.is_empty());
    chosen.map_or(Affinity::Any, |cpus| Affinity::Cpus(numbers(&cpus)))
}

fn guest_cell(cell: &PinnedCell, facts: &HostFacts) -> GuestCell {
    let shared = numbers(&cell.shared);
    let floating = cell.floating.iter().map(|vcpu| (vcpu, shared.clone()));
    let pinned = cell.pins.iter().map(|&(vcpu, cpu)| (vcpu, BTreeSet::from([cpu])));
    // libvirt takes the host's ordinary pages for no huge pages.
    let ordinary = facts.cells.iter().find(|host| host.id == cell.cell);
    let ordinary = ordinary
        .and_then(|host| host.pages.first())
        .map_or(0, |pages| pages.size_kib);
    GuestCell {
        vcpus: floating.chain(pinned).collect::<BTreeMap<_, _>>(),
        memory_bytes: cell.memory_bytes,
        host_cell: cell.cell,
        huge_pages_kib: cell.page_kib.filter(|size| *size > ordinary),
    }
}

fn numbers(cpus: &CpuSet) -> BTreeSet<u32> {
    cpus.iter().collect()
}

#[cfg(test)]
mod tests {
    use virga_crds::{Bytes, CpuPartition, CpuPin, InstanceCell};
    use virga_hypervisor::{Fake, Hypervisor as _};

    use super::*;

    fn cut(shared: Option<&str>, dedicated: Option<&str>) -> HypervisorSpec {
        HypervisorSpec {
            cpus: Some(CpuPartition {
                shared: shared.map(Into::into),
                dedicated: dedicated.map(Into::into),
            }),
            ..HypervisorSpec::default()
        }
    }

    #[test]
    fn a_guest_without_cpus_of_its_own_keeps_off_the_dedicated_ones() {
        let facts = Fake::new().facts().unwrap();
        let on = |spec| affinity(None, &spec, &facts);
        assert_eq!(on(HypervisorSpec::default()), Affinity::Any);
        assert_eq!(on(cut(Some("0,1,99"), Some("4-7"))), Affinity::Cpus([0, 1].into()));
        assert_eq!(on(cut(None, Some("2-7"))), Affinity::Cpus([0, 1].into()));
        assert_eq!(on(cut(None, Some("0-7"))), Affinity::Any);
    }

    #[test]
    fn pinned_and_floating_cpus_and_only_huge_pages_are_told_to_libvirt() {
        let facts = Fake::new().facts().unwrap();
        let cell = |page_size| InstanceCell {
            host_cell: 0,
            memory: Bytes::gib(1),
            page_size,
            pins: vec![CpuPin { vcpu: 1, cpu: 5 }],
            floating: Some("0".into()),
            shared: Some("0-2".into()),
            kept_empty: None,
        };
        let held = InstanceTopology {
            cells: vec![cell(Some(Bytes::mib(2))), cell(Some(Bytes(4096)))],
            ..InstanceTopology::default()
        };
        let Affinity::Cells { cells, emulator } = affinity(Some(&held), &cut(Some("0-2"), Some("5")), &facts) else {
            panic!("no cells");
        };
        assert!(emulator.is_empty());
        assert_eq!(cells[0].vcpus, [(0, [0, 1, 2].into()), (1, [5].into())].into());
        let pages: Vec<_> = cells.iter().map(|cell| cell.huge_pages_kib).collect();
        assert_eq!(pages, [Some(2048), None]);
    }
}
