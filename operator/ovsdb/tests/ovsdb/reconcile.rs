//! Plans: on the model for many worlds, and on a real server for some.

use std::collections::BTreeSet;

use proptest::prelude::*;
use uuid::Uuid;
use virga_ovsdb::{
    Client,
    operation::{Mutation, Mutator, Operation},
    reconcile::{Desired, KEY, OWNER, Plan, plan},
    replica::Replica,
    value::{Atom, Set, Value},
};

use crate::{
    model::Model,
    server::{Server, connect},
    transact::{insert, named, text},
    world::{OURS, World, key_of},
};

pub fn marks(owner: &str, key: &str) -> Value {
    Value::Map(
        [(OWNER.into(), owner.into()), (KEY.into(), key.into())]
            .into_iter()
            .collect(),
    )
}

/// What other people have: some of it is called like ours, some carries another owner's marks.
fn foreign() -> Vec<Operation> {
    let other = |key: &str| ("external_ids", marks("somebody-else", key));
    vec![
        insert(
            "Logical_Switch_Port",
            Some("port"),
            &[("name", text("theirs")), other("port-0")],
        ),
        insert(
            "Logical_Switch",
            None,
            &[("name", text("net-0")), ("ports", named("port")), other("switch-0")],
        ),
        insert(
            "ACL",
            Some("acl"),
            &[
                ("match", text("1")),
                ("direction", text("to-lport")),
                ("action", text("drop")),
            ],
        ),
        insert(
            "Port_Group",
            None,
            &[
                ("name", text("their_group")),
                ("acls", named("acl")),
                ("ports", named("port")),
            ],
        ),
        insert("Load_Balancer", None, &[("name", text("balancer"))]),
        insert("Load_Balancer_Group", None, &[("name", text("lbg-0"))]),
        insert("DHCP_Options", None, &[("cidr", text("10.0.0.0/24"))]),
        insert("Logical_Router", None, &[("name", text("router"))]),
    ]
}

/// All rows that are not ours, as text.
fn others(replica: &Replica) -> BTreeSet<String> {
    let tables = replica.tables().filter(|table| table.spec.name != "NB_Global");
    let rows = tables.flat_map(|table| replica.rows(table.spec.name));
    rows.filter(|row| key_of(row).is_none())
        .map(|row| {
            format!(
                "{} {:?}",
                row.uuid(),
                row.values().map(|(_, value)| value).collect::<Vec<_>>()
            )
        })
        .collect()
}

/// One pass, which another one has nothing to add to.
pub fn pass(model: &mut Model, desired: &Desired) -> Plan {
    let first = plan(&model.replica(), desired);
    model
        .transact(&first.operations)
        .unwrap_or_else(|error| panic!("{error}\n{:#?}", first.operations));
    let second = plan(&model.replica(), desired);
    assert!(
        second.is_empty(),
        "{:#?}\nafter {:#?}",
        second.operations,
        first.operations
    );
    assert_eq!(first.problems, second.problems);
    first
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn from_any_world_to_any_other_is_one_transaction_and_then_nothing(
        seeds in proptest::collection::vec(any::<u64>(), 1..4),
    ) {
        let mut model = Model::new();
        model.transact(&foreign()).unwrap();
        let theirs = others(&model.replica());
        for seed in seeds {
            let world = World::from_seed(seed);
            let plan = pass(&mut model, &world.desired());
            prop_assert_eq!(&plan.problems, &Vec::new());
            world.verify(&model.replica());
            prop_assert_eq!(&others(&model.replica()), &theirs);
        }
        pass(&mut model, &Desired::new(OURS));
        World::default().verify(&model.replica());
        prop_assert_eq!(&others(&model.replica()), &theirs);
    }
}

/// Puts other people's rows into ours, and makes some of them need ours.
fn intrude(model: &Model, seed: u64) -> Vec<Operation> {
    let rng = &mut fastrand::Rng::with_seed(seed);
    let replica = model.replica();
    let mut operations = Vec::new();
    let mut ours = |table: &str| -> Vec<Uuid> {
        let rows = replica.rows(table).filter(|row| key_of(row).is_some());
        rows.filter(|_| rng.bool()).map(|row| row.uuid()).collect()
    };
    let set = |uuid: Uuid| Value::Set(Set::from_iter([Atom::Uuid(uuid)]));
    let named_text = |name: &str| ("name", text(name));
    for (at, switch) in ours("Logical_Switch").into_iter().enumerate() {
        let name = format!("intruder{at}");
        operations.push(insert("Logical_Switch_Port", Some(&name), &[named_text(&name)]));
        operations.push(put("Logical_Switch", switch, "ports", named(&name)));
    }
    for (at, port) in ours("Logical_Router_Port").into_iter().enumerate() {
        let name = format!("gateway{at}");
        operations.push(insert("Gateway_Chassis", Some(&name), &[named_text(&name)]));
        operations.push(put("Logical_Router_Port", port, "gateway_chassis", named(&name)));
    }
    for (at, wanted) in ours("Address_Set").into_iter().enumerate() {
        let name = format!("nat{at}");
        let row = [("type", text("snat")), ("allowed_ext_ips", set(wanted))];
        operations.push(insert("NAT", Some(&name), &row));
        operations.push(insert("Logical_Router", None, &[("nat", named(&name))]));
    }
    for (at, wanted) in ours("HA_Chassis_Group").into_iter().enumerate() {
        let name = format!("needy{at}");
        let row = [named_text(&name), ("ha_chassis_group", set(wanted))];
        operations.push(insert("Logical_Switch_Port", Some(&name), &row));
        operations.push(insert("Logical_Switch", None, &[("ports", named(&name))]));
    }
    for (at, port) in ours("Logical_Switch_Port").into_iter().enumerate() {
        operations.push(insert(
            "Logical_Switch",
            None,
            &[named_text(&format!("thief{at}")), ("ports", set(port))],
        ));
    }
    operations
}

/// What a world lacks, by chance: rows are then part of nothing, or refer to nothing.
fn lacks(seed: u64) -> Vec<&'static str> {
    let rng = &mut fastrand::Rng::with_seed(seed);
    let tables = virga_ovsdb::northbound::TABLES.iter().map(|spec| spec.name);
    tables.filter(|_| rng.f32() < 0.2).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn among_intruders_and_with_half_of_a_world_it_is_still_one_transaction(
        first in any::<u64>(),
        second in any::<u64>(),
        chance in any::<u64>(),
    ) {
        let mut model = Model::new();
        model.transact(&foreign()).unwrap();
        pass(&mut model, &World::from_seed(first).desired());
        let intrusion = intrude(&model, chance);
        model.transact(&intrusion).unwrap();
        let theirs = others(&model.replica());
        for without in [lacks(chance), Vec::new()] {
            pass(&mut model, &World::from_seed(second).desired_without(&without));
            prop_assert_eq!(&others(&model.replica()), &theirs);
        }
        pass(&mut model, &Desired::new(OURS));
        prop_assert_eq!(&others(&model.replica()), &theirs);
    }
}

/// One pass on a real server.
async fn settle(client: &Client, desired: &Desired) {
    let first = client.read(|replica| plan(replica, desired));
    if !first.is_empty() {
        let done = client.transact_in(first.epoch, &first.operations).await;
        done.unwrap_or_else(|error| panic!("{error:?}\n{:?}\n{:?}", first.problems, first.operations));
    }
    let second = client.read(|replica| plan(replica, desired));
    assert!(second.is_empty(), "{:#?}", second.operations);
}

#[tokio::test]
async fn a_real_server_takes_them_among_intruders_too() {
    let server = Server::start();
    let client = connect(&server).await;
    for seed in 0..25 {
        let (world, next) = (World::from_seed(seed), World::from_seed(seed + 1000));
        settle(&client, &world.desired()).await;
        // The model says which of the rows a seed intrudes into.
        let mut model = Model::new();
        client.read(|replica| model.copy(replica));
        client.transact(&intrude(&model, seed)).await.unwrap();
        let theirs = client.read(others);
        for desired in [next.desired_without(&lacks(seed)), Desired::new(OURS)] {
            settle(&client, &desired).await;
            assert_eq!(client.read(others), theirs, "seed {seed}");
        }
        // All that is left is somebody else's, or kept for somebody else.
        let all = virga_ovsdb::northbound::TABLES.map(|spec| Operation::Delete {
            table: spec.name.into(),
            conditions: Vec::new(),
        });
        client.transact(&all).await.unwrap();
    }
}

#[tokio::test]
async fn a_real_server_takes_the_same_plans_and_has_nothing_left_to_do() {
    let server = Server::start();
    let client = connect(&server).await;
    client.transact(&foreign()).await.unwrap();
    let theirs = client.read(others);
    for seed in 0..40 {
        // Every fifth one has nothing.
        let world = if seed % 5 == 4 {
            World::default()
        } else {
            World::from_seed(seed)
        };
        let desired = world.desired();
        assert_eq!(client.read(|replica| plan(replica, &desired)).problems, []);
        settle(&client, &desired).await;
        client.read(|replica| {
            world.verify(replica);
            assert_eq!(others(replica), theirs);
        });
    }
}

pub fn put(table: &str, row: Uuid, column: &str, value: Value) -> Operation {
    Operation::Mutate {
        table: table.into(),
        conditions: vec![virga_ovsdb::operation::Condition::row(row)],
        mutations: vec![Mutation::new(column, Mutator::Insert, value)],
    }
}
