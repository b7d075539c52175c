//! Interrupts, passwords and soft deletion, with agents that are killed in between.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use k8s_openapi::jiff::Timestamp;
use serde_json::json;
use virga_agent::host::Moment;
use virga_crds::{ActionName, ActionResult, Instance, InstanceState, InstanceStatus, conditions::types};
use virga_hypervisor::{DomainState, GuestInfo, Password, SavedMemory};

use crate::crashes::{Trap, trap};
use crate::user_data::{controller, publish_authority};
use crate::world::{World, uid};

fn status(world: &World) -> InstanceStatus {
    world.read::<Instance>("web-1").unwrap().status.unwrap()
}

fn action(world: &World, name: ActionName) -> Option<ActionResult> {
    let rows = status(world).actions;
    rows.iter().find(|row| row.action == name).and_then(|row| row.result)
}

/// The agent's present, in the API's whole seconds, and later with each call.
fn now(world: &World) -> Timestamp {
    use virga_runtime::clock::Clock as _;
    world.api.clock().jump(k8s_openapi::jiff::SignedDuration::from_secs(2));
    Timestamp::from_second(world.api.clock().reader().now().as_second()).unwrap()
}

#[test]
fn a_guest_is_interrupted_once_for_each_time() {
    let mut world = World::with_agent();
    let instance = world.guest("web-1", "10.0.0.5");
    world.await_ready("web-1");
    for times in [1, 2] {
        let at = now(&world);
        world.edit("web-1", &json!({"crashDump": {"at": at}}));
        world.eventually("it was interrupted", || {
            let told = status(&world).crash_dump;
            told.is_some_and(|told| told.at.0 == at && told.finished_at.is_some()) && world.is_ready("web-1")
        });
        assert_eq!(world.host.nmis(uid(&instance)), times);
        world.kill();
        world.start();
        world.settle();
        assert_eq!(world.host.nmis(uid(&instance)), times, "not again");
    }
    assert_eq!(
        action(&world, ActionName::TriggerCrashDump),
        Some(ActionResult::Succeeded)
    );
    // What does not run waits.
    world.edit("web-1", &json!({"powerState": "Paused"}));
    world.await_ready("web-1");
    world.edit("web-1", &json!({"crashDump": {"at": now(&world)}}));
    world.await_reason("web-1", types::READY, "StateForbids");
    assert_eq!(world.host.nmis(uid(&instance)), 2);
}

#[test]
fn an_agent_killed_over_an_interrupt_never_does_it_twice_and_says_so() {
    for (moment, nmis) in [(Moment::Before, 0), (Moment::After, 1)] {
        let mut world = World::new();
        let Trap { reached, checkpoint } = trap(moment, "InjectNmi");
        world.start_with_checkpoint(checkpoint);
        let instance = world.guest("web-1", "10.0.0.5");
        world.await_ready("web-1");
        world.edit("web-1", &json!({"crashDump": {"at": now(&world)}}));
        world.eventually("it is in that moment", || reached.load(Ordering::SeqCst));
        world.kill();
        world.start();
        world.eventually("it is told", || {
            world.is_ready("web-1") && action(&world, ActionName::TriggerCrashDump).is_some()
        });
        world.settle();
        assert_eq!(world.host.nmis(uid(&instance)), nmis);
        assert_eq!(action(&world, ActionName::TriggerCrashDump), Some(ActionResult::Failed));
    }
}

#[test]
fn a_password_waits_for_the_guest_s_agent_and_its_secret_and_is_set_once() {
    let exists = Arc::new(AtomicBool::new(false));
    let (runtime, address) = controller(&exists);
    let mut world = World::new();
    publish_authority(&world);
    std::fs::write(world.path().join("token"), "the-agents-token\n").unwrap();
    let url = format!("http://{address}/");
    world.start_with(|options| options.controller_url = Some(url.clone()));
    let instance = world.guest("web-1", "10.0.0.5");
    world.await_ready("web-1");
    let asked = json!({"adminPassword": {"at": now(&world), "secretRef": {"name": "web-admin"}}});
    world.edit("web-1", &asked);
    let missing = world.await_reason("web-1", types::READY, "GuestAgentMissing");
    assert!(missing.message.contains("qemu-guest-agent"), "{}", missing.message);
    assert_eq!(status(&world).state, Some(InstanceState::Active), "it runs on");

    world.host.connect_guest_agent(uid(&instance), GuestInfo::default());
    let missing = world.await_reason("web-1", types::READY, "PasswordNotFound");
    assert!(missing.message.contains("there is no Secret"), "{}", missing.message);
    exists.store(true, Ordering::SeqCst);
    world.await_ready("web-1");
    let given = Password::new("correct horse".into());
    assert_eq!(world.host.password(uid(&instance), "root"), given);
    assert!(status(&world).admin_password.unwrap().finished_at.is_some());
    assert_eq!(
        action(&world, ActionName::ChangePassword),
        Some(ActionResult::Succeeded)
    );
    // Nobody who reads the API, or the node's disk, finds it.
    let told = format!("{:?}{:?}", world.read::<Instance>("web-1"), world.api.log());
    assert!(!told.contains("correct horse"));
    let noted = std::fs::read_to_string(world.files(&instance).join("deeds.json")).unwrap();
    assert!(!noted.contains("correct horse"), "{noted}");

    // A restart sets it no more: somebody may have changed it in the guest.
    world.host.take_calls();
    world.kill();
    world.start_with(|options| options.controller_url = Some(url.clone()));
    world.settle();
    let calls = world.host.take_calls();
    assert!(
        !calls
            .iter()
            .any(|(call, _)| *call == virga_hypervisor::Operation::SetPassword)
    );
    runtime.shutdown_background();
}

#[test]
fn what_is_soft_deleted_is_off_and_goes_on_when_it_is_restored() {
    let mut world = World::with_agent();
    let instance = world.guest("web-1", "10.0.0.5");
    world.await_ready("web-1");
    world.edit("web-1", &json!({"softDelete": {"reclaimAfter": "2h"}}));
    world.eventually("it is soft-deleted", || {
        status(&world).state == Some(InstanceState::SoftDeleted)
    });
    let told = status(&world).soft_delete.unwrap();
    assert_eq!(told.reclaim_at.0.duration_since(told.since.0).as_hours(), 2);
    assert_eq!(world.domain(&instance).unwrap().state, DomainState::ShutOff);
    world.await_ready("web-1");
    // The window goes on while the agent is away, and does not begin anew.
    world.kill();
    now(&world);
    world.start();
    world.settle();
    assert_eq!(status(&world).soft_delete, Some(told));
    assert!(world.files(&instance).join("root.qcow2").exists());

    world.edit("web-1", &json!({"softDelete": null}));
    world.eventually("it runs again", || {
        world.is_ready("web-1") && status(&world).state == Some(InstanceState::Active)
    });
    assert_eq!(status(&world).soft_delete, None);
    assert_eq!(action(&world, ActionName::SoftDelete), Some(ActionResult::Succeeded));
    assert_eq!(action(&world, ActionName::Restore), Some(ActionResult::Succeeded));

    // Saved memory is kept too.
    world.edit("web-1", &json!({"powerState": "Suspended"}));
    world.await_ready("web-1");
    world.edit("web-1", &json!({"softDelete": {"reclaimAfter": "2h"}}));
    world.eventually("it is soft-deleted", || {
        status(&world).state == Some(InstanceState::SoftDeleted)
    });
    assert_eq!(world.domain(&instance).unwrap().saved, SavedMemory::Whole);
}
