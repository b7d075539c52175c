//! A random walk over all verbs, with an agent that is killed at any effect: whatever was asked for and whatever happened,
//! it ends in what the spec says, and leaves nothing behind.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use futures::future::{FutureExt as _, pending};
use jiff::SignedDuration;
use proptest::prelude::*;
use serde_json::{Value, json};
use virga_agent::host::Checkpoint;
use virga_crds::{Bytes, Flavor, FlavorSpec, Instance};
use virga_hypervisor::{DomainState, Hypervisor as _, SavedMemory};
use virga_runtime::clock::Clock as _;

use crate::{
    leader,
    world::{NODE, World, uid},
};

const NAME: &str = "web-1";
/// Time passes in such steps until all is as it should be: longer than a guest has to shut down.
const WHILE: SignedDuration = SignedDuration::from_secs(70);
/// The most of these steps: pauses between starts in a row double up to five minutes.
const MOST_WAITS: usize = 12;

/// Flavors, with their CPUs and the MiB of their disk: none has less than those before it.
const SIZES: [(&str, u16, u64); 4] = [
    ("m1.small", 1, 64),
    ("m1.two", 2, 64),
    ("m1.three", 3, 96),
    ("m1.four", 4, 96),
];

/// What a user asks for.
#[derive(Debug, Clone, Copy)]
enum Verb {
    Power(&'static str),
    Reboot(&'static str),
    RunPolicy(&'static str),
    Rebuild,
    Rescue(bool),
    SoftDelete(bool),
    Volume(bool),
    Interface(bool),
    /// To a Flavor of [`SIZES`].
    Resize(usize),
    Policy(&'static str),
    Confirm,
    /// With `offloadAfter`.
    Shelve(&'static str),
}

/// What happens, one after the other.
#[derive(Debug, Clone, Copy)]
enum Step {
    Ask(Verb),
    /// The agent is killed right before or after so many effects from now, unless it comes to rest before.
    Kill(usize),
    Crash,
    PowerOff,
    Deaf(bool),
    RestartHost,
    /// Somebody starts the guest, and it ends again, while the agent is down.
    ByHand,
    LoseLibvirt,
    /// Until the agent has nothing to do but wait.
    Rest,
    Pass,
}

fn verb() -> impl Strategy<Value = Verb> {
    prop_oneof![
        4 => prop::sample::select(&["Running", "Stopped", "Paused", "Suspended"][..]).prop_map(Verb::Power),
        2 => prop::sample::select(&["Soft", "Hard"][..]).prop_map(Verb::Reboot),
        1 => prop::sample::select(&["Always", "OnFailure", "Manual"][..]).prop_map(Verb::RunPolicy),
        1 => Just(Verb::Rebuild),
        2 => any::<bool>().prop_map(Verb::Rescue),
        1 => any::<bool>().prop_map(Verb::SoftDelete),
        2 => any::<bool>().prop_map(Verb::Volume),
        2 => any::<bool>().prop_map(Verb::Interface),
        3 => (0..SIZES.len()).prop_map(Verb::Resize),
        1 => prop::sample::select(&["Auto", "Confirm"][..]).prop_map(Verb::Policy),
        1 => Just(Verb::Confirm),
        3 => prop::sample::select(&["0s", "0s", "Never"][..]).prop_map(Verb::Shelve),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => verb().prop_map(Step::Ask),
        4 => (0..8usize).prop_map(Step::Kill),
        1 => Just(Step::Crash),
        1 => Just(Step::PowerOff),
        1 => any::<bool>().prop_map(Step::Deaf),
        1 => Just(Step::RestartHost),
        1 => Just(Step::ByHand),
        1 => Just(Step::LoseLibvirt),
        4 => Just(Step::Rest),
        2 => Just(Step::Pass),
    ]
}

/// What it has beside its root disk and its first interface.
struct Plugged {
    volume: bool,
    second_interface: bool,
}

/// The agent, and where it is to be killed.
struct Walk {
    world: World,
    instance: Instance,
    effects_left: Arc<AtomicUsize>,
    dead: Arc<AtomicBool>,
    power: &'static str,
    rescued: bool,
    soft_deleted: bool,
    plugged: Plugged,
    /// The place of its size in [`SIZES`].
    size: usize,
    offload_after: &'static str,
}

impl Walk {
    fn begin() -> Self {
        let mut world = World::new();
        world.volume("data", Bytes::mib(8), Some(NODE));
        world.network_of("back", "10.1.0.0/24");
        for (name, vcpus, disk) in &SIZES[1..] {
            let spec = FlavorSpec {
                vcpus: *vcpus,
                memory: Bytes::mib(256),
                disk: Bytes::mib(*disk),
                ..FlavorSpec::default()
            };
            world.api.create(&Flavor::new(name, spec));
        }
        let instance = world.instance(NAME, |spec| {
            spec.volumes = vec![virga_crds::VolumeAttachment { name: "data".into() }];
        });
        world.port(&instance, "10.0.0.5");
        world.port_in(&instance, "back", "10.1.0.6");
        let (effects_left, dead) = (Arc::new(AtomicUsize::new(usize::MAX)), Arc::default());
        world.start_with_checkpoint(checkpoint(&effects_left, &dead));
        Self {
            world,
            instance,
            effects_left,
            dead,
            power: "Running",
            rescued: false,
            soft_deleted: false,
            plugged: Plugged {
                volume: true,
                second_interface: false,
            },
            size: 0,
            offload_after: "0s",
        }
    }

    fn take(&mut self, step: Step) {
        let uid = uid(&self.instance);
        let host = self.world.host.clone();
        match step {
            Step::Ask(verb) => self.ask(verb),
            Step::Kill(after) => self.effects_left.store(after, Ordering::SeqCst),
            Step::Crash => host.crash_guest(uid),
            Step::PowerOff => host.power_off_guest(uid),
            Step::Deaf(deaf) => host.set_obeys_shutdown(uid, !deaf),
            Step::RestartHost => {
                self.kill();
                host.restart_host();
                self.start();
            }
            Step::ByHand => {
                self.kill();
                // There may be nothing to start, or nothing to plug it into.
                if host.start(uid).is_ok() {
                    host.power_off_guest(uid);
                }
                self.start();
            }
            Step::LoseLibvirt => {
                host.lose_connection();
                self.rest();
                host.restore_connection();
            }
            Step::Rest => self.rest(),
            Step::Pass => {
                self.world.api.clock().jump(WHILE);
                self.rest();
            }
        }
        if self.dead.load(Ordering::SeqCst) {
            self.kill();
            self.start();
        }
    }

    fn ask(&mut self, verb: Verb) {
        let spec = match verb {
            // The schema refuses these.
            Verb::Power("Suspended") if ["Stopped", "Shelved"].contains(&self.power) => return,
            Verb::Power("Paused" | "Suspended") if self.rescued => return,
            Verb::Rescue(true) if !["Running", "Stopped"].contains(&self.power) => return,
            Verb::Shelve(_) if self.rescued || self.soft_deleted => return,
            Verb::SoftDelete(true) if self.power == "Shelved" => return,
            // What has grown does not shrink.
            Verb::Resize(size) if SIZES[size].2 < SIZES[self.size].2 => return,
            Verb::Power(power) => {
                self.power = power;
                json!({ "powerState": power })
            }
            Verb::Reboot(how) => json!({"reboot": {"at": self.moment(), "type": how}}),
            Verb::Rebuild => json!({"rebuild": {"at": self.moment()}}),
            Verb::RunPolicy(policy) => json!({ "runPolicy": policy }),
            Verb::Rescue(rescued) => {
                self.rescued = rescued;
                json!({"rescue": rescued.then(|| json!({}))})
            }
            Verb::Shelve(after) => {
                (self.power, self.offload_after) = ("Shelved", after);
                json!({"powerState": "Shelved", "shelve": {"offloadAfter": after}})
            }
            Verb::Resize(size) => {
                self.size = size;
                json!({"flavor": SIZES[size].0})
            }
            Verb::Policy(policy) => json!({ "resizePolicy": policy }),
            Verb::Confirm => json!({"confirmResize": SIZES[self.size].0}),
            Verb::Interface(second) => {
                self.plugged.second_interface = second;
                let networks = if second { &["front", "back"][..] } else { &["front"] };
                let interfaces: Vec<_> = networks.iter().map(|network| json!({ "network": network })).collect();
                json!({ "interfaces": interfaces })
            }
            Verb::SoftDelete(deleted) => {
                self.soft_deleted = deleted;
                json!({"softDelete": deleted.then(|| json!({"reclaimAfter": "100h"}))})
            }
            Verb::Volume(attached) => {
                self.plugged.volume = attached;
                json!({"volumes": attached.then(|| json!([{"name": "data"}])).unwrap_or(json!([]))})
            }
        };
        self.edit(&spec);
    }

    /// A time that has passed, and that was not given before.
    fn moment(&self) -> jiff::Timestamp {
        self.world.api.clock().jump(SignedDuration::from_secs(2));
        let now = self.world.api.clock().reader().now();
        jiff::Timestamp::from_second(now.as_second() - 1).unwrap()
    }

    fn edit(&self, spec: &Value) {
        self.world.edit(NAME, spec);
    }

    fn lead(&self) -> bool {
        let granted = leader::grant(&self.world);
        leader::lead(&self.world, NODE, "127.0.0.1:1") || granted
    }

    /// Waits until the agent asks the API for nothing more and the leader has nothing to do, or the agent is dead.
    fn rest(&self) {
        for _ in 0..400 {
            if self.lead() {
                continue;
            }
            let mark = self.world.api.mark();
            std::thread::sleep(std::time::Duration::from_millis(60));
            if self.dead.load(Ordering::SeqCst) || self.world.api.requests_since(mark).is_empty() {
                return;
            }
        }
        panic!("the agent never rests:\n{}", self.world.api.story());
    }

    fn kill(&mut self) {
        self.world.kill();
    }

    fn start(&mut self) {
        self.effects_left.store(usize::MAX, Ordering::SeqCst);
        self.dead.store(false, Ordering::SeqCst);
        self.world
            .start_with_checkpoint(checkpoint(&self.effects_left, &self.dead));
    }

    /// Lets time pass until it is as spec asks.
    fn end(&mut self) {
        self.effects_left.store(usize::MAX, Ordering::SeqCst);
        if self.dead.load(Ordering::SeqCst) {
            self.kill();
            self.start();
        }
        let host = self.world.host.clone();
        host.set_obeys_shutdown(uid(&self.instance), true);
        for _ in 0..MOST_WAITS {
            self.rest();
            if self.world.is_ready(NAME) && self.is_as_asked() {
                return;
            }
            self.world.api.clock().jump(WHILE);
            self.world.nudge(NAME);
        }
        self.world.eventually("it is as asked", || {
            self.lead();
            self.world.is_ready(NAME) && self.is_as_asked()
        });
    }

    /// What libvirt has: the one domain, in the state and with the disks that are asked for. A status may be from before the
    /// agent looked.
    fn is_as_asked(&self) -> bool {
        let wanted = match self.power {
            "Running" => (DomainState::Running, SavedMemory::None),
            "Paused" => (DomainState::Paused, SavedMemory::None),
            "Suspended" => (DomainState::ShutOff, SavedMemory::Whole),
            _ => (DomainState::ShutOff, SavedMemory::None),
        };
        let domains = self.world.host.domains().unwrap();
        assert!(domains.len() <= 1, "{domains:?}");
        if (self.power, self.offload_after) == ("Shelved", "0s") {
            let instance: Instance = self.world.read(NAME).unwrap();
            return instance.spec.node_name.is_none()
                && domains.is_empty()
                && !self.world.files(&self.instance).exists();
        }
        domains.first().is_some_and(|domain| {
            domain.uuid == uid(&self.instance)
                && (domain.state, &domain.saved) == (wanted.0, &wanted.1)
                && self.shape() == self.wanted_shape()
        })
    }

    /// How many CPUs, disks and interfaces the domain is defined with; the first of the disks is its own root disk.
    fn shape(&self) -> (u32, usize, usize) {
        let spec = self.world.host.spec(uid(&self.instance)).unwrap();
        let root = self.world.files(&self.instance).join("root.qcow2");
        assert!(spec.disks.iter().any(|disk| disk.path == root), "{:?}", spec.disks);
        (spec.topology.vcpus(), spec.disks.len(), spec.interfaces.len())
    }

    fn wanted_shape(&self) -> (u32, usize, usize) {
        let count = |second: bool| if second { 2 } else { 1 };
        (
            SIZES[self.size].1.into(),
            count(self.plugged.volume),
            count(self.plugged.second_interface),
        )
    }

    fn delete(self) {
        let world = &self.world;
        world.delete(NAME);
        leader::release(world);
        world.await_gone::<Instance>(NAME);
        world.api.collect_garbage();
        world.eventually("no network is left", || world.host.networks().unwrap().is_empty());
        world.assert_nothing_left();
    }
}

/// An agent that stands still for ever once it has passed so many moments.
fn checkpoint(effects_left: &Arc<AtomicUsize>, dead: &Arc<AtomicBool>) -> Checkpoint {
    let (left, dead) = (effects_left.clone(), dead.clone());
    Arc::new(move |_, _| {
        let down = |left: usize| if left == usize::MAX { None } else { left.checked_sub(1) };
        match left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, down) {
            Err(0) => {
                dead.store(true, Ordering::SeqCst);
                pending().boxed()
            }
            _ => async {}.boxed(),
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 32, ..ProptestConfig::default() })]

    #[test]
    fn any_walk_over_the_verbs_ends_in_what_is_asked_for_last(steps in prop::collection::vec(step(), 4..20)) {
        let mut walk = Walk::begin();
        for step in steps {
            walk.take(step);
        }
        // A guest that ended by itself stays off under other policies, a reboot or a rebuild waits until the guest should
        // run, what is off can't be suspended or resized while it is shelved, and what is rescued, deleted or not confirmed waits.
        walk.rescued = false;
        walk.edit(&json!({"rescue": null, "softDelete": null, "resizePolicy": "Auto"}));
        for power in ["Running", walk.power] {
            walk.power = power;
            walk.edit(&json!({"runPolicy": "Always", "powerState": power}));
            walk.end();
        }
        walk.delete();
    }
}
