//! FloatingIPs: gives each its address, and says where it leads. Writing their rows is [`crate::ovn`]'s.

use std::{future::Future, sync::Arc};

use tokio_util::sync::CancellationToken;
use virga_core::{floating_ip, network::Purpose, protection::Protection};
use virga_crds::{FloatingIP, FloatingIPStatus};

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
    let written = reports.floating_ips.touched();
    let kind = Addressed {
        name: "floatingip",
        purpose: Purpose::FloatingIp,
        needs: |_, floating| vec![floating_ip::need(floating)],
        plan,
        context,
        leases,
        reports,
    };
    kind.controller(watches, &watches.floating_ips, written, stop)
}

fn plan(floating: &FloatingIP, known: &Known<'_>) -> (Protection, FloatingIPStatus) {
    let status = floating.status.as_ref();
    let said = status.map(|status| (status.observed_generation, status.conditions.as_slice()));
    let reports = known.reports;
    let carried = reports.floating_ips.of(&floating.metadata, said, reports.down());
    floating_ip::plan(floating, known.backend, known.obstacle, &carried, known.now)
}

#[cfg(test)]
mod tests;
