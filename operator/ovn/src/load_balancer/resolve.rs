//! What does a LoadBalancer come to, among the Networks, Routers and guests that there are?
//!
//! Its address is that of a small router of its own, with one port: so it is answered for in its Network, whether that has
//! a Router or not. Connections are shared out where they begin: in the switches of all Networks from which they can come.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use kube::ResourceExt as _;
use uuid::Uuid;
use virga_core::{
    carried::Obstacle,
    load_balancer::{Check, MOST_MEMBERS, Reach, Seen, SeenMember, members_network},
    network::{Purpose, Segment, ValidNetwork},
};
use virga_crds::{ForwardedProtocol, HealthCheck, LoadBalancer, Port, conditions::Reason};

use super::LoadBalancers;
use crate::{
    holders::Name,
    router::{Look, NetworkSeen, Resolved, everywhere, held},
};

/// What a LoadBalancer finds around it.
pub(crate) struct Around<'a, 'n> {
    pub look: Look<'n>,
    /// The Routers of its namespace.
    pub routers: &'a [Resolved],
    /// A guest's Port of its namespace, by name.
    pub plug: &'a dyn Fn(&str) -> Option<Arc<Port>>,
    /// A guest's Port in a Network, by address.
    pub at: &'a dyn Fn(&Name, IpAddr) -> Option<Arc<Port>>,
}

/// Where a LoadBalancer is.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub network: Uuid,
    pub network_name: Name,
    pub mac: String,
    /// Its addresses, each with the range that it is in.
    pub addresses: Vec<(IpAddr, IpNet)>,
    /// The ways to members in other Networks.
    pub routes: Vec<(IpNet, IpAddr)>,
    /// The Networks that connections can come from.
    pub networks: BTreeSet<Name>,
    /// The ranges that it reaches.
    reaches: Vec<IpNet>,
}

/// Somebody who is sent connections.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub address: IpAddr,
    /// The Port by which it is asked whether it answers, and where from.
    pub asked: Option<(String, IpAddr)>,
}

/// What is to be written of a LoadBalancer.
#[derive(Debug, Clone)]
pub(crate) struct ResolvedBalancer {
    pub uid: Uuid,
    pub name: String,
    pub generation: Option<i64>,
    /// None: it has no rows.
    pub place: Option<Place>,
    /// Protocol, port, members' port.
    pub listeners: Vec<(ForwardedProtocol, u16, u16)>,
    pub members: Vec<Member>,
    pub check: Option<HealthCheck>,
    /// In seconds.
    pub affinity: u64,
    pub seen: Seen,
}

impl LoadBalancers {
    /// What one comes to.
    pub fn resolve(&self, uid: Uuid, around: &Around<'_, '_>) -> Option<ResolvedBalancer> {
        let balancer = self.known.get(uid)?;
        let spec = &balancer.spec;
        let affinity = spec.affinity_timeout.as_deref();
        let affinity = affinity.and_then(virga_core::duration::read).unwrap_or_default();
        let listeners = spec.listeners.iter();
        let mut resolved = ResolvedBalancer {
            uid,
            name: format!("{}/{}", balancer.namespace().unwrap_or_default(), balancer.name_any()),
            generation: balancer.metadata.generation,
            place: None,
            listeners: listeners
                .map(|listener| {
                    (
                        listener.protocol,
                        listener.port,
                        listener.member_port.unwrap_or(listener.port),
                    )
                })
                .collect(),
            members: Vec::new(),
            check: spec.health_check.clone(),
            affinity: affinity.as_secs(),
            seen: Seen::default(),
        };
        // What is told first is what comes first.
        let record = self.records.get(uid, Purpose::Vip);
        let held = record.into_iter().flat_map(|port| &port.spec.addresses);
        resolved.seen.addresses = held.map(|held| held.ip.clone()).collect();
        match self.place(uid, around.look, around.routers)? {
            Err(problem) => resolved.seen.problem = Some(problem),
            Ok(place) => {
                self.fill(balancer, &place, around, &mut resolved);
                resolved.place = Some(place);
            }
        }
        Some(resolved)
    }

    /// Where one is; none: there is none.
    pub fn place(&self, uid: Uuid, look: Look<'_>, routers: &[Resolved]) -> Option<Result<Place, Obstacle>> {
        let balancer = self.known.get(uid)?;
        Some(self.find_place(balancer, uid, look, routers))
    }

    fn find_place(
        &self,
        balancer: &LoadBalancer,
        uid: Uuid,
        look: Look<'_>,
        routers: &[Resolved],
    ) -> Result<Place, Obstacle> {
        let namespace = balancer.namespace().unwrap_or_default();
        let name: Name = (namespace.clone(), balancer.spec.vip.network.clone());
        let (seen, valid) = network("spec.vip.network", &name, look)?;
        if valid.segment != Segment::Overlay {
            let message = format!(
                "spec.vip.network: Network {}/{} reaches a physical network, whose machines would see the address on every \
                 host at once: take an Overlay one, and let a FloatingIP lead to it",
                name.0, name.1
            );
            return Err(obstacle(Reason::Invalid, message));
        }
        let record = self.records.get(uid, Purpose::Vip).ok_or_else(|| {
            let message = format!(
                "spec.vip: there is no address of Network {}/{} for it yet",
                name.0, name.1
            );
            obstacle(Reason::WaitingForAddress, message)
        })?;
        let addresses: Vec<(IpAddr, IpNet)> = held(record, valid).map(|(_, ip, range)| (ip, range)).collect();
        let joins = |router: &&Resolved| router.joints.iter().any(|joint| !joint.external && joint.name == name);
        let (mut joined, mut ways) = (BTreeSet::from([name.clone()]), Vec::new());
        let mut reaches: Vec<IpNet> = addresses.iter().map(|(_, range)| *range).collect();
        for router in routers.iter().filter(joins) {
            let inner = || router.joints.iter().filter(|joint| !joint.external);
            joined.extend(inner().map(|joint| joint.name.clone()));
            let here = inner().filter(|joint| joint.name == name);
            for (hop, _) in here.flat_map(|joint| &joint.addresses) {
                let same = |(_, range): &&(IpAddr, IpNet)| range.contains(hop);
                let is_first = !ways
                    .iter()
                    .any(|(to, _): &(IpNet, IpAddr)| to.addr().is_ipv4() == hop.is_ipv4());
                if is_first && addresses.iter().any(|address| same(&address)) {
                    ways.push((everywhere(hop.is_ipv4()), *hop));
                    let others = inner().flat_map(|joint| &joint.addresses).map(|(_, range)| *range);
                    reaches.extend(others.filter(|range| range.addr().is_ipv4() == hop.is_ipv4()));
                }
            }
        }
        Ok(Place {
            network: seen.uid,
            network_name: name,
            mac: record.spec.mac.clone(),
            addresses,
            routes: ways,
            networks: joined,
            reaches,
        })
    }

    fn fill(&self, balancer: &LoadBalancer, place: &Place, around: &Around<'_, '_>, resolved: &mut ResolvedBalancer) {
        let (namespace, spec) = (balancer.namespace().unwrap_or_default(), &balancer.spec);
        let inner: Name = (namespace.clone(), members_network(balancer).to_owned());
        let field = match spec.members.network {
            Some(_) => "spec.members.network",
            None => "spec.vip.network",
        };
        let valid = match network(field, &inner, around.look) {
            Ok((_, valid)) => valid,
            Err(problem) => {
                resolved.seen.problem = Some(problem);
                return;
            }
        };
        let mut problems = Vec::new();
        let mut asking = Asking {
            valid,
            sources: self.source(resolved.uid),
            place,
            resolved,
            problems: &mut problems,
        };
        if spec.health_check.is_some() && asking.sources.is_empty() {
            let message = format!(
                "spec.healthCheck: there is no address of Network {}/{} to ask from yet",
                inner.0, inner.1
            );
            asking.problems.push(obstacle(Reason::WaitingForAddress, message));
        }
        let chosen = self.chosen(balancer, &inner.1);
        if chosen.len() > MOST_MEMBERS {
            let message = format!(
                "spec.members.selector: it chooses {} Instances, and takes the first {MOST_MEMBERS}: choose fewer",
                chosen.len()
            );
            asking.problems.push(obstacle(Reason::Invalid, message));
        }
        for (instance, served, port) in chosen.into_iter().take(MOST_MEMBERS) {
            // One that it names may be another's still.
            match (around.plug)(&port).filter(|port| port.spec.instance == instance) {
                // A Network of another namespace may be called the same.
                Some(port) if port.spec.network_in(&namespace) != inner.0 => {
                    let message = format!(
                        "spec.members.selector: Instance {namespace}/{instance} is chosen, and its interface is in Network {}/{}, \
                         which is shared by another namespace and which no Router of this one reaches: give it an interface in \
                         Network {}/{}, or take the label off",
                        port.spec.network_in(&namespace),
                        port.spec.network,
                        inner.0,
                        inner.1
                    );
                    asking.problems.push(obstacle(Reason::NotRouted, message));
                }
                Some(port) => asking.guest(instance, served, &port),
                // What does not run may not have its Port yet.
                None if served => {
                    let message = format!(
                        "spec.members.selector: Instance {namespace}/{instance} is chosen and has no interface in Network \
                         {}/{}: give it one, or take the label off",
                        inner.0, inner.1
                    );
                    asking.problems.push(obstacle(Reason::PortNotFound, message));
                }
                None => {}
            }
        }
        for text in &spec.members.addresses {
            let Ok(address) = text.parse::<IpAddr>() else { continue };
            asking.named(address, (around.at)(&inner, address).as_deref());
        }
        resolved.seen.problem = problems.into_iter().next();
    }
}

/// Adds members, one by one.
struct Asking<'a> {
    valid: &'a ValidNetwork,
    sources: BTreeSet<IpAddr>,
    place: &'a Place,
    resolved: &'a mut ResolvedBalancer,
    problems: &'a mut Vec<Obstacle>,
}

impl Asking<'_> {
    fn guest(&mut self, instance: &str, served: bool, port: &Port) {
        let addresses: Vec<IpAddr> = port
            .spec
            .addresses
            .iter()
            .filter_map(|held| held.ip.parse().ok())
            .collect();
        for address in addresses {
            let families = &self.place.addresses;
            if families.iter().any(|(vip, _)| vip.is_ipv4() == address.is_ipv4()) {
                self.add(address, Some(instance), served, port.uid());
            }
        }
    }

    fn named(&mut self, address: IpAddr, port: Option<&Port>) {
        if self
            .resolved
            .seen
            .members
            .iter()
            .any(|member| member.address == address)
        {
            return;
        }
        let problem = if self.place.addresses.iter().any(|(vip, _)| *vip == address) {
            Some(format!(
                "spec.members.addresses[{address}]: that is its own address: name somebody else"
            ))
        } else if self
            .place
            .addresses
            .iter()
            .all(|(vip, _)| vip.is_ipv4() != address.is_ipv4())
        {
            Some(format!(
                "spec.members.addresses[{address}]: it has no address of this family: take a Network with one"
            ))
        } else {
            None
        };
        if let Some(message) = problem {
            self.problems.push(obstacle(Reason::Invalid, message));
            return;
        }
        self.add(address, None, true, port.and_then(kube::ResourceExt::uid));
    }

    fn add(&mut self, address: IpAddr, instance: Option<&str>, served: bool, port: Option<String>) {
        let reached = self.place.reaches.iter().any(|range| range.contains(&address));
        let reach = match (served, reached) {
            (false, _) => Reach::Stopped,
            (true, false) => Reach::Nowhere,
            (true, true) => Reach::Served,
        };
        // OVN asks by IPv6 too, but does not tell the guest whom to answer (23.03: no neighbour advertisement for the
        // address that it asks from).
        let asked = port.filter(|_| address.is_ipv4()).and_then(|port| {
            let mut subnets = self.valid.subnets.iter().map(|subnet| subnet.cidr);
            let range = subnets.find(|range| range.contains(&address))?;
            // A guest answers to its own subnet, where its host takes the answer in.
            Some((port, *self.sources.iter().find(|source| range.contains(*source))?))
        });
        if reach == Reach::Nowhere {
            let who = instance.map_or_else(|| address.to_string(), |name| format!("Instance {name} ({address})"));
            let (namespace, name) = &self.place.network_name;
            let message = format!(
                "spec.members: no Router joins Network {namespace}/{name} with the Network of {who}: give one both"
            );
            self.problems.push(obstacle(Reason::NotRouted, message));
        }
        let is_asked = |(protocol, ..): &&(ForwardedProtocol, u16, u16)| *protocol != ForwardedProtocol::Sctp;
        let check = |(protocol, _, number): &(ForwardedProtocol, u16, u16)| {
            let (port, _) = asked.as_ref()?;
            Some(Check {
                port: port.clone(),
                address,
                number: *number,
                protocol: *protocol,
            })
        };
        let listeners = self.resolved.listeners.iter().filter(is_asked);
        let checks: BTreeSet<Check> = listeners.filter_map(check).collect();
        self.resolved.seen.members.push(SeenMember {
            address,
            instance: instance.map(str::to_owned),
            reach,
            checks: checks.into_iter().collect(),
        });
        if reach == Reach::Served {
            self.resolved.members.push(Member { address, asked });
        }
    }
}

/// What there is of a Network.
fn network<'a>(field: &str, name: &Name, look: Look<'a>) -> Result<(NetworkSeen<'a>, &'a ValidNetwork), Obstacle> {
    let (namespace, network) = name;
    let seen = look(name).ok_or_else(|| {
        let message = format!("{field}: Network {namespace}/{network} doesn't exist: create it, or name another");
        obstacle(Reason::NetworkNotFound, message)
    })?;
    let valid = seen.valid.ok_or_else(|| {
        let message = format!("{field}: Network {namespace}/{network} is invalid: see its Ready condition");
        obstacle(Reason::NetworkNotReady, message)
    })?;
    Ok((seen, valid))
}

fn obstacle(reason: Reason, message: String) -> Obstacle {
    Obstacle { reason, message }
}
