//! What does the north-bound database hold of each Network and Port? For the loops that say so in their status.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures::Stream;
use kube::runtime::reflector::ObjectRef;
use uuid::Uuid;
use virga_core::{
    condition::is_true,
    floating_ip,
    network::{Carried, PortSeen},
    router,
};
use virga_crds::{
    FloatingIP, Network, Port, Router,
    conditions::{Reason, types},
};
use virga_runtime::wake::Wakeups;

use super::{balancer_reports::BalancerReports, group_reports::GroupReports};

/// What was last seen and written.
#[derive(Default)]
pub struct Reports {
    known: Mutex<Known>,
    networks: Wakeups<(String, String)>,
    routers: Wakeups<(String, String)>,
    floating_ips: Wakeups<(String, String)>,
    ports: Wakeups<(String, String)>,
    /// What was written of each SecurityGroup.
    pub groups: GroupReports,
    /// What was written of each AddressGroup.
    pub address_groups: GroupReports,
    /// What was written of each LoadBalancer.
    pub balancers: BalancerReports,
}

#[derive(Default)]
struct Known {
    networks: HashMap<Uuid, NetworkReport>,
    routers: HashMap<Uuid, RouterReport>,
    floating_ips: HashMap<Uuid, FloatingIPReport>,
    ports: HashMap<Uuid, PortReport>,
    /// Why nothing can be written, once that has lasted.
    down: Option<String>,
}

/// How a Network was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NetworkReport {
    /// As of this generation.
    pub generation: Option<i64>,
    /// What is in the way.
    pub problem: Option<(Reason, String)>,
}

/// What became of a Router, and of which generation.
pub(super) type RouterReport = (Option<i64>, router::Seen);

/// What became of a FloatingIP, and of which generation.
pub(super) type FloatingIPReport = (Option<i64>, floating_ip::Seen);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct PortReport {
    /// Namespace and name.
    name: (String, String),
    /// Whether a host has plugged it in; none: it has no row.
    up: Option<bool>,
    problem: Option<String>,
}

impl Reports {
    /// What is to be said of a Network.
    pub fn network(&self, network: &Network) -> Carried {
        let known = self.lock();
        let report = uid(network).and_then(|uid| known.networks.get(&uid));
        if let Some(report) = report.filter(|report| report.generation == network.metadata.generation) {
            return match report.problem.clone() {
                None => Carried::AsSpecified,
                Some((reason, message)) => Carried::No { reason, message },
            };
        }
        let said = network.status.as_ref().is_some_and(|status| {
            status.observed_generation == network.metadata.generation && is_true(&status.conditions, types::READY)
        });
        match &known.down {
            // What was written before this process led goes on to work.
            Some(message) if !said => Carried::No {
                reason: Reason::NorthboundUnavailable,
                message: message.clone(),
            },
            _ => Carried::Unknown,
        }
    }

    /// What is to be said of a Router.
    pub fn router(&self, router: &Router) -> router::Carried {
        let known = self.lock();
        let report = uid(router).and_then(|uid| known.routers.get(&uid));
        if let Some((generation, seen)) = report
            && *generation == router.metadata.generation
        {
            return router::Carried::Seen(seen.clone());
        }
        let said = router.status.as_ref().is_some_and(|status| {
            status.observed_generation == router.metadata.generation && is_true(&status.conditions, types::READY)
        });
        match &known.down {
            Some(message) if !said => router::Carried::No(router::Obstacle {
                reason: Reason::NorthboundUnavailable,
                message: message.clone(),
            }),
            _ => router::Carried::Unknown,
        }
    }

    /// What is to be said of a FloatingIP.
    pub fn floating_ip(&self, floating: &FloatingIP) -> floating_ip::Carried {
        let known = self.lock();
        let report = uid(floating).and_then(|uid| known.floating_ips.get(&uid));
        if let Some((generation, seen)) = report
            && *generation == floating.metadata.generation
        {
            return floating_ip::Carried::Seen(seen.clone());
        }
        let said = floating.status.as_ref().is_some_and(|status| {
            status.observed_generation == floating.metadata.generation && is_true(&status.conditions, types::READY)
        });
        match &known.down {
            Some(message) if !said => floating_ip::Carried::No(router::Obstacle {
                reason: Reason::NorthboundUnavailable,
                message: message.clone(),
            }),
            _ => floating_ip::Carried::Unknown,
        }
    }

    /// What is to be said of a Port, if anything is known.
    pub fn port(&self, port: &Port) -> Option<PortSeen> {
        let known = self.lock();
        let report = uid(port)
            .and_then(|uid| known.ports.get(&uid))
            .cloned()
            .unwrap_or_default();
        match (report.problem, report.up, &known.down) {
            (Some(message), ..) => Some(PortSeen::Missing {
                reason: Reason::NorthboundConflict,
                message,
            }),
            (None, Some(true), _) => Some(PortSeen::Up),
            (None, Some(false), _) => Some(PortSeen::Down),
            (None, None, Some(message)) => Some(PortSeen::Missing {
                reason: Reason::NorthboundUnavailable,
                message: message.clone(),
            }),
            (None, None, None) => None,
        }
    }

    /// The Networks to look at again.
    pub fn networks(&self) -> impl Stream<Item = ObjectRef<Network>> + Send + use<> {
        self.networks
            .picked(|(namespace, name)| Some(ObjectRef::new(&name).within(&namespace)))
    }

    /// The Routers to look at again.
    pub fn routers(&self) -> impl Stream<Item = ObjectRef<Router>> + Send + use<> {
        self.routers
            .picked(|(namespace, name)| Some(ObjectRef::new(&name).within(&namespace)))
    }

    /// The FloatingIPs to look at again.
    pub fn floating_ips(&self) -> impl Stream<Item = ObjectRef<FloatingIP>> + Send + use<> {
        self.floating_ips
            .picked(|(namespace, name)| Some(ObjectRef::new(&name).within(&namespace)))
    }

    /// The Ports to look at again.
    pub fn ports(&self) -> impl Stream<Item = ObjectRef<Port>> + Send + use<> {
        self.ports
            .picked(|(namespace, name)| Some(ObjectRef::new(&name).within(&namespace)))
    }

    /// A Network was written, or can't be.
    pub(super) fn set_network(&self, uid: Uuid, name: (&str, &str), report: &NetworkReport) {
        let old = self.lock().networks.insert(uid, report.clone());
        if old.as_ref() != Some(report) {
            self.networks.send((name.0.to_owned(), name.1.to_owned()));
        }
    }

    /// A Network is gone.
    pub(super) fn forget_network(&self, uid: Uuid) {
        self.lock().networks.remove(&uid);
    }

    /// A Router was written, or can't be.
    pub(super) fn set_router(&self, uid: Uuid, name: (String, String), report: RouterReport) {
        let mut known = self.lock();
        if known.routers.get(&uid) == Some(&report) {
            return;
        }
        known.routers.insert(uid, report);
        drop(known);
        self.routers.send(name);
    }

    /// A Router is gone.
    pub(super) fn forget_router(&self, uid: Uuid) {
        self.lock().routers.remove(&uid);
    }

    /// A FloatingIP was written, or can't be.
    pub(super) fn set_floating_ip(&self, uid: Uuid, name: (String, String), report: FloatingIPReport) {
        let mut known = self.lock();
        if known.floating_ips.get(&uid) == Some(&report) {
            return;
        }
        known.floating_ips.insert(uid, report);
        drop(known);
        self.floating_ips.send(name);
    }

    /// A FloatingIP is gone.
    pub(super) fn forget_floating_ip(&self, uid: Uuid) {
        self.lock().floating_ips.remove(&uid);
    }

    /// A Port's row is there, up or not.
    pub(super) fn set_up(&self, uid: Uuid, name: (&str, &str), up: bool) {
        self.change_port(uid, Some(name), |report| report.up = Some(up));
    }

    /// A Port's row is gone.
    pub(super) fn forget_row(&self, uid: Uuid) {
        self.change_port(uid, None, |report| report.up = None);
    }

    /// Something is in the way of a Port's row.
    pub(super) fn set_problem(&self, uid: Uuid, name: (&str, &str), problem: String) {
        self.change_port(uid, Some(name), |report| report.problem = Some(problem));
    }

    /// Nothing is in the way any more.
    pub(super) fn forget_problem(&self, uid: Uuid) {
        self.change_port(uid, None, |report| report.problem = None);
    }

    fn change_port(&self, uid: Uuid, name: Option<(&str, &str)>, change: impl FnOnce(&mut PortReport)) {
        let mut known = self.lock();
        let old = known.ports.remove(&uid).unwrap_or_default();
        let mut new = old.clone();
        if let Some((namespace, name)) = name {
            new.name = (namespace.to_owned(), name.to_owned());
        }
        change(&mut new);
        if new.up.is_some() || new.problem.is_some() {
            known.ports.insert(uid, new.clone());
        }
        drop(known);
        if (new.up, &new.problem) != (old.up, &old.problem) {
            self.ports.send(new.name);
        }
    }

    /// Whether it was said that the database takes no writes.
    pub(super) fn is_down(&self) -> bool {
        self.lock().down.is_some()
    }

    /// Why the database takes no writes, once that has lasted.
    pub fn down(&self) -> Option<String> {
        self.lock().down.clone()
    }

    /// The Ports with something in the way.
    pub(super) fn with_problem(&self) -> Vec<Uuid> {
        let known = self.lock();
        let troubled = known.ports.iter().filter(|(_, report)| report.problem.is_some());
        troubled.map(|(uid, _)| *uid).collect()
    }

    /// The Ports that have rows.
    pub(super) fn with_row(&self) -> Vec<Uuid> {
        let known = self.lock();
        let rows = known.ports.iter().filter(|(_, report)| report.up.is_some());
        rows.map(|(uid, _)| *uid).collect()
    }

    /// Why the database takes no writes, if it doesn't, and which Networks and Routers wait for it.
    pub(super) fn set_down<'a>(
        &self,
        down: Option<String>,
        waiting: impl Iterator<Item = (&'a str, &'a str)>,
        routers: impl Iterator<Item = (String, String)>,
        floating_ips: impl Iterator<Item = (String, String)>,
    ) {
        let mut known = self.lock();
        if known.down == down {
            return;
        }
        known.down = down;
        drop(known);
        for (namespace, name) in waiting {
            self.networks.send((namespace.to_owned(), name.to_owned()));
        }
        routers.for_each(|name| self.routers.send(name));
        floating_ips.for_each(|name| self.floating_ips.send(name));
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn uid(object: &impl kube::ResourceExt) -> Option<Uuid> {
    object.uid()?.parse().ok()
}
