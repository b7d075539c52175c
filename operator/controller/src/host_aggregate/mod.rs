//! Host aggregates: counts their hosts, and tells of hosts that would be in two zones.

mod triggers;

use std::{future::Future, sync::Arc};

use kube::runtime::Controller;
use tokio_util::sync::CancellationToken;
use virga_core::host_aggregate::{self, Aggregates};
use virga_crds::HostAggregate;
use virga_runtime::{
    apply,
    reconcile::{self, Done, Reconcile},
};

use crate::{Context, protect, stores::Watches};

struct HostAggregates {
    context: Arc<Context>,
}

/// The kind's loop.
pub fn controller(
    context: Arc<Context>,
    watches: &Watches,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let controller = Controller::for_shared_stream(watches.host_aggregates.applied(), watches.host_aggregates.store())
        // Which zone holds for a host depends on all of them.
        .reconcile_all_on(triggers::triggers(watches));
    let metrics = context.metrics.clone();
    reconcile::run(
        HostAggregates { context },
        controller,
        protect::counting(),
        metrics,
        stop,
    )
}

impl Reconcile for HostAggregates {
    type Kind = HostAggregate;
    type Error = apply::Error;

    fn name(&self) -> &'static str {
        "hostaggregate"
    }

    async fn reconcile(&self, live: Arc<HostAggregate>) -> Result<Done, apply::Error> {
        let stores = &self.context.stores;
        let all = Aggregates::new(stores.host_aggregates.state());
        let status = host_aggregate::plan(&live, &stores.hypervisors.state(), &all, self.context.clock.now());
        let written = self.context.writer.apply_status(live.as_ref(), &status).await?;
        Ok(Done::changed_if(written.is_some()))
    }
}

#[cfg(test)]
mod tests;
