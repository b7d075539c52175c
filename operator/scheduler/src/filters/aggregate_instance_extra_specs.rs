//! AggregateInstanceExtraSpecsFilter: the host's aggregates say what the flavor's extra specs ask of them.
//!
//! Nova: `nova/scheduler/filters/aggregate_instance_extra_specs.py`. Every extra spec of the scope
//! `aggregate_instance_extra_specs`, and every one without a scope, is satisfied by one of the values that the aggregates
//! give its key; a key that they don't have fails.

use super::{Filter, Why};
use crate::bits::Bits;
use crate::cohort::Cohort;
use crate::hosts::Hosts;
use crate::requirement::matches;
use crate::{Ask, Aspects, Candidate};

/// See the module.
#[derive(Debug)]
pub(super) struct AggregateInstanceExtraSpecsFilter;

impl Filter for AggregateInstanceExtraSpecsFilter {
    fn name(&self) -> &'static str {
        "AggregateInstanceExtraSpecsFilter"
    }

    fn reads(&self, _ask: &Ask<'_>) -> Aspects {
        Aspects::AGGREGATES
    }

    fn applies(&self, ask: &Ask<'_>) -> bool {
        ask.demands()
            .is_some_and(|demands| !(demands.aggregate_specs.is_empty() && demands.unscoped.is_empty()))
    }

    fn check<'a>(&self, host: Candidate<'a>, ask: &Ask<'a>) -> Result<(), Why<'a>> {
        let unmet = host.cohort().and_then(|cohort| unmet(cohort, ask));
        unmet.map_or(Ok(()), |key| Err(Why::because(key)))
    }

    fn sweep(&self, hosts: &Hosts, ask: &Ask<'_>, left: &mut Bits) {
        hosts.cohorts().keep(left, |cohort| unmet(cohort, ask).is_none());
    }
}

/// The first extra spec that the aggregates do not satisfy.
fn unmet<'a>(cohort: &Cohort, ask: &Ask<'a>) -> Option<&'a str> {
    let demands = ask.demands()?;
    let mut specs = demands.aggregate_specs.iter().chain(&demands.unscoped);
    let met = |key: &str, requirement: &str| {
        let values = cohort.metadata.get(key);
        values.is_some_and(|values| values.iter().any(|value| matches(value, requirement)))
    };
    specs
        .find(|(key, requirement)| !met(key, requirement))
        .map(|(key, _)| key.as_str())
}

#[cfg(test)]
mod tests {
    use crate::fixtures::{aggregate, demanding, verdict_in};
    use crate::{Demands, Request};

    const NAME: &str = "AggregateInstanceExtraSpecsFilter";

    fn asking(key: &str, requirement: &str) -> Request {
        let mut demands = Demands::default();
        demands.aggregate_specs.insert(key.to_owned(), requirement.to_owned());
        demanding(demands)
    }

    #[test]
    fn one_of_the_values_must_satisfy_the_requirement() {
        let aggregates = [
            aggregate("a", &["node-1"], &[("ssd", "true"), ("cores", "16, 32")]),
            aggregate("b", &["node-1"], &[("ssd", "nvme")]),
            aggregate("c", &["node-2"], &[("gpu", "true")]),
        ];
        for (key, requirement, passes) in [
            ("ssd", "true", true),
            ("ssd", "nvme", true),
            ("ssd", "false", false),
            ("ssd", "<or> sata <or> nvme", true),
            ("cores", "32", true),
            ("cores", ">= 32", true),
            ("cores", ">= 33", false),
            ("cores", "== 16", true),
        ] {
            let verdict = verdict_in(NAME, &aggregates, &asking(key, requirement));
            assert_eq!(verdict.is_ok(), passes, "{key} {requirement}");
        }
    }

    #[test]
    fn a_key_that_no_aggregate_of_the_host_has_fails() {
        let elsewhere = [aggregate("c", &["node-2"], &[("gpu", "true")])];
        assert_eq!(
            verdict_in(NAME, &elsewhere, &asking("gpu", "true")),
            Err(format!("0/1 hosts: 1 {NAME} (gpu)"))
        );
        assert!(verdict_in(NAME, &[], &asking("gpu", "true")).is_err());
    }

    #[test]
    fn an_extra_spec_without_a_scope_counts_too() {
        let mut demands = Demands::default();
        demands.unscoped.insert("ssd".to_owned(), "true".to_owned());
        let request = demanding(demands);
        assert!(verdict_in(NAME, &[], &request).is_err());
        assert_eq!(
            verdict_in(NAME, &[aggregate("a", &["node-1"], &[("ssd", "true")])], &request),
            Ok(())
        );
    }
}
