//! How Instances are wired, against an in-process API server.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use virga_cli::net::{map, namespace_of, read};
use virga_controller::fixtures;
use virga_crds::{Network, NetworkSpec, Project, ProjectSpec, Subnet};
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
    assert_eq!(asked.len(), 6);
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
