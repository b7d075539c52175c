//! Which rule lets a packet pass at a Port?

use std::net::IpAddr;

use virga_crds::{EtherType, Port, RuleDirection, RuleMode, SecurityGroupRule};

use super::{Family, Packet, world::World};
use crate::security_group::{Remote, of_port, protocol_number};

/// A port that nobody is spoken to at: what answers go to.
pub(super) const EPHEMERAL: u16 = 49_152;

/// What a packet is of a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Its first one.
    Question,
    /// One that comes back, and that nobody has tracked the question of.
    Answer,
}

/// What a Port's groups say.
pub(super) enum Said<'a> {
    /// The Port has none: its Network has no port security.
    Nothing,
    /// A rule lets it pass.
    Passes {
        group: &'a str,
        rule: usize,
        words: String,
        /// Whether answers pass with it.
        tracked: bool,
    },
    /// No rule does.
    Drops(Refused<'a>),
}

/// No rule of any of these groups lets it pass.
pub(super) struct Refused<'a> {
    pub groups: Vec<&'a str>,
    /// Those of them that are not there.
    pub missing: Vec<&'a str>,
}

/// What the groups of a Port say of a packet. What is not tracked wins, as OVN has it.
pub(super) fn ask<'a>(
    world: &World<'a>,
    port: &'a Port,
    direction: RuleDirection,
    packet: &Packet,
    kind: Kind,
) -> Said<'a> {
    if world
        .network(&port.spec.network)
        .is_none_or(|network| !network.port_security)
    {
        return Said::Nothing;
    }
    let groups = of_port(&port.spec);
    let mut passed = None;
    for name in &groups {
        let Some(group) = world.group(name) else { continue };
        let tracked = group.spec.mode == RuleMode::Stateful;
        if tracked && kind == Kind::Answer {
            // To whoever tracks, an answer without a question is invalid.
            continue;
        }
        let mut rules = group.spec.rules.iter().enumerate();
        let Some((at, rule)) = rules.find(|(_, rule)| lets(world, rule, direction, packet, kind)) else {
            continue;
        };
        if passed.is_none() || !tracked {
            passed = Some(Said::Passes {
                group: name,
                rule: at,
                words: words(rule),
                tracked,
            });
        }
        if !tracked {
            break;
        }
    }
    passed.unwrap_or_else(|| {
        let missing = groups
            .iter()
            .copied()
            .filter(|name| world.group(name).is_none())
            .collect();
        Said::Drops(Refused { groups, missing })
    })
}

/// Whether a rule lets a packet pass. What the schema should not have taken lets nothing pass.
fn lets(world: &World<'_>, rule: &SecurityGroupRule, direction: RuleDirection, packet: &Packet, kind: Kind) -> bool {
    let family = match rule.ether_type {
        EtherType::V4 => Family::V4,
        EtherType::V6 => Family::V6,
    };
    let peer: IpAddr = match direction {
        RuleDirection::Ingress => packet.source,
        RuleDirection::Egress => packet.destination,
    };
    if rule.direction != direction || family != Family::of(peer) || !world.is_remote(rule, peer) {
        return false;
    }
    let Some(protocol) = &rule.protocol else {
        return rule.ports.is_none() && rule.icmp.is_none();
    };
    if protocol_number(protocol) != Some(packet.number()) {
        return false;
    }
    let ports = rule.ports.is_none_or(|range| {
        let port = packet.port.unwrap_or_default();
        (range.min..=range.max.unwrap_or(range.min)).contains(&port) && packet.port.is_some()
    });
    let echo = match (kind, family) {
        (Kind::Question, Family::V4) => 8,
        (Kind::Question, Family::V6) => 128,
        (Kind::Answer, Family::V4) => 0,
        (Kind::Answer, Family::V6) => 129,
    };
    let is_echo = rule
        .icmp
        .as_ref()
        .is_none_or(|kind| packet.port.is_none() && kind.type_ == echo && kind.code.unwrap_or_default() == 0);
    ports && is_echo
}

/// `Ingress IPv4 tcp 80 from 10.0.0.0/24`.
pub(super) fn words(rule: &SecurityGroupRule) -> String {
    let mut said = vec![
        format!("{:?}", rule.direction),
        match rule.ether_type {
            EtherType::V4 => "IPv4".to_owned(),
            EtherType::V6 => "IPv6".to_owned(),
        },
    ];
    said.extend(rule.protocol.clone());
    said.extend(rule.ports.map(|range| match range.max {
        Some(max) if max != range.min => format!("{}-{max}", range.min),
        _ => range.min.to_string(),
    }));
    said.extend(rule.icmp.as_ref().map(|kind| format!("type {}", kind.type_)));
    let way = match rule.direction {
        RuleDirection::Ingress => "from",
        RuleDirection::Egress => "to",
    };
    let remote = match Remote::of(rule) {
        Some(Remote::Group(group)) => Some(format!("SecurityGroup {group}")),
        Some(Remote::Addresses(group)) => Some(format!("AddressGroup {}", group.name)),
        None => rule.remote.as_ref().and_then(|remote| remote.cidr.clone()),
    };
    said.push(format!("{way} {}", remote.unwrap_or_else(|| "anybody".to_owned())));
    said.join(" ")
}

/// What no rule says, and what to do about it.
pub(super) fn refusal(refused: &Refused<'_>, direction: RuleDirection, packet: &Packet) -> (String, String) {
    let (peer, says, way) = match direction {
        RuleDirection::Ingress => (packet.source, "in from", "Ingress"),
        RuleDirection::Egress => (packet.destination, "out to", "Egress"),
    };
    let said = format!("no rule lets {packet} {says} {peer}");
    if let [missing] = refused.missing.as_slice()
        && refused.groups.len() == 1
    {
        return (
            format!("{said}: the group doesn't exist"),
            format!("create SecurityGroup {missing}, or name another group at the Instance's interface"),
        );
    }
    let mut rule = vec![format!("direction: {way}")];
    if Family::of(peer) == Family::V6 {
        rule.push("etherType: IPv6".to_owned());
    }
    rule.push(format!("protocol: {}", packet.name()));
    rule.extend(packet.port.map(|port| format!("ports: {{min: {port}}}")));
    let length = if peer.is_ipv4() { 32 } else { 128 };
    rule.push(format!("remote: {{cidr: \"{peer}/{length}\"}}"));
    let there: Vec<&str> = refused
        .groups
        .iter()
        .copied()
        .filter(|group| !refused.missing.contains(group))
        .collect();
    let whom = match there.as_slice() {
        [one] => format!("SecurityGroup {one}"),
        several => format!("one of SecurityGroups {}", several.join(", ")),
    };
    (said, format!("add a rule to {whom}: {{{}}}", rule.join(", ")))
}
