use std::{sync::Arc, time::Duration};

use kube::ResourceExt as _;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use virga_crds::{Bytes, Flavor, Hypervisor, Instance, Migration, MigrationPhase, ResizeVerdict, labels, managers};
use virga_runtime::heartbeat;

use crate::{
    fixtures,
    world::{self, NAMESPACE, World},
};

const AT: &str = "2026-11-22T10:00:00Z";

fn flavor(name: &str, vcpus: u16) -> Flavor {
    let mut flavor = fixtures::flavor(name);
    flavor.spec.vcpus = vcpus;
    flavor
}

fn built(name: &str, vcpus: u16) -> Value {
    json!({"name": name, "vcpus": vcpus, "memory": "1Gi", "disk": "5Gi"})
}

/// A host of 8 CPUs, none of which is promised twice, and an Instance of one CPU that runs there.
async fn stage() -> (World, CancellationToken) {
    let world = World::start().await;
    let stop = CancellationToken::new();
    let options = heartbeat::Options::new("virga-system", "virga-a", "a", "virga-agent");
    let client = world.api.client_as("virga-agent");
    let clock = Arc::new(world.api.clock().reader());
    tokio::spawn(heartbeat::run(client, clock, options, stop.clone()));
    world.host("a");
    let ratios = json!({"spec": {"allocationRatios": {"vcpus": "1"}}});
    world.api.merge::<Hypervisor>(None, "a", ratios);
    for (name, vcpus) in [("m1.small", 1), ("six", 6), ("all", 8), ("nine", 9)] {
        world.api.create(&flavor(name, vcpus));
    }
    world.api.create(&fixtures::image("debian"));
    world.instance("web", Some("a"), |_| {});
    says(
        &world,
        json!({"state": "Active", "host": "a", "flavor": built("m1.small", 1)}),
    );
    world.decide().await;
    world.settle().await;
    (world, stop)
}

/// What its agent says.
fn says(world: &World, status: Value) {
    world.api.merge_status::<Instance>(Some(NAMESPACE), "web", status);
}

async fn ask(world: &World, flavor: &str) {
    let spec = json!({"spec": {"flavor": flavor}});
    world.api.merge::<Instance>(Some(NAMESPACE), "web", spec);
    world.settle().await;
}

fn verdict(world: &World) -> Option<ResizeVerdict> {
    let web = world.api.read::<Instance>(Some(NAMESPACE), "web").unwrap();
    let said: ResizeVerdict = serde_json::from_str(web.annotations().get(labels::RESIZE)?).unwrap();
    (Some(said.generation) == web.metadata.generation).then_some(said)
}

fn used(world: &World) -> u64 {
    world.usage("a").vcpus
}

#[tokio::test(start_paused = true)]
async fn the_larger_size_is_held_from_the_answer_until_the_resize_is_final_or_taken_back() {
    let (world, stop) = stage().await;
    assert_eq!(used(&world), 1);
    ask(&world, "six").await;
    let said = verdict(&world).unwrap();
    assert_eq!(
        (said.flavor.as_str(), said.host.as_str(), said.refused),
        ("six", "a", None)
    );
    let manager = format!("metadata.annotations.{}", labels::RESIZE);
    let managers_of = world
        .api
        .managers_of_field("instances", Some(NAMESPACE), "web", &manager);
    assert!(managers_of.is_empty() || managers_of == [managers::SCHEDULER.to_owned()].into());
    assert_eq!(used(&world), 6);
    // What is held already is not found twice, and no write is made when nothing changes.
    let mark = world.api.mark();
    world.settle().await;
    tokio::time::sleep(Duration::from_secs(40)).await;
    let writes = world.api.requests_since(mark);
    let writes = writes
        .iter()
        .filter(|request| request.resource == "instances" && request.verb.writes());
    assert_eq!(writes.count(), 0);

    // The agent resizes it, and it waits to be confirmed.
    let resize = |more: Value| {
        let mut resize = json!({"from": built("m1.small", 1), "to": built("six", 6), "at": AT});
        resize
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        resize
    };
    says(
        &world,
        json!({"flavor": built("m1.small", 1), "resize": resize(json!({}))}),
    );
    world.settle().await;
    assert_eq!(used(&world), 6);
    says(
        &world,
        json!({"flavor": built("six", 6), "resize": resize(json!({"finishedAt": AT}))}),
    );
    world.settle().await;
    assert_eq!(used(&world), 6);
    // It is taken back.
    ask(&world, "m1.small").await;
    assert_eq!(used(&world), 6, "until the agent says so");
    says(
        &world,
        json!({"flavor": built("m1.small", 1), "resize": resize(json!({"revertedAt": AT}))}),
    );
    world.settle().await;
    assert_eq!(used(&world), 1);
    stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_smaller_size_frees_room_only_when_it_is_final() {
    let (world, stop) = stage().await;
    says(&world, json!({"flavor": built("six", 6)}));
    ask(&world, "six").await;
    ask(&world, "m1.small").await;
    assert_eq!(verdict(&world).unwrap().refused, None);
    assert_eq!(used(&world), 6);
    let mut resize = json!({"from": built("six", 6), "to": built("m1.small", 1), "at": AT, "finishedAt": AT});
    says(&world, json!({"flavor": built("m1.small", 1), "resize": resize}));
    world.settle().await;
    assert_eq!(used(&world), 6, "it may go back");
    resize["confirmedAt"] = AT.into();
    says(&world, json!({ "resize": resize }));
    world.settle().await;
    assert_eq!(used(&world), 1);
    stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn its_own_room_counts_for_it_and_a_refusal_is_told_until_there_is_room() {
    let (world, stop) = stage().await;
    world.instance("other", Some("a"), |_| {});
    world.settle().await;
    assert_eq!(used(&world), 2);
    ask(&world, "all").await;
    let why = verdict(&world).unwrap().refused.unwrap();
    assert!(why.contains("Filter") && why.ends_with("; no other host has"), "{why}");
    assert_eq!(used(&world), 2, "nothing is held for it");
    let told = world.api.mark();
    tokio::time::sleep(Duration::from_mins(1)).await;
    let writes = world.api.requests_since(told);
    let writes = writes
        .iter()
        .filter(|request| request.resource == "instances" && request.verb.writes());
    assert_eq!(writes.count(), 0, "it is told once");

    world.api.delete::<Instance>(Some(NAMESPACE), "other");
    world.agent_lets_go("other");
    tokio::time::sleep(Duration::from_secs(15)).await;
    world.settle().await;
    assert_eq!(verdict(&world).unwrap().refused, None);
    assert_eq!(used(&world), 8);
    // More than there is, whatever goes.
    ask(&world, "nine").await;
    assert!(verdict(&world).unwrap().refused.is_some());
    assert_eq!(used(&world), 1, "what was held for the earlier wish is free");
    stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn another_leader_holds_what_was_answered_and_a_missing_flavor_is_waited_for() {
    let (mut world, stop) = stage().await;
    ask(&world, "m9.none").await;
    assert_eq!(verdict(&world), None);
    world.api.create(&flavor("m9.none", 5));
    tokio::time::sleep(Duration::from_secs(15)).await;
    world.settle().await;
    assert_eq!(verdict(&world).unwrap().refused, None);
    assert_eq!(used(&world), 5);
    world.restart().await;
    world.decide().await;
    world.settle().await;
    assert_eq!(used(&world), 5);
    // While it is deleted, nothing is found for it.
    ask(&world, "nine").await;
    world.api.delete::<Instance>(Some(NAMESPACE), "web");
    ask(&world, "six").await;
    assert_eq!(verdict(&world), None);
    stop.cancel();
}

/// Two hosts of 16 GiB, the first of which has an Instance of 12 GiB beside one of 1 GiB, which runs.
async fn crowded() -> (World, CancellationToken) {
    let (world, stop) = world::stage(&["a", "b"]).await;
    for (name, memory) in [("hog", 12), ("vast", 8)] {
        let mut flavor = fixtures::flavor(name);
        flavor.spec.memory = Bytes::gib(memory);
        world.api.create(&flavor);
    }
    world.instance("other", Some("a"), |spec| spec.flavor = "hog".into());
    says(&world, json!({"host": "a", "flavor": built("m1.small", 1)}));
    world.settle().await;
    (world, stop)
}

fn moves(world: &World) -> Vec<Migration> {
    world.api.list::<Migration>()
}

#[tokio::test(start_paused = true)]
async fn a_size_that_only_another_host_has_room_for_moves_the_instance_there() {
    let (world, stop) = crowded().await;
    let gib = |host: &str| world.usage(host).memory_bytes >> 30;
    assert_eq!((gib("a"), gib("b")), (13, 0));
    ask(&world, "vast").await;
    tokio::time::sleep(Duration::from_secs(12)).await;
    world.settle().await;
    let all = moves(&world);
    assert_eq!(all.len(), 1, "it is made once");
    let (name, status) = (all[0].name_any(), all[0].status.clone().unwrap());
    assert_eq!(
        (status.phase, status.target.as_deref()),
        (Some(MigrationPhase::Preparing), Some("b"))
    );
    let said = verdict(&world).unwrap();
    assert!(said.refused.is_some());
    assert_eq!(said.migration.as_ref(), Some(&name));
    assert_eq!(
        (gib("a"), gib("b")),
        (13, 8),
        "room for the new size is held where it goes"
    );

    let say = |part| world.api.merge_status::<Migration>(Some(NAMESPACE), &name, part);
    say(json!({"outgoing": {"state": "LetGo"}, "incoming": {"state": "Owned"}}));
    world.settle().await;
    say(json!({"incoming": {"state": "Landed"}}));
    says(&world, json!({"host": "b"}));
    world.settle().await;
    let said = verdict(&world).unwrap();
    assert_eq!((said.host.as_str(), said.refused, said.migration), ("b", None, None));
    assert_eq!((gib("a"), gib("b")), (12, 8));
    assert_eq!(moves(&world).len(), 1);
    stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_move_that_failed_is_not_tried_again_for_the_same_wish() {
    let (world, stop) = crowded().await;
    ask(&world, "vast").await;
    let name = moves(&world)[0].name_any();
    let say = |part| world.api.merge_status::<Migration>(Some(NAMESPACE), &name, part);
    say(json!({"phase": "Failed"}));
    tokio::time::sleep(Duration::from_secs(30)).await;
    world.settle().await;
    let all = moves(&world);
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].status.clone().unwrap().phase, Some(MigrationPhase::Failed));
    let said = verdict(&world).unwrap();
    assert!(
        said.refused
            .unwrap()
            .contains(&format!("the Migration {name} did not move it"))
    );
    assert_eq!(said.migration, None);
    stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_move_that_somebody_deletes_is_cancelled_until_spec_changes() {
    let (mut world, stop) = crowded().await;
    ask(&world, "vast").await;
    let name = moves(&world)[0].name_any();
    let say = |world: &World, part| world.api.merge_status::<Migration>(Some(NAMESPACE), &name, part);
    say(&world, json!({"outgoing": {"state": "Offered"}}));
    world.settle().await;
    world.api.delete::<Migration>(Some(NAMESPACE), &name);
    tokio::time::sleep(Duration::from_secs(12)).await;
    world.settle().await;
    let cancelled = |world: &World| {
        let said = verdict(world).unwrap();
        assert!(said.cancelled, "{said:?}");
        assert_eq!(said.migration.as_ref(), Some(&name));
        let why = said.refused.unwrap();
        assert!(
            why.contains(&format!("the Migration {name} that was to move it was deleted")),
            "{why}"
        );
    };
    cancelled(&world);
    say(&world, json!({"outgoing": {"state": "Revoked"}}));
    world.settle().await;
    // Another leader knows of it, too.
    world.restart().await;
    world.decide().await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    world.settle().await;
    assert_eq!(moves(&world), [], "it is not made again");
    cancelled(&world);
    ask(&world, "m1.small").await;
    ask(&world, "vast").await;
    let all = moves(&world);
    assert_eq!(all.len(), 1);
    assert_ne!(all[0].name_any(), name);

    // And this one.
    world.api.delete::<Migration>(Some(NAMESPACE), &all[0].name_any());
    world.settle().await;
    let revoked = json!({"outgoing": {"state": "Revoked"}});
    world
        .api
        .merge_status::<Migration>(Some(NAMESPACE), &all[0].name_any(), revoked);
    tokio::time::sleep(Duration::from_secs(12)).await;
    world.settle().await;
    assert_eq!(moves(&world), []);
    assert!(verdict(&world).unwrap().cancelled);
    stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_move_that_has_not_begun_ends_with_the_wish_and_none_is_made_for_what_can_not_move() {
    let (world, stop) = crowded().await;
    // Its agent serves nothing: it waits.
    world
        .api
        .merge_status::<Hypervisor>(None, "a", json!({"transferPort": null}));
    ask(&world, "vast").await;
    assert_eq!(
        moves(&world)[0].status.clone().unwrap().phase,
        Some(MigrationPhase::Pending)
    );
    ask(&world, "m1.small").await;
    assert_eq!(moves(&world), []);

    says(&world, json!({"state": "Paused"}));
    ask(&world, "vast").await;
    let said = verdict(&world).unwrap();
    assert!(said.refused.unwrap().contains("another host has, but web is Paused"));
    assert_eq!(said.migration, None);
    assert_eq!(moves(&world), []);
    // More than any host has.
    says(&world, json!({"state": "Active"}));
    let mut flavor = fixtures::flavor("nowhere");
    flavor.spec.memory = Bytes::gib(99);
    world.api.create(&flavor);
    ask(&world, "nowhere").await;
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert_eq!(moves(&world), []);
    // Room where it is ends the wait for another host.
    ask(&world, "vast").await;
    assert_eq!(moves(&world).len(), 1);
    world.api.delete::<Instance>(Some(NAMESPACE), "other");
    world.agent_lets_go("other");
    tokio::time::sleep(Duration::from_secs(12)).await;
    world.settle().await;
    assert_eq!(verdict(&world).unwrap().refused, None);
    tokio::time::sleep(Duration::from_secs(12)).await;
    world.settle().await;
    assert_eq!(moves(&world), []);
    stop.cancel();
}
