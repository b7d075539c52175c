use kube::ResourceExt as _;
use serde_json::json;
use virga_crds::{Instance, Migration, MigrationPhase, MigrationSpec, MigrationType, Port, finalizers};

use crate::{
    fixtures,
    world::{NAMESPACE, World, ip, stage},
};

fn migrate(world: &World, name: &str, target: Option<&str>) {
    let spec = MigrationSpec {
        instance: "web".into(),
        kind: MigrationType::Cold,
        target: target.map(str::to_owned),
    };
    world.api.create(&fixtures::in_shop(Migration::new(name, spec)));
}

fn read(world: &World, name: &str) -> Migration {
    world.api.read(Some(NAMESPACE), name).unwrap()
}

fn phase(world: &World, name: &str) -> Option<MigrationPhase> {
    read(world, name).status.unwrap().phase
}

fn say(world: &World, part: serde_json::Value) {
    world.api.merge_status::<Migration>(Some(NAMESPACE), "move", part);
}

#[tokio::test(start_paused = true)]
async fn a_target_is_found_and_held_and_the_binding_switches_when_the_source_let_go() {
    let (mut world, stop) = stage(&["a", "b"]).await;
    migrate(&world, "move", None);
    world.settle().await;
    let begun = read(&world, "move");
    assert_eq!(begun.finalizers(), [finalizers::CONTROLLER]);
    assert_eq!(begun.owner_references()[0].name, "web");
    let status = begun.status.unwrap();
    assert_eq!(status.phase, Some(MigrationPhase::Preparing));
    assert_eq!(
        (status.source.as_deref(), status.target.as_deref()),
        (Some("a"), Some("b"))
    );
    assert_eq!(status.source_address.as_deref(), Some("172.31.0.0:9192"));
    let used = |world: &World| ["a", "b"].map(|host| world.usage(host).vcpus);
    assert_eq!(used(&world), [1, 1], "it counts where it is, and where it goes");
    world.restart().await;
    world.decide().await;
    world.settle().await;
    assert_eq!(used(&world), [1, 1], "another leader holds the same");

    let port: Port = world.api.read(Some(NAMESPACE), "web-front").unwrap();
    say(&world, json!({"outgoing": {"state": "Offered"}}));
    world.settle().await;
    assert_eq!(phase(&world, "move"), Some(MigrationPhase::Transferring));
    say(&world, json!({"incoming": {"state": "Owned", "progress": 100}}));
    world.settle().await;
    let instance: Instance = world.api.read(Some(NAMESPACE), "web").unwrap();
    assert_eq!(instance.spec.node_name.as_deref(), Some("b"));
    let moved: Port = world.api.read(Some(NAMESPACE), "web-front").unwrap();
    assert_eq!(moved.spec.node_name.as_deref(), Some("b"));
    assert_eq!((ip(&moved), &moved.spec.mac), (ip(&port), &port.spec.mac));
    say(&world, json!({"incoming": {"state": "Landed", "progress": 100}}));
    world.settle().await;
    assert_eq!(phase(&world, "move"), Some(MigrationPhase::Completed));
    assert_eq!(read(&world, "move").finalizers(), [] as [String; 0]);
    assert_eq!(used(&world), [0, 1]);
    let ready = world.ready::<Migration>(Some(NAMESPACE), "move");
    assert_eq!(ready, ("True/Migrated".into(), "the Instance is on b".into()));
    stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn the_host_that_was_named_for_the_first_placement_holds_nobody_back() {
    let (world, stop) = stage(&["a", "b"]).await;
    let named = json!({"spec": {"placement": {"host": "a"}}});
    world.api.merge::<Instance>(Some(NAMESPACE), "web", named);
    migrate(&world, "move", None);
    world.settle().await;
    let status = read(&world, "move").status.unwrap();
    assert_eq!(
        (status.phase, status.target.as_deref()),
        (Some(MigrationPhase::Preparing), Some("b"))
    );
    stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_migration_that_fits_nowhere_waits_and_a_second_one_is_refused() {
    let (world, stop) = stage(&["a"]).await;
    migrate(&world, "move", None);
    world.settle().await;
    let (ready, message) = world.ready::<Migration>(Some(NAMESPACE), "move");
    assert_eq!(ready, "False/NoValidHost");
    assert!(message.starts_with("0/1 hosts"), "{message}");
    migrate(&world, "twice", None);
    world.settle().await;
    assert_eq!(phase(&world, "twice"), Some(MigrationPhase::Failed));
    let (ready, message) = world.ready::<Migration>(Some(NAMESPACE), "twice");
    assert_eq!(ready, "False/MigrationUnderWay");
    assert!(message.contains("Migration move of web"), "{message}");
    assert_eq!(
        phase(&world, "move"),
        Some(MigrationPhase::Pending),
        "the first one waits on"
    );
    stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_migration_is_not_gone_before_its_guest_is_back_and_its_room_is_free() {
    let (world, stop) = stage(&["a", "b"]).await;
    migrate(&world, "move", Some("b"));
    world.settle().await;
    say(&world, json!({"outgoing": {"state": "Offered"}}));
    world.settle().await;
    world.api.delete::<Migration>(Some(NAMESPACE), "move");
    world.settle().await;
    assert_eq!(phase(&world, "move"), Some(MigrationPhase::Aborting));
    assert_eq!(world.usage("b").vcpus, 1);
    say(&world, json!({"outgoing": {"state": "Revoked"}}));
    world.settle().await;
    assert!(world.api.read::<Migration>(Some(NAMESPACE), "move").is_none());
    assert_eq!(world.usage("b").vcpus, 0);
    let instance: Instance = world.api.read(Some(NAMESPACE), "web").unwrap();
    assert_eq!(instance.spec.node_name.as_deref(), Some("a"));
    stop.cancel();
}
