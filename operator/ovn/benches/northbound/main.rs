//! What does it take to write a cloud of ports and groups, beside ovn-nbctl, and then one change among ten thousand?
//!
//! A real ovsdb-server, empty at first. It prints one line of JSON. `cargo bench -p virga-ovn --bench northbound`;
//! `-- --test` does it all with little, to see that it works.

#![allow(clippy::unwrap_used, reason = "what can't be set up has failed")]
#![allow(clippy::print_stdout, reason = "it reports")]

mod nbctl;
#[path = "../../tests/ovn/objects.rs"]
#[allow(dead_code, reason = "tests need more of it")]
mod objects;
#[path = "../../tests/ovn/server.rs"]
mod server;

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use virga_crds::{Network, Port, SecurityGroup};
use virga_ovn::Cloud;
use virga_ovsdb::{Client, reconcile::plan, testing::Server};

use objects::{cloud, network, port, uid};
use server::{client, write};

/// Of a network's ports, so many are in one group.
const PORTS_A_GROUP: u64 = 10;
const GROUPS_A_NETWORK: u64 = 10;
const PORTS_A_NETWORK: u64 = PORTS_A_GROUP * GROUPS_A_NETWORK;
/// Each is measured so often, in turn; the shortest time counts, which other work on the machine disturbed least.
const ROUNDS: usize = 5;

/// Networks, Ports and SecurityGroups that the API server would have.
struct Objects {
    networks: Vec<Arc<Network>>,
    ports: Vec<Arc<Port>>,
    groups: Vec<Arc<SecurityGroup>>,
}

impl Objects {
    fn of(networks: u64) -> Self {
        let name = |at: u64| format!("n{at}");
        Self {
            networks: (0..networks).map(|at| network(at + 1, &name(at), |_| {})).collect(),
            ports: (0..networks * PORTS_A_NETWORK)
                .map(|at| member(at, at / PORTS_A_NETWORK, at % PORTS_A_NETWORK + 5, at / PORTS_A_GROUP))
                .collect(),
            groups: (0..networks * GROUPS_A_NETWORK).map(|at| group(at, 80)).collect(),
        }
    }

    fn cloud(&self) -> Cloud {
        let mut cloud = cloud();
        cloud.reset(&self.networks, &self.ports, [], [], []);
        cloud.reset_groups(&self.groups, []);
        cloud
    }
}

fn member(number: u64, network: u64, host: u64, group: u64) -> Arc<Port> {
    let mut made = (*port(number, &format!("n{network}"), &[&format!("10.0.0.{host}")])).clone();
    made.spec.security_groups = vec![format!("g{group}")];
    Arc::new(made)
}

/// Four rules, of which one names the group itself.
fn group(number: u64, web: u16) -> Arc<SecurityGroup> {
    let name = format!("g{number}");
    let rules = json!({"rules": [
        {"direction": "Egress"},
        {"direction": "Ingress", "remote": {"group": name}},
        {"direction": "Ingress", "protocol": "tcp", "ports": {"min": web}},
        {"direction": "Ingress", "protocol": "tcp", "ports": {"min": 22}, "remote": {"cidr": "192.0.2.0/24"}},
    ]});
    let mut group = SecurityGroup::new(&name, serde_json::from_value(rules).unwrap());
    group.metadata.namespace = Some("shop".into());
    group.metadata.uid = Some(uid(2 << 32 | number).to_string());
    group.metadata.generation = Some(1);
    Arc::new(group)
}

fn main() {
    let small = std::env::args().any(|argument| argument == "--test");
    let (beside, many) = if small { (1, 2) } else { (10, 100) };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let result = runtime.block_on(async { json!({"beside": besides(beside).await, "many": grown(many).await}) });
    println!("{result}");
}

/// The same rows by us and by ovn-nbctl, each into an empty database of its own, in one transaction each.
async fn besides(networks: u64) -> Value {
    let objects = Objects::of(networks);
    let (mut ours, mut theirs, mut raw) = (Vec::new(), Vec::new(), Vec::new());
    let mut rows = 0;
    for _ in 0..ROUNDS {
        let server = Server::start().unwrap();
        let writer = client(&server).await;
        let began = Instant::now();
        let written = write(&writer, &objects.cloud().take()).await;
        ours.push(began.elapsed());
        assert_eq!(written.problems, []);
        rows = written.inserted;

        let server = Server::start().unwrap();
        // It waits for the server as a client does.
        drop(client(&server).await);
        let command = nbctl::command(&server.socket(), &written.operations);
        theirs.push(nbctl::run(command));
        let other = client(&server).await;
        assert_eq!(rows_of(&other), rows_of(&writer), "ovn-nbctl wrote the same rows");

        let server = Server::start().unwrap();
        drop(client(&server).await);
        raw.push(nbctl::transact(&server.socket(), &written.operations));
    }
    json!({
        "ports": objects.ports.len(), "groups": objects.groups.len(), "rows": rows,
        "ours_ms": millis(shortest(&ours)), "nbctl_ms": millis(shortest(&theirs)), "raw_ms": millis(shortest(&raw)),
    })
}

/// Until all is written, and what each change costs among so many.
async fn grown(networks: u64) -> Value {
    let objects = Objects::of(networks);
    let server = Server::start().unwrap();
    let writer = client(&server).await;
    let before = resident_kib("self");
    let began = Instant::now();
    let mut cloud = objects.cloud();
    let wanted = cloud.take();
    let made = began.elapsed();
    let all = write(&writer, &wanted).await;
    let converged = began.elapsed();
    drop(wanted);
    let resident = resident_kib("self").saturating_sub(before);
    let began = Instant::now();
    cloud.touch_everything();
    let again = write(&writer, &cloud.take()).await;
    assert!(again.is_empty(), "all is as desired");
    let audit = began.elapsed();

    let last = networks - 1;
    let mut changes = Vec::new();
    cloud.set_port(&member(1 << 20, last, 250, 0));
    changes.push(change("a Port more", &writer, &mut cloud).await);
    cloud.set_port(&member(1 << 20, last, 250, 1));
    changes.push(change("a Port from one group into another", &writer, &mut cloud).await);
    cloud.set_group(&group(0, 8080));
    changes.push(change("a rule of a group replaced", &writer, &mut cloud).await);
    cloud.set_group(&group(networks * GROUPS_A_NETWORK, 80));
    changes.push(change("a group more", &writer, &mut cloud).await);
    cloud.remove_port(&member(1 << 20, last, 250, 1));
    changes.push(change("a Port gone", &writer, &mut cloud).await);
    json!({
        "ports": objects.ports.len(), "groups": objects.groups.len(), "rows": all.inserted,
        "made_ms": millis(made), "converged_ms": millis(converged), "audit_ms": millis(audit),
        "writer_kib": resident, "server_kib": server.pid().map(|pid| resident_kib(&pid.to_string())),
        "changes": changes,
    })
}

/// What is written when one thing has changed.
async fn change(what: &str, client: &Client, cloud: &mut Cloud) -> Value {
    let began = Instant::now();
    let wanted = cloud.take();
    let one = client.read(|replica| plan(replica, &wanted.desired));
    let planned = began.elapsed();
    assert!(!one.is_empty() && one.problems.is_empty(), "{what}: {one:?}");
    client.transact_in(one.epoch, &one.operations).await.unwrap();
    let written = began.elapsed();
    json!({
        "what": what, "inserted": one.inserted, "updated": one.updated, "removed": one.removed,
        "planned_ms": millis(planned), "written_ms": millis(written),
    })
}

/// How many rows of each table there are.
fn rows_of(client: &Client) -> Vec<usize> {
    let tables = virga_ovsdb::northbound::TABLES;
    // Whoever comes first makes that row, and ovn-nbctl does.
    let tables = tables.iter().filter(|table| table.name != "NB_Global");
    client.read(|replica| tables.map(|table| replica.rows(table.name).count()).collect())
}

fn shortest(times: &[Duration]) -> Duration {
    times.iter().copied().min().unwrap_or_default()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The resident set of a process, in KiB.
fn resident_kib(process: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
