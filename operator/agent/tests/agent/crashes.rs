//! Agents that are killed right before and right after each effect.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::future::{FutureExt as _, pending};
use serde_json::json;
use virga_agent::host::{Checkpoint, Moment};
use virga_crds::{Bytes, Instance};
use virga_hypervisor::{DomainState, Hypervisor as _, Operation};

use crate::world::{NODE, World, uid};

/// Stops an agent for ever at one point.
pub struct Trap {
    pub reached: Arc<AtomicBool>,
    pub checkpoint: Checkpoint,
}

pub fn trap(moment: Moment, effect: &'static str) -> Trap {
    let reached = Arc::new(AtomicBool::new(false));
    let flag = reached.clone();
    let checkpoint: Checkpoint = Arc::new(move |at, name| {
        if (at, name) == (moment, effect) {
            flag.store(true, Ordering::SeqCst);
            pending().boxed()
        } else {
            async {}.boxed()
        }
    });
    Trap { reached, checkpoint }
}

fn guest_with_volume(world: &World) -> Instance {
    world.volume("data", Bytes::mib(8), Some(NODE));
    let instance = world.instance("web-1", |spec| {
        spec.volumes = vec![virga_crds::VolumeAttachment { name: "data".into() }];
    });
    world.port(&instance, "10.0.0.5");
    instance
}

/// The names of all effects that take an Instance from nothing to running, and away again.
#[test]
fn every_effect_of_a_life_is_known() {
    let seen: Arc<Mutex<BTreeSet<&'static str>>> = Arc::default();
    let record = seen.clone();
    let mut world = World::new();
    world.start_with_checkpoint(Arc::new(move |_, name| {
        record.lock().unwrap().insert(name);
        async {}.boxed()
    }));
    guest_with_volume(&world);
    world.await_ready("web-1");
    world.delete("web-1");
    world.await_gone::<Instance>("web-1");
    let known: BTreeSet<&str> = BUILD.iter().chain(TEAR_DOWN).chain(&["CreateBlank"]).copied().collect();
    assert_eq!(*seen.lock().unwrap(), known);
}

const BUILD: &[&str] = &[
    "PullImage",
    "CreateRootDisk",
    "WriteSeed",
    "EnsureNetwork",
    "Define",
    "RecordPower",
    "Start",
];
const TEAR_DOWN: &[&str] = &["Shutdown", "Undefine", "ReleasePorts", "RemoveFiles", "RemoveFinalizer"];

#[test]
fn an_agent_killed_at_any_point_of_a_build_is_followed_by_one_that_ends_it() {
    for effect in BUILD.iter().chain(&["CreateBlank"]) {
        for moment in [Moment::Before, Moment::After] {
            let mut world = World::new();
            let Trap { reached, checkpoint } = trap(moment, effect);
            world.start_with_checkpoint(checkpoint);
            let instance = guest_with_volume(&world);
            let point = format!("{moment:?} {effect}");
            world.eventually(&point, || reached.load(Ordering::SeqCst));
            world.kill();
            // A pause after a start that may have been one too many is not what this is about.
            world.api.clock().jump(jiff::SignedDuration::from_secs(10));
            world.start();
            world.await_ready("web-1");
            let domains = world.host.domains().unwrap();
            assert_eq!(domains.len(), 1, "{point}");
            assert_eq!(
                (domains[0].uuid, domains[0].state),
                (uid(&instance), DomainState::Running)
            );
            let starts = world
                .host
                .take_calls()
                .into_iter()
                .filter(|(call, _)| *call == Operation::Start);
            assert_eq!(starts.count(), 1, "started twice: {point}");
            world.delete("web-1");
            world.await_gone::<Instance>("web-1");
            world.assert_nothing_left();
        }
    }
}

#[test]
fn an_agent_killed_at_any_point_of_a_deletion_is_followed_by_one_that_ends_it() {
    for effect in TEAR_DOWN {
        for moment in [Moment::Before, Moment::After] {
            let mut world = World::new();
            let Trap { reached, checkpoint } = trap(moment, effect);
            world.start_with_checkpoint(checkpoint);
            guest_with_volume(&world);
            world.await_ready("web-1");
            world.delete("web-1");
            let point = format!("{moment:?} {effect}");
            world.eventually(&point, || reached.load(Ordering::SeqCst));
            world.kill();
            world.start();
            world.await_gone::<Instance>("web-1");
            world.api.collect_garbage();
            world.eventually(&format!("no network is left: {point}"), || {
                world.host.networks().unwrap().is_empty()
            });
            world.assert_nothing_left();
        }
    }
}

#[test]
fn an_agent_killed_while_it_stops_a_guest_is_followed_by_one_that_ends_it() {
    for moment in [Moment::Before, Moment::After] {
        let mut world = World::new();
        let Trap { reached, checkpoint } = trap(moment, "Shutdown");
        world.start_with_checkpoint(checkpoint);
        let instance = world.guest("web-1", "10.0.0.5");
        world.await_ready("web-1");
        world.edit("web-1", &json!({"powerState": "Stopped"}));
        world.eventually("it is being stopped", || reached.load(Ordering::SeqCst));
        world.kill();
        world.api.clock().jump(jiff::SignedDuration::from_secs(10));
        world.start();
        world.await_ready("web-1");
        assert_eq!(world.domain(&instance).unwrap().state, DomainState::ShutOff);
    }
}
