//! How do those that are no Instances get their addresses, and say what became of them? Routers, FloatingIPs and
//! LoadBalancers. Writing their rows is [`crate::ovn`]'s.

use std::{future::Future, sync::Arc, time::Duration};

use futures::Stream;
use jiff::Timestamp;
use kube::{
    ResourceExt as _,
    runtime::{Controller, reflector::ObjectRef},
};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use virga_core::{
    carried::Obstacle,
    network::{Backend, Need, Purpose, is_held_by},
    protection::Protection,
    uses::Names,
};
use virga_crds::{Port, conditions::Reason, finalizers};
use virga_runtime::{
    apply::{self, Object},
    reconcile::{self, Done, Reconcile, Settings, object_ref},
    watch::Watch,
};

use crate::{
    Context,
    network::Leases,
    ovn::Reports,
    protect,
    stores::{Stores, Watches},
    uses::naming_network,
};

/// How soon to try again what no watch tells of: an address that is given back.
const AGAIN: Duration = Duration::from_secs(2);

/// A kind with addresses of its own, of which Ports are the record.
pub struct Addressed<K, S> {
    /// What the loop is called in logs and metrics.
    pub name: &'static str,
    /// What its addresses are for; those of one kind have one label.
    pub purpose: Purpose,
    /// The addresses that one asks for.
    pub needs: fn(&Stores, &K) -> Vec<Need>,
    /// What to do about one, and what to say.
    pub plan: fn(&K, &Known<'_>) -> (Protection, S),
    /// What every loop works with.
    pub context: Arc<Context>,
    /// Who gives addresses out.
    pub leases: Leases,
    /// What was written.
    pub reports: Arc<Reports>,
}

/// What is known of an object besides itself.
pub struct Known<'a> {
    /// What carries the networks.
    pub backend: Backend,
    /// What keeps it from having its addresses.
    pub obstacle: Option<&'a Obstacle>,
    /// What was written.
    pub reports: &'a Reports,
    /// The time.
    pub now: Timestamp,
}

impl<K, S> Addressed<K, S>
where
    K: Object + Names + 'static,
    S: Serialize + Send + Sync + 'static,
{
    /// The kind's loop; `written` has those of which something else was written.
    pub fn controller<W>(
        self,
        watches: &Watches,
        watch: &Watch<K>,
        written: W,
        stop: CancellationToken,
    ) -> impl Future<Output = ()> + Send + use<K, S, W>
    where
        W: Stream<Item = ObjectRef<K>> + Send + 'static,
    {
        let label = self.purpose.label();
        let of_port = move |port: Arc<Port>| {
            let (_, holder) = Purpose::of(&port).filter(|(purpose, _)| purpose.label() == label)?;
            Some(object_ref(Some(&holder.namespace), &holder.name))
        };
        let controller = Controller::for_shared_stream(watch.applied(), watch.store())
            .watches_shared_stream(watches.ports.touched(), of_port)
            .watches_shared_stream(watches.networks.touched(), naming_network(watch.store()))
            .reconcile_on(written);
        let metrics = self.context.metrics.clone();
        reconcile::run(self, controller, Settings::default(), metrics, stop)
    }

    /// Gives back what the spec asks for no more, and takes what is missing. Returns whether anything was written, and the
    /// first thing in the way.
    async fn ensure(&self, holder: &K) -> Result<(bool, Option<Obstacle>), apply::Error> {
        let needs = (self.needs)(&self.context.stores, holder);
        let mut written = false;
        let ports = self.context.stores.ports.state();
        for port in ports.iter().filter(|port| is_held_by(port, holder.meta())) {
            let wanted = needs.iter().any(|need| need.is_met_by(port));
            if !wanted && port.metadata.deletion_timestamp.is_none() {
                self.leases.give_back(port).await?;
                written = true;
            }
        }
        let mut obstacle = None;
        for need in &needs {
            match self.ensure_one(holder, need).await? {
                Ok(wrote) => written |= wrote,
                Err(found) => obstacle = obstacle.or(Some(found)),
            }
        }
        Ok((written, obstacle))
    }

    async fn ensure_one(&self, holder: &K, need: &Need) -> Result<Result<bool, Obstacle>, apply::Error> {
        let name = need.port_name(holder.meta());
        let ports = &self.context.stores.ports;
        if let Some(port) = ports.get(&ObjectRef::<Port>::new(&name).within(&need.namespace)) {
            let own =
                is_held_by(&port, holder.meta()) && need.is_met_by(&port) && port.metadata.deletion_timestamp.is_none();
            return Ok(own.then_some(false).ok_or_else(|| Obstacle {
                reason: Reason::WaitingForAddress,
                message: format!("{}: Port {}/{name} is there still", need.field, need.namespace),
            }));
        }
        let given = match self.leases.take(need, holder.meta()).await {
            Ok(given) => given,
            Err(obstacle) => return Ok(Err(obstacle)),
        };
        let port = need.port(holder.meta(), given.mac, &given.addresses);
        Ok(Ok(self.context.writer.apply(None, &port).await?.is_some()))
    }

    /// Gives everything back. The API server is asked what there is: a Port may be too new for the watch.
    async fn release(&self, holder: &K) -> Result<bool, apply::Error> {
        let uid = holder.uid().unwrap_or_default();
        let found: Vec<Port> = self.context.writer.labelled(self.purpose.label(), &uid).await?;
        let mut released = false;
        for port in found.iter().filter(|port| is_held_by(port, holder.meta())) {
            self.leases.give_back(port).await?;
            released = true;
        }
        Ok(released)
    }
}

impl<K, S> Reconcile for Addressed<K, S>
where
    K: Object + Names + 'static,
    S: Serialize + Send + Sync + 'static,
{
    type Kind = K;
    type Error = apply::Error;

    fn name(&self) -> &'static str {
        self.name
    }

    async fn reconcile(&self, live: Arc<K>) -> Result<Done, apply::Error> {
        let backend = self.context.carrier.backend;
        let deleting = live.meta().deletion_timestamp.is_some();
        let held = live.finalizers().iter().any(|name| name == finalizers::CONTROLLER);
        // First the finalizer: nothing else takes the addresses away again.
        let (made, obstacle) = match (backend, deleting, held) {
            (_, true, true) => (self.release(&live).await?, None),
            (Backend::Ovn { .. }, false, true) => self.ensure(&live).await?,
            _ => (false, None),
        };
        let known = Known {
            backend,
            obstacle: obstacle.as_ref(),
            reports: &self.reports,
            now: self.context.clock.now(),
        };
        let (protection, status) = (self.plan)(&live, &known);
        let done = protect::settle(&self.context.writer, live.as_ref(), &protection, &status).await?;
        let done = if made { Done::changed() } else { done };
        Ok(if obstacle.is_some() { done.again_in(AGAIN) } else { done })
    }
}
