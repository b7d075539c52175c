//! FloatingIPs: gives each its address, and says where it leads. Writing their rows is [`crate::ovn`]'s.

use std::{future::Future, sync::Arc, time::Duration};

use kube::{
    ResourceExt as _,
    runtime::{Controller, reflector::ObjectRef},
};
use tokio_util::sync::CancellationToken;
use virga_core::{floating_ip, network::Backend, router::Obstacle};
use virga_crds::{FloatingIP, Port, conditions::Reason, finalizers, labels};
use virga_runtime::{
    apply,
    reconcile::{self, Done, Reconcile, Settings, object_ref},
};

use crate::{
    Context,
    network::{Holder, Ipam, Leases},
    ovn::Reports,
    protect,
    stores::Watches,
    uses::{UseIndex, naming_network},
};

/// How soon to try again what no watch tells of: an address that is given back.
const AGAIN: Duration = Duration::from_secs(2);

struct FloatingIps {
    context: Arc<Context>,
    leases: Leases,
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
        let holder = port.spec.floating_ip.as_ref()?;
        Some(object_ref(Some(&holder.namespace), &holder.name))
    };
    let of_network = naming_network(context.stores.floating_ips.clone());
    let controller = Controller::for_shared_stream(watches.floating_ips.applied(), watches.floating_ips.store())
        .watches_shared_stream(watches.ports.touched(), of_port)
        .watches_shared_stream(watches.networks.touched(), of_network)
        .reconcile_on(reports.floating_ips());
    let metrics = context.metrics.clone();
    let leases = Leases::new(context.clone(), uses, ipam);
    let kind = FloatingIps {
        context,
        leases,
        reports,
    };
    reconcile::run(kind, controller, Settings::default(), metrics, stop)
}

impl Reconcile for FloatingIps {
    type Kind = FloatingIP;
    type Error = apply::Error;

    fn name(&self) -> &'static str {
        "floatingip"
    }

    async fn reconcile(&self, live: Arc<FloatingIP>) -> Result<Done, apply::Error> {
        let backend = self.context.carrier.backend;
        let deleting = live.metadata.deletion_timestamp.is_some();
        let held = live.finalizers().iter().any(|name| name == finalizers::CONTROLLER);
        // First the finalizer: nothing else takes the address away again.
        let (made, obstacle) = match (backend, deleting, held) {
            (_, true, true) => (self.release(&live).await?, None),
            (Backend::Ovn { .. }, false, true) => match self.ensure(&live).await? {
                Ok(made) => (made, None),
                Err(obstacle) => (false, Some(obstacle)),
            },
            _ => (false, None),
        };
        let carried = self.reports.floating_ip(&live);
        let now = self.context.clock.now();
        let (protection, status) = floating_ip::plan(&live, backend, obstacle.as_ref(), &carried, now);
        let done = protect::settle(&self.context.writer, live.as_ref(), &protection, &status).await?;
        let done = if made { Done::changed() } else { done };
        Ok(if obstacle.is_some() { done.again_in(AGAIN) } else { done })
    }
}

impl FloatingIps {
    /// Takes the address, once.
    async fn ensure(&self, floating: &FloatingIP) -> Result<Result<bool, Obstacle>, apply::Error> {
        let need = floating_ip::need(floating);
        let name = floating_ip::port(floating, &need, String::new(), &[]).name_any();
        let ports = &self.context.stores.ports;
        if let Some(port) = ports.get(&ObjectRef::<Port>::new(&name).within(&need.namespace)) {
            let own = floating_ip::holds(floating, &port) && port.metadata.deletion_timestamp.is_none();
            return Ok(own.then_some(false).ok_or_else(|| Obstacle {
                reason: Reason::WaitingForAddress,
                message: format!("spec: Port {}/{name} is there still", need.namespace),
            }));
        }
        let holder = Holder::FloatingIP {
            namespace: floating.namespace().unwrap_or_default(),
            name: floating.name_any(),
        };
        let uid = floating.uid().unwrap_or_default();
        // What was told once is for life, even if its record was taken away by hand.
        let told = floating.status.as_ref().and_then(|status| status.address.as_deref());
        let mut need = need;
        need.address = need.address.or_else(|| told?.parse().ok());
        let given = match self.leases.take(&need, &holder, &uid, &name).await {
            Ok(given) => given,
            Err(obstacle) => return Ok(Err(obstacle)),
        };
        let port = floating_ip::port(floating, &need, given.mac, &given.addresses);
        Ok(Ok(self.context.writer.apply(None, &port).await?.is_some()))
    }

    /// Gives it back. The API server is asked what there is: the Port may be too new for the watch.
    async fn release(&self, floating: &FloatingIP) -> Result<bool, apply::Error> {
        let uid = floating.uid().unwrap_or_default();
        let found: Vec<Port> = self.context.writer.labelled(labels::FLOATING_IP, &uid).await?;
        let mut released = false;
        for port in found.iter().filter(|port| floating_ip::holds(floating, port)) {
            self.leases.give_back(port).await?;
            released = true;
        }
        Ok(released)
    }
}

#[cfg(test)]
mod tests;
