//! What does a real ovsdb-server do with our transactions?

use virga_ovn::of_problem;
use virga_ovsdb::{
    Client,
    northbound::{LogicalSwitch, LogicalSwitchPort},
    operation::Operation,
    reconcile::{Desired, plan},
    table::Table as _,
    testing::Server,
};

use crate::{
    objects::{cloud, network, port, uid},
    server::{client, write},
};

fn names(client: &Client, table: &str) -> Vec<String> {
    let mut names: Vec<String> = client.read(|replica| {
        let rows = replica.rows(table);
        rows.map(|row| row.name().unwrap_or_default().to_owned()).collect()
    });
    names.sort();
    names
}

/// Puts in a row as somebody else would.
async fn foreign(client: &Client, desired: impl FnOnce(&mut Desired)) {
    let mut theirs = Desired::new("somebody else");
    desired(&mut theirs);
    let plan = client.read(|replica| plan(replica, &theirs));
    client.transact_in(plan.epoch, &plan.operations).await.unwrap();
}

#[tokio::test]
async fn a_part_is_written_and_the_rest_left_as_it_is() {
    let server = Server::start().unwrap();
    let client = client(&server).await;
    let mut cloud = cloud();
    let networks = [network(1, "a", |_| {}), network(2, "b", |_| {})];
    let ports = [port(1, "a", &["10.0.0.5"]), port(2, "b", &["10.0.0.5"])];
    cloud.reset(&networks, &ports, [], [], []);
    let all = write(&client, &cloud.take()).await;
    // Each: a switch, its service, DHCP, names, a port, and what keeps it closed: a group with five rules.
    assert_eq!((all.inserted, all.updated, all.removed), (22, 0, 0));

    cloud.set_port(&port(3, "a", &["10.0.0.6"]));
    let more = write(&client, &cloud.take()).await;
    assert_eq!(
        (more.inserted, more.updated, more.removed),
        (1, 3, 0),
        "port, switch, names, group"
    );

    cloud.remove_network(&networks[1]);
    cloud.remove_port(&ports[1]);
    let less = write(&client, &cloud.take()).await;
    assert_eq!((less.inserted, less.updated, less.removed), (0, 0, 11));
    assert_eq!(names(&client, LogicalSwitch::SPEC.name), ["shop/a"]);

    // As after a restart.
    cloud.touch_everything();
    assert!(write(&client, &cloud.take()).await.is_empty());
}

#[tokio::test]
async fn what_is_invalid_now_keeps_the_rows_that_it_had() {
    let server = Server::start().unwrap();
    let client = client(&server).await;
    let mut cloud = cloud();
    cloud.set_network(&network(1, "a", |_| {}));
    cloud.set_port(&port(1, "a", &["10.0.0.5"]));
    write(&client, &cloud.take()).await;
    let before = names(&client, LogicalSwitchPort::SPEC.name);
    cloud.set_network(&network(1, "a", |spec| spec.mtu = 9000));
    cloud.touch_everything();
    let wanted = cloud.take();
    assert_eq!(wanted.refused.len(), 1);
    assert!(write(&client, &wanted).await.is_empty());
    assert_eq!(names(&client, LogicalSwitchPort::SPEC.name), before);
}

#[tokio::test]
async fn a_row_of_somebody_else_in_the_way_is_told_of_its_port_and_stops_no_other() {
    let server = Server::start().unwrap();
    let client = client(&server).await;
    let (first, second) = (port(1, "a", &["10.0.0.5"]), port(2, "a", &["10.0.0.6"]));
    let taken = first.metadata.uid.clone().unwrap();
    foreign(&client, |theirs| {
        let row = LogicalSwitchPort {
            name: taken.clone(),
            ..LogicalSwitchPort::default()
        };
        let ports = [theirs.insert("p", &row)].into();
        let switch = LogicalSwitch {
            name: "theirs".into(),
            ports,
            ..LogicalSwitch::default()
        };
        theirs.insert("s", &switch);
    })
    .await;
    let mut cloud = cloud();
    cloud.reset([&network(1, "a", |_| {})], [&first, &second], [], [], []);
    let plan = write(&client, &cloud.take()).await;
    let about: Vec<_> = plan.problems.iter().map(of_problem).collect();
    assert!(!about.is_empty() && about.iter().all(|about| about.unwrap().network == uid(1)));
    assert!(
        about.iter().any(|about| about.unwrap().port.is_some()),
        "{:?}",
        plan.problems
    );
    let there = names(&client, LogicalSwitchPort::SPEC.name);
    assert!(there.contains(second.metadata.uid.as_ref().unwrap()), "{there:?}");
}

#[tokio::test]
async fn drift_is_mended_and_what_others_added_stays() {
    let server = Server::start().unwrap();
    let client = client(&server).await;
    let mut cloud = cloud();
    cloud.reset([&network(1, "a", |_| {})], [&port(1, "a", &["10.0.0.5"])], [], [], []);
    write(&client, &cloud.take()).await;
    let port = client.read(|replica| {
        let mut ports = replica.rows(LogicalSwitchPort::SPEC.name);
        ports
            .find(|row| row.name().unwrap_or_default().len() == 36)
            .unwrap()
            .uuid()
    });
    let condition = virga_ovsdb::operation::Condition::row(port);
    client
        .transact(&[Operation::Delete {
            table: LogicalSwitchPort::SPEC.name.into(),
            conditions: vec![condition],
        }])
        .await
        .unwrap_err();
    // Only out of its switch can it go.
    let switch = client.read(|replica| replica.rows(LogicalSwitch::SPEC.name).next().unwrap().uuid());
    client
        .transact(&[Operation::Update {
            table: LogicalSwitch::SPEC.name.into(),
            conditions: vec![virga_ovsdb::operation::Condition::row(switch)],
            row: vec![(
                "ports".into(),
                virga_ovsdb::value::Value::Set(virga_ovsdb::value::Set::default()),
            )],
        }])
        .await
        .unwrap();
    assert_eq!(names(&client, LogicalSwitchPort::SPEC.name).len(), 0);
    cloud.touch_everything();
    let mended = write(&client, &cloud.take()).await;
    assert_eq!(
        (mended.inserted, mended.updated),
        (2, 2),
        "the port, the service, the switch, the port's group"
    );
}
