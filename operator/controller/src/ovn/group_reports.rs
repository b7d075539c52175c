//! How was each SecurityGroup, or each AddressGroup, written? For the loop that says so in its status.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures::Stream;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, runtime::reflector::ObjectRef};
use uuid::Uuid;
use virga_core::{condition::is_true, network::Carried};
use virga_crds::{
    Condition,
    conditions::{Reason, types},
};
use virga_runtime::wake::Wakeups;

/// How a group was written.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Report {
    /// As of this generation.
    generation: Option<i64>,
    /// What is in the way.
    problem: Option<String>,
}

/// What was last written of each group of a kind.
#[derive(Default)]
pub struct GroupReports {
    known: Mutex<HashMap<Uuid, Report>>,
    touched: Wakeups<(String, String)>,
}

impl GroupReports {
    /// What is to be said of a group, of which this generation and these conditions are said; `down`: why nothing can be
    /// written, once that has lasted.
    pub fn of(&self, group: &ObjectMeta, said: Option<(Option<i64>, &[Condition])>, down: Option<String>) -> Carried {
        let uid = group.uid.as_ref().and_then(|uid| uid.parse().ok());
        let report = uid.and_then(|uid: Uuid| self.lock().get(&uid).cloned());
        if let Some(report) = report.filter(|report| report.generation == group.generation) {
            return report.problem.map_or(Carried::AsSpecified, |message| Carried::No {
                reason: Reason::NorthboundConflict,
                message,
            });
        }
        let said = said.is_some_and(|(generation, conditions)| {
            generation == group.generation && is_true(conditions, types::READY)
        });
        match down {
            // What was written before this process led goes on to work.
            Some(message) if !said => Carried::No {
                reason: Reason::NorthboundUnavailable,
                message,
            },
            _ => Carried::Unknown,
        }
    }

    /// The groups to look at again.
    pub fn touched<K>(&self) -> impl Stream<Item = ObjectRef<K>> + Send + use<K>
    where
        K: Resource<DynamicType = ()> + 'static,
    {
        self.touched
            .picked(|(namespace, name)| Some(ObjectRef::new(&name).within(&namespace)))
    }

    /// A group was written, or can't be.
    pub(super) fn set(&self, uid: Uuid, name: (&str, &str), generation: Option<i64>, problem: Option<String>) {
        let report = Report { generation, problem };
        let old = self.lock().insert(uid, report.clone());
        if old.as_ref() != Some(&report) {
            self.wake(name);
        }
    }

    /// A group is gone.
    pub(super) fn forget(&self, uid: Uuid) {
        self.lock().remove(&uid);
    }

    /// Something is to be said of this one.
    pub(super) fn wake(&self, (namespace, name): (&str, &str)) {
        self.touched.send((namespace.to_owned(), name.to_owned()));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Report>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
