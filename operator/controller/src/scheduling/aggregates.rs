//! What do the HostAggregates say of their hosts? The resources, as the scheduler reads them, and how it is told.

use std::{collections::BTreeSet, sync::Arc};

use kube::{ResourceExt, runtime::reflector::ObjectRef};
use virga_core::host_aggregate::Aggregates;
use virga_crds::{HostAggregate, Hypervisor};
use virga_scheduler::Aggregate;

use super::state::{Scheduler, State};

impl Scheduler {
    /// Takes over which of the aggregates a host is in now.
    pub(super) fn join(&self, state: &mut State, hypervisor: &Hypervisor) {
        let name = hypervisor.name_any();
        let aggregates = state.aggregates.clone();
        let now: BTreeSet<String> = aggregates
            .of(hypervisor)
            .map(|aggregate| aggregate.name_any())
            .collect();
        let before = state.memberships.insert(name, now.clone()).unwrap_or_default();
        let hosts = self.stores.hypervisors.state();
        for changed in before.symmetric_difference(&now) {
            if let Some(aggregate) = aggregates.iter().find(|aggregate| aggregate.name_any() == *changed) {
                state.cluster.upsert_aggregate(described(aggregate, &hosts));
            }
        }
    }

    /// A HostAggregate was made, changed or deleted.
    pub(super) fn note_aggregate(&self, name: &str) {
        let found = self.stores.host_aggregates.get(&ObjectRef::new(name));
        let mut state = self.state();
        let known = state.aggregates.iter().find(|known| known.name_any() == name);
        // Its status changes with each host.
        if known.map(|known| &known.spec) == found.as_ref().map(|found| &found.spec) {
            return;
        }
        self.rebuild_aggregates(&mut state);
        self.spread(&mut state);
    }

    /// Makes the aggregates, and the zone of each host, equal to what the stores hold.
    pub(super) fn rebuild_aggregates(&self, state: &mut State) {
        let all = Arc::new(Aggregates::new(self.stores.host_aggregates.state()));
        let names: BTreeSet<String> = all.iter().map(|aggregate| aggregate.name_any()).collect();
        let known: BTreeSet<String> = state.cluster.aggregates().map(|known| known.name.clone()).collect();
        for gone in known.difference(&names) {
            state.cluster.remove_aggregate(gone);
        }
        let hosts = self.stores.hypervisors.state();
        for aggregate in all.iter() {
            state.cluster.upsert_aggregate(described(aggregate, &hosts));
        }
        let of = |host: &Arc<Hypervisor>| {
            let names = all.of(host).map(|aggregate| aggregate.name_any()).collect();
            (host.name_any(), names)
        };
        state.memberships = hosts.iter().map(of).collect();
        state.aggregates = all.clone();
        for host in &hosts {
            self.upsert_host(state, host);
        }
    }
}

/// The aggregate with those of these hosts that are in it.
///
/// It makes no zone: which zone a host is in is decided over all aggregates, and told with the host.
pub fn described(aggregate: &Arc<HostAggregate>, hosts: &[Arc<Hypervisor>]) -> Aggregate {
    let alone = Aggregates::new([aggregate.clone()]);
    let members = hosts.iter().filter(|host| alone.of(host).next().is_some());
    let hosts: BTreeSet<String> = members.map(|host| host.name_any()).collect();
    let mut metadata = aggregate.spec.metadata.clone();
    // The webhook refuses it: a zone is a field of its own.
    metadata.remove("availability_zone");
    Aggregate {
        name: aggregate.name_any(),
        hosts,
        zone: None,
        metadata,
    }
}
