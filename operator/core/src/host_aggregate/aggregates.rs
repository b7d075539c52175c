use std::{fmt, sync::Arc};

use virga_crds::{HostAggregate, Hypervisor};

use super::members::Members;

/// All aggregates, the oldest first. Made once for many questions: each host is looked up in the names of each.
///
/// Of two aggregates that put a host into different zones the older one holds, whoever looks, and in whichever order
/// they were seen. One that is being created is the youngest.
#[derive(Clone, Debug, Default)]
pub struct Aggregates(Vec<(Arc<HostAggregate>, Members)>);

/// The zone that a host is in, and who says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zone<'a> {
    /// Its name.
    pub name: &'a str,
    /// Who says so.
    pub source: Source<'a>,
}

/// Who says which zone a host is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source<'a> {
    /// The Hypervisor's own `spec.availabilityZone`.
    Hypervisor,
    /// A HostAggregate, by name.
    Aggregate(&'a str),
}

/// A host that an aggregate would put into a second zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict<'a> {
    /// The host's name.
    pub host: &'a str,
    /// The zone that holds.
    pub holds: Zone<'a>,
}

impl Aggregates {
    /// Of these.
    pub fn new(aggregates: impl IntoIterator<Item = Arc<HostAggregate>>) -> Self {
        let with_members = |aggregate: Arc<HostAggregate>| {
            let members = Members::of(&aggregate.spec);
            (aggregate, members)
        };
        let mut all: Vec<_> = aggregates.into_iter().map(with_members).collect();
        all.sort_by(|(a, _), (b, _)| age(a).cmp(&age(b)));
        Self(all)
    }

    /// Each of them, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<HostAggregate>> {
        self.0.iter().map(|(aggregate, _)| aggregate)
    }

    /// Those that a host is in.
    pub fn of<'a>(&'a self, host: &'a Hypervisor) -> impl Iterator<Item = &'a Arc<HostAggregate>> {
        let with_host = self.0.iter().filter(|(_, members)| members.has(host));
        with_host.map(|(aggregate, _)| aggregate)
    }

    /// The zone of a host: its own word, else that of the oldest of its aggregates that names one.
    pub fn zone<'a>(&'a self, host: &'a Hypervisor) -> Option<Zone<'a>> {
        if let Some(name) = &host.spec.availability_zone {
            let source = Source::Hypervisor;
            return Some(Zone { name, source });
        }
        let mut zoned = self.0.iter().filter_map(|(aggregate, members)| {
            Some((aggregate, members, aggregate.spec.availability_zone.as_deref()?))
        });
        let (aggregate, _, name) = zoned.find(|(_, members, _)| members.has(host))?;
        let source = Source::Aggregate(aggregate.metadata.name.as_deref().unwrap_or_default());
        Some(Zone { name, source })
    }

    /// The hosts that this one of the aggregates would put into a second zone.
    pub fn conflicts<'a>(&'a self, aggregate: &HostAggregate, hosts: &'a [Arc<Hypervisor>]) -> Vec<Conflict<'a>> {
        let Some(mine) = aggregate.spec.availability_zone.as_deref() else {
            return Vec::new();
        };
        let members = Members::of(&aggregate.spec);
        let members = hosts.iter().filter(|host| members.has(host));
        let mut found: Vec<Conflict<'a>> = members
            .filter_map(|host| {
                let holds = self.zone(host).filter(|zone| zone.name != mine)?;
                let host = host.metadata.name.as_deref().unwrap_or_default();
                Some(Conflict { host, holds })
            })
            .collect();
        found.sort_unstable_by_key(|conflict| conflict.host);
        found
    }
}

fn age(aggregate: &HostAggregate) -> (bool, Option<jiff::Timestamp>, Option<&str>) {
    let made = aggregate.metadata.creation_timestamp.as_ref().map(|time| time.0);
    (made.is_none(), made, aggregate.metadata.name.as_deref())
}

impl fmt::Display for Conflict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, holds } = self;
        match holds.source {
            Source::Hypervisor => write!(f, "{host} is in zone {} by its own Hypervisor", holds.name),
            Source::Aggregate(by) => write!(f, "{host} is in zone {} by HostAggregate {by}", holds.name),
        }
    }
}
