//! What does a rule match, in OVN's words? (ovn-sb(5), Logical_Flow, match)

use ipnet::IpNet;
use virga_core::security_group::{Remote, protocol_number};
use virga_crds::{EtherType, PortRange, RuleDirection, SecurityGroupRule};

/// The expression of a rule of this group; none if nothing could ever match. `remote` is how a set of addresses is called.
pub(super) fn of(
    rule: &SecurityGroupRule,
    group: &str,
    remote: impl Fn(Remote<'_>) -> Option<String>,
) -> Option<String> {
    let (port, end) = match rule.direction {
        RuleDirection::Ingress => ("outport", "src"),
        RuleDirection::Egress => ("inport", "dst"),
    };
    let family = match rule.ether_type {
        EtherType::V4 => "ip4",
        EtherType::V6 => "ip6",
    };
    let mut parts = vec![format!("{port} == @{group}"), family.to_owned()];
    if let Some(from) = &rule.remote {
        match (&from.cidr, Remote::of(rule)) {
            (Some(cidr), None) => parts.extend(range(cidr, rule.ether_type, &format!("{family}.{end}"))?),
            (None, Some(named)) => parts.push(format!("{family}.{end} == ${}_{family}", remote(named)?)),
            // The schema takes exactly one; in doubt nothing passes.
            _ => return None,
        }
    }
    if let Some(protocol) = &rule.protocol {
        parts.extend(protocol_of(rule, protocol)?);
    } else if rule.ports.is_some() || rule.icmp.is_some() {
        return None;
    }
    Some(parts.join(" && "))
}

/// Of a range: nothing has to be asked for all addresses, and nothing can match of another family.
fn range(cidr: &str, family: EtherType, field: &str) -> Option<Vec<String>> {
    let cidr: IpNet = cidr.parse().ok()?;
    if cidr.network().is_ipv4() != (family == EtherType::V4) {
        return None;
    }
    let asked = (cidr.prefix_len() > 0).then(|| format!("{field} == {cidr}"));
    Some(asked.into_iter().collect())
}

fn protocol_of(rule: &SecurityGroupRule, protocol: &str) -> Option<Vec<String>> {
    let number = protocol_number(protocol)?;
    let (name, has_ports) = match (number, rule.ether_type) {
        (6, _) => ("tcp", true),
        (17, _) => ("udp", true),
        (132, _) => ("sctp", true),
        (1, EtherType::V4) => ("icmp4", false),
        (58, EtherType::V6) => ("icmp6", false),
        (1 | 58, _) => return None,
        (other, _) if rule.ports.is_none() && rule.icmp.is_none() => return Some(vec![format!("ip.proto == {other}")]),
        _ => return None,
    };
    let mut said = vec![name.to_owned()];
    match (&rule.ports, &rule.icmp) {
        (None, None) => {}
        (Some(ports), None) if has_ports => said.push(ports_of(name, *ports)?),
        (None, Some(kind)) if !has_ports => {
            said.push(format!("{name}.type == {}", kind.type_));
            said.extend(kind.code.map(|code| format!("{name}.code == {code}")));
        }
        _ => return None,
    }
    Some(said)
}

fn ports_of(protocol: &str, PortRange { min, max }: PortRange) -> Option<String> {
    let max = max.unwrap_or(min);
    match max {
        max if max < min => None,
        max if max == min => Some(format!("{protocol}.dst == {min}")),
        max => Some(format!("{protocol}.dst >= {min} && {protocol}.dst <= {max}")),
    }
}

#[cfg(test)]
mod tests {
    use virga_crds::{AddressGroupRef, IcmpKind, RuleRemote};

    use super::*;

    fn said(change: impl FnOnce(&mut SecurityGroupRule)) -> Option<String> {
        let mut rule = SecurityGroupRule::default();
        change(&mut rule);
        of(&rule, "g", |named| {
            let (kind, _, name) = named.place("");
            let set = if kind == "SecurityGroup" { "sg" } else { "ag" };
            (name != "missing").then(|| format!("{set}_{name}"))
        })
    }

    fn cidr(cidr: &str) -> RuleRemote {
        RuleRemote {
            cidr: Some(cidr.into()),
            ..RuleRemote::default()
        }
    }

    fn group(group: &str) -> RuleRemote {
        RuleRemote {
            group: Some(group.into()),
            ..RuleRemote::default()
        }
    }

    fn addresses(name: &str) -> RuleRemote {
        RuleRemote {
            address_group: Some(AddressGroupRef { name: name.into() }),
            ..RuleRemote::default()
        }
    }

    #[test]
    fn a_rule_is_an_expression() {
        let is = |found: Option<String>, expected: &str| assert_eq!(found.as_deref(), Some(expected));
        is(said(|_| {}), "outport == @g && ip4");
        let web = |rule: &mut SecurityGroupRule| {
            rule.protocol = Some("tcp".into());
            rule.ports = Some(PortRange { min: 80, max: Some(90) });
            rule.remote = Some(cidr("10.0.0.0/24"));
        };
        is(
            said(web),
            "outport == @g && ip4 && ip4.src == 10.0.0.0/24 && tcp && tcp.dst >= 80 && tcp.dst <= 90",
        );
        is(
            said(|rule| {
                rule.direction = RuleDirection::Egress;
                rule.ether_type = EtherType::V6;
                rule.protocol = Some("17".into());
                rule.ports = Some(PortRange { min: 53, max: None });
                rule.remote = Some(group("web"));
            }),
            "inport == @g && ip6 && ip6.dst == $sg_web_ip6 && udp && udp.dst == 53",
        );
        is(
            said(|rule| rule.remote = Some(addresses("offices"))),
            "outport == @g && ip4 && ip4.src == $ag_offices_ip4",
        );
        is(
            said(|rule| {
                rule.protocol = Some("icmp".into());
                rule.icmp = Some(IcmpKind {
                    type_: 8,
                    code: Some(0),
                });
                rule.remote = Some(cidr("0.0.0.0/0"));
            }),
            "outport == @g && ip4 && icmp4 && icmp4.type == 8 && icmp4.code == 0",
        );
        is(
            said(|rule| rule.protocol = Some("vrrp".into())),
            "outport == @g && ip4 && ip.proto == 112",
        );
    }

    #[test]
    fn what_the_schema_does_not_take_matches_nothing() {
        let hostile: [fn(&mut SecurityGroupRule); 9] = [
            |rule| rule.remote = Some(addresses("missing")),
            |rule| rule.remote = Some(group("missing")),
            |rule| rule.remote = Some(cidr("0.0.0.0/0 || 1")),
            |rule| rule.remote = Some(cidr("fd00::/8")),
            |rule| rule.remote = Some(RuleRemote::default()),
            |rule| rule.protocol = Some("tcp || 1".into()),
            |rule| rule.protocol = Some("ipv6-icmp".into()),
            |rule| rule.ports = Some(PortRange { min: 1, max: None }),
            |rule| {
                rule.protocol = Some("udp".into());
                rule.ports = Some(PortRange { min: 9, max: Some(8) });
            },
        ];
        for (at, change) in hostile.into_iter().enumerate() {
            assert_eq!(said(change), None, "{at}");
        }
    }
}
