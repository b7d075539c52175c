//! Which rows are a SecurityGroup, and what keeps a Port closed that no rule opens?
//!
//! A group is a `Port_Group` with an ACL for each rule. OVN makes the sets of its addresses, which other groups' rules name;
//! an AddressGroup is two such sets of ours.
//! Besides, all Ports of a network with port security are in a group of their own, which drops what no rule lets pass. It
//! is part of the network: a Port is closed from the transaction on that makes it, whatever becomes of its groups.

mod addresses;
mod index;
mod matching;
mod pairs;

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt as _;
use uuid::Uuid;
use virga_core::security_group::Remote;
use virga_crds::{RuleDirection, RuleMode, SecurityGroup};
use virga_ovsdb::{
    northbound::{Acl, AclAction, Direction, LogicalSwitchPort, PortGroup},
    reconcile::Desired,
    table::Ref,
};

pub(crate) use index::Groups;
pub(crate) use pairs::port_security;

use crate::key;

/// What an operator finds a group by.
const GROUP: &str = "virga.dev/security-group";

/// Neutron's priorities: what nobody lets pass is dropped.
const DROP: i64 = 1001;
const ALLOW: i64 = 1002;
/// What no rule may let pass.
const NEVER: i64 = 1003;

/// What a guest may never say: that it is a DHCP server or a router. Where connections are tracked, OVN lets the latter by
/// before it asks any rule.
const IMPOSTOR: &str =
    "((ip4 && udp.src == 67 && udp.dst == 68) || (ip6 && udp.src == 547 && udp.dst == 546) || nd_ra)";
/// What a guest must be able to say to be on the network at all.
const ASKING: &str = "((ip4 && udp.src == 68 && udp.dst == 67) || (ip6 && udp.src == 546 && udp.dst == 547) || nd || \
                      nd_rs || mldv1 || mldv2)";
/// What it must be able to hear.
const ANSWERS: &str = "((ip4 && udp.src == 67 && udp.dst == 68) || (ip6 && udp.src == 547 && udp.dst == 546) || nd || \
                       nd_ra || mldv1 || mldv2)";

/// The SecurityGroup or AddressGroup that a key is of.
pub fn whose_group(key: &str) -> Option<Uuid> {
    let mut parts = key.split('/');
    matches!(parts.next(), Some("sg" | "ag")).then(|| parts.next()?.parse().ok())?
}

fn key_of(group: Uuid) -> String {
    format!("sg/{group}")
}

/// How expressions call a group.
fn name_of(group: Uuid) -> String {
    format!("sg_{}", group.simple())
}

fn direction(rule: RuleDirection) -> Direction {
    match rule {
        RuleDirection::Ingress => Direction::ToPort,
        RuleDirection::Egress => Direction::FromPort,
    }
}

/// Adds the rows of a group with these ports.
fn insert(
    desired: &mut Desired,
    uid: Uuid,
    group: &SecurityGroup,
    ports: BTreeSet<Ref<LogicalSwitchPort>>,
    remote: impl Fn(Remote<'_>) -> Option<Uuid>,
) {
    let name = format!("{}/{}", group.namespace().unwrap_or_default(), group.name_any());
    let action = match group.spec.mode {
        RuleMode::Stateful => AclAction::AllowRelated,
        RuleMode::Stateless => AclAction::AllowStateless,
    };
    // Two rules may say the same.
    let rules: BTreeMap<String, RuleDirection> = group
        .spec
        .rules
        .iter()
        .filter_map(|rule| {
            let matching = matching::of(rule, &name_of(uid), |named| {
                let uid = remote(named)?;
                Some(match named {
                    Remote::Group(_) => name_of(uid),
                    Remote::Addresses(_) => addresses::set_of(uid),
                })
            })?;
            Some((matching, rule.direction))
        })
        .collect();
    let acls = rules.into_iter().map(|(matching, rule)| {
        // By what it says, so that a rule that comes first leaves the others as they are.
        let key = format!("{}/{}", key_of(uid), Uuid::new_v5(&uid, matching.as_bytes()).simple());
        let row = Acl {
            priority: ALLOW,
            direction: direction(rule),
            matching,
            action,
            external_ids: [(GROUP.to_owned(), name.clone())].into(),
            ..Acl::default()
        };
        desired.insert(key, &row)
    });
    let acls = acls.collect();
    let row = PortGroup {
        name: name_of(uid),
        ports,
        acls,
        external_ids: [(GROUP.to_owned(), name)].into(),
    };
    desired.insert(key_of(uid), &row);
}

/// Adds what drops all that no group lets pass, to and from these ports of a network.
pub(crate) fn close(desired: &mut Desired, network: Uuid, ports: BTreeSet<Ref<LogicalSwitchPort>>) {
    if ports.is_empty() {
        return;
    }
    let name = format!("secured_{}", network.simple());
    let (from, to) = (format!("inport == @{name}"), format!("outport == @{name}"));
    let rules = [
        (
            "from-drop",
            Direction::FromPort,
            DROP,
            format!("{from} && ip"),
            AclAction::Drop,
        ),
        (
            "to-drop",
            Direction::ToPort,
            DROP,
            format!("{to} && ip"),
            AclAction::Drop,
        ),
        (
            "from-ask",
            Direction::FromPort,
            ALLOW,
            format!("{from} && {ASKING}"),
            AclAction::Allow,
        ),
        (
            "to-answer",
            Direction::ToPort,
            ALLOW,
            format!("{to} && {ANSWERS}"),
            AclAction::Allow,
        ),
        (
            "from-never",
            Direction::FromPort,
            NEVER,
            format!("{from} && {IMPOSTOR}"),
            AclAction::Drop,
        ),
    ];
    let acls = rules.into_iter().map(|(part, direction, priority, matching, action)| {
        let row = Acl {
            priority,
            direction,
            matching,
            action,
            ..Acl::default()
        };
        desired.insert(key::part(network, format_args!("acl/{part}")), &row)
    });
    let acls = acls.collect();
    let row = PortGroup {
        name,
        ports,
        acls,
        ..PortGroup::default()
    };
    desired.insert(key::part(network, "secured"), &row);
}
