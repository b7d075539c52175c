//! Routers: gives them their addresses, and says what became of them. Writing their rows is [`crate::ovn`]'s.

use std::{future::Future, sync::Arc};

use tokio_util::sync::CancellationToken;
use virga_core::{
    network::{self, Need, Purpose, Segment, ValidNetwork},
    protection::Protection,
    router,
};
use virga_crds::{Router, RouterStatus};

use crate::{
    Context,
    addressed::{Addressed, Known},
    network::Leases,
    ovn::Reports,
    stores::{Stores, Watches},
};

/// The kind's loop.
pub fn controller(
    context: Arc<Context>,
    watches: &Watches,
    leases: Leases,
    reports: Arc<Reports>,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let written = reports.routers.touched();
    let kind = Addressed {
        name: "router",
        purpose: Purpose::Router,
        needs,
        plan,
        context,
        leases,
        reports,
    };
    kind.controller(watches, &watches.routers, written, stop)
}

fn needs(stores: &Stores, router: &Router) -> Vec<Need> {
    let mut needs = router::needs(router);
    needs.retain(|need| !is_gateway(stores, need));
    needs
}

/// Whether an address that is asked for is the Router's by right: a gateway in a Network without a machine that has it.
fn is_gateway(stores: &Stores, need: &Need) -> bool {
    let network = stores.network(&need.namespace, &need.network);
    let valid = network.and_then(|network| network::validate(&network.spec).ok());
    let overlay = valid.filter(|valid| valid.segment == Segment::Overlay);
    let is_one = |valid: ValidNetwork| valid.subnets.iter().any(|subnet| subnet.gateway == need.address);
    need.address.is_some() && overlay.is_some_and(is_one)
}

fn plan(router: &Router, known: &Known<'_>) -> (Protection, RouterStatus) {
    let status = router.status.as_ref();
    let said = status.map(|status| (status.observed_generation, status.conditions.as_slice()));
    let reports = known.reports;
    let carried = reports.routers.of(&router.metadata, said, reports.down());
    router::plan(router, known.backend, known.obstacle, &carried, known.now)
}

#[cfg(test)]
mod tests;
