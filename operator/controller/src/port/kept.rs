//! A Port that a user made: gives it what its author left out, says how it is, lets go of it when the Instance that has it is
//! gone, and keeps it as long as one has it.

use kube::{ResourceExt as _, runtime::reflector::ObjectRef};
use serde_json::json;
use virga_core::{
    carried::Obstacle,
    network::{
        self, AddressError, Backend, NO_OPTIONS, PortSeen, as_interface, is_given, port_status, validate_addresses,
        validate_port, wanted,
    },
    problem::Problems,
    uses::TargetKind,
};
use virga_crds::{Instance, InstanceSpec, Port, PortAddress, conditions::Reason, finalizers};
use virga_runtime::{apply, reconcile::Done};

use super::Ports;
use crate::{
    instance::kept_port,
    network::{Claim, Given, Holder, Untaken, for_namespace, named},
    security_group,
    stores::Stores,
    uses::UseIndex,
};

impl Ports {
    /// Brings it to where it should be.
    pub(super) async fn keep(&self, port: &Port) -> Result<Done, apply::Error> {
        let writer = &self.context.writer;
        let (namespace, name) = (port.namespace(), port.name_any());
        let has = !port.spec.instance.is_empty();
        if has && !self.is_there(port).await? {
            kept_port::let_go(writer, port).await?;
            tracing::info!(kind = "Port", namespace, name, "its Instance is gone: let go of");
            return Ok(Done::changed());
        }
        if port.metadata.deletion_timestamp.is_some() {
            if has {
                return self.say(port, &PortSeen::Leaving).await;
            }
            // Its addresses are free when it is gone.
            let removed = writer.remove_finalizer(port, finalizers::CONTROLLER).await?;
            return Ok(Done::changed_if(removed.is_some()));
        }
        if !is_given(&port.spec) {
            return match self.fill(port).await? {
                Ok(()) => {
                    tracing::info!(kind = "Port", namespace, name, "given its addresses");
                    Ok(Done::changed())
                }
                Err(obstacle) => {
                    let done = self.say(port, &obstacle.into()).await?;
                    Ok(done.again_in(security_group::AGAIN))
                }
            };
        }
        let held = writer.add_finalizer(port, finalizers::CONTROLLER).await?;
        if held.is_some() {
            return Ok(Done::changed());
        }
        let Some((seen, waits)) = self.seen(port) else {
            return Ok(Done::unchanged());
        };
        let done = self.say(port, &seen).await?;
        Ok(if waits {
            done.again_in(security_group::AGAIN)
        } else {
            done
        })
    }

    /// Whether the Instance that has it exists. The API server has the last word.
    async fn is_there(&self, port: &Port) -> Result<bool, apply::Error> {
        let (namespace, name) = (port.namespace().unwrap_or_default(), &port.spec.instance);
        let known = self.context.stores.instance(&namespace, name);
        let uid = &port.spec.instance_uid;
        if uid.is_some() && known.is_some_and(|known| known.metadata.uid == *uid) {
            return Ok(true);
        }
        let mut holder = Instance::new(name, InstanceSpec::default());
        holder.metadata.namespace = Some(namespace);
        holder.metadata.uid.clone_from(uid);
        Ok(self.context.writer.read(&holder).await?.is_some())
    }

    /// How one that has its addresses is, and whether that can change without a word of anybody.
    fn seen(&self, port: &Port) -> Option<(PortSeen, bool)> {
        let (stores, carrier) = (&self.context.stores, &self.context.carrier);
        let own = port.namespace().unwrap_or_default();
        let network = stores.network(port.spec.network_in(&own), &port.spec.network);
        if let Err(obstacle) = self.fits(port, network.as_deref()) {
            return Some((obstacle.into(), true));
        }
        if carrier.northbound.is_none() {
            return Some((PortSeen::Held, false));
        }
        if let Some(missing) = security_group::missing(stores, port) {
            return Some((missing, true));
        }
        if port.spec.instance.is_empty() {
            return Some((PortSeen::Held, false));
        }
        Some((self.reports.port(port)?, false))
    }

    /// Whether what it asks for besides its addresses can be had.
    fn fits(&self, port: &Port, network: Option<&virga_crds::Network>) -> Result<(), Obstacle> {
        let backend = self.context.carrier.backend;
        if backend == Backend::Libvirt && !port.spec.dhcp_options.is_empty() {
            return Err(Obstacle {
                reason: Reason::NotSupported,
                message: format!("spec.dhcpOptions: {NO_OPTIONS}"),
            });
        }
        invalid(Reason::Invalid, &validate_port(&port.spec, backend))?;
        let own = port.namespace().unwrap_or_default();
        let interface = as_interface(&port.spec);
        let wrong =
            network.and_then(|network| security_group::wrong(&self.context.stores, backend, &own, network, &interface));
        wrong.map_or(Ok(()), |wrong| {
            Err(Obstacle {
                reason: wrong.reason,
                message: format!("spec.{}: {}", wrong.field, wrong.message),
            })
        })
    }

    /// Gives it what its author left out, in one write that holds for what they wrote only.
    async fn fill(&self, port: &Port) -> Result<Result<(), Obstacle>, apply::Error> {
        let context = &self.context;
        let own = port.namespace().unwrap_or_default();
        let from = port.spec.network_in(&own);
        let of = |reason, message: String| Obstacle {
            reason,
            message: format!("spec.network: {message}"),
        };
        let network = match named(&context.stores, &own, from, &port.spec.network) {
            Ok(network) if network.metadata.deletion_timestamp.is_some() => {
                let message = format!("Network {from}/{} is being deleted", port.spec.network);
                return Ok(Err(of(Reason::NetworkNotReady, message)));
            }
            Ok(network) => network,
            Err(message) => return Ok(Err(of(Reason::NetworkNotFound, message))),
        };
        let valid = match network::validate(&network.spec) {
            Ok(valid) => valid,
            Err(problems) => {
                let message = format!("Network {from}/{} is invalid: {problems}", port.spec.network);
                return Ok(Err(of(Reason::NetworkNotReady, message)));
            }
        };
        let fits = self.fits(port, Some(&network));
        let in_place = || invalid(Reason::AddressInvalid, &validate_addresses(&port.spec, &valid));
        if let Err(obstacle) = fits.and_then(|()| in_place()) {
            return Ok(Err(obstacle));
        }
        if security_group::are_enforced(context) && port.spec.security_groups.is_empty() {
            security_group::make_default(&context.writer, &context.stores, &own).await?;
        }
        let (key, holder) = (format!("{own}/{}", port.name_any()), Holder::itself(port));
        let (seed, addresses) = (port.uid().unwrap_or_default(), wanted(&port.spec));
        let claim = Claim {
            port: &key,
            holder: &holder,
            seed: &seed,
            addresses: &addresses,
            mac: Some(port.spec.mac.as_str()).filter(|mac| !mac.is_empty()),
        };
        let Given { addresses, mac } = match self.ipam.take(&network, claim, &self.uses, &context.stores).await {
            Ok(given) => given,
            Err(Untaken::Address(error)) => return Ok(Err(refused(&error, &own))),
            Err(Untaken::Network(why)) => {
                let message = format!("Network {from}/{} {why}", port.spec.network);
                return Ok(Err(of(Reason::NetworkNotReady, message)));
            }
        };
        let addresses = addresses.into_iter().map(|address| PortAddress {
            subnet: address.subnet,
            ip: address.ip.to_string(),
        });
        let mut held = port.finalizers().to_vec();
        if !held.iter().any(|held| held == finalizers::CONTROLLER) {
            held.push(finalizers::CONTROLLER.into());
        }
        let fields = json!({
            "metadata": {"finalizers": held},
            "spec": {"allocation": "Given", "mac": mac, "addresses": addresses.collect::<Vec<_>>()},
        });
        context
            .writer
            .merge_unchanged(port, "giving addresses to", fields)
            .await?;
        Ok(Ok(()))
    }

    async fn say(&self, port: &Port, seen: &PortSeen) -> Result<Done, apply::Error> {
        let Some(status) = port_status(port, seen, self.context.clock.now()) else {
            return Ok(Done::unchanged());
        };
        let written = self.context.writer.apply_status(port, &status).await?;
        Ok(Done::changed_if(written.is_some()))
    }
}

fn invalid(reason: Reason, problems: &Problems) -> Result<(), Obstacle> {
    if problems.is_empty() {
        return Ok(());
    }
    let message = problems.to_string();
    Err(Obstacle { reason, message })
}

/// Why the addresses can't be had.
fn refused(error: &AddressError, own: &str) -> Obstacle {
    let field = match error {
        AddressError::Exhausted { .. } => "network",
        AddressError::MacTaken { .. } => "mac",
        _ => "addresses",
    };
    Obstacle {
        reason: error.reason(),
        message: format!("spec.{field}: {}", for_namespace(error, own)),
    }
}

/// The Ports that an Instance had which is gone.
pub(super) fn left_by(stores: &Stores, uses: &UseIndex, gone: &Instance) -> Vec<ObjectRef<Port>> {
    let (namespace, name) = (gone.namespace().unwrap_or_default(), gone.name_any());
    let known = stores.instance(&namespace, &name);
    if known.is_some_and(|known| known.metadata.uid == gone.metadata.uid) {
        return Vec::new();
    }
    let named = uses.known(TargetKind::Instance, &namespace, &name).into_iter();
    let ports = named.filter_map(|user| stores.port(&user.namespace, &user.name));
    let left = ports.filter(|port| port.spec.instance_uid.is_some() && port.spec.instance_uid == gone.metadata.uid);
    left.map(|port| ObjectRef::from_obj(port.as_ref())).collect()
}
