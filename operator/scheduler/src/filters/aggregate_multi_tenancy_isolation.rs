//! AggregateMultiTenancyIsolation: the host's aggregates are for nobody in particular, or for the request's project.
//!
//! Nova: `nova/scheduler/filters/aggregate_multitenancy_isolation.py`. Every key that begins with `filter_tenant_id` lists
//! projects, with commas between them; projects are namespaces here.

use super::{Filter, Why, by_aggregates};
use crate::bits::Bits;
use crate::cohort::Cohort;
use crate::hosts::Hosts;
use crate::{Ask, Aspects, Candidate};

/// See the module.
#[derive(Debug)]
pub(super) struct AggregateMultiTenancyIsolation;

impl Filter for AggregateMultiTenancyIsolation {
    fn name(&self) -> &'static str {
        "AggregateMultiTenancyIsolation"
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
    let mut lists = cohort
        .metadata
        .iter()
        .filter(|(key, _)| key.starts_with("filter_tenant_id"))
        .peekable();
    lists.peek().is_none() || lists.any(|(_, projects)| projects.contains(&ask.request.project))
}

#[cfg(test)]
mod tests {
    use crate::Request;
    use crate::fixtures::{aggregate, request, verdict_in};

    const NAME: &str = "AggregateMultiTenancyIsolation";

    fn of(project: &str) -> Request {
        Request {
            project: project.to_owned(),
            ..request()
        }
    }

    #[test]
    fn a_host_for_nobody_in_particular_takes_everybody() {
        assert_eq!(verdict_in(NAME, &[], &of("shop")), Ok(()));
        assert_eq!(
            verdict_in(NAME, &[aggregate("a", &["node-1"], &[("ssd", "true")])], &of("shop")),
            Ok(())
        );
    }

    #[test]
    fn a_host_for_some_projects_takes_no_others() {
        let aggregates = [
            aggregate("a", &["node-1"], &[("filter_tenant_id", "bank, shop")]),
            aggregate("b", &["node-1"], &[("filter_tenant_id2", "lab")]),
        ];
        for project in ["bank", "shop", "lab"] {
            assert_eq!(verdict_in(NAME, &aggregates, &of(project)), Ok(()), "{project}");
        }
        for project in ["sho", "", "bank, shop"] {
            assert_eq!(
                verdict_in(NAME, &aggregates, &of(project)),
                Err(format!("0/1 hosts: 1 {NAME}"))
            );
        }
    }
}
