//! Hypervisors: notices those whose agent is not heard of, and wakes what runs there; empties those in maintenance.

mod drain;
mod lost;

use std::{future::Future, sync::Arc, time::Duration};

use kube::{ResourceExt as _, runtime::Controller};
use tokio_util::sync::CancellationToken;
use virga_core::{
    hypervisor::{self, HEARTBEAT_LIMIT, Part},
    uses::TargetKind,
};
use virga_crds::Hypervisor;
use virga_runtime::{
    apply,
    reconcile::{self, Done, Reconcile, Settings},
};

pub use lost::{Lost, is_decommissioned};

use crate::{Context, stores::Watches, uses::UseIndex};

struct Hypervisors {
    context: Arc<Context>,
    uses: Arc<UseIndex>,
    lost: Arc<Lost>,
}

/// The kind's loop.
pub fn controller(
    context: Arc<Context>,
    watches: &Watches,
    uses: Arc<UseIndex>,
    lost: Arc<Lost>,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let controller = Controller::for_shared_stream(watches.hypervisors.applied(), watches.hypervisors.store());
    let metrics = context.metrics.clone();
    reconcile::run(
        Hypervisors { context, uses, lost },
        controller,
        Settings::default(),
        metrics,
        stop,
    )
}

impl Reconcile for Hypervisors {
    type Kind = Hypervisor;
    type Error = apply::Error;

    fn name(&self) -> &'static str {
        "hypervisor"
    }

    async fn reconcile(&self, host: Arc<Hypervisor>) -> Result<Done, apply::Error> {
        let name = host.name_any();
        // A node that this process never heard of is given its time from when it was first looked for.
        let silence = self.lost.silence(
            &name,
            self.context.scheduler.silence(&name),
            self.context.clock.instant(),
        );
        let lost = silence >= HEARTBEAT_LIMIT;
        let written = match hypervisor::status(&host, lost, self.context.clock.now()) {
            Part::Say(status) => self.context.writer.apply_status(host.as_ref(), &status).await?,
            Part::Leave => None,
        };
        if self.lost.set(&name, lost) {
            self.lost.wake(&self.uses.of(TargetKind::Node, host.as_ref()).await);
            if lost {
                tracing::info!(node = name, "lost: its agent has not renewed its Lease");
            } else {
                tracing::info!(node = name, "its agent is heard of again");
            }
        }
        let drained = drain::drain(&self.context, &self.uses, &host, lost).await?;
        // A lost one is looked at often enough to be welcomed back soon, and one in maintenance for what has left it.
        let changed = written.is_some() || drained == Some(true);
        Ok(Done::changed_if(changed).again_in(if lost || drained.is_some() {
            Duration::from_secs(5)
        } else {
            HEARTBEAT_LIMIT.saturating_sub(silence) + Duration::from_millis(100)
        }))
    }
}

#[cfg(test)]
mod tests;
