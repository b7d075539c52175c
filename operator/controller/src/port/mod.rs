//! Ports: says what OVN says of each, and which of their security groups are missing. Making them is [`crate::instance`]'s.

use std::{future::Future, sync::Arc};

use kube::runtime::Controller;
use tokio_util::sync::CancellationToken;
use virga_core::network::port_status;
use virga_crds::Port;
use virga_runtime::{
    apply,
    reconcile::{self, Done, Reconcile, Settings},
};

use crate::{Context, ovn::Reports, security_group, stores::Watches};

struct Ports {
    context: Arc<Context>,
    reports: Arc<Reports>,
}

/// The kind's loop.
pub fn controller(
    context: Arc<Context>,
    watches: &Watches,
    reports: Arc<Reports>,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let controller =
        Controller::for_shared_stream(watches.ports.applied(), watches.ports.store()).reconcile_on(reports.ports());
    let metrics = context.metrics.clone();
    reconcile::run(
        Ports { context, reports },
        controller,
        Settings::default(),
        metrics,
        stop,
    )
}

impl Reconcile for Ports {
    type Kind = Port;
    type Error = apply::Error;

    fn name(&self) -> &'static str {
        "port"
    }

    async fn reconcile(&self, port: Arc<Port>) -> Result<Done, apply::Error> {
        let missing = security_group::missing(&self.context.stores, &port);
        let waits = missing.is_some();
        let seen = missing.or_else(|| self.reports.port(&port));
        let now = self.context.clock.now();
        let status = seen.and_then(|seen| port_status(&port, &seen, now));
        let Some(status) = status.filter(|_| port.metadata.deletion_timestamp.is_none()) else {
            return Ok(Done::unchanged());
        };
        let written = self.context.writer.apply_status(port.as_ref(), &status).await?;
        let done = Done::changed_if(written.is_some());
        // A Port does not hear of groups that come.
        Ok(if waits {
            done.again_in(security_group::AGAIN)
        } else {
            done
        })
    }
}
