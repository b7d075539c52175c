//! AggregateMembershipFilter: the host is in the aggregates that the request names, and in none that it excludes.
//!
//! Ours, for Placement's `member_of=in:A,B` (of each set at least one) and `member_of=!A`.

use super::{Filter, Why};
use crate::bits::Bits;
use crate::cohort::Cohort;
use crate::hosts::Hosts;
use crate::{Ask, Aspects, Candidate};

/// See the module.
#[derive(Debug)]
pub(super) struct AggregateMembershipFilter;

impl Filter for AggregateMembershipFilter {
    fn name(&self) -> &'static str {
        "AggregateMembershipFilter"
    }

    fn is_placement(&self) -> bool {
        true
    }

    fn reads(&self, _ask: &Ask<'_>) -> Aspects {
        Aspects::AGGREGATES
    }

    fn applies(&self, ask: &Ask<'_>) -> bool {
        ask.demands()
            .is_some_and(|demands| !(demands.member_of.is_empty() && demands.not_member_of.is_empty()))
    }

    fn check<'a>(&self, host: Candidate<'a>, ask: &Ask<'a>) -> Result<(), Why<'a>> {
        match host.cohort() {
            Some(cohort) if passes(cohort, ask) => Ok(()),
            _ => Err(Why::PLAIN),
        }
    }

    fn sweep(&self, hosts: &Hosts, ask: &Ask<'_>, left: &mut Bits) {
        hosts.cohorts().keep(left, |cohort| passes(cohort, ask));
    }
}

fn passes(cohort: &Cohort, ask: &Ask<'_>) -> bool {
    ask.demands().is_none_or(|demands| {
        demands
            .member_of
            .iter()
            .all(|names| !names.is_disjoint(&cohort.aggregates))
            && demands.not_member_of.is_disjoint(&cohort.aggregates)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::Demands;
    use crate::fixtures::{aggregate, demanding, verdict_in};

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(ToString::to_string).collect()
    }

    fn judge(demands: Demands) -> Result<(), String> {
        let aggregates = [
            aggregate("rack-1", &["node-1"], &[]),
            aggregate("ssd", &["node-1", "node-2"], &[]),
            aggregate("gpu", &["node-2"], &[]),
        ];
        verdict_in("AggregateMembershipFilter", &aggregates, &demanding(demands))
    }

    #[test]
    fn of_each_set_the_host_is_in_one() {
        let of = |sets: &[&[&str]]| Demands {
            member_of: sets.iter().map(|names| set(names)).collect(),
            ..Demands::default()
        };
        assert_eq!(judge(of(&[&["rack-1", "rack-2"], &["ssd"]])), Ok(()));
        assert_eq!(
            judge(of(&[&["rack-1"], &["gpu"]])),
            Err("0/1 hosts: 1 AggregateMembershipFilter".to_owned())
        );
        assert!(judge(of(&[&["unheard-of"]])).is_err());
    }

    #[test]
    fn a_host_in_an_excluded_aggregate_is_rejected() {
        let outside = |names: &[&str]| Demands {
            not_member_of: set(names),
            ..Demands::default()
        };
        assert_eq!(judge(outside(&["gpu", "unheard-of"])), Ok(()));
        assert!(judge(outside(&["gpu", "ssd"])).is_err());
    }
}
