//! Instances: the Ports of those that are placed, and what is to be said of those whose node is lost. Placing them is
//! [`crate::scheduling`]'s, running them the agents'.
//!
//! Once an Instance is bound, its status is its agent's, with two exceptions that this controller owns while they hold:
//! the condition `NetworkReady=False` while the Ports can't be made, which no agent could know, and `Unknown` while the
//! node is lost.

pub mod backups;
pub mod kept_port;
mod moving;
mod ports;
pub mod shelve;
mod trunk;

use std::{future::Future, sync::Arc, time::Duration};

use kube::{ResourceExt as _, runtime::Controller};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use virga_core::{
    carried::Obstacle,
    condition::{Conditions, is_true},
    hypervisor::{self, Part},
    instance::{is_shelved_away, reclaimed_in},
};
use virga_crds::{
    Instance, ResizeVerdict,
    conditions::{Reason, types},
    finalizers,
};
use virga_runtime::{
    apply,
    class::chain,
    reconcile::{self, Done, Reconcile, Settings, object_ref},
};

use self::{moving::Moving, ports::Ports};
use crate::{
    Context,
    hypervisor::{Lost, is_decommissioned},
    network::Ipam,
    scheduling::resizes,
    stores::Watches,
    uses::UseIndex,
};

/// How soon to try again what no watch tells of: an address that is given back.
const AGAIN: Duration = Duration::from_secs(2);
/// How long to wait for the end of a soft-deleted Instance's window at a time: clocks are set.
const LOOK_AGAIN: Duration = Duration::from_hours(1);

/// How soon to look again whether a host has room for a size that it had none for.
const RESIZE_AGAIN: Duration = Duration::from_secs(10);

struct Instances {
    context: Arc<Context>,
    lost: Arc<Lost>,
    ports: Ports,
}

/// The kind's loop.
pub fn controller(
    context: Arc<Context>,
    watches: &Watches,
    uses: Arc<UseIndex>,
    lost: Arc<Lost>,
    ipam: Arc<Ipam>,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let of_port = |port: Arc<virga_crds::Port>| {
        let is_plug = !port.spec.instance.is_empty();
        is_plug.then(|| object_ref(port.namespace().as_deref(), &port.spec.instance))
    };
    let controller = Controller::for_shared_stream(watches.instances.applied(), watches.instances.store())
        .watches_shared_stream(watches.ports.touched(), of_port)
        .reconcile_on(lost.instances());
    let metrics = context.metrics.clone();
    let ports = Ports::new(context.clone(), uses, ipam);
    reconcile::run(
        Instances { context, lost, ports },
        controller,
        Settings::default(),
        metrics,
        stop,
    )
}

impl Reconcile for Instances {
    type Kind = Instance;
    type Error = apply::Error;

    fn name(&self) -> &'static str {
        "instance"
    }

    async fn reconcile(&self, instance: Arc<Instance>) -> Result<Done, apply::Error> {
        let left = reclaimed_in(&instance, self.context.clock.now());
        let left = left.filter(|_| instance.metadata.deletion_timestamp.is_none());
        if left == Some(Duration::ZERO) {
            return self.reclaim(&instance).await;
        }
        let done = self.keep(&instance).await?;
        Ok(left.map_or(done, |left| done.again_in(left.min(LOOK_AGAIN))))
    }
}

impl Instances {
    /// The window of a soft-deleted Instance is over. One that was changed since it was looked at may have been restored.
    async fn reclaim(&self, instance: &Instance) -> Result<Done, apply::Error> {
        if !self.context.writer.delete_unchanged(instance).await? {
            return Ok(Done::waiting().again_in(AGAIN));
        }
        let message = "the window of the soft-deleted Instance is over: it is deleted";
        let reason = Reason::Reclaimed.as_str();
        self.context.events.normal(instance, reason, "Reclaiming", message);
        Ok(Done::changed())
    }

    async fn keep(&self, instance: &Instance) -> Result<Done, apply::Error> {
        let deleting = instance.metadata.deletion_timestamp.is_some();
        let Some(node) = &instance.spec.node_name else {
            if !deleting && is_shelved_away(instance) {
                // Its Ports keep their addresses, and are on no node either.
                let released = self.ports.release(instance).await?;
                let (moved, _) = self.ports.ensure(instance).await?;
                return Ok(Done::changed_if(released || moved));
            }
            // It was never on a node, or has left it: nothing of it is anywhere.
            let released = deleting && self.release(instance).await?;
            return Ok(Done::changed_if(released));
        };
        if deleting && is_decommissioned(node, &self.context) && self.release(instance).await? {
            return Ok(Done::changed());
        }
        let (made, obstacle) = if deleting {
            (false, None)
        } else {
            let released = self.ports.release(instance).await?;
            let (made, obstacle) = self.ports.ensure(instance).await?;
            (made || released, obstacle)
        };
        let Part::Say(status) = self.status(instance, node, obstacle.as_ref()) else {
            let done = if made { Done::changed() } else { Done::waiting() };
            return Ok(done.again_in(AGAIN));
        };
        let asked = self.answer_resize(instance).await?;
        let waits = obstacle.is_some() || status != json!({});
        let written = self.context.writer.apply_status(instance, &status).await?.is_some();
        if let Some(obstacle) = obstacle.filter(|_| written) {
            let events = &self.context.events;
            events.warning(instance, obstacle.reason.as_str(), "Plugging", obstacle.message);
        }
        let done = Done::changed_if(made || written);
        Ok(match asked {
            _ if waits => done.again_in(AGAIN),
            Some(again) => done.again_in(again),
            None => done,
        })
    }

    /// Tells an Instance that is to be resized whether its host has room, and has it moved if another one has. Returns when to
    /// look again.
    async fn answer_resize(&self, instance: &Instance) -> Result<Option<Duration>, apply::Error> {
        let answer = self.context.scheduler.resize(instance);
        let waits = matches!(answer, resizes::Answer::Later | resizes::Answer::Refused { .. });
        moving::take_back(&self.context, instance, waits).await?;
        let (verdict, again) = match answer {
            resizes::Answer::Nothing => return Ok(None),
            resizes::Answer::Later => return Ok(Some(RESIZE_AGAIN)),
            resizes::Answer::Granted(verdict) => (verdict, AGAIN),
            resizes::Answer::Refused { verdict, elsewhere } => {
                let verdict = match moving::moving(&self.context, instance, elsewhere).await? {
                    Moving::By(name) => ResizeVerdict {
                        migration: Some(name),
                        ..verdict
                    },
                    Moving::Cancelled(name) => ResizeVerdict {
                        refused: verdict.refused.map(|refused| {
                            format!(
                                "{refused}; the Migration {name} that was to move it was deleted, and no other is made \
                                 until spec changes"
                            )
                        }),
                        migration: Some(name),
                        cancelled: true,
                        ..verdict
                    },
                    Moving::Not(why) => ResizeVerdict {
                        refused: verdict.refused.map(|refused| format!("{refused}; {why}")),
                        ..verdict
                    },
                };
                (verdict, RESIZE_AGAIN)
            }
        };
        if resizes::is_told(instance, &verdict) {
            return Ok(Some(again));
        }
        let (namespace, name) = (instance.namespace(), instance.name_any());
        let ResizeVerdict {
            flavor, host, refused, ..
        } = &verdict;
        match resizes::say(&self.context.client, instance, &verdict).await {
            Ok(_) => tracing::info!(
                kind = "Instance",
                namespace,
                name,
                host,
                flavor,
                refused,
                "answered a resize"
            ),
            // It has changed meanwhile, or is seen again soon.
            Err(error) => tracing::debug!(
                namespace,
                name,
                error = chain(&error),
                "answering a resize, will try again"
            ),
        }
        Ok(Some(again))
    }

    /// The controller's own part of a bound Instance's status.
    fn status(&self, instance: &Instance, node: &str, obstacle: Option<&Obstacle>) -> Part {
        let now = self.context.clock.now();
        let part = hypervisor::instance_status(instance, node, self.lost.is_lost(node), now);
        let Some(obstacle) = obstacle.filter(|_| part == Part::Say(json!({}))) else {
            return part;
        };
        let old = instance
            .status
            .as_ref()
            .map(|status| status.conditions.as_slice())
            .unwrap_or_default();
        if is_true(old, types::NETWORK_READY) {
            // It runs, plugged in as it was, and its agent says so: two who contradict each other would never end.
            return part;
        }
        let mut conditions = Conditions::new(old, instance.metadata.generation, now);
        conditions.set(types::NETWORK_READY, false, obstacle.reason, &obstacle.message);
        Part::Say(json!({ "conditions": conditions.into_vec() }))
    }

    async fn release(&self, instance: &Instance) -> Result<bool, apply::Error> {
        Ok(self
            .context
            .writer
            .remove_finalizer(instance, finalizers::AGENT)
            .await?
            .is_some())
    }
}

#[cfg(test)]
mod tests;
