//! What does the host have of cells and devices, and what of it may guests have? Pure.

use std::collections::BTreeSet;

use virga_core::hypervisor;
use virga_crds::{
    Bytes, HypervisorSpec, HypervisorStatus, MemoryPages, NumaCell, PciDevice as OfferedDevice, PciDeviceSelector,
};
use virga_hypervisor::{CellFacts, HostFacts, PciFacts, PciKind};
use virga_scheduler::topology::{CpuSet, HostTopology};

/// As many as the schema takes.
const MAX_CELLS: usize = 64;
/// See [`MAX_CELLS`].
const MAX_SIZES: usize = 8;
/// See [`MAX_CELLS`].
const MAX_CORES: usize = 512;
/// See [`MAX_CELLS`].
const MAX_DEVICES: usize = 256;
/// The longest list of CPUs that the schema takes.
const MAX_TEXT: usize = 1024;
/// The longest list of a core's threads that the schema takes.
const MAX_CORE: usize = 63;

/// What the host offers in cells and devices, as its operators cut it.
pub fn offered(facts: &HostFacts, spec: &HypervisorSpec) -> Option<HostTopology> {
    let status = HypervisorStatus {
        cells: cells(facts),
        pci_devices: devices(facts, &spec.pci_devices),
        ..HypervisorStatus::default()
    };
    hypervisor::topology(spec, &status)
}

/// The host's cells, for its Hypervisor's status. One without CPUs, such as memory on a card, takes no guest's node.
pub fn cells(facts: &HostFacts) -> Vec<NumaCell> {
    let cells = facts.cells.iter().filter(|cell| !cell.cpus.is_empty());
    cells.take(MAX_CELLS).map(cell).collect()
}

fn cell(cell: &CellFacts) -> NumaCell {
    let pages = cell.pages.iter().take(MAX_SIZES);
    NumaCell {
        id: cell.id,
        socket: cell.cpus.first().map_or(0, |cpu| cpu.socket),
        cpus: text(cell),
        siblings: siblings(cell),
        memory: Bytes(cell.memory_bytes),
        pages: pages
            .map(|pages| MemoryPages {
                size: Bytes(pages.size_kib.saturating_mul(1024)),
                total: i64::try_from(pages.total).unwrap_or(i64::MAX),
            })
            .collect(),
    }
}

/// The CPUs. Of numbers so scattered that the list gets too long the last are left out.
fn text(cell: &CellFacts) -> String {
    let mut cpus: CpuSet = cell.cpus.iter().map(|cpu| cpu.id).collect();
    let mut text = cpus.to_string();
    let mut ids = cell.cpus.iter().rev().map(|cpu| cpu.id);
    while text.len() > MAX_TEXT
        && let Some(last) = ids.next()
    {
        cpus.remove(last);
        text = cpus.to_string();
    }
    text
}

/// The threads of each core that has more than one.
fn siblings(cell: &CellFacts) -> Vec<String> {
    let cores: BTreeSet<&BTreeSet<u32>> = cell.cpus.iter().map(|cpu| &cpu.siblings).collect();
    let cores = cores.into_iter().filter(|core| core.len() > 1);
    let cores = cores.map(|core| core.iter().copied().collect::<CpuSet>().to_string());
    cores.filter(|core| core.len() <= MAX_CORE).take(MAX_CORES).collect()
}

/// The devices that guests may have: those that operators name and that can be given to one guest alone. The first
/// selector that names a device gives it its alias.
pub fn devices(facts: &HostFacts, selectors: &[PciDeviceSelector]) -> Vec<OfferedDevice> {
    let named = facts.pci_devices.iter().filter_map(|device| {
        let selector = selectors.iter().find(|selector| names(selector, device))?;
        hindrance(facts, selectors, device).is_none().then(|| OfferedDevice {
            address: device.address.to_string(),
            alias: selector.alias.clone(),
            vendor_id: format!("{:04x}", device.vendor),
            product_id: format!("{:04x}", device.product),
            cell: device.cell,
        })
    });
    named.take(MAX_DEVICES).collect()
}

/// Whether a selector names a device: by all that it says.
pub(super) fn names(selector: &PciDeviceSelector, device: &PciFacts) -> bool {
    let PciDeviceSelector {
        alias: _,
        address,
        vendor_id,
        product_id,
    } = selector;
    let is = |said: &Option<String>, id: u16| said.as_ref().is_none_or(|said| *said == format!("{id:04x}"));
    let here = address.as_ref().is_none_or(|said| *said == device.address.to_string());
    let says = address.is_some() || vendor_id.is_some();
    says && here && is(vendor_id, device.vendor) && is(product_id, device.product)
}

/// Why a device that is named can't be given to a guest, and what to do.
pub(super) fn hindrance(facts: &HostFacts, selectors: &[PciDeviceSelector], device: &PciFacts) -> Option<String> {
    let address = device.address;
    match device.kind {
        PciKind::Bridge => return Some(format!("{address} is a bridge: leave it out")),
        PciKind::PhysicalFunction { virtual_functions } if virtual_functions > 0 => {
            return Some(format!(
                "{address} is split into {virtual_functions} virtual functions: name those instead, or take them away"
            ));
        }
        _ => {}
    }
    let Some(group) = device.iommu_group else {
        return Some(format!(
            "{address} has no IOMMU group, so it can't be given to a guest: switch the IOMMU on in the firmware and on \
             the kernel's command line"
        ));
    };
    let is_named = |other: &PciFacts| selectors.iter().any(|selector| names(selector, other));
    let mut earlier = facts.pci_devices.iter().take_while(|other| other.address < address);
    let first =
        earlier.find(|other| other.iommu_group == Some(group) && other.kind != PciKind::Bridge && is_named(other))?;
    Some(format!(
        "{address} shares IOMMU group {group} with {}, so the two can't go to different guests: leave one out",
        first.address
    ))
}

#[cfg(test)]
mod tests {
    use virga_hypervisor::{CellCpu, Fake, Hypervisor as _, PageFacts};

    use super::*;

    fn pci(address: &str, vendor: u16, product: u16, group: Option<u32>) -> PciFacts {
        PciFacts {
            address: address.parse().unwrap(),
            vendor,
            product,
            kind: PciKind::Plain,
            cell: Some(1),
            iommu_group: group,
            driver: None,
        }
    }

    fn selector(alias: &str, vendor: &str, product: Option<&str>) -> PciDeviceSelector {
        PciDeviceSelector {
            alias: alias.into(),
            address: None,
            vendor_id: Some(vendor.into()),
            product_id: product.map(Into::into),
        }
    }

    fn facts(devices: Vec<PciFacts>) -> HostFacts {
        HostFacts {
            pci_devices: devices,
            ..Fake::new().facts().unwrap()
        }
    }

    #[test]
    fn a_cell_is_told_with_its_threads_and_pages_and_one_without_cpus_is_not() {
        let cpu = |id: u32, core: [u32; 2]| CellCpu {
            id,
            socket: 1,
            siblings: core.into(),
        };
        let mut facts = facts(Vec::new());
        facts.cells = vec![
            CellFacts {
                id: 1,
                memory_bytes: 8 << 30,
                pages: vec![PageFacts {
                    size_kib: 2048,
                    total: 7,
                }],
                cpus: vec![cpu(4, [4, 12]), cpu(5, [5, 5]), cpu(12, [4, 12])],
            },
            CellFacts {
                id: 2,
                memory_bytes: 8 << 30,
                ..CellFacts::default()
            },
        ];
        let cells = cells(&facts);
        assert_eq!(cells.len(), 1);
        let NumaCell {
            cpus,
            siblings,
            pages,
            socket,
            ..
        } = &cells[0];
        assert_eq!(
            (cpus.as_str(), siblings.as_slice(), *socket),
            ("4,5,12", ["4,12".to_owned()].as_slice(), 1)
        );
        assert_eq!((pages[0].size, pages[0].total), (Bytes::mib(2), 7));
    }

    #[test]
    fn numbers_too_scattered_for_the_schema_are_cut() {
        let cpu = |id| CellCpu {
            id,
            socket: 0,
            siblings: [id].into(),
        };
        let mut facts = facts(Vec::new());
        facts.cells[0].cpus = (0..1000).map(|n| cpu(n * 2)).collect();
        let cells = cells(&facts);
        assert!((1000..=1024).contains(&cells[0].cpus.len()), "{}", cells[0].cpus);
        assert!(cells[0].cpus.parse::<CpuSet>().unwrap().len() > 200);
    }

    #[test]
    fn only_devices_that_are_named_and_can_be_given_are_offered_by_the_first_name_that_holds() {
        let facts = facts(vec![
            pci("0000:3b:00.0", 0x10de, 0x20f1, Some(1)),
            pci("0000:3b:00.1", 0x10de, 0x10f0, Some(1)),
            pci("0000:5e:00.0", 0x10de, 0x20f1, None),
            pci("0000:86:00.0", 0x10de, 0x1eb8, Some(2)),
            pci("0000:af:00.0", 0x8086, 0x1572, Some(3)),
        ]);
        let selectors = [selector("a100", "10de", Some("20f1")), selector("gpu", "10de", None)];
        let offered: Vec<_> = devices(&facts, &selectors)
            .into_iter()
            .map(|device| (device.address, device.alias, device.product_id))
            .collect();
        let device =
            |address: &str, alias: &str, product: &str| (address.to_owned(), alias.to_owned(), product.to_owned());
        assert_eq!(
            offered,
            [
                device("0000:3b:00.0", "a100", "20f1"),
                device("0000:86:00.0", "gpu", "1eb8")
            ]
        );
    }

    #[test]
    fn a_selector_that_says_nothing_names_nothing() {
        let says_nothing = PciDeviceSelector {
            alias: "all".into(),
            ..PciDeviceSelector::default()
        };
        assert!(!names(&says_nothing, &pci("0000:3b:00.0", 1, 1, Some(1))));
    }
}
