//! Which rows are a LoadBalancer?

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use uuid::Uuid;
use virga_crds::{ForwardedProtocol, HealthCheck};
use virga_ovsdb::{
    northbound::{
        LoadBalancer, LoadBalancerHealthCheck, LogicalRouter, LogicalRouterPort, LogicalRouterStaticRoute,
        LogicalSwitchPort, Protocol,
    },
    reconcile::Desired,
    table::Ref,
};

use super::{Member, Place, ResolvedBalancer};
use crate::key;

/// What an operator finds an object by in `ovn-nbctl list`.
const LOAD_BALANCER: &str = "virga.dev/load-balancer";

/// Addresses behind which connections are shared out: a LoadBalancer's own, or one that leads to it.
pub(crate) struct Balanced<'a> {
    /// What the rows' keys begin with.
    pub key: String,
    pub name: &'a str,
    /// The mark that people find the rows by.
    pub mark: &'static str,
    pub addresses: &'a [IpAddr],
    pub listeners: &'a [(ForwardedProtocol, u16, u16)],
    pub members: &'a [Member],
    pub check: Option<&'a HealthCheck>,
    pub affinity: u64,
    /// Whether routers that have the rows say where the addresses are.
    pub answered_by_routers: bool,
}

/// Adds the rows of a LoadBalancer. That they are in switches is the Networks' to say.
pub(crate) fn insert(desired: &mut Desired, balancer: &ResolvedBalancer) {
    let Some(place) = &balancer.place else { return };
    let addresses: Vec<IpAddr> = place.addresses.iter().map(|(address, _)| *address).collect();
    let shared = Balanced {
        key: key::router(balancer.uid),
        name: &balancer.name,
        mark: LOAD_BALANCER,
        addresses: &addresses,
        listeners: &balancer.listeners,
        members: &balancer.members,
        check: balancer.check.as_ref(),
        affinity: balancer.affinity,
        // Its own router does.
        answered_by_routers: false,
    };
    balanced(desired, &shared);
    answering(desired, balancer, place);
}

/// The rows that a switch refers to.
pub(crate) fn references(uid: Uuid, listeners: impl Iterator<Item = ForwardedProtocol>) -> BTreeSet<Ref<LoadBalancer>> {
    let protocols: BTreeSet<ForwardedProtocol> = listeners.collect();
    let keys = protocols.into_iter().map(|protocol| {
        let (name, _) = protocol_of(protocol);
        Ref::to(row_key(&key::router(uid), name))
    });
    keys.collect()
}

/// Adds what shares connections out: one row a protocol.
pub(crate) fn balanced(desired: &mut Desired, of: &Balanced<'_>) -> Vec<Ref<LoadBalancer>> {
    let protocols: BTreeSet<ForwardedProtocol> = of.listeners.iter().map(|(protocol, ..)| *protocol).collect();
    let rows = protocols
        .into_iter()
        .map(|protocol| one_protocol(desired, of, protocol));
    rows.collect()
}

fn one_protocol(desired: &mut Desired, of: &Balanced<'_>, protocol: ForwardedProtocol) -> Ref<LoadBalancer> {
    let (word, kind) = protocol_of(protocol);
    let check = of.check.filter(|_| protocol != ForwardedProtocol::Sctp);
    let listeners = of.listeners.iter().filter(|(other, ..)| *other == protocol);
    let mut vips = BTreeMap::new();
    for (_, port, member_port) in listeners {
        for address in of.addresses {
            let members = of
                .members
                .iter()
                .filter(|member| member.address.is_ipv4() == address.is_ipv4());
            let members: Vec<String> = members.map(|member| socket(member.address, *member_port)).collect();
            vips.insert(socket(*address, *port), members.join(","));
        }
    }
    let asked = vips.keys().filter(|vip| !vip.starts_with('['));
    let checks = check
        .iter()
        .flat_map(|check| asked.clone().map(move |vip| (check, vip)));
    let health_check = checks
        .map(|(check, vip)| {
            let key = format!("{}/check/{word}/{vip}", of.key);
            let row = LoadBalancerHealthCheck {
                vip: vip.clone(),
                options: asking(check),
                ..LoadBalancerHealthCheck::default()
            };
            desired.insert(key, &row)
        })
        .collect();
    let asked = of.members.iter().filter(|_| check.is_some());
    let asked = asked.filter_map(|member| {
        let (port, source) = member.asked.as_ref()?;
        Some((bracketed(member.address), format!("{port}:{}", bracketed(*source))))
    });
    let mut options = BTreeMap::from([
        // Clients are told at once that nobody is there.
        ("reject".to_owned(), "true".to_owned()),
        // What a member had that is one no more does not go on to be sent there.
        ("ct_flush".to_owned(), "true".to_owned()),
    ]);
    if of.affinity > 0 {
        options.insert("affinity_timeout".to_owned(), of.affinity.to_string());
    }
    if !of.answered_by_routers {
        options.insert("neighbor_responder".to_owned(), "none".to_owned());
    }
    let row = LoadBalancer {
        name: format!("{} {word}", of.name),
        vips,
        protocol: Some(kind),
        health_check,
        ip_port_mappings: asked.collect(),
        options,
        external_ids: [(of.mark.to_owned(), of.name.to_owned())].into(),
        ..LoadBalancer::default()
    };
    desired.insert(row_key(&of.key, word), &row)
}

/// Adds the router of its own that says where its address is, and passes on what was shared out.
fn answering(desired: &mut Desired, balancer: &ResolvedBalancer, place: &Place) {
    let uid = balancer.uid;
    let mark = || [(LOAD_BALANCER.to_owned(), balancer.name.clone())].into();
    let port = LogicalRouterPort {
        name: key::router_port(uid, place.network),
        mac: place.mac.clone(),
        networks: place
            .addresses
            .iter()
            .map(|(address, range)| format!("{address}/{}", range.prefix_len()))
            .collect(),
        ..LogicalRouterPort::default()
    };
    let port = desired.insert(key::part(uid, format_args!("port/{}", place.network)), &port);
    let routes = place.routes.iter().map(|(destination, hop)| {
        let row = LogicalRouterStaticRoute {
            ip_prefix: destination.to_string(),
            nexthop: hop.to_string(),
            ..LogicalRouterStaticRoute::default()
        };
        desired.insert(key::part(uid, format_args!("route/{destination}/{hop}")), &row)
    });
    let static_routes = routes.collect();
    let row = LogicalRouter {
        name: format!("load balancer {}", balancer.name),
        ports: [port].into(),
        static_routes,
        options: [("always_learn_from_arp_request".to_owned(), "false".to_owned())].into(),
        external_ids: mark(),
        ..LogicalRouter::default()
    };
    desired.insert(key::router(uid), &row);
}

/// Adds the plug of a LoadBalancer's router in its Network's switch.
pub(crate) fn plug(desired: &mut Desired, uid: Uuid, name: &str, network: Uuid) -> Ref<LogicalSwitchPort> {
    let row = LogicalSwitchPort {
        name: format!("{network}-{uid}"),
        kind: "router".to_owned(),
        addresses: ["router".to_owned()].into(),
        options: [("router-port".to_owned(), key::router_port(uid, network))].into(),
        external_ids: [(LOAD_BALANCER.to_owned(), name.to_owned())].into(),
        ..LogicalSwitchPort::default()
    };
    desired.insert(key::part(network, format_args!("balancer-{uid}")), &row)
}

fn asking(check: &HealthCheck) -> BTreeMap<String, String> {
    let seconds = |text: &str| virga_core::duration::read(text).unwrap_or_default().as_secs().max(1);
    let options = [
        ("interval", seconds(&check.interval)),
        ("timeout", seconds(&check.timeout)),
        ("success_count", check.success_count.into()),
        ("failure_count", check.failure_count.into()),
    ];
    options.map(|(name, value)| (name.to_owned(), value.to_string())).into()
}

fn row_key(key: &str, protocol: &str) -> String {
    format!("{key}/{protocol}")
}

fn protocol_of(protocol: ForwardedProtocol) -> (&'static str, Protocol) {
    match protocol {
        ForwardedProtocol::Tcp => ("tcp", Protocol::Tcp),
        ForwardedProtocol::Udp => ("udp", Protocol::Udp),
        ForwardedProtocol::Sctp => ("sctp", Protocol::Sctp),
    }
}

fn socket(address: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(address, port).to_string()
}

fn bracketed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}
