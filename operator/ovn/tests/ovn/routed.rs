//! Where would a packet go? The real ovn-northd makes flows of our rows, and ovn-trace follows them.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use virga_core::network::Allocated;
use virga_core::{router, security_group::default_group};
use virga_crds::{
    ExternalGateway, Network, NetworkRef, NetworkScope, NetworkType, Port, PortSecurity, Router, RouterNetwork,
    RouterRoute, RouterSpec, SecurityGroupRule, conditions::Reason,
};
use virga_ovn::{Cloud, GatewayHosts};
use virga_ovsdb::{
    client::Client,
    northbound::{GatewayChassis, LogicalRouterPort, LogicalSwitchPort, Nat},
    replica::Replica,
    table::Table,
    testing::Northd,
};

use crate::{
    objects::{cloud, network, port, subnet, uid},
    server::{client, write},
};

/// The outside's machine that routers send to, and what it has for a MAC address.
const HOP: (&str, &str) = ("10.200.0.1", "02:00:00:00:00:01");
pub const BEYOND: &str = "203.0.113.1";

/// Lets everything in to the guests of `shop`, as far as they name no group.
pub fn open(cloud: &mut Cloud) {
    let mut group = default_group("shop");
    group.spec.rules.push(SecurityGroupRule::default());
    group.metadata.uid = Some(uid(20).to_string());
    cloud.set_group(&Arc::new(group));
}

pub fn outside(number: u64) -> Arc<Network> {
    network(number, "public", |spec| {
        spec.type_ = NetworkType::Flat;
        spec.physical_network = Some("physnet".into());
        spec.scope = NetworkScope::External;
        spec.subnets = vec![subnet("v4", "10.200.0.0/24")];
    })
}

/// A Router in `shop` that joins these Networks and goes out by `public`.
pub fn router(number: u64, name: &str, networks: &[&str], change: impl FnOnce(&mut RouterSpec)) -> Arc<Router> {
    let joined = networks.iter().map(|network| RouterNetwork {
        network: (*network).into(),
        ..RouterNetwork::default()
    });
    let mut spec = RouterSpec {
        networks: joined.collect(),
        external_gateway: Some(ExternalGateway {
            network: NetworkRef {
                name: "public".into(),
                namespace: None,
            },
            ..ExternalGateway::default()
        }),
        ..RouterSpec::default()
    };
    change(&mut spec);
    let mut router = Router::new(name, spec);
    router.metadata.namespace = Some("shop".into());
    router.metadata.uid = Some(uid(number).to_string());
    router.metadata.generation = Some(1);
    let second = i64::try_from(number).unwrap();
    router.metadata.creation_timestamp = Some(Time(Timestamp::from_second(second).unwrap()));
    Arc::new(router)
}

/// The record of a Router's address outside.
pub fn address(router: &Router, ip: &str) -> Arc<Port> {
    let need = router::needs(router).remove(0);
    let ip = ip.parse().unwrap();
    let given = Allocated {
        subnet: "v4".into(),
        ip,
    };
    let uid = router.metadata.uid.clone().unwrap();
    let mac = virga_core::network::mac_address(&uid, 0);
    let mut port = need.port(&router.metadata, mac, &[given]);
    port.metadata.uid = Some(format!("{uid}-port"));
    Arc::new(port)
}

pub fn hosts(names: &[&str]) -> GatewayHosts {
    let host = |name: &&str| ((*name).to_owned(), BTreeSet::from(["physnet".to_owned()]));
    GatewayHosts::Known(names.iter().map(host).collect())
}

pub fn rows<T: Table>(client: &Client) -> Vec<T> {
    client.read(|replica: &Replica| replica.read::<T>().map(|(_, row)| row.unwrap()).collect())
}

/// The MAC address of a Router in a Network.
pub fn mac(client: &Client, router: u64, network: u64) -> String {
    let name = format!("{}-{}", uid(router), uid(network));
    let found = rows::<LogicalRouterPort>(client)
        .into_iter()
        .find(|row| row.name == name);
    found.unwrap_or_else(|| panic!("no {name}")).mac
}

/// What becomes of a packet that a guest sends through its Router.
pub fn sent(ovn: &Northd, from: &Port, router_mac: &str, to: &str) -> String {
    let (uid, spec) = (from.metadata.uid.as_ref().unwrap(), &from.spec);
    let packet = format!(
        "inport == \"{uid}\" && eth.src == {} && eth.dst == {router_mac} && ip4.src == {} && ip4.dst == {to} && ip.ttl == 64 \
         && icmp4.type == 8",
        spec.mac, spec.addresses[0].ip
    );
    ovn.trace(&packet).unwrap()
}

/// The outside's machine has answered the Router's question for its MAC address.
pub fn neighbour(ovn: &Northd, router: u64, name: &str, network: u64) {
    knows(ovn, router, name, network, HOP);
}

/// Somebody in a Network, with this address and MAC address, has answered it.
pub fn knows(ovn: &Northd, router: u64, name: &str, network: u64, (ip, mac): (&str, &str)) {
    let datapath = ovn
        .sbctl(&[
            "--bare",
            "--columns=_uuid",
            "find",
            "Datapath_Binding",
            &format!("external_ids:name={name}"),
        ])
        .unwrap();
    ovn.sbctl(&[
        "create",
        "MAC_Binding",
        &format!("logical_port={}-{}", uid(router), uid(network)),
        &format!("ip=\"{ip}\""),
        &format!("mac=\"{mac}\""),
        &format!("datapath={}", datapath.trim()),
    ])
    .unwrap();
}

pub fn to(port: &Port) -> String {
    format!("output(\"{}\")", port.metadata.uid.as_ref().unwrap())
}

pub fn to_outside(network: u64) -> String {
    format!("output(\"{}-localnet\")", uid(network))
}

#[tokio::test]
async fn a_router_joins_networks_and_hides_them_outside() {
    let ovn = Northd::start().unwrap();
    let client = client(ovn.northbound()).await;
    let mut cloud = cloud();
    let networks = [
        network(1, "front", |_| {}),
        network(2, "back", |spec| {
            spec.subnets = vec![subnet("v4", "10.1.0.0/24")];
            // A guest there is a router: it takes what is for others.
            spec.port_security = PortSecurity::Disabled;
        }),
        outside(3),
        // Another tenant's, with the same range.
        network(4, "theirs", |_| {}),
    ];
    let edge = router(10, "edge", &["front", "back"], |spec| {
        spec.routes = vec![RouterRoute {
            destination: "192.0.2.0/24".into(),
            next_hop: "10.1.0.5".into(),
        }];
    });
    let other = router(11, "other", &["theirs"], |_| {});
    let guests = [
        port(1, "front", &["10.0.0.5"]),
        port(2, "back", &["10.1.0.5"]),
        port(3, "theirs", &["10.0.0.5"]),
    ];
    let outer = [address(&edge, "10.200.0.10"), address(&other, "10.200.0.11")];
    cloud.set_gateway_hosts(hosts(&["node-1", "node-2", "node-3"]));
    cloud.reset(&networks, guests.iter().chain(&outer), [&edge, &other], [], []);
    open(&mut cloud);
    let wanted = cloud.take();
    assert_eq!(write(&client, &wanted).await.problems, []);
    let seen = &wanted.routers[&uid(10)].1;
    assert_eq!((seen.problem.as_ref(), seen.chassis.len()), (None, 3));
    assert_eq!(seen.external, ["10.200.0.10"]);
    assert_eq!(seen.networks[1].addresses, ["10.1.0.1"]);
    // A Router has the gateway's address, so nobody else answers for it.
    let services = rows::<LogicalSwitchPort>(&client);
    assert!(services.iter().all(|row| row.kind != "localport"));
    ovn.sync().unwrap();
    neighbour(&ovn, 10, "shop/edge", 3);
    neighbour(&ovn, 11, "shop/other", 3);

    let (front, back, theirs) = (mac(&client, 10, 1), mac(&client, 10, 2), mac(&client, 11, 4));
    let there = sent(&ovn, &guests[0], &front, "10.1.0.5");
    assert!(
        there.contains(&to(&guests[1])) && !there.contains("10.200.0.10"),
        "{there}"
    );
    let back_again = sent(&ovn, &guests[1], &back, "10.0.0.5");
    assert!(back_again.contains(&to(&guests[0])), "{back_again}");
    let routed = sent(&ovn, &guests[0], &front, "192.0.2.1");
    assert!(routed.contains(&to(&guests[1])), "{routed}");

    let hidden = sent(&ovn, &guests[0], &front, BEYOND);
    assert!(
        hidden.contains("10.200.0.10") && hidden.contains(&to_outside(3)),
        "{hidden}"
    );
    let theirs = sent(&ovn, &guests[2], &theirs, BEYOND);
    assert!(
        theirs.contains("10.200.0.11") && theirs.contains(&to_outside(3)),
        "{theirs}"
    );

    // Again, nothing is to be done.
    cloud.touch_everything();
    assert!(write(&client, &cloud.take()).await.is_empty());
    // And when they go, so do their rows, and the gateway's address is somebody's again.
    cloud.remove_router(&edge);
    cloud.remove_router(&other);
    write(&client, &cloud.take()).await;
    assert!(rows::<LogicalRouterPort>(&client).is_empty() && rows::<Nat>(&client).is_empty());
    let left = rows::<LogicalSwitchPort>(&client);
    assert_eq!(left.iter().filter(|row| row.kind == "localport").count(), 3);
    assert!(left.iter().all(|row| row.kind != "router"));
}

/// What is wrong with a Router among these.
fn problems(networks: &[Arc<Network>], ports: &[Arc<Port>], routers: &[Arc<Router>]) -> Vec<Option<(Reason, String)>> {
    let mut cloud = cloud();
    cloud.set_gateway_hosts(hosts(&["node-1"]));
    cloud.reset(networks, ports, routers, [], []);
    let wanted = cloud.take();
    let problems = wanted.routers.values().map(|(_, seen)| seen.problem.clone());
    problems
        .map(|problem| problem.map(|problem| (problem.reason, problem.message)))
        .collect()
}

fn inner(spec: &mut RouterSpec) {
    spec.external_gateway = None;
}

#[test]
fn what_cannot_be_joined_is_told_with_both_names() {
    let networks = [
        network(1, "front", |_| {}),
        network(2, "wide", |spec| spec.subnets = vec![subnet("v4", "10.0.0.0/16")]),
    ];
    let told = problems(&networks, &[], &[router(10, "edge", &["front", "wide"], inner)]);
    let (reason, message) = told[0].clone().unwrap();
    assert_eq!(reason, Reason::Invalid);
    assert_eq!(
        message,
        "spec.networks[wide]: 10.0.0.0/16 of Network shop/wide overlaps with 10.0.0.0/24 of Network shop/front: a Router can't \
         tell them apart, so leave one out"
    );

    // The older one keeps the gateway's address, however they come.
    let (old, young) = (
        router(10, "old", &["front"], inner),
        router(11, "young", &["front"], inner),
    );
    let told = problems(&networks, &[], &[young, old]);
    let (reason, message) = told[1].clone().unwrap();
    assert_eq!((told[0].as_ref(), reason), (None, Reason::AddressInUse));
    assert!(
        message.contains("10.0.0.1 of Network shop/front is Router shop/old's"),
        "{message}"
    );

    let told = problems(&networks, &[], &[router(10, "edge", &["nowhere"], inner)]);
    assert_eq!(told[0].clone().unwrap().0, Reason::NetworkNotFound);
    let far = router(10, "edge", &["front"], |spec| {
        inner(spec);
        spec.routes = vec![RouterRoute {
            destination: "192.0.2.0/24".into(),
            next_hop: "10.9.0.1".into(),
        }];
    });
    let message = problems(&networks, &[], &[far])[0].clone().unwrap().1;
    assert!(
        message.starts_with("spec.routes[192.0.2.0/24 10.9.0.1]: the next hop is in no subnet"),
        "{message}"
    );
}

#[test]
fn the_way_outside_needs_an_external_network_an_address_and_a_host() {
    let front = network(1, "front", |_| {});
    let edge = router(10, "edge", &["front"], |_| {});
    let port = [address(&edge, "10.200.0.10")];
    let reason = |networks: &[Arc<Network>], ports: &[Arc<Port>]| {
        let told = problems(networks, ports, std::slice::from_ref(&edge));
        told[0].as_ref().map(|(reason, _)| *reason)
    };
    let closed = network(3, "public", |spec| {
        spec.type_ = NetworkType::Flat;
        spec.physical_network = Some("physnet".into());
    });
    assert_eq!(reason(&[front.clone(), closed], &port), Some(Reason::Invalid));
    assert_eq!(
        reason(&[front.clone(), outside(3)], &[]),
        Some(Reason::WaitingForAddress)
    );
    assert_eq!(reason(&[front.clone(), outside(3)], &port), None);

    let mut cloud = cloud();
    cloud.reset([&front, &outside(3)], &port, [&edge], [], []);
    let told = |cloud: &mut Cloud| {
        let wanted = cloud.take();
        let seen = wanted.routers[&uid(10)].1.clone();
        seen.problem.map(|problem| problem.reason)
    };
    assert_eq!(told(&mut cloud), Some(Reason::GatewayHostsUnknown));
    cloud.set_gateway_hosts(GatewayHosts::NotConfigured);
    assert_eq!(told(&mut cloud), Some(Reason::GatewayHostsUnknown));
    cloud.set_gateway_hosts(GatewayHosts::Known([("node-1".to_owned(), BTreeSet::new())].into()));
    assert_eq!(told(&mut cloud), Some(Reason::NoGatewayHost));
    cloud.set_gateway_hosts(hosts(&["node-1"]));
    assert_eq!(told(&mut cloud), None);
}

#[tokio::test]
async fn hosts_stand_in_for_each_other_and_are_left_alone_while_nobody_knows_them() {
    let ovn = Northd::start().unwrap();
    let client = client(ovn.northbound()).await;
    let edge = router(10, "edge", &["front"], |_| {});
    let networks = [network(1, "front", |spec| spec.mtu = 1400), outside(3)];
    let outer = address(&edge, "10.200.0.10");
    let mut cloud = cloud();
    cloud.set_gateway_hosts(hosts(&["a", "b", "c", "d", "e", "f"]));
    cloud.reset(&networks, [&outer], [&edge], [], []);
    let first = cloud.take();
    write(&client, &first).await;
    let mut chassis = rows::<GatewayChassis>(&client);
    chassis.sort_by_key(|row| -row.priority);
    let names: Vec<String> = chassis.into_iter().map(|row| row.chassis_name).collect();
    assert_eq!(names.len(), 5);
    assert_eq!(
        names,
        first.routers[&uid(10)].1.chassis,
        "the status has them in their order"
    );
    let inner = rows::<LogicalRouterPort>(&client)
        .into_iter()
        .find(|row| row.name.ends_with(&uid(1).to_string()));
    assert_eq!(inner.unwrap().options["gateway_mtu"], "1400");

    // Another leader, whose look at the south-bound database takes its time.
    let mut anew = crate::objects::cloud();
    anew.reset(&networks, [&outer], [&edge], [], []);
    assert!(write(&client, &anew.take()).await.is_empty());
    anew.set_gateway_hosts(hosts(&["a", "b", "c", "d", "e", "f"]));
    assert!(anew.is_dirty() && write(&client, &anew.take()).await.is_empty());
    let without: Vec<&str> = ["a", "b", "c", "d", "e", "f"]
        .into_iter()
        .filter(|name| *name != names[0])
        .collect();
    anew.set_gateway_hosts(hosts(&without));
    write(&client, &anew.take()).await;
    let left: BTreeSet<String> = rows::<GatewayChassis>(&client)
        .into_iter()
        .map(|row| row.chassis_name)
        .collect();
    assert!(left.len() == 5 && !left.contains(&names[0]));
}
