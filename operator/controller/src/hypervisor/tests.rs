use std::time::Duration;

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time},
};
use kube::ResourceExt as _;
use serde_json::{Value, json};
use virga_crds::{Hypervisor, HypervisorSpec, Instance, Migration, MigrationPhase, ObservedPower, managers};
use virga_runtime::apply::Writer;

use crate::world::{NAMESPACE, World, stage};

/// The agent's heartbeat, once.
fn beat(world: &World, node: &str) {
    let (name, now) = (format!("virga-{node}"), world.api.clock().now());
    if world.api.read::<Lease>(Some("virga-system"), &name).is_some() {
        let renewed = json!({"spec": {"renewTime": MicroTime(now)}});
        world.api.merge::<Lease>(Some("virga-system"), &name, renewed);
        return;
    }
    let metadata = ObjectMeta {
        name: Some(name),
        namespace: Some("virga-system".into()),
        ..ObjectMeta::default()
    };
    let spec = LeaseSpec {
        holder_identity: Some(node.into()),
        renew_time: Some(MicroTime(now)),
        ..LeaseSpec::default()
    };
    world.api.create(&Lease {
        metadata,
        spec: Some(spec),
    });
}

fn condition(world: &World, kind: &str, reason: &str) -> Value {
    let now = Time(world.api.clock().now());
    json!({"type": kind, "status": "True", "reason": reason, "message": "", "lastTransitionTime": now})
}

/// What the agent says of its host and of the Instance that runs there.
async fn agent_speaks(world: &World) {
    let agent = Writer::new(world.api.client_as("virga-agent"), managers::AGENT);
    let host = world.api.read::<Hypervisor>(None, "a").unwrap();
    let status = json!({"conditions": [condition(world, "Ready", "HeartbeatSeen")]});
    agent.apply_status(&host, &status).await.unwrap();
    let instance = world.api.read::<Instance>(Some(NAMESPACE), "web-1").unwrap();
    let conditions = [
        condition(world, "Ready", "AsSpecified"),
        condition(world, "Running", "Started"),
    ];
    let status = json!({"state": "Active", "powerState": "Running", "conditions": conditions});
    agent.apply_status(&instance, &status).await.unwrap();
}

fn power(world: &World) -> Option<ObservedPower> {
    let instance = world.api.read::<Instance>(Some(NAMESPACE), "web-1").unwrap();
    instance.status.unwrap().power_state
}

/// A node whose agent has said all and then not renewed its Lease in time.
async fn lost_node() -> World {
    let world = World::start().await;
    world.api.create(&Hypervisor::new("a", HypervisorSpec::default()));
    world.instance("web-1", Some("a"), |_| {});
    agent_speaks(&world).await;
    beat(&world, "a");
    world.settle().await;
    assert_eq!(world.ready::<Hypervisor>(None, "a").0, "True/HeartbeatSeen");
    let lost = |instance: Option<&Instance>| {
        let status = instance.and_then(|instance| instance.status.as_ref());
        status.is_some_and(|status| status.power_state == Some(ObservedPower::Unknown))
    };
    world
        .api
        .await_condition::<Instance>(Some(NAMESPACE), "web-1", lost)
        .await;
    world.settle().await;
    world
}

#[tokio::test(start_paused = true)]
async fn a_node_that_falls_silent_is_lost_and_welcomed_back() {
    let world = lost_node().await;
    assert_eq!(world.ready::<Hypervisor>(None, "a").0, "Unknown/NodeLost");
    let (ready, message) = world.ready::<Instance>(Some(NAMESPACE), "web-1");
    assert_eq!(ready, "Unknown/NodeLost");
    assert!(message.contains("node a is lost"), "{message}");

    beat(&world, "a");
    tokio::time::sleep(Duration::from_secs(10)).await;
    world.settle().await;
    assert_eq!(
        world.ready::<Instance>(Some(NAMESPACE), "web-1").0,
        "Unknown/NodeLost",
        "what the machine does is the agent's to say"
    );

    agent_speaks(&world).await;
    world.settle().await;
    assert_eq!(world.ready::<Hypervisor>(None, "a").0, "True/HeartbeatSeen");
    assert_eq!(world.ready::<Instance>(Some(NAMESPACE), "web-1").0, "True/AsSpecified");
    assert_eq!(power(&world), Some(ObservedPower::Running));
    for (resource, namespace, name) in [("instances", Some(NAMESPACE), "web-1"), ("hypervisors", None, "a")] {
        let writers = world
            .api
            .managers_of_field(resource, namespace, name, "status.conditions");
        assert!(!writers.contains(managers::CONTROLLER), "{resource}: {writers:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_speaks_before_its_lease_is_renewed_is_not_shouted_down() {
    let world = lost_node().await;
    let mark = world.api.mark();
    agent_speaks(&world).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    beat(&world, "a");
    tokio::time::sleep(Duration::from_secs(10)).await;
    world.settle().await;
    assert_eq!(world.ready::<Hypervisor>(None, "a").0, "True/HeartbeatSeen");
    assert_eq!(power(&world), Some(ObservedPower::Running));
    let wrote = world.api.requests_since(mark);
    assert!(
        wrote.len() <= 4,
        "two of the agent, and two to give up what was said: {wrote:#?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_host_that_was_taken_away_for_good_holds_no_deleted_instance() {
    let world = World::start().await;
    world.instance("web-1", Some("gone"), |_| {});
    world.settle().await;
    world.api.delete::<Instance>(Some(NAMESPACE), "web-1");
    world.settle().await;
    assert!(world.api.read::<Instance>(Some(NAMESPACE), "web-1").is_none());
    assert!(
        world
            .api
            .list::<Instance>()
            .iter()
            .all(|instance| instance.name_any() != "web-1")
    );
}

fn drained(world: &World) -> Option<(String, String, String)> {
    let host = world.api.read::<Hypervisor>(None, "a").unwrap();
    let conditions = host.status.unwrap().conditions;
    let drained = conditions.into_iter().find(|condition| condition.type_ == "Drained")?;
    Some((drained.status, drained.reason, drained.message))
}

fn schedule(world: &World, scheduling: &str) {
    world
        .api
        .merge::<Hypervisor>(None, "a", json!({"spec": {"scheduling": scheduling}}));
}

async fn looked_after(world: &World) {
    tokio::time::sleep(Duration::from_secs(6)).await;
    world.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_host_in_maintenance_is_emptied_by_migrations_also_by_another_leader() {
    let (mut world, stop) = stage(&["a", "b"]).await;
    schedule(&world, "Maintenance");
    looked_after(&world).await;
    let all = world.api.list::<Migration>();
    assert_eq!(all.len(), 1);
    let status = all[0].status.clone().unwrap();
    assert_eq!(status.phase, Some(MigrationPhase::Preparing));
    assert_eq!(status.target.as_deref(), Some("b"));
    let (status, reason, message) = drained(&world).unwrap();
    assert_eq!((status.as_str(), reason.as_str()), ("False", "Draining"));
    assert_eq!(message, "1 Instance is left: 1 on the way or next, 0 not");

    world.restart().await;
    looked_after(&world).await;
    assert_eq!(world.api.list::<Migration>().len(), 1, "it is not made twice");
    let name = all[0].name_any();
    let say = |part| world.api.merge_status::<Migration>(Some(NAMESPACE), &name, part);
    say(json!({"outgoing": {"state": "LetGo"}, "incoming": {"state": "Owned"}}));
    world.settle().await;
    say(json!({"incoming": {"state": "Landed"}}));
    looked_after(&world).await;
    let (status, reason, _) = drained(&world).unwrap();
    assert_eq!((status.as_str(), reason.as_str()), ("True", "Drained"));
    let written = |world: &World| world.api.writes_to("hypervisors", None, "a").len();
    let before = written(&world);
    looked_after(&world).await;
    assert_eq!(written(&world), before, "nothing changes, and nothing is written");

    schedule(&world, "Enabled");
    looked_after(&world).await;
    assert_eq!(drained(&world), None);
    assert_eq!(world.api.list::<Migration>().len(), 1, "what is over keeps its story");
    stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_move_that_has_not_begun_ends_with_the_maintenance() {
    let (world, stop) = stage(&["a"]).await;
    schedule(&world, "Maintenance");
    looked_after(&world).await;
    let waiting = world.api.list::<Migration>();
    assert_eq!(waiting.len(), 1);
    let (status, reason, message) = drained(&world).unwrap();
    assert_eq!((status.as_str(), reason.as_str()), ("False", "DrainBlocked"));
    assert!(message.contains("in shop: Migration drain-"), "{message}");
    schedule(&world, "Cordoned");
    looked_after(&world).await;
    assert_eq!(world.api.list::<Migration>(), []);
    assert_eq!(drained(&world), None);
    stop.cancel();
}
