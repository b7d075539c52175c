//! Does `virga_core::trace` say what OVN does? Random worlds are written, the real ovn-northd makes flows of them, and
//! ovn-trace follows the same packets.

mod shared;

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use k8s_openapi::jiff::Timestamp;
use proptest::{prelude::*, test_runner::TestRunner};
use serde_json::{Value, json};
use virga_core::{
    carried::Carried,
    floating_ip, load_balancer, router,
    security_group::default_group,
    trace::{Does, Objects, Protocol, Question, Step, Trace, World, trace},
};
use virga_crds::{
    AddressGroup, Distribution, FloatingIP, Instance, LoadBalancer, Network, Port, PortSecurity, Router, SecurityGroup,
    SecurityGroupSpec, Snat,
};
use virga_ovsdb::{client::Client, northbound, testing::Northd};

use crate::{
    floating::{floating, instance, record},
    objects::{OVN, cloud, network, port, subnet, uid},
    routed::{BEYOND, address, hosts, knows, mac, neighbour, outside, router as made, to, to_outside},
    server::{client, write},
};

/// Networks with guests; the last has no Router.
const NETWORKS: [&str; 3] = ["front", "back", "lone"];
const GROUPS: [&str; 4] = ["default", "a", "b", "ghost"];
const GUESTS: u64 = 5;
const FLOATING: &str = "10.200.0.50";
const SHARED: &str = "10.200.0.51";
const OUTER: &str = "10.200.0.10";

/// A world by numbers.
#[derive(Debug, Clone)]
struct Plan {
    /// Of each Network: whether rules count there.
    secured: [bool; 3],
    /// Of each guest: its Network, and its groups.
    guests: Vec<(usize, Vec<usize>)>,
    /// Of groups a and b: whether connections are tracked, and the rules.
    groups: [(bool, Vec<Value>); 2],
    /// Whether the Router joins the second Network too, has a way out, hides guests, and where it translates.
    router: (bool, bool, bool, bool),
    /// The guests that addresses outside lead to.
    floating: (u64, u64),
    /// The LoadBalancer's Network, and which guests are its members.
    balanced: (usize, Vec<bool>),
    asked: Vec<Asked>,
}

#[derive(Debug, Clone)]
struct Asked {
    /// A guest's number; none: outside.
    from: Option<u64>,
    to: To,
    what: usize,
    v6: bool,
}

#[derive(Debug, Clone)]
enum To {
    Guest(u64),
    Floating,
    Shared,
    Vip,
    Led,
    Beyond,
    Gateway,
    ByRoute,
}

/// What is sent: the question, and OVN's words for it.
const WHAT: [(Protocol, Option<u16>, &str, &str); 5] = [
    (Protocol::Tcp, Some(80), "tcp && tcp.src==40000 && tcp.dst==80", ""),
    (Protocol::Tcp, Some(22), "tcp && tcp.src==40000 && tcp.dst==22", ""),
    (Protocol::Udp, Some(53), "udp && udp.src==40000 && udp.dst==53", ""),
    (Protocol::Sctp, Some(80), "sctp && sctp.src==40000 && sctp.dst==80", ""),
    (
        Protocol::Icmp,
        None,
        "icmp4.type==8 && icmp4.code==0",
        "icmp6.type==128 && icmp6.code==0",
    ),
];

fn rule() -> impl Strategy<Value = Value> {
    let v6 = prop::bool::weighted(0.3);
    (any::<bool>(), v6, 0..9_usize, 0..16_usize).prop_map(|(ingress, v6, protocol, remote)| {
        let mut rule = json!({
            "direction": if ingress { "Ingress" } else { "Egress" },
            "etherType": if v6 { "IPv6" } else { "IPv4" },
        });
        let (protocol, more) = match protocol {
            0 => ("tcp", json!({"ports": {"min": 80}})),
            1 => ("6", json!({"ports": {"min": 20, "max": 79}})),
            2 => ("udp", json!({})),
            3 if v6 => ("ipv6-icmp", json!({"icmp": {"type": 128}})),
            3 => ("icmp", json!({"icmp": {"type": 8, "code": 0}})),
            4 if v6 => ("58", json!({})),
            4 => ("icmp", json!({"icmp": {"type": 13}})),
            5 => ("132", json!({})),
            _ => ("", json!({})),
        };
        let all = rule.as_object_mut().unwrap();
        if !protocol.is_empty() {
            all.insert("protocol".into(), protocol.into());
        }
        all.extend(more.as_object().unwrap().clone());
        let (four, six) = match remote {
            0 => ("10.0.0.0/24", "fd00:1::/64"),
            1 => ("10.0.0.2/31", "fd00:1::2/127"),
            2 => ("10.1.0.0/16", "fd00:2::/64"),
            3 => ("10.200.0.0/24", "fd00:9::/64"),
            4 => ("203.0.113.0/24", "::/0"),
            _ => ("", ""),
        };
        let cidr = if v6 { six } else { four };
        match remote {
            0..5 => drop(all.insert("remote".into(), json!({"cidr": cidr}))),
            5 => drop(all.insert("remote".into(), json!({"group": "a"}))),
            6 => drop(all.insert("remote".into(), json!({"group": "ghost"}))),
            7 => drop(all.insert("remote".into(), json!({"addressGroup": {"name": "offices"}}))),
            8 => drop(all.insert("remote".into(), json!({"addressGroup": {"name": "ghost"}}))),
            _ => {}
        }
        rule
    })
}

fn plan() -> impl Strategy<Value = Plan> {
    let named = prop_oneof![3 => Just(0_usize), 4 => Just(1), 4 => Just(2), 1 => Just(3)];
    let place = prop_oneof![4 => Just(0_usize), 3 => Just(1), 1 => Just(2)];
    let guest = (place, prop::collection::vec(named, 0..3));
    let guests = prop::collection::vec(guest, usize::try_from(GUESTS).unwrap());
    let group = || (prop::bool::weighted(0.8), prop::collection::vec(rule(), 2..12));
    let to = prop_oneof![
        6 => (0..GUESTS).prop_map(To::Guest),
        1 => Just(To::Floating),
        1 => Just(To::Shared),
        4 => Just(To::Vip),
        2 => Just(To::Led),
        1 => Just(To::Beyond),
        1 => Just(To::Gateway),
        1 => Just(To::ByRoute),
    ];
    let from = prop_oneof![4 => (0..GUESTS).prop_map(Some), 1 => Just(None)];
    let asked = (from, to, 0..WHAT.len(), prop::bool::weighted(0.25));
    let asked = asked.prop_map(|(from, to, what, v6)| Asked { from, to, what, v6 });
    (
        prop::array::uniform3(prop::bool::weighted(0.8)),
        guests,
        [group(), group()],
        (
            any::<bool>(),
            prop::bool::weighted(0.9),
            prop::bool::weighted(0.8),
            any::<bool>(),
        ),
        (0..GUESTS, 0..GUESTS),
        (
            0..3_usize,
            prop::collection::vec(any::<bool>(), usize::try_from(GUESTS).unwrap()),
        ),
        prop::collection::vec(asked, 24),
    )
        .prop_map(|(secured, guests, groups, router, floating, balanced, asked)| Plan {
            secured,
            guests,
            groups,
            router,
            floating,
            balanced,
            asked,
        })
}

/// The objects of a plan, with the status that the controller would write.
struct Made {
    networks: Vec<Network>,
    guests: Vec<Arc<Port>>,
    routers: Vec<Router>,
    floating: Vec<FloatingIP>,
    balancer: LoadBalancer,
    groups: Vec<SecurityGroup>,
    addresses: AddressGroup,
    instances: Vec<Instance>,
}

/// Addresses that rules name.
fn offices() -> AddressGroup {
    let spec = json!({"addresses": ["10.0.0.3", "10.1.0.0/24", "203.0.113.0/24", "fd00:1::/64"]});
    let mut group = AddressGroup::new("offices", serde_json::from_value(spec).unwrap());
    group.metadata.namespace = Some("shop".into());
    group.metadata.uid = Some(uid(3 << 32).to_string());
    group.metadata.generation = Some(1);
    group
}

/// What a guest's address is, by the number of its Network and its own.
fn own(network: usize, guest: u64, v6: bool) -> String {
    if v6 {
        format!("fd00:{}::{}", network + 1, guest + 2)
    } else {
        format!("10.{network}.0.{}", guest + 2)
    }
}

fn group(number: u64, mut group: SecurityGroup) -> SecurityGroup {
    group.metadata.namespace = Some("shop".into());
    group.metadata.uid = Some(uid(2 << 32 | number).to_string());
    group.metadata.generation = Some(1);
    group
}

impl Plan {
    /// Writes the world, and says what is in it.
    async fn make(&self, client: &Client, ovn: &Northd) -> Made {
        let networks: Vec<Arc<Network>> = (0..3)
            .map(|at| {
                network(at as u64 + 1, NETWORKS[at], |spec| {
                    spec.subnets = vec![
                        subnet("v4", &format!("10.{at}.0.0/24")),
                        subnet("v6", &format!("fd00:{}::/64", at + 1)),
                    ];
                    if !self.secured[at] {
                        spec.port_security = PortSecurity::Disabled;
                    }
                })
            })
            .chain([outside(4)])
            .collect();
        let guests: Vec<Arc<Port>> = (0..)
            .zip(&self.guests)
            .map(|(number, (at, groups))| {
                let (v4, v6) = (own(*at, number, false), own(*at, number, true));
                let mut made = (*port(number, NETWORKS[*at], &[&v4, &v6])).clone();
                let groups: BTreeSet<&str> = groups.iter().map(|group| GROUPS[*group]).collect();
                made.spec.security_groups = groups.into_iter().map(Into::into).collect();
                Arc::new(made)
            })
            .collect();
        let (both, way_out, hides, local) = self.router;
        let joined: &[&str] = if both { &NETWORKS[..2] } else { &NETWORKS[..1] };
        let edge = made(10, "edge", joined, |spec| {
            if both {
                spec.routes =
                    serde_json::from_value(json!([{"destination": "192.0.2.0/24", "nextHop": own(1, 0, false)}]))
                        .unwrap();
            }
            match &mut spec.external_gateway {
                Some(gateway) if way_out && !hides => gateway.snat = Snat::Disabled,
                gateway if !way_out => *gateway = None,
                _ => {}
            }
            if local {
                spec.distribution = Distribution::Distributed;
            }
        });
        let whole = floating(20, "whole", |spec| {
            spec.instance = Some(format!("web-{}", self.floating.0));
        });
        let shared = floating(21, "shared", |spec| {
            let forward = json!([
                {"protocol": "TCP", "externalPort": 80, "instance": format!("web-{}", self.floating.1), "internalPort": 22},
            ]);
            spec.port_forwardings = serde_json::from_value(forward).unwrap();
        });
        let instances: Vec<Arc<Instance>> = (0..)
            .zip(&self.guests)
            .map(|(number, (at, _))| instance(&format!("web-{number}"), NETWORKS[*at]))
            .collect();
        let mut groups = vec![group(0, default_group("shop"))];
        for (at, (tracked, rules)) in (1..).zip(&self.groups) {
            let mode = if *tracked { "Stateful" } else { "Stateless" };
            let spec: SecurityGroupSpec = serde_json::from_value(json!({"mode": mode, "rules": rules})).unwrap();
            groups.push(group(
                at,
                SecurityGroup::new(GROUPS[usize::try_from(at).unwrap()], spec),
            ));
        }
        let led = floating(22, "led", |spec| spec.load_balancer = Some("pages".into()));
        let (at, is_member) = &self.balanced;
        let members = (0..)
            .zip(&self.guests)
            .zip(is_member)
            .filter(|(_, is_member)| **is_member);
        let members = members.flat_map(|((number, (at, _)), _)| [false, true].map(|v6| own(*at, number, v6)));
        let balancer = shared::balancer(NETWORKS[*at], &members.collect::<Vec<_>>());
        let held = [
            record(&whole, FLOATING),
            record(&shared, SHARED),
            record(&led, shared::LED),
            shared::held(&balancer, *at),
        ];
        let outer: Vec<Arc<Port>> = way_out.then(|| address(&edge, OUTER)).into_iter().collect();
        let mut cloud = cloud();
        cloud.set_gateway_hosts(hosts(&["node-1", "node-2", "node-3"]));
        let ports = guests.iter().chain(&outer).chain(&held);
        cloud.reset(&networks, ports, [&edge], [&whole, &shared, &led], &instances);
        cloud.reset_load_balancers([&balancer]);
        let shared_groups: Vec<Arc<SecurityGroup>> = groups.iter().cloned().map(Arc::new).collect();
        let addresses = offices();
        cloud.reset_groups(&shared_groups, [&Arc::new(addresses.clone())]);
        let wanted = cloud.take();
        assert_eq!(write(client, &wanted).await.problems, []);
        ovn.sync().unwrap();
        ovn.sbctl(&["--all", "destroy", "MAC_Binding"]).unwrap();
        if way_out {
            neighbour(ovn, 10, "shop/edge", 4);
        }

        // Who answers for the LoadBalancer's address has told the Router so.
        for v6 in [false, true].into_iter().filter(|_| joined.contains(&NETWORKS[*at])) {
            let (ip, mac) = (shared::vip(*at, v6), shared::mac());
            knows(ovn, 10, "shop/edge", *at as u64 + 1, (&ip, &mac));
        }

        let now = Timestamp::UNIX_EPOCH;
        let mut edge = (*edge).clone();
        let seen = Carried::Seen(wanted.routers[&uid(10)].1.clone());
        edge.status = Some(router::plan(&edge, OVN, None, &seen, now).1);
        let floating = [whole, shared, led].map(|found| {
            let mut found = (*found).clone();
            let number = found.metadata.uid.as_ref().unwrap().parse().unwrap();
            let seen = Carried::Seen(wanted.floating_ips[&number].1.clone());
            found.status = Some(floating_ip::plan(&found, OVN, None, &seen, now).1);
            found
        });
        let mut balancer = (*balancer).clone();
        let seen = Carried::Seen(wanted.load_balancers[&uid(shared::NUMBER)].1.clone());
        balancer.status = Some(load_balancer::plan(&balancer, OVN, None, &seen, |_| None, now).1);
        Made {
            networks: networks.iter().map(|network| (**network).clone()).collect(),
            guests,
            routers: vec![edge],
            floating: floating.into(),
            balancer,
            groups,
            addresses,
            instances: instances.iter().map(|instance| (**instance).clone()).collect(),
        }
    }
}

impl Made {
    fn trace(&self, question: &Question) -> Trace {
        let ports: Vec<Port> = self.guests.iter().map(|port| (**port).clone()).collect();
        let world = World::new(Objects {
            namespace: "shop",
            networks: &self.networks,
            ports: &ports,
            routers: &self.routers,
            floating_ips: &self.floating,
            load_balancers: std::slice::from_ref(&self.balancer),
            security_groups: &self.groups,
            address_groups: std::slice::from_ref(&self.addresses),
            instances: &self.instances,
        });
        trace(&world, question).unwrap_or_else(|error| panic!("{error}: {question:?}"))
    }

    fn joins(&self, network: &str) -> bool {
        let status = self.routers[0].status.as_ref().unwrap();
        status.networks.iter().any(|joined| joined.network == network)
    }
}

/// Where ovn-trace has a packet come out: guests, and the outside.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Out {
    guests: BTreeSet<String>,
    outside: bool,
}

/// Asks both, with a pair for each way that a packet may go; none: it makes no sense to ask OVN.
fn both(plan: &Plan, made: &Made, asked: &Asked, client: &Client, ovn: &Northd) -> Option<(Trace, Vec<(Out, Out)>)> {
    let destination = match &asked.to {
        To::Guest(number) => own(plan.guests[usize::try_from(*number).unwrap()].0, *number, asked.v6),
        To::Vip => shared::vip(plan.balanced.0, asked.v6),
        _ if asked.v6 => return None,
        To::Led => shared::LED.to_owned(),
        To::Floating => FLOATING.to_owned(),
        To::Shared => SHARED.to_owned(),
        To::Beyond => BEYOND.to_owned(),
        // To a guest that there is: else OVN asks all that might be it.
        To::ByRoute if plan.guests[0].0 != 1 => return None,
        To::ByRoute => "192.0.2.7".to_owned(),
        // What nothing listens to is answered with a refusal.
        To::Gateway if WHAT[asked.what].1.is_some() => return None,
        To::Gateway => "10.0.0.1".to_owned(),
    };
    let ip: IpAddr = destination.parse().unwrap();
    let (protocol, port, four, six) = WHAT[asked.what];
    let what = if asked.v6 && !six.is_empty() { six } else { four };
    let (from, inport, source, eth) = if let Some(number) = asked.from {
        let guest = &made.guests[usize::try_from(number).unwrap()];
        let at = plan.guests[usize::try_from(number).unwrap()].0;
        let source = own(at, number, asked.v6);
        if source == destination {
            return None;
        }
        let near = made.guests.iter().find(|other| {
            other.spec.network == guest.spec.network && other.spec.addresses.iter().any(|held| held.ip == destination)
        });
        let eth = match near {
            Some(near) => Some(near.spec.mac.clone()),
            None if matches!(asked.to, To::Vip) && at == plan.balanced.0 => Some(shared::mac()),
            None => made.joins(NETWORKS[at]).then(|| mac(client, 10, at as u64 + 1)),
        };
        (
            format!("port/{}", guest.metadata.name.as_ref().unwrap()),
            guest.metadata.uid.clone().unwrap(),
            (guest.spec.mac.clone(), source),
            eth,
        )
    } else {
        let hidden = plan.router.2 && matches!(asked.to, To::Guest(_));
        if asked.v6 || hidden || !plan.router.1 || matches!(asked.to, To::Vip | To::Beyond | To::ByRoute | To::Gateway)
        {
            return None;
        }
        let (mac, from) = (mac(client, 10, 4), BEYOND.to_owned());
        let source = ("02:00:00:00:00:01".to_owned(), from.clone());
        (from, format!("{}-localnet", uid(4)), source, Some(mac))
    };
    let question = Question {
        from,
        to: destination.clone(),
        protocol,
        port,
        family: None,
    };
    let ours = made.trace(&question);
    let name = |port: &Port| port.metadata.name.clone().unwrap();
    let last = ours.steps.last().unwrap();
    let answers = last.says.starts_with("answers:");
    let is_refused = last.kind == "LoadBalancer" && last.does == Does::Drops;
    // What an address outside has no use for, or what came from there, goes out again to nobody.
    let useless = last.kind == "FloatingIP" && last.does != Does::Passes;
    let counts = asked.from.is_some() && !useless;
    let left = |steps: &[Step]| {
        let mut steps = steps.iter();
        counts && steps.any(|step| step.kind == "Network" && step.says.starts_with("leaves"))
    };
    let expected = |arrives_at: &Option<String>, steps: &[Step]| Out {
        guests: arrives_at.iter().cloned().collect(),
        outside: left(steps),
    };
    let none = Out {
        guests: BTreeSet::new(),
        outside: false,
    };
    let Some(eth) = eth else {
        let expected = expected(&ours.arrives_at, &ours.steps);
        return Some((ours, vec![(expected, none)]));
    };
    let family = if ip.is_ipv4() { "ip4" } else { "ip6" };
    let packet = format!(
        "inport==\"{inport}\" && eth.src=={} && eth.dst=={eth} && {family}.src=={} && {family}.dst=={destination} && ip.ttl==64 \
         && {what}",
        source.0, source.1
    );
    let there = |said: &str| Out {
        guests: made
            .guests
            .iter()
            .filter(|port| said.contains(&to(port)))
            .map(|port| name(port))
            .collect(),
        outside: counts && said.contains(&to_outside(4)),
    };
    if !ours.members.is_empty() {
        return Some(shared_out(made, ours, &packet, client, ovn, expected, there));
    }
    let said = ovn.trace_new(&packet).unwrap();
    if answers {
        assert!(
            said.contains("icmp4.type = 0") || said.contains("icmp6.type = 129"),
            "{said}"
        );
        return None;
    }
    if is_refused {
        let signs = ["tcp_reset", "icmp4 {", "icmp6 {", "sctp_abort"];
        assert!(signs.iter().any(|sign| said.contains(sign)), "{ours:#?}\n{said}");
        return None;
    }
    let pair = (expected(&ours.arrives_at, &ours.steps), there(&said));
    Some((ours, vec![pair]))
}

/// Asks OVN, which has to have the same members, and whichever it chooses.
fn shared_out(
    made: &Made,
    ours: Trace,
    packet: &str,
    client: &Client,
    ovn: &Northd,
    expected: impl Fn(&Option<String>, &[Step]) -> Out,
    there: impl Fn(&str) -> Out,
) -> (Trace, Vec<(Out, Out)>) {
    let (protocol, inner) = match ours.packet.protocol {
        Protocol::Tcp => (northbound::Protocol::Tcp, 22),
        Protocol::Udp => (northbound::Protocol::Udp, 53),
        _ => (northbound::Protocol::Sctp, 80),
    };
    let socket = SocketAddr::new(ours.packet.destination, ours.packet.port.unwrap());
    let sockets = ours
        .members
        .iter()
        .map(|member| SocketAddr::new(member.address, inner).to_string());
    let sockets: BTreeSet<String> = sockets.collect();
    assert_eq!(
        sockets,
        shared::backends(client, protocol, &socket.to_string()),
        "{:#?}",
        made.balancer
    );
    // ovn-trace knows nothing of who is sent its own. It chooses by chance, and whoever is chosen, it is one of ours: told whom to
    // choose, it would go there before any rule was asked.
    if ours.members.iter().any(|member| member.address == ours.packet.source) {
        return (ours, Vec::new());
    }
    let ways: Vec<Out> = ours
        .members
        .iter()
        .map(|member| expected(&member.arrives_at, &member.steps))
        .collect();
    let pairs = (0..ways.len()).map(|first| {
        let there = there(&ovn.trace_new(packet).unwrap());
        let same = ways.iter().find(|way| **way == there);
        (same.unwrap_or(&ways[first]).clone(), there)
    });
    let pairs = pairs.collect();
    (ours, pairs)
}

#[test]
fn of_random_worlds_we_say_what_ovn_does() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let ovn = Northd::start().unwrap();
    let client = runtime.block_on(client(ovn.northbound()));
    let config = ProptestConfig {
        cases: 24,
        max_shrink_iters: 24,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let mut runner = TestRunner::new(config);
    let compared = std::cell::Cell::new((0, 0, 0));
    runner
        .run(&plan(), |plan| {
            let made = runtime.block_on(plan.make(&client, &ovn));
            for asked in &plan.asked {
                let Some((ours, pairs)) = both(&plan, &made, asked, &client, &ovn) else {
                    continue;
                };
                for (expected, there) in pairs {
                    prop_assert_eq!(&expected, &there, "{:?}: {:#?}", asked, ours);
                    let is_shared = !ours.members.is_empty() && !there.guests.is_empty();
                    let (all, arrived, shared) = compared.get();
                    let one = usize::from(!there.guests.is_empty());
                    compared.set((all + 1, arrived + one, shared + usize::from(is_shared)));
                }
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    let (all, arrived, shared) = compared.get();
    assert!(
        all > 100 && arrived > 20 && shared > 5,
        "{arrived} of {all} arrived, {shared} by a LoadBalancer: the worlds are too closed to tell anything"
    );
}
