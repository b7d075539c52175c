//! Which addresses does a Router have? Those that its Ports are the record of.

use std::sync::Arc;

use kube::{ResourceExt as _, runtime::reflector::ObjectRef};
use virga_core::{
    network::{self, AddressError, Segment, ValidNetwork},
    router::{self, Need, Obstacle},
    uses::TargetKind,
};
use virga_crds::{Network, Port, Router, conditions::Reason, labels};
use virga_runtime::apply;

use crate::{
    Context,
    network::{Claim, Given, Holder, Ipam},
    uses::UseIndex,
};

pub(super) struct Addresses {
    context: Arc<Context>,
    uses: Arc<UseIndex>,
    ipam: Arc<Ipam>,
}

impl Addresses {
    pub(super) fn new(context: Arc<Context>, uses: Arc<UseIndex>, ipam: Arc<Ipam>) -> Self {
        Self { context, uses, ipam }
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
                self.give_back(port).await?;
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
            self.give_back(port).await?;
        }
        Ok(!held.is_empty())
    }

    async fn give_back(&self, port: &Port) -> Result<(), apply::Error> {
        self.context.writer.delete(port).await?;
        let namespace = port.namespace().unwrap_or_default();
        self.ipam.forget(&namespace, &port.spec.network, &port.name_any());
        Ok(())
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
        let given = match self.allocate(router, need, &name).await {
            Ok(given) => given,
            Err(obstacle) => return Ok(Err(obstacle)),
        };
        let port = router::port(router, need, given.mac, &given.addresses);
        Ok(Ok(self.context.writer.apply(None, &port).await?.is_some()))
    }

    /// The Network, if the Router may have an address of it.
    fn network(&self, router: &Router, need: &Need) -> Result<(Arc<Network>, ValidNetwork), Obstacle> {
        let Need {
            field,
            namespace,
            network: name,
            ..
        } = need;
        let of = |reason, message: String| Obstacle { reason, message };
        let Some(network) = self.context.stores.network(namespace, name) else {
            let message = format!("{field}: Network {namespace}/{name} doesn't exist: create it, or name another");
            return Err(of(Reason::NetworkNotFound, message));
        };
        if network.metadata.deletion_timestamp.is_some() {
            let message = format!("{field}: Network {namespace}/{name} is being deleted");
            return Err(of(Reason::NetworkNotReady, message));
        }
        let valid = network::validate(&network.spec).map_err(|problems| {
            let message = format!("{field}: Network {namespace}/{name} is invalid: {problems}");
            of(Reason::NetworkNotReady, message)
        })?;
        let is_outside = router.spec.external_gateway.is_some() && field == "spec.externalGateway";
        if is_outside && !valid.external {
            let message =
                format!("{field}.network: Network {namespace}/{name} is not external: name one with scope External");
            return Err(of(Reason::Invalid, message));
        }
        Ok((network, valid))
    }

    async fn allocate(&self, router: &Router, need: &Need, port: &str) -> Result<Given, Obstacle> {
        let (network, valid) = self.network(router, need)?;
        let port = format!("{}/{port}", need.namespace);
        let seed = format!("{}/{}", router.uid().unwrap_or_default(), need.network);
        let holder = Holder::Router {
            namespace: router.namespace().unwrap_or_default(),
            name: router.name_any(),
        };
        let claim = Claim {
            port: &port,
            holder: &holder,
            seed: &seed,
            address: need.address,
            mac: None,
        };
        let mut given = self.ipam.allocate(&network, claim);
        if given.is_none() {
            let users = self.uses.of(TargetKind::Network, network.as_ref()).await;
            self.ipam.refresh(&network, &valid, &users, &self.context.stores);
            given = self.ipam.allocate(&network, claim);
        }
        let changed = || Obstacle {
            reason: Reason::NetworkNotReady,
            message: format!(
                "{}: Network {}/{} has just changed",
                need.field, need.namespace, need.network
            ),
        };
        given.ok_or_else(changed)?.map_err(|error| Obstacle {
            reason: match &error {
                AddressError::Exhausted { .. } => Reason::AddressExhausted,
                AddressError::Taken { .. } => Reason::AddressInUse,
                AddressError::Outside { .. } | AddressError::Reserved { .. } => Reason::AddressInvalid,
            },
            message: format!("{}.address: {error}", need.field),
        })
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
