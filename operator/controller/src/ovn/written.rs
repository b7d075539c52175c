//! How was each object of a kind written? For the loop that says so in its status.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures::Stream;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, runtime::reflector::ObjectRef};
use uuid::Uuid;
use virga_core::{
    carried::{Carried, Obstacle},
    condition::was_ready,
};
use virga_crds::{Condition, conditions::Reason};
use virga_runtime::wake::Wakeups;

/// `namespace`, `name`.
type Name = (String, String);

#[derive(Debug, PartialEq, Eq)]
struct Report<S> {
    name: Name,
    /// As of this generation.
    generation: Option<i64>,
    /// What became of it.
    seen: S,
}

/// What was last written of each object of a kind.
pub struct Written<S> {
    known: Mutex<HashMap<Uuid, Report<S>>>,
    touched: Wakeups<Name>,
}

impl<S> Default for Written<S> {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            touched: Wakeups::default(),
        }
    }
}

impl<S: Clone + PartialEq> Written<S> {
    /// What is to be said of an object, of which this generation and these conditions are said; `down`: why nothing can be
    /// written, once that has lasted.
    pub fn of(
        &self,
        object: &ObjectMeta,
        said: Option<(Option<i64>, &[Condition])>,
        down: Option<String>,
    ) -> Carried<S> {
        let uid = object.uid.as_ref().and_then(|uid| uid.parse::<Uuid>().ok());
        let known = self.lock();
        let report = uid.and_then(|uid| known.get(&uid));
        if let Some(report) = report.filter(|report| report.generation == object.generation) {
            return Carried::Seen(report.seen.clone());
        }
        let said = said.is_some_and(|(observed, conditions)| was_ready(object.generation, observed, conditions));
        match down {
            // What was written before this process led goes on to work.
            Some(message) if !said => Carried::No(Obstacle {
                reason: Reason::NorthboundUnavailable,
                message,
            }),
            _ => Carried::Unknown,
        }
    }

    /// Those to look at again.
    pub fn touched<K>(&self) -> impl Stream<Item = ObjectRef<K>> + Send + use<K, S>
    where
        K: Resource<DynamicType = ()> + 'static,
    {
        self.touched
            .picked(|(namespace, name)| Some(ObjectRef::new(&name).within(&namespace)))
    }

    /// One was written, or can't be.
    pub(super) fn set(&self, uid: Uuid, name: Name, generation: Option<i64>, seen: S) {
        let report = Report {
            name: name.clone(),
            generation,
            seen,
        };
        let mut known = self.lock();
        if known.get(&uid) != Some(&report) {
            known.insert(uid, report);
            drop(known);
            self.wake(name);
        }
    }

    /// One is gone.
    pub(super) fn forget(&self, uid: Uuid) {
        self.lock().remove(&uid);
    }

    /// Something is to be said of this one.
    pub(super) fn wake(&self, name: Name) {
        self.touched.send(name);
    }

    /// Something is to be said of all of which this is so.
    pub(super) fn wake_those(&self, is_so: impl Fn(&S) -> bool) {
        let known = self.lock();
        let woken: Vec<Name> = known
            .values()
            .filter(|report| is_so(&report.seen))
            .map(|report| report.name.clone())
            .collect();
        drop(known);
        for name in woken {
            self.wake(name);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Report<S>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
