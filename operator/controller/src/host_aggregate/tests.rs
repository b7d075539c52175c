use std::time::Duration;

use serde_json::json;
use virga_crds::{HostAggregate, HostAggregateSpec, Hypervisor};

use crate::world::World;

fn zone(world: &World, name: &str, zone: &str, selector: &serde_json::Value) {
    let spec = json!({"availabilityZone": zone, "selector": selector});
    let spec: HostAggregateSpec = serde_json::from_value(spec).unwrap();
    world.api.create(&HostAggregate::new(name, spec));
}

fn hosts(world: &World, name: &str) -> i32 {
    let aggregate = world.api.read::<HostAggregate>(None, name).unwrap();
    aggregate.status.unwrap().hypervisors
}

fn label(world: &World, host: &str, labels: &serde_json::Value) {
    world
        .api
        .merge::<Hypervisor>(None, host, json!({"metadata": {"labels": labels}}));
}

#[tokio::test(start_paused = true)]
async fn an_aggregate_follows_the_labels_of_its_hosts() {
    let world = World::start().await;
    for host in ["a", "b"] {
        world.host(host);
    }
    zone(&world, "east", "az-east", &json!({"matchLabels": {"rack": "1"}}));
    world.settle().await;
    assert_eq!(hosts(&world, "east"), 0);
    label(&world, "a", &json!({"rack": "1"}));
    world.settle().await;
    assert_eq!(hosts(&world, "east"), 1);
    assert_eq!(world.ready::<HostAggregate>(None, "east").0, "True/AsSpecified");

    world.api.delete::<Hypervisor>(None, "a");
    world.settle().await;
    assert_eq!(hosts(&world, "east"), 0);
}

#[tokio::test(start_paused = true)]
async fn the_younger_of_two_zones_says_that_it_does_not_hold_until_the_older_one_goes() {
    let world = World::start().await;
    world.host("a");
    zone(&world, "west", "az-west", &json!({}));
    tokio::time::sleep(Duration::from_secs(5)).await;
    zone(&world, "east", "az-east", &json!({}));
    world.settle().await;
    assert_eq!(world.ready::<HostAggregate>(None, "west").0, "True/AsSpecified");
    let (ready, message) = world.ready::<HostAggregate>(None, "east");
    assert_eq!(ready, "False/ZoneConflict");
    assert!(
        message.contains("a is in zone az-west by HostAggregate west"),
        "{message}"
    );

    world.api.delete::<HostAggregate>(None, "west");
    world.settle().await;
    assert_eq!(world.ready::<HostAggregate>(None, "east").0, "True/AsSpecified");
}

#[tokio::test(start_paused = true)]
async fn a_host_s_heartbeats_cost_its_aggregates_nothing() {
    let world = World::start().await;
    world.host("a");
    zone(&world, "all", "az1", &json!({}));
    world.settle().await;
    let mark = world.api.mark();
    for instances in 1..5 {
        world
            .api
            .merge_status::<Hypervisor>(None, "a", json!({"instances": instances}));
        world.settle().await;
    }
    let asked = world.api.requests_since(mark);
    assert!(
        asked.iter().all(|request| request.resource != "hostaggregates"),
        "{asked:#?}"
    );
}
