//! A server that dies, hangs, comes back empty, or does not write.

use std::time::Duration;

use virga_ovsdb::{
    Client, Options,
    client::{Error, State},
    outcome::Reason,
    reconcile,
};

use crate::{
    server::{LONG, Server, connect, down, options, replica, rows, state, synced},
    transact::{insert, text},
    world::World,
};

#[tokio::test]
async fn a_server_that_was_killed_is_found_again_with_all_that_came_meanwhile() {
    let mut server = Server::start();
    let client = connect(&server).await;
    let add = |name: &str| [insert("Address_Set", None, &[("name", text(name))])];
    client.transact(&add("before")).await.unwrap();
    let epoch = synced(&client).await;
    let mut changes = client.changes();

    server.kill();
    down(&client, "").await;
    assert!(matches!(client.transact(&add("x")).await, Err(Error::NotConnected(_))));
    // What was known is still there to be read.
    assert_eq!(client.read(|replica| replica.rows("Address_Set").count()), 1);
    server.boot();
    let other = connect(&server).await;
    other.transact(&add("meanwhile")).await.unwrap();
    replica(&client, &mut changes, |replica| {
        replica.rows("Address_Set").count() == 2
    })
    .await;
    let now = synced(&client).await;
    assert!(now > epoch);
    let stale = client.transact_in(epoch, &add("stale")).await;
    assert!(matches!(stale, Err(Error::Stale { .. })), "{stale:?}");
    client.transact_in(now, &add("after")).await.unwrap();
}

#[tokio::test]
async fn the_same_rows_after_a_reconnect_are_no_news() {
    let mut server = Server::start();
    let client = connect(&server).await;
    let add = |name: &str| [insert("Address_Set", None, &[("name", text(name))])];
    client.transact(&add("old")).await.unwrap();
    let mut changes = client.changes();
    server.kill();
    down(&client, "").await;
    server.boot();
    synced(&client).await;
    client.transact(&add("new")).await.unwrap();
    let news = rows(&mut changes).await;
    assert_eq!(news.len(), 1, "{news:?}");
    assert_eq!(news[0].new.as_ref().unwrap().name(), Some("new"));
}

#[tokio::test]
async fn an_emptied_database_is_filled_again() {
    let mut server = Server::start();
    let client = connect(&server).await;
    let desired = World::from_seed(3).desired();
    let fill = async || {
        let plan = client.read(|replica| reconcile::plan(replica, &desired));
        client.transact_in(plan.epoch, &plan.operations).await.unwrap();
        plan.inserted
    };
    let first = fill().await;
    server.empty();
    down(&client, "").await;
    server.boot();
    synced(&client).await;
    assert!(client.read(virga_ovsdb::replica::Replica::is_empty));
    assert_eq!(fill().await, first);
    assert!(client.read(|replica| reconcile::plan(replica, &desired)).is_empty());
}

#[tokio::test]
async fn a_server_that_hangs_is_left_and_its_transaction_is_uncertain() {
    let server = Server::start();
    let client = Client::start(Options {
        request_timeout: Duration::from_millis(500),
        ..options(vec![server.socket()])
    });
    synced(&client).await;
    server.signal("STOP");
    let answer = client
        .transact(&[insert("Address_Set", None, &[("name", text("a"))])])
        .await;
    assert!(matches!(answer, Err(Error::Uncertain(_))), "{answer:?}");
    let error = down(&client, "").await;
    assert!(!error.is_empty());
    server.signal("CONT");
    synced(&client).await;
}

#[tokio::test]
async fn a_silent_server_is_probed_and_left() {
    let server = Server::start();
    let client = Client::start(Options {
        probe_interval: Duration::from_millis(200),
        request_timeout: Duration::from_millis(500),
        ..options(vec![server.socket()])
    });
    let epoch = synced(&client).await;
    server.signal("STOP");
    state(
        &client,
        |state| matches!(state, State::Down { error } if error.contains("sign of life")),
    )
    .await;
    server.signal("CONT");
    assert!(synced(&client).await > epoch);
}

#[tokio::test]
async fn a_replica_that_does_not_write_says_so() {
    let active = Server::start();
    let writer = connect(&active).await;
    writer
        .transact(&[insert("Address_Set", None, &[("name", text("a"))])])
        .await
        .unwrap();
    let backup = Server::start_with(&[&format!("--sync-from={}", active.socket())]);
    let reader = connect(&backup).await;
    let mut changes = reader.changes();
    replica(&reader, &mut changes, |replica| {
        replica.rows("Address_Set").count() == 1
    })
    .await;
    let answer = reader
        .transact(&[insert("Address_Set", None, &[("name", text("b"))])])
        .await;
    match answer {
        Err(Error::Refused(refused)) => {
            assert_eq!(refused.reason, Reason::ReadOnly, "{refused}");
            assert!(refused.reason.is_transient());
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_client_without_a_server_says_why_and_ends_at_once() {
    let folder = tempfile::TempDir::new().unwrap();
    let remote = virga_ovsdb::remote::Remote::Unix(folder.path().join("nobody"));
    let client = Client::start(options(vec![remote]));
    let error = down(&client, "connecting to unix:").await;
    assert!(error.contains("No such file"), "{error}");
    tokio::time::timeout(LONG, client.shutdown()).await.unwrap();
    assert_eq!(*client.state().borrow(), State::Stopped);
}
