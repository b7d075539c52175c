//! IsolatedAggregatesFilter: the request requires every trait that the host's aggregates reserve themselves for.
//!
//! Nova: the request filter `isolate_aggregates` in `nova/scheduler/request_filter.py`, which is on with
//! `enable_isolated_aggregate_filtering`. An aggregate with the metadata `trait:NAME: required` takes only Instances whose
//! flavor or image requires that trait.

use super::{Filter, Why};
use crate::bits::Bits;
use crate::cohort::Cohort;
use crate::hosts::Hosts;
use crate::{Ask, Aspects, Candidate};

/// See the module.
#[derive(Debug)]
pub(super) struct IsolatedAggregatesFilter;

impl Filter for IsolatedAggregatesFilter {
    fn name(&self) -> &'static str {
        "IsolatedAggregatesFilter"
    }

    fn reads(&self, _ask: &Ask<'_>) -> Aspects {
        Aspects::AGGREGATES
    }

    fn check<'a>(&self, host: Candidate<'a>, ask: &Ask<'a>) -> Result<(), Why<'a>> {
        let reserved = host.cohort().and_then(|cohort| reserved_for(cohort, ask));
        reserved.map_or(Ok(()), |name| Err(Why::because(name)))
    }

    fn sweep(&self, hosts: &Hosts, ask: &Ask<'_>, left: &mut Bits) {
        hosts.cohorts().keep(left, |cohort| reserved_for(cohort, ask).is_none());
    }
}

/// The first trait that the aggregates ask for and the request doesn't.
fn reserved_for<'a>(cohort: &'a Cohort, ask: &Ask<'_>) -> Option<&'a str> {
    let required = |name: &str| {
        ask.demands()
            .is_some_and(|demands| demands.required_traits.contains(name))
    };
    cohort
        .values
        .iter()
        .filter(|(_, values)| values.contains("required"))
        .filter_map(|(key, _)| key.strip_prefix("trait:"))
        .find(|name| !required(name))
}

#[cfg(test)]
mod tests {
    use crate::fixtures::{aggregate, demanding, request, verdict_in};
    use crate::{Demands, Request};

    const NAME: &str = "IsolatedAggregatesFilter";

    fn requiring(names: &[&str]) -> Request {
        demanding(Demands {
            required_traits: names.iter().map(ToString::to_string).collect(),
            ..Demands::default()
        })
    }

    #[test]
    fn only_those_who_require_the_trait_get_in() {
        let windows = [aggregate(
            "windows",
            &["node-1"],
            &[("trait:CUSTOM_WINDOWS", "required")],
        )];
        assert_eq!(
            verdict_in(NAME, &windows, &request()),
            Err(format!("0/1 hosts: 1 {NAME} (CUSTOM_WINDOWS)"))
        );
        // That the host itself lacks the trait is TraitsFilter's business.
        assert_eq!(
            verdict_in(NAME, &windows, &requiring(&["CUSTOM_WINDOWS"])),
            Err("0/1 hosts: 1 TraitsFilter (CUSTOM_WINDOWS)".to_owned())
        );
    }

    #[test]
    fn every_trait_of_every_aggregate_must_be_required() {
        let both = [
            aggregate("windows", &["node-1"], &[("trait:CUSTOM_WINDOWS", "required")]),
            aggregate("licensed", &["node-1"], &[("trait:CUSTOM_LICENSED", "required")]),
        ];
        assert_eq!(
            verdict_in(NAME, &both, &requiring(&["CUSTOM_WINDOWS"])),
            Err(format!("0/1 hosts: 1 {NAME} (CUSTOM_LICENSED)"))
        );
    }

    #[test]
    fn hosts_that_are_reserved_for_nothing_take_everybody() {
        assert_eq!(verdict_in(NAME, &[], &request()), Ok(()));
        let other = [aggregate(
            "a",
            &["node-1"],
            &[("trait:CUSTOM_A", "forbidden"), ("ssd", "required")],
        )];
        assert_eq!(verdict_in(NAME, &other, &request()), Ok(()));
    }
}
