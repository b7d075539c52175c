//! Who are the two ends, and which addresses do they speak with?

use std::net::IpAddr;

use virga_crds::Port;

use super::{
    Family, Question, Unclear,
    balancing::Balancing,
    world::{World, addresses, whose},
};
use crate::instance::port_of;

/// Both ends.
pub(super) struct Ends<'a> {
    pub start: Start<'a>,
    pub source: IpAddr,
    pub destination: IpAddr,
    pub from: String,
    pub to: String,
}

/// Where a packet begins.
#[derive(Clone, Copy)]
pub(super) enum Start<'a> {
    /// At a guest's Port.
    Guest(&'a str, &'a Port),
    /// Somewhere outside.
    Outside,
}

enum End<'w, 'a> {
    Guest(Vec<(&'a str, &'a Port)>),
    Address(IpAddr),
    Balancer(&'w Balancing<'a>),
}

impl End<'_, '_> {
    /// The address of a family, of what has no Port of a guest.
    fn address(&self, family: Family) -> Option<IpAddr> {
        let of_family = |address: &IpAddr| Family::of(*address) == family;
        match self {
            Self::Guest(_) => None,
            Self::Address(address) => Some(*address).filter(of_family),
            Self::Balancer(balancer) => balancer.addresses.iter().copied().find(of_family),
        }
    }
}

/// The ends that a question is about.
pub(super) fn of<'a>(world: &World<'a>, question: &Question) -> Result<Ends<'a>, Unclear> {
    let from = match end(world, &question.from)? {
        End::Address(address) => match world.holders(None, address).as_slice() {
            [] => {
                return match world.balancer_at(address) {
                    Some(balancer) => Err(Unclear::Balanced(address, balancer.name.to_owned())),
                    None => from_outside(world, question, address),
                };
            }
            [one] => vec![(*one, address)],
            several => return Err(ambiguous(address, several)),
        },
        End::Guest(ports) => plugs(&ports),
        End::Balancer(balancer) => {
            let own = balancer.addresses.first().copied();
            let unknown = || Unclear::Unknown(question.from.clone(), world.namespace.to_owned());
            return Err(own.map_or_else(unknown, |own| Unclear::Balanced(own, balancer.name.to_owned())));
        }
    };
    let to = end(world, &question.to)?;
    let to_plugs = match &to {
        End::Guest(ports) => plugs(ports),
        End::Address(_) | End::Balancer(_) => Vec::new(),
    };
    for family in families(question) {
        let from: Vec<_> = from
            .iter()
            .copied()
            .filter(|(_, own)| Family::of(*own) == family)
            .collect();
        let found = match &to {
            End::Address(_) | End::Balancer(_) => to.address(family).and_then(|address| {
                // The interface that is nearest.
                let near = from.iter().find(|((_, port), own)| is_near(world, port, *own, address));
                near.or(from.first()).map(|plug| (*plug, address))
            }),
            End::Guest(_) => {
                let to = to_plugs.iter().filter(|(_, theirs)| Family::of(*theirs) == family);
                let mut pairs = to.flat_map(|((_, port), theirs)| from.iter().map(|plug| (*plug, *port, *theirs)));
                let near = pairs.clone().find(|(((_, port), own), other, theirs)| {
                    port.spec.network == other.spec.network && is_near(world, port, *own, *theirs)
                });
                near.or_else(|| pairs.next()).map(|(plug, _, theirs)| (plug, theirs))
            }
        };
        if let Some((((name, port), source), destination)) = found {
            if world.network(&port.spec.network).is_none() {
                return Err(Unclear::NoNetwork(port.spec.network.clone(), name.to_owned()));
            }
            return Ok(Ends {
                start: Start::Guest(name, port),
                source,
                destination,
                from: format!("{}, {source}", whose(name, port)),
                to: whom(world, &to, destination),
            });
        }
    }
    let only = match question.family {
        None => "",
        Some(Family::V4) => ", IPv4",
        Some(Family::V6) => ", IPv6",
    };
    Err(Unclear::NoFamily(question.from.clone(), question.to.clone(), only))
}

/// From outside a guest is spoken to by its floating address, as far as it has one.
fn from_outside<'a>(world: &World<'a>, question: &Question, source: IpAddr) -> Result<Ends<'a>, Unclear> {
    let family = Family::of(source);
    let to = end(world, &question.to)?;
    let destination = match &to {
        End::Address(address) => Some(*address),
        End::Guest(ports) => {
            let own: Vec<IpAddr> = plugs(ports).into_iter().map(|(_, own)| own).collect();
            let mut floating = world.floating().iter();
            let led = floating.find(|floating| floating.whole.is_some_and(|whole| own.contains(&whole)));
            let led = led.map(|floating| floating.address).filter(|_| family == Family::V4);
            led.or_else(|| own.into_iter().find(|own| Family::of(*own) == family))
        }
        End::Balancer(balancer) => {
            let mut floating = world.floating().iter();
            let led = floating.find(|floating| floating.balancer == Some(balancer.name));
            let led = led.map(|floating| floating.address).filter(|_| family == Family::V4);
            led.or_else(|| to.address(family))
        }
    };
    let destination = destination.filter(|address| Family::of(*address) == family);
    let Some(destination) = destination else {
        return Err(Unclear::NoFamily(question.from.clone(), question.to.clone(), ""));
    };
    let known = !world.holders(None, destination).is_empty()
        || world.balancer_at(destination).is_some()
        || world.floating().iter().any(|floating| floating.address == destination)
        || world
            .routers()
            .iter()
            .any(|router| router.external.contains(&destination));
    if !known {
        let namespace = world.namespace.to_owned();
        return Err(Unclear::Elsewhere(
            question.from.clone(),
            question.to.clone(),
            namespace,
        ));
    }
    Ok(Ends {
        start: Start::Outside,
        source,
        destination,
        from: format!("outside, {source}"),
        to: whom(world, &to, destination),
    })
}

fn end<'w, 'a>(world: &'w World<'a>, text: &str) -> Result<End<'w, 'a>, Unclear> {
    let (kind, name) = match text.split_once('/') {
        Some((kind, name)) => (Some(kind.to_lowercase()), name),
        None => (None, text),
    };
    if kind.is_none()
        && let Ok(address) = name.parse()
    {
        return Ok(End::Address(address));
    }
    let is = |kinds: &[&str]| kind.as_deref().is_none_or(|kind| kinds.contains(&kind));
    if is(&["instance", "instances"])
        && let Some(instance) = world.instance(name)
    {
        let interfaces = instance.spec.interfaces.iter();
        let names = interfaces.map(|interface| port_of(name, interface));
        // One that another Instance has is not its own, though it names it.
        let is_its = |port: &Port| port.spec.instance == name;
        let ports: Vec<_> = names
            .filter_map(|port| world.guests().find(|(known, held)| *known == port && is_its(held)))
            .collect();
        return if ports.is_empty() {
            Err(Unclear::NoPort(name.to_owned()))
        } else {
            Ok(End::Guest(ports))
        };
    }
    if is(&["port", "ports"])
        && let Some(port) = world.guests().find(|(known, _)| *known == name)
    {
        return Ok(End::Guest(vec![port]));
    }
    if is(&["loadbalancer", "loadbalancers", "lb"])
        && let Some(balancer) = world.balancer(name)
    {
        return Ok(End::Balancer(balancer));
    }
    Err(Unclear::Unknown(text.to_owned(), world.namespace.to_owned()))
}

/// A Port, by name, and one of its addresses.
type Plug<'a> = ((&'a str, &'a Port), IpAddr);

fn plugs<'a>(ports: &[(&'a str, &'a Port)]) -> Vec<Plug<'a>> {
    let plugs = ports
        .iter()
        .flat_map(|plug| addresses(plug.1).map(move |own| (*plug, own)));
    plugs.collect()
}

fn families(question: &Question) -> Vec<Family> {
    question
        .family
        .map_or_else(|| vec![Family::V4, Family::V6], |family| vec![family])
}

/// Whether an address is in the subnet that a Port's own one is in.
fn is_near(world: &World<'_>, port: &Port, own: IpAddr, other: IpAddr) -> bool {
    let Some(network) = world.network(&port.spec.network) else {
        return false;
    };
    let mut subnets = network.subnets.iter();
    subnets.any(|subnet| subnet.cidr.contains(&own) && subnet.cidr.contains(&other))
}

fn whom(world: &World<'_>, to: &End<'_, '_>, address: IpAddr) -> String {
    if let End::Guest(ports) = to {
        let mut ports = ports.iter();
        if let Some((name, port)) = ports.find(|(_, port)| addresses(port).any(|own| own == address)) {
            return format!("{}, {address}", whose(name, port));
        }
    }
    let mut floating = world.floating().iter();
    let floating = floating.find(|floating| floating.address == address);
    match (floating, world.balancer_at(address)) {
        (Some(floating), _) => format!("FloatingIP {}, {address}", floating.name),
        (None, Some(balancer)) => format!("LoadBalancer {}, {address}", balancer.name),
        (None, None) => address.to_string(),
    }
}

fn ambiguous(address: IpAddr, ports: &[(&str, &Port)]) -> Unclear {
    let names: Vec<&str> = ports.iter().map(|(name, _)| *name).collect();
    Unclear::Several(address, names.join(", "))
}
