//! What passes? OVN's own northd and ovn-trace say so of what we write.

use std::sync::Arc;

use serde_json::{Value, json};
use virga_core::security_group::default_group;
use virga_crds::{
    AddressGroup, AddressGroupSpec, AddressPair, Port, PortSecurity, RuleMode, SecurityGroup, SecurityGroupSpec,
};
use virga_ovn::Cloud;
use virga_ovsdb::{Client, reconcile::Plan, testing::Northd};

use crate::{
    objects::{cloud, network, port, subnet, uid},
    server::{client, write},
};

/// A group in `shop` with these rules.
fn group(number: u64, name: &str, rules: &Value) -> Arc<SecurityGroup> {
    let spec: SecurityGroupSpec = serde_json::from_value(json!({"rules": rules})).unwrap();
    numbered(number, SecurityGroup::new(name, spec))
}

fn numbered(number: u64, mut group: SecurityGroup) -> Arc<SecurityGroup> {
    group.metadata.namespace = Some("shop".into());
    group.metadata.uid = Some(uid(2 << 32 | number).to_string());
    group.metadata.generation = Some(1);
    Arc::new(group)
}

/// A port of `front` in these groups, with an address of each family.
fn in_groups(number: u64, groups: &[&str]) -> Arc<Port> {
    let v6 = format!("fd00:1::{number}");
    let mut made = (*port(number, "front", &[&format!("10.0.0.{number}"), &v6])).clone();
    made.spec.security_groups = groups.iter().map(|group| (*group).to_owned()).collect();
    Arc::new(made)
}

struct World {
    cloud: Cloud,
    client: Client,
    ovn: Northd,
}

impl World {
    async fn start(groups: &[Arc<SecurityGroup>], ports: &[&Arc<Port>]) -> Self {
        let ovn = Northd::start().unwrap();
        let client = client(ovn.northbound()).await;
        let mut cloud = cloud();
        cloud.reset([&front(PortSecurity::Enabled)], ports.iter().copied(), [], [], []);
        cloud.reset_groups(groups, []);
        let mut world = Self { cloud, client, ovn };
        world.write().await;
        world
    }

    async fn write(&mut self) -> Plan {
        let plan = write(&self.client, &self.cloud.take()).await;
        assert_eq!(plan.problems, []);
        self.ovn.sync().unwrap();
        plan
    }

    /// Whether a packet of a new connection arrives.
    fn passes(&self, from: &Port, to: &Port, what: &str) -> bool {
        self.arrives(from, to, "new", what)
    }

    /// Whether a packet arrives that connection tracking says this of.
    fn arrives(&self, from: &Port, to: &Port, state: &str, what: &str) -> bool {
        let family = usize::from(what.contains("icmp6") || what.contains("ip6"));
        let ip = ["ip4", "ip6"][family];
        let address = |port: &Port| port.spec.addresses[family].ip.clone();
        let packet = format!(
            "inport==\"{}\" && eth.src=={} && eth.dst=={} && {ip}.src=={} && {ip}.dst=={} && ip.ttl==64 && {what}",
            from.metadata.uid.as_ref().unwrap(),
            from.spec.mac,
            to.spec.mac,
            address(from),
            address(to),
        );
        let said = self.ovn.trace_as(state, &packet).unwrap();
        said.contains(&format!("output(\"{}\")", to.metadata.uid.as_ref().unwrap()))
    }
}

fn front(security: PortSecurity) -> Arc<virga_crds::Network> {
    network(1, "front", |spec| {
        spec.subnets.push(subnet("v6", "fd00:1::/64"));
        spec.port_security = security;
    })
}

const WEB: &str = "tcp && tcp.src==40000 && tcp.dst==80";
const WEB_6: &str = "ip6 && tcp && tcp.src==40000 && tcp.dst==80";
const SSH: &str = "tcp && tcp.src==40000 && tcp.dst==22";
const DNS: &str = "udp && udp.src==40000 && udp.dst==53";
const PING: &str = "icmp4.type==8 && icmp4.code==0";
const PING_6: &str = "icmp6.type==128 && icmp6.code==0";
const PONG: &str = "icmp4.type==0 && icmp4.code==0";

#[tokio::test]
async fn rules_say_what_passes_each_way_and_all_else_is_dropped() {
    let web = json!([
        {"direction": "Ingress", "protocol": "tcp", "ports": {"min": 80, "max": 81}},
        {"direction": "Ingress", "protocol": "icmp", "icmp": {"type": 8}},
        {"direction": "Ingress", "etherType": "IPv6", "protocol": "tcp", "ports": {"min": 80}, "remote": {"cidr": "fd00:1::/126"}},
        {"direction": "Ingress", "protocol": "tcp", "ports": {"min": 22}, "remote": {"cidr": "10.0.0.2/32"}},
    ]);
    let out = json!([{"direction": "Egress", "protocol": "udp", "ports": {"min": 53}}]);
    let (served, client, other, mute) = (
        in_groups(1, &["web"]),
        in_groups(2, &["default"]),
        in_groups(8, &[]),
        in_groups(4, &["out"]),
    );
    let groups = [
        group(1, "web", &web),
        group(2, "out", &out),
        numbered(3, default_group("shop")),
    ];
    let world = World::start(&groups, &[&served, &client, &other, &mute]).await;

    assert!(world.passes(&client, &served, WEB));
    assert!(world.passes(&client, &served, PING));
    assert!(world.passes(&client, &served, WEB_6), "fd00:1::2 is in the range");
    assert!(!world.passes(&other, &served, WEB_6), "fd00:1::8 is not");
    assert!(world.passes(&client, &served, SSH));
    assert!(!world.passes(&other, &served, SSH), "only from 10.0.0.2");
    assert!(!world.passes(&client, &served, PING_6));
    assert!(
        !world.passes(&client, &served, "icmp4.type==13 && icmp4.code==0"),
        "another type"
    );
    assert!(!world.passes(&client, &served, DNS));
    assert!(!world.passes(&client, &served, "tcp && tcp.src==40000 && tcp.dst==82"));

    // Answers pass, and what asks for itself doesn't: the group lets nothing out.
    assert!(world.arrives(&served, &client, "est,rpl", "tcp && tcp.src==80 && tcp.dst==40000"));
    assert!(!world.passes(&served, &client, WEB));
    // Out by one's own group, and in by the other's.
    assert!(!world.passes(&mute, &served, WEB), "its group lets DNS out only");
    assert!(
        !world.passes(&mute, &client, DNS),
        "the default group lets its own in only"
    );

    // The default group, named or not: each other, both families.
    for what in [WEB, WEB_6, DNS, PING, PING_6] {
        assert!(world.passes(&client, &other, what), "{what}");
        assert!(!world.passes(&served, &other, what), "{what}");
    }
}

#[tokio::test]
async fn a_remote_group_is_its_ports_and_a_change_is_of_one_group() {
    let db = |extra: Value| {
        let mut rules = vec![json!({"direction": "Ingress", "protocol": "tcp", "remote": {"group": "web"}})];
        rules.extend(extra.as_array().cloned().unwrap_or_default());
        json!(rules)
    };
    // They name each other, which is nothing special.
    let web = json!([
        {"direction": "Egress"},
        {"direction": "Ingress", "protocol": "icmp", "remote": {"group": "db"}},
    ]);
    let (data, first, second) = (
        in_groups(1, &["db"]),
        in_groups(2, &["web"]),
        in_groups(3, &["default", "web"]),
    );
    let stranger = in_groups(4, &["default"]);
    let groups = [
        group(1, "db", &db(json!([]))),
        group(2, "web", &web),
        numbered(3, default_group("shop")),
    ];
    let mut world = World::start(&groups, &[&data, &first, &stranger]).await;
    assert!(world.passes(&first, &data, SSH));
    assert!(!world.passes(&stranger, &data, SSH));

    // A Port more: the group of those that are let in grows.
    world.cloud.set_port(&second);
    world.write().await;
    assert!(world.passes(&second, &data, SSH));

    // A rule more, and only that is written.
    world.cloud.set_group(&group(
        1,
        "db",
        &db(json!([{"direction": "Ingress", "protocol": "udp"}])),
    ));
    let wanted = world.cloud.take();
    assert_eq!((wanted.networks.len(), wanted.groups.len()), (0, 1));
    world.cloud.touch(uid(2 << 32 | 1));
    let plan = world.write().await;
    assert_eq!(
        (plan.inserted, plan.updated, plan.removed),
        (1, 1, 0),
        "the rule, and its group"
    );
    assert!(world.passes(&stranger, &data, DNS));
    // And less.
    world.cloud.set_group(&group(1, "db", &json!([])));
    let plan = world.write().await;
    assert_eq!((plan.inserted, plan.updated, plan.removed), (0, 1, 2));
    assert!(!world.passes(&stranger, &data, DNS) && !world.passes(&first, &data, SSH));

    // As after a restart: nothing differs.
    world.cloud.touch_everything();
    assert!(world.write().await.is_empty());

    // A Port leaves a group.
    world.cloud.set_group(&group(1, "db", &db(json!([]))));
    world.write().await;
    assert!(world.passes(&second, &data, SSH));
    world.cloud.set_port(&in_groups(3, &["default"]));
    world.write().await;
    assert!(!world.passes(&second, &data, SSH));
}

/// An address group in `shop`.
fn addresses(number: u64, name: &str, addresses: &[&str]) -> Arc<AddressGroup> {
    let spec = AddressGroupSpec {
        addresses: addresses.iter().map(|address| (*address).to_owned()).collect(),
        ..AddressGroupSpec::default()
    };
    let mut group = AddressGroup::new(name, spec);
    group.metadata.namespace = Some("shop".into());
    group.metadata.uid = Some(uid(3 << 32 | number).to_string());
    group.metadata.generation = Some(1);
    Arc::new(group)
}

#[tokio::test]
async fn an_address_group_is_addresses_that_change_without_the_rules() {
    let rule = |family: &str| json!({"direction": "Ingress", "etherType": family, "remote": {"addressGroup": {"name": "near"}}});
    let groups = [
        group(1, "web", &json!([rule("IPv4"), rule("IPv6")])),
        numbered(3, default_group("shop")),
    ];
    let (served, first, second) = (in_groups(1, &["web"]), in_groups(2, &[]), in_groups(3, &[]));
    let mut world = World::start(&groups, &[&served, &first, &second]).await;
    assert!(!world.passes(&first, &served, WEB), "what isn't there lets nobody in");

    world
        .cloud
        .set_address_group(&addresses(1, "near", &["10.0.0.2", "fd00:1::3"]));
    world.write().await;
    assert!(world.passes(&first, &served, WEB) && world.passes(&second, &served, WEB_6));
    assert!(!world.passes(&first, &served, WEB_6) && !world.passes(&second, &served, WEB));

    // One row changes, and no rule.
    world
        .cloud
        .set_address_group(&addresses(1, "near", &["10.0.0.3/32", "fd00:1::3"]));
    let plan = world.write().await;
    assert_eq!((plan.inserted, plan.updated, plan.removed), (0, 1, 0));
    assert!(!world.passes(&first, &served, WEB) && world.passes(&second, &served, WEB));

    // All there are, and none.
    world
        .cloud
        .set_address_group(&addresses(1, "near", &["0.0.0.0/0", "::/0", "10.0.0.0/8"]));
    world.write().await;
    for port in [&first, &second] {
        assert!(world.passes(port, &served, WEB) && world.passes(port, &served, WEB_6));
    }
    world.cloud.set_address_group(&addresses(1, "near", &[]));
    world.write().await;
    assert!(!world.passes(&first, &served, WEB) && !world.passes(&first, &served, WEB_6));

    // Another one of that name, and the one that it was goes afterwards.
    let old = addresses(1, "near", &[]);
    world.cloud.set_address_group(&addresses(2, "near", &["10.0.0.2"]));
    world.cloud.remove_address_group(&old);
    world.write().await;
    assert!(world.passes(&first, &served, WEB));
    world.cloud.touch_everything();
    assert!(world.write().await.is_empty(), "as after a restart");
    world.cloud.remove_address_group(&addresses(2, "near", &[]));
    world.write().await;
    assert!(!world.passes(&first, &served, WEB));
    let sets = world.client.read(|replica| replica.rows("Address_Set").count());
    assert_eq!(sets, 0);
}

#[tokio::test]
async fn what_is_missing_opens_nothing() {
    let (lost, client) = (in_groups(1, &["ghost"]), in_groups(2, &["default"]));
    let open = json!([{"direction": "Ingress"}, {"direction": "Egress"}]);
    let named = json!([{"direction": "Ingress", "remote": {"group": "ghost"}}, {"direction": "Egress"}]);
    let naming = in_groups(3, &["naming"]);
    // Not even the default group is there yet.
    let mut world = World::start(&[], &[&lost, &client, &naming]).await;
    assert!(!world.passes(&client, &lost, PING));
    world.cloud.set_group(&numbered(1, default_group("shop")));
    world.cloud.set_group(&group(3, "naming", &named));
    world.write().await;
    assert!(!world.passes(&client, &lost, PING) && !world.passes(&lost, &client, PING));
    assert!(!world.passes(&client, &naming, PING));

    world.cloud.set_group(&group(2, "ghost", &open));
    world.write().await;
    assert!(world.passes(&client, &lost, PING));
    assert!(world.passes(&lost, &naming, PING), "the group that it names has come");
    world.cloud.remove_group(&group(2, "ghost", &open));
    world.write().await;
    assert!(!world.passes(&client, &lost, PING) && !world.passes(&lost, &naming, PING));
}

#[tokio::test]
async fn guests_get_on_the_network_and_are_no_servers_of_it() {
    let (mute, other) = (in_groups(1, &["none"]), in_groups(2, &["open"]));
    let open = json!([
        {"direction": "Ingress"}, {"direction": "Egress"},
        {"direction": "Ingress", "etherType": "IPv6"}, {"direction": "Egress", "etherType": "IPv6"},
    ]);
    let world = World::start(
        &[group(1, "none", &json!([])), group(2, "open", &open)],
        &[&mute, &other],
    )
    .await;
    let asked = format!(
        "inport==\"{}\" && eth.src=={} && eth.dst==ff:ff:ff:ff:ff:ff && ip4.src==0.0.0.0 && ip4.dst==255.255.255.255 \
         && ip.ttl==64 && udp && udp.src==68 && udp.dst==67",
        mute.metadata.uid.as_ref().unwrap(),
        mute.spec.mac
    );
    let said = world.ovn.trace_as("new", &asked).unwrap();
    assert!(said.contains("put_dhcp_opts"), "a lease is given: {said}");
    let solicited = "icmp6.type==135 && icmp6.code==0 && nd.target==fd00:1::2";
    assert!(solicits(&world, &mute, &other, solicited), "neighbours find each other");

    assert!(
        !world.passes(&other, &mute, "udp && udp.src==67 && udp.dst==68"),
        "a DHCP server"
    );
    assert!(
        !world.passes(&other, &mute, "ip6 && udp && udp.src==547 && udp.dst==546"),
        "a DHCPv6 server"
    );
}

/// Whether a neighbour's question arrives; it has a hop limit of its own.
fn solicits(world: &World, from: &Port, to: &Port, what: &str) -> bool {
    let packet = format!(
        "inport==\"{}\" && eth.src=={} && eth.dst=={} && ip6.src=={} && ip6.dst=={} && ip.ttl==255 && {what}",
        from.metadata.uid.as_ref().unwrap(),
        from.spec.mac,
        to.spec.mac,
        from.spec.addresses[1].ip,
        to.spec.addresses[1].ip,
    );
    let said = world.ovn.trace_as("new", &packet).unwrap();
    // OVN answers for those that it knows.
    said.contains("nd_na") || said.contains(&format!("output(\"{}\")", to.metadata.uid.as_ref().unwrap()))
}

#[tokio::test]
async fn without_port_security_there_are_no_groups_and_without_state_no_answers() {
    let (served, client) = (in_groups(1, &["web"]), in_groups(2, &["open"]));
    let open = json!([{"direction": "Ingress"}, {"direction": "Egress"}]);
    let mut stateless = (*group(1, "web", &json!([{"direction": "Ingress", "protocol": "tcp"}]))).clone();
    stateless.spec.mode = RuleMode::Stateless;
    let mut world = World::start(&[Arc::new(stateless), group(2, "open", &open)], &[&served, &client]).await;
    assert!(world.passes(&client, &served, WEB));
    let answer = "tcp && tcp.src==80 && tcp.dst==40000";
    assert!(
        !world.passes(&served, &client, answer),
        "nobody knows of the connection on this side, and no rule lets it out"
    );

    world.cloud.set_network(&front(PortSecurity::Disabled));
    world.write().await;
    for what in [WEB, DNS, PING, PONG] {
        assert!(
            world.passes(&client, &served, what) && world.passes(&served, &client, what),
            "{what}"
        );
    }
    world.cloud.set_network(&front(PortSecurity::Enabled));
    world.write().await;
    assert!(!world.passes(&client, &served, DNS));
}

#[tokio::test]
async fn address_pairs_are_part_of_what_a_port_may_send_from() {
    let mut shared = (*in_groups(1, &[])).clone();
    shared.spec.allowed_address_pairs = vec![AddressPair {
        address: "10.0.0.100".into(),
        mac: None,
    }];
    let mut world = World::start(&[numbered(1, default_group("shop"))], &[&in_groups(1, &[])]).await;
    world.cloud.set_port(&Arc::new(shared));
    world.write().await;
    let secured: Vec<String> = world.client.read(|replica| {
        let mut rows = replica.rows("Logical_Switch_Port");
        let row = rows
            .find(|row| row.name() == Some(&uid(1 << 32 | 1).to_string()))
            .unwrap();
        let set = row.get::<std::collections::BTreeSet<String>>("port_security").unwrap();
        set.into_iter().collect()
    });
    assert_eq!(secured, ["fa:16:3e:00:00:01 10.0.0.1 fd00:1::1 10.0.0.100"]);
}
