//! Who waits for a host, and when is it worth another try? The leader's task for what admission could not place.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures::{FutureExt as _, StreamExt, stream::FuturesUnordered};
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use virga_core::instance::{is_shelved_away, stays_shelved};
use virga_crds::{Instance, conditions::Reason, managers};
use virga_runtime::{apply::Writer, class::chain, clock::Clock, events::Events, lease::Leadership};

use super::{
    bind,
    explain::{self, Explanation},
    rejection,
    state::{Decision, Key, Scheduler},
};

/// How many writes are under way at once.
const WRITERS: usize = 16;
/// How often reservations are looked at while there are any.
const TICK: Duration = Duration::from_secs(2);

/// The queue. Its memory is the scheduler's; this is the part that acts.
pub struct Queue {
    client: Client,
    clock: Arc<dyn Clock>,
    events: Events,
    leadership: Leadership,
    scheduler: Arc<Scheduler>,
    writer: Writer,
}

/// What is to be written for one Instance.
enum Act {
    Bind(Arc<Instance>, String),
    Tell(Arc<Instance>, Explanation),
}

impl Queue {
    /// A queue that has done nothing yet.
    pub fn new(
        client: Client,
        clock: Arc<dyn Clock>,
        events: Events,
        leadership: Leadership,
        scheduler: Arc<Scheduler>,
    ) -> Self {
        let writer = Writer::new(client.clone(), managers::CONTROLLER);
        Self {
            client,
            clock,
            events,
            leadership,
            scheduler,
            writer,
        }
    }

    /// Places those that wait, whenever something happens that may help, until `stop` is cancelled.
    ///
    /// Decided one after the other, each when there is a writer for it: a write that takes long holds up nobody else's.
    pub async fn run(self, stop: CancellationToken) {
        let mut writes = FuturesUnordered::new();
        let mut written: HashSet<Key> = HashSet::new();
        while !stop.is_cancelled() {
            self.scheduler.expire();
            let room = WRITERS - writes.len();
            let (due, next) = self.scheduler.due(room);
            let more = due.len() == room;
            for key in due {
                if written.contains(&key) {
                    // What it is told now may be out of date, and two writes at once would race.
                    self.again(&key);
                } else if let Some(act) = self.decide(&key) {
                    written.insert(key.clone());
                    writes.push(self.carry_out(act).map(|()| key));
                }
            }
            let full = writes.len() == WRITERS;
            if more && !full {
                continue;
            }
            let tick = (self.scheduler.reservations() > 0).then_some(TICK);
            let nap = [next, tick].into_iter().flatten().min();
            tokio::select! {
                () = stop.cancelled() => {}
                Some(key) = writes.next() => drop(written.remove(&key)),
                () = self.scheduler.woken.notified(), if !full => {}
                () = tokio::time::sleep(nap.unwrap_or_default()), if nap.is_some() && !full => {}
            }
        }
        // What was begun is ended; each has its time-out.
        writes.for_each(|_| async {}).await;
    }

    fn again(&self, key: &Key) {
        if let Some(instance) = self.scheduler.stores.instance(&key.0, &key.1) {
            self.scheduler.retry(&instance);
        }
    }

    fn decide(&self, key: &Key) -> Option<Act> {
        let instance = self.scheduler.stores.instance(&key.0, &key.1)?;
        let bound = instance.spec.node_name.is_some() && !rejection::is_rejected(&instance);
        if bound || stays_away(&instance) || instance.metadata.deletion_timestamp.is_some() {
            return None;
        }
        match self.scheduler.place(&instance) {
            Decision::Placed(placement) => Some(Act::Bind(instance, placement.host)),
            Decision::Refused(refusal) => {
                let (namespace, name) = (&key.0, &key.1);
                tracing::debug!(namespace, name, reason = format!("{refusal:#}"), "no host");
                let scheduling = self.scheduler.scheduling(&instance.uid().unwrap_or_default());
                Some(Act::Tell(instance, explain::refused(&refusal, scheduling)))
            }
            Decision::Obstructed(obstacles) => Some(Act::Tell(instance, explain::obstructed(&obstacles))),
            Decision::Closed => None,
        }
    }

    async fn carry_out(&self, act: Act) {
        // Asked before each write: the one before may have taken a while.
        if !self.leadership.is_leader() {
            return;
        }
        match act {
            Act::Bind(instance, node) => self.bind(&instance, &node).await,
            Act::Tell(instance, explanation) => self.tell(&instance, &explanation).await,
        }
    }

    async fn bind(&self, instance: &Instance, node: &str) {
        let (namespace, name) = (instance.namespace().unwrap_or_default(), instance.name_any());
        let uid = instance.uid().unwrap_or_default();
        let scheduling = self.scheduler.scheduling(&uid);
        let bound = match bind::bind(&self.client, instance, node, scheduling.as_ref()).await {
            Ok(bound) => bound,
            Err(error) => {
                if !error.is_uncertain() {
                    self.scheduler.unreserve(&uid);
                }
                let stale = error.is_stale();
                let error = chain(&error);
                if stale {
                    tracing::debug!(namespace, name, node, error, "binding anew");
                } else {
                    tracing::warn!(namespace, name, node, error, "binding, will try again");
                }
                return;
            }
        };
        tracing::info!(kind = "Instance", namespace, name, node, "bound");
        let fit = scheduling.map(|decided| format!(" ({} of {} hosts fit)", decided.survivors, decided.hosts));
        let message = format!("bound to {node}{}", fit.unwrap_or_default());
        self.events
            .normal(&bound, Reason::Bound.as_str(), "Scheduling", message);
        if is_shelved_away(instance) {
            // What was said of it stands until its agent says that it has it: see `crate::instance`.
            return;
        }
        // From here on the node's agent is the one writer of the status.
        if let Err(error) = self.writer.apply_status(&bound, &json!({})).await {
            tracing::warn!(
                namespace,
                name,
                error = chain(&error),
                "handing the status over to the agent"
            );
        }
    }

    async fn tell(&self, instance: &Instance, explanation: &Explanation) {
        let (namespace, name) = (instance.namespace().unwrap_or_default(), instance.name_any());
        let mut unbound = None;
        if instance.spec.node_name.is_some() {
            match bind::unbind(&self.client, instance).await {
                Ok(now) => unbound = Some(now),
                Err(error) => {
                    tracing::warn!(namespace, name, error = chain(&error), "will try again");
                    self.scheduler.retry(instance);
                    return;
                }
            }
        }
        let instance = unbound.as_ref().unwrap_or(instance);
        if explanation.is_told(instance) {
            return;
        }
        let status = explanation.status(instance, self.clock.now());
        match self.writer.apply_status(instance, &status).await {
            Ok(Some(_)) => {
                let (reason, message) = (explanation.reason.as_str(), explanation.message.clone());
                tracing::info!(
                    kind = "Instance",
                    namespace,
                    name,
                    reason,
                    message,
                    "waiting for a host"
                );
                self.events.warning(instance, reason, "Scheduling", message);
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(
                    namespace,
                    name,
                    error = chain(&error),
                    "telling why it waits, will try again"
                );
                self.scheduler.retry(instance);
            }
        }
    }
}

/// Whether it is shelved, and is to stay so: it needs no host.
pub(super) fn stays_away(instance: &Instance) -> bool {
    stays_shelved(instance) && is_shelved_away(instance)
}
