//! Who is sent a connection to a LoadBalancer? The real ovn-northd makes flows of our rows, and ovn-trace follows them.

use std::sync::Arc;

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use serde_json::json;
use virga_core::{
    load_balancer::{self, Reach},
    network::{Allocated, Purpose},
};
use virga_crds::{
    Distribution, Instance, InstanceSpec, InstanceStatus, Interface, LoadBalancer, Network, NetworkType, ObservedPower,
    Port, Router, conditions::Reason,
};
use virga_ovn::{Cloud, Wanted};
use virga_ovsdb::{
    client::Client,
    northbound::{self, LoadBalancerHealthCheck, LogicalRouter, LogicalRouterPort},
    testing::Northd,
};

use crate::{
    floating::{arrives, floating, record},
    objects::{cloud, network, port, subnet, uid},
    routed::{BEYOND, address, hosts, mac, neighbour, open, outside, router, rows},
    server::{client, write},
};

const VIP: &str = "10.0.0.100";

/// A LoadBalancer in `shop`, in `front`, of the Instances with `app: web`.
fn balancer(change: impl FnOnce(&mut serde_json::Value)) -> Arc<LoadBalancer> {
    let mut spec = json!({
        "vip": {"network": "front"},
        "listeners": [{"protocol": "TCP", "port": 80, "memberPort": 8080}, {"protocol": "UDP", "port": 53}],
        "members": {"selector": {"matchLabels": {"app": "web"}}},
    });
    change(&mut spec);
    let mut balancer = LoadBalancer::new("shared", serde_json::from_value(spec).unwrap());
    balancer.metadata.namespace = Some("shop".into());
    balancer.metadata.uid = Some(uid(30).to_string());
    balancer.metadata.generation = Some(1);
    balancer.metadata.creation_timestamp = Some(Time(Timestamp::from_second(30).unwrap()));
    Arc::new(balancer)
}

/// The records of its addresses, with the last bytes of the IPv4 ones.
fn records(balancer: &LoadBalancer) -> Vec<Arc<Port>> {
    let needs = load_balancer::needs(balancer);
    let records = needs.into_iter().map(|need| {
        let ip = if need.purpose == Purpose::Vip { VIP } else { "10.0.0.99" };
        let given = Allocated {
            subnet: "v4".into(),
            ip: ip.parse().unwrap(),
        };
        let mac = virga_core::network::mac_address(ip, 0);
        let mut port = need.port(&balancer.metadata, mac, &[given]);
        port.metadata.uid = Some(format!("{ip}-port"));
        Arc::new(port)
    });
    records.collect()
}

/// An Instance with `app: web` and an interface in a Network.
fn instance(number: u64, network: &str, power: ObservedPower) -> Arc<Instance> {
    let spec = InstanceSpec {
        interfaces: vec![Interface {
            network: network.into(),
            ..Interface::default()
        }],
        ..InstanceSpec::default()
    };
    let mut instance = Instance::new(&format!("web-{number}"), spec);
    instance.metadata.namespace = Some("shop".into());
    instance.metadata.labels = Some([("app".to_owned(), "web".to_owned())].into());
    instance.status = Some(InstanceStatus {
        power_state: Some(power),
        ..InstanceStatus::default()
    });
    Arc::new(instance)
}

/// Two members and a client in `front`, another client in `back`, and a Router that joins both with the outside.
struct Shop {
    networks: [Arc<Network>; 3],
    router: Arc<Router>,
    members: [Arc<Port>; 2],
    near: Arc<Port>,
    far: Arc<Port>,
}

impl Shop {
    fn new(distribution: Distribution) -> Self {
        let back = |spec: &mut virga_crds::NetworkSpec| spec.subnets = vec![subnet("v4", "10.1.0.0/24")];
        Self {
            networks: [network(1, "front", |_| {}), network(2, "back", back), outside(3)],
            router: router(10, "edge", &["front", "back"], |spec| spec.distribution = distribution),
            members: [port(1, "front", &["10.0.0.5"]), port(2, "front", &["10.0.0.6"])],
            near: port(3, "front", &["10.0.0.7"]),
            far: port(4, "back", &["10.1.0.5"]),
        }
    }

    fn cloud(&self, balancer: &Arc<LoadBalancer>, routed: bool) -> Cloud {
        let mut cloud = cloud();
        cloud.set_gateway_hosts(hosts(&["node-1", "node-2", "node-3"]));
        let outer = address(&self.router, "10.200.0.10");
        let records = records(balancer);
        let guests = self.members.iter().chain([&self.near, &self.far, &outer]);
        let instances = [1, 2].map(|number| instance(number, "front", ObservedPower::Running));
        let routers = routed.then_some(&self.router);
        cloud.reset(&self.networks, guests.chain(&records), routers, [], &instances);
        cloud.reset_load_balancers([balancer]);
        open(&mut cloud);
        cloud
    }
}

fn vip_mac() -> String {
    virga_core::network::mac_address(VIP, 0)
}

/// What becomes of a guest's connection to the address.
fn asked(ovn: &Northd, from: &Port, mac: &str, port: u16) -> String {
    let (uid, spec) = (from.metadata.uid.as_ref().unwrap(), &from.spec);
    let packet = format!(
        "inport == \"{uid}\" && eth.src == {} && eth.dst == {mac} && ip4.src == {} && ip4.dst == {VIP} && ip.ttl == 64 && tcp && \
         tcp.src == 4000 && tcp.dst == {port}",
        spec.mac, spec.addresses[0].ip
    );
    ovn.trace_shared(&packet).unwrap()
}

/// What a guest hears that asks where the address is.
fn located(ovn: &Northd, from: &Port) -> String {
    let (uid, spec) = (from.metadata.uid.as_ref().unwrap(), &from.spec);
    let (mac, ip) = (&spec.mac, &spec.addresses[0].ip);
    let packet = format!(
        "inport == \"{uid}\" && eth.src == {mac} && eth.dst == ff:ff:ff:ff:ff:ff && arp.op == 1 && arp.sha == {mac} && arp.spa \
         == {ip} && arp.tha == 00:00:00:00:00:00 && arp.tpa == {VIP}"
    );
    ovn.trace(&packet).unwrap()
}

/// The members behind an address and port.
fn behind(client: &Client, vip: &str) -> Vec<String> {
    let found = rows::<northbound::LoadBalancer>(client)
        .into_iter()
        .find_map(|row| row.vips.get(vip).cloned());
    let found = found.unwrap_or_else(|| panic!("nothing is behind {vip}"));
    found
        .split(',')
        .filter(|member| !member.is_empty())
        .map(str::to_owned)
        .collect()
}

fn problem(wanted: &Wanted) -> Option<(Reason, String)> {
    let seen = wanted.load_balancers[&uid(30)].1.clone();
    seen.problem.map(|problem| (problem.reason, problem.message))
}

#[tokio::test]
async fn connections_are_shared_out_in_the_network_and_beyond_its_router_among_those_that_run() {
    let ovn = Northd::start().unwrap();
    let client = client(ovn.northbound()).await;
    let shop = Shop::new(Distribution::Centralized);
    let shared = balancer(|_| {});
    let mut cloud = shop.cloud(&shared, true);
    let wanted = cloud.take();
    assert_eq!(write(&client, &wanted).await.problems, []);
    assert_eq!(problem(&wanted), None);
    let seen = &wanted.load_balancers[&uid(30)].1;
    assert_eq!(
        (seen.addresses.as_slice(), seen.members.len()),
        (&[VIP.to_owned()][..], 2)
    );
    assert_eq!(behind(&client, "10.0.0.100:80"), ["10.0.0.5:8080", "10.0.0.6:8080"]);
    assert_eq!(behind(&client, "10.0.0.100:53"), ["10.0.0.5:53", "10.0.0.6:53"]);
    ovn.sync().unwrap();

    let told = located(&ovn, &shop.near);
    assert!(told.contains(&format!("arp.sha = {}", vip_mac())), "{told}");
    let arrived = |trace: &str| shop.members.iter().any(|member| arrives(trace, member));
    let near = asked(&ovn, &shop.near, &vip_mac(), 80);
    assert!(arrived(&near), "{near}");
    let far = asked(&ovn, &shop.far, &mac(&client, 10, 2), 80);
    assert!(arrived(&far), "{far}");
    let closed = asked(&ovn, &shop.near, &vip_mac(), 443);
    assert!(!arrived(&closed) && closed.contains("tcp_reset"), "{closed}");

    // One is stopped: two rows, one a protocol, and no Network's.
    cloud.touch_everything();
    assert!(
        write(&client, &cloud.take()).await.is_empty(),
        "nothing is to be done again"
    );
    cloud.set_instance(&instance(1, "front", ObservedPower::Stopped));
    let wanted = cloud.take();
    assert!(wanted.networks.is_empty());
    let plan = write(&client, &wanted).await;
    assert_eq!((plan.inserted, plan.updated, plan.removed), (0, 2, 0));
    assert_eq!(behind(&client, "10.0.0.100:80"), ["10.0.0.6:8080"]);
    ovn.sync().unwrap();
    for (from, mac) in [(&shop.near, vip_mac()), (&shop.far, mac(&client, 10, 2))] {
        let left = asked(&ovn, from, &mac, 80);
        assert!(arrives(&left, &shop.members[1]), "{left}");
    }
    let reach: Vec<Reach> = wanted.load_balancers[&uid(30)]
        .1
        .members
        .iter()
        .map(|member| member.reach)
        .collect();
    assert_eq!(reach, [Reach::Stopped, Reach::Served]);

    // The other one goes: clients are told at once.
    cloud.remove_instance(&instance(2, "front", ObservedPower::Running));
    write(&client, &cloud.take()).await;
    ovn.sync().unwrap();
    let refused = asked(&ovn, &shop.near, &vip_mac(), 80);
    assert!(refused.contains("tcp_reset"), "{refused}");

    // They are there again, under the eyes of one who does not know what was before.
    let mut anew = shop.cloud(&shared, true);
    write(&client, &anew.take()).await;
    assert_eq!(behind(&client, "10.0.0.100:80").len(), 2);
    anew.remove_load_balancer(&shared);
    write(&client, &anew.take()).await;
    assert!(rows::<northbound::LoadBalancer>(&client).is_empty());
    let routers: Vec<String> = rows::<LogicalRouter>(&client).into_iter().map(|row| row.name).collect();
    assert_eq!(routers, ["shop/edge"]);
}

#[tokio::test]
async fn without_a_router_its_address_is_answered_for_and_who_does_not_answer_is_left_out() {
    let ovn = Northd::start().unwrap();
    let client = client(ovn.northbound()).await;
    let shop = Shop::new(Distribution::Centralized);
    let shared = balancer(|spec| {
        spec["healthCheck"] = json!({"interval": "2s", "timeout": "1s", "failureCount": 2});
        spec["listeners"] = json!([{"protocol": "TCP", "port": 80}, {"protocol": "SCTP", "port": 80}]);
    });
    let mut cloud = shop.cloud(&shared, false);
    let wanted = cloud.take();
    assert_eq!(write(&client, &wanted).await.problems, []);
    assert_eq!(problem(&wanted), None);
    ovn.sync().unwrap();
    let told = located(&ovn, &shop.near);
    assert!(told.contains(&format!("arp.sha = {}", vip_mac())), "{told}");
    let near = asked(&ovn, &shop.near, &vip_mac(), 80);
    assert!(shop.members.iter().any(|member| arrives(&near, member)), "{near}");

    let checks = rows::<LoadBalancerHealthCheck>(&client);
    assert_eq!(
        (checks.len(), checks[0].vip.as_str()),
        (1, "10.0.0.100:80"),
        "SCTP can't be asked"
    );
    assert_eq!(checks[0].options["interval"], "2");
    let tcp = rows::<northbound::LoadBalancer>(&client)
        .into_iter()
        .find(|row| row.protocol == Some(northbound::Protocol::Tcp))
        .unwrap();
    let first = shop.members[0].metadata.uid.clone().unwrap();
    assert_eq!(tcp.ip_port_mappings["10.0.0.5"], format!("{first}:10.0.0.99"));

    // Its host says that the first does not answer.
    let monitor = ovn
        .sbctl(&["--bare", "--columns=_uuid", "find", "Service_Monitor", "ip=10.0.0.5"])
        .unwrap();
    ovn.sbctl(&["set", "Service_Monitor", monitor.trim(), "status=offline"])
        .unwrap();
    ovn.sync().unwrap();
    let flows = ovn.sbctl(&["lflow-list"]).unwrap();
    let is_ours =
        |line: &&str| line.contains("ls_in_lb ") && line.contains("tcp.dst == 80") && line.contains("backends=");
    let flow = flows.lines().find(is_ours).unwrap();
    assert!(flow.contains("backends=10.0.0.6:80)"), "{flow}");
    // It can ask and be answered whatever the groups say.
    assert!(flows.contains("eth.src == $svc_monitor_mac"));

    // Nobody is asked any more, and who comes again goes where it was.
    cloud.set_load_balancer(&balancer(|spec| spec["affinityTimeout"] = json!("10m")));
    write(&client, &cloud.take()).await;
    assert!(rows::<LoadBalancerHealthCheck>(&client).is_empty());
    ovn.sync().unwrap();
    let flows = ovn.sbctl(&["lflow-list"]).unwrap();
    assert!(flows.contains("backend = \"10.0.0.6:8080\", proto = tcp, timeout = 600"));
}

#[tokio::test]
async fn an_address_outside_leads_to_the_members_but_to_none_that_would_answer_another_way() {
    let ovn = Northd::start().unwrap();
    let client = client(ovn.northbound()).await;
    for distribution in [Distribution::Centralized, Distribution::Distributed] {
        let shop = Shop::new(distribution);
        let shared = balancer(|_| {});
        let mut cloud = shop.cloud(&shared, true);
        let public = floating(20, "public", |spec| spec.load_balancer = Some("shared".into()));
        let own = floating(21, "own", |spec| spec.port = Some("web-1-front".into()));
        for (floating, ip) in [(&public, "10.200.0.50"), (&own, "10.200.0.51")] {
            cloud.set_floating_ip(floating);
            cloud.set_port(&record(floating, ip));
        }
        let wanted = cloud.take();
        assert_eq!(write(&client, &wanted).await.problems, []);
        let seen = &wanted.floating_ips[&uid(20)].1;
        assert_eq!(
            (seen.fixed.as_deref(), seen.router.as_deref()),
            (Some(VIP), Some("edge"))
        );
        let told = seen
            .problem
            .as_ref()
            .map(|problem| problem.message.as_str())
            .unwrap_or_default();
        let there = behind(&client, "10.200.0.50:80");
        if distribution == Distribution::Distributed {
            assert_eq!(there, ["10.0.0.6:8080"]);
            assert!(
                told.starts_with("spec.loadBalancer: member 10.0.0.5 is left out"),
                "{told}"
            );
            continue;
        }
        assert_eq!((there.len(), told), (2, ""));
        ovn.sync().unwrap();
        neighbour(&ovn, 10, "shop/edge", 3);
        let into = format!(
            "inport == \"{}-localnet\" && eth.src == 02:00:00:00:00:01 && eth.dst == {} && ip4.src == {BEYOND} && ip4.dst == \
             10.200.0.50 && ip.ttl == 64 && tcp && tcp.src == 4000 && tcp.dst == 80",
            uid(3),
            mac(&client, 10, 3)
        );
        let into = ovn.trace_shared(&into).unwrap();
        assert!(shop.members.iter().any(|member| arrives(&into, member)), "{into}");

        // A member that stops is gone there too, and without the LoadBalancer it leads nowhere.
        cloud.set_instance(&instance(2, "front", ObservedPower::Stopped));
        write(&client, &cloud.take()).await;
        assert_eq!(behind(&client, "10.200.0.50:80"), ["10.0.0.5:8080"]);
        cloud.remove_load_balancer(&shared);
        let wanted = cloud.take();
        write(&client, &wanted).await;
        let problem = wanted.floating_ips[&uid(20)].1.problem.clone().unwrap();
        assert_eq!(problem.reason, Reason::LoadBalancerNotFound);
        assert!(rows::<northbound::LoadBalancer>(&client).is_empty());
    }
}

#[test]
fn what_keeps_it_from_sharing_out_is_told_with_the_cure() {
    let shop = Shop::new(Distribution::Centralized);
    let told = |shared: &Arc<LoadBalancer>, routed: bool| problem(&shop.cloud(shared, routed).take());
    let (reason, message) = told(&balancer(|spec| spec["vip"]["network"] = "none".into()), true).unwrap();
    assert_eq!(reason, Reason::NetworkNotFound, "{message}");
    let (reason, message) = told(&balancer(|spec| spec["vip"]["network"] = "public".into()), true).unwrap();
    assert_eq!(reason, Reason::Invalid);
    assert!(
        message.contains("take an Overlay one, and let a FloatingIP lead to it"),
        "{message}"
    );

    let (reason, message) = told(&balancer(|spec| spec["members"]["network"] = "back".into()), true).unwrap();
    assert_eq!(reason, Reason::PortNotFound);
    assert!(
        message.contains("Instance shop/web-1 is chosen and has no interface in Network shop/back"),
        "{message}"
    );

    // Somebody elsewhere is reached by a Router that joins both, and not without.
    let named = balancer(|spec| spec["members"] = json!({"addresses": ["10.1.0.5"]}));
    assert_eq!(told(&named, true), None);
    let (reason, message) = told(&named, false).unwrap();
    assert_eq!(reason, Reason::NotRouted);
    assert!(
        message.contains("no Router joins Network shop/front with the Network of 10.1.0.5"),
        "{message}"
    );
    let (reason, _) = told(&balancer(|spec| spec["members"] = json!({"addresses": [VIP]})), true).unwrap();
    assert_eq!(reason, Reason::Invalid);
    let six = balancer(|spec| spec["members"] = json!({"addresses": ["fd00::5"]}));
    assert!(told(&six, true).unwrap().1.contains("no address of this family"));

    // One without an address waits, and keeps nobody up.
    let shared = balancer(|_| {});
    let mut cloud = shop.cloud(&shared, true);
    for record in records(&shared) {
        cloud.remove_port(&record);
    }
    assert_eq!(problem(&cloud.take()).unwrap().0, Reason::WaitingForAddress);
}

#[tokio::test]
async fn both_families_are_shared_out_each_to_its_own() {
    let ovn = Northd::start().unwrap();
    let client = client(ovn.northbound()).await;
    let dual = network(1, "front", |spec| spec.subnets.push(subnet("v6", "fd00::/64")));
    let guest = port(1, "front", &["10.0.0.5", "fd00::5"]);
    let shared = balancer(|spec| spec["healthCheck"] = json!({}));
    let records: Vec<Arc<Port>> = records(&shared)
        .into_iter()
        .zip(["fd00::100", "fd00::99"])
        .map(|(record, ip)| {
            let mut record = (*record).clone();
            record.spec.addresses.push(virga_crds::PortAddress {
                subnet: "v6".into(),
                ip: ip.into(),
            });
            Arc::new(record)
        })
        .collect();
    let mut cloud = cloud();
    let instance = instance(1, "front", ObservedPower::Running);
    cloud.reset([&dual], [&guest].into_iter().chain(&records), [], [], [&instance]);
    cloud.reset_load_balancers([&shared]);
    let wanted = cloud.take();
    assert_eq!(write(&client, &wanted).await.problems, []);
    assert_eq!(behind(&client, "10.0.0.100:80"), ["10.0.0.5:8080"]);
    assert_eq!(behind(&client, "[fd00::100]:80"), ["[fd00::5]:8080"]);
    let port = rows::<LogicalRouterPort>(&client).remove(0);
    assert_eq!(
        port.networks,
        ["10.0.0.100/24".to_owned(), "fd00::100/64".to_owned()].into()
    );
    ovn.sync().unwrap();
    let monitors = ovn
        .sbctl(&["--bare", "--columns=ip", "list", "Service_Monitor"])
        .unwrap();
    // By IPv6 nobody is asked.
    assert!(
        monitors.contains("10.0.0.5") && !monitors.contains("fd00"),
        "{monitors}"
    );
}

#[test]
fn a_flat_network_has_no_address_that_is_shared_out() {
    let flat = network(1, "front", |spec| {
        spec.type_ = NetworkType::Flat;
        spec.physical_network = Some("physnet".into());
    });
    let shared = balancer(|_| {});
    let mut cloud = cloud();
    cloud.reset([&flat], &records(&shared), [], [], []);
    cloud.reset_load_balancers([&shared]);
    let wanted = cloud.take();
    assert_eq!(problem(&wanted).unwrap().0, Reason::Invalid);
}

#[tokio::test]
async fn who_is_plugged_into_another_namespaces_network_of_that_name_is_no_member() {
    let shop = Shop::new(Distribution::Centralized);
    let shared = balancer(|_| {});
    let mut cloud = shop.cloud(&shared, true);
    let mut elsewhere = (*shop.members[0]).clone();
    elsewhere.spec.network_namespace = Some("infra".into());
    cloud.set_port(&Arc::new(elsewhere));
    let wanted = cloud.take();
    let (reason, message) = problem(&wanted).unwrap();
    assert_eq!(reason, Reason::NotRouted);
    assert!(message.contains("its interface is in Network infra/front"), "{message}");
    let members = &wanted.load_balancers[&uid(30)].1.members;
    let addresses: Vec<String> = members.iter().map(|member| member.address.to_string()).collect();
    assert_eq!(addresses, ["10.0.0.6"]);
}
