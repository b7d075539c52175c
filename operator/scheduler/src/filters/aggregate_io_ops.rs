//! AggregateIoOpsFilter: as IoOpsFilter, but the host's aggregates may say how many.
//!
//! Nova: `nova/scheduler/filters/io_ops_filter.py`. The least of the aggregates' `max_io_ops_per_host` counts; the option when none is set
//! or when one of them is no number.

use super::{Filter, Why, is_below, keep_below};
use crate::attribute::Number;
use crate::bits::Bits;
use crate::hosts::Hosts;
use crate::{Ask, Aspects, Candidate};

/// See the module.
#[derive(Debug)]
pub(super) struct AggregateIoOpsFilter;

impl Filter for AggregateIoOpsFilter {
    fn name(&self) -> &'static str {
        "AggregateIoOpsFilter"
    }

    fn reads(&self, _ask: &Ask<'_>) -> Aspects {
        Aspects::AGGREGATES | Aspects::LOAD | Aspects::USAGE
    }

    fn check<'a>(&self, host: Candidate<'a>, ask: &Ask<'a>) -> Result<(), Why<'a>> {
        if is_below(host, Number::NumIoOps, KEY, ask.options.max_io_ops_per_host) {
            Ok(())
        } else {
            Err(Why::PLAIN)
        }
    }

    fn sweep(&self, hosts: &Hosts, ask: &Ask<'_>, left: &mut Bits) {
        keep_below(hosts, Number::NumIoOps, KEY, ask.options.max_io_ops_per_host, left);
    }
}

const KEY: &str = "max_io_ops_per_host";

#[cfg(test)]
mod tests {
    use crate::fixtures::{aggregate, ask, host, only_with, request};
    use crate::{Aggregate, Host, Options};

    const NAME: &str = "AggregateIoOpsFilter";

    fn judge(filter: &str, number: u32, aggregates: &[Aggregate], options: &Options) -> Result<(), String> {
        let mut cluster = only_with(options, filter);
        cluster.upsert_host(Host {
            io_ops: number,
            ..host()
        });
        for aggregate in aggregates {
            cluster.upsert_aggregate(aggregate.clone());
        }
        ask(&cluster, &request())
    }

    fn set(name: &str, most: &str) -> Aggregate {
        aggregate(name, &["node-1"], &[("max_io_ops_per_host", most)])
    }

    #[test]
    fn the_least_of_the_aggregates_counts() {
        let aggregates = [set("a", "3"), set("b", "5")];
        assert_eq!(judge(NAME, 2, &aggregates, &Options::default()), Ok(()));
        assert_eq!(
            judge(NAME, 3, &aggregates, &Options::default()),
            Err(format!("0/1 hosts: 1 {NAME}"))
        );
        assert_eq!(
            judge(NAME, 13, &[set("a", "14")], &Options::default()),
            Ok(()),
            "more than the option"
        );
    }

    #[test]
    fn without_a_number_the_option_counts() {
        for aggregates in [vec![], vec![set("a", "many"), set("b", "1")]] {
            assert_eq!(judge(NAME, 7, &aggregates, &Options::default()), Ok(()));
            assert!(judge(NAME, 8, &aggregates, &Options::default()).is_err());
        }
    }
}
