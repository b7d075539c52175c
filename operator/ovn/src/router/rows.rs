//! Which rows are a Router?

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;
use virga_crds::ForwardedProtocol;
use virga_ovsdb::{
    northbound::{
        GatewayChassis, LoadBalancer, LogicalRouter, LogicalRouterPort, LogicalRouterStaticRoute, LogicalSwitchPort,
        Nat, NatType, Protocol,
    },
    reconcile::Desired,
    table::Ref,
};

use super::{Joint, Resolved};
use crate::{
    floating_ip::ResolvedFloating,
    key,
    load_balancer::{self, Balanced},
};

/// What an operator finds an object by in `ovn-nbctl list`.
const ROUTER: &str = "virga.dev/router";
const FLOATING_IP: &str = "virga.dev/floating-ip";

/// Adds the rows of a Router with these gateway hosts. Its plugs in the switches are the switches'.
pub(crate) fn insert(desired: &mut Desired, router: &Resolved, chassis: &[String], floating: &[&ResolvedFloating]) {
    let uid = router.uid;
    let widest = router.joints.iter().map(|joint| joint.mtu).max().unwrap_or_default();
    let has_way_out = router.external().is_some();
    let mut ports = BTreeSet::new();
    for joint in &router.joints {
        let hosts = if joint.external { chassis } else { &[] };
        let gateways = gateways(desired, uid, joint, hosts);
        let mut options = BTreeMap::new();
        if joint.mtu < widest {
            // Who sends more than fits is told (RFC 1191, RFC 8201), and does not wait for answers that never come.
            options.insert("gateway_mtu".to_owned(), joint.mtu.to_string());
        }
        if joint.physical && !joint.external && has_way_out {
            // A switch outside would see the Router's address come from every host at once.
            options.insert("reside-on-redirect-chassis".to_owned(), "true".to_owned());
        }
        let row = LogicalRouterPort {
            name: key::router_port(uid, joint.network),
            mac: joint.mac.clone(),
            networks: joint
                .addresses
                .iter()
                .map(|(address, range)| format!("{address}/{}", range.prefix_len()))
                .collect(),
            gateway_chassis: gateways,
            ipv6_ra_configs: advertisements(joint),
            options,
            ..LogicalRouterPort::default()
        };
        ports.insert(desired.insert(key::part(uid, format_args!("port/{}", joint.network)), &row));
    }
    let ways = router.routes.iter().map(|(destination, hop)| {
        let row = LogicalRouterStaticRoute {
            ip_prefix: destination.to_string(),
            nexthop: hop.to_string(),
            ..LogicalRouterStaticRoute::default()
        };
        desired.insert(key::part(uid, format_args!("route/{destination}/{hop}")), &row)
    });
    let static_routes = ways.collect();
    let mut nat = translations(desired, router);
    nat.extend(floating.iter().filter_map(|floating| whole(desired, router, floating)));
    let load_balancer = floating
        .iter()
        .flat_map(|floating| {
            let mut rows = forwarded(desired, router.uid, floating);
            rows.extend(led(desired, router.uid, floating));
            rows
        })
        .collect();
    let options = [
        // The addresses of whoever is near are asked for when they are needed: a large outside would fill the table.
        ("always_learn_from_arp_request", "false"),
        ("dynamic_neigh_routers", "true"),
    ];
    let row = LogicalRouter {
        name: router.name.clone(),
        ports,
        static_routes,
        nat,
        load_balancer,
        options: options.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        external_ids: [(ROUTER.to_owned(), router.name.clone())].into(),
        ..LogicalRouter::default()
    };
    desired.insert(key::router(uid), &row);
}

/// The hosts that stand in for one another. The first has the highest priority.
fn gateways(desired: &mut Desired, uid: Uuid, joint: &Joint, chassis: &[String]) -> BTreeSet<Ref<GatewayChassis>> {
    let priorities = (1..=chassis.len()).rev();
    let rows = chassis.iter().zip(priorities).map(|(chassis, priority)| {
        let row = GatewayChassis {
            name: format!("{}_{chassis}", key::router_port(uid, joint.network)),
            chassis_name: chassis.clone(),
            priority: i64::try_from(priority).unwrap_or_default(),
            ..GatewayChassis::default()
        };
        desired.insert(
            key::part(uid, format_args!("gateway/{}/{chassis}", joint.network)),
            &row,
        )
    });
    rows.collect()
}

/// What IPv6 guests are told without asking: that there is a router, and where their addresses come from.
fn advertisements(joint: &Joint) -> BTreeMap<String, String> {
    let has_v6 = joint.addresses.iter().any(|(address, _)| address.is_ipv6());
    let advertised = joint.advertised.as_ref().filter(|_| has_v6 && !joint.external);
    advertised.map(|told| told.configs(joint.mtu)).unwrap_or_default()
}

fn translations(desired: &mut Desired, router: &Resolved) -> BTreeSet<Ref<Nat>> {
    let Some(outer) = router.snat else {
        return BTreeSet::new();
    };
    let inner = router.joints.iter().filter(|joint| !joint.external);
    let ranges = inner.flat_map(|joint| &joint.addresses).map(|(_, range)| range);
    let rows = ranges.filter(|range| range.addr().is_ipv4()).map(|range| {
        let row = Nat {
            kind: NatType::Snat,
            external_ip: outer.to_string(),
            logical_ip: range.to_string(),
            ..Nat::default()
        };
        desired.insert(key::part(router.uid, format_args!("snat/{range}")), &row)
    });
    rows.collect()
}

/// An address outside that is one guest's: both ways.
fn whole(desired: &mut Desired, router: &Resolved, floating: &ResolvedFloating) -> Option<Ref<Nat>> {
    let (outer, leads) = (floating.address?, floating.whole.as_ref()?);
    let local = router.distributed;
    let row = Nat {
        kind: NatType::DnatAndSnat,
        external_ip: outer.to_string(),
        logical_ip: leads.address.to_string(),
        // With both, the guest's own host answers for the address.
        external_mac: local.then(|| floating.mac.clone()),
        logical_port: local.then(|| leads.port.to_string()),
        external_ids: [(FLOATING_IP.to_owned(), floating.name.clone())].into(),
        ..Nat::default()
    };
    Some(desired.insert(key::part(router.uid, format_args!("floating/{}", floating.uid)), &row))
}

/// Single ports of an address outside: one load balancer a protocol, with one member behind each port.
fn forwarded(desired: &mut Desired, router: Uuid, floating: &ResolvedFloating) -> Vec<Ref<LoadBalancer>> {
    let Some(outer) = floating.address else {
        return Vec::new();
    };
    let mut by_protocol: BTreeMap<_, BTreeMap<String, String>> = BTreeMap::new();
    for forward in &floating.forwards {
        by_protocol.entry(forward.protocol).or_default().insert(
            format!("{outer}:{}", forward.outer),
            format!("{}:{}", forward.address, forward.inner),
        );
    }
    let rows = by_protocol.into_iter().map(|(protocol, vips)| {
        let (name, protocol) = match protocol {
            ForwardedProtocol::Tcp => ("tcp", Protocol::Tcp),
            ForwardedProtocol::Udp => ("udp", Protocol::Udp),
            ForwardedProtocol::Sctp => ("sctp", Protocol::Sctp),
        };
        let row = LoadBalancer {
            name: format!("{} {name}", floating.name),
            vips,
            protocol: Some(protocol),
            external_ids: [(FLOATING_IP.to_owned(), floating.name.clone())].into(),
            ..LoadBalancer::default()
        };
        desired.insert(key::part(router, format_args!("forward/{}/{name}", floating.uid)), &row)
    });
    rows.collect()
}

/// An address outside that leads to a LoadBalancer: the same members behind it.
fn led(desired: &mut Desired, router: Uuid, floating: &ResolvedFloating) -> Vec<Ref<LoadBalancer>> {
    let (Some(outer), Some(balancer)) = (floating.address, &floating.balancer) else {
        return Vec::new();
    };
    let shared = Balanced {
        key: key::part(router, format_args!("forward/{}", floating.uid)),
        name: &floating.name,
        mark: FLOATING_IP,
        addresses: &[outer],
        listeners: &balancer.listeners,
        members: &balancer.members,
        check: balancer.check.as_ref(),
        affinity: balancer.affinity,
        answered_by_routers: true,
    };
    load_balancer::balanced(desired, &shared)
}

/// Adds a Router's plug in a Network's switch.
pub(crate) fn plug(desired: &mut Desired, uid: Uuid, name: &str, joint: &Joint) -> Ref<LogicalSwitchPort> {
    let mut options = BTreeMap::from([("router-port".to_owned(), key::router_port(uid, joint.network))]);
    if joint.external {
        // The outside hears at once when another host has become the gateway.
        options.insert("nat-addresses".to_owned(), "router".to_owned());
    }
    let row = LogicalSwitchPort {
        name: format!("{}-{uid}", joint.network),
        kind: "router".to_owned(),
        addresses: ["router".to_owned()].into(),
        options,
        external_ids: [(ROUTER.to_owned(), name.to_owned())].into(),
        ..LogicalSwitchPort::default()
    };
    desired.insert(key::part(joint.network, format_args!("router-{uid}")), &row)
}
