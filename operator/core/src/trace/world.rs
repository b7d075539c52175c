//! What is there in the namespace, by name and by address?

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use virga_crds::{
    AddressGroup, Condition, FloatingIP, ForwardedProtocol, Instance, LoadBalancer, Network, Port, Router,
    SecurityGroup, SecurityGroupRule, Snat, conditions::types,
};

use super::{Family, balancing::Balancing};
use crate::{
    instance::port_of,
    network::{ValidNetwork, validate},
    security_group::{Remote, of_port},
};

/// The objects of one namespace.
#[derive(Clone, Copy, Default)]
pub struct Objects<'a> {
    /// The namespace.
    pub namespace: &'a str,
    /// Networks.
    pub networks: &'a [Network],
    /// Ports.
    pub ports: &'a [Port],
    /// Routers.
    pub routers: &'a [Router],
    /// Floating IPs.
    pub floating_ips: &'a [FloatingIP],
    /// Load balancers.
    pub load_balancers: &'a [LoadBalancer],
    /// Security groups.
    pub security_groups: &'a [SecurityGroup],
    /// Address groups.
    pub address_groups: &'a [AddressGroup],
    /// Instances.
    pub instances: &'a [Instance],
}

/// The objects of one namespace, by name.
pub struct World<'a> {
    pub(super) namespace: &'a str,
    networks: BTreeMap<&'a str, (&'a Network, Option<ValidNetwork>)>,
    ports: BTreeMap<&'a str, &'a Port>,
    routers: Vec<Routing<'a>>,
    floating: Vec<Floating<'a>>,
    balancers: Vec<Balancing<'a>>,
    groups: BTreeMap<&'a str, &'a SecurityGroup>,
    addresses: BTreeMap<&'a str, &'a AddressGroup>,
    instances: BTreeMap<&'a str, &'a Instance>,
}

/// What a Router has come to, by its own status.
pub(super) struct Routing<'a> {
    pub object: &'a Router,
    pub name: &'a str,
    pub joints: Vec<Joint<'a>>,
    /// Its addresses outside.
    pub external: Vec<IpAddr>,
    pub routes: Vec<(IpNet, IpAddr)>,
}

/// An address of a Router in a Network.
#[derive(Clone, Copy)]
pub(super) struct Joint<'a> {
    pub network: &'a str,
    pub address: IpAddr,
    pub range: IpNet,
}

/// What an address outside leads to.
pub(super) struct Floating<'a> {
    pub object: &'a FloatingIP,
    pub name: &'a str,
    pub address: IpAddr,
    /// The Router that leads there.
    pub router: Option<&'a str>,
    /// The guest that has the whole of it.
    pub whole: Option<IpAddr>,
    /// The LoadBalancer that has all of it.
    pub balancer: Option<&'a str>,
    pub forwards: Vec<Forward>,
}

/// A port of an address outside, and where it leads to; none: nobody is there.
pub(super) struct Forward {
    pub protocol: u8,
    pub outer: u16,
    pub inner: u16,
    pub address: Option<IpAddr>,
}

impl<'a> World<'a> {
    /// Of these objects. Routers, `FloatingIPs` and `LoadBalancers` are taken as their status says.
    pub fn new(objects: Objects<'a>) -> Self {
        let networks = named(objects.networks, |object| &object.metadata);
        let mut world = Self {
            namespace: objects.namespace,
            networks: networks
                .map(|(name, network)| (name, (network, validate(&network.spec).ok())))
                .collect(),
            ports: named(objects.ports, |object| &object.metadata).collect(),
            routers: Vec::new(),
            floating: Vec::new(),
            balancers: Vec::new(),
            groups: named(objects.security_groups, |object| &object.metadata).collect(),
            addresses: named(objects.address_groups, |object| &object.metadata).collect(),
            instances: named(objects.instances, |object| &object.metadata).collect(),
        };
        let routers = named(objects.routers, |object| &object.metadata);
        world.routers = routers.map(|(name, router)| world.routing(name, router)).collect();
        let floating = named(objects.floating_ips, |object| &object.metadata);
        world.floating = floating
            .filter_map(|(name, floating)| world.leading(name, floating))
            .collect();
        let balancers = named(objects.load_balancers, |object| &object.metadata);
        let of = |(name, object): (&'a str, &'a LoadBalancer)| {
            let told = object.status.iter().flat_map(|status| &status.addresses);
            Balancing {
                object,
                name,
                addresses: told.filter_map(|address| address.parse().ok()).collect(),
            }
        };
        world.balancers = balancers.map(of).collect();
        world
    }

    fn routing(&self, name: &'a str, router: &'a Router) -> Routing<'a> {
        let status = router.status.as_ref();
        let joined = status.iter().flat_map(|status| &status.networks);
        let joints = joined.flat_map(|joined| {
            let range = |address: IpAddr| {
                let valid = self.network(&joined.network)?;
                let subnet = valid.subnets.iter().find(|subnet| subnet.cidr.contains(&address))?;
                Some(Joint {
                    network: &joined.network,
                    address,
                    range: subnet.cidr,
                })
            };
            let addresses = joined.addresses.iter().filter_map(|address| address.parse().ok());
            addresses.filter_map(range).collect::<Vec<_>>()
        });
        let external = status.iter().flat_map(|status| &status.external_addresses);
        let ways = router.spec.routes.iter();
        Routing {
            object: router,
            name,
            joints: joints.collect(),
            external: external.filter_map(|address| address.parse().ok()).collect(),
            routes: ways
                .filter_map(|route| Some((route.destination.parse().ok()?, route.next_hop.parse().ok()?)))
                .collect(),
        }
    }

    fn leading(&self, name: &'a str, floating: &'a FloatingIP) -> Option<Floating<'a>> {
        let status = floating.status.as_ref()?;
        let forwards = floating.spec.port_forwardings.iter().map(|forward| {
            let port = match (&forward.port, &forward.instance) {
                (Some(port), _) => Some(port.clone()),
                (None, Some(instance)) => self.first_port(instance),
                (None, None) => None,
            };
            let port = port.and_then(|port| self.guest(&port));
            Forward {
                protocol: number(forward.protocol),
                outer: forward.external_port,
                inner: forward.internal_port,
                address: port.and_then(|port| addresses(port).find(IpAddr::is_ipv4)),
            }
        });
        // Of a LoadBalancer it is the other address, and not a guest's.
        let fixed = status.fixed_address.as_deref();
        let fixed = fixed.filter(|_| floating.spec.load_balancer.is_none());
        Some(Floating {
            object: floating,
            name,
            address: status.address.as_deref()?.parse().ok()?,
            router: status.router.as_deref(),
            whole: fixed.and_then(|address| address.parse().ok()),
            balancer: floating.spec.load_balancer.as_deref(),
            forwards: forwards.collect(),
        })
    }

    /// The name of the Port of an Instance's first interface.
    fn first_port(&self, instance: &str) -> Option<String> {
        let found = self.instances.get(instance)?;
        Some(port_of(instance, found.spec.interfaces.first()?))
    }

    /// A Network that makes sense.
    pub(super) fn network(&self, name: &str) -> Option<&ValidNetwork> {
        self.networks.get(name)?.1.as_ref()
    }

    /// What `Ready` says of a Network where that is not that all is well.
    pub(super) fn trouble_of_network(&self, name: &str) -> Option<String> {
        trouble(&self.networks.get(name)?.0.status.as_ref()?.conditions)
    }

    /// A guest's Port.
    pub(super) fn guest(&self, name: &str) -> Option<&'a Port> {
        self.ports.get(name).copied().filter(|port| is_guest(port))
    }

    pub(super) fn guests(&self) -> impl Iterator<Item = (&'a str, &'a Port)> {
        let ports = self.ports.iter().map(|(name, port)| (*name, *port));
        ports.filter(|(_, port)| is_guest(port))
    }

    /// The guests' Ports with an address, in a Network or in any.
    pub(super) fn holders(&self, network: Option<&str>, address: IpAddr) -> Vec<(&'a str, &'a Port)> {
        let within = |port: &Port| network.is_none_or(|network| port.spec.network == network);
        let holds = |port: &Port| addresses(port).any(|held| held == address);
        let guests = self.guests();
        guests.filter(|(_, port)| within(port) && holds(port)).collect()
    }

    pub(super) fn balancers(&self) -> &[Balancing<'a>] {
        &self.balancers
    }

    pub(super) fn instance(&self, name: &str) -> Option<&'a Instance> {
        self.instances.get(name).copied()
    }

    pub(super) fn routers(&self) -> &[Routing<'a>] {
        &self.routers
    }

    pub(super) fn router(&self, name: &str) -> Option<&Routing<'a>> {
        self.routers.iter().find(|router| router.name == name)
    }

    /// The Router that has an address in a Network.
    pub(super) fn router_at(&self, network: &str, address: IpAddr) -> Option<&Routing<'a>> {
        self.routers.iter().find(|router| {
            let mut joints = router.joints.iter();
            joints.any(|joint| joint.network == network && joint.address == address)
        })
    }

    pub(super) fn floating(&self) -> &[Floating<'a>] {
        &self.floating
    }

    pub(super) fn group(&self, name: &str) -> Option<&'a SecurityGroup> {
        self.groups.get(name).copied()
    }

    /// The addresses that a remote group means: those of its Ports, as far as rules are for them.
    pub(super) fn members(&self, group: &str) -> BTreeSet<IpAddr> {
        if !self.groups.contains_key(group) {
            return BTreeSet::new();
        }
        let secured = |port: &Port| {
            self.network(&port.spec.network)
                .is_some_and(|network| network.port_security)
        };
        let of_group = |port: &Port| of_port(&port.spec).contains(&group);
        let guests = self.guests().map(|(_, port)| port);
        let guests = guests.filter(|port| secured(port) && of_group(port));
        guests.flat_map(addresses).collect()
    }

    /// Whether a rule's remote is this one.
    pub(super) fn is_remote(&self, rule: &SecurityGroupRule, peer: IpAddr) -> bool {
        let Some(remote) = &rule.remote else { return true };
        match (&remote.cidr, Remote::of(rule)) {
            (Some(cidr), None) => cidr.parse::<IpNet>().is_ok_and(|cidr| cidr.contains(&peer)),
            (None, Some(Remote::Group(group))) => self.members(group).contains(&peer),
            (None, Some(Remote::Addresses(group))) => {
                let found = self.addresses.get(group.name.as_str());
                found.is_some_and(|found| found.spec.addresses.iter().any(|range| is_within(range, peer)))
            }
            _ => false,
        }
    }
}

impl Routing<'_> {
    /// Its address outside of a family.
    pub fn outer(&self, family: Family) -> Option<IpAddr> {
        let mut addresses = self.external.iter().copied();
        addresses.find(|address| Family::of(*address) == family)
    }

    /// The Network outside, with its namespace where that is another one.
    pub fn outside(&self, own: &str) -> Option<String> {
        let network = &self.object.spec.external_gateway.as_ref()?.network;
        let namespace = network.namespace.as_deref().filter(|namespace| *namespace != own);
        Some(namespace.map_or_else(
            || network.name.clone(),
            |namespace| format!("{namespace}/{}", network.name),
        ))
    }

    /// Whether guests go out with its address.
    pub fn hides(&self) -> bool {
        let gateway = self.object.spec.external_gateway.as_ref();
        gateway.is_some_and(|gateway| gateway.snat == Snat::Enabled)
    }

    pub fn trouble(&self) -> Option<String> {
        trouble(&self.object.status.as_ref()?.conditions)
    }
}

impl Floating<'_> {
    pub fn trouble(&self) -> Option<String> {
        trouble(&self.object.status.as_ref()?.conditions)
    }
}

/// What `Ready` says where that is not that all is well.
pub(super) fn trouble(conditions: &[Condition]) -> Option<String> {
    let ready = conditions.iter().find(|condition| condition.type_ == types::READY)?;
    (ready.status != "True").then(|| ready.message.clone())
}

pub(super) fn addresses(port: &Port) -> impl Iterator<Item = IpAddr> {
    port.spec.addresses.iter().filter_map(|held| held.ip.parse().ok())
}

/// Whether an address is this one, or in this range.
pub(super) fn is_within(range: &str, address: IpAddr) -> bool {
    let is_it = range.parse::<IpAddr>().is_ok_and(|one| one == address);
    is_it || range.parse::<IpNet>().is_ok_and(|range| range.contains(&address))
}

/// A protocol's number in the header.
pub(super) fn number(protocol: ForwardedProtocol) -> u8 {
    match protocol {
        ForwardedProtocol::Tcp => 6,
        ForwardedProtocol::Udp => 17,
        ForwardedProtocol::Sctp => 132,
    }
}

/// A guest's, or one that is kept for a guest.
fn is_guest(port: &Port) -> bool {
    !port.spec.instance.is_empty() || port.spec.allocation.is_some()
}

/// A Port as people know it: with its Instance, if it has one.
pub(super) fn whose(name: &str, port: &Port) -> String {
    match port.spec.instance.as_str() {
        "" => format!("Port {name}, which no Instance has"),
        instance => format!("Instance {instance}, Port {name}"),
    }
}

fn named<K>(objects: &[K], meta: fn(&K) -> &ObjectMeta) -> impl Iterator<Item = (&str, &K)> {
    objects
        .iter()
        .filter_map(move |object| Some((meta(object).name.as_deref()?, object)))
}
