//! How was each LoadBalancer written, and which of its members answer? For the loop that says so in its status.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures::Stream;
use kube::{ResourceExt as _, runtime::reflector::ObjectRef};
use uuid::Uuid;
use virga_core::{
    condition::is_true,
    load_balancer::{Carried, Check, Health, Seen},
    router::Obstacle,
};
use virga_crds::{
    LoadBalancer,
    conditions::{Reason, types},
};
use virga_runtime::wake::Wakeups;

use super::gateways::Answers;

struct Report {
    /// Namespace and name.
    name: (String, String),
    /// As of this generation.
    generation: Option<i64>,
    seen: Seen,
}

#[derive(Default)]
struct Known {
    balancers: HashMap<Uuid, Report>,
    answers: Answers,
}

/// What was last written of each, and heard of their members.
#[derive(Default)]
pub struct BalancerReports {
    known: Mutex<Known>,
    touched: Wakeups<(String, String)>,
}

impl BalancerReports {
    /// What is to be said of one; `down`: why nothing can be written, once that has lasted.
    pub fn of(&self, balancer: &LoadBalancer, down: Option<String>) -> Carried {
        let uid = balancer.uid().and_then(|uid| uid.parse::<Uuid>().ok());
        let known = self.lock();
        let report = uid.and_then(|uid| known.balancers.get(&uid));
        if let Some(report) = report.filter(|report| report.generation == balancer.metadata.generation) {
            return Carried::Seen(report.seen.clone());
        }
        let said = balancer.status.as_ref().is_some_and(|status| {
            status.observed_generation == balancer.metadata.generation && is_true(&status.conditions, types::READY)
        });
        match down {
            Some(message) if !said => Carried::No(Obstacle {
                reason: Reason::NorthboundUnavailable,
                message,
            }),
            _ => Carried::Unknown,
        }
    }

    /// What came of asking a member.
    pub fn health(&self, check: &Check) -> Option<Health> {
        self.lock().answers.get(check).copied()
    }

    /// The LoadBalancers to look at again.
    pub fn touched(&self) -> impl Stream<Item = ObjectRef<LoadBalancer>> + Send + use<> {
        self.touched
            .picked(|(namespace, name)| Some(ObjectRef::new(&name).within(&namespace)))
    }

    /// One was written, or can't be.
    pub(super) fn set(&self, uid: Uuid, name: (String, String), generation: Option<i64>, seen: Seen) {
        let mut known = self.lock();
        let old = known.balancers.get(&uid);
        if old.is_some_and(|old| old.generation == generation && old.seen == seen && old.name == name) {
            return;
        }
        let report = Report {
            name: name.clone(),
            generation,
            seen,
        };
        known.balancers.insert(uid, report);
        drop(known);
        self.touched.send(name);
    }

    /// One is gone.
    pub(super) fn forget(&self, uid: Uuid) {
        self.lock().balancers.remove(&uid);
    }

    /// One is to be looked at again.
    pub(super) fn wake(&self, name: (String, String)) {
        self.touched.send(name);
    }

    /// This came of asking the members. Those are woken whose members say something else than before.
    pub(super) fn set_answers(&self, answers: Answers) {
        let mut known = self.lock();
        let old = std::mem::replace(&mut known.answers, answers);
        let differs = |check: &Check| old.get(check) != known.answers.get(check);
        let members = |report: &Report| {
            report
                .seen
                .members
                .iter()
                .any(|member| member.checks.iter().any(differs))
        };
        let reports = known.balancers.values().filter(|report| members(report));
        let woken: Vec<(String, String)> = reports.map(|report| report.name.clone()).collect();
        drop(known);
        for name in woken {
            self.touched.send(name);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
