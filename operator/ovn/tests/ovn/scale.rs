//! Does a change cost what changes, and not what there is?

use std::time::Instant;

use virga_ovsdb::{reconcile::plan, testing::Server};

use crate::{
    objects::{cloud, network, port},
    server::{client, write},
};

/// Networks of a hundred ports.
const NETWORKS: u64 = 20;

#[tokio::test]
async fn one_port_more_among_two_thousand_is_one_row_and_three_changes() {
    measure(NETWORKS).await;
}

#[tokio::test]
#[ignore = "a measurement: cargo test --release -p virga-ovn -- --ignored --nocapture ten_thousand"]
async fn measure_ten_thousand_ports() {
    measure(100).await;
}

async fn measure(count: u64) {
    let server = Server::start().unwrap();
    let client = client(&server).await;
    let mut cloud = cloud();
    let name = |at: u64| format!("n{at}");
    for at in 0..count {
        cloud.set_network(&network(at + 1, &name(at), |_| {}));
        for guest in 0..100 {
            cloud.set_port(&port(at * 100 + guest, &name(at), &[&format!("10.0.0.{}", guest + 5)]));
        }
    }
    let began = Instant::now();
    let all = write(&client, &cloud.take()).await;
    println!(
        "{} ports: {} rows written in {:?}",
        count * 100,
        all.inserted,
        began.elapsed()
    );
    assert_eq!(all.inserted, usize::try_from(count * 110).unwrap());

    let began = Instant::now();
    cloud.touch_everything();
    assert!(write(&client, &cloud.take()).await.is_empty());
    let audit = began.elapsed();

    cloud.set_port(&port(1 << 20, &name(3), &["10.0.0.250"]));
    let began = Instant::now();
    let wanted = cloud.take();
    let one = client.read(|replica| plan(replica, &wanted.desired));
    let planned = began.elapsed();
    client.transact_in(one.epoch, &one.operations).await.unwrap();
    println!(
        "an audit that finds nothing: {audit:?}; one port more: planned in {planned:?}, written after {:?}",
        began.elapsed()
    );
    assert_eq!((one.inserted, one.updated, one.removed), (1, 3, 0));
    assert!(planned < audit, "a change costs less than everything");
}
