//! Which CPUs, pages and devices of its host an Instance has: as the API tells it, and as the scheduler counts it.

use virga_crds::{Bytes, CpuPin, EmulatorCpus, EmulatorPolicy, InstanceCell, InstancePciDevice, InstanceTopology};
use virga_scheduler::topology::{CpuSet, HeldDevice, PinnedCell, Pinning};

/// As the API tells it; `None` when it has none of these.
pub fn told(pinning: &Pinning) -> Option<InstanceTopology> {
    if pinning.cells.is_empty() && pinning.devices.is_empty() {
        return None;
    }
    let policy = if pinning.emulator_is_own {
        EmulatorPolicy::Isolated
    } else {
        EmulatorPolicy::Shared
    };
    let emulator = text(&pinning.emulator).map(|cpus| EmulatorCpus { cpus, policy });
    let devices = pinning.devices.iter().map(|device| InstancePciDevice {
        address: device.address.clone(),
        alias: device.alias.clone(),
    });
    Some(InstanceTopology {
        cells: pinning.cells.iter().map(told_cell).collect(),
        emulator,
        pci_devices: devices.collect(),
    })
}

/// As the scheduler counts it. What is no set of CPUs, which no agent writes, is an empty one.
pub fn pinning(topology: &InstanceTopology) -> Pinning {
    let emulator = topology.emulator.as_ref();
    let devices = topology.pci_devices.iter().map(|device| HeldDevice {
        alias: device.alias.clone(),
        address: device.address.clone(),
    });
    Pinning {
        cells: topology.cells.iter().map(pinned_cell).collect(),
        emulator: set(emulator.map(|emulator| &emulator.cpus)),
        emulator_is_own: emulator.is_some_and(|emulator| emulator.policy == EmulatorPolicy::Isolated),
        devices: devices.collect(),
    }
}

fn told_cell(cell: &PinnedCell) -> InstanceCell {
    InstanceCell {
        host_cell: cell.cell,
        memory: Bytes(cell.memory_bytes),
        page_size: cell.page_kib.map(|kib| Bytes(kib.saturating_mul(1024))),
        pins: cell.pins.iter().map(|&(vcpu, cpu)| CpuPin { vcpu, cpu }).collect(),
        floating: text(&cell.floating),
        shared: text(&cell.shared),
        kept_empty: text(&cell.kept_empty),
    }
}

fn pinned_cell(cell: &InstanceCell) -> PinnedCell {
    PinnedCell {
        cell: cell.host_cell,
        pins: cell.pins.iter().map(|pin| (pin.vcpu, pin.cpu)).collect(),
        floating: set(cell.floating.as_ref()),
        shared: set(cell.shared.as_ref()),
        memory_bytes: cell.memory.0,
        page_kib: cell.page_size.map(|size| size.0 / 1024),
        kept_empty: set(cell.kept_empty.as_ref()),
    }
}

fn text(cpus: &CpuSet) -> Option<String> {
    (!cpus.is_empty()).then(|| cpus.to_string())
}

fn set(text: Option<&String>) -> CpuSet {
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_read_again_as_it_was() {
        let cpus = |text: &str| text.parse::<CpuSet>().unwrap();
        let held = Pinning {
            cells: vec![PinnedCell {
                cell: 1,
                pins: vec![(0, 4), (1, 6)],
                floating: cpus("2,3"),
                shared: cpus("0-3"),
                memory_bytes: 1 << 30,
                page_kib: Some(2048),
                kept_empty: cpus("5,7"),
            }],
            emulator: cpus("8"),
            emulator_is_own: true,
            devices: vec![HeldDevice {
                alias: "a100".into(),
                address: "0000:3b:00.0".into(),
            }],
        };
        assert_eq!(told(&held).map(|told| pinning(&told)), Some(held));
        assert_eq!(told(&Pinning::default()), None);
    }
}
