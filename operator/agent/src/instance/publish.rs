//! Writing an Instance's status: at once when something is settled, and seldom while it is under way.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kube::ResourceExt;
use tokio::time::Instant;
use virga_core::{
    condition::is_true,
    instance::{ended, notes},
};
use virga_crds::{Instance, InstanceAction, InstanceStatus, conditions::types};
use virga_runtime::apply::Error;

use crate::host::Host;

/// How long a status of work under way stays before the next such one: steps that follow each other quickly are one
/// write.
const UNDER_WAY: Duration = Duration::from_secs(2);

/// What was written last, by uid. Only to spare writes: nothing is decided by it.
#[derive(Clone, Default)]
pub struct Published {
    last: Arc<Mutex<HashMap<String, Last>>>,
}

struct Last {
    /// Until the watch has shown it: with all that the API server notes of an object it is large.
    object: Option<Box<Instance>>,
    at: Instant,
}

/// What became of a status.
pub enum Outcome {
    /// It was written; the object as it is now.
    Written(Box<Instance>),
    /// It was so already.
    Same,
    /// It is to be written when this time has passed, if it is still true then.
    Later(Duration),
}

impl Published {
    /// The newer one of an object from a watch and of what we wrote since: a watch may lag behind our own writes.
    pub fn newest(&self, seen: &Instance) -> Instance {
        let mut last = self.lock();
        let last = seen.metadata.uid.as_ref().and_then(|uid| last.get_mut(uid));
        let Some(last) = last else { return seen.clone() };
        match &last.object {
            Some(written) if version(written) > version(seen) => Instance::clone(written),
            _ => {
                last.object = None;
                seen.clone()
            }
        }
    }

    /// Writes a status if it differs, and tells of the changes that a user should hear of. An `urgent` one is written
    /// at once, as one that is settled is.
    pub async fn publish(
        &self,
        host: &Host,
        live: &Instance,
        status: &InstanceStatus,
        urgent: bool,
    ) -> Result<Outcome, Error> {
        let uid = live.uid().unwrap_or_default();
        if !urgent
            && !settled(status)
            && let Some(at) = self.lock().get(&uid).map(|last| last.at)
            && at.elapsed() < UNDER_WAY
        {
            return Ok(Outcome::Later(UNDER_WAY.saturating_sub(at.elapsed())));
        }
        let Some(written) = host.writer.apply_status(live, status).await? else {
            return Ok(Outcome::Same);
        };
        for note in notes(live.status.as_ref(), status) {
            let reason = note.reason.as_str();
            if note.warning {
                host.events.warning(live, reason, note.action, note.message);
            } else {
                host.events.normal(live, reason, note.action, note.message);
            }
        }
        for action in ended(live.status.as_ref(), status) {
            log_action(live, action);
        }
        let at = Instant::now();
        let written = Box::new(written);
        let object = Some(written.clone());
        self.lock().insert(uid, Last { object, at });
        Ok(Outcome::Written(written))
    }

    /// The Instance is gone.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Last>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One line for each action that ended: what remains when the Instance is gone.
pub fn log_action(instance: &Instance, action: &InstanceAction) {
    let took = action
        .finished_at
        .as_ref()
        .map(|finished| finished.0.duration_since(action.started_at.0).as_secs());
    tracing::info!(
        kind = "Instance",
        namespace = instance.namespace(),
        name = instance.name_any(),
        uid = instance.uid(),
        action = ?action.action,
        field = action.field,
        value = action.value,
        requested_by = action.requested_by,
        started_at = %action.started_at.0,
        took_s = took,
        result = ?action.result,
        error = (!action.message.is_empty()).then_some(action.message.as_str()),
        "action"
    );
}

/// Whether nothing more will happen by itself soon: as asked, or stuck.
fn settled(status: &InstanceStatus) -> bool {
    is_true(&status.conditions, types::READY) || is_true(&status.conditions, types::STALLED)
}

/// The object's version as a number: Kubernetes guarantees their order since 1.35 (KEP-5504), and etcd's have always
/// been numbers. One that isn't counts as oldest, which costs a needless write at worst.
fn version(object: &Instance) -> u64 {
    let version = object.resource_version().and_then(|version| version.parse().ok());
    version.unwrap_or(0)
}
