use serde_json::{Value, json};
use virga_crds::{Instance, Interface, Port};
use virga_ovsdb::{northbound::LogicalSwitchPort, table::Table as _, testing::Server};

use crate::{
    instance::tests::{agent_says, network_ready},
    ovn::tests::{client, names, so, world},
    world::{NAMESPACE, World, ip},
};

fn trunk(subs: &[(u16, &str)]) -> Value {
    let subs: Vec<_> = subs
        .iter()
        .map(|(tag, network)| json!({"segmentID": tag, "network": network}))
        .collect();
    json!([{"network": "front", "trunk": {"subPorts": subs}}])
}

fn interfaces(subs: &[(u16, &str)]) -> Vec<Interface> {
    serde_json::from_value(trunk(subs)).unwrap()
}

fn edit(world: &World, subs: &[(u16, &str)]) {
    let interfaces = if subs.is_empty() {
        json!([{"network": "front"}])
    } else {
        trunk(subs)
    };
    world
        .api
        .merge::<Instance>(Some(NAMESPACE), "web-1", json!({"spec": {"interfaces": interfaces}}));
}

fn port(world: &World, name: &str) -> Option<Port> {
    world.api.read(Some(NAMESPACE), name)
}

#[tokio::test(start_paused = true)]
async fn a_sub_port_has_an_address_of_its_own_and_goes_where_its_parent_goes() {
    let world = World::on_ovn().await;
    world.network("front", "10.0.0.0/24");
    world.network("dmz", "10.1.0.0/24");
    world.instance("web-1", Some("a"), |spec| {
        spec.interfaces = interfaces(&[(100, "dmz"), (200, "later")]);
    });
    world.settle().await;
    let parent = port(&world, "web-1-front").unwrap();
    assert_eq!(parent.spec.trunk, None);
    let made = port(&world, "web-1-dmz").unwrap();
    let of = made.spec.trunk.clone().unwrap();
    assert_eq!((ip(&made), made.spec.node_name.as_deref()), ("10.1.0.2", Some("a")));
    assert_eq!(
        (of.port.as_str(), Some(&of.uid), of.segment_id),
        ("web-1-front", parent.metadata.uid.as_ref(), 100)
    );
    assert_ne!(made.spec.mac, parent.spec.mac);
    let said = network_ready(&world, "web-1").unwrap();
    assert!(
        said.starts_with("NetworkNotFound: spec.interfaces[front].trunk.subPorts[200].network: Network shop/later"),
        "{said}"
    );

    // What was missing comes; then another tag, and another host: the Ports stay.
    world.network("later", "10.2.0.0/24");
    world.settle().await;
    assert_eq!(port(&world, "web-1-later").unwrap().spec.trunk.unwrap().segment_id, 200);
    edit(&world, &[(300, "dmz")]);
    world
        .api
        .merge::<Instance>(Some(NAMESPACE), "web-1", json!({"spec": {"nodeName": "b"}}));
    world.settle().await;
    let moved = port(&world, "web-1-dmz").unwrap();
    assert_eq!(
        (&moved.metadata.uid, &moved.spec.mac),
        (&made.metadata.uid, &made.spec.mac)
    );
    assert_eq!(
        (moved.spec.node_name.as_deref(), moved.spec.trunk.unwrap().segment_id),
        (Some("b"), 300)
    );
    assert!(
        port(&world, "web-1-later").is_some(),
        "the agent has not spoken of this spec"
    );
    agent_says(&world, "web-1", &["front", "dmz"]);
    world.settle().await;
    assert!(port(&world, "web-1-later").is_none());

    // A parent that is made anew is followed.
    world.api.delete::<Port>(Some(NAMESPACE), "web-1-front");
    world.settle().await;
    let anew = port(&world, "web-1-front").unwrap();
    assert_ne!(anew.metadata.uid, parent.metadata.uid);
    assert_eq!(
        Some(port(&world, "web-1-dmz").unwrap().spec.trunk.unwrap().uid),
        anew.metadata.uid
    );
    let mark = world.api.mark();
    world.settle().await;
    assert!(
        world
            .api
            .requests_since(mark)
            .iter()
            .all(|request| request.resource != "ports")
    );
}

#[tokio::test(start_paused = true)]
async fn a_trunk_that_cannot_be_is_told_with_the_cure() {
    let world = World::on_ovn().await;
    world.network_as("front", "10.0.0.0/24", |spec| spec.mtu = 1400);
    world.network("dmz", "10.1.0.0/24");
    world.instance("web-1", Some("a"), |spec| spec.interfaces = interfaces(&[(100, "dmz")]));
    world.settle().await;
    assert!(port(&world, "web-1-front").is_some() && port(&world, "web-1-dmz").is_none());
    let said = network_ready(&world, "web-1").unwrap();
    assert!(
        said.starts_with("Invalid: spec.interfaces[front].trunk.subPorts[100].network: "),
        "{said}"
    );
    assert!(said.contains("1442") && said.contains("at most 1400"), "{said}");

    // Past admission, on libvirt's networks: nothing of it is made.
    let world = World::start().await;
    world.network("front", "10.0.0.0/24");
    world.network("dmz", "10.1.0.0/24");
    world.instance("web-1", Some("a"), |spec| spec.interfaces = interfaces(&[(100, "dmz")]));
    world.settle().await;
    assert!(world.api.list::<Port>().is_empty());
    let said = network_ready(&world, "web-1").unwrap();
    assert!(
        said.starts_with("NotSupported: spec.interfaces[front].trunk: libvirt's networks"),
        "{said}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_card_that_no_host_has_is_never_plugged_in_and_says_so() {
    let world = World::on_ovn().await;
    world.network("front", "10.0.0.0/24");
    world.network("fast", "10.1.0.0/24");
    world.instance("web-1", Some("a"), |spec| spec.interfaces = interfaces(&[(100, "dmz")]));
    let more = json!([{"network": "front"}, {"network": "fast", "vnicType": "Direct"}]);
    world
        .api
        .merge::<Instance>(Some(NAMESPACE), "web-1", json!({"spec": {"interfaces": more}}));
    world.settle().await;
    assert!(port(&world, "web-1-front").is_some() && port(&world, "web-1-fast").is_none());
    let said = network_ready(&world, "web-1").unwrap();
    assert!(
        said.starts_with("NotSupported: spec.interfaces[fast].vnicType: no host has network cards"),
        "{said}"
    );
}

#[tokio::test]
async fn sub_ports_are_written_and_taken_away_while_the_guest_runs() {
    let server = Server::start().unwrap();
    let world = world(&server);
    let client = client(&server).await;
    world.network("front", "10.0.0.0/24");
    world.network("dmz", "10.1.0.0/24");
    world.instance("web-1", Some("a"), |spec| {
        spec.interfaces = serde_json::from_value(json!([{"network": "front"}])).unwrap();
    });
    let is_there = |name: &str| port(&world, name).is_some();
    so("the parent", || is_there("web-1-front")).await;
    edit(&world, &[(100, "dmz")]);
    so("the sub-port", || is_there("web-1-dmz")).await;
    let parent = port(&world, "web-1-front").unwrap().metadata.uid.unwrap();
    let sub = port(&world, "web-1-dmz").unwrap().metadata.uid.unwrap();
    let row = || {
        client.read(|replica| {
            let mut rows = replica.rows(LogicalSwitchPort::SPEC.name);
            let row = rows.find(|row| row.name() == Some(&sub))?;
            let parent = row.get::<Option<String>>("parent_name").ok()?;
            Some((parent?, row.get::<Option<i64>>("tag").ok()??))
        })
    };
    so("bound", || row() == Some((parent.clone(), 100))).await;
    edit(&world, &[(200, "dmz")]);
    so("another tag", || row() == Some((parent.clone(), 200))).await;
    edit(&world, &[]);
    agent_says(&world, "web-1", &["front"]);
    so("gone", || {
        !is_there("web-1-dmz") && !names(&client, LogicalSwitchPort::SPEC.name).contains(&sub)
    })
    .await;
    assert!(names(&client, LogicalSwitchPort::SPEC.name).contains(&parent));
}
