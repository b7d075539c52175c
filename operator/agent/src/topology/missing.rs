//! What do operators say of the host that is not so? Pure.

use virga_core::{hypervisor::partition, instance::pinning, problem::Problems};
use virga_crds::{Bytes, HypervisorSpec, InstanceTopology, PciDeviceSelector, ReservedPages};
use virga_hypervisor::{HostFacts, PciFacts};
use virga_scheduler::topology::Occupied;

use super::{
    offered::{hindrance, names},
    online,
};

/// More are not told of one field: the message is for people.
const MOST: usize = 4;

/// All that a Hypervisor's spec names and the host does not have or can't give, each with the field and the cure; and
/// what Instances, by their names, have still of what is not for them any more.
pub fn missing(spec: &HypervisorSpec, facts: &HostFacts, held: &[(String, InstanceTopology)]) -> Problems {
    let mut problems = Problems::default();
    cpus(spec, facts, held, &mut problems);
    pages(spec, facts, &mut problems);
    for (index, selector) in spec.pci_devices.iter().enumerate() {
        devices(index, selector, spec, facts, &mut problems);
    }
    problems
}

fn cpus(spec: &HypervisorSpec, facts: &HostFacts, held: &[(String, InstanceTopology)], problems: &mut Problems) {
    let partition = match partition(spec) {
        Ok(partition) => partition,
        Err(wrong) => return problems.extend(wrong),
    };
    let online = online(facts);
    let shared = partition.shared.unwrap_or_default();
    for (field, cpus) in [("shared", &shared), ("dedicated", &partition.dedicated)] {
        let missing = cpus.difference(&online);
        if !missing.is_empty() {
            let message = format!("the host has no CPUs {missing} that are online: name CPUs of status.cells only");
            problems.add(format!("spec.cpus.{field}"), message);
        }
    }
    let mut told = 0;
    for (name, topology) in held {
        let mut own = Occupied::default();
        own.add(&pinning(topology));
        let lost = own.cpus().difference(&partition.dedicated);
        if !lost.is_empty() && told < MOST {
            told += 1;
            let message = format!("the Instance {name} has the CPUs {lost} to itself: name them, or delete it");
            problems.add("spec.cpus.dedicated", message);
        }
    }
}

fn pages(spec: &HypervisorSpec, facts: &HostFacts, problems: &mut Problems) {
    let kept = spec.reserved.as_ref().map_or(&[][..], |reserved| &reserved.pages);
    for ReservedPages { cell, size, count } in kept {
        let pages = facts.cells.iter().find(|host| host.id == *cell).map(|host| &host.pages);
        let pages = pages
            .into_iter()
            .flatten()
            .find(|pages| Bytes(pages.size_kib << 10) == *size);
        let field = format!("spec.reserved.pages[{cell}, {size}]");
        match pages {
            None => problems.add(field, "the host has no such cell or pages: name those of status.cells"),
            Some(pages) if u64::try_from(*count).is_ok_and(|count| count > pages.total) => {
                problems.add(
                    field,
                    format!("the cell has {} of them: keep no more back", pages.total),
                );
            }
            Some(_) => {}
        }
    }
}

fn devices(
    index: usize,
    selector: &PciDeviceSelector,
    spec: &HypervisorSpec,
    facts: &HostFacts,
    problems: &mut Problems,
) {
    let field = format!("spec.pciDevices[{index}]");
    let named: Vec<&PciFacts> = facts
        .pci_devices
        .iter()
        .filter(|device| names(selector, device))
        .collect();
    if named.is_empty() {
        let message = format!("names no device of the host ({}): see lspci -nn on it", said(selector));
        problems.add(field, message);
        return;
    }
    let hindered = named
        .iter()
        .filter_map(|device| hindrance(facts, &spec.pci_devices, device));
    for why in hindered.take(MOST) {
        problems.add(&field, why);
    }
}

fn said(selector: &PciDeviceSelector) -> String {
    let parts = [
        selector.address.clone(),
        selector.vendor_id.as_ref().map(|id| format!("vendor {id}")),
        selector.product_id.as_ref().map(|id| format!("product {id}")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use virga_crds::{CpuPartition, CpuPin, InstanceCell, Reserved};
    use virga_hypervisor::{Fake, Hypervisor as _, PciKind};

    use super::*;

    fn said(spec: &HypervisorSpec, facts: &HostFacts, held: &[(String, InstanceTopology)]) -> Vec<String> {
        missing(spec, facts, held).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_so_is_not_told_of() {
        let facts = Fake::new().facts().unwrap();
        assert_eq!(said(&HypervisorSpec::default(), &facts, &[]), [""; 0]);
        let spec = HypervisorSpec {
            cpus: Some(CpuPartition {
                shared: Some("0-3".into()),
                dedicated: Some("4-7".into()),
            }),
            ..HypervisorSpec::default()
        };
        assert_eq!(said(&spec, &facts, &[]), [""; 0]);
    }

    #[test]
    fn cpus_and_pages_that_are_not_there_are_told_with_field_and_cure() {
        let facts = Fake::new().facts().unwrap();
        let kept = |cell, size, count| ReservedPages { cell, size, count };
        let spec = HypervisorSpec {
            cpus: Some(CpuPartition {
                shared: Some("0-3".into()),
                dedicated: Some("6-9".into()),
            }),
            reserved: Some(Reserved {
                pages: vec![
                    kept(0, Bytes::mib(2), 1),
                    kept(0, Bytes(4096), 1 << 40),
                    kept(0, Bytes(4096), 1),
                ],
                ..Reserved::default()
            }),
            ..HypervisorSpec::default()
        };
        let held = InstanceTopology {
            cells: vec![InstanceCell {
                pins: vec![CpuPin { vcpu: 0, cpu: 5 }, CpuPin { vcpu: 1, cpu: 6 }],
                ..InstanceCell::default()
            }],
            ..InstanceTopology::default()
        };
        assert_eq!(
            said(&spec, &facts, &[("shop/db-1".into(), held)]),
            [
                "spec.cpus.dedicated: the host has no CPUs 8,9 that are online: name CPUs of status.cells only",
                "spec.cpus.dedicated: the Instance shop/db-1 has the CPUs 5 to itself: name them, or delete it",
                "spec.reserved.pages[0, 2Mi]: the host has no such cell or pages: name those of status.cells",
                "spec.reserved.pages[0, 4Ki]: the cell has 4194304 of them: keep no more back",
            ]
        );
    }

    #[test]
    fn a_cpu_that_is_shared_and_dedicated_is_told_of() {
        let facts = Fake::new().facts().unwrap();
        let spec = HypervisorSpec {
            cpus: Some(CpuPartition {
                shared: Some("0-4".into()),
                dedicated: Some("4-7".into()),
            }),
            ..HypervisorSpec::default()
        };
        let told = said(&spec, &facts, &[]);
        assert!(
            told.len() == 1 && told[0].starts_with("spec.cpus.dedicated: has the CPUs 4"),
            "{told:?}"
        );
    }

    #[test]
    fn devices_that_match_nothing_or_can_t_be_given_are_told_of() {
        let device = |address: &str, kind, group| PciFacts {
            address: address.parse().unwrap(),
            vendor: 0x8086,
            product: 0x1572,
            kind,
            cell: None,
            iommu_group: group,
            driver: None,
        };
        let facts = HostFacts {
            pci_devices: vec![
                device("0000:3b:00.0", PciKind::Plain, None),
                device("0000:3b:00.1", PciKind::Bridge, Some(1)),
                device(
                    "0000:3b:00.2",
                    PciKind::PhysicalFunction { virtual_functions: 4 },
                    Some(2),
                ),
                device("0000:3b:00.3", PciKind::Plain, Some(3)),
                device("0000:3b:00.4", PciKind::Plain, Some(3)),
            ],
            ..Fake::new().facts().unwrap()
        };
        let selector = |address: Option<&str>, vendor: Option<&str>| PciDeviceSelector {
            alias: "nic".into(),
            address: address.map(Into::into),
            vendor_id: vendor.map(Into::into),
            product_id: None,
        };
        let spec = HypervisorSpec {
            pci_devices: vec![
                selector(Some("0000:af:00.0"), Some("10de")),
                selector(None, Some("8086")),
            ],
            ..HypervisorSpec::default()
        };
        let told = said(&spec, &facts, &[]);
        let starts = [
            "spec.pciDevices[0]: names no device of the host (0000:af:00.0, vendor 10de)",
            "spec.pciDevices[1]: 0000:3b:00.0 has no IOMMU group",
            "spec.pciDevices[1]: 0000:3b:00.1 is a bridge",
            "spec.pciDevices[1]: 0000:3b:00.2 is split into 4 virtual functions",
            "spec.pciDevices[1]: 0000:3b:00.4 shares IOMMU group 3 with 0000:3b:00.3",
        ];
        assert_eq!(told.len(), starts.len(), "{told:#?}");
        for (told, start) in told.iter().zip(starts) {
            assert!(told.starts_with(start), "{told}");
        }
    }
}
