use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use quick_xml::{Reader, events::Event};
use serde_json::json;
use virga_crds::{
    FloatingIPStatus, JoinedNetwork, LoadBalancer, LoadBalancerStatus, MemberState, MemberStatus, NetworkStatus,
    PortStatus, RouterStatus, SubnetUsage,
};

use super::*;

fn ready(status: &str, reason: &str, message: &str) -> Vec<Condition> {
    vec![Condition {
        type_: types::READY.into(),
        status: status.into(),
        reason: reason.into(),
        message: message.into(),
        last_transition_time: Time(jiff::Timestamp::UNIX_EPOCH),
        observed_generation: None,
    }]
}

fn made<K: ResourceExt>(mut object: K) -> K {
    object.meta_mut().namespace = Some("shop".into());
    object
}

fn network(name: &str, spec: serde_json::Value) -> Network {
    let mut network = made(Network::new(name, serde_json::from_value(spec).unwrap()));
    network.status = Some(NetworkStatus {
        mtu: Some(1442),
        subnets: vec![SubnetUsage {
            name: "v4".into(),
            total: 253,
            used: 3,
        }],
        conditions: ready("True", "AsSpecified", ""),
        ..NetworkStatus::default()
    });
    network
}

fn port(name: &str, network: &str, spec: &serde_json::Value, up: Option<bool>) -> Port {
    let mut all = json!({"network": network, "mac": "fa:16:3e:00:00:01"});
    all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    let mut port = made(Port::new(name, serde_json::from_value(all).unwrap()));
    port.status = up.map(|up| PortStatus {
        conditions: if up {
            ready("True", "PortUp", "")
        } else {
            ready("False", "PortDown", "no host has plugged it in")
        },
        ..PortStatus::default()
    });
    port
}

/// One that is asked at 10.20.0.100, with so many members.
fn balancer(name: &str, members: &[(&str, Option<&str>, MemberState)]) -> LoadBalancer {
    let spec = json!({
        "vip": {"network": "front"},
        "listeners": [{"protocol": "TCP", "port": 80, "memberPort": 8080}, {"protocol": "UDP", "port": 53}],
        "members": {"selector": {"matchLabels": {"app": "web"}}},
    });
    let mut made = made(LoadBalancer::new(name, serde_json::from_value(spec).unwrap()));
    let members = members.iter().map(|(address, instance, state)| MemberStatus {
        address: (*address).into(),
        instance: instance.map(Into::into),
        state: *state,
    });
    made.status = Some(LoadBalancerStatus {
        addresses: vec!["10.20.0.100".into()],
        members: members.collect(),
        conditions: ready("True", "AsSpecified", ""),
        ..LoadBalancerStatus::default()
    });
    made
}

/// `front` and `back` behind `edge`, `lone` by itself.
fn shop() -> Objects {
    let front = json!({"dnsDomain": "front.shop", "subnets": [
        {"name": "v4", "cidr": "10.20.0.0/24"}, {"name": "v6", "cidr": "fd00:1::/64"},
    ]});
    let back = json!({"subnets": [{"name": "v4", "cidr": "10.21.0.0/24"}], "portSecurity": "Disabled"});
    let mut lone = network(
        "lone",
        json!({"type": "VLAN", "physicalNetwork": "physnet", "segmentID": 7,
               "subnets": [{"name": "v4", "cidr": "10.22.0.0/24", "gateway": "None"}]}),
    );
    lone.status.as_mut().unwrap().conditions = ready(
        "False",
        "SegmentTaken",
        "physical network physnet, VLAN 7, is \u{1b}[2J's",
    );
    let edge = json!({
        "networks": [{"network": "front"}, {"network": "back"}],
        "externalGateway": {"network": {"name": "public", "namespace": "infra"}},
        "routes": [{"destination": "192.0.2.0/24", "nextHop": "10.21.0.5"}],
    });
    let mut edge = made(Router::new("edge", serde_json::from_value(edge).unwrap()));
    let joined = |network: &str, address: &str| JoinedNetwork {
        network: network.into(),
        addresses: vec![address.into()],
    };
    edge.status = Some(RouterStatus {
        external_addresses: vec!["10.200.0.10".into()],
        gateway_chassis: vec!["node-2".into(), "node-3".into()],
        networks: vec![joined("front", "10.20.0.1"), joined("back", "10.21.0.1")],
        conditions: ready("True", "AsSpecified", ""),
        ..RouterStatus::default()
    });
    let public = json!({"name": "public", "namespace": "infra"});
    let floating = |name: &str, spec: &serde_json::Value, address: &str, port: Option<&str>| {
        let mut all = json!({"network": public});
        all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let mut made = made(FloatingIP::new(name, serde_json::from_value(all).unwrap()));
        made.status = Some(FloatingIPStatus {
            address: Some(address.into()),
            port: port.map(Into::into),
            fixed_address: port.map(|_| "10.20.0.10".into()),
            router: Some("edge".into()),
            conditions: ready("True", "AsSpecified", ""),
            ..FloatingIPStatus::default()
        });
        made
    };
    let mut lost = floating("lost", &json!({"instance": "gone"}), "10.200.0.52", None);
    lost.status.as_mut().unwrap().router = None;
    lost.status.as_mut().unwrap().conditions = ready(
        "False",
        "InstanceNotFound",
        "Instance shop/gone doesn't exist: create it",
    );
    let forwards = json!({"portForwardings": [
        {"protocol": "TCP", "externalPort": 80, "instance": "web-2", "internalPort": 8080},
        {"protocol": "UDP", "externalPort": 53, "port": "web-1-front", "internalPort": 53},
    ]});
    let web_1 = json!({"instance": "web-1", "nodeName": "node-1", "securityGroups": ["web", "default"],
        "addresses": [{"subnet": "v4", "ip": "10.20.0.10"}, {"subnet": "v6", "ip": "fd00:1::10"}]});
    let holder = json!({"namespace": "shop", "name": "edge", "uid": "1"});
    Objects {
        namespace: "shop".into(),
        networks: vec![lone, network("front", front), network("back", back)],
        ports: vec![
            port(
                "web-2-front",
                "front",
                &json!({"instance": "web-2", "addresses": [{"subnet": "v4", "ip": "10.20.0.11"}]}),
                Some(false),
            ),
            port("web-1-front", "front", &web_1, Some(true)),
            port(
                "router-1-back",
                "back",
                &json!({"router": holder, "addresses": [{"subnet": "v4", "ip": "10.21.0.9"}]}),
                None,
            ),
        ],
        routers: vec![edge],
        floating_ips: vec![
            floating("web", &json!({"instance": "web-1"}), "10.200.0.50", Some("web-1-front")),
            floating("shared", &forwards, "10.200.0.51", None),
            floating("balanced", &json!({"loadBalancer": "pages"}), "10.200.0.53", None),
            lost,
        ],
        load_balancers: vec![balancer(
            "pages",
            &[
                ("10.20.0.10", Some("web-1"), MemberState::Online),
                ("10.20.0.11", Some("web-2"), MemberState::Stopped),
                ("10.20.0.200", None, MemberState::Offline),
            ],
        )],
        ..Objects::default()
    }
}

fn told(map: &Map, ports: usize) -> String {
    let mut out = Vec::new();
    text(map, ports, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_namespace_is_told_each_thing_once() {
    let mut objects = shop();
    objects.unread.push(Unread {
        what: "securitygroups of namespace shop".into(),
        why: "you may not read them".into(),
        so: "those that were not read look as if they were not there",
    });
    insta::assert_snapshot!("shop", told(&of(&objects), 20));
    let json = serde_json::to_string_pretty(&of(&objects).routers).unwrap();
    insta::assert_snapshot!("shop_json", json);
    insta::assert_snapshot!(
        "nothing",
        told(
            &of(&Objects {
                namespace: "empty".into(),
                ..Objects::default()
            }),
            20
        )
    );
}

/// A Network with so many Ports, every tenth of them down.
fn crowd(networks: usize, ports: usize) -> Objects {
    let range = json!({"subnets": [{"name": "v4", "cidr": "10.0.0.0/16"}]});
    let mut objects = Objects {
        namespace: "shop".into(),
        networks: (0..networks)
            .map(|at| network(&format!("n{at:03}"), range.clone()))
            .collect(),
        ..Objects::default()
    };
    for at in 0..ports {
        let instance = format!("web-{at:04}");
        let ip = format!("10.0.{}.{}", at / 200, at % 200 + 10);
        let spec = json!({"instance": instance, "addresses": [{"subnet": "v4", "ip": ip}]});
        objects
            .ports
            .push(port(&format!("{instance}-n000"), "n000", &spec, Some(at % 10 > 0)));
    }
    objects
}

#[test]
fn members_beyond_what_is_shown_are_counted() {
    let mut objects = shop();
    let addresses: Vec<String> = (0..100).map(|at| format!("10.20.1.{at}")).collect();
    let members: Vec<_> = addresses
        .iter()
        .map(|address| (address.as_str(), None, MemberState::Online))
        .collect();
    objects.load_balancers = vec![balancer("pages", &members)];
    objects.load_balancers[0].status.as_mut().unwrap().online = 100;
    let told = told(&of(&objects), 20);
    assert!(
        told.contains("80 more members, 100 of all 100 are sent connections"),
        "{told}"
    );
    let drawn = svg(&of(&objects));
    assert!(elements(&drawn) > 20 && drawn.contains("and 88 more members"));
}

#[test]
fn a_thousand_ports_are_counted() {
    let map = of(&crowd(1, 1000));
    insta::assert_snapshot!("crowd", told(&map, 3));
    assert_eq!(told(&map, 20).lines().count(), 2 + 2 + 20 + 1);
    assert!(told(&map, 0).contains("1000 Ports: 900 up, 100 down"));
    assert!(told(&map, 998).contains("web-0999"), "two more are not worth counting");
}

#[test]
fn a_port_that_no_instance_has_is_drawn_with_its_address() {
    let mut objects = shop();
    let kept = json!({"allocation": "Given", "addresses": [{"subnet": "v4", "ip": "10.20.0.77"}]});
    let mut kept = port("kept", "front", &kept, Some(true));
    kept.status.as_mut().unwrap().conditions = ready("True", "AddressHeld", "kept for the Instance that names it");
    objects.ports.push(kept);
    let map = of(&objects);
    let told = told(&map, 20);
    let line = told.lines().find(|line| line.contains("kept")).unwrap();
    assert!(line.contains("10.20.0.77") && line.contains("no Instance"), "{line}");
    let drawn = map.networks.iter().flat_map(|network| &network.ports);
    let drawn = drawn.filter(|port| port.name == "kept").collect::<Vec<_>>();
    assert_eq!((drawn[0].up, &drawn[0].problem), (None, &None));
    assert!(svg(&map).contains("Port kept, no Instance"));
}

/// The number of elements of a document that must be well-formed.
fn elements(svg: &str) -> usize {
    let mut reader = Reader::from_str(svg);
    reader.config_mut().check_end_names = true;
    let mut count = 0;
    loop {
        match reader.read_event().unwrap() {
            Event::Start(tag) | Event::Empty(tag) => {
                tag.attributes().for_each(|attribute| drop(attribute.unwrap()));
                count += 1;
            }
            Event::Eof => return count,
            _ => {}
        }
    }
}

#[test]
fn the_picture_is_well_formed_and_has_a_largest_size() {
    let mut objects = shop();
    insta::assert_snapshot!("picture", svg(&of(&objects)));
    objects.namespace = "<&\"\u{1b}".into();
    objects.routers[0].status.as_mut().unwrap().external_addresses = vec!["</text><script>".into()];
    let hostile = svg(&of(&objects));
    assert!(elements(&hostile) > 20 && !hostile.contains("<script"));

    let largest = svg(&of(&crowd(200, 5000)));
    assert!(largest.contains("and 4988 more Ports") && largest.contains("Not drawn: 160 Networks"));
    assert!(elements(&largest) < 400, "{}", elements(&largest));
    assert!(largest.len() < 64 * 1024);
    elements(&svg(&of(&Objects::default())));
}
