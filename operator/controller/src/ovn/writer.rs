//! When is what written, and what is done when that fails?

use std::{collections::HashMap, pin::pin, time::Duration};

use futures::{FutureExt as _, Stream, StreamExt as _};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use virga_core::{
    network::Backend,
    router::{Obstacle, Seen},
};
use virga_crds::{FloatingIP, Instance, Network, Port, Router, SecurityGroup, conditions::Reason};
use virga_ovn::{Cloud, Wanted, group_of_problem, of_problem, whose, whose_group};
use virga_ovsdb::{
    Client,
    client::{Error, News, State},
    northbound::LogicalSwitchPort,
    reconcile::{KEY, OWNER, Problem, plan},
    replica::{Row, RowChange},
    table::{Extent, Table as _},
};
use virga_runtime::{class::chain, watch::Change};

use super::{
    AUDIT, DEBOUNCE, GRACE, LONGEST_PAUSE, Reports, SHORTEST_PAUSE, Settings, gateways, reports::NetworkReport,
};
use crate::stores::Stores;

/// The mark of a port's row by which people find its Port, and we do.
const PORT: &str = "virga.dev/port";

struct Writer {
    client: Client,
    cloud: Cloud,
    owner: String,
    reports: std::sync::Arc<Reports>,
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
pub(super) struct Changes<N, P, R, F, I, G> {
    pub networks: N,
    pub ports: P,
    pub routers: R,
    pub floating_ips: F,
    pub instances: I,
    pub groups: G,
}

pub(super) async fn run(
    backend: Backend,
    settings: Settings,
    stores: Stores,
    watched: Changes<
        impl Stream<Item = Change<Network>>,
        impl Stream<Item = Change<Port>>,
        impl Stream<Item = Change<Router>>,
        impl Stream<Item = Change<FloatingIP>>,
        impl Stream<Item = Change<Instance>>,
        impl Stream<Item = Change<SecurityGroup>>,
    >,
    reports: std::sync::Arc<Reports>,
    stop: CancellationToken,
) {
    let Settings {
        client,
        southbound,
        owner,
    } = settings;
    let mut hosts = gateways::follow(southbound, stop.clone());
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
    } = watched;
    let (mut floating_ips, mut instances) = (pin!(floating_ips), pin!(instances));
    let (mut networks, mut ports, mut routers) = (pin!(networks), pin!(ports), pin!(routers));
    let mut groups = pin!(groups);
    let mut writer = Writer {
        client,
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
                writer.cloud.reset_groups(&stores.security_groups.state());
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
        let covered: Vec<Uuid> = covered.chain(wanted.groups.keys()).copied().collect();
        let result = match self.write(wanted).await {
            // One that the database refuses must not keep the others from being written.
            Err(Error::Refused(refused)) if covered.len() > 1 => {
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
        if let Error::Refused(_) = error {
            let message = format!("OVN's north-bound database refuses: {}", chain(&error));
            for uid in failed {
                self.tell_refused(uid, &message);
            }
        }
    }

    fn tell_refused(&self, uid: Uuid, message: &str) {
        let reason = Reason::NorthboundConflict;
        if let Some(name) = self.cloud.group_name(uid) {
            let generation = self.cloud.group_generation(uid);
            self.reports.groups.set(uid, name, generation, Some(message.to_owned()));
        }
        if let Some(name) = self.cloud.router_name(uid) {
            let seen = Seen {
                problem: Some(Obstacle {
                    reason,
                    message: message.to_owned(),
                }),
                ..Seen::default()
            };
            self.reports
                .set_router(uid, name, (self.cloud.router_generation(uid), seen));
        }
        if let Some(name) = self.cloud.name(uid) {
            let report = NetworkReport {
                generation: self.cloud.generation(uid),
                problem: Some((reason, message.to_owned())),
            };
            self.reports.set_network(uid, name, &report);
        }
    }

    /// Says why the database takes no writes, if it doesn't, and has those look again that wait for it.
    fn set_down(&self, down: Option<String>) {
        if self.reports.down() == down {
            return;
        }
        self.reports.set_down(
            down,
            self.cloud.waiting(),
            self.cloud.waiting_routers(),
            self.cloud.waiting_floating_ips(),
        );
        self.cloud
            .waiting_groups()
            .for_each(|name| self.reports.groups.wake(name));
    }

    /// Writes each alone. The answer has those that failed, and why the last of them did.
    async fn one_by_one(&mut self, covered: Vec<Uuid>) -> Result<(), (Error, Vec<Uuid>)> {
        let mut failed: Option<(Error, Vec<Uuid>)> = None;
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
    async fn write(&mut self, wanted: Wanted) -> Result<(), Error> {
        let client = self.client.clone();
        // Looking at everything takes longer than other tasks should wait.
        let planned = tokio::task::spawn_blocking(move || {
            let plan = client.read(|replica| plan(replica, &wanted.desired));
            (plan, wanted)
        });
        let Ok((plan, wanted)) = planned.await else {
            return Err(Error::Stopped);
        };
        if !plan.is_empty() {
            self.client.transact_in(plan.epoch, &plan.operations).await?;
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

    fn report(&mut self, wanted: &Wanted, problems: &[Problem]) {
        for problem in problems.iter().filter(|problem| !self.told.contains(problem)) {
            tracing::warn!(%problem, "a row of OVN's north-bound database can't be as it should");
        }
        if wanted.everything {
            self.told = problems.to_vec();
        } else {
            // Until everything is looked at, which is soon.
            self.told.extend_from_slice(problems);
        }
        let mut of_networks: HashMap<Uuid, String> = HashMap::new();
        let mut of_ports: HashMap<Uuid, (Uuid, String)> = HashMap::new();
        for problem in problems {
            let Some(about) = of_problem(problem) else { continue };
            let text = problem.to_string();
            if let Some(port) = about.port {
                of_ports.entry(port).or_insert((about.network, text));
            } else {
                of_networks.entry(about.network).or_insert(text);
            }
        }
        for (network, generation) in &wanted.networks {
            let Some(name) = self.cloud.name(*network) else {
                self.reports.forget_network(*network);
                self.reports.forget_router(*network);
                self.reports.forget_floating_ip(*network);
                continue;
            };
            let refused = wanted.refused.get(network);
            let problem = refused
                .map(|refusal| (refusal.reason, refusal.message.clone()))
                .or_else(|| {
                    let problem = of_networks.remove(network)?;
                    Some((Reason::NorthboundConflict, problem))
                });
            let generation = *generation;
            let report = NetworkReport { generation, problem };
            self.reports.set_network(*network, name, &report);
        }
        for (router, (generation, seen)) in &wanted.routers {
            let Some(name) = self.cloud.router_name(*router) else {
                continue;
            };
            let mut seen = seen.clone();
            if let (None, Some(message)) = (&seen.problem, of_networks.remove(router)) {
                let reason = Reason::NorthboundConflict;
                seen.problem = Some(Obstacle { reason, message });
            }
            self.reports.set_router(*router, name, (*generation, seen));
        }
        for (floating, (generation, seen)) in &wanted.floating_ips {
            if let Some(name) = self.cloud.floating_ip_name(*floating) {
                self.reports
                    .set_floating_ip(*floating, name, (*generation, seen.clone()));
            }
        }
        self.report_groups(wanted, problems);
        for (port, (network, problem)) in &of_ports {
            if let Some((namespace, name)) = self.cloud.port_name(*network, *port) {
                self.reports.set_problem(*port, (namespace, &name), problem.clone());
            }
        }
        for port in self.reports.with_problem() {
            if wanted.everything && !of_ports.contains_key(&port) {
                self.reports.forget_problem(port);
            }
        }
    }

    fn report_groups(&self, wanted: &Wanted, problems: &[Problem]) {
        let about = |problem: &Problem| Some((group_of_problem(problem)?, problem.to_string()));
        let mut of_groups: HashMap<Uuid, String> = problems.iter().filter_map(about).collect();
        for (group, generation) in &wanted.groups {
            match self.cloud.group_name(*group) {
                Some(name) => self
                    .reports
                    .groups
                    .set(*group, name, *generation, of_groups.remove(group)),
                None => self.reports.groups.forget(*group),
            }
        }
    }

    /// Somebody has written: we, `ovn-northd`, or people who were not asked to.
    fn hear(&mut self, news: &News) {
        let News::Rows(rows) = news else {
            self.cloud.touch_everything();
            self.look_at_ports();
            return;
        };
        for row in rows.iter() {
            self.hear_of_port(row);
            let Some(key) = self.ours(row).filter(|_| is_ours_to_mend(row)) else {
                continue;
            };
            if let Some(group) = whose_group(key) {
                self.cloud.touch(group);
            } else if let Some(about) = whose(key) {
                self.cloud.touch(about.network);
            }
        }
    }

    fn hear_own(&mut self, news: &News) {
        match news {
            News::Rows(rows) => rows.iter().for_each(|row| self.hear_of_port(row)),
            News::Missed(_) => self.look_at_ports(),
        }
    }

    fn ours<'a>(&self, change: &'a RowChange) -> Option<&'a str> {
        let of = |row: &'a std::sync::Arc<Row>| {
            row.external_id(KEY)
                .filter(|_| row.external_id(OWNER) == Some(&self.owner))
        };
        change
            .old
            .as_ref()
            .and_then(of)
            .or_else(|| change.new.as_ref().and_then(of))
    }

    fn hear_of_port(&self, change: &RowChange) {
        if change.table != LogicalSwitchPort::SPEC.name {
            return;
        }
        match (&change.old, &change.new) {
            (_, Some(row)) => self.note(row),
            (Some(row), None) => drop(self.port(row).map(|uid| self.reports.forget_row(uid))),
            (None, None) => {}
        }
    }

    /// The Port that a row of ours is about.
    fn port(&self, row: &Row) -> Option<Uuid> {
        let ours = row.external_id(OWNER) == Some(&self.owner);
        row.name().filter(|_| ours)?.parse().ok()
    }

    fn note(&self, row: &Row) {
        let name = row.external_id(PORT).and_then(|name| name.split_once('/'));
        if let (Some(uid), Some(name)) = (self.port(row), name) {
            let up = row.get::<Option<bool>>("up").ok().flatten().unwrap_or_default();
            self.reports.set_up(uid, name, up);
        }
    }

    fn look_at_ports(&self) {
        let rows: Vec<_> = self
            .client
            .read(|replica| replica.rows(LogicalSwitchPort::SPEC.name).cloned().collect());
        let there: std::collections::HashSet<Uuid> = rows
            .iter()
            .filter_map(|row: &std::sync::Arc<Row>| self.port(row))
            .collect();
        for row in &rows {
            self.note(row);
        }
        for gone in self.reports.with_row() {
            if !there.contains(&gone) {
                self.reports.forget_row(gone);
            }
        }
    }
}

/// Whether anything that is ours to say has changed; what `ovn-northd` says is not.
fn is_ours_to_mend(change: &RowChange) -> bool {
    let (Some(old), Some(new)) = (&change.old, &change.new) else {
        return true;
    };
    let columns = old.table().spec.columns.iter();
    columns
        .filter(|column| column.extent != Extent::Observed)
        .any(|column| old.value(column.name) != new.value(column.name))
}
