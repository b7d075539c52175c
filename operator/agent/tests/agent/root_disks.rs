//! Rebuilding and rescuing, with agents that are killed at every step.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, atomic::Ordering},
};

use futures::future::FutureExt as _;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use virga_crds::{Bytes, Instance, InstanceState, InstanceStatus, VolumeAttachment, conditions::types};
use virga_hypervisor::{DomainState, Fault, Operation};

use crate::{
    kills::kill_at,
    world::{NODE, World, uid},
};

/// More steps than any of these takes.
const MANY: usize = 64;

fn status(world: &World) -> InstanceStatus {
    world.read::<Instance>("web-1").unwrap().status.unwrap()
}

/// An image whose bytes are none of the others'.
fn another_image(world: &World, name: &str, size: &str) {
    let store = world.path().join("store");
    std::fs::create_dir_all(&store).unwrap();
    let file = store.join(format!("{name}.qcow2"));
    let made = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2"])
        .arg(file)
        .arg(size)
        .status();
    assert!(made.unwrap().success());
    world.image_object(name);
}

fn a_guest_with_a_volume(world: &World) -> Instance {
    another_image(world, "fedora", "24M");
    another_image(world, "rescue", "32M");
    world.volume("data", Bytes::mib(8), Some(NODE));
    let instance = world.instance("web-1", |spec| {
        spec.volumes = vec![VolumeAttachment { name: "data".into() }];
        spec.user_data = Some(virga_crds::UserData {
            inline: Some("#!/bin/sh\necho one\n".into()),
            secret_ref: None,
        });
    });
    world.port(&instance, "10.0.0.5");
    instance
}

/// The next whole second, which is what an API server keeps of a time.
fn moment(world: &World) -> Timestamp {
    use virga_runtime::clock::Clock as _;
    let now = world.api.clock().reader().now();
    let next = Timestamp::from_second(now.as_second() + 1).unwrap();
    world.api.clock().jump(SignedDuration::from_secs(2));
    next
}

fn inode(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().ino()
}

fn base(files: &Path, link: &str) -> PathBuf {
    std::fs::read_link(files.join(link)).unwrap()
}

/// What of a rebuild or a rescue is there.
fn leftovers(files: &Path) -> Vec<String> {
    let names = std::fs::read_dir(files).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names
        .filter(|name| name.starts_with("next.") || name.starts_with("rescue.") || name.starts_with(".virga-tmp-"))
        .collect()
}

fn paths(world: &World, instance: &Instance) -> Vec<(String, String)> {
    let spec = world.host.spec(uid(instance)).unwrap();
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    spec.disks
        .iter()
        .map(|disk| (disk.target.clone(), name(&disk.path)))
        .collect()
}

fn rebuilt(world: &World, at: Timestamp) -> bool {
    let told = status(world).rebuild;
    told.is_some_and(|told| told.at.0 == at && told.finished_at.is_some())
}

#[test]
fn a_rebuilt_guest_has_a_new_root_disk_and_keeps_its_address_and_its_volume() {
    let world = World::with_agent();
    let instance = a_guest_with_a_volume(&world);
    world.await_ready("web-1");
    let files = world.files(&instance);
    let (before, old_base) = (status(&world), base(&files, "base"));
    let (root, seed) = (
        inode(&files.join("root.qcow2")),
        std::fs::read(files.join("seed.iso")).unwrap(),
    );
    let disks = paths(&world, &instance);
    world.host.take_calls();

    let at = moment(&world);
    world.edit(
        "web-1",
        &json!({"rebuild": {"at": at}, "image": {"name": "fedora"}, "userData": {"inline": "#!/bin/sh\necho two\n"}}),
    );
    world.eventually("it is rebuilt", || rebuilt(&world, at));
    world.await_ready("web-1");
    let after = status(&world);
    assert_eq!(after.addresses, before.addresses);
    assert_eq!(after.image.map(|image| image.name).as_deref(), Some("fedora"));
    assert_eq!(after.state, Some(InstanceState::Active));
    assert_ne!(inode(&files.join("root.qcow2")), root);
    assert_ne!(base(&files, "base"), old_base);
    let backing = &world.host.spec(uid(&instance)).unwrap().disks[0].backing[0].path;
    assert_eq!(backing, &base(&files, "base"));
    let written = std::fs::read(files.join("seed.iso")).unwrap();
    assert_ne!(written, seed);
    assert!(String::from_utf8_lossy(&written).contains("echo two"));
    assert_eq!(paths(&world, &instance), disks, "the same devices");
    assert_eq!(leftovers(&files), [] as [String; 0]);
    let calls: Vec<_> = world.host.take_calls().into_iter().map(|(call, _)| call).collect();
    let count = |kind| calls.iter().filter(|call| **call == kind).count();
    assert_eq!((count(Operation::Shutdown), count(Operation::Start)), (1, 1));

    world.nudge("web-1");
    world.settle();
    assert!(
        world
            .host
            .take_calls()
            .iter()
            .all(|(call, _)| *call != Operation::Start)
    );
    world.delete("web-1");
    world.await_gone::<Instance>("web-1");
}

#[test]
fn an_agent_killed_at_any_step_of_a_rebuild_neither_forgets_nor_repeats_it() {
    for step in 0..MANY {
        let mut world = World::with_agent();
        let instance = a_guest_with_a_volume(&world);
        world.await_ready("web-1");
        world.kill();
        let files = world.files(&instance);
        let old = base(&files, "base");
        let at = moment(&world);
        world.edit("web-1", &json!({"rebuild": {"at": at}, "image": {"name": "fedora"}}));
        world.api.clock().jump(SignedDuration::from_mins(11));
        let (reached, checkpoint) = kill_at(step);
        world.start_with_checkpoint(checkpoint);
        world.eventually(&format!("step {step}, or the end"), || {
            reached.load(Ordering::SeqCst) || rebuilt(&world, at) && world.is_ready("web-1")
        });
        let ended = !reached.load(Ordering::SeqCst);
        world.kill();
        world.api.clock().jump(SignedDuration::from_secs(10));
        world.start();
        world.eventually(&format!("rebuilt after {step}"), || rebuilt(&world, at));
        world.await_ready("web-1");
        let root = inode(&files.join("root.qcow2"));
        assert_ne!(base(&files, "base"), old, "{step}");
        let spec = world.host.spec(uid(&instance)).unwrap();
        assert_eq!(spec.disks[0].backing[0].path, base(&files, "base"), "{step}");
        assert_eq!(leftovers(&files), [] as [String; 0], "{step}");
        assert_eq!(world.domain(&instance).unwrap().state, DomainState::Running);
        world.kill();
        world.start();
        world.eventually("it looked", || {
            world.nudge("web-1");
            world.is_ready("web-1")
        });
        assert_eq!(inode(&files.join("root.qcow2")), root, "done twice: {step}");
        if ended {
            assert!(step > 16, "there are more steps than {step}");
            return;
        }
    }
    panic!("it never ends");
}

#[test]
fn a_rebuild_with_a_missing_image_or_secret_leaves_the_guest_running() {
    let world = World::with_agent();
    let instance = a_guest_with_a_volume(&world);
    world.await_ready("web-1");
    world.host.take_calls();
    let at = moment(&world);
    world.edit("web-1", &json!({"rebuild": {"at": at}, "image": {"name": "nowhere"}}));
    let told = world.await_reason("web-1", types::READY, "ImageNotFound");
    assert!(told.message.contains("\"nowhere\""), "{}", told.message);
    let ended = |call: &Operation| matches!(call, Operation::Shutdown | Operation::Destroy | Operation::Undefine);
    assert!(!world.host.take_calls().iter().any(|(call, _)| ended(call)));
    assert_eq!(world.domain(&instance).unwrap().state, DomainState::Running);
    assert_eq!(status(&world).image.map(|image| image.name).as_deref(), Some("debian"));
    another_image(&world, "nowhere", "40M");
    world.eventually("it is rebuilt", || rebuilt(&world, at));
    world.await_ready("web-1");
    // Another one is taken back: no image of that name ever came.
    let again = moment(&world);
    world.edit("web-1", &json!({"rebuild": {"at": again}, "image": {"name": "never"}}));
    world.await_reason("web-1", types::READY, "ImageNotFound");
    world.edit("web-1", &json!({"rebuild": {"at": at}, "image": {"name": "nowhere"}}));
    world.await_ready("web-1");
    assert_eq!(leftovers(&world.files(&instance)), [] as [String; 0]);
}

#[test]
fn a_stopped_guest_is_rebuilt_and_stays_stopped() {
    let world = World::with_agent();
    let instance = a_guest_with_a_volume(&world);
    world.edit("web-1", &json!({"powerState": "Stopped"}));
    world.await_ready("web-1");
    world.host.take_calls();
    let at = moment(&world);
    world.edit("web-1", &json!({"rebuild": {"at": at}}));
    world.eventually("it is rebuilt", || rebuilt(&world, at));
    world.await_ready("web-1");
    assert_eq!(world.domain(&instance).unwrap().state, DomainState::ShutOff);
    assert!(
        world
            .host
            .take_calls()
            .iter()
            .all(|(call, _)| *call != Operation::Start)
    );
}

#[test]
fn a_rescued_guest_boots_from_the_rescue_disk_with_its_own_beside_it_and_goes_back() {
    let world = World::with_agent();
    let instance = a_guest_with_a_volume(&world);
    world.await_ready("web-1");
    let files = world.files(&instance);
    let (root, disks) = (inode(&files.join("root.qcow2")), paths(&world, &instance));
    let at = moment(&world);

    world.edit("web-1", &json!({"rescue": {"image": {"name": "rescue"}}}));
    world.eventually("it is rescued", || status(&world).state == Some(InstanceState::Rescued));
    world.await_ready("web-1");
    let rescued = paths(&world, &instance);
    let names: Vec<_> = rescued
        .iter()
        .map(|(target, path)| (target.as_str(), path.as_str()))
        .collect();
    let volume = disks[1].1.as_str();
    assert_eq!(names, [("vda", "rescue.qcow2"), ("vdb", "root.qcow2"), ("vdc", volume)]);
    let spec = world.host.spec(uid(&instance)).unwrap();
    assert_eq!(spec.disks[0].backing[0].path, base(&files, "rescue.base"));
    assert_eq!((spec.disks[0].boot_order, spec.disks[1].boot_order), (Some(1), None));
    assert_eq!(spec.interfaces.len(), 1);
    // What a rescue forbids waits for its end.
    world.edit("web-1", &json!({"rebuild": {"at": at}}));
    let told = world.await_reason("web-1", types::READY, "StateForbids");
    assert!(told.message.contains("take spec.rescue out first"), "{}", told.message);
    world
        .api
        .merge::<Instance>(Some("shop"), "web-1", json!({"spec": {"rebuild": null}}));
    // Whoever comes later finds it as it was left.
    for wanted in ["Stopped", "Running"] {
        world.edit("web-1", &json!({ "powerState": wanted }));
        world.await_ready("web-1");
        assert_eq!(status(&world).state, Some(InstanceState::Rescued), "{wanted}");
        assert_eq!(paths(&world, &instance), rescued);
    }

    world
        .api
        .merge::<Instance>(Some("shop"), "web-1", json!({"spec": {"rescue": null}}));
    world.eventually("it is back", || status(&world).state == Some(InstanceState::Active));
    world.await_ready("web-1");
    assert_eq!(paths(&world, &instance), disks);
    assert_eq!(inode(&files.join("root.qcow2")), root);
    assert_eq!(leftovers(&files), [] as [String; 0]);
}

#[test]
fn a_volume_that_grows_while_its_guest_is_rescued_is_the_one_that_grows() {
    let world = World::with_agent();
    let instance = a_guest_with_a_volume(&world);
    world.await_ready("web-1");
    world.edit("web-1", &json!({"rescue": {}}));
    world.eventually("it is rescued", || status(&world).state == Some(InstanceState::Rescued));
    world.await_ready("web-1");
    world
        .api
        .merge::<virga_crds::Volume>(Some("shop"), "data", json!({"spec": {"size": "16Mi"}}));
    world.eventually("it has grown", || {
        world.host.disk_bytes(uid(&instance), "vdc") == Some(16 << 20)
    });
    assert_eq!(
        world.host.disk_bytes(uid(&instance), "vdb"),
        None,
        "its root disk is as it was"
    );
}

#[test]
fn an_agent_killed_at_any_step_into_a_rescue_or_out_of_it_is_followed_by_one_that_ends_it() {
    for leaving in [false, true] {
        for step in 0..MANY {
            let mut world = World::with_agent();
            let instance = a_guest_with_a_volume(&world);
            world.await_ready("web-1");
            let rescued = || status(&world).state == Some(InstanceState::Rescued) && world.is_ready("web-1");
            if leaving {
                world.edit("web-1", &json!({"rescue": {"image": {"name": "rescue"}}}));
                world.eventually("it is rescued", rescued);
            }
            world.kill();
            world.api.clock().jump(SignedDuration::from_mins(11));
            let spec = if leaving {
                json!({"spec": {"rescue": null}})
            } else {
                json!({"spec": {"rescue": {"image": {"name": "rescue"}}}})
            };
            world.api.merge::<Instance>(Some("shop"), "web-1", spec);
            let (reached, checkpoint) = kill_at(step);
            world.start_with_checkpoint(checkpoint);
            let ended = |world: &World| {
                let state = status(world).state;
                world.is_ready("web-1") && (state == Some(InstanceState::Rescued)) != leaving
            };
            world.eventually(&format!("step {step}, or the end"), || {
                reached.load(Ordering::SeqCst) || ended(&world)
            });
            let last = !reached.load(Ordering::SeqCst);
            world.kill();
            world.api.clock().jump(SignedDuration::from_secs(10));
            world.start();
            world.eventually(&format!("leaving: {leaving}, {step}"), || ended(&world));
            let first = &paths(&world, &instance)[0].1;
            assert_eq!(first == "rescue.qcow2", !leaving, "{step}");
            assert_eq!(leftovers(&world.files(&instance)).is_empty(), leaving, "{step}");
            assert_eq!(world.domain(&instance).unwrap().state, DomainState::Running);
            if last {
                assert!(step > 10, "there are more steps than {step}");
                break;
            }
            assert!(step + 1 < MANY, "it never ends");
        }
    }
}

#[test]
fn a_guest_whose_rescue_image_is_missing_runs_on_untouched() {
    let world = World::with_agent();
    let instance = a_guest_with_a_volume(&world);
    world.await_ready("web-1");
    world.host.take_calls();
    world.edit("web-1", &json!({"rescue": {"image": {"name": "nowhere"}}}));
    let told = world.await_reason("web-1", types::READY, "ImageNotFound");
    assert!(
        told.message.contains("spec.rescue.image") && told.message.contains("\"nowhere\""),
        "{}",
        told.message
    );
    assert_eq!(world.domain(&instance).unwrap().state, DomainState::Running);
    assert!(world.host.take_calls().iter().all(|(call, _)| call.is_read()));
    world
        .api
        .merge::<Instance>(Some("shop"), "web-1", json!({"spec": {"rescue": null}}));
    world.await_ready("web-1");
}

/// A note that can't be read is no ground to guess which disk the guest may have.
#[test]
fn a_note_that_can_not_be_read_stops_all_work_and_names_the_file() {
    let mut world = World::with_agent();
    let instance = a_guest_with_a_volume(&world);
    world.await_ready("web-1");
    world.kill();
    std::fs::write(world.files(&instance).join("root.json"), "{\"rescue\": [").unwrap();
    world.edit("web-1", &json!({"powerState": "Stopped"}));
    world.start();
    let told = world.await_reason("web-1", types::RUNNING, "LibvirtUnavailable");
    assert!(
        told.message.contains("root.json") && told.message.contains("put it right"),
        "{}",
        told.message
    );
    assert_eq!(world.domain(&instance).unwrap().state, DomainState::Running);
}

/// A definition that libvirt refuses leaves the rebuild where it was, to be gone on with.
#[test]
fn a_rebuild_whose_domain_can_not_be_defined_is_gone_on_with() {
    let world = World::with_agent();
    a_guest_with_a_volume(&world);
    world.await_ready("web-1");
    let error = virga_hypervisor::Error::Failed {
        doing: "defining".into(),
        message: "no room for it".into(),
    };
    world.host.fail_next(Operation::Define, 1, &Fault::Error(error));
    let at = moment(&world);
    world.edit("web-1", &json!({"rebuild": {"at": at}}));
    world.eventually("it is rebuilt", || {
        world.nudge("web-1");
        rebuilt(&world, at)
    });
    world.await_ready("web-1");
}

/// What the agent does to rebuild a guest is what is asked for, and nothing else.
#[test]
fn a_rebuild_takes_these_steps() {
    let seen: Arc<Mutex<Vec<&'static str>>> = Arc::default();
    let record = seen.clone();
    let mut world = World::new();
    world.start_with_checkpoint(Arc::new(move |moment, name| {
        if moment == virga_agent::host::Moment::Before {
            record.lock().unwrap().push(name);
        }
        async {}.boxed()
    }));
    world.guest("web-1", "10.0.0.5");
    world.await_ready("web-1");
    world.settle();
    seen.lock().unwrap().clear();
    let at = moment(&world);
    world.edit("web-1", &json!({"rebuild": {"at": at}}));
    world.eventually("it is rebuilt", || rebuilt(&world, at));
    world.await_ready("web-1");
    let steps = [
        "DropNextRoot",
        "RecordRoot",
        "CreateNextRoot",
        "WriteNextSeed",
        "RecordPower",
        "Shutdown",
        "RecordRoot",
        "ExchangeRoot",
        "Undefine",
        "Define",
        "RecordPower",
        "RecordRoot",
        "EnsureNetwork",
        "RecordPower",
        "Start",
    ];
    assert_eq!(*seen.lock().unwrap(), steps);
}
