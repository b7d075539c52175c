//! How Instances are wired, against an in-process API server.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use serde_json::json;
use virga_cli::net::{map, namespace_of, read, trace};
use virga_controller::fixtures;
use virga_core::trace::{Protocol, Question};
use virga_crds::{Network, NetworkSpec, Port, Project, ProjectSpec, SecurityGroup, Subnet};
use virga_testkit::{FakeApi, Fault, Verb};

fn network(name: &str, namespace: &str) -> Network {
    let spec = NetworkSpec {
        subnets: vec![Subnet {
            name: "v4".into(),
            cidr: "10.0.0.0/24".into(),
            ..Subnet::default()
        }],
        ..NetworkSpec::default()
    };
    let mut network = Network::new(name, spec);
    network.metadata.namespace = Some(namespace.into());
    network
}

fn api() -> FakeApi {
    let api = fixtures::api();
    api.create(&network("front", "shop"));
    api.create(&network("theirs", "others"));
    let spec = ProjectSpec {
        namespace: Some("shop".into()),
        ..ProjectSpec::default()
    };
    api.create(&Project::new("retail", spec));
    api
}

#[tokio::test(start_paused = true)]
async fn a_project_is_its_namespace_and_nothing_else_is_asked_for() {
    let api = api();
    assert_eq!(namespace_of(&api.client(), "retail".into()).await.unwrap(), "shop");
    let before = api.log().len();
    let map = map::of(&read(&api.client(), "shop").await.unwrap());
    let names: Vec<&str> = map.networks.iter().map(|network| network.name.as_str()).collect();
    assert_eq!(names, ["front"]);
    let asked = api.requests_since(before);
    assert_eq!(asked.len(), 8);
    assert!(
        asked
            .iter()
            .all(|request| request.verb == Verb::List && request.namespace.as_deref() == Some("shop")),
        "{asked:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_read_is_said_and_the_rest_is_drawn() {
    let api = api();
    api.inject(Fault::status(403).resource("routers"));
    api.inject(Fault::status(403).resource("projects"));
    assert_eq!(
        namespace_of(&api.client(), "shop".into()).await.unwrap(),
        "shop",
        "a member may not read Projects"
    );
    let map = map::of(&read(&api.client(), "shop").await.unwrap());
    assert_eq!(map.networks.len(), 1);
    let unread: Vec<&str> = map.unread.iter().map(|unread| unread.what.as_str()).collect();
    assert_eq!(unread, ["routers of namespace shop"]);
    api.inject(Fault::status(500).resource("networks"));
    assert!(read(&api.client(), "shop").await.is_err(), "that is a failure");
}

/// web-1 and web-2 in `front`, in the group `web`, which lets nothing in.
fn shop() -> FakeApi {
    let api = api();
    for (at, name) in (5..).zip(["web-1", "web-2"]) {
        let spec = json!({
            "network": "front", "instance": name, "mac": "fa:16:3e:00:00:01", "securityGroups": ["web"],
            "addresses": [{"subnet": "v4", "ip": format!("10.0.0.{at}")}],
        });
        let mut port = Port::new(&format!("{name}-front"), serde_json::from_value(spec).unwrap());
        port.metadata.namespace = Some("shop".into());
        api.create(&port);
        let mut instance = fixtures::instance(name);
        instance.spec.interfaces = serde_json::from_value(json!([{"network": "front"}])).unwrap();
        api.create(&instance);
    }
    let rules = json!({"rules": [{"direction": "Egress"}]});
    let mut group = SecurityGroup::new("web", serde_json::from_value(rules).unwrap());
    group.metadata.namespace = Some("shop".into());
    api.create(&group);
    api
}

fn to_web_2() -> Question {
    Question {
        from: "web-1".into(),
        to: "web-2".into(),
        protocol: Protocol::Tcp,
        port: Some(80),
        family: None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_packet_that_is_dropped_is_told_of_with_the_cure() {
    let api = shop();
    let answer = trace::of(&read(&api.client(), "shop").await.unwrap(), &to_web_2()).unwrap();
    let mut out = Vec::new();
    trace::text(&answer, &mut out).unwrap();
    insta::assert_snapshot!("dropped", String::from_utf8(out).unwrap());
    insta::assert_snapshot!("dropped_json", serde_json::to_string_pretty(&answer).unwrap());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_said_of_what_may_not_be_read() {
    let api = shop();
    let mut elsewhere = to_web_2();
    elsewhere.to = "theirs".into();
    let unclear = trace::of(&read(&api.client(), "shop").await.unwrap(), &elsewhere).unwrap_err();
    assert_eq!(
        unclear.to_string(),
        "theirs: there is no such Instance, Port, LoadBalancer or address in namespace shop"
    );
    api.inject(Fault::status(403).resource("securitygroups"));
    let unread = trace::of(&read(&api.client(), "shop").await.unwrap(), &to_web_2()).unwrap_err();
    assert_eq!(
        unread.to_string(),
        "securitygroups of namespace shop: you may not read them, and without them nobody can say"
    );
}
