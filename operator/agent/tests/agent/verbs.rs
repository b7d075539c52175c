//! Suspending, rebooting, and guests that end by themselves, with agents that are killed in between.

use std::sync::{Arc, Mutex, atomic::Ordering};

use futures::future::FutureExt as _;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use virga_agent::host::Moment;
use virga_crds::{Instance, InstanceState, InstanceStatus, ObservedPower, conditions::types};
use virga_hypervisor::{DomainState, Fault, Hypervisor as _, Operation, SavedMemory};

use crate::crashes::{Trap, trap};
use crate::world::{World, uid};

fn status(world: &World) -> InstanceStatus {
    world.read::<Instance>("web-1").unwrap().status.unwrap()
}

fn calls(world: &World, kind: Operation) -> usize {
    let calls = world.host.take_calls().into_iter();
    calls.filter(|(operation, _)| *operation == kind).count()
}

/// The agent's present, in the API's whole seconds.
fn now(world: &World) -> Timestamp {
    use virga_runtime::clock::Clock as _;
    let now = world.api.clock().reader().now();
    Timestamp::from_second(now.as_second() + 1).unwrap()
}

#[test]
fn a_user_suspends_and_resumes_an_instance() {
    let world = World::with_agent();
    let instance = world.guest("web-1", "10.0.0.5");
    world.await_ready("web-1");
    for (wanted, saved, state) in [
        ("Suspended", SavedMemory::Whole, DomainState::ShutOff),
        ("Running", SavedMemory::None, DomainState::Running),
        ("Suspended", SavedMemory::Whole, DomainState::ShutOff),
        ("Paused", SavedMemory::None, DomainState::Paused),
        ("Suspended", SavedMemory::Whole, DomainState::ShutOff),
        ("Stopped", SavedMemory::None, DomainState::ShutOff),
    ] {
        world.edit("web-1", &json!({ "powerState": wanted }));
        world.await_ready("web-1");
        let domain = world.domain(&instance).unwrap();
        assert_eq!((domain.saved, domain.state), (saved, state), "{wanted}");
    }
    world.edit("web-1", &json!({"powerState": "Running"}));
    world.await_ready("web-1");
    world.edit("web-1", &json!({"powerState": "Suspended"}));
    world.await_ready("web-1");
    let told = status(&world);
    assert_eq!(
        (told.state, told.power_state),
        (Some(InstanceState::Suspended), Some(ObservedPower::Suspended))
    );
    world.delete("web-1");
    world.await_gone::<Instance>("web-1");
    world.api.collect_garbage();
    world.eventually("no network is left", || world.host.networks().unwrap().is_empty());
    world.assert_nothing_left();
}

#[test]
fn saved_memory_outlives_the_host_s_restart_and_the_agent() {
    let mut world = World::with_agent();
    let instance = world.guest("web-1", "10.0.0.5");
    world.await_ready("web-1");
    world.edit("web-1", &json!({"powerState": "Suspended"}));
    world.await_ready("web-1");
    world.kill();
    world.host.restart_host();
    world.start();
    world.settle();
    assert_eq!(world.domain(&instance).unwrap().saved, SavedMemory::Whole);
    world.edit("web-1", &json!({"powerState": "Running"}));
    world.await_ready("web-1");
    let domain = world.domain(&instance).unwrap();
    assert_eq!(domain.reason, virga_hypervisor::StateReason::Restored);
}

#[test]
fn damaged_memory_is_told_of_and_the_guest_starts_afresh_only_when_it_is_stopped_first() {
    let world = World::with_agent();
    let instance = world.guest("web-1", "10.0.0.5");
    world.await_ready("web-1");
    world.edit("web-1", &json!({"powerState": "Suspended"}));
    world.await_ready("web-1");
    world.host.damage_saved(uid(&instance));
    world.edit("web-1", &json!({"powerState": "Running"}));
    let told = world.await_reason("web-1", types::STALLED, "SavedMemoryUnusable");
    assert!(told.message.contains("Stopped, then to Running"), "{}", told.message);
    assert_eq!(world.domain(&instance).unwrap().state, DomainState::ShutOff);
    for wanted in ["Stopped", "Running"] {
        world.edit("web-1", &json!({ "powerState": wanted }));
        world.await_ready("web-1");
    }
}

#[test]
fn memory_that_libvirt_can_not_load_is_told_of_with_the_way_out() {
    let world = World::with_agent();
    world.guest("web-1", "10.0.0.5");
    world.await_ready("web-1");
    world.edit("web-1", &json!({"powerState": "Suspended"}));
    world.await_ready("web-1");
    let error = virga_hypervisor::Error::Failed {
        doing: "starting".into(),
        message: "load of migration failed".into(),
    };
    world.host.fail_next(Operation::Start, 1, &Fault::Error(error));
    world.edit("web-1", &json!({"powerState": "Running"}));
    let told = world.await_reason("web-1", types::RUNNING, "SavedMemoryUnusable");
    assert!(told.message.contains("load of migration failed"), "{}", told.message);
    world.api.clock().jump(SignedDuration::from_secs(10));
    world.nudge("web-1");
    world.await_ready("web-1");
}

#[test]
fn an_agent_killed_while_it_suspends_or_resumes_is_followed_by_one_that_ends_it() {
    for (effect, wanted) in [
        ("Save", "Suspended"),
        ("Restore", "Running"),
        ("DiscardSaved", "Stopped"),
    ] {
        for moment in [Moment::Before, Moment::After] {
            let mut world = World::new();
            let Trap { reached, checkpoint } = trap(moment, effect);
            world.start_with_checkpoint(checkpoint);
            let instance = world.guest("web-1", "10.0.0.5");
            world.await_ready("web-1");
            world.edit("web-1", &json!({"powerState": "Suspended"}));
            if effect != "Save" {
                world.await_ready("web-1");
                world.edit("web-1", &json!({ "powerState": wanted }));
            }
            let point = format!("{moment:?} {effect}");
            world.eventually(&point, || reached.load(Ordering::SeqCst));
            world.kill();
            world.api.clock().jump(SignedDuration::from_secs(10));
            world.host.take_calls();
            world.start();
            world.await_ready("web-1");
            let domain = world.domain(&instance).unwrap();
            let expected = match wanted {
                "Suspended" => (DomainState::ShutOff, SavedMemory::Whole),
                "Running" => (DomainState::Running, SavedMemory::None),
                _ => (DomainState::ShutOff, SavedMemory::None),
            };
            assert_eq!((domain.state, domain.saved), expected, "{point}");
        }
    }
}

#[test]
fn each_new_time_is_one_reboot() {
    let world = World::with_agent();
    let instance = world.guest("web-1", "10.0.0.5");
    world.await_ready("web-1");
    for (n, (type_, how)) in [("Soft", Operation::Shutdown), ("Hard", Operation::Destroy)]
        .into_iter()
        .enumerate()
    {
        world.api.clock().jump(SignedDuration::from_secs(30));
        let at = now(&world);
        world.api.clock().jump(SignedDuration::from_secs(2));
        world.host.take_calls();
        world.edit("web-1", &json!({"reboot": {"at": at, "type": type_}}));
        world.eventually("it was rebooted", || {
            let told = status(&world).reboot;
            told.is_some_and(|told| told.at.0 == at && told.finished_at.is_some())
        });
        world.await_ready("web-1");
        let seen = world.host.take_calls();
        let count = |kind| seen.iter().filter(|(operation, _)| *operation == kind).count();
        assert_eq!((count(how), count(Operation::Start)), (1, 1), "{n}");
        world.nudge("web-1");
        world.settle();
        assert_eq!(calls(&world, Operation::Start), 0, "done once");
        assert_eq!(world.domain(&instance).unwrap().state, DomainState::Running);
    }
}

#[test]
fn an_agent_killed_at_any_point_of_a_reboot_neither_forgets_nor_repeats_it() {
    for (type_, points) in [
        ("Soft", &["RecordPower", "Shutdown", "Start"][..]),
        ("Hard", &["RecordPower", "Destroy", "Start"][..]),
    ] {
        for effect in points {
            for moment in [Moment::Before, Moment::After] {
                let point = format!("{type_}: {moment:?} {effect}");
                let mut world = World::with_agent();
                let instance = world.guest("web-1", "10.0.0.5");
                world.await_ready("web-1");
                world.kill();
                let at = now(&world);
                world.api.clock().jump(SignedDuration::from_mins(11));
                let Trap { reached, checkpoint } = trap(moment, effect);
                world.host.take_calls();
                world.start_with_checkpoint(checkpoint);
                world.edit("web-1", &json!({"reboot": {"at": at, "type": type_}}));
                world.eventually(&point, || reached.load(Ordering::SeqCst));
                world.kill();
                world.api.clock().jump(SignedDuration::from_secs(10));
                world.start();
                world.eventually(&point, || {
                    status(&world).reboot.is_some_and(|told| told.finished_at.is_some())
                });
                world.await_ready("web-1");
                world.settle();
                let seen = world.host.take_calls();
                let count = |kind| seen.iter().filter(|(operation, _)| *operation == kind).count();
                assert_eq!(count(Operation::Start), 1, "{point}");
                if type_ == "Hard" {
                    assert_eq!(count(Operation::Destroy), 1, "{point}");
                }
                assert_eq!(world.domain(&instance).unwrap().state, DomainState::Running);
            }
        }
    }
}

#[test]
fn the_run_policy_decides_what_becomes_of_a_guest_that_ends_by_itself() {
    for (policy, after_shutdown, after_crash) in [
        ("Always", DomainState::Running, DomainState::Running),
        ("OnFailure", DomainState::ShutOff, DomainState::Running),
        ("Manual", DomainState::ShutOff, DomainState::ShutOff),
    ] {
        let mut world = World::with_agent();
        let instance = world.guest("web-1", "10.0.0.5");
        world.edit("web-1", &json!({ "runPolicy": policy }));
        world.await_ready("web-1");
        world.settle();
        for (crashes, expected) in [(true, after_crash), (false, after_shutdown)] {
            world.api.clock().jump(SignedDuration::from_mins(11));
            if crashes {
                world.host.crash_guest(uid(&instance));
            } else {
                if world.domain(&instance).unwrap().state != DomainState::Running {
                    for wanted in ["Stopped", "Running"] {
                        world.edit("web-1", &json!({ "powerState": wanted }));
                        world.await_ready("web-1");
                    }
                    world.settle();
                }
                world.host.power_off_guest(uid(&instance));
            }
            world.settle();
            world.await_ready("web-1");
            assert_eq!(
                world.domain(&instance).unwrap().state,
                expected,
                "{policy}, crashes: {crashes}"
            );
        }
        if policy == "OnFailure" {
            assert_eq!(status(&world).state, Some(InstanceState::Stopped));
            // libvirt forgets why; the note beside the disks does not.
            world.kill();
            world.host.restart_host();
            world.start();
            world.settle();
            assert_eq!(world.domain(&instance).unwrap().state, DomainState::ShutOff);
        }
    }
}

/// What the agent does to suspend a guest is what is asked for, and nothing else.
#[test]
fn suspending_takes_one_step() {
    let seen: Arc<Mutex<Vec<&'static str>>> = Arc::default();
    let record = seen.clone();
    let mut world = World::new();
    world.start_with_checkpoint(Arc::new(move |moment, name| {
        if moment == Moment::Before {
            record.lock().unwrap().push(name);
        }
        async {}.boxed()
    }));
    world.guest("web-1", "10.0.0.5");
    world.await_ready("web-1");
    world.settle();
    seen.lock().unwrap().clear();
    world.edit("web-1", &json!({"powerState": "Suspended"}));
    world.await_ready("web-1");
    world.settle();
    assert_eq!(*seen.lock().unwrap(), ["Save", "RecordPower"]);
}
