//! Routers: gives them their addresses, and says what became of them. Writing their rows is [`crate::ovn`]'s.

mod addresses;

use std::{future::Future, sync::Arc, time::Duration};

use kube::runtime::Controller;
use tokio_util::sync::CancellationToken;
use virga_core::{network::Backend, router};
use virga_crds::{Port, Router};
use virga_runtime::{
    apply,
    reconcile::{self, Done, Reconcile, Settings, object_ref},
};

use self::addresses::Addresses;
use crate::{
    Context,
    network::Ipam,
    ovn::Reports,
    protect,
    stores::Watches,
    uses::{UseIndex, naming_network},
};

/// How soon to try again what no watch tells of: an address that is given back.
const AGAIN: Duration = Duration::from_secs(2);

struct Routers {
    context: Arc<Context>,
    addresses: Addresses,
    reports: Arc<Reports>,
}

/// The kind's loop.
pub fn controller(
    context: Arc<Context>,
    watches: &Watches,
    uses: Arc<UseIndex>,
    ipam: Arc<Ipam>,
    reports: Arc<Reports>,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let of_port = |port: Arc<Port>| {
        let holder = port.spec.router.as_ref()?;
        Some(object_ref(Some(&holder.namespace), &holder.name))
    };
    let on_network = naming_network(context.stores.routers.clone());
    let controller = Controller::for_shared_stream(watches.routers.applied(), watches.routers.store())
        .watches_shared_stream(watches.ports.touched(), of_port)
        .watches_shared_stream(watches.networks.touched(), on_network)
        .reconcile_on(reports.routers());
    let metrics = context.metrics.clone();
    let addresses = Addresses::new(context.clone(), uses, ipam);
    reconcile::run(
        Routers {
            context,
            addresses,
            reports,
        },
        controller,
        Settings::default(),
        metrics,
        stop,
    )
}

impl Reconcile for Routers {
    type Kind = Router;
    type Error = apply::Error;

    fn name(&self) -> &'static str {
        "router"
    }

    async fn reconcile(&self, live: Arc<Router>) -> Result<Done, apply::Error> {
        let backend = self.context.carrier.backend;
        let deleting = live.metadata.deletion_timestamp.is_some();
        let held = live
            .metadata
            .finalizers
            .iter()
            .flatten()
            .any(|name| name == virga_crds::finalizers::CONTROLLER);
        // First the finalizer: nothing else takes the addresses away again.
        let (made, obstacle) = match (backend, deleting, held) {
            (_, true, true) => (self.addresses.release(&live).await?, None),
            (Backend::Ovn { .. }, false, true) => self.addresses.ensure(&live).await?,
            _ => (false, None),
        };
        let carried = self.reports.router(&live);
        let now = self.context.clock.now();
        let (protection, status) = router::plan(&live, backend, obstacle.as_ref(), &carried, now);
        let done = protect::settle(&self.context.writer, live.as_ref(), &protection, &status).await?;
        let done = if made { Done::changed() } else { done };
        Ok(if obstacle.is_some() { done.again_in(AGAIN) } else { done })
    }
}

#[cfg(test)]
mod tests;
