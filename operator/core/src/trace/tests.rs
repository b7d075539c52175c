use serde_json::{Value, json};
use virga_crds::{
    FloatingIP, FloatingIPStatus, Instance, JoinedNetwork, LoadBalancer, LoadBalancerStatus, MemberStatus, Network,
    Port, Router, RouterStatus, SecurityGroup,
};

use super::*;
use crate::security_group::default_group;

mod balanced;

/// Two Networks and what is in them: web-1 and web-2 in `front`, db-1 in `back`, joined by `edge`.
struct Shop {
    networks: Vec<Network>,
    ports: Vec<Port>,
    routers: Vec<Router>,
    floating: Vec<FloatingIP>,
    balancers: Vec<LoadBalancer>,
    groups: Vec<SecurityGroup>,
    instances: Vec<Instance>,
}

fn spec<T: serde::de::DeserializeOwned>(spec: Value) -> T {
    serde_json::from_value(spec).unwrap()
}

fn group(name: &str, rules: &Value) -> SecurityGroup {
    SecurityGroup::new(name, spec(json!({"rules": rules})))
}

fn floating(name: &str, address: &str, fixed: Option<&str>, rest: &Value) -> FloatingIP {
    let mut all = json!({"network": {"name": "public", "namespace": "infra"}});
    all.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    let mut floating = FloatingIP::new(name, spec(all));
    floating.status = Some(FloatingIPStatus {
        address: Some(address.into()),
        fixed_address: fixed.map(Into::into),
        router: Some("edge".into()),
        ..FloatingIPStatus::default()
    });
    floating
}

impl Shop {
    fn new() -> Self {
        let network = |name: &str, v4: &str, v6: &str| {
            let subnets = json!([{"name": "v4", "cidr": v4}, {"name": "v6", "cidr": v6}]);
            Network::new(name, spec(json!({"subnets": subnets})))
        };
        let plug = |instance: &str, network: &str, v4: &str, v6: &str, groups: &[&str]| {
            let all = json!({
                "network": network, "instance": instance, "mac": "fa:16:3e:00:00:01", "securityGroups": groups,
                "addresses": [{"subnet": "v4", "ip": v4}, {"subnet": "v6", "ip": v6}],
            });
            Port::new(&format!("{instance}-{network}"), spec(all))
        };
        let instance = |name: &str, network: &str| {
            let all = json!({"flavor": "m1", "image": {"name": "guest"}, "interfaces": [{"network": network}]});
            Instance::new(name, spec(all))
        };
        let gateway = json!({"network": {"name": "public", "namespace": "infra"}});
        let mut edge = Router::new(
            "edge",
            spec(json!({"networks": [{"network": "front"}, {"network": "back"}], "externalGateway": gateway})),
        );
        let joined = |network: &str, addresses: [&str; 2]| JoinedNetwork {
            network: network.into(),
            addresses: addresses.map(Into::into).into(),
        };
        edge.status = Some(RouterStatus {
            external_addresses: vec!["10.200.0.10".into()],
            gateway_chassis: vec!["node-1".into()],
            networks: vec![
                joined("front", ["10.0.0.1", "fd00:1::1"]),
                joined("back", ["10.1.0.1", "fd00:2::1"]),
            ],
            ..RouterStatus::default()
        });
        Self {
            networks: vec![
                network("front", "10.0.0.0/24", "fd00:1::/64"),
                network("back", "10.1.0.0/24", "fd00:2::/64"),
            ],
            ports: vec![
                plug("web-1", "front", "10.0.0.5", "fd00:1::5", &["web", "default"]),
                plug("web-2", "front", "10.0.0.6", "fd00:1::6", &[]),
                plug("db-1", "back", "10.1.0.5", "fd00:2::5", &["db"]),
            ],
            routers: vec![edge],
            floating: vec![floating(
                "web",
                "10.200.0.50",
                Some("10.0.0.5"),
                &json!({"instance": "web-1"}),
            )],
            balancers: Vec::new(),
            groups: vec![
                default_group("shop"),
                group(
                    "web",
                    &json!([{"direction": "Ingress", "protocol": "tcp", "ports": {"min": 80}}]),
                ),
                group(
                    "db",
                    &json!([{"direction": "Ingress", "protocol": "tcp", "ports": {"min": 5432}, "remote": {"group": "web"}}]),
                ),
            ],
            instances: vec![
                instance("web-1", "front"),
                instance("web-2", "front"),
                instance("db-1", "back"),
            ],
        }
    }

    fn ask(&self, question: &Question) -> Result<Trace, Unclear> {
        let world = World::new(Objects {
            namespace: "shop",
            networks: &self.networks,
            ports: &self.ports,
            routers: &self.routers,
            floating_ips: &self.floating,
            load_balancers: &self.balancers,
            security_groups: &self.groups,
            address_groups: &[],
            instances: &self.instances,
        });
        trace(&world, question)
    }

    fn tcp(&self, from: &str, to: &str, port: u16) -> Trace {
        self.ask(&question(from, to, Protocol::Tcp, Some(port))).unwrap()
    }
}

fn question(from: &str, to: &str, protocol: Protocol, port: Option<u16>) -> Question {
    Question {
        from: from.into(),
        to: to.into(),
        protocol,
        port,
        family: None,
    }
}

/// A trace as a story.
fn told(trace: &Trace) -> String {
    let steps = trace.steps.iter();
    let mut lines: Vec<String> = steps
        .map(|step| format!("{:?} {} {}: {}", step.does, step.kind, step.name, step.says))
        .collect();
    lines.push(format!(
        "{:?} at {:?}",
        trace.verdict,
        trace.arrives_at.as_deref().unwrap_or("-")
    ));
    lines.extend(trace.cure.iter().map(|cure| format!("cure: {cure}")));
    lines.extend(trace.notes.iter().map(|note| format!("note: {note}")));
    lines.join("\n")
}

#[test]
fn who_lets_it_pass_is_named_on_the_whole_way() {
    let shop = Shop::new();
    insta::assert_snapshot!("within", told(&shop.tcp("web-2", "web-1", 80)));
    insta::assert_snapshot!("between", told(&shop.tcp("web-1", "db-1", 5432)));
    insta::assert_snapshot!("dropped", told(&shop.tcp("web-2", "db-1", 5432)));
    insta::assert_snapshot!("from_outside", told(&shop.tcp("203.0.113.9", "10.200.0.50", 80)));
    insta::assert_snapshot!("to_outside", told(&shop.tcp("web-2", "203.0.113.9", 443)));
    insta::assert_snapshot!(
        "by_its_own_floating_address",
        told(&shop.tcp("web-1", "203.0.113.9", 443))
    );
    insta::assert_snapshot!("there_and_back", told(&shop.tcp("web-2", "10.200.0.50", 80)));
}

#[test]
fn a_port_that_a_user_made_is_found_by_who_has_it_and_by_its_name() {
    let mut shop = Shop::new();
    let (port, instance) = (&mut shop.ports[1], &mut shop.instances[1]);
    port.metadata.name = Some("kept".into());
    port.spec.allocation = Some(virga_crds::Allocation::Given);
    instance.spec.interfaces[0].port = Some("kept".into());
    assert_eq!(
        shop.tcp("web-2", "web-1", 80).arrives_at.as_deref(),
        Some("web-1-front")
    );
    // Let go of: the address is there, and nobody answers.
    shop.ports[1].spec.instance = String::new();
    let trace = shop.tcp("web-1", "kept", 80);
    assert!(
        trace.to.starts_with("Port kept, which no Instance has, "),
        "{}",
        trace.to
    );
    let told = told(&trace);
    assert!(
        told.contains("note: no Instance has Port kept: nothing is plugged in"),
        "{told}"
    );
    let unclear = shop.ask(&question("web-2", "web-1", Protocol::Tcp, Some(80)));
    assert!(matches!(unclear, Err(Unclear::NoPort(name)) if name == "web-2"));
}

#[test]
fn of_ipv6_no_address_is_hidden() {
    let shop = Shop::new();
    let mut asked = question("web-1", "db-1", Protocol::Tcp, Some(5432));
    asked.family = Some(Family::V6);
    let trace = shop.ask(&asked).unwrap();
    assert_eq!(trace.verdict, Verdict::Drops, "the rule is for IPv4: {}", told(&trace));
    assert!(trace.cure.unwrap().contains("etherType: IPv6"));
    let out = shop
        .ask(&question("web-1", "2001:db8::1", Protocol::Icmp, None))
        .unwrap();
    assert_eq!(out.verdict, Verdict::Drops, "{}", told(&out));
    assert!(out.steps.last().unwrap().says.contains("no route to 2001:db8::1"));
}

/// The verdict, the last step and the cure, after a change.
fn after(change: impl FnOnce(&mut Shop), from: &str, to: &str) -> (Verdict, String, String) {
    let mut shop = Shop::new();
    change(&mut shop);
    let trace = shop.tcp(from, to, 80);
    let last = trace.steps.last().unwrap();
    (
        trace.verdict,
        format!("{} {}: {}", last.kind, last.name, last.says),
        trace.cure.unwrap_or_default(),
    )
}

#[test]
fn what_is_missing_is_named_with_the_cure() {
    let (verdict, last, cure) = after(|shop| shop.routers.clear(), "web-1", "db-1");
    assert_eq!(
        (verdict, last.as_str()),
        (Verdict::Drops, "Network front: nobody has 10.0.0.1")
    );
    assert_eq!(cure, "create a Router with Network front in networks");

    let alone = |shop: &mut Shop| shop.networks[0].spec.subnets[0].gateway = Some("None".into());
    let (_, last, _) = after(alone, "web-2", "db-1");
    assert!(last.contains("which has no gateway"), "{last}");

    let (_, last, cure) = after(|shop| drop(shop.groups.remove(0)), "web-2", "web-1");
    assert!(last.contains("the group doesn't exist"), "{last}");
    assert!(cure.starts_with("create SecurityGroup default"), "{cure}");

    let (_, last, cure) = after(|_| {}, "203.0.113.9", "web-2");
    assert!(last.contains("hides 10.0.0.6 behind 10.200.0.10"), "{last}");
    assert_eq!(cure, "create a FloatingIP that leads to Port web-2-front");

    let nowhere = |shop: &mut Shop| shop.floating[0].status.as_mut().unwrap().router = None;
    let (_, last, _) = after(nowhere, "203.0.113.9", "10.200.0.50");
    assert_eq!(last, "FloatingIP web: leads nowhere");

    let (_, last, _) = after(|_| {}, "web-2", "10.0.0.77");
    assert_eq!(last, "Network front: no Port in it has 10.0.0.77");
    let inside = |shop: &mut Shop| shop.routers[0].spec.external_gateway = None;
    let (verdict, ..) = after(inside, "web-2", "10.200.0.10");
    assert_eq!(verdict, Verdict::Drops);
}

#[test]
fn single_ports_lead_to_their_guests_and_others_nowhere() {
    let mut shop = Shop::new();
    let forwards = json!({"portForwardings": [{"protocol": "TCP", "externalPort": 8080, "instance": "web-1", "internalPort": 80}]});
    shop.floating = vec![floating("shared", "10.200.0.51", None, &forwards)];
    let led = shop.tcp("203.0.113.9", "10.200.0.51", 8080);
    assert_eq!(led.arrives_at.as_deref(), Some("web-1-front"), "{}", told(&led));
    let other = shop.tcp("203.0.113.9", "10.200.0.51", 80);
    assert_eq!(other.cure.unwrap(), "add it to portForwardings of FloatingIP shared");
}

#[test]
fn who_tracks_nothing_needs_a_rule_for_answers() {
    let mut shop = Shop::new();
    let stateless = |rules: &Value| SecurityGroup::new("web", spec(json!({"mode": "Stateless", "rules": rules})));
    let inward = json!({"direction": "Ingress", "protocol": "tcp", "ports": {"min": 80}});
    shop.ports[0].spec.security_groups = vec!["web".into()];
    shop.groups[1] = stateless(&json!([inward]));
    let one_way = shop.tcp("web-2", "web-1", 80);
    assert_eq!(
        one_way.arrives_at.as_deref(),
        Some("web-1-front"),
        "the question arrives"
    );
    assert_eq!(one_way.verdict, Verdict::Drops, "{}", told(&one_way));
    assert!(one_way.cure.unwrap().contains("set its mode to Stateful"));
    shop.groups[1] = stateless(&json!([inward, {"direction": "Egress", "protocol": "tcp"}]));
    assert_eq!(shop.tcp("web-2", "web-1", 80).verdict, Verdict::Passes);
}

#[test]
fn routes_in_circles_have_an_end() {
    let mut shop = Shop::new();
    let joined = |name: &str, network: &str, address: &str, hop: &str| {
        let ways = json!([{"destination": "192.0.2.0/24", "nextHop": hop}]);
        let mut router = Router::new(name, spec(json!({"networks": [{"network": network}], "routes": ways})));
        router.status = Some(RouterStatus {
            networks: vec![JoinedNetwork {
                network: network.into(),
                addresses: vec![address.into()],
            }],
            ..RouterStatus::default()
        });
        router
    };
    shop.routers = vec![
        joined("one", "front", "10.0.0.1", "10.0.0.2"),
        joined("two", "front", "10.0.0.2", "10.0.0.1"),
    ];
    let trace = shop.tcp("web-2", "192.0.2.1", 80);
    assert_eq!(trace.verdict, Verdict::Drops);
    assert!(trace.steps.last().unwrap().says.contains("goes round in circles"));
}

#[test]
fn what_is_asked_has_to_be_clear() {
    let mut shop = Shop::new();
    let unclear = |shop: &Shop, from: &str, to: &str| {
        shop.ask(&question(from, to, Protocol::Icmp, None))
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        unclear(&shop, "ghost", "web-1"),
        "ghost: there is no such Instance, Port, LoadBalancer or address in namespace shop"
    );
    assert!(unclear(&shop, "203.0.113.9", "198.51.100.1").starts_with("neither"));
    assert!(unclear(&shop, "203.0.113.9", "fd00:1::5").contains("no addresses of one family"));
    let named = shop.ask(&question("port/web-1-front", "instance/web-2", Protocol::Icmp, None));
    assert_eq!(named.unwrap().verdict, Verdict::Passes);
    // Two Networks may have the same range.
    let mut twin = shop.ports[0].clone();
    twin.metadata.name = Some("twin".into());
    shop.ports.push(twin);
    assert_eq!(
        unclear(&shop, "10.0.0.5", "web-2"),
        "10.0.0.5 is an address of Ports twin, web-1-front: name one of them, as port/NAME"
    );
    shop.ports.clear();
    assert!(unclear(&shop, "web-1", "web-2").contains("has no Port yet"));
}
