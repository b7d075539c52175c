//! What does a LoadBalancer do with a packet?

use std::net::IpAddr;

use virga_crds::RuleDirection;

use super::{
    super::{
        Branch, Does, Protocol, Verdict,
        balancing::{Balancing, Member},
    },
    Dropped, Walk, Way,
};

impl<'a> Walk<'_, 'a> {
    /// Sends it to each that it may be sent to, and follows it there.
    pub(super) fn share_out(
        &mut self,
        balancer: &Balancing<'a>,
        port: u16,
        members: &[Member<'a>],
        onward: impl Fn(&mut Self) -> Way,
    ) -> Way {
        if let Some(trouble) = balancer.trouble() {
            self.note(format!("LoadBalancer {} is not ready: {trouble}", balancer.name));
        }
        for (address, member) in balancer.members(self.family()).1 {
            let who = member.instance.as_deref().unwrap_or("a member");
            self.note(format!("{who} ({address}) is sent nothing: it is {:?}", member.state));
        }
        if members.is_empty() {
            let cure = balancer.trouble();
            let cure = cure.unwrap_or_else(|| "have a member run that can be reached, and that answers".to_owned());
            let says = format!("has nobody to send {} to: it is refused", self.packet);
            return self.drops("LoadBalancer", balancer.name, says, Some(cure));
        }
        let whom = match members.len() {
            1 => "the only member".to_owned(),
            count => format!("one of {count} members"),
        };
        let says = format!("sends each connection to {whom}, at port {port}");
        self.passes("LoadBalancer", balancer.name, says);
        let mut outcome = Ok(());
        for (address, member) in members {
            let mut branch = Walk {
                steps: Vec::new(),
                ..self.clone()
            };
            branch.packet.destination = *address;
            branch.packet.port = Some(port);
            branch.step(
                "LoadBalancer",
                balancer.name,
                Does::Translates,
                format!("leads to {address}, port {port}"),
            );
            let arrived = onward(&mut branch).and_then(|()| branch.answer());
            let (verdict, cure) = match arrived {
                Ok(()) => (Verdict::Passes, None),
                Err(Dropped(cure)) => (Verdict::Drops, cure),
            };
            if verdict == Verdict::Drops && outcome.is_ok() {
                outcome = Err(Dropped(cure.clone()));
            }
            for note in branch.notes {
                self.note(note);
            }
            self.members.push(Branch {
                address: *address,
                instance: member.instance.clone(),
                state: member.state,
                steps: branch.steps,
                verdict,
                arrives_at: branch.arrives_at,
                cure,
            });
        }
        // Each has asked for its answers.
        self.untracked.clear();
        outcome
    }

    /// A guest is sent its own: it sees the LoadBalancer's address.
    pub(super) fn come_back(&mut self, vip: IpAddr) -> Option<Way> {
        let own = self.packet.destination;
        if own != self.packet.source {
            return None;
        }
        let (name, port) = self.world.holders(None, own).into_iter().next()?;
        self.packet.source = vip;
        self.step(
            "Port",
            name,
            Does::Translates,
            format!("is the sender's own: it comes back as from {vip}"),
        );
        let asked = self.ask(name, port, RuleDirection::Ingress);
        Some(asked.map(|()| self.arrives_at = Some(name.to_owned())))
    }

    /// On the way that its own router knows, from the switch of its Network.
    pub(super) fn passed_on(&mut self, balancer: &Balancing<'a>) -> Way {
        let destination = self.packet.destination;
        let network = balancer.network();
        let ranges = self.valid(network).into_iter().flat_map(|valid| &valid.subnets);
        let mut ranges = ranges.map(|subnet| subnet.cidr);
        let near = |range: ipnet::IpNet| {
            range.contains(&destination) && balancer.addresses.iter().any(|own| range.contains(own))
        };
        if ranges.any(near) {
            return self.deliver(network);
        }
        if let Some(hop) = self.world.way_of(balancer, self.family()) {
            return self.hop(network, hop);
        }
        let says = format!("reaches {destination} by no Router");
        let cure = format!("create a Router that joins Network {network} with that of the member");
        self.drops("LoadBalancer", balancer.name, says, Some(cure))
    }

    /// It came as far as the address itself, and nobody shared it out before.
    pub(super) fn at_its_address(&mut self, balancer: &Balancing<'a>) -> Way {
        let (name, vip) = (balancer.name, self.packet.destination);
        if self.packet.protocol == Protocol::Icmp {
            self.passes("LoadBalancer", name, format!("answers: {vip} is its own"));
            return Ok(());
        }
        if balancer.listens(&self.packet).is_some() {
            let own = balancer.network();
            let (says, cure) = if self.untracked.is_empty() {
                (
                    format!(
                        "shares out what guests of Network {own} and of those that its Routers join send to {vip}: this is refused"
                    ),
                    format!(
                        "join the sender's Network with Network {own} by a Router, or create a FloatingIP with loadBalancer: {name}"
                    ),
                )
            } else {
                (
                    "shares out tracked connections, and the sender's group is Stateless: this is refused".to_owned(),
                    "set the mode of the sender's SecurityGroup to Stateful".to_owned(),
                )
            };
            return self.drops("LoadBalancer", name, says, Some(cure));
        }
        let says = format!("does not listen to {}: it is refused", self.packet);
        let cure = format!("add it to listeners of LoadBalancer {name}");
        self.drops("LoadBalancer", name, says, Some(cure))
    }
}
