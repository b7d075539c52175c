//! When may an aggregate's hosts, or the zone of one of them, have become others?

use std::collections::{BTreeMap, HashMap};

use futures::{Stream, StreamExt as _, future, stream};
use kube::ResourceExt as _;
use virga_crds::{HostAggregate, Hypervisor};
use virga_runtime::watch::Change;

use crate::stores::Watches;

/// What of an object aggregates depend on.
#[derive(PartialEq)]
enum Facts {
    /// Of an aggregate: what it says.
    Generation(Option<i64>),
    /// Of a host: its labels and the zone that it names. Its status changes all the time.
    Host(BTreeMap<String, String>, Option<String>),
}

/// Something that aggregates depend on has changed.
pub(super) fn triggers(watches: &Watches) -> impl Stream<Item = ()> + Send + use<> {
    let hosts = watches.hypervisors.changes().map(|change| of_host(&change));
    let aggregates = watches.host_aggregates.changes().map(|change| of_aggregate(&change));
    let mut known: HashMap<(&str, String), Facts> = HashMap::new();
    stream::select(hosts, aggregates).filter_map(move |(key, facts)| {
        let changed = match facts {
            Some(facts) if known.get(&key) == Some(&facts) => false,
            Some(facts) => {
                known.insert(key, facts);
                true
            }
            None => known.remove(&key).is_some(),
        };
        future::ready(changed.then_some(()))
    })
}

type Seen = ((&'static str, String), Option<Facts>);

fn of_host(change: &Change<Hypervisor>) -> Seen {
    let host = change.object();
    let facts = || Facts::Host(host.labels().clone(), host.spec.availability_zone.clone());
    let there = matches!(change, Change::Applied(_));
    (("Hypervisor", host.name_any()), there.then(facts))
}

fn of_aggregate(change: &Change<HostAggregate>) -> Seen {
    let aggregate = change.object();
    let facts = || Facts::Generation(aggregate.metadata.generation);
    let there = matches!(change, Change::Applied(_));
    (("HostAggregate", aggregate.name_any()), there.then(facts))
}
