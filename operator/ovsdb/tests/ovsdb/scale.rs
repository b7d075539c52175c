//! A measurement, not a test: `cargo test --release -p virga-ovsdb -- --ignored --nocapture measure`.

use std::{fs, time::Instant};

use virga_ovsdb::{
    northbound::{Acl, DhcpOptions, LogicalSwitch, LogicalSwitchPort, PortGroup},
    reconcile::{Desired, plan},
};

use crate::server::{Server, connect};

/// Ports on networks of a hundred, in groups of a hundred with four rules each.
fn cloud(ports: usize) -> Desired {
    let mut desired = Desired::new("measure");
    for net in 0..ports / 100 {
        let options = DhcpOptions {
            cidr: format!("10.{}.{}.0/24", net / 256, net % 256),
            ..Default::default()
        };
        let dhcp = desired.insert(format!("net-{net}"), &options);
        let refs: std::collections::BTreeSet<_> = (0..100)
            .map(|at| {
                let name = format!("port-{net}-{at}");
                let address = format!(
                    "0a:00:00:00:{net:02x}:{at:02x} 10.{}.{}.{}",
                    net / 256,
                    net % 256,
                    at + 2
                );
                let port = LogicalSwitchPort {
                    name: name.clone(),
                    addresses: [address.clone()].into(),
                    port_security: [address].into(),
                    dhcpv4_options: Some(dhcp.clone()),
                    ..Default::default()
                };
                desired.insert(name, &port)
            })
            .collect();
        let acls = (0..4).map(|at| {
            let acl = Acl {
                priority: 1000 + at,
                matching: format!("outport == @group_{net} && ip4 && tcp.dst == {at}"),
                ..Default::default()
            };
            desired.insert(format!("rule-{net}-{at}"), &acl)
        });
        let group = PortGroup {
            name: format!("group_{net}"),
            acls: acls.collect(),
            ports: refs.clone(),
            ..Default::default()
        };
        desired.insert(format!("group-{net}"), &group);
        let switch = LogicalSwitch {
            name: format!("net-{net}"),
            ports: refs,
            ..Default::default()
        };
        desired.insert(format!("net-{net}"), &switch);
    }
    desired
}

fn resident_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[tokio::test]
#[ignore = "a measurement"]
async fn measure_ten_thousand_ports() {
    let server = Server::start();
    let client = connect(&server).await;
    let told = |what: &str, since: Instant| {
        println!(
            "{what:<44} {:>6} ms, {} MiB",
            since.elapsed().as_millis(),
            resident_mib()
        );
    };
    told("connected", Instant::now());
    let since = Instant::now();
    let desired = cloud(10_000);
    told(&format!("desired: {} rows", desired.len()), since);

    let since = Instant::now();
    let first = client.read(|replica| plan(replica, &desired));
    told(&format!("planned: {} operations", first.operations.len()), since);
    let since = Instant::now();
    client.transact_in(first.epoch, &first.operations).await.unwrap();
    told("written in one transaction, replica filled", since);
    assert_eq!(first.inserted, desired.len());

    let since = Instant::now();
    let second = client.read(|replica| plan(replica, &desired));
    told("second plan, empty", since);
    assert!(second.is_empty());

    let more = cloud(10_100);
    let since = Instant::now();
    let third = client.read(|replica| plan(replica, &more));
    told(
        &format!("a network more: planned, {} operations", third.operations.len()),
        since,
    );
    let since = Instant::now();
    client.transact_in(third.epoch, &third.operations).await.unwrap();
    told("a network more: written", since);

    drop((desired, first, second, third));
    let since = Instant::now();
    let fresh = connect(&server).await;
    told(
        &format!(
            "a second client: {} rows",
            fresh.read(virga_ovsdb::replica::Replica::len)
        ),
        since,
    );
    let since = Instant::now();
    let nothing = client.read(|replica| plan(replica, &Desired::new("measure")));
    client.transact_in(nothing.epoch, &nothing.operations).await.unwrap();
    told(&format!("all removed: {} operations", nothing.operations.len()), since);
    assert!(client.read(virga_ovsdb::replica::Replica::is_empty));
}
