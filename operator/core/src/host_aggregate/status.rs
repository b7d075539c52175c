use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;
use virga_crds::{HostAggregate, HostAggregateStatus, Hypervisor, conditions::Reason};

use super::{Aggregates, members::Members, validate};
use crate::condition::{Conditions, Progress};

/// How many hosts a message names.
const NAMED: usize = 5;

/// The status of an aggregate among these hosts and all aggregates, itself with them.
pub fn plan(
    aggregate: &HostAggregate,
    hosts: &[Arc<Hypervisor>],
    all: &Aggregates,
    now: Timestamp,
) -> HostAggregateStatus {
    let old = aggregate.status.as_ref().map(|status| status.conditions.as_slice());
    let mut conditions = Conditions::new(old.unwrap_or_default(), aggregate.metadata.generation, now);
    let members = Members::of(&aggregate.spec);
    let members = hosts.iter().filter(|host| members.has(host)).count();
    let problems = validate(&aggregate.spec);
    let conflicts = all.conflicts(aggregate, hosts);
    let missing = missing(aggregate, hosts);
    if !problems.is_empty() {
        conditions.set_ready(Progress::Stuck, Reason::Invalid, problems.to_string());
    } else if !conflicts.is_empty() {
        let said: Vec<String> = conflicts.iter().map(ToString::to_string).collect();
        let message = format!(
            "{}: a host has one zone; take it out of one of them",
            first(&said, "; ")
        );
        conditions.set_ready(Progress::Stuck, Reason::ZoneConflict, message);
    } else if !missing.is_empty() {
        let message = format!("there is no Hypervisor {} yet", first(&missing, ", "));
        conditions.set_ready(Progress::Working, Reason::HypervisorNotFound, message);
    } else {
        let message = match members {
            1 => "1 host is in it".to_owned(),
            members => format!("{members} hosts are in it"),
        };
        conditions.set_ready(Progress::Done, Reason::AsSpecified, message);
    }
    HostAggregateStatus {
        observed_generation: aggregate.metadata.generation,
        hypervisors: i32::try_from(members).unwrap_or(i32::MAX),
        conditions: conditions.into_vec(),
    }
}

/// The Hypervisors that it names and that there are not.
fn missing(aggregate: &HostAggregate, hosts: &[Arc<Hypervisor>]) -> Vec<String> {
    let there: BTreeSet<&str> = hosts.iter().filter_map(|host| host.metadata.name.as_deref()).collect();
    let named = aggregate.spec.hypervisors.iter().flatten();
    let mut missing: Vec<String> = named.filter(|name| !there.contains(name.as_str())).cloned().collect();
    missing.sort_unstable();
    missing
}

/// The first of them, and how many more there are.
fn first(words: &[String], separator: &str) -> String {
    let shown = words.get(..NAMED).unwrap_or(words).join(separator);
    match words.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use virga_crds::{HostAggregateSpec, HypervisorSpec};

    use super::*;

    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

    fn host(name: &str, zone: Option<&str>) -> Arc<Hypervisor> {
        let spec = HypervisorSpec {
            availability_zone: zone.map(str::to_owned),
            ..HypervisorSpec::default()
        };
        Arc::new(Hypervisor::new(name, spec))
    }

    /// An aggregate that was made in this second.
    fn aggregate(name: &str, made: i64, zone: Option<&str>, hosts: &[&str]) -> Arc<HostAggregate> {
        let spec = HostAggregateSpec {
            hypervisors: Some(hosts.iter().map(ToString::to_string).collect()),
            availability_zone: zone.map(str::to_owned),
            ..HostAggregateSpec::default()
        };
        let mut aggregate = HostAggregate::new(name, spec);
        let made = Timestamp::from_second(made).unwrap();
        aggregate.metadata.creation_timestamp = Some(Time(made));
        Arc::new(aggregate)
    }

    /// How many hosts it has, and reason and message of its `Ready`.
    fn told(of: &HostAggregate, hosts: &[Arc<Hypervisor>], all: &[Arc<HostAggregate>]) -> (i32, String, String) {
        let status = plan(of, hosts, &Aggregates::new(all.to_vec()), NOW);
        let ready = &status.conditions[0];
        (status.hypervisors, ready.reason.clone(), ready.message.clone())
    }

    #[test]
    fn an_aggregate_counts_its_hosts_and_names_those_that_are_missing() {
        let hosts = [host("a", None), host("b", None)];
        let one = aggregate("one", 1, None, &["a"]);
        assert_eq!(
            told(&one, &hosts, std::slice::from_ref(&one)),
            (1, "AsSpecified".into(), "1 host is in it".into())
        );
        let some = aggregate("some", 1, None, &["a", "d", "c"]);
        assert_eq!(
            told(&some, &hosts, std::slice::from_ref(&some)),
            (1, "HypervisorNotFound".into(), "there is no Hypervisor c, d yet".into())
        );
    }

    #[test]
    fn of_two_zones_the_older_one_holds_and_the_younger_aggregate_says_so() {
        let hosts = [host("a", None), host("b", None)];
        let east = aggregate("east", 1, Some("az-east"), &["a"]);
        let west = aggregate("west", 2, Some("az-west"), &["a", "b"]);
        let also_east = aggregate("z-east", 3, Some("az-east"), &["a"]);
        let all = [west.clone(), also_east.clone(), east.clone()];
        assert_eq!(told(&east, &hosts, &all).1, "AsSpecified");
        assert_eq!(
            told(&also_east, &hosts, &all).1,
            "AsSpecified",
            "the same zone twice is one zone"
        );
        let (members, reason, message) = told(&west, &hosts, &all);
        assert_eq!((members, reason.as_str()), (2, "ZoneConflict"));
        assert_eq!(
            message,
            "a is in zone az-east by HostAggregate east: a host has one zone; take it out of one of them"
        );
    }

    #[test]
    fn a_host_s_own_word_holds_against_every_aggregate() {
        let hosts = [host("a", Some("az-own"))];
        let east = aggregate("east", 1, Some("az-east"), &["a"]);
        let (_, reason, message) = told(&east, &hosts, std::slice::from_ref(&east));
        assert_eq!(reason, "ZoneConflict");
        assert!(
            message.starts_with("a is in zone az-own by its own Hypervisor"),
            "{message}"
        );
    }

    #[test]
    fn many_conflicts_are_counted() {
        let hosts: Vec<_> = (0..8).map(|n| host(&format!("h{n}"), Some("az"))).collect();
        let names: Vec<String> = (0..8).map(|n| format!("h{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let other = aggregate("other", 1, Some("other"), &names);
        let (_, _, message) = told(&other, &hosts, std::slice::from_ref(&other));
        assert!(
            message.contains("h4 is in zone az by its own Hypervisor and 3 more"),
            "{message}"
        );
    }
}
