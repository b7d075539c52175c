//! Which rows are a Router?

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;
use virga_ovsdb::{
    northbound::{
        GatewayChassis, LogicalRouter, LogicalRouterPort, LogicalRouterStaticRoute, LogicalSwitchPort, Nat, NatType,
    },
    reconcile::Desired,
    table::Ref,
};

use super::{Joint, Resolved};
use crate::key;

/// What an operator finds an object by in `ovn-nbctl list`.
const ROUTER: &str = "virga.dev/router";

/// Adds the rows of a Router with these gateway hosts. Its plugs in the switches are the switches'.
pub(crate) fn insert(desired: &mut Desired, router: &Resolved, chassis: &[String]) {
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
    let nat = translations(desired, router);
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
    if !has_v6 || joint.external || !joint.dhcp6 {
        return BTreeMap::new();
    }
    let told = [
        ("address_mode", "dhcpv6_stateful".to_owned()),
        ("send_periodic", "true".to_owned()),
        ("mtu", joint.mtu.to_string()),
    ];
    told.map(|(name, value)| (name.to_owned(), value)).into()
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
