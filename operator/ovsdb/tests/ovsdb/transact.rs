//! Transactions, their errors, and what the replica shows of them.

use std::time::Duration;

use virga_ovsdb::{
    client::{Error, News},
    operation::{Columns, Comparison, Condition, Mutation, Mutator, Operation, compare_and_set},
    outcome::{Done, Reason},
    value::{Atom, Value},
};

use crate::server::{Server, connect, rows};

pub fn text(text: &str) -> Value {
    Value::Atom(text.into())
}

pub fn number(number: i64) -> Value {
    Value::Atom(Atom::Integer(number))
}

pub fn named(name: &str) -> Value {
    Value::Set([Atom::Named(name.into())].into_iter().collect())
}

pub fn insert(table: &str, name: Option<&str>, row: &[(&str, Value)]) -> Operation {
    Operation::Insert {
        table: table.into(),
        row: columns(row),
        name: name.map(Into::into),
    }
}

pub fn columns(row: &[(&str, Value)]) -> Columns {
    row.iter()
        .map(|(column, value)| ((*column).into(), value.clone()))
        .collect()
}

fn by_name(name: &str) -> Vec<Condition> {
    vec![Condition::new("name", Comparison::Equal, text(name))]
}

async fn reason(client: &virga_ovsdb::Client, operations: &[Operation]) -> Reason {
    match client.transact(operations).await {
        Err(Error::Refused(refused)) => refused.reason,
        other => panic!("it should be refused: {other:?}"),
    }
}

#[tokio::test]
async fn each_operation_has_its_result_and_the_replica_has_it_when_the_call_returns() {
    let server = Server::start();
    let client = connect(&server).await;
    let mut changes = client.changes();
    let done = client
        .transact(&[
            insert("Logical_Switch_Port", Some("port"), &[("name", text("p"))]),
            insert(
                "Logical_Switch",
                None,
                &[("name", text("net")), ("ports", named("port"))],
            ),
            Operation::Comment("a first switch".into()),
        ])
        .await
        .unwrap();
    let [Done::Inserted(port), Done::Inserted(switch), Done::Nothing] = done[..] else {
        panic!("{done:?}");
    };
    client.read(|replica| {
        let row = replica.row("Logical_Switch", switch).unwrap();
        assert_eq!(row.name(), Some("net"));
        assert_eq!(
            row.value("ports"),
            Some(&Value::Set([Atom::Uuid(port)].into_iter().collect()))
        );
    });
    assert_eq!(rows(&mut changes).await.len(), 2);

    let done = client
        .transact(&[
            Operation::Update {
                table: "Logical_Switch".into(),
                conditions: by_name("net"),
                row: columns(&[("name", text("net-2"))]),
            },
            Operation::Mutate {
                table: "Logical_Switch".into(),
                conditions: by_name("net-2"),
                mutations: vec![Mutation::new(
                    "other_config",
                    Mutator::Insert,
                    Value::Map([("a".into(), "b".into())].into_iter().collect()),
                )],
            },
            Operation::Select {
                table: "Logical_Switch".into(),
                conditions: by_name("net-2"),
                columns: vec!["name".into()],
            },
            Operation::Delete {
                table: "Logical_Switch".into(),
                conditions: by_name("nobody"),
            },
        ])
        .await
        .unwrap();
    let [Done::Count(1), Done::Count(1), Done::Rows(found), Done::Count(0)] = &done[..] else {
        panic!("{done:?}");
    };
    assert_eq!(found[0]["name"], "net-2");
    let change = rows(&mut changes).await.remove(0);
    let names = (change.old.unwrap(), change.new.unwrap());
    assert_eq!((names.0.name(), names.1.name()), (Some("net"), Some("net-2")));

    let switch = Operation::Delete {
        table: "Logical_Switch".into(),
        conditions: vec![Condition::row(switch)],
    };
    client.transact(&[switch]).await.unwrap();
    // The port had nothing that held it.
    assert!(client.read(virga_ovsdb::replica::Replica::is_empty));
}

#[tokio::test]
async fn the_errors_of_the_protocol_are_told_apart() {
    let server = Server::start();
    let client = connect(&server).await;
    client
        .transact(&[insert("NB_Global", None, &[("nb_cfg", number(1))])])
        .await
        .unwrap();
    let mutate = |mutator, with| Operation::Mutate {
        table: "NB_Global".into(),
        conditions: Vec::new(),
        mutations: vec![Mutation::new("nb_cfg", mutator, number(with))],
    };
    let dangling = Value::Set([Atom::Uuid(uuid::Uuid::from_u128(7))].into_iter().collect());
    let group = |name: &str| insert("Port_Group", None, &[("name", text(name))]);
    let assert = Operation::Assert { lock: "ours".into() };
    for (expected, operations) in [
        (
            Reason::Constraint,
            vec![insert("ACL", None, &[("priority", number(99_999))])],
        ),
        (Reason::Constraint, vec![group("one"), group("one")]),
        (
            Reason::ReferentialIntegrity,
            vec![insert("Logical_Switch", None, &[("ports", dangling)])],
        ),
        (Reason::NotOwner, vec![assert]),
        (Reason::Aborted, vec![group("one"), Operation::Abort]),
        (Reason::Domain, vec![mutate(Mutator::Divide, 0)]),
        (Reason::Range, vec![mutate(Mutator::Add, i64::MAX)]),
        (
            Reason::DuplicateName,
            vec![
                insert("Port_Group", Some("x"), &[("name", text("a"))]),
                insert("Port_Group", Some("x"), &[("name", text("b"))]),
            ],
        ),
        (
            Reason::Syntax,
            vec![insert("Port_Group", None, &[("nonsense", text("a"))])],
        ),
    ] {
        assert_eq!(reason(&client, &operations).await, expected, "{operations:?}");
    }
    assert_eq!(client.read(|replica| replica.rows("Port_Group").count()), 0);
}

#[tokio::test]
async fn compare_and_set_lets_one_of_two_pass() {
    let server = Server::start();
    let client = connect(&server).await;
    let done = client
        .transact(&[insert("Address_Set", None, &[("name", text("a"))])])
        .await
        .unwrap();
    let Done::Inserted(row) = done[0] else {
        panic!("{done:?}");
    };
    let rename = |from: &str, to: &str| {
        let (read, new) = (columns(&[("name", text(from))]), columns(&[("name", text(to))]));
        compare_and_set("Address_Set", row, read, new)
    };
    client.transact(&rename("a", "b")).await.unwrap();
    assert_eq!(reason(&client, &rename("a", "c")).await, Reason::TimedOut);
    client.read(|replica| assert_eq!(replica.row("Address_Set", row).unwrap().name(), Some("b")));
}

#[tokio::test]
async fn a_wait_passes_when_somebody_else_makes_it_true() {
    let server = Server::start();
    let (waiting, other) = (connect(&server).await, connect(&server).await);
    let there = Operation::Wait {
        table: "Address_Set".into(),
        conditions: by_name("late"),
        columns: vec!["name".into()],
        equal: true,
        rows: vec![columns(&[("name", text("late"))])],
        limit: Duration::from_secs(15),
    };
    let wait = async { waiting.transact(&[there]).await };
    let write = async {
        other
            .transact(&[insert("Address_Set", None, &[("name", text("late"))])])
            .await
    };
    let (waited, written) = tokio::join!(wait, write);
    assert_eq!(waited.unwrap(), [Done::Nothing]);
    written.unwrap();
}

#[tokio::test]
async fn many_transactions_at_once_are_answered_each() {
    let server = Server::start();
    let client = connect(&server).await;
    let mut changes = client.changes();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..300 {
        let client = client.clone();
        tasks.spawn(async move {
            let name = format!("set-{number}");
            client
                .transact(&[insert("Address_Set", None, &[("name", text(&name))])])
                .await
        });
    }
    for done in tasks.join_all().await {
        done.unwrap();
    }
    assert_eq!(client.read(|replica| replica.rows("Address_Set").count()), 300);
    // Who did not listen meanwhile is told how much was missed, and then the rest.
    assert!(matches!(changes.next().await, Some(News::Missed(1..))));
    assert!(matches!(changes.next().await, Some(News::Rows(_))));
    client.shutdown().await;
    assert!(matches!(client.transact(&[]).await, Err(Error::Stopped)));
}
