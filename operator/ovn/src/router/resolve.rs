//! What does a Router come to, among the Networks and Routers that there are?
//!
//! What can't be is left out and told; the rest of the Router works. So one bad entry doesn't cut off the guests of the
//! others, and what is written never depends on what was written before.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use kube::ResourceExt as _;
use uuid::Uuid;
use virga_core::{
    carried::Obstacle,
    network::{Segment, ValidNetwork, ValidSubnet},
};
use virga_crds::{Distribution, JoinedNetwork, Port, Router, RouterNetwork, Snat, conditions::Reason};

use super::{Routers, advertised::Advertised};
use crate::holders::Name;

/// A Network as a Router sees it.
#[derive(Clone, Copy)]
pub(crate) struct NetworkSeen<'a> {
    pub uid: Uuid,
    /// None: its spec is invalid.
    pub valid: Option<&'a ValidNetwork>,
    pub mtu: u16,
}

/// How a Router looks at the Networks around it.
pub(crate) type Look<'a> = &'a dyn Fn(&Name) -> Option<NetworkSeen<'a>>;

/// A Router's port in a Network.
#[derive(Debug, Clone)]
pub(crate) struct Joint {
    pub network: Uuid,
    pub name: Name,
    pub mac: String,
    /// Its addresses, each with the range that it is in.
    pub addresses: Vec<(IpAddr, IpNet)>,
    pub mtu: u16,
    /// Whether frames leave the hosts as they are.
    pub physical: bool,
    /// Whether it is the way to the outside.
    pub external: bool,
    /// What IPv6 guests are advertised besides its ranges, if anything.
    pub advertised: Option<Advertised>,
}

/// What is to be written of a Router.
pub(crate) struct Resolved {
    pub uid: Uuid,
    pub name: String,
    pub joints: Vec<Joint>,
    pub routes: Vec<(IpNet, IpAddr)>,
    /// The IPv4 address that guests go out with.
    pub snat: Option<IpAddr>,
    /// The hosts that can be its gateway; none: it is not known which, and its rows stay as they are.
    pub chassis: Option<Vec<String>>,
    /// Whether FloatingIPs change addresses on the guests' own hosts.
    pub distributed: bool,
    /// What is not as the spec says.
    pub problems: Vec<Obstacle>,
}

impl Resolved {
    pub fn external(&self) -> Option<&Joint> {
        self.joints.iter().find(|joint| joint.external)
    }

    /// The Networks that it has joined, for its status.
    pub fn joined(&self) -> Vec<JoinedNetwork> {
        let inner = self.joints.iter().filter(|joint| !joint.external);
        inner
            .map(|joint| JoinedNetwork {
                network: joint.name.1.clone(),
                addresses: joint.addresses.iter().map(|(address, _)| address.to_string()).collect(),
            })
            .collect()
    }
}

/// One address of a Router in one subnet, before it is known whether it can have it.
struct Candidate<'a> {
    /// The place of the entry in the spec; the external gateway comes first.
    entry: usize,
    /// The place of the subnet in its Network.
    subnet: usize,
    field: String,
    name: Name,
    seen: NetworkSeen<'a>,
    valid: &'a ValidNetwork,
    address: IpAddr,
    range: IpNet,
    mac: Option<String>,
}

/// What a Router comes to.
pub(super) fn resolve(routers: &Routers, router: &Router, uid: Uuid, look: Look<'_>) -> Resolved {
    let own = router.namespace().unwrap_or_default();
    let mut problems = Vec::new();
    let mut candidates = Vec::new();
    let mut chassis = Some(Vec::new());
    let mut hops = Vec::new();
    if let Some(gateway) = &router.spec.external_gateway {
        let namespace = gateway.network.namespace.clone().unwrap_or_else(|| own.clone());
        let name = (namespace, gateway.network.name.clone());
        match outside(routers, uid, &name, look) {
            Err(problem) => problems.push(problem),
            Ok(found) => {
                hops = next_hops(&found);
                if let Some(first) = found.first()
                    && let Segment::Physical { network, .. } = &first.valid.segment
                {
                    chassis = routers.hosts.of(uid, network);
                    problems.extend(no_host(routers, chassis.as_deref(), network, &name));
                }
                candidates.extend(found);
            }
        }
    }
    for (place, joined) in router.spec.networks.iter().enumerate() {
        let name = (own.clone(), joined.network.clone());
        match inside(routers, router, uid, joined, &name, look) {
            Err(problem) => problems.push(problem),
            Ok(found) => candidates.extend(found.into_iter().map(|candidate| Candidate {
                entry: place + 1,
                ..candidate
            })),
        }
    }
    let joints = joints(uid, candidates, &mut problems);
    let ways = routes(router, &joints, hops, &mut problems);
    let outer = joints.iter().find(|joint| joint.external);
    let outer = outer.and_then(|joint| {
        joint
            .addresses
            .iter()
            .map(|(address, _)| *address)
            .find(IpAddr::is_ipv4)
    });
    let wanted = router.spec.external_gateway.as_ref().map(|gateway| gateway.snat);
    Resolved {
        uid,
        name: format!("{own}/{}", router.name_any()),
        snat: outer.filter(|_| wanted == Some(Snat::Enabled)),
        joints,
        routes: ways,
        distributed: router.spec.distribution == Distribution::Distributed,
        chassis,
        problems,
    }
}

/// What there is of a Network, if it can be joined.
fn network<'a>(field: &str, name: &Name, look: Look<'a>) -> Result<(NetworkSeen<'a>, &'a ValidNetwork), Obstacle> {
    let (namespace, network) = name;
    let seen = look(name).ok_or_else(|| Obstacle {
        reason: Reason::NetworkNotFound,
        message: format!("{field}: Network {namespace}/{network} doesn't exist: create it, or name another"),
    })?;
    let valid = seen.valid.ok_or_else(|| Obstacle {
        reason: Reason::NetworkNotReady,
        message: format!("{field}: Network {namespace}/{network} is invalid: see its Ready condition"),
    })?;
    Ok((seen, valid))
}

/// The Router's addresses in the external Network: those of its Port there.
fn outside<'a>(routers: &Routers, uid: Uuid, name: &Name, look: Look<'a>) -> Result<Vec<Candidate<'a>>, Obstacle> {
    let field = "spec.externalGateway.network";
    let (seen, valid) = network(field, name, look)?;
    let (namespace, network) = name;
    if !valid.external {
        return Err(invalid(format!(
            "{field}: Network {namespace}/{network} is not external: name one with scope External"
        )));
    }
    let port = routers.port(uid, name).ok_or_else(|| Obstacle {
        reason: Reason::WaitingForAddress,
        message: format!("{field}: there is no address of Network {namespace}/{network} for it yet"),
    })?;
    let candidates = held(port, valid).map(|(subnet, address, range)| Candidate {
        entry: 0,
        subnet,
        field: field.to_owned(),
        name: name.clone(),
        seen,
        valid,
        address,
        range,
        mac: Some(port.spec.mac.clone()),
    });
    Ok(candidates.collect())
}

/// What a Port has, with the place of each subnet.
pub(crate) fn held(port: &Port, valid: &ValidNetwork) -> impl Iterator<Item = (usize, IpAddr, IpNet)> {
    port.spec.addresses.iter().filter_map(|held| {
        let address: IpAddr = held.ip.parse().ok()?;
        let place = valid.subnets.iter().position(|subnet| subnet.cidr.contains(&address))?;
        Some((place, address, valid.subnets[place].cidr))
    })
}

fn no_host(routers: &Routers, chassis: Option<&[String]>, physical: &str, name: &Name) -> Option<Obstacle> {
    let (namespace, network) = name;
    let unknown = |cure: &str| Obstacle {
        reason: Reason::GatewayHostsUnknown,
        message: format!("which hosts can be its gateway is not known: {cure}"),
    };
    match chassis {
        None => Some(unknown("OVN's south-bound database has not been read yet")),
        Some([]) if routers.hosts == super::GatewayHosts::NotConfigured => {
            Some(unknown("have the operator set network.ovn.southbound of the chart"))
        }
        Some([]) => Some(Obstacle {
            reason: Reason::NoGatewayHost,
            message: format!(
                "no host has the physical network {physical} of Network {namespace}/{network}: have the operator put it into \
                 ovn-bridge-mappings of some host"
            ),
        }),
        Some(_) => None,
    }
}

/// The Router's addresses in a Network of its own: the gateways', or the one that it asks for.
fn inside<'a>(
    routers: &Routers,
    router: &Router,
    uid: Uuid,
    joined: &RouterNetwork,
    name: &Name,
    look: Look<'a>,
) -> Result<Vec<Candidate<'a>>, Obstacle> {
    let field = format!("spec.networks[{}]", joined.network);
    let (seen, valid) = network(&field, name, look)?;
    let (namespace, network) = name;
    let physical = valid.segment != Segment::Overlay;
    let is_outside = router.spec.external_gateway.as_ref().is_some_and(|gateway| {
        &gateway.network.name == network
            && gateway
                .network
                .namespace
                .as_ref()
                .is_none_or(|other| other == namespace)
    });
    if is_outside {
        return Err(invalid(format!(
            "{field}: it is the external gateway's Network: take it out here"
        )));
    }
    let of_subnet =
        |(_, subnet): &(usize, &ValidSubnet)| joined.subnet.as_ref().is_none_or(|name| *name == subnet.name);
    let subnets: Vec<(usize, &ValidSubnet)> = valid.subnets.iter().enumerate().filter(of_subnet).collect();
    if subnets.is_empty() {
        let there: Vec<&str> = valid.subnets.iter().map(|subnet| subnet.name.as_str()).collect();
        return Err(invalid(format!(
            "{field}.subnet: Network {namespace}/{network} has no such subnet: take one of {}",
            there.join(", ")
        )));
    }
    let asked: Option<IpAddr> = joined.address.as_deref().and_then(|text| text.parse().ok());
    let found: Vec<(usize, IpAddr, IpNet)> = match asked {
        Some(asked) => {
            let place = subnets.iter().find(|(_, subnet)| subnet.cidr.contains(&asked));
            let &(place, subnet) = place.ok_or_else(|| Obstacle {
                reason: Reason::AddressInvalid,
                message: format!(
                    "{field}.address: {asked} is in no subnet of it that Network {namespace}/{network} has"
                ),
            })?;
            let own_port = routers
                .port(uid, name)
                .is_some_and(|port| held(port, valid).any(|(_, ip, _)| ip == asked));
            if (subnet.gateway != Some(asked) || physical) && !own_port {
                return Err(Obstacle {
                    reason: Reason::WaitingForAddress,
                    message: format!("{field}.address: {asked} of Network {namespace}/{network} is not its own yet"),
                });
            }
            vec![(place, asked, subnet.cidr)]
        }
        None if physical => {
            return Err(invalid(format!(
                "{field}.address: the gateway of Network {namespace}/{network} is a machine in the physical network: give the \
                 Router another address"
            )));
        }
        None => {
            let gateways = subnets
                .iter()
                .filter_map(|(place, subnet)| Some((*place, subnet.gateway?, subnet.cidr)));
            gateways.collect()
        }
    };
    if found.is_empty() {
        return Err(invalid(format!(
            "{field}: no subnet of it in Network {namespace}/{network} has a gateway: give the Router an address"
        )));
    }
    for (_, address, _) in &found {
        if let Some(other) = routers.has_before(uid, router, name, *address, valid) {
            return Err(Obstacle {
                reason: Reason::AddressInUse,
                message: format!(
                    "{field}: {address} of Network {namespace}/{network} is Router {namespace}/{other}'s: give this one another \
                     address"
                ),
            });
        }
    }
    let port = routers.port(uid, name).filter(|_| asked.is_some());
    let candidates = found.into_iter().map(|(subnet, address, range)| Candidate {
        entry: 0,
        subnet,
        field: field.clone(),
        name: name.clone(),
        seen,
        valid,
        address,
        range,
        mac: port.map(|port| port.spec.mac.clone()),
    });
    Ok(candidates.collect())
}

/// Ports of those that don't overlap. What was there first stays: a Network's first subnet before one that was added.
fn joints(uid: Uuid, mut candidates: Vec<Candidate<'_>>, problems: &mut Vec<Obstacle>) -> Vec<Joint> {
    candidates.sort_by_key(|candidate| (candidate.entry > 0, candidate.subnet, candidate.entry));
    let mut taken: Vec<Candidate<'_>> = Vec::new();
    for new in candidates {
        let overlaps = |old: &&Candidate<'_>| old.range.contains(&new.range) || new.range.contains(&old.range);
        match taken.iter().find(overlaps) {
            Some(old) => problems.push(invalid(format!(
                "{}: {} of Network {}/{} overlaps with {} of Network {}/{}: a Router can't tell them apart, so leave one out",
                new.field, new.range, new.name.0, new.name.1, old.range, old.name.0, old.name.1
            ))),
            None => taken.push(new),
        }
    }
    taken.sort_by_key(|candidate| (candidate.entry, candidate.subnet));
    let mut joints: Vec<Joint> = Vec::new();
    for candidate in taken {
        let address = (candidate.address, candidate.range);
        if let Some(joint) = joints.iter_mut().find(|joint| joint.network == candidate.seen.uid) {
            joint.addresses.push(address);
            continue;
        }
        joints.push(Joint {
            network: candidate.seen.uid,
            mac: candidate
                .mac
                .unwrap_or_else(|| crate::key::router_mac(uid, candidate.seen.uid)),
            name: candidate.name,
            addresses: vec![address],
            mtu: candidate.seen.mtu,
            physical: candidate.valid.segment != Segment::Overlay,
            external: candidate.entry == 0,
            advertised: Advertised::of(candidate.valid),
        });
    }
    joints
}

/// The gateways of the external subnets that a Router has addresses of.
fn next_hops(found: &[Candidate<'_>]) -> Vec<IpAddr> {
    let hops = found
        .iter()
        .filter_map(|candidate| candidate.valid.subnets[candidate.subnet].gateway);
    hops.collect()
}

fn routes(router: &Router, joints: &[Joint], hops: Vec<IpAddr>, problems: &mut Vec<Obstacle>) -> Vec<(IpNet, IpAddr)> {
    let mut ways = Vec::new();
    for route in &router.spec.routes {
        let field = format!("spec.routes[{} {}]", route.destination, route.next_hop);
        let (Ok(destination), Ok(hop)) = (route.destination.parse::<IpNet>(), route.next_hop.parse::<IpAddr>()) else {
            problems.push(invalid(format!("{field}: not a network and an address")));
            continue;
        };
        let mut addresses = joints.iter().flat_map(|joint| &joint.addresses);
        if destination.addr().is_ipv4() != hop.is_ipv4() {
            problems.push(invalid(format!("{field}: one is IPv4 and the other IPv6")));
        } else if joints
            .iter()
            .flat_map(|joint| &joint.addresses)
            .any(|(own, _)| *own == hop)
        {
            problems.push(invalid(format!(
                "{field}: that is the Router itself: name the next one on the way"
            )));
        } else if addresses.any(|(_, range)| range.contains(&hop)) {
            ways.push((destination, hop));
        } else {
            problems.push(invalid(format!(
                "{field}: the next hop is in no subnet that the Router has joined: join it, or name another"
            )));
        }
    }
    for hop in hops {
        let is_default = |net: &IpNet| net.prefix_len() == 0 && net.addr().is_ipv4() == hop.is_ipv4();
        if !ways.iter().any(|(net, _)| is_default(net)) {
            ways.push((everywhere(hop.is_ipv4()), hop));
        }
    }
    ways
}

/// The range of all addresses of a family.
pub(crate) fn everywhere(v4: bool) -> IpNet {
    if v4 {
        IpNet::V4(Ipv4Net::default())
    } else {
        IpNet::V6(Ipv6Net::default())
    }
}

fn invalid(message: String) -> Obstacle {
    Obstacle {
        reason: Reason::Invalid,
        message,
    }
}
