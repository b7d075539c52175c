//! Resizing, with agents that are killed at every step.

use std::{
    os::unix::fs::MetadataExt as _,
    process::Command,
    sync::{Arc, Mutex, atomic::Ordering},
};

use futures::future::FutureExt as _;
use jiff::SignedDuration;
use kube::ResourceExt as _;
use serde_json::json;
use virga_crds::{Bytes, Flavor, FlavorSpec, Instance, InstanceState, InstanceStatus, conditions::types};
use virga_hypervisor::{DomainState, Fault, Operation};

use crate::{
    kills::kill_at,
    leader::answer,
    world::{World, uid},
};

/// More steps than any of these takes.
const MANY: usize = 48;

fn status(world: &World) -> InstanceStatus {
    world.read::<Instance>("web-1").unwrap().status.unwrap()
}

/// Two CPUs, 512 MiB of memory, and so much disk.
pub fn larger(world: &World, name: &str, disk: Bytes) {
    let spec = FlavorSpec {
        vcpus: 2,
        memory: Bytes::mib(512),
        disk,
        ..FlavorSpec::default()
    };
    world.api.create(&Flavor::new(name, spec));
}

fn a_guest(world: &World) -> Instance {
    larger(world, "m1.large", Bytes::mib(96));
    let instance = world.guest("web-1", "10.0.0.5");
    world.await_ready("web-1");
    instance
}

fn resize(world: &World, flavor: &str, policy: &str) {
    world.edit("web-1", &json!({"flavor": flavor, "resizePolicy": policy}));
    answer(world, None);
}

/// CPUs, memory in MiB, and the disk's size in MiB as its file says.
fn size(world: &World, instance: &Instance) -> (u32, u64, u64) {
    let spec = world.host.spec(uid(instance)).unwrap();
    let file = world.files(instance).join("root.qcow2");
    let info = Command::new("qemu-img")
        .args(["info", "--output=json"])
        .arg(file)
        .output();
    let info: serde_json::Value = serde_json::from_slice(&info.unwrap().stdout).unwrap();
    let disk = info["virtual-size"].as_u64().unwrap();
    (spec.topology.vcpus(), spec.memory_bytes >> 20, disk >> 20)
}

fn root(world: &World, instance: &Instance) -> u64 {
    std::fs::metadata(world.files(instance).join("root.qcow2"))
        .unwrap()
        .ino()
}

fn is_final(world: &World) -> bool {
    let resize = status(world).resize;
    world.is_ready("web-1") && resize.is_some_and(|resize| resize.confirmed_at.is_some())
}

fn is_resized(world: &World) -> bool {
    world.is_ready("web-1") && status(world).state == Some(InstanceState::Resized)
}

fn is_back(world: &World) -> bool {
    let resize = status(world).resize;
    world.is_ready("web-1") && resize.is_some_and(|resize| resize.reverted_at.is_some())
}

#[test]
fn a_resized_guest_boots_once_with_its_new_size_from_the_disk_that_it_had() {
    let seen: Arc<Mutex<Vec<&'static str>>> = Arc::default();
    let record = seen.clone();
    let mut world = World::new();
    world.start_with_checkpoint(Arc::new(move |moment, name| {
        if moment == virga_agent::host::Moment::Before {
            record.lock().unwrap().push(name);
        }
        async {}.boxed()
    }));
    let instance = a_guest(&world);
    world.settle();
    let (before, disk) = (status(&world), root(&world, &instance));
    assert_eq!(size(&world, &instance), (1, 256, 64));
    seen.lock().unwrap().clear();

    // Until it is answered, the guest is left alone, and what is written of it is as it was built.
    world.edit("web-1", &json!({"flavor": "m1.large"}));
    world.await_reason("web-1", types::READY, "WaitingForLeader");
    world.settle();
    let effects: Vec<_> = seen.lock().unwrap().drain(..).collect();
    assert!(effects.iter().all(|effect| *effect == "MarkInLine"), "{effects:?}");
    assert_eq!(size(&world, &instance), (1, 256, 64));

    answer(&world, None);
    world.eventually("it is resized", || is_final(&world));
    assert_eq!(size(&world, &instance), (2, 512, 96));
    assert_eq!(root(&world, &instance), disk);
    let after = status(&world);
    assert_eq!(
        (after.addresses, after.state),
        (before.addresses, Some(InstanceState::Active))
    );
    assert_eq!(after.flavor.unwrap().name, "m1.large");
    assert_eq!(after.actions[0].action.as_str(), "Resize");
    let steps = [
        "RecordPower",
        "Shutdown",
        "RecordRoot",
        "Define",
        "RecordPower",
        "RecordRoot",
        "RecordRoot",
        "GrowRoot",
        "RecordRoot",
        "RecordPower",
        "Start",
    ];
    // Networks come up beside the rest.
    let beside = |step: &&&str| !["MarkInLine", "EnsureNetwork"].contains(*step);
    let done: Vec<_> = seen.lock().unwrap().iter().filter(beside).copied().collect();
    assert_eq!(done, steps);
    world.delete("web-1");
    world.await_gone::<Instance>("web-1");
}

#[test]
fn an_agent_killed_at_any_step_of_a_resize_or_back_is_followed_by_one_that_ends_it() {
    for (policy, back) in [("Auto", false), ("Confirm", false), ("Confirm", true)] {
        for step in 0..MANY {
            let mut world = World::with_agent();
            let instance = a_guest(&world);
            let disk = root(&world, &instance);
            let ended = |world: &World| match (policy, back) {
                ("Auto", _) => is_final(world),
                (_, false) => is_resized(world),
                _ => is_back(world),
            };
            if back {
                resize(&world, "m1.large", policy);
                world.eventually("it is resized", || is_resized(&world));
            }
            world.kill();
            world.api.clock().jump(SignedDuration::from_mins(11));
            if back {
                world.edit("web-1", &json!({"flavor": "m1.small"}));
            } else {
                resize(&world, "m1.large", policy);
            }
            let (reached, checkpoint) = kill_at(step);
            world.start_with_checkpoint(checkpoint);
            world.eventually(&format!("step {step}, or the end"), || {
                reached.load(Ordering::SeqCst) || ended(&world)
            });
            let last = !reached.load(Ordering::SeqCst);
            world.kill();
            world.api.clock().jump(SignedDuration::from_secs(10));
            world.start();
            world.eventually(&format!("{policy}, back: {back}, {step}"), || ended(&world));
            let wanted = match (policy, back) {
                ("Auto", _) => (2, 512, 96),
                (_, false) => (2, 512, 64),
                _ => (1, 256, 64),
            };
            assert_eq!(size(&world, &instance), wanted, "{policy}, back: {back}, {step}");
            assert_eq!(root(&world, &instance), disk);
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
fn a_confirmation_grows_the_disk_of_a_guest_that_runs_on() {
    let world = World::with_agent();
    let instance = a_guest(&world);
    resize(&world, "m1.large", "Confirm");
    world.eventually("it is resized", || is_resized(&world));
    assert_eq!(world.host.disk_bytes(uid(&instance), "vda"), None);
    world.host.take_calls();
    world.edit("web-1", &json!({"confirmResize": "m1.large"}));
    world.eventually("it is final", || is_final(&world));
    assert_eq!(status(&world).state, Some(InstanceState::Active));
    assert_eq!(world.host.disk_bytes(uid(&instance), "vda"), Some(96 << 20));
    let calls = world.host.take_calls();
    assert!(
        !calls
            .iter()
            .any(|(call, _)| matches!(call, Operation::Shutdown | Operation::Start | Operation::Define))
    );
}

#[test]
fn what_is_refused_runs_on_as_it_is_and_says_why() {
    let world = World::with_agent();
    let instance = a_guest(&world);
    larger(&world, "m1.thin", Bytes::mib(32));
    let pinned = FlavorSpec {
        vcpus: 1,
        memory: Bytes::mib(256),
        disk: Bytes::mib(64),
        extra_specs: [("hw:cpu_policy".to_owned(), "dedicated".to_owned())].into(),
        ..FlavorSpec::default()
    };
    world.api.create(&Flavor::new("m1.pinned", pinned));
    world.host.take_calls();
    let asks = [
        (
            "m1.large",
            Some("RamFilter"),
            "ResizeRefused",
            "node-1 has no room for m1.large: RamFilter; name a smaller Flavor",
        ),
        (
            "m1.thin",
            None,
            "ResizeRefused",
            "the root disk has 64Mi, more than the 32Mi of m1.thin",
        ),
        (
            "m1.pinned",
            None,
            "ResizeRefused",
            "spec.flavor: node-1 can't give it what m1.pinned asks for: ",
        ),
        (
            "m9.none",
            None,
            "FlavorNotFound",
            "there is no Flavor \"m9.none\": create it, or set spec.flavor back to m1.small",
        ),
    ];
    for (flavor, refused, reason, words) in asks {
        world.edit("web-1", &json!({ "flavor": flavor }));
        answer(&world, refused);
        world.eventually(&format!("{flavor}: {reason}"), || {
            world
                .condition("web-1", types::READY)
                .is_some_and(|ready| ready.reason == reason && ready.message.contains(words))
        });
    }
    // What was missing comes.
    larger(&world, "m9.none", Bytes::mib(64));
    world.eventually("it is resized", || is_final(&world));
    assert_eq!(size(&world, &instance), (2, 512, 64));
}

#[test]
fn a_definition_that_libvirt_refuses_is_tried_again_and_can_be_taken_back() {
    for back in [false, true] {
        let world = World::with_agent();
        let instance = a_guest(&world);
        let error = || virga_hypervisor::Error::Failed {
            doing: "defining".into(),
            message: "no such machine".into(),
        };
        world
            .host
            .fail_next(Operation::Define, if back { 3 } else { 1 }, &Fault::Error(error()));
        resize(&world, "m1.large", "Confirm");
        if back {
            world.eventually("it fails", || {
                world
                    .condition("web-1", types::READY)
                    .is_some_and(|ready| ready.message.contains("no such machine"))
            });
            world.edit("web-1", &json!({"flavor": "m1.small"}));
        }
        world.eventually("it is over", || {
            world.nudge("web-1");
            if back { is_back(&world) } else { is_resized(&world) }
        });
        assert_eq!(size(&world, &instance).0, if back { 1 } else { 2 });
        assert_eq!(world.domain(&instance).unwrap().state, DomainState::Running);
        assert_eq!(instance.name_any(), "web-1");
    }
}
