//! IoOpsFilter: fewer operations that run, with reservations, than the option `maxIoOpsPerHost` says (8).
//!
//! Nova: `nova/scheduler/filters/io_ops_filter.py`.

use super::{Filter, Why};
use crate::attribute::Number;
use crate::bits::Bits;
use crate::bound::Bound;
use crate::comparison::Comparison;
use crate::hosts::Hosts;
use crate::{Ask, Aspects, Candidate};

/// See the module.
#[derive(Debug)]
pub(super) struct IoOpsFilter;

impl Filter for IoOpsFilter {
    fn name(&self) -> &'static str {
        "IoOpsFilter"
    }

    fn reads(&self, _ask: &Ask<'_>) -> Aspects {
        Aspects::LOAD | Aspects::USAGE
    }

    fn check<'a>(&self, host: Candidate<'a>, ask: &Ask<'a>) -> Result<(), Why<'a>> {
        let number = Number::NumIoOps.of(host).unwrap_or(0.0);
        if number < f64::from(ask.options.max_io_ops_per_host) {
            Ok(())
        } else {
            Err(Why::PLAIN)
        }
    }

    fn sweep(&self, hosts: &Hosts, ask: &Ask<'_>, left: &mut Bits) {
        let most = f64::from(ask.options.max_io_ops_per_host);
        if let Some(bound) = Bound::new(Number::NumIoOps, Comparison::Less, most) {
            bound.keep(hosts, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::fixtures::{ask, host, only_with, request};
    use crate::{Aggregate, Host, Options};

    const NAME: &str = "IoOpsFilter";

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

    #[test]
    fn a_host_with_fewer_passes() {
        assert_eq!(judge(NAME, 7, &[], &Options::default()), Ok(()));
        assert_eq!(
            judge(NAME, 8, &[], &Options::default()),
            Err(format!("0/1 hosts: 1 {NAME}"))
        );
    }

    #[test]
    fn the_option_says_how_many() {
        let options = Options {
            max_io_ops_per_host: 2,
            ..Options::default()
        };
        assert_eq!(judge(NAME, 1, &[], &options), Ok(()));
        assert!(judge(NAME, 2, &[], &options).is_err());
    }

    #[test]
    fn a_reservation_counts_as_an_operation_until_it_is_seen() {
        let options = Options {
            max_io_ops_per_host: 1,
            ..Options::default()
        };
        let mut cluster = only_with(&options, "IoOpsFilter");
        cluster.upsert_host(host());
        cluster.schedule(&request(), std::time::Duration::ZERO).unwrap();
        let another = crate::Request {
            uid: crate::Uid::from("another"),
            ..request()
        };
        assert!(ask(&cluster, &another).is_err());
        cluster.place(&request().uid, "node-1", &request().resources, None);
        assert_eq!(ask(&cluster, &another), Ok(()));
    }
}
