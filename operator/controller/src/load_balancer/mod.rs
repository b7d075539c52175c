//! LoadBalancers: gives each its addresses, and says what became of it and its members. Writing their rows is
//! [`crate::ovn`]'s.

use std::{future::Future, sync::Arc};

use tokio_util::sync::CancellationToken;
use virga_core::{load_balancer, network::Purpose, protection::Protection};
use virga_crds::{LoadBalancer, LoadBalancerStatus};

use crate::{
    Context,
    addressed::{Addressed, Known},
    network::Leases,
    ovn::Reports,
    stores::Watches,
};

/// The kind's loop.
pub fn controller(
    context: Arc<Context>,
    watches: &Watches,
    leases: Leases,
    reports: Arc<Reports>,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let written = reports.balancers.written.touched();
    let kind = Addressed {
        name: "loadbalancer",
        purpose: Purpose::Vip,
        needs: |_, balancer| load_balancer::needs(balancer),
        plan,
        context,
        leases,
        reports,
    };
    kind.controller(watches, &watches.load_balancers, written, stop)
}

fn plan(balancer: &LoadBalancer, known: &Known<'_>) -> (Protection, LoadBalancerStatus) {
    let status = balancer.status.as_ref();
    let said = status.map(|status| (status.observed_generation, status.conditions.as_slice()));
    let balancers = &known.reports.balancers;
    let carried = balancers.written.of(&balancer.metadata, said, known.reports.down());
    let health = |check: &load_balancer::Check| balancers.health(check);
    load_balancer::plan(balancer, known.backend, known.obstacle, &carried, health, known.now)
}

#[cfg(test)]
mod tests;
