//! Server groups: names their members, and keeps those that have any.

use std::{future::Future, sync::Arc, time::Duration};

use kube::{ResourceExt as _, runtime::Controller};
use tokio_util::sync::CancellationToken;
use virga_core::{
    server_group,
    uses::{Target, TargetKind},
};
use virga_crds::ServerGroup;
use virga_runtime::{
    apply,
    reconcile::{self, Done, Reconcile, Settings},
};

use crate::{Context, protect, stores::Watches, uses::UseIndex};

struct ServerGroups {
    context: Arc<Context>,
    uses: Arc<UseIndex>,
}

/// The kind's loop.
pub fn controller(
    context: Arc<Context>,
    watches: &Watches,
    uses: Arc<UseIndex>,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let controller = Controller::for_shared_stream(watches.server_groups.applied(), watches.server_groups.store())
        .reconcile_on(uses.touched(TargetKind::ServerGroup));
    let metrics = context.metrics.clone();
    let settings = Settings {
        debounce: Duration::from_secs(1),
        ..Settings::default()
    };
    reconcile::run(ServerGroups { context, uses }, controller, settings, metrics, stop)
}

impl Reconcile for ServerGroups {
    type Kind = ServerGroup;
    type Error = apply::Error;

    fn name(&self) -> &'static str {
        "servergroup"
    }

    async fn reconcile(&self, group: Arc<ServerGroup>) -> Result<Done, apply::Error> {
        let namespace = group.namespace().unwrap_or_default();
        let target = Target::within(TargetKind::ServerGroup, &namespace, &group.name_any());
        let members = self.uses.of(&target).await;
        let (protection, status) = server_group::plan(&group, members.iter(), self.context.clock.now());
        protect::settle(&self.context.writer, group.as_ref(), &protection, &status).await
    }
}

#[cfg(test)]
mod tests;
