//! AggregateTypeAffinityFilter: the host's aggregates are for every flavor, or for the request's.
//!
//! Nova: `nova/scheduler/filters/type_filter.py`. The key `instance_type` lists names of flavors, with commas between them.

use super::{Filter, Why, by_aggregates};
use crate::bits::Bits;
use crate::cohort::Cohort;
use crate::hosts::Hosts;
use crate::{Ask, Aspects, Candidate};

/// See the module.
#[derive(Debug)]
pub(super) struct AggregateTypeAffinityFilter;

impl Filter for AggregateTypeAffinityFilter {
    fn name(&self) -> &'static str {
        "AggregateTypeAffinityFilter"
    }

    fn reads(&self, _ask: &Ask<'_>) -> Aspects {
        Aspects::AGGREGATES
    }

    fn check<'a>(&self, host: Candidate<'a>, ask: &Ask<'a>) -> Result<(), Why<'a>> {
        by_aggregates(host, |cohort| passes(cohort, ask))
    }

    fn sweep(&self, hosts: &Hosts, ask: &Ask<'_>, left: &mut Bits) {
        hosts.cohorts().keep(left, |cohort| passes(cohort, ask));
    }
}

fn passes(cohort: &Cohort, ask: &Ask<'_>) -> bool {
    let flavors = cohort.metadata.get("instance_type");
    flavors.is_none_or(|flavors| flavors.contains(&ask.request.flavor))
}

#[cfg(test)]
mod tests {
    use crate::Request;
    use crate::fixtures::{aggregate, request, verdict_in};

    const NAME: &str = "AggregateTypeAffinityFilter";

    fn of(flavor: &str) -> Request {
        Request {
            flavor: flavor.to_owned(),
            ..request()
        }
    }

    #[test]
    fn a_host_for_every_flavor_takes_any() {
        assert_eq!(verdict_in(NAME, &[], &of("m1.small")), Ok(()));
    }

    #[test]
    fn a_host_for_some_flavors_takes_no_others() {
        let aggregates = [
            aggregate("a", &["node-1"], &[("instance_type", "m1.small, m1.large")]),
            aggregate("b", &["node-1"], &[("instance_type", "c1.small")]),
        ];
        for flavor in ["m1.small", "m1.large", "c1.small"] {
            assert_eq!(verdict_in(NAME, &aggregates, &of(flavor)), Ok(()), "{flavor}");
        }
        assert_eq!(
            verdict_in(NAME, &aggregates, &of("m1.medium")),
            Err(format!("0/1 hosts: 1 {NAME}"))
        );
    }

    #[test]
    fn an_empty_list_is_for_no_flavor() {
        let nobody = [aggregate("a", &["node-1"], &[("instance_type", "")])];
        assert!(verdict_in(NAME, &nobody, &of("m1.small")).is_err());
    }
}
