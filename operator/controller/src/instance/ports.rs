//! Which Ports does an Instance have? One for each interface and sub-port, on its node, with addresses for life.

use std::sync::Arc;

use kube::{ResourceExt as _, runtime::reflector::ObjectRef};
use virga_core::{
    instance::{self, Plug, plugs},
    network::{self, AddressError},
    security_group::follows,
    uses::TargetKind,
};
use virga_crds::{Instance, Interface, Network, Port, TrunkParent, conditions::Reason};
use virga_runtime::apply;

use super::trunk::{self, Parent};
use crate::{
    Context,
    network::{Claim, Given, Holder, Ipam, of_interface},
    security_group,
    uses::UseIndex,
};

pub(super) struct Ports {
    context: Arc<Context>,
    uses: Arc<UseIndex>,
    ipam: Arc<Ipam>,
}

/// Why a Port can't be made.
#[derive(Clone, Debug)]
pub(super) struct Obstacle {
    pub(super) reason: Reason,
    pub(super) message: String,
}

impl Ports {
    pub(super) fn new(context: Arc<Context>, uses: Arc<UseIndex>, ipam: Arc<Ipam>) -> Self {
        Self { context, uses, ipam }
    }

    /// Makes what is missing and moves what is elsewhere. Returns whether anything was written, and the first obstacle.
    pub(super) async fn ensure(&self, instance: &Instance) -> Result<(bool, Option<Obstacle>), apply::Error> {
        let mut written = false;
        let mut obstacle = None;
        for plug in plugs(&instance.spec) {
            match self.ensure_one(instance, &plug).await? {
                Ok(wrote) => written |= wrote,
                Err(found) => obstacle = obstacle.or(Some(found)),
            }
        }
        Ok((written, obstacle))
    }

    /// Deletes the Ports of interfaces that the spec names no more, when nothing is plugged into them. The API server is
    /// asked what the spec is: it may name one again, and what this process has seen may be old.
    pub(super) async fn release(&self, instance: &Instance) -> Result<bool, apply::Error> {
        let namespace = instance.namespace().unwrap_or_default();
        let ports = self.context.stores.ports.state();
        let left = ports.into_iter().filter(|port| {
            let owners = port.owner_references();
            port.metadata.deletion_timestamp.is_none()
                && port.namespace().as_deref() == Some(namespace.as_str())
                && owners
                    .iter()
                    .any(|owner| Some(&owner.uid) == instance.metadata.uid.as_ref())
                && instance::is_unplugged(instance, &port.spec.network)
        });
        let mut released = false;
        for port in left {
            let now = self.context.writer.read(instance).await?;
            if now.is_some_and(|now| instance::is_unplugged(&now, &port.spec.network)) {
                self.context.writer.delete(port.as_ref()).await?;
                self.ipam.forget(&port);
                released = true;
            }
        }
        Ok(released)
    }

    async fn ensure_one(&self, instance: &Instance, plug: &Plug<'_>) -> Result<Result<bool, Obstacle>, apply::Error> {
        let namespace = instance.namespace().unwrap_or_default();
        let interface = plug.interface.as_ref();
        let name = instance::port_name(&instance.name_any(), &interface.network);
        let trunk = match trunk::parent(&self.context, instance, plug) {
            Ok(Parent::None) => None,
            Ok(Parent::Is(parent)) => Some(parent),
            // It is on its way, or what is in its way is told.
            Ok(Parent::Comes) => return Ok(Ok(false)),
            Err(obstacle) => return Ok(Err(obstacle)),
        };
        let live = self
            .context
            .stores
            .ports
            .get(&ObjectRef::<Port>::new(&name).within(&namespace));
        if let Some(live) = live {
            return self.follow(instance, interface, trunk, &live).await;
        }
        if let Some(why) = instance::no_such_card(interface) {
            return Ok(Err(Obstacle {
                reason: Reason::NotSupported,
                message: format!("{}.vnicType: {why}", plug.field()),
            }));
        }
        let network = match self.network(&namespace, plug) {
            Ok(network) => network,
            Err(obstacle) => return Ok(Err(obstacle)),
        };
        let context = &self.context;
        let backend = context.carrier.backend;
        if let Some(wrong) = security_group::wrong(&context.stores, backend, &namespace, &network, interface) {
            let field = format!("{}.{}", plug.field(), wrong.field);
            return Ok(Err(Obstacle {
                reason: wrong.reason,
                message: format!("{field}: {}", wrong.message),
            }));
        }
        if let Some(obstacle) = trunk::oversize(context, &namespace, plug) {
            return Ok(Err(obstacle));
        }
        if security_group::are_enforced(context) && interface.security_groups.is_empty() {
            security_group::make_default(&context.writer, &context.stores, &namespace).await?;
        }
        let Given { addresses, mac } = match self.allocate(&network, instance, plug, &name).await {
            Ok(given) => given,
            Err(obstacle) => return Ok(Err(obstacle)),
        };
        let port = instance::port(instance, interface, trunk, mac, &addresses);
        Ok(Ok(self.context.writer.apply(None, &port).await?.is_some()))
    }

    /// The Port is there: it must be this Instance's, on its node, in its trunk, and in the groups that its interface names.
    /// A group that is missing opens nothing.
    async fn follow(
        &self,
        instance: &Instance,
        interface: &Interface,
        trunk: Option<TrunkParent>,
        live: &Port,
    ) -> Result<Result<bool, Obstacle>, apply::Error> {
        let owner = live
            .owner_references()
            .iter()
            .any(|owner| Some(&owner.uid) == instance.metadata.uid.as_ref());
        if !owner || live.metadata.deletion_timestamp.is_some() {
            let message = format!("Port {} of a former Instance is being deleted", live.name_any());
            return Ok(Err(Obstacle {
                reason: Reason::NetworkNotReady,
                message,
            }));
        }
        if live.spec.node_name == instance.spec.node_name && live.spec.trunk == trunk && follows(live, interface) {
            return Ok(Ok(false));
        }
        let mut moved = Port::new(&live.name_any(), live.spec.clone());
        moved.metadata.namespace.clone_from(&live.metadata.namespace);
        moved.metadata.labels.clone_from(&live.metadata.labels);
        moved
            .metadata
            .owner_references
            .clone_from(&live.metadata.owner_references);
        moved.spec.node_name.clone_from(&instance.spec.node_name);
        moved.spec.security_groups.clone_from(&interface.security_groups);
        moved
            .spec
            .allowed_address_pairs
            .clone_from(&interface.allowed_address_pairs);
        moved.spec.qos = interface.qos;
        moved.spec.trunk = trunk;
        Ok(Ok(self.context.writer.apply(Some(live), &moved).await?.is_some()))
    }

    fn network(&self, namespace: &str, plug: &Plug<'_>) -> Result<Arc<Network>, Obstacle> {
        let (field, interface) = (format!("{}.network", plug.field()), plug.interface.as_ref());
        let network = of_interface(&self.context.stores, namespace, interface).map_err(|message| Obstacle {
            reason: Reason::NetworkNotFound,
            message: format!("{field}: {message}"),
        })?;
        if network.metadata.deletion_timestamp.is_some() {
            let from = interface.network_in(namespace);
            let message = format!("{field}: Network {from}/{} is being deleted", interface.network);
            return Err(Obstacle {
                reason: Reason::NetworkNotReady,
                message,
            });
        }
        Ok(network)
    }

    async fn allocate(
        &self,
        network: &Network,
        instance: &Instance,
        plug: &Plug<'_>,
        port: &str,
    ) -> Result<Given, Obstacle> {
        let (field, interface) = (plug.field(), plug.interface.as_ref());
        let Ok(wanted) = interface.address.as_deref().map(str::parse).transpose() else {
            return Err(Obstacle {
                reason: Reason::AddressInvalid,
                message: format!("{field}.address: not an IP address"),
            });
        };
        let namespace = instance.namespace().unwrap_or_default();
        let port = format!("{namespace}/{port}");
        let holder = Holder {
            purpose: None,
            namespace: namespace.clone(),
            name: instance.name_any(),
        };
        let seed = format!("{}/{}", instance.uid().unwrap_or_default(), interface.network);
        let mac = interface.mac.as_deref();
        let claim = Claim {
            port: &port,
            holder: &holder,
            seed: &seed,
            address: wanted,
            mac,
        };
        let mut given = self.ipam.allocate(network, claim);
        if given.is_none() {
            let valid = network::validate(&network.spec).map_err(|problems| Obstacle {
                reason: Reason::NetworkNotReady,
                message: format!("{field}.network: Network {} is invalid: {problems}", interface.network),
            })?;
            let users = self.uses.of(TargetKind::Network, network).await;
            self.ipam.refresh(network, &valid, &users, &self.context.stores);
            given = self.ipam.allocate(network, claim);
        }
        let changed = || Obstacle {
            reason: Reason::NetworkNotReady,
            message: format!("{field}.network: Network {} has just changed", interface.network),
        };
        given.ok_or_else(changed)?.map_err(|error| {
            let (field, reason) = match &error {
                AddressError::Exhausted { .. } => (format!("{field}.network"), Reason::AddressExhausted),
                AddressError::Taken { .. } => (format!("{field}.address"), Reason::AddressInUse),
                AddressError::Outside { .. } | AddressError::Reserved { .. } | AddressError::Derived { .. } => {
                    (format!("{field}.address"), Reason::AddressInvalid)
                }
            };
            let message = match &error {
                // Whose it is in another namespace is not for everybody to know.
                AddressError::Taken { ip, owner } if owner.split('/').next() != Some(namespace.as_str()) => {
                    format!("{ip} is taken; choose another, or leave the address out")
                }
                error => error.to_string(),
            };
            Obstacle {
                reason,
                message: format!("{field}: {message}"),
            }
        })
    }
}
