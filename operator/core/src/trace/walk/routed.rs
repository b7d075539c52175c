//! What do Routers and addresses outside do with a packet?

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    super::{
        Does, Family, Protocol,
        world::{Floating, Routing},
    },
    Packet, Side, Walk, Way,
};
use crate::network::ValidNetwork;

/// A packet that has seen so many Routers goes round in circles.
const MOST_ROUTERS: usize = 8;

/// Where a Router sends a packet.
enum Next<'a> {
    /// It is in this Network.
    Connected(&'a str),
    /// To the next one, in this Network.
    By(&'a str, IpAddr),
    Outside,
}

impl<'w, 'a> Walk<'w, 'a> {
    pub(super) fn router(&mut self, router: &Routing<'a>, side: Side) -> Way {
        self.routers += 1;
        if self.routers > MOST_ROUTERS {
            let cure = "look at the routes of the Routers before this one".to_owned();
            return self.drops(
                "Router",
                router.name,
                "has had it before: it goes round in circles",
                Some(cure),
            );
        }
        if let Some(trouble) = router.trouble() {
            self.note(format!("Router {} is not ready: {trouble}", router.name));
        }
        let destination = self.packet.destination;
        let mut own = router
            .joints
            .iter()
            .map(|joint| joint.address)
            .chain(router.external.iter().copied());
        if own.any(|own| own == destination) {
            if self.packet.protocol == Protocol::Icmp {
                self.passes("Router", router.name, format!("answers: {destination} is its own"));
                return Ok(());
            }
            return self.drops(
                "Router",
                router.name,
                format!("has {destination} itself, and nothing listens there"),
                None,
            );
        }
        let world = self.world;
        if let Some(floating) = world.floating().iter().find(|floating| floating.address == destination) {
            if floating.router.is_none() {
                return self.leads_nowhere(floating);
            }
            if floating.router == Some(router.name) {
                if side == Side::Inside && floating.whole.is_some() {
                    // It goes out and comes back.
                    self.go_out_as(router);
                }
                if let Some(name) = floating.balancer {
                    return self.led_to(name, floating, router, side);
                }
                self.led(floating)?;
            }
        }
        self.on_from(router, side)
    }

    fn on_from(&mut self, router: &Routing<'a>, side: Side) -> Way {
        let destination = self.packet.destination;
        match self.route(router) {
            Some(Next::Connected(network)) => {
                self.passes("Router", router.name, format!("{destination} is in Network {network}"));
                self.comes_back(router, network);
                self.deliver(network)
            }
            Some(Next::By(network, hop)) => {
                self.passes(
                    "Router",
                    router.name,
                    format!("has a route to {destination} by {hop} in Network {network}"),
                );
                self.hop(network, hop)
            }
            Some(Next::Outside) => self.go_out(router, side),
            None => {
                let cure = if router.object.spec.external_gateway.is_some() {
                    router
                        .trouble()
                        .map(|trouble| format!("see Router {}: {trouble}", router.name))
                } else {
                    Some(format!("give Router {} an externalGateway, or a route", router.name))
                };
                self.drops("Router", router.name, format!("has no route to {destination}"), cure)
            }
        }
    }

    /// The longest range wins; a Network of the Router's own before a route.
    fn route(&self, router: &Routing<'a>) -> Option<Next<'a>> {
        let destination = self.packet.destination;
        let connected = router.joints.iter().filter(|joint| joint.range.contains(&destination));
        let mut best: Option<(u8, Next<'a>)> = connected
            .max_by_key(|joint| joint.range.prefix_len())
            .map(|joint| (joint.range.prefix_len(), Next::Connected(joint.network)));
        let mut offer = |length: u8, next: Next<'a>| {
            if best.as_ref().is_none_or(|(longest, _)| length > *longest) {
                best = Some((length, next));
            }
        };
        let has_way_out = router.outer(self.family()).is_some();
        if let Some(range) = self.outer_range(router) {
            offer(range.prefix_len(), Next::Outside);
        }
        for (to, hop) in router.routes.iter().filter(|(to, _)| to.contains(&destination)) {
            let joint = router.joints.iter().find(|joint| joint.range.contains(hop));
            match joint {
                Some(joint) => offer(to.prefix_len(), Next::By(joint.network, *hop)),
                None if has_way_out => offer(to.prefix_len(), Next::Outside),
                None => {}
            }
        }
        if has_way_out {
            offer(0, Next::Outside);
        }
        best.map(|(_, next)| next)
    }

    /// The external subnet that the destination is in, as far as it is of this namespace.
    fn outer_range(&self, router: &Routing<'a>) -> Option<IpNet> {
        let outside = self.own_outside(router)?;
        let mut subnets = outside.1.subnets.iter();
        let subnet = subnets.find(|subnet| subnet.cidr.contains(&self.packet.destination))?;
        let mut external = router.external.iter();
        external.any(|own| subnet.cidr.contains(own)).then_some(subnet.cidr)
    }

    /// A Router's external Network, where that is of this namespace.
    fn own_outside(&self, router: &Routing<'a>) -> Option<(&'a str, &'w ValidNetwork)> {
        let network = &router.object.spec.external_gateway.as_ref()?.network;
        let own = network
            .namespace
            .as_deref()
            .is_none_or(|namespace| namespace == self.world.namespace);
        own.then(|| Some((network.name.as_str(), self.valid(&network.name)?)))?
    }

    fn go_out(&mut self, router: &Routing<'a>, side: Side) -> Way {
        let world = self.world;
        let destination = self.packet.destination;
        if side == Side::Outside {
            return self.drops(
                "Router",
                router.name,
                format!("{destination} is not in any of its Networks"),
                None,
            );
        }
        let chassis = router.object.status.as_ref().map(|status| status.gateway_chassis.len());
        if chassis.unwrap_or_default() == 0 {
            let cure = router
                .trouble()
                .map(|trouble| format!("see Router {}: {trouble}", router.name));
            return self.drops("Router", router.name, "has no host that leads outside", cure);
        }
        self.go_out_as(router);
        let outside = router.outside(world.namespace).unwrap_or_default();
        self.passes("Router", router.name, format!("goes out by Network {outside}"));
        if let Some(floating) = world.floating().iter().find(|floating| floating.address == destination) {
            return match floating.router.and_then(|router| world.router(router)) {
                Some(other) => self.router(other, Side::Outside),
                None => self.leads_nowhere(floating),
            };
        }
        if let Some(other) = world
            .routers()
            .iter()
            .find(|other| other.external.contains(&destination))
        {
            return self.router(other, Side::Outside);
        }
        if let Some((network, valid)) = self.own_outside(router)
            && valid.subnets.iter().any(|subnet| subnet.cidr.contains(&destination))
        {
            return self.deliver(network);
        }
        self.passes(
            "Network",
            outside,
            "leaves to the outside: what happens there is not known here",
        );
        Ok(())
    }

    /// The address that the outside sees.
    fn go_out_as(&mut self, router: &Routing<'a>) {
        let world = self.world;
        let source = self.packet.source;
        if source.is_ipv6() {
            return;
        }
        let own = |floating: &&Floating<'_>| floating.whole == Some(source) && floating.router == Some(router.name);
        if let Some(floating) = world.floating().iter().find(own) {
            let outer = floating.address;
            self.packet.source = outer;
            self.step(
                "FloatingIP",
                floating.name,
                Does::Translates,
                format!("from here on it comes from {outer}"),
            );
            return;
        }
        let joined = router.joints.iter().any(|joint| joint.range.contains(&source));
        match router.outer(Family::V4) {
            Some(outer) if router.hides() && joined => {
                self.packet.source = outer;
                self.step(
                    "Router",
                    router.name,
                    Does::Translates,
                    format!("from here on it comes from {outer} (SNAT)"),
                );
            }
            _ => self.note(format!("it goes out as {source}: the outside has to have a route back")),
        }
    }

    /// Through an address outside, to a guest.
    fn led(&mut self, floating: &Floating<'a>) -> Way {
        if let Some(whole) = floating.whole {
            self.packet.destination = whole;
            self.step(
                "FloatingIP",
                floating.name,
                Does::Translates,
                format!("leads to {whole}"),
            );
            return Ok(());
        }
        if floating.forwards.is_empty() {
            return self.leads_nowhere(floating);
        }
        let (number, port) = (self.packet.number(), self.packet.port);
        let mut forwards = floating.forwards.iter();
        let forward = forwards.find(|forward| forward.protocol == number && Some(forward.outer) == port);
        match forward.map(|forward| (forward.address, forward.inner)) {
            Some((Some(address), inner)) => {
                self.packet.destination = address;
                self.packet.port = Some(inner);
                self.step(
                    "FloatingIP",
                    floating.name,
                    Does::Translates,
                    format!("leads to {address}, port {inner}"),
                );
                Ok(())
            }
            Some((None, _)) => self.leads_nowhere(floating),
            None => {
                let says = format!("forwards single ports, and {} is none of them", self.packet);
                let cure = format!("add it to portForwardings of FloatingIP {}", floating.name);
                self.drops("FloatingIP", floating.name, says, Some(cure))
            }
        }
    }

    /// Through an address outside, to the members of a LoadBalancer.
    fn led_to(&mut self, name: &str, floating: &Floating<'a>, router: &Routing<'a>, side: Side) -> Way {
        let world = self.world;
        let Some(balancer) = world.balancer(name) else {
            return self.leads_nowhere(floating);
        };
        let Some(port) = balancer.listens(&self.packet) else {
            let says = format!("leads to LoadBalancer {name}, which does not listen to {}", self.packet);
            let cure = format!("add it to listeners of LoadBalancer {name}");
            return self.drops("FloatingIP", floating.name, says, Some(cure));
        };
        self.passes("FloatingIP", floating.name, format!("leads to LoadBalancer {name}"));
        let members = world.led_members(router, balancer);
        self.share_out(balancer, port, &members, |walk| walk.on_from(router, side))
    }

    pub(super) fn leads_nowhere(&mut self, floating: &Floating<'a>) -> Way {
        let trouble = floating.trouble();
        let trouble = trouble.unwrap_or_else(|| "name an Instance or a Port in its spec".to_owned());
        let cure = format!("FloatingIP {}: {trouble}", floating.name);
        self.drops("FloatingIP", floating.name, "leads nowhere", Some(cure))
    }

    /// A guest answers by its own gateway, which may be another Router.
    fn comes_back(&mut self, router: &Routing<'a>, network: &str) {
        let Packet {
            source, destination, ..
        } = self.packet;
        let Some(valid) = self.valid(network) else { return };
        let Some(subnet) = valid.subnets.iter().find(|subnet| subnet.cidr.contains(&destination)) else {
            return;
        };
        let told = subnet.routes.iter().any(|(to, _)| to.contains(&source));
        let Some(gateway) = subnet.gateway.filter(|gateway| !told && gateway.is_ipv4()) else {
            return;
        };
        if !router
            .joints
            .iter()
            .any(|joint| joint.network == network && joint.address == gateway)
        {
            let name = router.name;
            self.note(format!(
                "answers go to {gateway}, which is not Router {name}: they may not find back"
            ));
        }
    }
}
