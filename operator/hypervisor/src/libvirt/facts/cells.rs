//! The host's NUMA cells, from libvirt's capabilities.

use std::collections::BTreeSet;

use crate::cpu_list::{self, LARGEST_CPU};
use crate::host::{CellCpu, CellFacts, PageFacts};
use crate::xml::Element;

/// More are not looked at: Linux has no more than 1024 nodes.
const MAX_CELLS: usize = 1024;
/// Sizes of pages: no architecture has more.
const MAX_SIZES: usize = 16;

/// `<host><topology><cells>`. What can't be read is left out, and what is there twice counts once.
pub fn read(capabilities: &Element) -> Vec<CellFacts> {
    let listed = capabilities.path(&["host", "topology", "cells"]);
    let listed = listed.into_iter().flat_map(|cells| cells.all("cell"));
    let mut cells: Vec<CellFacts> = listed.take(MAX_CELLS).filter_map(cell).collect();
    cells.sort_by_key(|cell| cell.id);
    cells.dedup_by_key(|cell| cell.id);
    cells
}

fn cell(cell: &Element) -> Option<CellFacts> {
    let mut cpus: Vec<CellCpu> = cell
        .find("cpus")
        .into_iter()
        .flat_map(|cpus| cpus.all("cpu"))
        .take(LARGEST_CPU as usize + 1)
        .filter_map(cpu)
        .collect();
    cpus.sort_by_key(|cpu| cpu.id);
    cpus.dedup_by_key(|cpu| cpu.id);
    let mut pages: Vec<PageFacts> = cell.all("pages").take(MAX_SIZES).filter_map(pages_of).collect();
    pages.sort_by_key(|pages| pages.size_kib);
    pages.dedup_by_key(|pages| pages.size_kib);
    Some(CellFacts {
        id: number(cell, "id")?,
        memory_bytes: cell.find("memory").and_then(bytes).unwrap_or_default(),
        pages,
        cpus,
    })
}

/// A CPU without a socket is offline: libvirt knows nothing of it but its number.
fn cpu(cpu: &Element) -> Option<CellCpu> {
    let id = number(cpu, "id").filter(|id| *id <= LARGEST_CPU)?;
    let siblings = cpu.get("siblings").and_then(cpu_list::parse).unwrap_or_default();
    Some(CellCpu {
        id,
        socket: number(cpu, "socket_id")?,
        siblings: siblings.into_iter().chain([id]).collect::<BTreeSet<u32>>(),
    })
}

fn pages_of(pages: &Element) -> Option<PageFacts> {
    let size: u64 = pages.get("size")?.parse().ok()?;
    let bytes = size.checked_mul(unit(pages)?)?;
    Some(PageFacts {
        size_kib: (bytes > 0 && bytes.is_multiple_of(1024)).then_some(bytes / 1024)?,
        total: pages.content().parse().ok()?,
    })
}

fn bytes(amount: &Element) -> Option<u64> {
    let number: u64 = amount.content().parse().ok()?;
    number.checked_mul(unit(amount)?)
}

/// libvirt writes KiB, and may write others some day.
fn unit(element: &Element) -> Option<u64> {
    match element.get("unit").unwrap_or("KiB") {
        "b" | "bytes" => Some(1),
        "k" | "KiB" => Some(1 << 10),
        "M" | "MiB" => Some(1 << 20),
        "G" | "GiB" => Some(1 << 30),
        _ => None,
    }
}

fn number(element: &Element, attribute: &str) -> Option<u32> {
    element.get(attribute)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As libvirt 11.3 tells of a virtual machine whose kernel knows no NUMA.
    const ONE_CELL: &str = include_str!("samples/one-cell.xml");
    /// Two sockets of four cores with two threads each, huge pages of both sizes, one CPU offline.
    const TWO_CELLS: &str = include_str!("samples/two-cells.xml");

    fn cells(xml: &str) -> Vec<CellFacts> {
        read(&Element::parse(xml).unwrap())
    }

    #[test]
    fn a_host_without_numa_has_one_cell() {
        let cells = cells(ONE_CELL);
        assert_eq!((cells.len(), cells[0].id), (1, 0));
        assert_eq!(cells[0].memory_bytes, 24_683_656 << 10);
        let sizes: Vec<_> = cells[0].pages.iter().map(|p| (p.size_kib, p.total)).collect();
        assert_eq!(sizes, [(4, 6_150_434), (2048, 40), (1_048_576, 0)]);
        let cpus: Vec<_> = cells[0]
            .cpus
            .iter()
            .map(|c| (c.id, c.socket, c.siblings.len()))
            .collect();
        assert_eq!(cpus, [(0, 0, 1), (1, 0, 1)]);
    }

    #[test]
    fn cells_sockets_threads_and_pages_are_read_and_offline_cpus_are_left_out() {
        let cells = cells(TWO_CELLS);
        let shown: Vec<_> = cells
            .iter()
            .map(|cell| {
                let cpus = cell.cpus.iter().map(|cpu| cpu.id).collect();
                (cell.id, cell.cpus[0].socket, cpu_list::write(&cpus))
            })
            .collect();
        assert_eq!(shown, [(0, 0, "0-3,8-11".to_owned()), (1, 1, "4-7,12-14".to_owned())]);
        let sibling = |cell: usize, cpu: usize| cpu_list::write(&cells[cell].cpus[cpu].siblings);
        assert_eq!((sibling(0, 0), sibling(1, 1)), ("0,8".to_owned(), "5,13".to_owned()));
        assert_eq!(sibling(1, 3), "7", "its sibling is offline");
        assert_eq!(
            cells[1].pages[1],
            PageFacts {
                size_kib: 2048,
                total: 4096
            }
        );
    }

    #[test]
    fn what_is_odd_is_left_out() {
        let cells = cells(
            "<capabilities><host><topology><cells num='9'>\
             <cell><memory>1</memory></cell><cell id='x'/>\
             <cell id='1'><memory unit='parsec'>1</memory><pages size='4'>many</pages><pages size='0'>1</pages>\
             <pages size='2' unit='MiB'>3</pages><pages size='18446744073709551615' unit='GiB'>1</pages>\
             <cpus><cpu/><cpu id='0' socket_id='0' siblings='0-'/><cpu id='0' socket_id='1'/><cpu id='70000' socket_id='0'/></cpus>\
             </cell><cell id='1'/><cell id='0'/></cells></topology></host></capabilities>",
        );
        assert_eq!(cells.len(), 2);
        assert_eq!((cells[0].id, cells[1].memory_bytes, cells[1].cpus.len()), (0, 0, 1));
        assert_eq!(
            cells[1].pages,
            [PageFacts {
                size_kib: 2048,
                total: 3
            }]
        );
        assert_eq!(read(&Element::parse("<capabilities/>").unwrap()), []);
    }

    proptest! {
        #[test]
        fn reading_any_topology_ends_without_a_panic(
            inside in "(<(cell|cpu|cpus|pages|memory)[a-z ='0-9_,-]{0,30}/?>[0-9]{0,3}){0,20}"
        ) {
            let xml = format!("<c><host><topology><cells>{inside}</cells></topology></host></c>");
            if let Ok(xml) = Element::parse(&xml) {
                let _ = read(&xml);
            }
        }
    }
}
