//! Volumes and interfaces that come and go, and domains that somebody changed by hand.

use std::sync::atomic::Ordering;

use kube::ResourceExt;
use serde_json::json;
use virga_agent::host::Moment;
use virga_crds::{Bytes, Instance, Port, Volume, VolumeState, conditions::types};
use virga_hypervisor::{DiskFormat, DiskSpec, DomainDevices, Hypervisor as _, Operation, Side, Topology};

use crate::{
    crashes::{Trap, trap},
    world::{NODE, SHOP, World, attach, uid},
};

fn devices(world: &World, instance: &Instance) -> DomainDevices {
    world.host.devices(uid(instance)).unwrap()
}

/// The targets of the disks on both sides, which must be the same while it runs.
fn targets(world: &World, instance: &Instance) -> Vec<String> {
    let read = devices(world, instance);
    let of = |side: &virga_hypervisor::Devices| -> Vec<String> {
        let mut all: Vec<_> = side.disks.iter().map(|disk| disk.target.clone()).collect();
        all.sort();
        all
    };
    let defined = of(&read.defined);
    assert!(
        read.running.as_ref().is_none_or(|running| of(running) == defined),
        "{read:?}"
    );
    defined
}

fn nics(world: &World, instance: &Instance) -> usize {
    let read = devices(world, instance);
    let defined = read.defined.interfaces.len();
    assert!(read.running.is_none_or(|running| running.interfaces.len() == defined));
    defined
}

fn networks(world: &World, name: &str) -> Vec<String> {
    let status = world.read::<Instance>(name).unwrap().status.unwrap();
    status.addresses.into_iter().map(|address| address.network).collect()
}

fn attachments(world: &World, name: &str) -> Vec<(String, String)> {
    let status = world.read::<Volume>(name).and_then(|volume| volume.status);
    let all = status.into_iter().flat_map(|status| status.attachments);
    all.map(|attachment| (attachment.instance, attachment.device)).collect()
}

fn await_attachments(world: &World, volume: &str, wanted: &[(&str, &str)]) {
    let wanted: Vec<_> = wanted.iter().map(|(i, d)| ((*i).to_owned(), (*d).to_owned())).collect();
    world.eventually(&format!("{volume} is at {wanted:?}"), || {
        attachments(world, volume) == wanted
    });
}

/// A guest that runs, a second network, and two volumes.
fn given(world: &World) -> Instance {
    world.network_of("back", "10.1.0.0/24");
    world.volume("data", Bytes::mib(8), Some(NODE));
    world.volume("logs", Bytes::mib(8), Some(NODE));
    let instance = world.guest("web-1", "10.0.0.5");
    world.port_in(&instance, "back", "10.1.0.6");
    world.await_ready("web-1");
    instance
}

const ALL: fn() -> serde_json::Value = || {
    json!({
        "volumes": [{"name": "data"}, {"name": "logs"}],
        "interfaces": [{"network": "front"}, {"network": "back"}],
    })
};

#[test]
fn volumes_and_interfaces_come_and_go_while_the_guest_runs() {
    let world = World::with_agent();
    let instance = given(&world);
    world.edit("web-1", &ALL());
    world.await_ready("web-1");
    assert_eq!(targets(&world, &instance), ["vda", "vdb", "vdc", "vdz"]);
    assert_eq!(nics(&world, &instance), 2);
    await_attachments(&world, "data", &[("web-1", "vdb")]);
    await_attachments(&world, "logs", &[("web-1", "vdc")]);
    assert_eq!(networks(&world, "web-1"), ["front", "back"]);

    // The others stay where they are when one goes, the first interface included.
    world.edit(
        "web-1",
        &json!({"volumes": [{"name": "logs"}], "interfaces": [{"network": "back"}]}),
    );
    world.await_ready("web-1");
    assert_eq!(targets(&world, &instance), ["vda", "vdc", "vdz"]);
    assert_eq!(nics(&world, &instance), 1);
    await_attachments(&world, "data", &[]);
    await_attachments(&world, "logs", &[("web-1", "vdc")]);
    assert_eq!(networks(&world, "web-1"), ["back"]);
    let state = world.read::<Volume>("data").unwrap().status.unwrap().state;
    assert_eq!(state, Some(VolumeState::Available));

    // A Port that is gone takes its address out of the network.
    world.api.delete::<Port>(Some(SHOP), "web-1-front");
    world.eventually("only the network that is used is left", || {
        world.host.networks().unwrap().len() == 1
    });
    let starts = world
        .host
        .take_calls()
        .into_iter()
        .filter(|(call, _)| *call == Operation::Start);
    assert_eq!(starts.count(), 1, "the guest noticed nothing");
}

#[test]
fn a_volume_goes_from_one_guest_to_another_only_when_the_first_has_let_go() {
    let mut world = World::with_agent();
    world.volume("data", Bytes::mib(8), Some(NODE));
    let first = world.instance("web-1", attach("data"));
    world.await_ready("web-1");
    // The older of the two would win a claim.
    world.api.clock().jump(jiff::SignedDuration::from_secs(60));
    let second = world.instance("web-2", |spec| spec.interfaces.clear());
    world.await_ready("web-2");
    world.host.hold_devices(uid(&first));
    world.edit("web-1", &json!({"volumes": []}));
    world.edit("web-2", &json!({"volumes": [{"name": "data"}]}));
    let told = world.await_reason("web-1", types::STORAGE_READY, "Detaching");
    assert!(told.message.contains("has not let go of vdb"), "{}", told.message);
    let told = world.await_reason("web-2", types::STORAGE_READY, "VolumeAttachedElsewhere");
    assert!(told.message.contains("web-1"), "{}", told.message);
    assert!(!world.is_ready("web-1") && !world.is_ready("web-2"));
    await_attachments(&world, "data", &[("web-1", "vdb")]);

    // An agent that knows of no claim comes to the same.
    world.kill();
    world.start();
    world.settle();
    assert_eq!(targets(&world, &second), ["vda", "vdz"]);
    assert_eq!(attachments(&world, "data"), [("web-1".to_owned(), "vdb".to_owned())]);

    world.host.let_go(uid(&first));
    world.await_ready("web-1");
    world.await_ready("web-2");
    assert_eq!(targets(&world, &first), ["vda", "vdz"]);
    assert_eq!(targets(&world, &second), ["vda", "vdb", "vdz"]);
    await_attachments(&world, "data", &[("web-2", "vdb")]);
}

#[test]
fn a_guest_that_is_off_gets_them_with_its_next_start_and_a_suspended_one_when_it_goes_on() {
    let world = World::with_agent();
    let instance = given(&world);
    world.edit("web-1", &json!({"powerState": "Stopped"}));
    world.await_ready("web-1");
    world.edit("web-1", &ALL());
    world.await_ready("web-1");
    assert_eq!(targets(&world, &instance), ["vda", "vdb", "vdc", "vdz"]);
    assert!(devices(&world, &instance).running.is_none());
    world.edit("web-1", &json!({"powerState": "Running"}));
    world.await_ready("web-1");
    assert_eq!((targets(&world, &instance).len(), nics(&world, &instance)), (4, 2));

    world.edit("web-1", &json!({"powerState": "Suspended"}));
    world.await_ready("web-1");
    world.edit("web-1", &json!({"volumes": [{"name": "data"}]}));
    let told = world.await_reason("web-1", types::STORAGE_READY, "StateForbids");
    assert!(told.message.contains("memory is saved"), "{}", told.message);
    await_attachments(&world, "logs", &[("web-1", "vdc")]);
    world.edit("web-1", &json!({"powerState": "Running"}));
    world.await_ready("web-1");
    assert_eq!(targets(&world, &instance), ["vda", "vdb", "vdz"]);
    await_attachments(&world, "logs", &[]);
}

#[test]
fn what_can_not_be_plugged_in_is_named_and_the_guest_runs_on() {
    let world = World::with_agent();
    let instance = given(&world);
    world.volume("far", Bytes::mib(8), Some("node-2"));
    world.edit("web-1", &json!({"volumes": [{"name": "far"}, {"name": "data"}]}));
    let told = world.await_reason("web-1", types::STORAGE_READY, "VolumeAttachedElsewhere");
    assert!(told.message.contains("node-2"), "{}", told.message);
    await_attachments(&world, "data", &[("web-1", "vdb")]);
    // Nor does it keep the guest from being started again.
    world.host.crash_guest(uid(&instance));
    world.eventually("it runs again", || {
        world.domain(&instance).is_some_and(|domain| domain.state.is_active())
    });
    world.edit("web-1", &json!({"volumes": [{"name": "data"}]}));
    world.await_ready("web-1");
}

#[test]
fn what_somebody_changed_by_hand_is_put_right_or_told_of() {
    let world = World::with_agent();
    let instance = given(&world);
    world.edit("web-1", &ALL());
    world.await_ready("web-1");
    let id = uid(&instance);
    let is_as_it_was = || {
        let read = devices(&world, &instance);
        let running = read.running.unwrap();
        read.defined.disks.len() == 4 && running.disks.len() == 4 && read.defined.vcpus == 1
    };
    world
        .host
        .change_by_hand(id, Side::Running, |spec| spec.disks.retain(|disk| disk.target != "vdb"));
    world.eventually("its volume is back", is_as_it_was);
    world.host.change_by_hand(id, Side::Defined, |spec| {
        spec.topology = Topology::sockets(4);
        spec.title = Some("mine".into());
        spec.disks.retain(|disk| disk.target != "vdb");
    });
    world.eventually("its definition is back", is_as_it_was);
    assert_eq!(devices(&world, &instance).defined.title.as_deref(), Some("shop/web-1"));
    world.await_ready("web-1");
    assert!(world.condition("web-1", types::DRIFTED).is_none());

    // What is not ours is left.
    let theirs = || DiskSpec::new("vdx", "/srv/theirs.raw", DiskFormat::Raw);
    world
        .host
        .change_by_hand(id, Side::Running, |spec| spec.disks.push(theirs()));
    let told = world.await_reason("web-1", types::DRIFTED, "ChangedByHand");
    assert!(told.message.contains("/srv/theirs.raw"), "{}", told.message);
    assert!(world.is_ready("web-1"));
    assert!(
        world
            .host
            .devices(id)
            .unwrap()
            .running
            .unwrap()
            .disks
            .iter()
            .any(|disk| disk.target == "vdx")
    );
    world
        .host
        .change_by_hand(id, Side::Running, |spec| spec.disks.retain(|disk| disk.target != "vdx"));
    world.eventually("nothing is told of any more", || {
        world.condition("web-1", types::DRIFTED).is_none()
    });

    world.edit("web-1", &json!({"driftPolicy": "Report"}));
    world.await_ready("web-1");
    world
        .host
        .change_by_hand(id, Side::Running, |spec| spec.disks.retain(|disk| disk.target != "vdb"));
    let told = world.await_reason("web-1", types::DRIFTED, "ChangedByHand");
    assert!(
        told.message.contains("volume data (vdb) was unplugged by hand"),
        "{}",
        told.message
    );
    world.settle();
    assert_eq!(devices(&world, &instance).running.unwrap().disks.len(), 3);
    world.edit("web-1", &json!({"driftPolicy": "Repair"}));
    world.eventually("its volume is back", is_as_it_was);
}

#[test]
fn a_domain_is_described_once_and_not_on_each_look() {
    let world = World::with_agent();
    given(&world);
    world.edit("web-1", &ALL());
    world.await_ready("web-1");
    world.settle();
    world.host.take_calls();
    world.nudge("web-1");
    world.settle();
    let calls = world.host.take_calls();
    assert!(calls.iter().any(|(call, _)| *call == Operation::Domain));
    assert!(calls.iter().all(|(call, _)| *call != Operation::Devices), "{calls:?}");
}

#[test]
fn an_agent_killed_at_any_point_of_plugging_is_followed_by_one_that_ends_it() {
    for effect in [
        "DefineVolume",
        "AttachVolume",
        "DefineInterface",
        "AttachInterface",
        "DetachVolume",
        "UndefineVolume",
        "DetachInterface",
        "UndefineInterface",
        "Redefine",
    ] {
        for moment in [Moment::Before, Moment::After] {
            let mut world = World::new();
            let Trap { reached, checkpoint } = trap(moment, effect);
            world.start_with_checkpoint(checkpoint);
            let point = format!("{moment:?} {effect}");
            let instance = given(&world);
            let is_reached = || reached.load(Ordering::SeqCst);
            world.edit("web-1", &ALL());
            world.eventually(&point, || is_reached() || world.is_ready("web-1"));
            let mut wanted = (4, 2);
            if !is_reached() {
                if effect == "Redefine" {
                    world.host.change_by_hand(uid(&instance), Side::Defined, |spec| {
                        spec.topology = Topology::sockets(2);
                    });
                } else {
                    wanted = (2, 1);
                    world.edit("web-1", &json!({"volumes": [], "interfaces": [{"network": "front"}]}));
                }
                world.eventually(&point, is_reached);
            }
            world.kill();
            world.start();
            world.await_ready("web-1");
            world.eventually(&format!("it is as asked: {point}"), || {
                let read = devices(&world, &instance);
                let as_asked = |side: &virga_hypervisor::Devices| {
                    (side.disks.len(), side.interfaces.len(), side.vcpus) == (wanted.0, wanted.1, 1)
                };
                as_asked(&read.defined) && read.running.as_ref().is_some_and(as_asked)
            });
            let starts = world
                .host
                .take_calls()
                .into_iter()
                .filter(|(call, _)| *call == Operation::Start);
            assert_eq!(starts.count(), 1, "the guest noticed nothing: {point}");
            world.delete("web-1");
            world.await_gone::<Instance>("web-1");
            assert_eq!(world.host.domains().unwrap(), [], "{}", instance.name_any());
        }
    }
}
