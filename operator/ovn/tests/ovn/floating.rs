//! Where does an address outside lead? The real ovn-northd makes flows of our rows, and ovn-trace follows them.

use std::sync::Arc;

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use virga_core::{floating_ip, network::Allocated};
use virga_crds::{
    Distribution, FloatingIP, FloatingIPSpec, ForwardedProtocol, Instance, InstanceSpec, Interface, Network,
    NetworkRef, Port, PortForwarding, Router, conditions::Reason,
};
use virga_ovn::{Cloud, Wanted};
use virga_ovsdb::{
    client::Client,
    northbound::{LoadBalancer, Nat, NatType},
    testing::Northd,
};

use crate::{
    objects::{cloud, network, port, subnet, uid},
    routed::{BEYOND, address, hosts, mac, neighbour, open, outside, router, rows, sent, to, to_outside},
    server::{client, write},
};

pub fn floating(number: u64, name: &str, change: impl FnOnce(&mut FloatingIPSpec)) -> Arc<FloatingIP> {
    let mut spec = FloatingIPSpec {
        network: NetworkRef {
            name: "public".into(),
            namespace: None,
        },
        ..FloatingIPSpec::default()
    };
    change(&mut spec);
    let mut floating = FloatingIP::new(name, spec);
    floating.metadata.namespace = Some("shop".into());
    floating.metadata.uid = Some(uid(number).to_string());
    floating.metadata.generation = Some(1);
    let second = i64::try_from(number).unwrap();
    floating.metadata.creation_timestamp = Some(Time(Timestamp::from_second(second).unwrap()));
    Arc::new(floating)
}

/// The record of its address.
pub fn record(floating: &FloatingIP, ip: &str) -> Arc<Port> {
    let need = floating_ip::need(floating);
    let given = Allocated {
        subnet: "v4".into(),
        ip: ip.parse().unwrap(),
    };
    let uid = floating.metadata.uid.clone().unwrap();
    let mac = virga_core::network::mac_address(&uid, 0);
    let mut port = need.port(&floating.metadata, mac, &[given]);
    port.metadata.uid = Some(format!("{uid}-port"));
    Arc::new(port)
}

pub fn instance(name: &str, network: &str) -> Arc<Instance> {
    let spec = InstanceSpec {
        interfaces: vec![Interface {
            network: network.into(),
            ..Interface::default()
        }],
        ..InstanceSpec::default()
    };
    let mut instance = Instance::new(name, spec);
    instance.metadata.namespace = Some("shop".into());
    Arc::new(instance)
}

/// Two Networks behind two Routers, with a guest each and one more: web-1 and web-3 in `front`, web-2 in `back`.
struct Shop {
    networks: [Arc<Network>; 3],
    routers: [Arc<Router>; 2],
    guests: [Arc<Port>; 3],
    instances: [Arc<Instance>; 3],
}

impl Shop {
    fn new(distribution: Distribution) -> Self {
        let back = |spec: &mut virga_crds::NetworkSpec| spec.subnets = vec![subnet("v4", "10.1.0.0/24")];
        Self {
            networks: [network(1, "front", |_| {}), network(2, "back", back), outside(3)],
            routers: [
                router(10, "edge", &["front"], |spec| spec.distribution = distribution),
                router(11, "other", &["back"], |_| {}),
            ],
            guests: [
                port(1, "front", &["10.0.0.5"]),
                port(2, "back", &["10.1.0.5"]),
                port(3, "front", &["10.0.0.6"]),
            ],
            instances: [
                instance("web-1", "front"),
                instance("web-2", "back"),
                instance("web-3", "front"),
            ],
        }
    }

    fn cloud(&self, floating: &[(Arc<FloatingIP>, &str)]) -> Cloud {
        let mut cloud = cloud();
        cloud.set_gateway_hosts(hosts(&["node-1", "node-2", "node-3"]));
        let outer = [
            address(&self.routers[0], "10.200.0.10"),
            address(&self.routers[1], "10.200.0.11"),
        ];
        let records: Vec<_> = floating.iter().map(|(floating, ip)| record(floating, ip)).collect();
        let ports = self.guests.iter().chain(&outer).chain(&records);
        let floating = floating.iter().map(|(floating, _)| floating);
        cloud.reset(&self.networks, ports, &self.routers, floating, &self.instances);
        open(&mut cloud);
        cloud
    }
}

fn to_instance(name: &str) -> impl FnOnce(&mut FloatingIPSpec) + '_ {
    move |spec| spec.instance = Some(name.into())
}

/// What becomes of a packet from outside.
fn received(ovn: &Northd, router_mac: &str, to: &str, kind: &str) -> String {
    let packet = format!(
        "inport == \"{}-localnet\" && eth.src == 02:00:00:00:00:01 && eth.dst == {router_mac} && ip4.src == {BEYOND} && ip4.dst == \
         {to} && ip.ttl == 64 && {kind}",
        uid(3)
    );
    if kind == PING {
        ovn.trace(&packet).unwrap()
    } else {
        ovn.trace_first(&packet).unwrap()
    }
}

const PING: &str = "icmp4.type == 8";

/// Whether a traced packet ends at a guest.
pub fn arrives(trace: &str, guest: &Port) -> bool {
    trace.contains(&format!("output to \"{}\"", guest.metadata.uid.as_ref().unwrap()))
}

fn translations(client: &Client) -> Vec<(String, String)> {
    let both = rows::<Nat>(client)
        .into_iter()
        .filter(|row| row.kind == NatType::DnatAndSnat);
    both.map(|row| (row.external_ip, row.logical_ip)).collect()
}

fn problem(wanted: &Wanted, number: u64) -> Option<(Reason, String)> {
    let seen = wanted.floating_ips[&uid(number)].1.clone();
    seen.problem.map(|problem| (problem.reason, problem.message))
}

#[tokio::test]
async fn an_address_outside_leads_in_and_out_and_moves_in_one_transaction() {
    let ovn = Northd::start().unwrap();
    let client = client(ovn.northbound()).await;
    let shop = Shop::new(Distribution::Centralized);
    let web = floating(20, "web", to_instance("web-1"));
    let mut cloud = shop.cloud(&[(web.clone(), "10.200.0.50")]);
    let wanted = cloud.take();
    assert_eq!(write(&client, &wanted).await.problems, []);
    let seen = &wanted.floating_ips[&uid(20)].1;
    assert_eq!(seen.problem, None);
    assert_eq!(
        [&seen.address, &seen.fixed, &seen.port, &seen.router].map(|text| text.clone().unwrap()),
        ["10.200.0.50", "10.0.0.5", "web-1-front", "edge"]
    );
    ovn.sync().unwrap();
    neighbour(&ovn, 10, "shop/edge", 3);
    neighbour(&ovn, 11, "shop/other", 3);
    let (edge, other) = (mac(&client, 10, 3), mac(&client, 11, 3));
    let into = received(&ovn, &edge, "10.200.0.50", PING);
    assert!(into.contains(&to(&shop.guests[0])), "{into}");
    let out = sent(&ovn, &shop.guests[0], &mac(&client, 10, 1), BEYOND);
    assert!(out.contains("10.200.0.50") && out.contains(&to_outside(3)), "{out}");
    // The other guest there goes out with the Router's.
    let shared = sent(&ovn, &shop.guests[2], &mac(&client, 10, 1), BEYOND);
    assert!(shared.contains("10.200.0.10"), "{shared}");

    // To a guest behind another Router: both Routers change at once.
    let moved = floating(20, "web", |spec| spec.port = Some("web-2-back".into()));
    cloud.set_floating_ip(&moved);
    let plan = write(&client, &cloud.take()).await;
    assert_eq!((plan.inserted, plan.updated, plan.removed), (1, 2, 1));
    assert_eq!(
        translations(&client),
        [("10.200.0.50".to_owned(), "10.1.0.5".to_owned())]
    );
    ovn.sync().unwrap();
    let into = received(&ovn, &other, "10.200.0.50", PING);
    assert!(into.contains(&to(&shop.guests[1])), "{into}");

    // The guest goes, and the address stays; it comes back, and so does the way.
    cloud.remove_port(&shop.guests[1]);
    let wanted = cloud.take();
    write(&client, &wanted).await;
    assert!(translations(&client).is_empty());
    let (reason, message) = problem(&wanted, 20).unwrap();
    assert_eq!(reason, Reason::PortNotFound);
    assert!(message.contains("there is no Port shop/web-2-back"), "{message}");
    assert_eq!(wanted.floating_ips[&uid(20)].1.address.as_deref(), Some("10.200.0.50"));
    cloud.set_port(&shop.guests[1]);
    write(&client, &cloud.take()).await;
    assert_eq!(translations(&client).len(), 1);

    // Nothing is to be done again, and nothing is left of one that goes.
    cloud.touch_everything();
    assert!(write(&client, &cloud.take()).await.is_empty());
    cloud.remove_floating_ip(&moved);
    write(&client, &cloud.take()).await;
    assert!(translations(&client).is_empty());
}

#[tokio::test]
async fn a_distributed_one_is_answered_for_on_the_guests_own_host() {
    let ovn = Northd::start().unwrap();
    let client = client(ovn.northbound()).await;
    let shop = Shop::new(Distribution::Distributed);
    let web = floating(20, "web", to_instance("web-1"));
    let mut cloud = shop.cloud(&[(web.clone(), "10.200.0.50")]);
    assert_eq!(write(&client, &cloud.take()).await.problems, []);
    let row = rows::<Nat>(&client)
        .into_iter()
        .find(|row| row.kind == NatType::DnatAndSnat)
        .unwrap();
    assert_eq!(row.logical_port, shop.guests[0].metadata.uid);
    let own = record(&web, "10.200.0.50").spec.mac.clone();
    assert_eq!(row.external_mac.as_ref(), Some(&own));
    ovn.sync().unwrap();
    neighbour(&ovn, 10, "shop/edge", 3);
    let into = received(&ovn, &own, "10.200.0.50", PING);
    assert!(into.contains(&to(&shop.guests[0])), "{into}");
}

#[tokio::test]
async fn single_ports_lead_to_several_guests_and_the_others_nowhere() {
    let ovn = Northd::start().unwrap();
    let client = client(ovn.northbound()).await;
    let shop = Shop::new(Distribution::Centralized);
    let forward = |protocol, external_port, instance: &str, internal_port| PortForwarding {
        protocol,
        external_port,
        port: None,
        instance: Some(instance.into()),
        internal_port,
    };
    let web = floating(20, "web", |spec| {
        spec.port_forwardings = vec![
            forward(ForwardedProtocol::Tcp, 80, "web-1", 8080),
            forward(ForwardedProtocol::Tcp, 81, "web-3", 80),
            forward(ForwardedProtocol::Udp, 80, "web-3", 53),
            forward(ForwardedProtocol::Tcp, 82, "web-2", 80),
        ];
    });
    let mut cloud = shop.cloud(&[(web.clone(), "10.200.0.50")]);
    let wanted = cloud.take();
    assert_eq!(write(&client, &wanted).await.problems, []);
    let (reason, message) = problem(&wanted, 20).unwrap();
    assert_eq!(reason, Reason::Invalid);
    assert!(
        message.starts_with("spec.portForwardings[TCP 82]: it is behind another Router"),
        "{message}"
    );
    assert_eq!(rows::<LoadBalancer>(&client).len(), 2, "one a protocol");
    ovn.sync().unwrap();
    let edge = mac(&client, 10, 3);
    let tcp = |port: u16| format!("tcp && tcp.src == 4000 && tcp.dst == {port}");
    let first = received(&ovn, &edge, "10.200.0.50", &tcp(80));
    assert!(first.contains("ct_lb") && arrives(&first, &shop.guests[0]), "{first}");
    let second = received(&ovn, &edge, "10.200.0.50", &tcp(81));
    assert!(
        second.contains("ct_lb") && arrives(&second, &shop.guests[2]),
        "{second}"
    );
    let nowhere = received(&ovn, &edge, "10.200.0.50", &tcp(443));
    assert!(!nowhere.contains("ct_lb") && shop.guests.iter().all(|guest| !arrives(&nowhere, guest)));

    let fewer = floating(20, "web", |spec| {
        spec.port_forwardings = web.spec.port_forwardings[..1].to_vec();
    });
    cloud.set_floating_ip(&fewer);
    let wanted = cloud.take();
    write(&client, &wanted).await;
    assert_eq!(problem(&wanted, 20), None);
    let left = rows::<LoadBalancer>(&client);
    assert_eq!(
        left[0].vips.iter().collect::<Vec<_>>(),
        [(&"10.200.0.50:80".to_owned(), &"10.0.0.5:8080".to_owned())]
    );
    cloud.remove_floating_ip(&fewer);
    write(&client, &cloud.take()).await;
    assert!(rows::<LoadBalancer>(&client).is_empty());
}

#[test]
fn what_keeps_an_address_from_leading_is_told_with_the_cure() {
    let shop = Shop::new(Distribution::Centralized);
    let told = |floating: &Arc<FloatingIP>| {
        let mut cloud = shop.cloud(&[(floating.clone(), "10.200.0.50")]);
        problem(&cloud.take(), 20)
    };
    assert_eq!(
        told(&floating(20, "idle", |_| {})),
        None,
        "it is kept, and leads nowhere"
    );
    let (reason, _) = told(&floating(20, "web", to_instance("web-9"))).unwrap();
    assert_eq!(reason, Reason::InstanceNotFound);

    // Without the Router it is on no way.
    let web = floating(20, "web", to_instance("web-1"));
    let mut cloud = shop.cloud(&[(web.clone(), "10.200.0.50")]);
    cloud.take();
    cloud.remove_router(&shop.routers[0]);
    let (reason, message) = problem(&cloud.take(), 20).unwrap();
    assert_eq!(reason, Reason::NotRouted);
    assert_eq!(
        message,
        "spec.instance: no Router joins Network shop/front of Port shop/web-1-front with Network shop/public: give one both, the \
         first in networks and the second as externalGateway"
    );
    cloud.set_router(&shop.routers[0]);
    assert_eq!(problem(&cloud.take(), 20), None);

    // A guest is led to by one, the older.
    let second = floating(21, "second", |spec| spec.port = Some("web-1-front".into()));
    let mut cloud = shop.cloud(&[(second, "10.200.0.51"), (web, "10.200.0.50")]);
    let wanted = cloud.take();
    assert_eq!(problem(&wanted, 20), None);
    assert_eq!(problem(&wanted, 21).unwrap().0, Reason::AddressInUse);

    // An address without a record waits.
    let mut cloud = shop.cloud(&[]);
    cloud.take();
    cloud.set_floating_ip(&floating(22, "new", to_instance("web-1")));
    assert_eq!(problem(&cloud.take(), 22).unwrap().0, Reason::WaitingForAddress);
}

#[test]
fn an_instance_with_another_first_interface_is_led_to_there() {
    let shop = Shop::new(Distribution::Centralized);
    let web = floating(20, "web", to_instance("web-1"));
    let mut cloud = shop.cloud(&[(web, "10.200.0.50")]);
    cloud.take();
    assert!(!cloud.is_dirty());
    cloud.set_instance(&shop.instances[0]);
    assert!(!cloud.is_dirty(), "nothing has changed");
    cloud.set_instance(&instance("web-1", "back"));
    let (reason, message) = problem(&cloud.take(), 20).unwrap();
    assert_eq!(reason, Reason::PortNotFound, "{message}");
    cloud.remove_instance(&shop.instances[0]);
    assert_eq!(problem(&cloud.take(), 20).unwrap().0, Reason::InstanceNotFound);
}
