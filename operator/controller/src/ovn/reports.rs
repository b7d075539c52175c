//! What does the north-bound database hold of each object? For the loops that say so in their status.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures::Stream;
use kube::runtime::reflector::ObjectRef;
use uuid::Uuid;
use virga_core::{carried::Obstacle, floating_ip, network::PortSeen, router};
use virga_crds::{Port, conditions::Reason};
use virga_runtime::wake::Wakeups;

use super::{balancer_reports::BalancerReports, written::Written};

/// What was last seen and written.
#[derive(Default)]
pub struct Reports {
    known: Mutex<Known>,
    ports: Wakeups<(String, String)>,
    /// What was written of each Network, and what is in its way.
    pub networks: Written<Option<Obstacle>>,
    /// What became of each Router.
    pub routers: Written<router::Seen>,
    /// What became of each FloatingIP.
    pub floating_ips: Written<floating_ip::Seen>,
    /// What is in the way of each SecurityGroup.
    pub groups: Written<Option<Obstacle>>,
    /// What is in the way of each AddressGroup.
    pub address_groups: Written<Option<Obstacle>>,
    /// What was written of each LoadBalancer.
    pub balancers: BalancerReports,
}

#[derive(Default)]
struct Known {
    ports: HashMap<Uuid, PortReport>,
    /// Why nothing can be written, once that has lasted.
    down: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct PortReport {
    /// Namespace and name.
    name: (String, String),
    /// Whether a host has plugged it in; none: it has no row.
    up: Option<bool>,
    problem: Option<String>,
}

impl Reports {
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

    /// The Ports to look at again.
    pub fn ports(&self) -> impl Stream<Item = ObjectRef<Port>> + Send + use<> {
        self.ports
            .picked(|(namespace, name)| Some(ObjectRef::new(&name).within(&namespace)))
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

    /// Why the database takes no writes, if it doesn't.
    pub(super) fn set_down(&self, down: Option<String>) {
        self.lock().down = down;
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn uid(object: &impl kube::ResourceExt) -> Option<Uuid> {
    object.uid()?.parse().ok()
}
