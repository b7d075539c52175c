//! NUMATopologyFilter: the guest's NUMA nodes, with their own CPUs, pages and the devices near them, fit into the host's
//! cells.
//!
//! Nova: `nova/scheduler/filters/numa_topology_filter.py` with `numa_fit_instance_to_host`. It is not enabled in Nova unless
//! told, and guests with CPUs of their own are then refused by host after host; here it always runs for requests that ask
//! for cells. The rule itself is [`fit`](crate::topology::fit).

use super::{Filter, Why};
use crate::bits::Bits;
use crate::hosts::Hosts;
use crate::{Ask, Aspects, Candidate};

/// See the module.
#[derive(Debug)]
pub(super) struct NUMATopologyFilter;

impl Filter for NUMATopologyFilter {
    fn name(&self) -> &'static str {
        "NUMATopologyFilter"
    }

    fn is_placement(&self) -> bool {
        true
    }

    fn reads(&self, _ask: &Ask<'_>) -> Aspects {
        Aspects::CAPACITY
    }

    fn applies(&self, ask: &Ask<'_>) -> bool {
        ask.demands().is_some_and(|demands| demands.topology.is_some())
    }

    fn check<'a>(&self, host: Candidate<'a>, ask: &Ask<'a>) -> Result<(), Why<'a>> {
        let Some(demands) = ask.demands() else { return Ok(()) };
        let lack = host.lack(demands.topology.as_ref(), &demands.devices);
        lack.map_or(Ok(()), |lack| Err(Why::because(lack.words(&demands.devices))))
    }

    fn at_length(&self, host: Candidate<'_>, ask: &Ask<'_>) -> Option<String> {
        let demands = ask.demands()?;
        let misfit = host.misfit(demands.topology.as_ref(), &demands.devices);
        misfit.map(|misfit| misfit.to_string())
    }

    fn sweep(&self, hosts: &Hosts, ask: &Ask<'_>, left: &mut Bits) {
        if let Some(demands) = ask.demands() {
            hosts.keep_fitting(demands.topology.as_ref(), &demands.devices, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::fixtures::{GIB, ask, celled, demanding, host, only_with, request, verdict};
    use crate::topology::{GuestTopology, PageSize, PciAffinity, PciRequest};
    use crate::{Demands, Options, Request, Verdict};

    /// So many nodes with so many dedicated CPUs and 1 GiB each.
    fn pinned(nodes: u32, cpus: u32) -> Request {
        demanding(Demands {
            topology: Some(GuestTopology::dedicated(nodes, cpus, GIB)),
            ..Demands::default()
        })
    }

    #[test]
    fn a_guest_passes_whose_nodes_each_find_a_cell() {
        // The host has two cells, each with 4 dedicated CPUs.
        assert_eq!(verdict("NUMATopologyFilter", celled(), &pinned(1, 4)), Ok(()));
        assert_eq!(verdict("NUMATopologyFilter", celled(), &pinned(2, 4)), Ok(()));
        assert_eq!(
            verdict("NUMATopologyFilter", celled(), &pinned(1, 5)),
            Err("0/1 hosts: 1 NUMATopologyFilter (too few dedicated CPUs in a cell)".to_owned())
        );
        assert_eq!(
            verdict("NUMATopologyFilter", celled(), &pinned(3, 1)),
            Err("0/1 hosts: 1 NUMATopologyFilter (too few NUMA cells)".to_owned())
        );
    }

    #[test]
    fn a_host_that_tells_of_no_cells_is_rejected_and_passes_for_who_asks_for_none() {
        assert_eq!(
            verdict("NUMATopologyFilter", host(), &pinned(1, 1)),
            Err("0/1 hosts: 1 NUMATopologyFilter (no NUMA cells)".to_owned())
        );
        assert_eq!(verdict("NUMATopologyFilter", host(), &request()), Ok(()));
    }

    #[test]
    fn pages_are_asked_of_a_cell_and_devices_must_be_near() {
        let mut paged = pinned(1, 1);
        paged.demands_mut().topology.as_mut().unwrap().page_size = Some(PageSize::Kib(2048));
        assert_eq!(verdict("NUMATopologyFilter", celled(), &paged), Ok(()));
        paged.demands_mut().topology.as_mut().unwrap().cells[0].memory_bytes = 3 * GIB;
        assert_eq!(
            verdict("NUMATopologyFilter", celled(), &paged),
            Err("0/1 hosts: 1 NUMATopologyFilter (too few free pages in a cell)".to_owned())
        );
        let mut near = pinned(1, 1);
        near.demands_mut().devices = vec![PciRequest {
            alias: "gpu".to_owned(),
            count: 2,
            affinity: PciAffinity::Required,
        }];
        assert_eq!(
            verdict("NUMATopologyFilter", celled(), &near),
            Err("0/1 hosts: 1 NUMATopologyFilter (devices too far away)".to_owned())
        );
        near.demands_mut().devices[0].affinity = PciAffinity::Preferred;
        assert_eq!(verdict("NUMATopologyFilter", celled(), &near), Ok(()));
    }

    #[test]
    fn the_table_tells_what_is_short_in_numbers() {
        let mut cluster = only_with(&Options::default(), "NUMATopologyFilter");
        cluster.upsert_host(celled());
        assert!(ask(&cluster, &pinned(1, 5)).is_err());
        let table = cluster.explain(&pinned(1, 5));
        let Verdict::Rejected { text, .. } = &table.hosts[0].verdict else {
            panic!("it does not fit");
        };
        assert_eq!(text, "no cell has 5 free dedicated CPUs: at most 4 are free in one");
    }
}
