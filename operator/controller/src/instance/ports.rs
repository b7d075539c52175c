//! Which Ports does an Instance have? One for each interface and sub-port, on its node, with addresses for life.

use std::{net::IpAddr, sync::Arc};

use kube::ResourceExt as _;
use virga_core::{
    carried::Obstacle,
    instance::{self, Plug, plugs},
    network::{AddressError, is_port_of, is_users},
    security_group::follows,
    uses::TargetKind,
};
use virga_crds::{Instance, Interface, Network, Port, TrunkParent, conditions::Reason};
use virga_runtime::apply;

use super::{
    kept_port,
    trunk::{self, Parent},
};
use crate::{
    Context,
    network::{Claim, Given, Holder, Ipam, Untaken, Use, for_namespace, of_interface},
    security_group,
    uses::UseIndex,
};

pub(super) struct Ports {
    context: Arc<Context>,
    uses: Arc<UseIndex>,
    ipam: Arc<Ipam>,
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

    /// Deletes the Ports of interfaces that the spec names no more, when nothing is plugged into them, and lets go of those that
    /// a user made. The API server is asked what the spec is: it may name one again, and what this process has seen may be old.
    pub(super) async fn release(&self, instance: &Instance) -> Result<bool, apply::Error> {
        let mut released = false;
        for user in self.uses.of(TargetKind::Instance, instance).await {
            let Some(port) = self.context.stores.port(&user.namespace, &user.name) else {
                continue;
            };
            let (kept, goes) = (is_users(&port.spec), port.metadata.deletion_timestamp.is_some());
            if (goes && !kept) || !is_port_of(&port, instance) || !instance::is_unplugged(instance, &port) {
                continue;
            }
            let now = self.context.writer.read(instance).await?;
            if now.is_none_or(|now| !instance::is_unplugged(&now, &port)) {
                continue;
            }
            if kept {
                kept_port::let_go(&self.context.writer, &port).await?;
            } else {
                self.context.writer.delete(port.as_ref()).await?;
                self.ipam.forget(&port);
            }
            released = true;
        }
        Ok(released)
    }

    async fn ensure_one(&self, instance: &Instance, plug: &Plug<'_>) -> Result<Result<bool, Obstacle>, apply::Error> {
        let namespace = instance.namespace().unwrap_or_default();
        let interface = plug.interface.as_ref();
        let name = plug.port_name(&instance.name_any());
        let trunk = match trunk::parent(&self.context, instance, plug) {
            Ok(Parent::None) => None,
            Ok(Parent::Is(parent)) => Some(parent),
            // It is on its way, or what is in its way is told.
            Ok(Parent::Comes) => return Ok(Ok(false)),
            Err(obstacle) => return Ok(Err(obstacle)),
        };
        if interface.port.is_some() {
            return self.claim(instance, plug, &name, trunk).await;
        }
        let live = self.context.stores.port(&namespace, &name);
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

    /// The Port that a user made: the Instance has it, or gets it, or something is in the way.
    async fn claim(
        &self,
        instance: &Instance,
        plug: &Plug<'_>,
        name: &str,
        trunk: Option<TrunkParent>,
    ) -> Result<Result<bool, Obstacle>, apply::Error> {
        if let Some(why) = instance::no_such_card(&plug.interface) {
            return Ok(Err(Obstacle {
                reason: Reason::NotSupported,
                message: format!("{}.vnicType: {why}", plug.field()),
            }));
        }
        let live = match kept_port::found(&self.context.stores, instance, plug, name) {
            Ok(live) => live,
            Err(obstacle) => return Ok(Err(obstacle)),
        };
        if let Some(obstacle) = trunk::oversize(&self.context, &instance.namespace().unwrap_or_default(), plug) {
            return Ok(Err(obstacle));
        }
        kept_port::claim(&self.context.writer, &live, instance, trunk)
            .await
            .map(Ok)
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
        if is_users(&live.spec) {
            let name = live.name_any();
            let message = format!(
                "Port {name} was made by a user, and the interface's own would be called so: name it in spec.interfaces[{}].port, \
                 or delete it",
                interface.network
            );
            return Ok(Err(Obstacle {
                reason: Reason::PortInUse,
                message,
            }));
        }
        if !is_port_of(live, instance) || live.metadata.deletion_timestamp.is_some() {
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
        let Ok(wanted) = interface.address.as_deref().map(str::parse::<IpAddr>).transpose() else {
            return Err(Obstacle {
                reason: Reason::AddressInvalid,
                message: format!("{field}.address: not an IP address"),
            });
        };
        let namespace = instance.namespace().unwrap_or_default();
        let port = format!("{namespace}/{port}");
        let holder = Holder {
            purpose: Use::Plug,
            namespace: namespace.clone(),
            name: instance.name_any(),
        };
        let seed = format!("{}/{}", instance.uid().unwrap_or_default(), interface.network);
        let mac = interface.mac.as_deref();
        let claim = Claim {
            port: &port,
            holder: &holder,
            seed: &seed,
            addresses: wanted.as_slice(),
            mac,
        };
        let (uses, stores) = (&self.uses, &self.context.stores);
        self.ipam
            .take(network, claim, uses, stores)
            .await
            .map_err(|untaken| match untaken {
                Untaken::Network(why) => Obstacle {
                    reason: Reason::NetworkNotReady,
                    message: format!("{field}.network: Network {} {why}", interface.network),
                },
                Untaken::Address(error) => {
                    let of = match &error {
                        AddressError::Exhausted { .. } => "network",
                        AddressError::MacTaken { .. } => "mac",
                        _ => "address",
                    };
                    Obstacle {
                        reason: error.reason(),
                        message: format!("{field}.{of}: {}", for_namespace(&error, &namespace)),
                    }
                }
            })
    }
}
