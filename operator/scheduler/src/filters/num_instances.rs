//! NumInstancesFilter: fewer Instances, with reservations, than the option `maxInstancesPerHost` says (50).
//!
//! Nova: `nova/scheduler/filters/num_instances_filter.py`.

use super::{Filter, Why};
use crate::attribute::Number;
use crate::bits::Bits;
use crate::bound::Bound;
use crate::comparison::Comparison;
use crate::hosts::Hosts;
use crate::{Ask, Aspects, Candidate};

/// See the module.
#[derive(Debug)]
pub(super) struct NumInstancesFilter;

impl Filter for NumInstancesFilter {
    fn name(&self) -> &'static str {
        "NumInstancesFilter"
    }

    fn reads(&self, _ask: &Ask<'_>) -> Aspects {
        Aspects::LOAD | Aspects::USAGE
    }

    fn check<'a>(&self, host: Candidate<'a>, ask: &Ask<'a>) -> Result<(), Why<'a>> {
        let number = Number::NumInstances.of(host).unwrap_or(0.0);
        if number < f64::from(ask.options.max_instances_per_host) {
            Ok(())
        } else {
            Err(Why::PLAIN)
        }
    }

    fn sweep(&self, hosts: &Hosts, ask: &Ask<'_>, left: &mut Bits) {
        let most = f64::from(ask.options.max_instances_per_host);
        if let Some(bound) = Bound::new(Number::NumInstances, Comparison::Less, most) {
            bound.keep(hosts, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::fixtures::{ask, host, only_with, request};
    use crate::{Aggregate, Claim, Options, Resources, Uid};

    const NAME: &str = "NumInstancesFilter";

    fn judge(filter: &str, number: u32, aggregates: &[Aggregate], options: &Options) -> Result<(), String> {
        let mut cluster = only_with(options, filter);
        cluster.upsert_host(host());
        for n in 0..number {
            cluster.place(&Uid::from(format!("i-{n}")), "node-1", &Resources::default(), None);
        }
        for aggregate in aggregates {
            cluster.upsert_aggregate(aggregate.clone());
        }
        ask(&cluster, &request())
    }

    #[test]
    fn a_host_with_fewer_passes() {
        assert_eq!(judge(NAME, 49, &[], &Options::default()), Ok(()));
        assert_eq!(
            judge(NAME, 50, &[], &Options::default()),
            Err(format!("0/1 hosts: 1 {NAME}"))
        );
    }

    #[test]
    fn the_option_says_how_many() {
        let options = Options {
            max_instances_per_host: 2,
            ..Options::default()
        };
        assert_eq!(judge(NAME, 1, &[], &options), Ok(()));
        assert!(judge(NAME, 2, &[], &options).is_err());
    }

    #[test]
    fn volumes_are_not_instances() {
        let options = Options {
            max_instances_per_host: 1,
            ..Options::default()
        };
        let mut cluster = only_with(&options, "NumInstancesFilter");
        cluster.upsert_host(host());
        let nothing = Resources::default();
        cluster.place_claim(&Uid::from("volume"), &Claim::volume("node-1", &nothing));
        assert_eq!(ask(&cluster, &request()), Ok(()));
    }
}
