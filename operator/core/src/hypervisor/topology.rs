//! Which cells, CPUs, pages and devices does a host offer? What its agent has found, as its operators cut it.

use std::collections::BTreeMap;

use virga_crds::{Bytes, HypervisorSpec, HypervisorStatus, NumaCell, ReservedPages};
use virga_scheduler::topology::{CpuSet, CpuSetError, HostCell, HostTopology, Pages, PciDevice};

use crate::problem::Problems;

/// Which CPUs of a host are for what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partition {
    /// CPUs that guests without CPUs of their own share; `None`: all.
    pub shared: Option<CpuSet>,
    /// CPUs that are given to one guest each.
    pub dedicated: CpuSet,
}

impl Partition {
    /// How many CPUs are shared on a host that has so many.
    pub fn shared_count(&self, all: u32) -> u32 {
        let count = self.shared.as_ref().map(CpuSet::len);
        count.map_or(all, |count| u32::try_from(count).unwrap_or(u32::MAX))
    }
}

/// How operators cut a host's CPUs, or what is wrong with how they do. When only dedicated ones are named none are shared,
/// as with Nova's `cpu_dedicated_set`.
pub fn partition(spec: &HypervisorSpec) -> Result<Partition, Problems> {
    let Some(cpus) = &spec.cpus else {
        return Ok(Partition::default());
    };
    let mut problems = Problems::default();
    let mut read = |field: &str, text: Option<&String>| {
        let set: Result<CpuSet, CpuSetError> = text.map_or_else(|| Ok(CpuSet::new()), |text| text.parse());
        set.unwrap_or_else(|error| {
            problems.add(format!("spec.cpus.{field}"), error.to_string());
            CpuSet::new()
        })
    };
    let shared = read("shared", cpus.shared.as_ref());
    let dedicated = read("dedicated", cpus.dedicated.as_ref());
    let both = shared.intersection(&dedicated);
    if !both.is_empty() {
        let message = format!("has the CPUs {both}, which are shared as well: a CPU is one or the other");
        problems.add("spec.cpus.dedicated", message);
    }
    problems.or(|| Partition {
        shared: Some(shared),
        dedicated,
    })
}

/// What the host offers in cells and devices; `None` while its agent has told of no cells. A cut that is wrong, which the
/// webhook refuses, gives nothing away as dedicated.
pub fn topology(spec: &HypervisorSpec, status: &HypervisorStatus) -> Option<HostTopology> {
    if status.cells.is_empty() {
        return None;
    }
    let partition = partition(spec).unwrap_or_default();
    let kept = spec.reserved.as_ref().map_or(&[][..], |reserved| &reserved.pages);
    let kept: BTreeMap<(u32, Bytes), i64> = kept
        .iter()
        .map(|ReservedPages { cell, size, count }| ((*cell, *size), *count))
        .collect();
    let devices = status.pci_devices.iter().map(|device| PciDevice {
        address: device.address.clone(),
        alias: device.alias.clone(),
        cell: device.cell,
    });
    Some(HostTopology {
        cells: status
            .cells
            .iter()
            .map(|found| cell(found, &partition, &kept))
            .collect(),
        devices: devices.collect(),
    })
}

fn cell(found: &NumaCell, partition: &Partition, kept: &BTreeMap<(u32, Bytes), i64>) -> HostCell {
    // What an agent writes is a set; what is none has no CPUs.
    let set = |text: &String| text.parse::<CpuSet>().unwrap_or_default();
    let cpus = set(&found.cpus);
    HostCell {
        id: found.id,
        socket: found.socket,
        shared: partition
            .shared
            .as_ref()
            .map_or_else(|| cpus.clone(), |shared| cpus.intersection(shared)),
        dedicated: cpus.intersection(&partition.dedicated),
        siblings: found.siblings.iter().map(set).collect(),
        memory_bytes: found.memory.0,
        pages: found
            .pages
            .iter()
            .map(|pages| Pages {
                size_kib: pages.size.0 / 1024,
                total: u64::try_from(pages.total).unwrap_or(0),
                reserved: kept
                    .get(&(found.id, pages.size))
                    .map_or(0, |count| u64::try_from(*count).unwrap_or(0)),
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use virga_crds::{CpuPartition, MemoryPages, Reserved};

    use super::*;

    fn cut(shared: Option<&str>, dedicated: Option<&str>) -> HypervisorSpec {
        HypervisorSpec {
            cpus: Some(CpuPartition {
                shared: shared.map(str::to_owned),
                dedicated: dedicated.map(str::to_owned),
            }),
            ..HypervisorSpec::default()
        }
    }

    fn found() -> HypervisorStatus {
        let cell = |id: u32, cpus: &str| NumaCell {
            id,
            socket: id,
            cpus: cpus.into(),
            siblings: Vec::new(),
            memory: Bytes::gib(8),
            pages: vec![MemoryPages {
                size: Bytes::mib(2),
                total: 512,
            }],
        };
        HypervisorStatus {
            cells: vec![cell(0, "0-3"), cell(1, "4-7")],
            ..HypervisorStatus::default()
        }
    }

    #[test]
    fn each_cell_has_its_part_of_what_operators_cut() {
        let mut spec = cut(Some("0,4"), Some("1-3,5-6"));
        spec.reserved = Some(Reserved {
            pages: vec![ReservedPages {
                cell: 1,
                size: Bytes::mib(2),
                count: 12,
            }],
            ..Reserved::default()
        });
        let topology = topology(&spec, &found()).unwrap();
        let cells: Vec<_> = topology
            .cells
            .iter()
            .map(|cell| (cell.shared.to_string(), cell.dedicated.to_string()))
            .collect();
        assert_eq!(
            cells,
            [("0".to_owned(), "1-3".to_owned()), ("4".to_owned(), "5,6".to_owned())]
        );
        let reserved: Vec<_> = topology.cells.iter().map(|cell| cell.pages[0].reserved).collect();
        assert_eq!(reserved, [0, 12]);
    }

    #[test]
    fn without_a_cut_all_are_shared_and_with_dedicated_ones_alone_none_is() {
        let all = topology(&HypervisorSpec::default(), &found()).unwrap();
        assert_eq!(all.cells[1].shared.to_string(), "4-7");
        assert!(all.cells[1].dedicated.is_empty());
        let alone = partition(&cut(None, Some("1"))).unwrap();
        assert_eq!((alone.shared_count(8), alone.dedicated.len()), (0, 1));
        assert_eq!(Partition::default().shared_count(8), 8);
    }

    #[test]
    fn a_host_whose_agent_told_of_no_cells_offers_none() {
        assert_eq!(topology(&HypervisorSpec::default(), &HypervisorStatus::default()), None);
    }

    #[test]
    fn a_cpu_that_is_both_is_refused_with_the_field() {
        let said = partition(&cut(Some("0-4"), Some("4-7"))).unwrap_err().to_string();
        assert!(said.starts_with("spec.cpus.dedicated: has the CPUs 4"), "{said}");
        assert!(
            partition(&cut(Some("3-1"), None))
                .unwrap_err()
                .to_string()
                .contains("ends before it begins")
        );
    }
}
