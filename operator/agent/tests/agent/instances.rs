//! The life of Instances.

use std::time::Duration;

use jiff::SignedDuration;
use kube::ResourceExt;
use serde_json::json;
use virga_crds::{Bytes, Image, Instance, InstanceState, ObservedPower, conditions::types};
use virga_hypervisor::{DomainState, Fault, Hypervisor as _, Operation};

use crate::world::{SHOP, World, uid};

#[test]
fn an_instance_runs_with_few_writes_and_goes_without_a_trace() {
    let world = World::with_agent();
    world.settle();
    let instance = world.guest("web-1", "10.0.0.5");
    world.await_ready("web-1");
    world.settle();

    let status = world.read::<Instance>("web-1").unwrap().status.unwrap();
    assert_eq!(status.state, Some(InstanceState::Active));
    assert_eq!(status.power_state, Some(ObservedPower::Running));
    assert_eq!((status.task, status.host.as_deref()), (None, Some("node-1")));
    assert_eq!(status.addresses[0].ip, "10.0.0.5");
    assert_eq!(status.flavor.unwrap().memory, Bytes::mib(256));
    let spec = world.host.spec(uid(&instance)).unwrap();
    assert_eq!(spec.interfaces[0].mac.to_string(), "fa:16:3e:00:00:05");
    assert!(spec.disks[0].backing[0].path.starts_with(world.path().join("images")));
    assert!(world.files(&instance).join("seed.iso").exists());
    let network = &world.host.networks().unwrap()[0];
    assert_eq!(
        network.spec.subnets[0].dhcp.as_ref().unwrap().hosts[0]
            .address
            .to_string(),
        "10.0.0.5"
    );

    // Two statuses and an event; the controller's Port makes four.
    let writes = world.writes_about("web-1");
    let told: Vec<String> = writes.iter().map(ToString::to_string).collect();
    assert!(writes.len() <= 3, "{told:#?}");

    world.delete("web-1");
    world.await_gone::<Instance>("web-1");
    world.api.collect_garbage();
    world.assert_nothing_left();
}

#[test]
fn the_agent_asks_for_nothing_when_nothing_changes() {
    let world = World::with_agent();
    world.guest("web-1", "10.0.0.5");
    world.await_ready("web-1");
    world.settle();
    let mark = world.api.mark();
    std::thread::sleep(Duration::from_secs(4));
    let asked: Vec<_> = world.api.requests_since(mark).iter().map(ToString::to_string).collect();
    // The heartbeat is not about Instances.
    let asked: Vec<_> = asked.into_iter().filter(|line| !line.contains("leases")).collect();
    assert_eq!(asked, Vec::<String>::new());
}

#[test]
fn a_port_an_image_and_a_flavor_may_come_late() {
    let world = World::with_agent();
    let instance = world.instance("web-1", |spec| {
        spec.flavor = "late".into();
        spec.image.as_mut().unwrap().name = "late".into();
    });
    world.await_reason("web-1", types::STORAGE_READY, "FlavorNotFound");
    world.flavor("late", Bytes::mib(128));
    world.await_reason("web-1", types::STORAGE_READY, "ImageNotFound");
    world.image("late");
    world.await_reason("web-1", types::NETWORK_READY, "NetworkNotReady");
    world.port(&instance, "10.0.0.7");
    world.await_ready("web-1");
}

#[test]
fn an_image_that_is_none_stalls_its_instance() {
    let world = World::with_agent();
    std::fs::write(world.path().join("store/bad.qcow2"), b"<html>not found</html>").unwrap();
    world.image_object("bad");
    let instance = world.instance("web-1", |spec| spec.image.as_mut().unwrap().name = "bad".into());
    world.port(&instance, "10.0.0.7");
    let ready = world.await_reason("web-1", types::STALLED, "ImageInvalid");
    assert!(ready.message.contains("HTML"), "{}", ready.message);
    assert!(!world.files(&instance).exists());
    world.delete("web-1");
    world.await_gone::<Instance>("web-1");
    world.assert_nothing_left();
}

#[test]
fn a_user_stops_pauses_and_runs_an_instance() {
    let world = World::with_agent();
    let instance = world.guest("web-1", "10.0.0.5");
    world.await_ready("web-1");
    for (wanted, state) in [
        ("Paused", DomainState::Paused),
        ("Running", DomainState::Running),
        ("Stopped", DomainState::ShutOff),
        ("Paused", DomainState::Paused),
        ("Stopped", DomainState::ShutOff),
        ("Running", DomainState::Running),
    ] {
        world.edit("web-1", &json!({ "powerState": wanted }));
        world.await_ready("web-1");
        assert_eq!(world.domain(&instance).unwrap().state, state, "{wanted}");
    }
}

#[test]
fn an_instance_made_stopped_is_defined_and_not_started() {
    let world = World::with_agent();
    let instance = world.instance("web-1", |spec| spec.power_state = virga_crds::PowerState::Stopped);
    world.port(&instance, "10.0.0.5");
    world.await_ready("web-1");
    assert_eq!(world.domain(&instance).unwrap().state, DomainState::ShutOff);
}

#[test]
fn a_guest_that_crashes_is_started_again_after_a_pause() {
    let world = World::with_agent();
    let instance = world.guest("web-1", "10.0.0.5");
    world.await_ready("web-1");
    world.host.crash_guest(uid(&instance));
    let running = world.await_reason("web-1", types::RUNNING, "GuestCrashed");
    assert!(
        running.message.contains("not started again before"),
        "{}",
        running.message
    );
    assert_eq!(world.domain(&instance).unwrap().state, DomainState::ShutOff);
    world.api.clock().jump(SignedDuration::from_secs(10));
    world.nudge("web-1");
    world.await_ready("web-1");
    assert_eq!(world.domain(&instance).unwrap().state, DomainState::Running);
}

#[test]
fn a_host_that_was_restarted_has_its_guests_and_networks_again() {
    let world = World::with_agent();
    let instance = world.guest("web-1", "10.0.0.5");
    world.await_ready("web-1");
    world.api.clock().jump(SignedDuration::from_hours(1));
    world.host.restart_host();
    world.eventually("it runs again", || {
        world.domain(&instance).unwrap().state == DomainState::Running
    });
    world.await_ready("web-1");
}

#[test]
fn libvirt_may_go_and_come_back() {
    let world = World::with_agent();
    let instance = world.guest("web-1", "10.0.0.5");
    world.await_ready("web-1");
    world.host.lose_connection();
    world.await_reason("web-1", types::RUNNING, "LibvirtUnavailable");
    let status = world.read::<Instance>("web-1").unwrap().status.unwrap();
    assert_eq!(status.power_state, Some(ObservedPower::Unknown));
    assert_eq!(
        status.state,
        Some(InstanceState::Active),
        "what it was is still the best guess"
    );
    world.host.restore_connection();
    world.await_ready("web-1");
    assert_eq!(world.domain(&instance).unwrap().state, DomainState::Running);
}

#[test]
fn a_start_that_fails_is_told_and_tried_again() {
    let world = World::with_agent();
    let error = virga_hypervisor::Error::Failed {
        doing: "starting".into(),
        message: "no such machine".into(),
    };
    world.host.fail_next(Operation::Start, 1, &Fault::Error(error));
    world.guest("web-1", "10.0.0.5");
    let running = world.await_reason("web-1", types::RUNNING, "HypervisorError");
    assert!(running.message.contains("no such machine"), "{}", running.message);
    world.api.clock().jump(SignedDuration::from_secs(10));
    world.nudge("web-1");
    world.await_ready("web-1");
}

#[test]
fn a_host_without_room_says_so_and_makes_nothing() {
    let world = World::with_agent();
    world.flavor("huge", Bytes::gib(64));
    let instance = world.instance("web-1", |spec| spec.flavor = "huge".into());
    world.port(&instance, "10.0.0.5");
    let scheduled = world.await_reason("web-1", types::SCHEDULED, "HostRejected");
    assert_eq!(scheduled.status, "False");
    assert!(
        scheduled.message.contains("memory: 64Gi asked for"),
        "{}",
        scheduled.message
    );
    let status = world.read::<Instance>("web-1").unwrap().status.unwrap();
    assert_eq!(status.rejected_by, ["node-1"]);
    assert!(!world.files(&instance).exists() && world.domain(&instance).is_none());
}

#[test]
fn what_an_agent_left_is_removed_when_its_instance_is_gone() {
    let mut world = World::with_agent();
    let instance = world.guest("web-1", "10.0.0.5");
    world.await_ready("web-1");
    world.kill();
    // Somebody takes the finalizer away while no agent looks.
    world
        .api
        .merge::<Instance>(Some(SHOP), "web-1", json!({"metadata": {"finalizers": null}}));
    world.delete("web-1");
    world.api.collect_garbage();
    world.await_gone::<Instance>("web-1");
    world.start();
    world.eventually("the domain is gone", || world.domain(&instance).is_none());
    world.eventually("the files are gone", || !world.files(&instance).exists());
    world.eventually("the network is gone", || world.host.networks().unwrap().is_empty());
    world.assert_nothing_left();
}

#[test]
fn an_instance_bound_elsewhere_is_removed_here_and_a_foreign_domain_is_left_alone() {
    let mut world = World::with_agent();
    let instance = world.guest("web-1", "10.0.0.5");
    world.await_ready("web-1");
    let foreign = uuid::Uuid::from_u128(99);
    world.host.add_foreign(foreign, "somebody-elses");
    world.kill();
    world.edit("web-1", &json!({"nodeName": "node-2"}));
    world.start();
    world.eventually("the domain is gone", || world.domain(&instance).is_none());
    let refused = world.host.domain(foreign).unwrap_err();
    assert_eq!(refused.kind(), virga_hypervisor::Kind::Foreign);
}

#[test]
fn stopping_the_agent_leaves_the_guests_alone() {
    let mut world = World::with_agent();
    let instance = world.guest("web-1", "10.0.0.5");
    world.await_ready("web-1");
    world.stop();
    world.host.take_calls();
    assert_eq!(world.domain(&instance).unwrap().state, DomainState::Running);
    world.start();
    world.settle();
    let changes = world
        .host
        .take_calls()
        .into_iter()
        .filter(|(operation, _)| !operation.is_read());
    let changes: Vec<_> = changes
        .filter(|(operation, _)| *operation != Operation::UpdateNetwork)
        .collect();
    assert_eq!(changes, []);
}

#[test]
fn an_instance_that_is_made_anew_under_its_name_is_another_one() {
    let world = World::with_agent();
    let first = world.guest("web-1", "10.0.0.5");
    world.await_ready("web-1");
    world.delete("web-1");
    world.await_gone::<Instance>("web-1");
    world.api.collect_garbage();
    let second = world.guest("web-1", "10.0.0.6");
    world.await_ready("web-1");
    assert!(world.domain(&first).is_none() && world.domain(&second).is_some());
    assert_ne!(first.uid(), second.uid());
}

#[test]
fn an_image_that_a_disk_lies_over_is_not_needed_by_name_any_more() {
    let mut world = World::with_agent();
    let instance = world.guest("web-1", "10.0.0.5");
    world.await_ready("web-1");
    world.api.delete::<Image>(Some(SHOP), "debian");
    world.kill();
    world.start();
    world.edit("web-1", &json!({"powerState": "Stopped"}));
    world.await_ready("web-1");
    world.api.clock().jump(SignedDuration::from_hours(1));
    world.edit("web-1", &json!({"powerState": "Running"}));
    world.await_ready("web-1");
    let base = std::fs::read_link(world.files(&instance).join("base")).unwrap();
    assert!(base.exists());
}
