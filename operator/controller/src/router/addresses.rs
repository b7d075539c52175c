//! Which addresses does a Router have? Those that its Ports are the record of.

use std::sync::Arc;

use kube::{ResourceExt as _, runtime::reflector::ObjectRef};
use virga_core::{
    network::{self, Segment, ValidNetwork},
    router::{self, Need, Obstacle},
};
use virga_crds::{Port, Router, conditions::Reason, labels};
use virga_runtime::apply;

use crate::{
    Context,
    network::{Holder, Ipam, Leases},
    uses::UseIndex,
};

pub(super) struct Addresses {
    context: Arc<Context>,
    leases: Leases,
}

impl Addresses {
    pub(super) fn new(context: Arc<Context>, uses: Arc<UseIndex>, ipam: Arc<Ipam>) -> Self {
        let leases = Leases::new(context.clone(), uses, ipam);
        Self { context, leases }
    }

    /// Gives back what the spec asks for no more, and takes what is missing. Returns whether anything was written, and the
    /// first thing in the way.
    pub(super) async fn ensure(&self, router: &Router) -> Result<(bool, Option<Obstacle>), apply::Error> {
        let needs: Vec<Need> = router::needs(router)
            .into_iter()
            .filter(|need| !self.is_gateway(need))
            .collect();
        let mut written = false;
        let ports = self.context.stores.ports.state();
        for port in ports.iter().filter(|port| router::holds(router, port)) {
            let wanted = needs.iter().any(|need| is_for(port, need));
            if !wanted && port.metadata.deletion_timestamp.is_none() {
                self.leases.give_back(port).await?;
                written = true;
            }
        }
        let mut obstacle = None;
        for need in &needs {
            match self.ensure_one(router, need).await? {
                Ok(wrote) => written |= wrote,
                Err(found) => obstacle = obstacle.or(Some(found)),
            }
        }
        Ok((written, obstacle))
    }

    /// Gives everything back. The API server is asked what there is: a Port may be too new for the watch.
    pub(super) async fn release(&self, router: &Router) -> Result<bool, apply::Error> {
        let uid = router.uid().unwrap_or_default();
        let found: Vec<Port> = self.context.writer.labelled(labels::ROUTER, &uid).await?;
        let held: Vec<Port> = found.into_iter().filter(|port| router::holds(router, port)).collect();
        for port in &held {
            self.leases.give_back(port).await?;
        }
        Ok(!held.is_empty())
    }

    /// Whether an address that is asked for is the Router's by right: a gateway in a Network without a machine that has it.
    fn is_gateway(&self, need: &Need) -> bool {
        let network = self.context.stores.network(&need.namespace, &need.network);
        let valid = network.and_then(|network| network::validate(&network.spec).ok());
        let overlay = valid.filter(|valid| valid.segment == Segment::Overlay);
        let is_one = |valid: ValidNetwork| valid.subnets.iter().any(|subnet| subnet.gateway == need.address);
        need.address.is_some() && overlay.is_some_and(is_one)
    }

    async fn ensure_one(&self, router: &Router, need: &Need) -> Result<Result<bool, Obstacle>, apply::Error> {
        let name = router::port(router, need, String::new(), &[]).name_any();
        let live = self
            .context
            .stores
            .ports
            .get(&ObjectRef::<Port>::new(&name).within(&need.namespace));
        if let Some(live) = live {
            let own = router::holds(router, &live) && is_for(&live, need) && live.metadata.deletion_timestamp.is_none();
            return Ok(own.then_some(false).ok_or_else(|| Obstacle {
                reason: Reason::WaitingForAddress,
                message: format!("{}: Port {}/{name} is there still", need.field, need.namespace),
            }));
        }
        let holder = Holder::Router {
            namespace: router.namespace().unwrap_or_default(),
            name: router.name_any(),
        };
        let uid = router.uid().unwrap_or_default();
        let given = match self.leases.take(need, &holder, &uid, &name).await {
            Ok(given) => given,
            Err(obstacle) => return Ok(Err(obstacle)),
        };
        let port = router::port(router, need, given.mac, &given.addresses);
        Ok(Ok(self.context.writer.apply(None, &port).await?.is_some()))
    }
}

/// Whether a Port is what is needed.
fn is_for(port: &Port, need: &Need) -> bool {
    let asked = need.address.map(|address| address.to_string());
    let has = |asked: &String| port.spec.addresses.iter().any(|held| held.ip == *asked);
    port.namespace().as_deref() == Some(&need.namespace)
        && port.spec.network == need.network
        && asked.as_ref().is_none_or(has)
}
