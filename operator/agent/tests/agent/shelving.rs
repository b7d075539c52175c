//! Guests that are shelved and come back, here or elsewhere, with agents that are killed at every step. The rules of the
//! leader are between them.

use std::{path::Path, process::Command, sync::atomic::Ordering};

use serde_json::json;
use virga_agent::host::Moment;
use virga_core::instance::shelved_image_name;
use virga_crds::{Hypervisor, Image, Instance, InstanceState, InstanceStatus, ShelveStatus, conditions::types};
use virga_hypervisor::{DomainState, Hypervisor as _, Operation};

use crate::{
    crashes::{Trap, trap},
    leader::lead,
    peers::served,
    signer::Signer,
    world::{NODE, World, uid},
};

const OTHER: &str = "node-2";

fn qemu_io(file: &Path, command: &str) -> bool {
    let output = Command::new("qemu-io")
        .args(["-f", "qcow2", "-c", command])
        .arg(file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    output.status.success() && !said.contains("failed")
}

fn instance(world: &World) -> Instance {
    world.read("web-1").unwrap()
}

fn status(world: &World) -> InstanceStatus {
    instance(world).status.unwrap_or_default()
}

fn shelve(world: &World) -> Option<ShelveStatus> {
    status(world).shelve
}

fn led(world: &World, what: &str, holds: impl Fn() -> bool) {
    world.eventually(what, || {
        lead(world, NODE, "127.0.0.1:1");
        holds()
    });
}

fn is_away(world: &World) -> bool {
    instance(world).spec.node_name.is_none()
}

fn is_back(world: &World) -> bool {
    let image: Option<Image> = world.read(&shelved_image_name(&instance(world)));
    world.is_ready("web-1") && shelve(world).is_none() && image.is_none()
}

fn pattern(round: u8) -> String {
    format!("-P {:#x} {}M 64k", 0x50 + round, 1 + u32::from(round))
}

/// The guest writes something that it has not written before.
fn writes(world: &World, instance: &Instance, round: u8) {
    let disk = world.files(instance).join("root.qcow2");
    assert!(qemu_io(&disk, &format!("write {}", pattern(round))));
}

fn has_written(world: &World, instance: &Instance, round: u8) -> bool {
    let disk = world.files(instance).join("root.qcow2");
    qemu_io(&disk, &format!("read {}", pattern(round)))
}

fn nothing_is_here(world: &World) -> bool {
    world.host.domains().unwrap().is_empty()
        && world.host.networks().unwrap().is_empty()
        && std::fs::read_dir(world.path().join("instances")).unwrap().count() == 0
}

#[test]
fn a_shelved_guest_leaves_its_host_with_its_disk_in_an_image_and_comes_back_with_it() {
    let world = World::with_agent();
    let guest = world.guest("web-1", "10.0.0.5");
    world.await_ready("web-1");
    writes(&world, &guest, 0);
    let addresses = status(&world).addresses;
    let seed = std::fs::read(world.files(&guest).join("seed.iso")).unwrap();
    world.edit("web-1", &json!({"powerState": "Shelved"}));
    led(&world, "it has left its host", || is_away(&world));
    world.eventually("nothing of it is here", || nothing_is_here(&world));
    let told = status(&world);
    assert_eq!(
        (told.state, told.host, told.power_state, told.addresses),
        (Some(InstanceState::Shelved), None, None, addresses.clone())
    );
    let image: Image = world.read(&shelved_image_name(&guest)).unwrap();
    let digest = image.status.unwrap().digest.unwrap();
    assert_eq!(told.shelve.unwrap().digest.as_deref(), Some(digest.as_str()));
    let hex = digest.strip_prefix("sha256:").unwrap();
    let file = world.path().join("images").join(format!("sha256-{hex}.qcow2"));
    assert!(
        qemu_io(&file, &format!("read {}", pattern(0))),
        "its data is in the Image"
    );

    world.edit("web-1", &json!({"powerState": "Running"}));
    led(&world, "it is back", || is_back(&world));
    assert!(has_written(&world, &guest, 0));
    assert_eq!(status(&world).addresses, addresses);
    assert_eq!(world.domain(&guest).unwrap().state, DomainState::Running);
    let again = std::fs::read(world.files(&guest).join("seed.iso")).unwrap();
    assert_eq!(again.len(), seed.len());
    assert!(
        world.files(&guest).join("base").exists(),
        "its disk lies over the image, which is kept"
    );
    world.delete("web-1");
    world.await_gone::<Instance>("web-1");
    world.assert_nothing_left();
}

#[test]
fn one_that_stays_on_its_host_starts_from_its_own_disk_and_its_image_goes() {
    let world = World::with_agent();
    let guest = world.guest("web-1", "10.0.0.5");
    world.await_ready("web-1");
    writes(&world, &guest, 0);
    world.edit(
        "web-1",
        &json!({"powerState": "Shelved", "shelve": {"offloadAfter": "Never"}}),
    );
    led(&world, "it is shelved", || {
        status(&world).state == Some(InstanceState::Shelved)
    });
    assert_eq!(world.domain(&guest).unwrap().state, DomainState::ShutOff);
    let inode =
        std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(world.files(&guest).join("root.qcow2")).unwrap());
    world.edit("web-1", &json!({"powerState": "Running"}));
    led(&world, "it is back", || is_back(&world));
    let now = std::fs::metadata(world.files(&guest).join("root.qcow2")).unwrap();
    assert_eq!(
        std::os::unix::fs::MetadataExt::ino(&now),
        inode,
        "the disk was never away"
    );
    // What it writes from now on is in the next Image.
    writes(&world, &guest, 1);
    world.edit(
        "web-1",
        &json!({"powerState": "Shelved", "shelve": {"offloadAfter": "0s"}}),
    );
    led(&world, "it has left its host", || is_away(&world));
    world.edit("web-1", &json!({"powerState": "Running"}));
    led(&world, "it is back again", || is_back(&world));
    assert!(has_written(&world, &guest, 0) && has_written(&world, &guest, 1));
}

#[test]
fn a_guest_that_is_unshelved_elsewhere_has_its_disk_from_the_host_that_keeps_it() {
    let mut first = World::new();
    let signer = Signer::start(&first);
    let mut second = first.beside(OTHER);
    signer.start_agent(&mut first);
    let address = served(&first);
    signer.start_agent(&mut second);
    let guest = first.guest("web-1", "10.0.0.5");
    first.await_ready("web-1");
    writes(&first, &guest, 0);
    first.edit("web-1", &json!({"powerState": "Shelved"}));
    first.eventually("it has left its host", || {
        lead(&first, OTHER, &address);
        is_away(&first)
    });
    first.edit("web-1", &json!({"powerState": "Running"}));
    first.eventually("it is back elsewhere", || {
        lead(&first, OTHER, &address);
        is_back(&first)
    });
    assert!(nothing_is_here(&first));
    assert!(has_written(&second, &guest, 0));
    assert_eq!(second.domain(&guest).unwrap().state, DomainState::Running);
    assert_eq!(status(&first).host.as_deref(), Some(OTHER));
    assert_eq!(status(&first).addresses[0].ip, "10.0.0.5");
}

#[test]
fn an_agent_killed_at_any_point_of_shelving_is_followed_by_one_that_ends_it() {
    for effect in [
        "Shutdown",
        "RecordPower",
        "CopyDisk",
        "AdoptImage",
        "Undefine",
        "ReleasePorts",
        "Offload",
    ] {
        for moment in [Moment::Before, Moment::After] {
            let mut world = World::with_agent();
            let guest = world.guest("web-1", "10.0.0.5");
            world.await_ready("web-1");
            writes(&world, &guest, 0);
            world.kill();
            let Trap { reached, checkpoint } = trap(moment, effect);
            world.start_with_checkpoint(checkpoint);
            let point = format!("{moment:?} {effect}");
            world.edit("web-1", &json!({"powerState": "Shelved"}));
            led(&world, &point, || reached.load(Ordering::SeqCst));
            world.kill();
            world.start();
            led(&world, &format!("it has left its host: {point}"), || is_away(&world));
            world.eventually("nothing of it is here", || nothing_is_here(&world));
            world.edit("web-1", &json!({"powerState": "Running"}));
            led(&world, &format!("it is back: {point}"), || is_back(&world));
            assert!(has_written(&world, &guest, 0), "{point}");
        }
    }
}

#[test]
fn what_a_guest_wrote_that_was_started_by_hand_while_the_agent_was_away_comes_back_with_it() {
    for (moment, effect) in [
        (Moment::Before, "CopyDisk"),
        (Moment::After, "AdoptImage"),
        (Moment::Before, "Undefine"),
    ] {
        let mut world = World::with_agent();
        let guest = world.guest("web-1", "10.0.0.5");
        world.edit("web-1", &json!({"powerState": "Stopped"}));
        world.eventually("it is off", || {
            world.is_ready("web-1") && status(&world).state == Some(InstanceState::Stopped)
        });
        world.kill();
        let Trap { reached, checkpoint } = trap(moment, effect);
        world.start_with_checkpoint(checkpoint);
        let point = format!("{moment:?} {effect}");
        world.edit("web-1", &json!({"powerState": "Shelved"}));
        led(&world, &point, || reached.load(Ordering::SeqCst));
        world.kill();
        world.host.start(uid(&guest)).unwrap();
        writes(&world, &guest, 1);
        world.host.power_off_guest(uid(&guest));
        world.start();
        led(&world, &format!("it has left its host: {point}"), || is_away(&world));
        world.edit("web-1", &json!({"powerState": "Running"}));
        led(&world, &format!("it is back: {point}"), || is_back(&world));
        assert!(has_written(&world, &guest, 1), "{point}");
    }
}

#[test]
fn a_host_in_maintenance_is_freed_of_what_would_stay_for_ever() {
    let world = World::with_agent();
    let guest = world.guest("web-1", "10.0.0.5");
    world.await_ready("web-1");
    writes(&world, &guest, 0);
    world.edit(
        "web-1",
        &json!({"powerState": "Shelved", "shelve": {"offloadAfter": "Never"}}),
    );
    led(&world, "it is shelved", || {
        world.is_ready("web-1") && status(&world).state == Some(InstanceState::Shelved)
    });
    world.settle();
    assert!(!is_away(&world));
    world
        .api
        .merge::<Hypervisor>(None, NODE, json!({"spec": {"scheduling": "Maintenance"}}));
    led(&world, "it has left its host", || is_away(&world));
    world.eventually("nothing of it is here", || nothing_is_here(&world));
    world.edit("web-1", &json!({"powerState": "Running"}));
    led(&world, "it is back", || is_back(&world));
    assert!(has_written(&world, &guest, 0));
}

#[test]
fn an_agent_killed_at_any_point_of_unshelving_is_followed_by_one_that_ends_it() {
    for effect in [
        "CreateRootDisk",
        "WriteSeed",
        "EnsureNetwork",
        "Define",
        "RecordPower",
        "Start",
    ] {
        for moment in [Moment::Before, Moment::After] {
            let mut world = World::with_agent();
            let guest = world.guest("web-1", "10.0.0.5");
            world.await_ready("web-1");
            writes(&world, &guest, 0);
            world.edit("web-1", &json!({"powerState": "Shelved"}));
            led(&world, "it has left its host", || is_away(&world));
            world.kill();
            let Trap { reached, checkpoint } = trap(moment, effect);
            world.start_with_checkpoint(checkpoint);
            world.host.take_calls();
            let point = format!("{moment:?} {effect}");
            world.edit("web-1", &json!({"powerState": "Running"}));
            led(&world, &point, || reached.load(Ordering::SeqCst));
            world.kill();
            // A pause after a start that may have been one too many is not what this is about.
            world.api.clock().jump(jiff::SignedDuration::from_secs(10));
            world.start();
            led(&world, &format!("it is back: {point}"), || is_back(&world));
            assert!(has_written(&world, &guest, 0), "{point}");
            let starts = world
                .host
                .take_calls()
                .into_iter()
                .filter(|(call, _)| *call == Operation::Start);
            assert_eq!(starts.count(), 1, "{point}");
            assert_eq!(world.domain(&guest).unwrap().uuid, uid(&guest));
        }
    }
}

#[test]
fn a_shelved_instance_that_is_deleted_leaves_nothing() {
    let world = World::with_agent();
    world.guest("web-1", "10.0.0.5");
    world.await_ready("web-1");
    world.edit(
        "web-1",
        &json!({"powerState": "Shelved", "shelve": {"offloadAfter": "1h"}}),
    );
    led(&world, "it is shelved", || {
        world
            .condition("web-1", types::READY)
            .is_some_and(|ready| ready.status == "True")
            && status(&world).state == Some(InstanceState::Shelved)
    });
    assert!(shelve(&world).unwrap().offloaded_at.is_none(), "its time has not come");
    world.delete("web-1");
    world.await_gone::<Instance>("web-1");
    world.assert_nothing_left();
    world.api.collect_garbage();
    assert_eq!(world.api.list::<Image>().len(), 1, "its Image goes with it");
}
