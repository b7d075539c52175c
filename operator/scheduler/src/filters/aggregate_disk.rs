//! AggregateDiskFilter: as DiskFilter, but the host's aggregates may say how many times over it is given out.
//!
//! Nova: the filter of this name until 2019. The least of the aggregates' `disk_allocation_ratio` counts; the host's own
//! ratio when none is set or when one of them is none. Takes the place of DiskFilter in a profile that names it. Queues wake
//! for it whenever anything leaves a host.

use super::{Filter, Given, Why, fits};
use crate::{Ask, Aspects, Candidate};

/// See the module.
#[derive(Debug)]
pub(super) struct AggregateDiskFilter;

impl Filter for AggregateDiskFilter {
    fn name(&self) -> &'static str {
        "AggregateDiskFilter"
    }

    fn stands_in_for(&self) -> Option<&'static str> {
        Some("DiskFilter")
    }

    fn reads(&self, _ask: &Ask<'_>) -> Aspects {
        Aspects::CAPACITY | Aspects::AGGREGATES | Aspects::USAGE
    }

    fn check<'a>(&self, host: Candidate<'a>, ask: &Ask<'a>) -> Result<(), Why<'a>> {
        let Some(facts) = host.host() else { return Ok(()) };
        let ratio = host.cohort().and_then(|cohort| cohort.ratio("disk_allocation_ratio"));
        fits(&Given {
            asked: ask.request.resources.disk_bytes,
            used: host.used().disk_bytes,
            capacity: facts.capacity.disk_bytes,
            reserved: facts.reserved.disk_bytes,
            ratio: ratio.unwrap_or(facts.ratios.disk),
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::fixtures::{GIB, aggregate, ask, host, only_with, request};
    use crate::{Aggregate, Options, Request, Resources, Uid};

    const NAME: &str = "AggregateDiskFilter";

    fn amount(disk_bytes: u64) -> Resources {
        Resources {
            disk_bytes,
            ..Resources::default()
        }
    }

    /// A host of 100 * GIB, used and asked for in whole hosts and tenths.
    fn judge(used: u64, asked: u64, aggregates: &[Aggregate]) -> Result<(), String> {
        let mut cluster = only_with(&Options::default(), NAME);
        cluster.upsert_host(host());
        cluster.place(&Uid::from("other"), "node-1", &amount(used), None);
        for aggregate in aggregates {
            cluster.upsert_aggregate(aggregate.clone());
        }
        let request = Request {
            resources: amount(asked),
            ..request()
        };
        ask(&cluster, &request)
    }

    fn ratio(name: &str, ratio: &str) -> Aggregate {
        aggregate(name, &["node-1"], &[("disk_allocation_ratio", ratio)])
    }

    #[test]
    fn the_least_ratio_of_the_aggregates_counts() {
        let aggregates = [ratio("a", "6"), ratio("b", "5")];
        assert_eq!(judge(4 * (100 * GIB), 100 * GIB, &aggregates), Ok(()));
        assert_eq!(
            judge(4 * (100 * GIB) + 1, 100 * GIB, &aggregates),
            Err(format!("0/1 hosts: 1 {NAME}"))
        );
    }

    #[test]
    fn without_a_ratio_the_host_s_own_counts() {
        let full = 100 * GIB;
        for aggregates in [vec![], vec![ratio("a", "lots"), ratio("b", "9")]] {
            assert!(judge(full, 1, &aggregates).is_err());
            assert_eq!(judge(full - 1, 1, &aggregates), Ok(()));
            assert_eq!(judge(full + 1, 0, &aggregates), Ok(()), "who asks for nothing fits");
        }
    }

    #[test]
    fn one_instance_is_never_larger_than_the_host() {
        assert_eq!(
            judge(0, 100 * GIB + 1, &[ratio("a", "9")]),
            Err(format!("0/1 hosts: 1 {NAME} (larger than the host)"))
        );
    }
}
