//! The life of Volumes.

use kube::ResourceExt;
use serde_json::json;
use virga_crds::{Bytes, Image, Instance, Volume, VolumeSource, VolumeState, conditions::types};
use virga_hypervisor::Hypervisor as _;

use crate::world::{NODE, SHOP, World, attach, uid};

fn state(world: &World, name: &str) -> Option<VolumeState> {
    world.read::<Volume>(name)?.status?.state
}

fn await_state(world: &World, name: &str, wanted: VolumeState) -> Volume {
    world.eventually(&format!("{name} is {wanted:?}"), || state(world, name) == Some(wanted));
    world.read(name).unwrap()
}

fn virtual_size(world: &World, volume: &Volume) -> u64 {
    let file = world
        .path()
        .join("volumes")
        .join(format!("{}.qcow2", volume.uid().unwrap()));
    let output = std::process::Command::new("qemu-img")
        .args(["info", "-U", "--output=json"])
        .arg(file)
        .output();
    let info: serde_json::Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
    info["virtual-size"].as_u64().unwrap()
}

#[test]
fn a_volume_is_made_attached_kept_and_deleted() {
    let world = World::with_agent();
    let volume = world.volume("data", Bytes::mib(8), Some(NODE));
    await_state(&world, "data", VolumeState::Available);
    assert_eq!(virtual_size(&world, &volume), 8 << 20);

    let instance = world.instance("web-1", attach("data"));
    world.await_ready("web-1");
    let attached = await_state(&world, "data", VolumeState::InUse)
        .status
        .unwrap()
        .attachments;
    assert_eq!(
        (attached[0].instance.as_str(), attached[0].device.as_str()),
        ("web-1", "vdb")
    );
    assert_eq!(world.host.spec(uid(&instance)).unwrap().disks[1].target, "vdb");

    // It outlives its Instance.
    world.delete("web-1");
    world.await_gone::<Instance>("web-1");
    await_state(&world, "data", VolumeState::Available);
    world.api.delete::<Volume>(Some(SHOP), "data");
    world.await_gone::<Volume>("data");
    assert_eq!(std::fs::read_dir(world.path().join("volumes")).unwrap().count(), 0);
}

#[test]
fn a_volume_bound_late_is_waited_for() {
    let world = World::with_agent();
    world.instance("web-1", attach("data"));
    world.await_reason("web-1", types::STORAGE_READY, "VolumeNotFound");
    world.volume("data", Bytes::mib(8), None);
    world.nudge("web-1");
    world.await_reason("web-1", types::STORAGE_READY, "WaitingForConsumer");
    world
        .api
        .merge::<Volume>(Some(SHOP), "data", json!({"spec": {"nodeName": NODE}}));
    world.await_ready("web-1");
}

#[test]
fn a_volume_on_another_node_is_named_with_it() {
    let world = World::with_agent();
    world.volume("data", Bytes::mib(8), Some("node-2"));
    world.instance("web-1", attach("data"));
    let storage = world.await_reason("web-1", types::STORAGE_READY, "VolumeAttachedElsewhere");
    assert!(storage.message.contains("node-2"), "{}", storage.message);
}

#[test]
fn two_instances_never_have_one_volume() {
    let world = World::with_agent();
    world.volume("data", Bytes::mib(8), Some(NODE));
    await_state(&world, "data", VolumeState::Available);
    let both = [
        world.instance("web-1", attach("data")),
        world.instance("web-2", attach("data")),
    ];
    world.eventually("one runs and one waits", || {
        let waits = |name: &str| {
            let storage = world.condition(name, types::STORAGE_READY);
            storage.is_some_and(|storage| storage.reason == "VolumeAttachedElsewhere")
        };
        world.is_ready("web-1") && waits("web-2") || world.is_ready("web-2") && waits("web-1")
    });
    assert_eq!(world.host.domains().unwrap().len(), 1);
    let holder = both.iter().find(|instance| world.domain(instance).is_some()).unwrap();
    let other = both.iter().find(|instance| world.domain(instance).is_none()).unwrap();
    let told = world
        .condition(&other.name_any(), types::STORAGE_READY)
        .unwrap()
        .message;
    assert!(told.contains(&holder.name_any()), "{told}");
    world.delete(&holder.name_any());
    world.await_ready(&other.name_any());
}

#[test]
fn a_volume_in_use_is_deleted_after_its_instance() {
    let world = World::with_agent();
    let volume = world.volume("data", Bytes::mib(8), Some(NODE));
    world.instance("web-1", attach("data"));
    world.await_ready("web-1");
    await_state(&world, "data", VolumeState::InUse);
    world.api.delete::<Volume>(Some(SHOP), "data");
    let waiting = await_state(&world, "data", VolumeState::Deleting).status.unwrap();
    let ready = waiting.conditions.iter().find(|c| c.type_ == types::READY).unwrap();
    assert!(ready.message.contains("web-1"), "{}", ready.message);
    assert!(virtual_size(&world, &volume) > 0);
    world.delete("web-1");
    world.await_gone::<Instance>("web-1");
    world.await_gone::<Volume>("data");
}

#[test]
fn a_volume_that_is_to_be_retained_is_put_aside() {
    let world = World::with_agent();
    let volume = world.volume("data", Bytes::mib(8), Some(NODE));
    world
        .api
        .merge::<Volume>(Some(SHOP), "data", json!({"spec": {"deletionPolicy": "Retain"}}));
    await_state(&world, "data", VolumeState::Available);
    world.api.delete::<Volume>(Some(SHOP), "data");
    world.await_gone::<Volume>("data");
    let kept = world
        .path()
        .join("retained")
        .join(format!("{SHOP}.data.{}.qcow2", volume.uid().unwrap()));
    assert!(kept.exists());
}

#[test]
fn a_volume_grows_offline_and_live() {
    let world = World::with_agent();
    let volume = world.volume("data", Bytes::mib(8), Some(NODE));
    await_state(&world, "data", VolumeState::Available);
    world
        .api
        .merge::<Volume>(Some(SHOP), "data", json!({"spec": {"size": "16Mi"}}));
    world.eventually("it has grown", || virtual_size(&world, &volume) == 16 << 20);
    world.eventually("its status says so", || {
        let status = world.read::<Volume>("data").unwrap().status.unwrap();
        status.size == Some(Bytes::mib(16)) && status.state == Some(VolumeState::Available)
    });

    let instance = world.instance("web-1", attach("data"));
    world.await_ready("web-1");
    await_state(&world, "data", VolumeState::InUse);
    world
        .api
        .merge::<Volume>(Some(SHOP), "data", json!({"spec": {"size": "32Mi"}}));
    // The hypervisor in memory notes the size and leaves the file alone.
    world.eventually("QEMU was asked", || {
        world.host.disk_bytes(uid(&instance), "vdb") == Some(32 << 20)
    });
}

#[test]
fn an_instance_boots_from_a_volume_that_is_made_from_an_image() {
    let world = World::with_agent();
    let mut volume = Volume::new(
        "root",
        virga_crds::VolumeSpec {
            size: Bytes::mib(32),
            source: Some(VolumeSource {
                image: virga_crds::ImageRef {
                    name: "debian".into(),
                    namespace: None,
                },
            }),
            node_name: Some(NODE.into()),
            ..virga_crds::VolumeSpec::default()
        },
    );
    volume.metadata.namespace = Some(SHOP.into());
    let volume = world.api.create(&volume);
    let instance = world.instance("web-1", |spec| {
        spec.image = None;
        spec.boot_volume = Some("root".into());
        spec.interfaces.clear();
    });
    world.await_ready("web-1");
    assert_eq!(virtual_size(&world, &volume), 32 << 20);
    let disks = world.host.spec(uid(&instance)).unwrap().disks;
    assert_eq!(
        (disks.len(), disks[0].target.as_str(), disks[0].boot_order),
        (1, "vda", Some(1))
    );
    assert!(world.read::<Image>("debian").is_some());
}
