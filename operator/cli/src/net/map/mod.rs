//! Which Networks, Routers, LoadBalancers, Ports and addresses are there, and what is joined with what?

mod balanced;
mod picture;
mod tree;

use std::{collections::BTreeMap, net::IpAddr};

pub use balanced::{BalancerDrawn, ListenerDrawn, MemberDrawn};
use kube::ResourceExt;
pub use picture::svg;
use serde::Serialize;
pub use tree::text;
use virga_core::{
    condition::is_true,
    network::{Purpose, Segment, ValidSubnet, is_users, validate},
    security_group::of_port,
};
use virga_crds::{
    Condition, FloatingIP, ForwardedProtocol, Network, NetworkRef, NetworkScope, Port, PortSecurity, Router,
    RouterRoute, Snat, conditions::types,
};

use super::Objects;
use crate::cluster::Unread;

/// What a namespace has, each once.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Map {
    /// The namespace.
    pub namespace: String,
    /// Its Routers, by name.
    pub routers: Vec<RouterDrawn>,
    /// Its Networks, by name.
    pub networks: Vec<NetworkDrawn>,
    /// Its load balancers, by name.
    pub load_balancers: Vec<BalancerDrawn>,
    /// Its floating IPs, by name.
    #[serde(rename = "floatingIPs")]
    pub floating_ips: Vec<FloatingDrawn>,
    /// What the caller may not read.
    pub unread: Vec<Unread>,
}

/// A Router.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouterDrawn {
    /// Its name.
    pub name: String,
    /// The way out.
    pub outside: Option<Outside>,
    /// The Networks that it joins.
    pub networks: Vec<Joined>,
    /// Its routes.
    pub routes: Vec<RouterRoute>,
    /// Why it is not ready.
    pub problem: Option<String>,
}

/// A Router's way out.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outside {
    /// The Network outside, with its namespace where it is another one.
    pub network: String,
    /// The Router's addresses there.
    pub addresses: Vec<String>,
    /// Whether guests go out with it.
    pub snat: Snat,
    /// The hosts that can be the gateway, in order.
    pub hosts: Vec<String>,
}

/// A Network that a Router joins.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Joined {
    /// The Network.
    pub network: String,
    /// The Router's addresses there; none: it is not joined yet.
    pub addresses: Vec<String>,
}

/// A Network.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkDrawn {
    /// Its name.
    pub name: String,
    /// Its type, with the physical network that carries it.
    #[serde(rename = "type")]
    pub type_: String,
    /// The largest packet, in bytes.
    pub mtu: Option<u16>,
    /// The domain of its guests' names.
    pub dns_domain: Option<String>,
    /// Whether Routers of every Project may go out through it.
    pub scope: NetworkScope,
    /// Whether guests may send from their own addresses only.
    pub port_security: PortSecurity,
    /// Its subnets.
    pub subnets: Vec<SubnetDrawn>,
    /// What is plugged in, by name.
    pub ports: Vec<PortDrawn>,
    /// Why it is not ready.
    pub problem: Option<String>,
}

/// A subnet.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SubnetDrawn {
    /// Its name.
    pub name: String,
    /// Its range.
    pub cidr: String,
    /// The gateway.
    pub gateway: Option<String>,
    /// The Router that has the gateway's address.
    pub router: Option<String>,
    /// How many addresses are taken.
    pub used: Option<i64>,
    /// How many its pools have.
    pub total: Option<i64>,
}

/// Whose a Port is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Holder {
    /// Its kind.
    pub kind: &'static str,
    /// Its name, with its namespace where that is another one.
    pub name: String,
}

/// A Port.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PortDrawn {
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub holder: Option<Holder>,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// Its MAC address.
    pub mac: String,
    /// The host that plugs it.
    pub node: Option<String>,
    /// Whether it carries packets; none: nobody says, as of addresses of Routers.
    pub up: Option<bool>,
    /// Its security groups.
    pub security_groups: Vec<String>,
    /// The addresses outside that lead to it.
    #[serde(rename = "floatingIPs")]
    pub floating_ips: Vec<String>,
    /// Why it is not ready, where that is more than that its guest is off.
    pub problem: Option<String>,
}

/// A floating IP.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FloatingDrawn {
    /// Its name.
    pub name: String,
    /// The Network outside.
    pub network: String,
    /// Its address.
    pub address: Option<String>,
    /// Where it leads to.
    pub leads: Vec<Lead>,
    /// The Router that does it.
    pub router: Option<String>,
    /// Why it is not ready.
    pub problem: Option<String>,
}

/// Where an address outside leads to.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Lead {
    /// Of this protocol only.
    pub protocol: Option<ForwardedProtocol>,
    /// Of this port only.
    pub external_port: Option<u16>,
    /// The Port or Instance.
    pub to: Holder,
    /// The guest's own address, where the whole is its.
    pub address: Option<String>,
    /// The guest's port.
    pub internal_port: Option<u16>,
}

/// What the objects are as a map.
pub fn of(objects: &Objects) -> Map {
    let own = objects.namespace.as_str();
    let mut routers: Vec<RouterDrawn> = objects.routers.iter().map(|router| routed(router, own)).collect();
    let mut floating_ips: Vec<FloatingDrawn> = objects.floating_ips.iter().map(|found| floating(found, own)).collect();
    let gateways: BTreeMap<(&str, IpAddr), &str> = routers
        .iter()
        .flat_map(|router| router.networks.iter().map(move |joined| (router, joined)))
        .flat_map(|(router, joined)| {
            let addresses = joined.addresses.iter().filter_map(|address| address.parse().ok());
            addresses.map(move |address| ((joined.network.as_str(), address), router.name.as_str()))
        })
        .collect();
    let mut outer = BTreeMap::<String, Vec<String>>::new();
    for (port, address) in objects.floating_ips.iter().filter_map(led) {
        outer.entry(port).or_default().push(address);
    }
    let balancers = objects.load_balancers.iter().map(|balancer| {
        let leads = |floating: &&FloatingIP| floating.spec.load_balancer.as_ref() == Some(&balancer.name_any());
        let leading = objects.floating_ips.iter().filter(leads);
        let leading = leading.filter_map(|floating| floating.status.as_ref()?.address.clone());
        balanced::balanced(balancer, leading.collect())
    });
    let mut load_balancers: Vec<BalancerDrawn> = balancers.collect();
    load_balancers.sort_by(|one, other| one.name.cmp(&other.name));
    let mut ports = BTreeMap::<&str, Vec<PortDrawn>>::new();
    for port in &objects.ports {
        let drawn = plugged(port, own, outer.get(&port.name_any()).cloned().unwrap_or_default());
        ports.entry(&port.spec.network).or_default().push(drawn);
    }
    let mut networks: Vec<NetworkDrawn> = objects
        .networks
        .iter()
        .map(|network| {
            let mut within = ports.remove(network.name_any().as_str()).unwrap_or_default();
            within.sort_by(|one, other| one.name.cmp(&other.name));
            wired(network, within, &gateways)
        })
        .collect();
    networks.sort_by(|one, other| one.name.cmp(&other.name));
    routers.sort_by(|one, other| one.name.cmp(&other.name));
    floating_ips.sort_by(|one, other| one.name.cmp(&other.name));
    Map {
        namespace: own.to_owned(),
        routers,
        networks,
        load_balancers,
        floating_ips,
        unread: objects.unread.clone(),
    }
}

fn wired(network: &Network, ports: Vec<PortDrawn>, gateways: &BTreeMap<(&str, IpAddr), &str>) -> NetworkDrawn {
    let name = network.name_any();
    let (spec, status) = (&network.spec, network.status.as_ref());
    let valid = validate(spec).ok();
    let usage = |subnet: &str| status.and_then(|status| status.subnets.iter().find(|used| used.name == subnet));
    let subnets = valid
        .iter()
        .flat_map(|valid| &valid.subnets)
        .map(|subnet: &ValidSubnet| {
            let router = subnet
                .gateway
                .and_then(|gateway| gateways.get(&(name.as_str(), gateway)));
            SubnetDrawn {
                name: subnet.name.clone(),
                cidr: subnet.cidr.to_string(),
                gateway: subnet.gateway.map(|gateway| gateway.to_string()),
                router: router.map(ToString::to_string),
                used: usage(&subnet.name).map(|usage| usage.used),
                total: usage(&subnet.name).map(|usage| usage.total),
            }
        });
    NetworkDrawn {
        subnets: subnets.collect(),
        type_: match valid.as_ref().map(|valid| &valid.segment) {
            None | Some(Segment::Overlay) => format!("{:?}", spec.type_),
            Some(Segment::Physical { network, vlan: None }) => format!("Flat in {network}"),
            Some(Segment::Physical {
                network,
                vlan: Some(tag),
            }) => format!("VLAN {tag} in {network}"),
        },
        mtu: status.and_then(|status| status.mtu),
        dns_domain: spec.dns_domain.clone(),
        scope: spec.scope,
        port_security: spec.port_security,
        ports,
        problem: problem(status.map(|status| status.conditions.as_slice())),
        name,
    }
}

fn routed(router: &Router, own: &str) -> RouterDrawn {
    let spec = &router.spec;
    let status = router.status.clone().unwrap_or_default();
    let outside = spec.external_gateway.as_ref().map(|gateway| Outside {
        network: elsewhere(&gateway.network, own),
        addresses: status.external_addresses.clone(),
        snat: gateway.snat,
        hosts: status.gateway_chassis.clone(),
    });
    let networks = spec.networks.iter().map(|joined| {
        let told = status.networks.iter().find(|told| told.network == joined.network);
        Joined {
            network: joined.network.clone(),
            addresses: told.map(|told| told.addresses.clone()).unwrap_or_default(),
        }
    });
    RouterDrawn {
        name: router.name_any(),
        outside,
        networks: networks.collect(),
        routes: spec.routes.clone(),
        problem: problem(router.status.as_ref().map(|status| status.conditions.as_slice())),
    }
}

fn floating(floating: &FloatingIP, own: &str) -> FloatingDrawn {
    let spec = &floating.spec;
    let status = floating.status.clone().unwrap_or_default();
    let holder = |port: Option<&String>, instance: Option<&String>| match (port, instance) {
        (Some(port), _) => Some(Holder {
            kind: "Port",
            name: port.clone(),
        }),
        (None, Some(instance)) => Some(Holder {
            kind: "Instance",
            name: instance.clone(),
        }),
        (None, None) => None,
    };
    let balancer = spec.load_balancer.as_ref().map(|name| Holder {
        kind: "LoadBalancer",
        name: name.clone(),
    });
    let whole = holder(spec.port.as_ref(), spec.instance.as_ref()).or(balancer);
    let whole = whole.map(|to| Lead {
        protocol: None,
        external_port: None,
        to,
        address: status.fixed_address.clone(),
        internal_port: None,
    });
    let single = spec.port_forwardings.iter().filter_map(|forward| {
        Some(Lead {
            protocol: Some(forward.protocol),
            external_port: Some(forward.external_port),
            to: holder(forward.port.as_ref(), forward.instance.as_ref())?,
            address: None,
            internal_port: Some(forward.internal_port),
        })
    });
    FloatingDrawn {
        name: floating.name_any(),
        network: elsewhere(&spec.network, own),
        leads: whole.into_iter().chain(single).collect(),
        router: status.router.clone(),
        problem: problem(floating.status.as_ref().map(|status| status.conditions.as_slice())),
        address: status.address,
    }
}

/// The Port that has the whole of an address outside, with that.
fn led(floating: &FloatingIP) -> Option<(String, String)> {
    let status = floating.status.as_ref()?;
    Some((status.port.clone()?, status.address.clone()?))
}

fn plugged(port: &Port, own: &str, floating_ips: Vec<String>) -> PortDrawn {
    let spec = &port.spec;
    let held = |kind, holder: &virga_crds::PortHolder| Holder {
        kind,
        name: named(&holder.namespace, &holder.name, own),
    };
    let instance = (!spec.instance.is_empty()).then(|| Holder {
        kind: "Instance",
        name: spec.instance.clone(),
    });
    let holder = instance.or_else(|| Purpose::of(port).map(|(purpose, holder)| held(purpose.kind(), holder)));
    let conditions = port.status.as_ref().map(|status| status.conditions.as_slice());
    // Of one that nobody has, nobody says so.
    let is_free = is_users(spec) && spec.instance.is_empty();
    let up = conditions.filter(|_| !is_free);
    let up = up.map(|conditions| is_true(conditions, types::READY));
    PortDrawn {
        name: port.name_any(),
        holder,
        addresses: spec.addresses.iter().map(|held| held.ip.clone()).collect(),
        mac: spec.mac.clone(),
        node: spec.node_name.clone(),
        up,
        security_groups: of_port(spec).into_iter().map(Into::into).collect(),
        floating_ips,
        problem: problem(conditions).filter(|problem| !problem.starts_with("PortDown")),
    }
}

fn elsewhere(network: &NetworkRef, own: &str) -> String {
    let namespace = network.namespace.as_deref().unwrap_or(own);
    named(namespace, &network.name, own)
}

fn named(namespace: &str, name: &str, own: &str) -> String {
    if namespace == own {
        name.to_owned()
    } else {
        format!("{namespace}/{name}")
    }
}

/// What `Ready` says where that is not that all is well.
fn problem(conditions: Option<&[Condition]>) -> Option<String> {
    let ready = conditions?.iter().find(|condition| condition.type_ == types::READY)?;
    (ready.status != "True").then(|| format!("{}: {}", ready.reason, ready.message))
}

#[cfg(test)]
mod tests;
