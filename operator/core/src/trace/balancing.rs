//! Which LoadBalancer takes a connection, from where, and to whom may it go?

use std::net::IpAddr;

use virga_crds::{Distribution, LoadBalancer, MemberStatus};

use super::{
    Family, Packet,
    world::{Floating, Joint, Routing, World, number, trouble},
};
use crate::load_balancer::is_sent;

/// What a LoadBalancer has come to, by its own status.
pub(super) struct Balancing<'a> {
    pub object: &'a LoadBalancer,
    pub name: &'a str,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// A member, by its address.
pub(super) type Member<'a> = (IpAddr, &'a MemberStatus);

impl<'a> Balancing<'a> {
    /// The Network of its address.
    pub fn network(&self) -> &'a str {
        &self.object.spec.vip.network
    }

    /// The members' port of what is spoken to, if it listens there.
    pub fn listens(&self, packet: &Packet) -> Option<u16> {
        let mut listeners = self.object.spec.listeners.iter();
        let found = listeners
            .find(|listener| number(listener.protocol) == packet.number() && Some(listener.port) == packet.port)?;
        Some(found.member_port.unwrap_or(found.port))
    }

    /// The members of a family: those that are sent connections, and those that are not.
    pub fn members(&self, family: Family) -> (Vec<Member<'a>>, Vec<Member<'a>>) {
        let all = self.object.status.iter().flat_map(|status| &status.members);
        let all = all.filter_map(|member| Some((member.address.parse().ok()?, member)));
        all.filter(|(address, _)| Family::of(*address) == family)
            .partition(|(_, member)| is_sent(member.state))
    }

    pub fn trouble(&self) -> Option<String> {
        trouble(&self.object.status.as_ref()?.conditions)
    }
}

impl<'a> World<'a> {
    pub(super) fn balancer(&self, name: &str) -> Option<&Balancing<'a>> {
        self.balancers().iter().find(|balancer| balancer.name == name)
    }

    /// The LoadBalancer that has an address.
    pub(super) fn balancer_at(&self, address: IpAddr) -> Option<&Balancing<'a>> {
        let mut all = self.balancers().iter();
        all.find(|balancer| balancer.addresses.contains(&address))
    }

    /// Whether what guests of a Network send there is shared out: of its own one, and of those that its Routers join.
    pub(super) fn is_shared_out(&self, balancer: &Balancing<'_>, network: &str) -> bool {
        let own = balancer.network();
        let joins = |router: &&Routing<'_>, network: &str| router.joints.iter().any(|joint| joint.network == network);
        let mut around = self.routers().iter().filter(|router| joins(router, own));
        network == own || around.any(|router| joins(&router, network))
    }

    /// The address of the Router by which a LoadBalancer reaches members of other Networks: the oldest one's.
    pub(super) fn way_of(&self, balancer: &Balancing<'_>, family: Family) -> Option<IpAddr> {
        let own = balancer.network();
        let here = |joint: &&Joint<'_>| {
            let near = |address: &IpAddr| joint.range.contains(address);
            joint.network == own && Family::of(joint.address) == family && balancer.addresses.iter().any(near)
        };
        let found = self.routers().iter().filter_map(|router| {
            let age = router.object.metadata.creation_timestamp.as_ref().map(|time| time.0);
            let joint = router.joints.iter().find(here)?;
            Some(((age, router.object.metadata.uid.as_deref()), joint.address))
        });
        found.min_by_key(|(age, _)| *age).map(|(_, address)| address)
    }

    /// The members that an address outside leads to: those in the Router's Networks, but those that would answer with an
    /// address outside of their own, from their own host.
    pub(super) fn led_members(&self, router: &Routing<'_>, balancer: &Balancing<'a>) -> Vec<Member<'a>> {
        let mut members = balancer.members(Family::V4).0;
        let distributed = router.object.spec.distribution == Distribution::Distributed;
        let has_own = |address: IpAddr| {
            let own = |floating: &Floating<'_>| floating.whole == Some(address) && floating.router == Some(router.name);
            self.floating().iter().any(own)
        };
        members.retain(|(address, _)| {
            let joined = router.joints.iter().any(|joint| joint.range.contains(address));
            joined && !(distributed && has_own(*address))
        });
        members
    }
}
