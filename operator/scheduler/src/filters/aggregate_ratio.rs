//! AggregateCoreFilter, AggregateRamFilter, AggregateDiskFilter: as CoreFilter, RamFilter and DiskFilter, but the host's
//! aggregates may say how many times over it is given out.
//!
//! Nova: the filters of these names until 2019. The least of the aggregates' `cpu_allocation_ratio`,
//! `ram_allocation_ratio` or `disk_allocation_ratio` counts; the host's own ratio when none is set or when one of them is
//! none. Each takes the place of its plain filter in a profile that names it. Queues wake for them whenever anything
//! leaves a host.

use super::{Filter, Given, Why, fits};
use crate::used::Used;
use crate::{Ask, Aspects, Candidate, Ratio, Ratios, Resources};

/// See the module.
#[derive(Debug)]
pub(super) struct AggregateRatioFilter {
    name: &'static str,
    plain: &'static str,
    key: &'static str,
    amount: fn(&Resources) -> u64,
    used: fn(&Used) -> u128,
    own: fn(&Ratios) -> Ratio,
}

pub(super) const CORE: AggregateRatioFilter = AggregateRatioFilter {
    name: "AggregateCoreFilter",
    plain: "CoreFilter",
    key: "cpu_allocation_ratio",
    amount: |resources| resources.vcpus.into(),
    used: |used| used.vcpus.into(),
    own: |ratios| ratios.vcpus,
};

pub(super) const RAM: AggregateRatioFilter = AggregateRatioFilter {
    name: "AggregateRamFilter",
    plain: "RamFilter",
    key: "ram_allocation_ratio",
    amount: |resources| resources.memory_bytes,
    used: |used| used.memory_bytes,
    own: |ratios| ratios.memory,
};

pub(super) const DISK: AggregateRatioFilter = AggregateRatioFilter {
    name: "AggregateDiskFilter",
    plain: "DiskFilter",
    key: "disk_allocation_ratio",
    amount: |resources| resources.disk_bytes,
    used: |used| used.disk_bytes,
    own: |ratios| ratios.disk,
};

impl Filter for AggregateRatioFilter {
    fn name(&self) -> &'static str {
        self.name
    }

    fn stands_in_for(&self) -> Option<&'static str> {
        Some(self.plain)
    }

    fn reads(&self, _ask: &Ask<'_>) -> Aspects {
        Aspects::CAPACITY | Aspects::AGGREGATES | Aspects::USAGE
    }

    fn check<'a>(&self, host: Candidate<'a>, ask: &Ask<'a>) -> Result<(), Why<'a>> {
        let Some(facts) = host.host() else { return Ok(()) };
        let amount = self.amount;
        let ratio = host.cohort().and_then(|cohort| cohort.ratio(self.key));
        fits(&Given {
            asked: amount(&ask.request.resources),
            used: (self.used)(host.used()),
            capacity: amount(&facts.capacity),
            reserved: amount(&facts.reserved),
            ratio: ratio.unwrap_or_else(|| (self.own)(&facts.ratios)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{GIB, aggregate, ask, host, only_with, request};
    use crate::{Aggregate, Options, Request, Uid};

    /// A filter, so much of what it counts, and how much of that the host has.
    type Case = (AggregateRatioFilter, fn(u64) -> Resources, u64);

    const CASES: [Case; 3] = [
        (
            CORE,
            |amount| Resources {
                vcpus: u32::try_from(amount).unwrap(),
                ..Resources::default()
            },
            8,
        ),
        (
            RAM,
            |memory_bytes| Resources {
                memory_bytes,
                ..Resources::default()
            },
            16 * GIB,
        ),
        (
            DISK,
            |disk_bytes| Resources {
                disk_bytes,
                ..Resources::default()
            },
            100 * GIB,
        ),
    ];

    fn judge((filter, resources, _): &Case, used: u64, asked: u64, aggregates: &[Aggregate]) -> Result<(), String> {
        let mut cluster = only_with(&Options::default(), filter.name);
        cluster.upsert_host(host());
        cluster.place(&Uid::from("other"), "node-1", &resources(used), None);
        for aggregate in aggregates {
            cluster.upsert_aggregate(aggregate.clone());
        }
        let request = Request {
            resources: resources(asked),
            ..request()
        };
        ask(&cluster, &request)
    }

    fn ratio((filter, ..): &Case, name: &str, ratio: &str) -> Aggregate {
        aggregate(name, &["node-1"], &[(filter.key, ratio)])
    }

    #[test]
    fn the_least_ratio_of_the_aggregates_counts() {
        for case in &CASES {
            let (aggregates, whole) = ([ratio(case, "a", "6"), ratio(case, "b", "5")], case.2);
            assert_eq!(judge(case, 4 * whole, whole, &aggregates), Ok(()));
            assert_eq!(
                judge(case, 4 * whole + 1, whole, &aggregates),
                Err(format!("0/1 hosts: 1 {}", case.0.name))
            );
        }
    }

    #[test]
    fn without_a_ratio_the_host_s_own_counts() {
        for case in &CASES {
            let own = if case.0.name == CORE.name { 4 } else { 1 };
            let full = own * case.2;
            for aggregates in [vec![], vec![ratio(case, "a", "lots"), ratio(case, "b", "9")]] {
                assert!(judge(case, full, 1, &aggregates).is_err());
                assert_eq!(judge(case, full - 1, 1, &aggregates), Ok(()));
                assert_eq!(
                    judge(case, full + 1, 0, &aggregates),
                    Ok(()),
                    "who asks for nothing fits"
                );
            }
        }
    }

    #[test]
    fn one_instance_is_never_larger_than_the_host() {
        for case in &CASES {
            assert_eq!(
                judge(case, 0, case.2 + 1, &[ratio(case, "a", "9")]),
                Err(format!("0/1 hosts: 1 {} (larger than the host)", case.0.name))
            );
        }
    }
}
