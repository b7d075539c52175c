//! Which way does a packet go, and who lets it pass?

mod balanced;
mod routed;

use std::net::IpAddr;

use virga_crds::{Port, RuleDirection};

use super::{
    Branch, Does, Family, Packet, Protocol, Question, Step, Trace, Verdict,
    balancing::Balancing,
    ends::{Ends, Start},
    rules::{self, Kind, Said},
    world::{Routing, World, addresses, is_within, trouble},
};
use crate::network::{Segment, ValidNetwork};

/// Follows a packet from its start until it ends.
pub(super) fn walk(world: &World<'_>, ends: Ends<'_>, question: &Question) -> Trace {
    let packet = Packet {
        protocol: question.protocol,
        port: question.port.filter(|_| question.protocol != Protocol::Icmp),
        source: ends.source,
        destination: ends.destination,
    };
    let mut walk = Walk {
        world,
        packet,
        steps: Vec::new(),
        notes: Vec::new(),
        routers: 0,
        untracked: Vec::new(),
        arrives_at: None,
        members: Vec::new(),
    };
    let outcome = match ends.start {
        Start::Guest(name, port) => walk.leave(name, port),
        Start::Outside => walk.enter(),
    };
    let outcome = outcome.and_then(|()| walk.answer());
    let (verdict, cure) = match outcome {
        Ok(()) => (Verdict::Passes, None),
        Err(Dropped(cure)) => (Verdict::Drops, cure),
    };
    Trace {
        from: ends.from,
        to: ends.to,
        packet,
        steps: walk.steps,
        members: walk.members,
        verdict,
        arrives_at: walk.arrives_at,
        cure,
        notes: walk.notes,
    }
}

/// It ends here; with what would let it pass.
struct Dropped(Option<String>);

type Way = Result<(), Dropped>;

/// Where a packet comes to a Router from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Inside,
    Outside,
}

#[derive(Clone)]
struct Walk<'w, 'a> {
    world: &'w World<'a>,
    packet: Packet,
    steps: Vec<Step>,
    notes: Vec<String>,
    routers: usize,
    /// Where nobody will know an answer for one, and as what it passed.
    untracked: Vec<(&'a Port, RuleDirection, Packet)>,
    arrives_at: Option<String>,
    members: Vec<Branch>,
}

impl<'w, 'a> Walk<'w, 'a> {
    fn step(&mut self, kind: &'static str, name: impl Into<String>, does: Does, says: impl Into<String>) {
        self.steps.push(Step {
            kind,
            name: name.into(),
            does,
            says: says.into(),
        });
    }

    fn passes(&mut self, kind: &'static str, name: impl Into<String>, says: impl Into<String>) {
        self.step(kind, name, Does::Passes, says);
    }

    fn drops(
        &mut self,
        kind: &'static str,
        name: impl Into<String>,
        says: impl Into<String>,
        cure: Option<String>,
    ) -> Way {
        self.step(kind, name, Does::Drops, says);
        Err(Dropped(cure))
    }

    fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    fn family(&self) -> Family {
        Family::of(self.packet.destination)
    }

    /// From a guest.
    fn leave(&mut self, name: &'a str, port: &'a Port) -> Way {
        let Packet {
            source, destination, ..
        } = self.packet;
        if addresses(port).any(|own| own == destination) {
            self.passes(
                "Port",
                name,
                format!("{destination} is its own: nothing leaves the guest"),
            );
            self.arrives_at = Some(name.to_owned());
            return Ok(());
        }
        self.is_up(name, port);
        self.passes("Port", name, format!("sends from {source}"));
        self.ask(name, port, RuleDirection::Egress)?;
        let network = port.spec.network.as_str();
        let world = self.world;
        if let Some(balancer) = world
            .balancer_at(destination)
            .filter(|found| world.is_shared_out(found, network))
            && let Some(port) = balancer.listens(&self.packet)
            // What nobody tracks nobody shares out.
            && self.untracked.is_empty()
        {
            let members = balancer.members(self.family()).0;
            return self.share_out(balancer, port, &members, |walk| {
                walk.come_back(destination)
                    .unwrap_or_else(|| walk.set_out(network, source, destination, Some(balancer)))
            });
        }
        self.set_out(network, source, destination, None)
    }

    /// On the way that a guest knows to `towards`: an address of a LoadBalancer, or the packet's own.
    fn set_out(&mut self, network: &'a str, source: IpAddr, towards: IpAddr, balancer: Option<&Balancing<'a>>) -> Way {
        let Some(valid) = self.valid(network) else {
            return self.unknown_network(network);
        };
        let subnet = valid.subnets.iter().find(|subnet| subnet.cidr.contains(&source));
        if subnet.is_some_and(|subnet| subnet.cidr.contains(&towards)) {
            return match balancer {
                Some(balancer) => self.passed_on(balancer),
                None => self.deliver(network),
            };
        }
        let routes = subnet.iter().flat_map(|subnet| &subnet.routes);
        let route = routes
            .filter(|(to, _)| to.contains(&towards))
            .max_by_key(|(to, _)| to.prefix_len());
        if let Some((to, hop)) = route {
            self.passes(
                "Network",
                network,
                format!("{towards} is by its host route {to}, to {hop}"),
            );
            return self.hop(network, *hop);
        }
        match subnet.and_then(|subnet| subnet.gateway) {
            None => {
                let says = format!("{towards} is not in the subnet of {source}, which has no gateway");
                self.drops(
                    "Network",
                    network,
                    says,
                    Some("give the subnet a gateway, and that to a Router".to_owned()),
                )
            }
            Some(gateway) => {
                let hop = self.advertised(network, gateway);
                self.passes(
                    "Network",
                    network,
                    format!("{towards} is not in its subnet: on to the gateway {hop}"),
                );
                self.hop(network, hop)
            }
        }
    }

    /// Of IPv6 the way on is what a Router advertises, whatever address it has.
    fn advertised(&self, network: &str, gateway: IpAddr) -> IpAddr {
        if gateway.is_ipv4() || self.world.router_at(network, gateway).is_some() {
            return gateway;
        }
        let joints = self.world.routers().iter().flat_map(|router| &router.joints);
        let mut there = joints.filter(|joint| joint.network == network && joint.address.is_ipv6());
        there.next().map_or(gateway, |joint| joint.address)
    }

    /// From outside.
    fn enter(&mut self) -> Way {
        let world = self.world;
        let destination = self.packet.destination;
        if let Some(floating) = world.floating().iter().find(|floating| floating.address == destination) {
            return match floating.router.and_then(|router| world.router(router)) {
                Some(router) => self.router(router, Side::Outside),
                None => self.leads_nowhere(floating),
            };
        }
        if let Some(router) = world
            .routers()
            .iter()
            .find(|router| router.external.contains(&destination))
        {
            return self.router(router, Side::Outside);
        }
        let holders = world.holders(None, destination);
        let guest = holders
            .first()
            .map(|(name, port)| (format!("Port {name}"), port.spec.network.as_str()));
        let balancer = world.balancer_at(destination);
        let balancer = balancer.map(|balancer| (format!("LoadBalancer {}", balancer.name), balancer.network()));
        let Some((whose, network)) = guest.or(balancer) else {
            return self.drops("Network", "outside", format!("nobody here has {destination}"), None);
        };
        let leads = |router: &&Routing<'_>| {
            let mut joints = router.joints.iter();
            router.outer(self.family()).is_some()
                && joints.any(|joint| joint.network == network && joint.range.contains(&destination))
        };
        if let Some(router) = world.routers().iter().find(leads) {
            let outer = router
                .outer(self.family())
                .map(|outer| outer.to_string())
                .unwrap_or_default();
            if destination.is_ipv4() && router.hides() {
                let says = format!("hides {destination} behind {outer}: the outside knows no way to it");
                let cure = format!("create a FloatingIP that leads to {whose}");
                return self.drops("Router", router.name, says, Some(cure));
            }
            self.note(format!("the outside has to have a route to {destination} by {outer}"));
            return self.router(router, Side::Outside);
        }
        if self.valid(network).is_some_and(is_physical) {
            return self.deliver(network);
        }
        let says = format!("no Router leads from outside to {destination}");
        let cure = format!("create a Router with Network {network} in networks, and an externalGateway");
        self.drops("Network", network, says, Some(cure))
    }

    /// To the next one on the way, in a Network.
    fn hop(&mut self, network: &'a str, hop: IpAddr) -> Way {
        let world = self.world;
        if let Some(router) = world.router_at(network, hop) {
            return self.router(router, Side::Inside);
        }
        if let Some((name, port)) = world.holders(Some(network), hop).first() {
            return self.by_guest(name, port, hop);
        }
        if self.valid(network).is_some_and(is_physical) {
            self.passes("Network", network, format!("leaves by the physical network, to {hop}"));
            return Ok(());
        }
        let named = |router: &&Routing<'_>| {
            router
                .object
                .spec
                .networks
                .iter()
                .any(|joined| joined.network == network)
        };
        let cure = match world.routers().iter().find(named) {
            Some(router) => {
                let trouble = router.trouble().unwrap_or_else(|| format!("it does not have {hop}"));
                format!("see Router {}: {trouble}", router.name)
            }
            None => format!("create a Router with Network {network} in networks"),
        };
        self.drops("Network", network, format!("nobody has {hop}"), Some(cure))
    }

    /// To a guest that is a router.
    fn by_guest(&mut self, name: &'a str, port: &'a Port, hop: IpAddr) -> Way {
        self.is_up(name, port);
        let destination = self.packet.destination;
        self.ask(name, port, RuleDirection::Ingress)?;
        let network = port.spec.network.as_str();
        let secured = self.valid(network).is_some_and(|valid| valid.port_security);
        if secured && !may_have(port, destination) {
            let says = format!("is sent only what is for its own addresses, and {destination} is none");
            let cure = "a guest that routes is in a Network with portSecurity Disabled, or has what it routes to in \
                        allowedAddressPairs";
            return self.drops("Port", name, says, Some(cure.to_owned()));
        }
        self.passes("Port", name, format!("takes it as {hop}"));
        if !port.spec.instance.is_empty() {
            self.note(format!(
                "Instance {} is a router of its own: what it does with the packet is not known here",
                port.spec.instance
            ));
        }
        self.arrives_at = Some(name.to_owned());
        Ok(())
    }

    /// Within a Network, to whoever has the address.
    fn deliver(&mut self, network: &'a str) -> Way {
        let world = self.world;
        let destination = self.packet.destination;
        if let Some(trouble) = world.trouble_of_network(network) {
            self.note(format!("Network {network} is not ready: {trouble}"));
        }
        if let Some((name, port)) = world.holders(Some(network), destination).first() {
            return self.arrive(name, port);
        }
        let mut guests = world.guests().filter(|(_, port)| port.spec.network == network);
        if let Some((name, port)) = guests.find(|(_, port)| may_have(port, destination)) {
            self.note(format!(
                "{destination} is an address that Port {name} may have besides its own; others may, too, and who has it now is not \
                 known here"
            ));
            return self.arrive(name, port);
        }
        if let Some(router) = world.router_at(network, destination) {
            return self.router(router, Side::Inside);
        }
        let here = |balancer: &&Balancing<'_>| balancer.network() == network;
        if let Some(balancer) = world.balancer_at(destination).filter(here) {
            return self.at_its_address(balancer);
        }
        let Some(valid) = self.valid(network) else {
            return self.unknown_network(network);
        };
        if is_physical(valid) {
            self.passes(
                "Network",
                network,
                format!("no Port has {destination}: leaves by the physical network"),
            );
            return Ok(());
        }
        self.drops("Network", network, format!("no Port in it has {destination}"), None)
    }

    fn arrive(&mut self, name: &'a str, port: &'a Port) -> Way {
        self.passes("Network", port.spec.network.as_str(), format!("on to Port {name}"));
        self.ask(name, port, RuleDirection::Ingress)?;
        self.is_up(name, port);
        let Packet {
            source, destination, ..
        } = self.packet;
        self.passes("Port", name, format!("has it, as sent from {source} to {destination}"));
        self.arrives_at = Some(name.to_owned());
        Ok(())
    }

    /// Whether a Port's groups let it pass.
    fn ask(&mut self, name: &'a str, port: &'a Port, direction: RuleDirection) -> Way {
        match rules::ask(self.world, port, direction, &self.packet, Kind::Question) {
            Said::Nothing => {
                let says = format!("has portSecurity Disabled: nobody asks rules at Port {name}");
                self.passes("Network", port.spec.network.as_str(), says);
                Ok(())
            }
            Said::Passes {
                group,
                rule,
                words,
                tracked,
            } => {
                if !tracked {
                    self.untracked.push((port, direction, self.packet));
                }
                if let Some(status) = self.world.group(group).and_then(|group| group.status.as_ref())
                    && let Some(trouble) = trouble(&status.conditions)
                {
                    self.note(format!("SecurityGroup {group} is not ready: {trouble}"));
                }
                self.passes("SecurityGroup", group, format!("rules[{rule}] lets it pass: {words}"));
                Ok(())
            }
            Said::Drops(refused) => {
                let (says, cure) = rules::refusal(&refused, direction, &self.packet);
                self.drops(
                    "SecurityGroup",
                    refused.groups.join(", "),
                    format!("of Port {name}: {says}"),
                    Some(cure),
                )
            }
        }
    }

    /// Whether answers pass where nobody tracks connections.
    fn answer(&mut self) -> Way {
        for (port, direction, packet) in std::mem::take(&mut self.untracked) {
            let back = match direction {
                RuleDirection::Ingress => RuleDirection::Egress,
                RuleDirection::Egress => RuleDirection::Ingress,
            };
            let answer = Packet {
                source: packet.destination,
                destination: packet.source,
                port: packet.port.map(|_| rules::EPHEMERAL),
                ..packet
            };
            if let Said::Drops(refused) = rules::ask(self.world, port, back, &answer, Kind::Answer) {
                let name = port.metadata.name.clone().unwrap_or_default();
                let says = format!("of Port {name}: the group is Stateless, and no rule lets answers back");
                let cure = format!(
                    "add a rule to SecurityGroup {}: {{direction: {back:?}, protocol: {}}}, or set its mode to Stateful",
                    refused.groups.join(" or "),
                    answer.name()
                );
                return self.drops("SecurityGroup", refused.groups.join(", "), says, Some(cure));
            }
        }
        Ok(())
    }

    fn is_up(&mut self, name: &str, port: &Port) {
        if port.spec.instance.is_empty() {
            self.note(format!(
                "no Instance has Port {name}: nothing is plugged in, and nobody answers"
            ));
        }
        if let Some(status) = &port.status
            && let Some(trouble) = trouble(&status.conditions)
        {
            self.note(format!("Port {name} is not up: {trouble}"));
        }
    }

    fn valid(&self, network: &str) -> Option<&'w ValidNetwork> {
        self.world.network(network)
    }

    fn unknown_network(&mut self, network: &str) -> Way {
        let cure = format!("see the condition Ready of Network {network}");
        self.drops("Network", network, "can't be read, or is invalid", Some(cure))
    }
}

fn is_physical(network: &ValidNetwork) -> bool {
    network.segment != Segment::Overlay
}

/// Whether a Port was allowed an address besides its own.
fn may_have(port: &Port, address: IpAddr) -> bool {
    let mut pairs = port.spec.allowed_address_pairs.iter();
    pairs.any(|pair| is_within(&pair.address, address))
}
