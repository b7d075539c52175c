//! Images that are made of Instances' disks.

use std::{path::PathBuf, process::Command, sync::atomic::Ordering};

use kube::ResourceExt as _;
use serde_json::json;
use virga_agent::host::Moment;
use virga_crds::{
    Bytes, CachedImage, CachedImageState, Hypervisor, Image, ImageSource, ImageSpec, ImageVisibility, Instance,
    InstanceSource, Quiesce,
};
use virga_hypervisor::{
    DomainState,
    Operation::{self, BeginBackup, Freeze, Start, Suspend, Thaw},
};

use crate::{
    crashes::{Trap, trap},
    world::{NODE, SHOP, World, uid},
};

const PATTERN: &str = "0x5a 1M 64k";

fn qemu_io(file: &std::path::Path, command: &str) -> bool {
    let output = Command::new("qemu-io")
        .args(["-f", "qcow2", "-c", command])
        .arg(file)
        .output()
        .unwrap();
    // A pattern that differs is said and is no failure to qemu-io.
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    output.status.success() && !said.contains("failed")
}

/// An Image of an Instance, as the controller leaves it: this node is to make it.
fn snapshot(world: &World, name: &str, instance: &Instance, quiesce: Quiesce) -> Image {
    let spec = ImageSpec {
        source: ImageSource {
            instance: Some(InstanceSource {
                name: instance.name_any(),
                quiesce,
            }),
            ..ImageSource::default()
        },
        disk_format: None,
        visibility: ImageVisibility::Private,
        min_disk: Bytes::ZERO,
        min_memory: Bytes::ZERO,
        properties: std::collections::BTreeMap::default(),
    };
    let mut image = Image::new(name, spec);
    image.metadata.namespace = Some(SHOP.into());
    let image = world.api.create(&image);
    let from = json!({"instanceUid": instance.uid().unwrap(), "minDisk": "64Mi"});
    let status = json!({"state": "Importing", "importer": NODE, "snapshot": from});
    world.api.merge_status::<Image>(Some(SHOP), name, status);
    image
}

/// What the node says of an image.
fn line(world: &World, image: &Image) -> Option<CachedImage> {
    let hypervisor = world.api.read::<Hypervisor>(None, NODE)?;
    let mut images = hypervisor.status?.images.into_iter();
    images.find(|line| Some(&line.uid) == image.metadata.uid.as_ref())
}

fn await_made(world: &World, image: &Image) -> PathBuf {
    world.eventually("the image is made", || {
        line(world, image).is_some_and(|line| line.state == CachedImageState::Cached)
    });
    let digest = line(world, image).unwrap().digest.unwrap();
    let hex = digest.strip_prefix("sha256:").unwrap();
    world.path().join("images").join(format!("sha256-{hex}.qcow2"))
}

/// That the image is a whole disk of its own with what the guest had written, and that the guest goes on.
fn assert_is_a_copy(world: &World, file: &std::path::Path, instance: &Instance) {
    let info = Command::new("qemu-img")
        .args(["info", "--output=json"])
        .arg(file)
        .output()
        .unwrap();
    let info: serde_json::Value = serde_json::from_slice(&info.stdout).unwrap();
    assert_eq!(
        (&info["virtual-size"], &info["backing-filename"]),
        (&json!(64 << 20), &json!(null))
    );
    assert!(
        qemu_io(file, &format!("read -P {PATTERN}")),
        "what the guest had written"
    );
    assert!(!world.host.is_frozen(uid(instance)) && !world.host.is_backed_up(uid(instance)));
    world.eventually("nothing of the copy is left", || {
        std::fs::read_dir(world.path().join("snapshots")).unwrap().count() == 0
    });
}

/// A guest that runs and has written something.
fn written_guest(world: &World) -> Instance {
    let instance = world.guest("web-1", "10.0.0.5");
    world.await_ready("web-1");
    let disk = world.files(&instance).join("root.qcow2");
    assert!(qemu_io(&disk, &format!("write -P {PATTERN}")));
    instance
}

fn stopped_guest(world: &World) -> Instance {
    let instance = written_guest(world);
    world.edit("web-1", &json!({"powerState": "Stopped"}));
    world.await_ready("web-1");
    instance
}

fn calls(world: &World, wanted: &[Operation]) -> Vec<Operation> {
    let calls = world.host.take_calls().into_iter().map(|(call, _)| call);
    calls.filter(|call| wanted.contains(call)).collect()
}

#[test]
fn a_guest_that_runs_stands_still_only_while_its_copy_begins() {
    let world = World::with_agent();
    let instance = written_guest(&world);
    world.host.take_calls();
    world.host.set_backup_rounds(uid(&instance), 12);
    let image = snapshot(&world, "copy", &instance, Quiesce::Required);
    world.eventually("its user is told", || {
        let status = world.read::<Instance>("web-1").unwrap().status.unwrap();
        status.task.as_deref() == Some("snapshotting")
    });
    world.eventually("how far it is is told", || {
        line(&world, &image).is_some_and(|line| line.progress.is_some_and(|percent| percent > 0))
    });
    assert!(world.is_ready("web-1"), "it runs as asked all the time");
    assert!(!world.host.is_frozen(uid(&instance)));
    let file = await_made(&world, &image);
    assert_is_a_copy(&world, &file, &instance);
    assert_eq!(
        calls(&world, &[BeginBackup, Freeze, Start, Suspend, Thaw]),
        [Freeze, BeginBackup, Thaw]
    );
    world.eventually("it is over for its user too", || {
        world.read::<Instance>("web-1").unwrap().status.unwrap().task.is_none()
    });
}

#[test]
fn a_guest_whose_agent_is_silent_is_copied_as_it_is_unless_that_is_not_enough() {
    let world = World::with_agent();
    let instance = written_guest(&world);
    world.host.set_guest_agent(uid(&instance), false);
    world.host.take_calls();
    let lax = snapshot(&world, "lax", &instance, Quiesce::WhenPossible);
    let file = await_made(&world, &lax);
    assert_is_a_copy(&world, &file, &instance);
    assert_eq!(
        calls(&world, &[BeginBackup, Freeze, Thaw]),
        [Freeze, BeginBackup],
        "nobody was asked to stand still, so nobody is asked to go on"
    );
    let strict = snapshot(&world, "strict", &instance, Quiesce::Required);
    world.eventually("it is told what is missing", || {
        line(&world, &strict).is_some_and(|line| {
            line.state == CachedImageState::Unreachable
                && line
                    .message
                    .is_some_and(|message| message.contains("quiesce is Required") && message.contains("not connected"))
        })
    });
    world.host.take_calls();
    let plain = snapshot(&world, "plain", &instance, Quiesce::Never);
    assert_is_a_copy(&world, &await_made(&world, &plain), &instance);
    assert_eq!(calls(&world, &[Freeze]), []);
}

#[test]
fn a_guest_that_is_off_is_copied_from_its_file_and_started_only_then() {
    let mut world = World::new();
    let Trap { reached, checkpoint } = trap(Moment::Before, "CopyDisk");
    world.start_with_checkpoint(checkpoint);
    let instance = stopped_guest(&world);
    let image = snapshot(&world, "copy", &instance, Quiesce::Required);
    world.eventually("it is being copied", || reached.load(Ordering::SeqCst));
    world.host.take_calls();
    world.edit("web-1", &json!({"powerState": "Running"}));
    world.eventually("its start waits", || {
        let instance = world.read::<Instance>("web-1").unwrap();
        let status = instance.status.unwrap();
        status.observed_generation == instance.metadata.generation && status.task.as_deref() == Some("snapshotting")
    });
    assert_eq!(calls(&world, &[Start]), []);
    assert_eq!(world.domain(&instance).unwrap().state, DomainState::ShutOff);
    // Killed at that, the next agent ends both.
    world.kill();
    world.start();
    assert_is_a_copy(&world, &await_made(&world, &image), &instance);
    world.await_ready("web-1");
    assert_eq!(world.domain(&instance).unwrap().state, DomainState::Running);
}

#[test]
fn an_agent_killed_at_any_point_of_a_copy_is_followed_by_one_that_ends_it() {
    let live = ["Freeze", "BeginBackup", "Thaw", "AdoptImage"];
    let off = ["CopyDisk", "AdoptImage"];
    let points = live
        .iter()
        .map(|effect| (true, effect))
        .chain(off.iter().map(|effect| (false, effect)));
    for (runs, effect) in points {
        for moment in [Moment::Before, Moment::After] {
            let mut world = World::new();
            let Trap { reached, checkpoint } = trap(moment, effect);
            world.start_with_checkpoint(checkpoint);
            let instance = if runs {
                written_guest(&world)
            } else {
                stopped_guest(&world)
            };
            let image = snapshot(&world, "copy", &instance, Quiesce::Required);
            let point = format!("{moment:?} {effect}, running: {runs}");
            world.eventually(&point, || reached.load(Ordering::SeqCst));
            world.kill();
            let stood_still = world.host.is_frozen(uid(&instance));
            world.start();
            if stood_still {
                world.eventually(&format!("the guest goes on: {point}"), || {
                    !world.host.is_frozen(uid(&instance))
                });
            }
            let file = await_made(&world, &image);
            assert_is_a_copy(&world, &file, &instance);
            let state = if runs {
                DomainState::Running
            } else {
                DomainState::ShutOff
            };
            assert_eq!(world.domain(&instance).unwrap().state, state, "{point}");
            world.delete("web-1");
            world.await_gone::<Instance>("web-1");
            assert!(file.exists(), "the image outlives its Instance: {point}");
        }
    }
}

#[test]
fn a_copy_whose_image_is_deleted_is_given_up_at_once() {
    let world = World::with_agent();
    let instance = written_guest(&world);
    world.host.set_backup_rounds(uid(&instance), u64::MAX);
    snapshot(&world, "copy", &instance, Quiesce::Required);
    world.eventually("it is being copied", || world.host.is_backed_up(uid(&instance)));
    world.api.delete::<Image>(Some(SHOP), "copy");
    world.eventually("it is given up", || !world.host.is_backed_up(uid(&instance)));
    world.eventually("nothing of the copy is left", || {
        std::fs::read_dir(world.path().join("snapshots")).unwrap().count() == 0
    });
    world.host.set_backup_rounds(uid(&instance), 1);
    let next = snapshot(&world, "next", &instance, Quiesce::Required);
    assert_is_a_copy(&world, &await_made(&world, &next), &instance);
}

#[test]
fn an_agent_that_is_stopped_in_the_middle_leaves_no_guest_standing_still() {
    let mut world = World::new();
    let Trap { reached, checkpoint } = trap(Moment::Before, "BeginBackup");
    world.start_with_checkpoint(checkpoint);
    let instance = written_guest(&world);
    snapshot(&world, "copy", &instance, Quiesce::Required);
    world.eventually("it stands still", || reached.load(Ordering::SeqCst));
    assert!(world.host.is_frozen(uid(&instance)));
    world.stop();
    assert!(!world.host.is_frozen(uid(&instance)));
}

#[test]
fn a_guest_that_goes_off_in_the_middle_is_copied_from_its_file() {
    let world = World::with_agent();
    let instance = written_guest(&world);
    world.host.set_backup_rounds(uid(&instance), u64::MAX);
    let image = snapshot(&world, "copy", &instance, Quiesce::Never);
    world.eventually("it is being copied", || world.host.is_backed_up(uid(&instance)));
    world.edit("web-1", &json!({"powerState": "Stopped"}));
    let file = await_made(&world, &image);
    assert_is_a_copy(&world, &file, &instance);
    assert_eq!(world.domain(&instance).unwrap().state, DomainState::ShutOff);
}
