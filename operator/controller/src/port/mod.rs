//! Ports: says what OVN says of each, and which of their security groups are missing, and collects those whose holder is
//! gone. Making them is [`crate::instance`]'s; what is done about those that users made is in [`kept`].

mod kept;
mod orphan;

use std::{future::Future, sync::Arc};

use kube::{ResourceExt as _, runtime::Controller};
use tokio_util::sync::CancellationToken;
use virga_core::network::{PortSeen, Purpose, is_users, port_status};
use virga_crds::{FloatingIP, Instance, LoadBalancer, Port, Router};
use virga_runtime::{
    apply,
    reconcile::{self, Done, Reconcile, Settings},
};

use crate::{Context, network::Ipam, ovn::Reports, security_group, stores::Watches, uses::UseIndex};

struct Ports {
    context: Arc<Context>,
    reports: Arc<Reports>,
    ipam: Arc<Ipam>,
    uses: Arc<UseIndex>,
}

/// The kind's loop.
pub fn controller(
    context: Arc<Context>,
    watches: &Watches,
    reports: Arc<Reports>,
    ipam: Arc<Ipam>,
    uses: Arc<UseIndex>,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let (by_router, by_floating, by_balancer) =
        (context.stores.clone(), context.stores.clone(), context.stores.clone());
    let (by_instance, index) = (context.stores.clone(), uses.clone());
    let controller = Controller::for_shared_stream(watches.ports.applied(), watches.ports.store())
        .reconcile_on(reports.ports())
        .watches_shared_stream(watches.routers.touched(), move |router: Arc<Router>| {
            orphan::left_by(&by_router, Purpose::Router, router.as_ref())
        })
        .watches_shared_stream(watches.floating_ips.touched(), move |floating: Arc<FloatingIP>| {
            orphan::left_by(&by_floating, Purpose::FloatingIp, floating.as_ref())
        })
        .watches_shared_stream(watches.load_balancers.touched(), move |balancer: Arc<LoadBalancer>| {
            orphan::left_by(&by_balancer, Purpose::Vip, balancer.as_ref())
        })
        .watches_shared_stream(watches.instances.touched(), move |instance: Arc<Instance>| {
            kept::left_by(&by_instance, &index, &instance)
        });
    let metrics = context.metrics.clone();
    reconcile::run(
        Ports {
            context,
            reports,
            ipam,
            uses,
        },
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
        if is_users(&port.spec) {
            return self.keep(&port).await;
        }
        if self.context.carrier.northbound.is_none() {
            // libvirt's networks say nothing of a Port.
            return Ok(Done::unchanged());
        }
        if port.metadata.deletion_timestamp.is_none() && orphan::is_orphan(&self.context, &port).await? {
            self.context.writer.delete(port.as_ref()).await?;
            self.ipam.forget(&port);
            let (namespace, name) = (port.namespace(), port.name_any());
            tracing::info!(kind = "Port", namespace, name, "its holder is gone: deleted");
            return Ok(Done::changed());
        }
        let held = Purpose::of(&port).is_some();
        let missing = security_group::missing(&self.context.stores, &port).filter(|_| !held);
        let waits = missing.is_some();
        let seen = held.then_some(PortSeen::Held).or(missing);
        let seen = seen.or_else(|| self.reports.port(&port));
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

#[cfg(test)]
mod tests;
