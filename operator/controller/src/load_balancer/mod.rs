//! LoadBalancers: gives each its addresses, and says what became of it and its members. Writing their rows is
//! [`crate::ovn`]'s.

mod addresses;

use std::{future::Future, sync::Arc, time::Duration};

use kube::{ResourceExt as _, runtime::Controller};
use tokio_util::sync::CancellationToken;
use virga_core::{load_balancer, network::Backend};
use virga_crds::{LoadBalancer, Port, finalizers};
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

struct LoadBalancers {
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
        let (_, holder) = load_balancer::role(&port)?;
        Some(object_ref(Some(&holder.namespace), &holder.name))
    };
    let of_network = naming_network(context.stores.load_balancers.clone());
    let controller = Controller::for_shared_stream(watches.load_balancers.applied(), watches.load_balancers.store())
        .watches_shared_stream(watches.ports.touched(), of_port)
        .watches_shared_stream(watches.networks.touched(), of_network)
        .reconcile_on(reports.balancers.touched());
    let metrics = context.metrics.clone();
    let addresses = Addresses::new(context.clone(), uses, ipam);
    let kind = LoadBalancers {
        context,
        addresses,
        reports,
    };
    reconcile::run(kind, controller, Settings::default(), metrics, stop)
}

impl Reconcile for LoadBalancers {
    type Kind = LoadBalancer;
    type Error = apply::Error;

    fn name(&self) -> &'static str {
        "loadbalancer"
    }

    async fn reconcile(&self, live: Arc<LoadBalancer>) -> Result<Done, apply::Error> {
        let backend = self.context.carrier.backend;
        let deleting = live.metadata.deletion_timestamp.is_some();
        let held = live.finalizers().iter().any(|name| name == finalizers::CONTROLLER);
        // First the finalizer: nothing else takes the addresses away again.
        let (made, obstacle) = match (backend, deleting, held) {
            (_, true, true) => (self.addresses.release(&live).await?, None),
            (Backend::Ovn { .. }, false, true) => self.addresses.ensure(&live).await?,
            _ => (false, None),
        };
        let balancers = &self.reports.balancers;
        let carried = balancers.of(&live, self.reports.down());
        let health = |check: &load_balancer::Check| balancers.health(check);
        let now = self.context.clock.now();
        let (protection, status) = load_balancer::plan(&live, backend, obstacle.as_ref(), &carried, health, now);
        let done = protect::settle(&self.context.writer, live.as_ref(), &protection, &status).await?;
        let done = if made { Done::changed() } else { done };
        Ok(if obstacle.is_some() { done.again_in(AGAIN) } else { done })
    }
}

#[cfg(test)]
mod tests;
