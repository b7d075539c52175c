//! The loops on an API in this process, and a real ovsdb-server. Time is real: the server's is.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::{Instant, sleep};
use virga_core::network::Backend;
use virga_crds::{FloatingIP, Instance, Network, Port, Router};
use virga_ovsdb::{
    Client,
    northbound::{GatewayChassis, LogicalRouter, LogicalSwitch, LogicalSwitchPort, Nat},
    operation::{Condition, Operation},
    reconcile::Desired,
    table::Table as _,
    testing::{Northd, Server},
    value::{Atom, Set, Value},
};

use super::{Carrier, Settings};
use crate::world::{NAMESPACE, World, interface};

/// Longer than anything takes on a busy machine.
const LONG: Duration = Duration::from_mins(1);

pub(crate) fn world(server: &Server) -> World {
    world_with(server, None)
}

pub(crate) fn world_with(server: &Server, southbound: Option<virga_ovsdb::Options>) -> World {
    let carrier = Carrier {
        backend: Backend::Ovn { underlay_mtu: 1500 },
        northbound: Some(Settings {
            client: server.options(),
            southbound,
            owner: "test".into(),
        }),
    };
    let mut world = World::carried_by(carrier);
    world.run();
    world
}

/// Waits until it is so, with a bound.
pub(crate) async fn so(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < LONG, "not so: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) async fn client(server: &Server) -> Client {
    let client = Client::start(server.options());
    client.synced().await.unwrap();
    client
}

/// The names of a table's rows.
pub(crate) fn names(client: &Client, table: &str) -> Vec<String> {
    client.read(|replica| {
        let rows = replica.rows(table);
        rows.map(|row| row.name().unwrap_or_default().to_owned()).collect()
    })
}

fn switches(client: &Client) -> Vec<String> {
    names(client, LogicalSwitch::SPEC.name)
}

fn is_ready(world: &World, kind: &str, name: &str, wanted: &str) -> bool {
    let (ready, _) = match kind {
        "Network" => world.ready::<Network>(Some(NAMESPACE), name),
        "FloatingIP" => world.ready::<FloatingIP>(Some(NAMESPACE), name),
        "Router" => world.ready::<Router>(Some(NAMESPACE), name),
        _ => world.ready::<Port>(Some(NAMESPACE), name),
    };
    ready == wanted
}

/// Says that a port is up, or not, as `ovn-northd` does.
async fn northd(client: &Client, port: &str, up: bool) {
    let row = client.read(|replica| {
        let mut ports = replica.rows(LogicalSwitchPort::SPEC.name);
        ports.find(|row| row.name() == Some(port)).unwrap().uuid()
    });
    let up: Set = [Atom::Boolean(up)].into_iter().collect();
    let update = Operation::Update {
        table: LogicalSwitchPort::SPEC.name.into(),
        conditions: vec![Condition::row(row)],
        row: vec![("up".into(), Value::Set(up))],
    };
    client.transact(&[update]).await.unwrap();
}

#[tokio::test]
async fn a_network_and_its_ports_are_written_and_what_ovn_says_of_them_is_told() {
    let server = Server::start().unwrap();
    let world = world(&server);
    let client = client(&server).await;
    world.network("front", "10.0.0.0/24");
    so("written", || is_ready(&world, "Network", "front", "True/AsSpecified")).await;
    assert_eq!(switches(&client), ["shop/front"]);
    let network = world.api.read::<Network>(Some(NAMESPACE), "front").unwrap();
    assert_eq!(network.status.unwrap().mtu, Some(1442));

    world.instance("web-1", Some("a"), |spec| {
        spec.interfaces = vec![interface("front", None)];
    });
    let port = || world.api.read::<Port>(Some(NAMESPACE), "web-1-front");
    so("a Port", || port().is_some()).await;
    let uid = port().unwrap().metadata.uid.unwrap();
    so("its row", || {
        names(&client, LogicalSwitchPort::SPEC.name).contains(&uid)
    })
    .await;
    assert_eq!(port().unwrap().status, None, "there is nothing to say yet");
    northd(&client, &uid, true).await;
    so("up", || is_ready(&world, "Port", "web-1-front", "True/PortUp")).await;
    northd(&client, &uid, false).await;
    so("down", || is_ready(&world, "Port", "web-1-front", "False/PortDown")).await;

    world.api.delete::<Instance>(Some(NAMESPACE), "web-1");
    world.agent_lets_go("web-1");
    so("the row is gone", || {
        !names(&client, LogicalSwitchPort::SPEC.name).contains(&uid)
    })
    .await;
    world.api.delete::<Network>(Some(NAMESPACE), "front");
    so("no switch is left", || {
        // A loop that has not heard yet that the Instance is gone may have made its Port anew.
        world.api.collect_garbage();
        switches(&client).is_empty()
    })
    .await;
}

#[tokio::test]
async fn what_others_take_away_comes_back_and_what_they_add_stays() {
    let server = Server::start().unwrap();
    let world = world(&server);
    let client = client(&server).await;
    world.network("front", "10.0.0.0/24");
    so("written", || switches(&client) == ["shop/front"]).await;
    let mut theirs = Desired::new("somebody else");
    let row = LogicalSwitch {
        name: "theirs".into(),
        ..LogicalSwitch::default()
    };
    theirs.insert("s", &row);
    let plan = client.read(|replica| virga_ovsdb::reconcile::plan(replica, &theirs));
    client.transact(&plan.operations).await.unwrap();
    let ours = client.read(|replica| {
        let mut rows = replica.rows(LogicalSwitch::SPEC.name);
        rows.find(|row| row.name() == Some("shop/front")).unwrap().uuid()
    });
    let delete = Operation::Delete {
        table: LogicalSwitch::SPEC.name.into(),
        conditions: vec![Condition::row(ours)],
    };
    client.transact(&[delete]).await.unwrap();
    so("it is back", || {
        let counts = switches(&client).into_iter().fold(BTreeMap::new(), |mut counts, name| {
            *counts.entry(name).or_insert(0) += 1;
            counts
        });
        counts == BTreeMap::from([("shop/front".to_owned(), 1), ("theirs".to_owned(), 1)])
    })
    .await;
}

#[tokio::test]
async fn while_the_database_is_away_new_networks_wait_and_an_empty_one_is_filled() {
    let mut server = Server::start().unwrap();
    let world = world(&server);
    world.network("front", "10.0.0.0/24");
    so("written", || is_ready(&world, "Network", "front", "True/AsSpecified")).await;
    server.empty().unwrap();
    world.network("back", "10.0.1.0/24");
    so("it is said", || {
        is_ready(&world, "Network", "back", "False/NorthboundUnavailable")
    })
    .await;
    assert!(
        is_ready(&world, "Network", "front", "True/AsSpecified"),
        "it goes on to work"
    );
    server.boot().unwrap();
    so("both are there", || {
        is_ready(&world, "Network", "back", "True/AsSpecified")
    })
    .await;
    let client = client(&server).await;
    let mut there = switches(&client);
    there.sort();
    assert_eq!(there, ["shop/back", "shop/front"]);
}

#[tokio::test]
async fn a_router_is_written_with_the_hosts_that_there_are_and_leaves_nothing() {
    let ovn = Northd::start().unwrap();
    let host = |name: &str, tunnels: &str| {
        ovn.sbctl(&["chassis-add", name, "geneve", tunnels]).unwrap();
        ovn.sbctl(&["set", "Chassis", name, "other_config:ovn-bridge-mappings=physnet:br-ex"])
            .unwrap();
    };
    host("node-1", "192.0.2.1");
    let world = world_with(ovn.northbound(), Some(ovn.southbound()));
    let client = client(ovn.northbound()).await;
    world.network("front", "10.0.0.0/24");
    world.outside("10.200.0.0/24", |_| ());
    let spec = serde_json::json!({
        "networks": [{"network": "front"}], "externalGateway": {"network": {"name": "public"}},
    });
    let edge = Router::new("edge", serde_json::from_value(spec).unwrap());
    world.api.create(&crate::fixtures::in_shop(edge));
    let status = || {
        world
            .api
            .read::<Router>(Some(NAMESPACE), "edge")
            .unwrap()
            .status
            .unwrap()
    };
    so("Ready", || is_ready(&world, "Router", "edge", "True/AsSpecified")).await;
    so("a gateway", || status().gateway_chassis == ["node-1"]).await;
    assert_eq!(status().external_addresses, ["10.200.0.2"]);
    assert_eq!(status().networks[0].addresses, ["10.0.0.1"]);
    assert_eq!(names(&client, LogicalRouter::SPEC.name), ["shop/edge"]);

    // Another host, without anybody touching an object.
    host("node-2", "192.0.2.2");
    so("two gateways", || status().gateway_chassis.len() == 2).await;
    assert_eq!(names(&client, GatewayChassis::SPEC.name).len(), 2);

    // An address outside for a guest, told of by another task than the one that gave it.
    world.instance("web-1", Some("a"), |spec| {
        spec.interfaces = vec![interface("front", None)];
    });
    let spec = serde_json::json!({"network": {"name": "public"}, "instance": "web-1"});
    let web = FloatingIP::new("web", serde_json::from_value(spec).unwrap());
    world.api.create(&crate::fixtures::in_shop(web));
    so("it leads to the guest", || {
        is_ready(&world, "FloatingIP", "web", "True/AsSpecified")
    })
    .await;
    let web = world
        .api
        .read::<FloatingIP>(Some(NAMESPACE), "web")
        .unwrap()
        .status
        .unwrap();
    assert_eq!(
        [web.address, web.fixed_address, web.port, web.router].map(Option::unwrap),
        ["10.200.0.3", "10.0.0.2", "web-1-front", "edge"]
    );
    // One for the way out, one for the guest.
    assert_eq!(client.read(|replica| replica.rows(Nat::SPEC.name).count()), 2);
    world.api.delete::<FloatingIP>(Some(NAMESPACE), "web");
    so("the address leads nowhere", || {
        client.read(|replica| replica.rows(Nat::SPEC.name).count()) == 1
            && world.api.read::<FloatingIP>(Some(NAMESPACE), "web").is_none()
    })
    .await;
    world.api.delete::<Instance>(Some(NAMESPACE), "web-1");
    world.agent_lets_go("web-1");

    world.api.delete::<Router>(Some(NAMESPACE), "edge");
    so("no row is left", || {
        names(&client, LogicalRouter::SPEC.name).is_empty() && names(&client, GatewayChassis::SPEC.name).is_empty()
    })
    .await;
    so("the object is gone", || {
        world.api.read::<Router>(Some(NAMESPACE), "edge").is_none() && world.api.list::<Port>().is_empty()
    })
    .await;
}
