//! libvirt's XML for an [`Affinity`], as Nova's libvirt driver writes it.

use std::collections::BTreeSet;

use super::{Affinity, GuestCell};
use crate::cpu_list;
use crate::pci::PciAddress;
use crate::xml::Element;

/// The huge pages of each node that has some.
pub fn memory_backing(affinity: &Affinity) -> Option<Element> {
    let pages: Vec<Element> = cells(affinity)
        .filter_map(|(number, cell)| {
            let size = cell.huge_pages_kib?;
            Some(
                Element::new("page")
                    .attr("size", size.to_string())
                    .attr("unit", "KiB")
                    .attr("nodeset", number.to_string()),
            )
        })
        .collect();
    let huge = || Element::new("memoryBacking").child(Element::new("hugepages").children(pages.clone()));
    (!pages.is_empty()).then(huge)
}

/// Each virtual CPU to its CPUs, and QEMU's own threads to theirs.
pub fn cpu_tune(affinity: &Affinity) -> Option<Element> {
    let Affinity::Cells { cells, emulator } = affinity else {
        return None;
    };
    let mut pins: Vec<(u32, &BTreeSet<u32>)> = Vec::new();
    pins.extend(
        cells
            .iter()
            .flat_map(|cell| &cell.vcpus)
            .map(|(vcpu, cpus)| (*vcpu, cpus)),
    );
    pins.sort_unstable();
    let all = || pins.iter().flat_map(|(_, cpus)| cpus.iter().copied()).collect();
    let emulator = if emulator.is_empty() { all() } else { emulator.clone() };
    let pin = |(vcpu, cpus): &(u32, &BTreeSet<u32>)| {
        Element::new("vcpupin")
            .attr("vcpu", vcpu.to_string())
            .attr("cpuset", cpu_list::write(cpus))
    };
    Some(
        Element::new("cputune")
            .children(pins.iter().map(pin))
            .child(Element::new("emulatorpin").attr("cpuset", cpu_list::write(&emulator))),
    )
}

/// The memory of each node from its cell and from no other.
pub fn numa_tune(affinity: &Affinity) -> Option<Element> {
    let nodes: BTreeSet<u32> = cells(affinity).map(|(_, cell)| cell.host_cell).collect();
    let node = |(number, cell): (usize, &GuestCell)| {
        Element::new("memnode")
            .attr("cellid", number.to_string())
            .attr("mode", "strict")
            .attr("nodeset", cell.host_cell.to_string())
    };
    let tune = || {
        let memory = Element::new("memory")
            .attr("mode", "strict")
            .attr("nodeset", cpu_list::write(&nodes));
        Element::new("numatune")
            .child(memory)
            .children(cells(affinity).map(node))
    };
    (!nodes.is_empty()).then(tune)
}

/// The NUMA nodes that the guest sees.
pub fn guest_numa(affinity: &Affinity) -> Option<Element> {
    // As Nova does: a back end of the network in another process can map memory of huge pages only when it is shared.
    let shared = cells(affinity).any(|(_, cell)| cell.huge_pages_kib.is_some());
    let node = |(number, cell): (usize, &GuestCell)| {
        Element::new("cell")
            .attr("id", number.to_string())
            .attr("cpus", cpu_list::write(&cell.vcpus.keys().copied().collect()))
            .attr("memory", (cell.memory_bytes / 1024).to_string())
            .attr("unit", "KiB")
            .attr_if("memAccess", shared.then_some("shared"))
    };
    let has_cells = cells(affinity).next().is_some();
    has_cells.then(|| Element::new("numa").children(cells(affinity).map(node)))
}

/// The host's devices that are passed through. libvirt takes each from its driver when the domain starts, and gives it
/// back when it stops.
pub fn devices(addresses: &[PciAddress]) -> impl Iterator<Item = Element> + '_ {
    addresses.iter().map(|address| {
        let place = Element::new("address")
            .attr("domain", format!("0x{:04x}", address.domain))
            .attr("bus", format!("0x{:02x}", address.bus))
            .attr("slot", format!("0x{:02x}", address.slot))
            .attr("function", format!("0x{:x}", address.function));
        Element::new("hostdev")
            .attr("mode", "subsystem")
            .attr("type", "pci")
            .attr("managed", "yes")
            .child(Element::new("source").child(place))
    })
}

fn cells(affinity: &Affinity) -> impl Iterator<Item = (usize, &GuestCell)> {
    let cells = match affinity {
        Affinity::Cells { cells, .. } => cells.as_slice(),
        Affinity::Any | Affinity::Cpus(_) => &[],
    };
    cells.iter().enumerate()
}
