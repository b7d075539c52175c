//! Where does each address outside lead to?

mod behind;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use kube::ResourceExt as _;
use uuid::Uuid;
use virga_core::{carried::Obstacle, floating_ip::Seen};
use virga_crds::{FloatingIP, ForwardedProtocol, Port, PortForwarding, conditions::Reason};

use crate::{
    holders::{Holders, Name, Records},
    load_balancer::ResolvedBalancer,
    router::{Look, Resolved},
};

/// All FloatingIPs of the cluster, and their addresses.
#[derive(Default)]
pub(crate) struct FloatingIps {
    pub known: Holders<FloatingIP>,
    /// The record of each one's address.
    pub records: Records<()>,
    /// Each Instance's first interface.
    first: BTreeMap<Name, First>,
}

/// An Instance's first interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum First {
    /// Its Port is called so.
    Port(String),
    /// There is none.
    None,
}

/// A guest's Port that an address leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leads {
    pub port: Uuid,
    pub name: String,
    pub address: IpAddr,
}

/// A port of the address outside, and where it leads to.
#[derive(Debug, Clone)]
pub(crate) struct Forward {
    pub protocol: ForwardedProtocol,
    pub outer: u16,
    pub inner: u16,
    pub address: IpAddr,
}

/// What is to be written of a FloatingIP.
#[derive(Debug, Clone, Default)]
pub(crate) struct ResolvedFloating {
    pub uid: Uuid,
    pub name: String,
    pub generation: Option<i64>,
    pub address: Option<IpAddr>,
    pub mac: String,
    /// The Router that leads there; none: it leads nowhere.
    pub router: Option<Uuid>,
    /// The guest that has the whole of it.
    pub whole: Option<Leads>,
    pub forwards: Vec<Forward>,
    /// The LoadBalancer that has all of it, with the members that the Router reaches.
    pub balancer: Option<ResolvedBalancer>,
    pub seen: Seen,
}

/// What a FloatingIP finds around it.
pub(crate) struct Around<'a, 'n> {
    pub look: Look<'n>,
    /// The Routers of its namespace, the oldest first.
    pub routers: &'a [Resolved],
    /// A guest's Port of its namespace, by name.
    pub plug: &'a dyn Fn(&str) -> Option<Arc<Port>>,
    /// A LoadBalancer of its namespace, by name.
    pub balancer: &'a dyn Fn(&str) -> Option<ResolvedBalancer>,
}

impl FloatingIps {
    /// An Instance is there, or gone (`None`). The answer has those that lead to it, when its first interface is another one.
    pub fn set_instance(&mut self, instance: &Name, first: Option<&First>) -> Vec<Uuid> {
        let old = match first {
            Some(first) => self.first.insert(instance.clone(), first.clone()),
            None => self.first.remove(instance),
        };
        if old.as_ref() == first {
            return Vec::new();
        }
        self.naming(&instance.0, |port, name| port.is_none() && name == Some(&instance.1))
    }

    /// Those that lead to a guest's Port.
    pub fn to(&self, port: &Port) -> Vec<Uuid> {
        let (namespace, own) = (port.namespace().unwrap_or_default(), port.name_any());
        self.naming(&namespace, |port_name, instance| {
            port_name.is_some_and(|name| *name == own) || instance.is_some_and(|name| *name == port.spec.instance)
        })
    }

    /// Those that lead to a LoadBalancer.
    pub fn to_balancer(&self, balancer: &Name) -> Vec<Uuid> {
        let leads = |floating: &FloatingIP| floating.spec.load_balancer.as_ref() == Some(&balancer.1);
        self.known.those(&balancer.0, leads)
    }

    /// Those of a namespace of which a target is so: by the name of a Port, or of an Instance.
    fn naming(&self, namespace: &str, is_so: impl Fn(Option<&String>, Option<&String>) -> bool) -> Vec<Uuid> {
        let leads = |floating: &FloatingIP| {
            let spec = &floating.spec;
            is_so(spec.port.as_ref(), spec.instance.as_ref())
                || spec
                    .port_forwardings
                    .iter()
                    .any(|forward| is_so(forward.port.as_ref(), forward.instance.as_ref()))
        };
        self.known.those(namespace, leads)
    }

    /// What those of a namespace come to. A guest that two lead to is the older one's.
    pub fn resolve(&self, namespace: &str, around: &Around<'_, '_>) -> Vec<ResolvedFloating> {
        let mut taken: BTreeSet<(Uuid, IpAddr)> = BTreeSet::new();
        let resolved = self.known.by_age(namespace).into_iter().filter_map(|uid| {
            let floating = self.known.get(uid)?;
            let mut resolved = self.one(floating, uid, around);
            if let (Some(router), Some(leads)) = (resolved.router, &resolved.whole)
                && !taken.insert((router, leads.address))
            {
                let message = format!(
                    "spec: another FloatingIP leads to Port {namespace}/{} already: name another, or take it out there",
                    leads.name
                );
                (resolved.whole, resolved.router) = (None, None);
                (resolved.seen.fixed, resolved.seen.router) = (None, None);
                resolved.seen.problem = Some(obstacle(Reason::AddressInUse, message));
            }
            Some(resolved)
        });
        let mut resolved: Vec<ResolvedFloating> = resolved.collect();
        behind::leave_out_distributed(&mut resolved, around.routers);
        resolved
    }

    fn one(&self, floating: &FloatingIP, uid: Uuid, around: &Around<'_, '_>) -> ResolvedFloating {
        let namespace = floating.namespace().unwrap_or_default();
        let mut resolved = ResolvedFloating {
            uid,
            name: format!("{namespace}/{}", floating.name_any()),
            generation: floating.metadata.generation,
            ..ResolvedFloating::default()
        };
        if let Err(problem) = self.fill(floating, uid, &namespace, around, &mut resolved) {
            resolved.seen.problem = Some(problem);
        }
        resolved.seen.address = resolved.address.map(|address| address.to_string());
        resolved
    }

    fn fill(
        &self,
        floating: &FloatingIP,
        uid: Uuid,
        namespace: &str,
        around: &Around<'_, '_>,
        resolved: &mut ResolvedFloating,
    ) -> Result<(), Obstacle> {
        let spec = &floating.spec;
        let network = &spec.network;
        let outside: Name = (
            network.namespace.clone().unwrap_or_else(|| namespace.to_owned()),
            network.name.clone(),
        );
        let (field, name) = ("spec.network", format!("Network {}/{}", outside.0, outside.1));
        let seen = (around.look)(&outside).ok_or_else(|| {
            obstacle(
                Reason::NetworkNotFound,
                format!("{field}: {name} doesn't exist: create it, or name another"),
            )
        })?;
        let held = self.records.get(uid, ()).ok_or_else(|| {
            obstacle(
                Reason::WaitingForAddress,
                format!("{field}: there is no address of {name} for it yet"),
            )
        })?;
        resolved.mac.clone_from(&held.spec.mac);
        resolved.address = first_v4(held);
        if resolved.address.is_none() {
            return Err(obstacle(
                Reason::Invalid,
                format!("{field}: {name} has no IPv4 subnet, and IPv6 needs no floating IPs"),
            ));
        }
        if !seen.valid.is_some_and(|valid| valid.external) {
            return Err(obstacle(
                Reason::Invalid,
                format!("{field}: {name} is not external any more: have its scope set to External"),
            ));
        }
        if spec.port.is_some() || spec.instance.is_some() {
            let (leads, router) = self.target(
                "spec",
                namespace,
                &outside,
                spec.port.as_ref(),
                spec.instance.as_ref(),
                around,
            )?;
            resolved.seen.fixed = Some(leads.address.to_string());
            resolved.seen.port = Some(leads.name.clone());
            settle(resolved, router);
            resolved.whole = Some(leads);
        }
        if let Some(name) = &spec.load_balancer {
            behind::lead(name, namespace, &outside, around, resolved)?;
        }
        let mut first = Ok(());
        for forward in &spec.port_forwardings {
            let outcome = self.forward(forward, namespace, &outside, around, resolved);
            first = first.and(outcome);
        }
        first
    }

    fn forward(
        &self,
        forward: &PortForwarding,
        namespace: &str,
        outside: &Name,
        around: &Around<'_, '_>,
        resolved: &mut ResolvedFloating,
    ) -> Result<(), Obstacle> {
        let field = format!(
            "spec.portForwardings[{} {}]",
            protocol(forward.protocol).to_uppercase(),
            forward.external_port
        );
        let (port, instance) = (forward.port.as_ref(), forward.instance.as_ref());
        let (leads, router) = self.target(&field, namespace, outside, port, instance, around)?;
        if resolved.router.is_some_and(|first| first != router.uid) {
            return Err(obstacle(
                Reason::Invalid,
                format!("{field}: it is behind another Router than the ones before: take another FloatingIP for it"),
            ));
        }
        settle(resolved, router);
        resolved.forwards.push(Forward {
            protocol: forward.protocol,
            outer: forward.external_port,
            inner: forward.internal_port,
            address: leads.address,
        });
        Ok(())
    }

    /// A guest's Port, and the Router between it and the outside.
    fn target<'a>(
        &self,
        field: &str,
        namespace: &str,
        outside: &Name,
        port: Option<&String>,
        instance: Option<&String>,
        around: &Around<'a, '_>,
    ) -> Result<(Leads, &'a Resolved), Obstacle> {
        let (field, wanted) = match (port, instance) {
            (None, Some(instance)) => {
                let field = format!("{field}.instance");
                let first = self
                    .first
                    .get(&(namespace.to_owned(), instance.clone()))
                    .ok_or_else(|| {
                        let message = format!("{field}: Instance {namespace}/{instance} doesn't exist: create it");
                        obstacle(Reason::InstanceNotFound, message)
                    })?;
                let First::Port(port) = first else {
                    let message = format!("{field}: Instance {namespace}/{instance} has no interface: give it one");
                    return Err(obstacle(Reason::PortNotFound, message));
                };
                (field, port.clone())
            }
            (port, _) => (format!("{field}.port"), port.cloned().unwrap_or_default()),
        };
        let found = (around.plug)(&wanted);
        // One that it names may be another's still.
        let is_its = |found: &Arc<Port>| port.is_some() || instance.is_none_or(|name| *name == found.spec.instance);
        let found = found.filter(is_its);
        let (uid, found) = found
            .and_then(|found| Some((found.uid()?.parse().ok()?, found)))
            .ok_or_else(|| {
                let message =
                    format!("{field}: there is no Port {namespace}/{wanted}: it waits until its Instance has it");
                obstacle(Reason::PortNotFound, message)
            })?;
        let address = first_v4(&found).ok_or_else(|| {
            let message = format!("{field}: Port {namespace}/{wanted} has no IPv4 address");
            obstacle(Reason::Invalid, message)
        })?;
        let inner: Name = (found.spec.network_in(namespace).to_owned(), found.spec.network.clone());
        let router = between(around.routers, &inner, address, outside).ok_or_else(|| {
            let message = format!(
                "{field}: no Router joins Network {namespace}/{} of Port {namespace}/{wanted} with Network {}/{}: give one \
                 both, the first in networks and the second as externalGateway",
                inner.1, outside.0, outside.1
            );
            obstacle(Reason::NotRouted, message)
        })?;
        let leads = Leads {
            port: uid,
            name: wanted,
            address,
        };
        Ok((leads, router))
    }
}

/// The Router that joins an address of a Network with the outside.
fn between<'a>(routers: &'a [Resolved], inner: &Name, address: IpAddr, outside: &Name) -> Option<&'a Resolved> {
    let joins = |joint: &crate::router::Joint| {
        !joint.external && joint.name == *inner && joint.addresses.iter().any(|(_, range)| range.contains(&address))
    };
    let leads_there = |router: &&Resolved| {
        router.external().is_some_and(|joint| joint.name == *outside) && router.joints.iter().any(joins)
    };
    routers.iter().find(leads_there)
}

fn settle(resolved: &mut ResolvedFloating, router: &Resolved) {
    resolved.router = Some(router.uid);
    resolved.seen.router = router.name.split_once('/').map(|(_, name)| name.to_owned());
}

/// As OVN writes it.
pub(crate) fn protocol(protocol: ForwardedProtocol) -> &'static str {
    match protocol {
        ForwardedProtocol::Tcp => "tcp",
        ForwardedProtocol::Udp => "udp",
        ForwardedProtocol::Sctp => "sctp",
    }
}

fn first_v4(port: &Port) -> Option<IpAddr> {
    let mut addresses = port.spec.addresses.iter().filter_map(|held| held.ip.parse().ok());
    addresses.find(IpAddr::is_ipv4)
}

fn obstacle(reason: Reason, message: String) -> Obstacle {
    Obstacle { reason, message }
}
