//! When is what written, and what is done when that fails?

use std::{pin::pin, sync::Arc, time::Duration};

use futures::{FutureExt as _, Stream, StreamExt as _};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use virga_core::network::Backend;
use virga_crds::{AddressGroup, FloatingIP, Instance, LoadBalancer, Network, Port, Router, SecurityGroup};
use virga_ovn::{Cloud, Wanted};
use virga_ovsdb::{
    Client,
    client::{Error, State},
    operation::Operation,
    reconcile::{Problem, plan},
};
use virga_runtime::{class::chain, lease::Leadership, watch::Change};

use self::fence::Fence;
use super::{AUDIT, DEBOUNCE, GRACE, LONGEST_PAUSE, Reports, SHORTEST_PAUSE, Settings, gateways};
use crate::stores::Stores;

mod fence;
mod heard;
mod told;

/// Why something was not written.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Database(#[from] Error),
    #[error("another controller leads, or writes with this one's owner name")]
    Superseded,
}

struct Writer {
    client: Client,
    fence: Fence,
    cloud: Cloud,
    owner: String,
    reports: Arc<Reports>,
    /// Since when there is something to write.
    dirty: Option<Instant>,
    /// Since when there is no connection, and why.
    down: Option<(Instant, String)>,
    /// When to write at the earliest, after a failure, and the next pause.
    pause: Option<(Instant, Duration)>,
    /// What was last told of in the log.
    told: Vec<Problem>,
}

/// What the watches tell.
pub(super) struct Changes<N, P, R, F, I, G, A, L> {
    pub networks: N,
    pub ports: P,
    pub routers: R,
    pub floating_ips: F,
    pub instances: I,
    pub groups: G,
    pub address_groups: A,
    pub balancers: L,
}

pub(super) async fn run(
    backend: Backend,
    settings: Settings,
    leadership: Leadership,
    stores: Stores,
    watched: Changes<
        impl Stream<Item = Change<Network>>,
        impl Stream<Item = Change<Port>>,
        impl Stream<Item = Change<Router>>,
        impl Stream<Item = Change<FloatingIP>>,
        impl Stream<Item = Change<Instance>>,
        impl Stream<Item = Change<SecurityGroup>>,
        impl Stream<Item = Change<AddressGroup>>,
        impl Stream<Item = Change<LoadBalancer>>,
    >,
    reports: Arc<Reports>,
    stop: CancellationToken,
) {
    let Settings {
        client,
        southbound,
        owner,
    } = settings;
    let gateways::Southbound { mut hosts, mut answers } = gateways::follow(southbound, stop.clone());
    hosts.mark_changed();
    let client = Client::start(client);
    let (mut state, mut changes) = (client.state(), client.changes());
    // What came before this was asked is news too.
    state.mark_changed();
    let Changes {
        networks,
        ports,
        routers,
        floating_ips,
        instances,
        groups,
        address_groups,
        balancers,
    } = watched;
    let (mut floating_ips, mut instances) = (pin!(floating_ips), pin!(instances));
    let (mut networks, mut ports, mut routers) = (pin!(networks), pin!(ports), pin!(routers));
    let (mut groups, mut address_groups) = (pin!(groups), pin!(address_groups));
    let mut balancers = pin!(balancers);
    let mut writer = Writer {
        client,
        fence: Fence::new(&owner, leadership),
        cloud: Cloud::new(owner.as_str(), backend),
        owner,
        reports,
        dirty: None,
        down: Some((Instant::now(), "not connected yet".to_owned())),
        pause: None,
        told: Vec::new(),
    };
    let mut audit = interval(AUDIT);
    audit.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let due = writer.due();
        tokio::select! {
            () = stop.cancelled() => break,
            Some(change) = networks.next() => match change {
                Change::Applied(network) => writer.cloud.set_network(&network),
                Change::Deleted(network) => writer.cloud.remove_network(&network),
            },
            Some(change) = ports.next() => match change {
                Change::Applied(port) => writer.cloud.set_port(&port),
                Change::Deleted(port) => writer.cloud.remove_port(&port),
            },
            Some(change) = routers.next() => match change {
                Change::Applied(router) => writer.cloud.set_router(&router),
                Change::Deleted(router) => writer.cloud.remove_router(&router),
            },
            Some(change) = floating_ips.next() => match change {
                Change::Applied(floating) => writer.cloud.set_floating_ip(&floating),
                Change::Deleted(floating) => writer.cloud.remove_floating_ip(&floating),
            },
            Some(change) = instances.next() => match change {
                Change::Applied(instance) => writer.cloud.set_instance(&instance),
                Change::Deleted(instance) => writer.cloud.remove_instance(&instance),
            },
            Ok(()) = hosts.changed() => {
                let hosts = hosts.borrow_and_update().clone();
                writer.cloud.set_gateway_hosts(hosts);
            }
            Some(change) = groups.next() => match change {
                Change::Applied(group) => writer.cloud.set_group(&group),
                Change::Deleted(group) => writer.cloud.remove_group(&group),
            },
            Some(change) = address_groups.next() => match change {
                Change::Applied(group) => writer.cloud.set_address_group(&group),
                Change::Deleted(group) => writer.cloud.remove_address_group(&group),
            },
            Some(change) = balancers.next() => match change {
                Change::Applied(balancer) => writer.cloud.set_load_balancer(&balancer),
                Change::Deleted(balancer) => writer.cloud.remove_load_balancer(&balancer),
            },
            Ok(()) = answers.changed() => {
                writer.reports.balancers.set_answers(&answers.borrow_and_update());
            }
            Ok(()) = state.changed() => {
                let state = state.borrow_and_update().clone();
                writer.connection(&state);
            }
            Some(news) = changes.next() => writer.hear(&news),
            // The first one is at once.
            _ = audit.tick() => {
                writer
                    .cloud
                    .reset(&stores.networks.state(), &stores.ports.state(), &stores.routers.state(), &stores.floating_ips.state(), &stores.instances.state());
                writer.cloud.reset_groups(&stores.security_groups.state(), &stores.address_groups.state());
                writer.cloud.reset_load_balancers(&stores.load_balancers.state());
            }
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                writer.work().await;
                // What was just written comes back; only what it says of ports is news.
                while let Some(Some(news)) = changes.next().now_or_never() {
                    writer.hear_own(&news);
                }
            }
        }
        if writer.dirty.is_none() && writer.cloud.is_dirty() {
            writer.dirty = Some(Instant::now());
        }
    }
    writer.client.shutdown().await;
}

impl Writer {
    /// When there is something to do.
    fn due(&self) -> Option<Instant> {
        let dirty = self.dirty?;
        match &self.down {
            None => Some(self.pause.map_or(dirty + DEBOUNCE, |(until, _)| until)),
            // Said once.
            Some((since, _)) => (!self.reports.is_down()).then_some(*since + GRACE),
        }
    }

    fn connection(&mut self, state: &State) {
        match state {
            State::Synced { remote, resumed, .. } => {
                tracing::info!(%remote, resumed, "connected to OVN's north-bound database");
                (self.down, self.pause) = (None, None);
                self.cloud.touch_everything();
                self.look_at_ports();
            }
            State::Down { error } => {
                let since = self.down.as_ref().map_or_else(Instant::now, |(since, _)| *since);
                self.down = Some((since, error.to_string()));
            }
            State::Stopped => {}
        }
    }

    async fn work(&mut self) {
        if let Some((_, error)) = &self.down {
            let message = format!("OVN's north-bound database can't be reached: {error}");
            tracing::warn!(error, "OVN's north-bound database can't be reached");
            self.set_down(Some(message));
            return;
        }
        self.dirty = None;
        let wanted = self.cloud.take();
        let everything = wanted.everything;
        let covered = wanted.networks.keys().chain(wanted.routers.keys());
        let covered = covered.chain(wanted.load_balancers.keys());
        let covered: Vec<Uuid> = covered.chain(wanted.groups.keys()).copied().collect();
        let result = match self.write(wanted).await {
            // One that the database refuses must not keep the others from being written.
            Err(Failed::Database(Error::Refused(refused))) if covered.len() > 1 => {
                tracing::warn!(
                    error = chain(&refused),
                    "OVN's north-bound database refuses; trying one by one"
                );
                self.one_by_one(covered).await
            }
            result => result.map_err(|error| (error, covered)),
        };
        let Err((error, failed)) = result else {
            self.pause = None;
            self.set_down(None);
            return;
        };
        for uid in &failed {
            self.cloud.touch(*uid);
        }
        if everything {
            self.cloud.touch_everything();
        }
        let pause = self
            .pause
            .map_or(SHORTEST_PAUSE, |(_, pause)| (pause * 2).min(LONGEST_PAUSE));
        self.pause = Some((Instant::now() + pause, pause));
        tracing::warn!(
            error = chain(&error),
            objects = failed.len(),
            "writing to OVN's north-bound database"
        );
        if let Failed::Database(Error::Refused(_)) = error {
            let message = format!("OVN's north-bound database refuses: {}", chain(&error));
            for uid in failed {
                self.tell_refused(uid, &message);
            }
        }
    }

    /// Writes each alone. The answer has those that failed, and why the last of them did.
    async fn one_by_one(&mut self, covered: Vec<Uuid>) -> Result<(), (Failed, Vec<Uuid>)> {
        let mut failed: Option<(Failed, Vec<Uuid>)> = None;
        for uid in covered {
            let wanted = self.cloud.of(uid);
            if let Err(error) = self.write(wanted).await {
                let mut uids = failed.map(|(_, uids)| uids).unwrap_or_default();
                uids.push(uid);
                failed = Some((error, uids));
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// One transaction, and what follows from it for each Network and Port.
    async fn write(&mut self, wanted: Wanted) -> Result<(), Failed> {
        let client = self.client.clone();
        // Looking at everything takes longer than other tasks should wait.
        let planned = tokio::task::spawn_blocking(move || {
            let plan = client.read(|replica| plan(replica, &wanted.desired));
            (plan, wanted)
        });
        let Ok((plan, wanted)) = planned.await else {
            return Err(Error::Stopped.into());
        };
        if !plan.is_empty() {
            self.transact(plan.epoch, plan.operations).await?;
            let (inserted, updated, removed) = (plan.inserted, plan.updated, plan.removed);
            let (networks, routers) = (wanted.networks.len(), wanted.routers.len());
            tracing::info!(
                inserted,
                updated,
                removed,
                networks,
                routers,
                "wrote to OVN's north-bound database"
            );
        }
        self.report(&wanted, &plan.problems);
        Ok(())
    }

    /// Does all of the operations or none, and none if the word is another's.
    async fn transact(&self, epoch: u64, operations: Vec<Operation>) -> Result<(), Failed> {
        let asked: Vec<Operation> = [self.fence.question()].into_iter().chain(operations).collect();
        let result = self.client.transact_in(epoch, &asked).await;
        let result = match result {
            // As the first one of each leader is.
            Err(refused) if Fence::has_refused(&refused) => {
                if !self.fence.take(&self.client).await? {
                    return Err(Failed::Superseded);
                }
                self.client.transact_in(epoch, &asked).await
            }
            result => result,
        };
        match result {
            Err(refused) if Fence::has_refused(&refused) => Err(Failed::Superseded),
            result => Ok(result.map(drop)?),
        }
    }
}
