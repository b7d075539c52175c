//! Networks: says whether each makes sense and how much of it is used, and keeps those that are in use.

mod ipam;
mod leases;
mod shared;

use std::{future::Future, sync::Arc};

use kube::runtime::Controller;
use tokio_util::sync::CancellationToken;
use virga_core::{carried::Carried, network, uses::TargetKind};
use virga_crds::Network;
use virga_runtime::{
    apply,
    reconcile::{self, Done, Reconcile},
};

pub use ipam::{Claim, Given, Holder, Ipam, Untaken, Use, for_namespace};
pub use leases::Leases;
pub use shared::{named, of_interface};

use crate::{Context, ovn::Reports, protect, stores::Watches, uses::UseIndex};

struct Networks {
    context: Arc<Context>,
    uses: Arc<UseIndex>,
    ipam: Arc<Ipam>,
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
    let controller = Controller::for_shared_stream(watches.networks.applied(), watches.networks.store())
        .reconcile_on(uses.touched(TargetKind::Network))
        .reconcile_on(reports.networks.touched());
    let metrics = context.metrics.clone();
    reconcile::run(
        Networks {
            context,
            uses,
            ipam,
            reports,
        },
        controller,
        protect::counting(),
        metrics,
        stop,
    )
}

impl Reconcile for Networks {
    type Kind = Network;
    type Error = apply::Error;

    fn name(&self) -> &'static str {
        "network"
    }

    async fn reconcile(&self, live: Arc<Network>) -> Result<Done, apply::Error> {
        let users = self.uses.of(TargetKind::Network, live.as_ref()).await;
        let carrier = &self.context.carrier;
        let valid = network::validate(&live.spec).and_then(|valid| {
            carrier.backend.check(&valid)?;
            Ok(valid)
        });
        let written = match carrier.northbound {
            Some(_) => {
                let status = live.status.as_ref();
                let said = status.map(|status| (status.observed_generation, status.conditions.as_slice()));
                self.reports.networks.of(&live.metadata, said, self.reports.down())
            }
            None => Carried::Seen(None),
        };
        let addresses = valid
            .as_ref()
            .ok()
            .map(|valid| self.ipam.refresh(&live, valid, &users, &self.context.stores));
        let now = self.context.clock.now();
        let (backend, users) = (carrier.backend, users.iter());
        let (protection, status) = network::plan(&live, &valid, addresses.as_ref(), backend, &written, users, now);
        protect::settle(&self.context.writer, live.as_ref(), &protection, &status).await
    }
}

#[cfg(test)]
mod tests;
