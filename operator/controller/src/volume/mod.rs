//! Volumes: binds each to the node of its first Instance. From then on that node's agent takes care of it.

use std::{future::Future, sync::Arc, time::Duration};

use kube::{ResourceExt as _, runtime::Controller};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use virga_core::{
    hypervisor::{self, Part},
    uses::TargetKind,
    volume::{node_for, waiting_status},
};
use virga_crds::{Volume, finalizers, managers};
use virga_runtime::{
    apply::{self, Writer},
    reconcile::{self, Done, Reconcile, Settings},
};

use crate::{
    Context,
    hypervisor::{Lost, is_decommissioned},
    stores::Watches,
    uses::UseIndex,
};

/// How soon to look again at one whose agent has spoken though its node counts as lost.
const AGAIN: Duration = Duration::from_secs(5);

struct Volumes {
    context: Arc<Context>,
    uses: Arc<UseIndex>,
    lost: Arc<Lost>,
    binder: Writer,
}

/// The kind's loop.
pub fn controller(
    context: Arc<Context>,
    watches: &Watches,
    uses: Arc<UseIndex>,
    lost: Arc<Lost>,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let controller = Controller::for_shared_stream(watches.volumes.applied(), watches.volumes.store())
        .reconcile_on(uses.touched(TargetKind::Volume))
        .reconcile_on(lost.volumes());
    let metrics = context.metrics.clone();
    let binder = Writer::new(context.client.clone(), managers::SCHEDULER);
    reconcile::run(
        Volumes {
            context,
            uses,
            lost,
            binder,
        },
        controller,
        Settings::default(),
        metrics,
        stop,
    )
}

impl Reconcile for Volumes {
    type Kind = Volume;
    type Error = apply::Error;

    fn name(&self) -> &'static str {
        "volume"
    }

    async fn reconcile(&self, volume: Arc<Volume>) -> Result<Done, apply::Error> {
        let deleting = volume.metadata.deletion_timestamp.is_some();
        let now = self.context.clock.now();
        let Some(node) = &volume.spec.node_name else {
            if deleting {
                return self.release(&volume).await;
            }
            if let Some(node) = self.node_for(&volume).await {
                return self.bind(&volume, &node).await;
            }
            let status = waiting_status(&volume, now);
            let written = self.context.writer.apply_status(volume.as_ref(), &status).await?;
            return Ok(Done::changed_if(written.is_some()));
        };
        if deleting && is_decommissioned(node, &self.context) {
            return self.release(&volume).await;
        }
        let lost = self.lost.is_lost(node);
        match hypervisor::volume_status(&volume, node, lost, now) {
            Part::Say(status) => {
                let written = self.context.writer.apply_status(volume.as_ref(), &status).await?;
                Ok(Done::changed_if(written.is_some()))
            }
            Part::Leave if lost => Ok(Done::waiting().again_in(AGAIN)),
            Part::Leave => Ok(Done::waiting()),
        }
    }
}

impl Volumes {
    async fn node_for(&self, volume: &Volume) -> Option<String> {
        let users = self.uses.of(TargetKind::Volume, volume).await;
        let instances: Vec<_> = users
            .iter()
            .filter_map(|user| self.context.stores.instance(&user.namespace, &user.name))
            .collect();
        node_for(instances.iter().map(AsRef::as_ref))
    }

    async fn bind(&self, volume: &Volume, node: &str) -> Result<Done, apply::Error> {
        let fields = json!({"metadata": {"finalizers": [finalizers::AGENT]}, "spec": {"nodeName": node}});
        let namespace = volume.namespace();
        let bound = self
            .binder
            .apply_fields(Some(volume), namespace.as_deref(), &volume.name_any(), fields)
            .await?;
        Ok(Done::changed_if(bound.is_some()))
    }

    async fn release(&self, volume: &Volume) -> Result<Done, apply::Error> {
        let released = self.context.writer.remove_finalizer(volume, finalizers::AGENT).await?;
        Ok(Done::changed_if(released.is_some()))
    }
}

#[cfg(test)]
mod tests;
