//! Flavors: counts their Instances, and keeps those that are in use.

use std::{future::Future, sync::Arc, time::Duration};

use kube::{ResourceExt as _, runtime::Controller};
use tokio_util::sync::CancellationToken;
use virga_core::{
    flavor,
    uses::{Target, TargetKind},
};
use virga_crds::Flavor;
use virga_runtime::{
    apply,
    reconcile::{self, Done, Reconcile, Settings},
};

use crate::{Context, protect, stores::Watches, uses::UseIndex};

struct Flavors {
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
    let controller = Controller::for_shared_stream(watches.flavors.applied(), watches.flavors.store())
        .reconcile_on(uses.touched(TargetKind::Flavor));
    let metrics = context.metrics.clone();
    // Counts may lag by a second, so that a burst of Instances costs one write.
    let settings = Settings {
        debounce: Duration::from_secs(1),
        ..Settings::default()
    };
    reconcile::run(Flavors { context, uses }, controller, settings, metrics, stop)
}

impl Reconcile for Flavors {
    type Kind = Flavor;
    type Error = apply::Error;

    fn name(&self) -> &'static str {
        "flavor"
    }

    async fn reconcile(&self, flavor: Arc<Flavor>) -> Result<Done, apply::Error> {
        let users = self.uses.of(&Target::flavor(&flavor.name_any())).await;
        let (protection, status) = flavor::plan(&flavor, users.iter(), self.context.clock.now());
        protect::settle(&self.context.writer, flavor.as_ref(), &protection, &status).await
    }
}

#[cfg(test)]
mod tests;
