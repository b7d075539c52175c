//! A RAFT cluster of three: who leads is found, and found again.

use tempfile::TempDir;
use virga_ovsdb::{Client, client::State, northbound::DATABASE, remote::Remote};

use crate::{
    server::{SCHEMA, Server, options, replica, rows, state, synced, text as path, tool},
    transact::{insert, text},
};

fn cluster() -> Vec<Server> {
    let folders: Vec<TempDir> = (0..3).map(|_| TempDir::new().unwrap()).collect();
    let database = |at: usize| folders[at].path().join("nb.db");
    let raft = |at: usize| format!("unix:{}", path(&folders[at].path().join("raft")));
    tool("ovsdb-tool", &["create-cluster", path(&database(0)), SCHEMA, &raft(0)]);
    for at in 1..3 {
        tool(
            "ovsdb-tool",
            &["join-cluster", path(&database(at)), DATABASE, &raft(at), &raft(0)],
        );
    }
    let mut servers: Vec<Server> = folders.into_iter().map(|folder| Server::stopped(folder, &[])).collect();
    for server in &mut servers {
        server.boot();
    }
    servers
}

fn remotes(servers: &[Server]) -> Vec<Remote> {
    servers.iter().map(Server::socket).collect()
}

fn leader(state: &State, servers: &[Server]) -> usize {
    let State::Synced { remote, .. } = state else {
        panic!("{state:?}");
    };
    servers.iter().position(|server| server.socket() == *remote).unwrap()
}

#[tokio::test]
async fn when_the_leader_dies_the_next_one_is_found_and_only_what_is_new_is_sent() {
    let mut servers = cluster();
    // Until all have joined, a majority may be one.
    for server in &servers {
        let mut any = options(vec![server.socket()]);
        any.leader_only = false;
        synced(&Client::start(any)).await;
    }
    let client = Client::start(options(remotes(&servers)));
    synced(&client).await;
    let add = |name: &str| [insert("Address_Set", None, &[("name", text(name))])];
    client.transact(&add("first")).await.unwrap();
    let mut changes = client.changes();

    let before = client.state().borrow().clone();
    let first = leader(&before, &servers);
    servers[first].kill();
    let now = state(
        &client,
        |state| matches!(state, State::Synced { epoch, .. } if *epoch > 1),
    )
    .await;
    let second = leader(&now, &servers);
    assert_ne!(first, second);
    assert!(matches!(now, State::Synced { resumed: true, .. }), "{now:?}");
    client.transact(&add("second")).await.unwrap();
    let news = rows(&mut changes).await;
    assert_eq!(news.len(), 1, "{news:?}");

    // The one that was away catches up.
    servers[first].boot();
    let mut any = options(vec![servers[first].socket()]);
    any.leader_only = false;
    let behind = Client::start(any);
    synced(&behind).await;
    let mut changes = behind.changes();
    replica(&behind, &mut changes, |replica| {
        replica.rows("Address_Set").count() == 2
    })
    .await;
}

#[tokio::test]
async fn a_leader_that_loses_its_majority_is_left() {
    let mut servers = cluster();
    for server in &servers {
        let mut any = options(vec![server.socket()]);
        any.leader_only = false;
        synced(&Client::start(any)).await;
    }
    let client = Client::start(options(remotes(&servers)));
    synced(&client).await;
    let lead = leader(&client.state().borrow().clone(), &servers);
    for at in (0..3).filter(|at| *at != lead) {
        servers[at].kill();
    }
    state(&client, |state| matches!(state, State::Down { .. })).await;
    for at in (0..3).filter(|at| *at != lead) {
        servers[at].boot();
    }
    synced(&client).await;
}

#[tokio::test]
async fn a_follower_alone_will_not_do() {
    let servers = cluster();
    let client = Client::start(options(remotes(&servers)));
    synced(&client).await;
    let lead = leader(&client.state().borrow().clone(), &servers);
    let follower = Client::start(options(vec![servers[(lead + 1) % 3].socket()]));
    state(
        &follower,
        |state| matches!(state, State::Down { error } if error.contains("does not lead") || error.contains("cut off")),
    )
    .await;
}
