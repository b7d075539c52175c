use std::fmt::Write as _;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;
use virga_crds::{
    Address, BuiltFlavor, Bytes, ImageRef, InstanceSpec, InstanceState, Interface as SpecInterface, ObservedPower,
    Reboot, RebootType, RunPolicy, VolumeAttachment,
};

use super::*;
use crate::{
    condition::is_true,
    instance::{
        Cache, Deeds, Devices, Failure, Health, Image, Interface, InterfaceUse, PowerRecord, RootSeen, ShelveSeen,
        Snapshotting, Volume, VolumeUse, WentOff, after_failure, notes,
    },
};

const NODE: &str = "node-1";

/// A node with one Instance, on which effects take place as they would on a real one.
#[derive(Clone, Debug)]
struct World {
    instance: Instance,
    seen: Seen,
    now: Timestamp,
    /// How many more times a guest ignores the power button.
    deaf: u32,
    /// How many more times a halted guest halts again.
    full: u32,
    starts: u32,
    gone: bool,
    /// Which disks there are, and which of them the domain is defined over.
    disks: root::Disks,
    /// How many more effects are carried out before the agent is killed.
    budget: Option<usize>,
    story: String,
}

fn instance(wanted: PowerState) -> Instance {
    let mut instance = Instance::new(
        "web-1",
        InstanceSpec {
            flavor: "m1.small".into(),
            image: Some(ImageRef {
                name: "debian".into(),
                namespace: None,
            }),
            interfaces: vec![SpecInterface {
                network: "front".into(),
                ..SpecInterface::default()
            }],
            volumes: vec![VolumeAttachment { name: "data".into() }],
            power_state: wanted,
            node_name: Some(NODE.into()),
            ..InstanceSpec::default()
        },
    );
    instance.metadata.namespace = Some("shop".into());
    instance.metadata.generation = Some(1);
    instance.metadata.finalizers = Some(vec![finalizers::AGENT.into()]);
    instance
}

/// A name, and what makes the world so.
type Case = (&'static str, fn(&mut World));

fn flavor() -> BuiltFlavor {
    BuiltFlavor {
        name: "m1.small".into(),
        vcpus: 1,
        memory: Bytes::gib(1),
        disk: Bytes::gib(20),
    }
}

fn cached() -> Cache {
    Cache::Cached {
        virtual_size: Bytes::gib(3),
    }
}

fn image(cache: Cache) -> Image {
    Image::Known {
        uid: "image-uid".into(),
        min_disk: Bytes::ZERO,
        min_memory: Bytes::ZERO,
        cache,
    }
}

fn plugged() -> InterfaceUse {
    InterfaceUse::Ready(vec![Address {
        network: "front".into(),
        ip: "10.0.0.5".into(),
        mac: "fa:16:3e:00:00:01".into(),
    }])
}

impl World {
    /// Everything that the Instance needs is there, and nothing of it.
    fn new(wanted: PowerState) -> Self {
        World {
            instance: instance(wanted),
            seen: Seen {
                node: NODE.into(),
                domain: Domain::Absent,
                root_disk: false,
                seed: false,
                power: PowerRecord::default(),
                flavor: Some(flavor()),
                image: Some(image(cached())),
                root: RootSeen::default(),
                volumes: vec![Volume {
                    name: "data".into(),
                    state: VolumeUse::Ready,
                }],
                sub_ports: Vec::new(),
                interfaces: vec![Interface {
                    network: "front".into(),
                    state: plugged(),
                }],
                devices: Devices::default(),
                topology: None,
                room: Room::Enough,
                save_room: Room::Enough,
                health: Health::default(),
                snapshotting: Snapshotting::No,
                shelve: ShelveSeen::default(),
                leaving: None,
                deeds: Deeds::default(),
                guest_agent: true,
            },
            now: "2026-11-22T10:00:00Z".parse().unwrap(),
            deaf: 0,
            full: 0,
            starts: 0,
            gone: false,
            disks: root::Disks::default(),
            budget: None,
            story: String::new(),
        }
    }

    /// The same with a domain, and the disks that it stands on.
    fn with_domain(wanted: PowerState, power: Power) -> Self {
        let mut world = Self::new(wanted);
        world.seen.domain = Domain::Defined(power);
        world.seen.root_disk = true;
        world.seen.seed = true;
        world.disks = root::Disks::defined();
        world
    }

    fn deleted(mut self) -> Self {
        self.instance.metadata.deletion_timestamp = Some(Time(self.now));
        self
    }

    fn plan(&self) -> Plan {
        plan(&self.instance, &self.as_seen(), self.now)
    }

    /// Plans and carries out once. Returns whether there was anything to do.
    fn pass(&mut self) -> bool {
        let plan = self.plan();
        self.tell(&plan);
        if let Some(status) = plan.status {
            self.instance.status = Some(status);
        }
        let quiet = plan.effects.is_empty();
        for effect in plan.effects {
            if let Some(left) = self.budget.take() {
                if left == 0 {
                    // What comes after is lost with the agent.
                    return true;
                }
                self.budget = Some(left - 1);
            }
            self.apply(&effect);
        }
        if quiet && let Some(again) = plan.again {
            self.pass_time(again);
        }
        !quiet || plan.again.is_some()
    }

    fn run(&mut self) {
        for _ in 0..100 {
            if self.gone || !self.pass() {
                return;
            }
        }
        panic!("no rest after 100 passes:\n{}", self.story);
    }

    fn power(&self) -> Option<Power> {
        match self.seen.domain {
            Domain::Defined(power) => Some(power),
            _ => None,
        }
    }

    fn apply(&mut self, effect: &Effect) {
        let wanted = self.instance.spec.power_state;
        let deleting = self.instance.metadata.deletion_timestamp.is_some();
        let exchanging = self.exchanges_its_root_disk();
        match effect {
            Effect::RecordRoot(_)
            | Effect::CreateNextRoot { .. }
            | Effect::WriteNextSeed
            | Effect::DropNextRoot
            | Effect::ExchangeRoot
            | Effect::CreateRescueDisk { .. }
            | Effect::GrowRoot { .. }
            | Effect::RemoveRescueDisk => self.apply_to_disks(effect),
            Effect::PullImage { .. } => self.seen.image = Some(image(Cache::Pulling(None))),
            Effect::CreateRootDisk { .. } => {
                assert!(!self.seen.root_disk, "a root disk was made over another");
                self.seen.root_disk = true;
            }
            Effect::WriteSeed => self.seen.seed = true,
            Effect::EnsureNetwork { .. } | Effect::ReleasePorts | Effect::InjectNmi | Effect::SetPassword => {}
            Effect::Redefine
            | Effect::MarkInLine
            | Effect::AttachVolume { .. }
            | Effect::DetachVolume { .. }
            | Effect::AttachInterface { .. }
            | Effect::DetachInterface { .. } => panic!("libvirt did not say what is plugged in"),
            Effect::Define => {
                assert!(
                    self.seen.root_disk && self.seen.seed,
                    "defined before its disks were there"
                );
                assert!(
                    self.seen.domain == Domain::Absent || exchanging && matches!(self.power(), Some(Power::Off(_))),
                    "defined twice"
                );
                self.disks.define(&self.as_seen());
                self.seen.domain = Domain::Defined(Power::Off(WentOff::Unknown));
            }
            Effect::RecordPower(record) => self.seen.power = *record,
            Effect::RecordDeeds(deeds) => self.seen.deeds = *deeds,
            Effect::Start => {
                assert!(matches!(self.power(), Some(Power::Off(_))), "started twice");
                assert!(
                    matches!(wanted, PowerState::Running | PowerState::Paused) && !deleting,
                    "started against the spec"
                );
                self.disks.assert_started_as_defined(&self.seen);
                self.starts += 1;
                self.seen.domain = Domain::Defined(Power::Running);
            }
            Effect::Restore => {
                assert_eq!(self.power(), Some(Power::Saved), "restored what is not saved");
                self.seen.domain = Domain::Defined(Power::Running);
            }
            Effect::Save => {
                assert!(matches!(self.power(), Some(Power::Running | Power::Paused)));
                assert!(
                    wanted == PowerState::Suspended && !deleting,
                    "suspended against the spec"
                );
                self.seen.domain = Domain::Defined(Power::Saved);
            }
            Effect::DiscardSaved => {
                let hard = self.instance.spec.reboot.as_ref();
                let hard = hard.is_some_and(|reboot| reboot.type_ == RebootType::Hard);
                assert!(
                    wanted == PowerState::Stopped || wanted == PowerState::Shelved || hard || exchanging,
                    "memory thrown away against the spec"
                );
                assert!(matches!(self.power(), Some(Power::Saved | Power::BrokenSave)));
                self.seen.domain = Domain::Defined(Power::Off(WentOff::Unknown));
            }
            Effect::Suspend => {
                assert_eq!(self.power(), Some(Power::Running));
                self.seen.domain = Domain::Defined(Power::Paused);
            }
            Effect::Resume => {
                let halts = self.power() == Some(Power::IoError) && self.full > 0;
                self.full = self.full.saturating_sub(1);
                if !halts {
                    self.seen.domain = Domain::Defined(Power::Running);
                }
            }
            Effect::Shutdown => {
                let rebooted = self.instance.spec.reboot.is_some();
                assert!(
                    wanted == PowerState::Stopped
                        || wanted == PowerState::Shelved
                        || deleting
                        || rebooted
                        || exchanging,
                    "shut down against the spec"
                );
                if self.deaf > 0 {
                    self.deaf -= 1;
                } else {
                    self.seen.domain = Domain::Defined(Power::ShuttingDown);
                }
            }
            Effect::Destroy => {
                let crashed = self.power() == Some(Power::Crashed);
                let rebooted = self.instance.spec.reboot.is_some();
                assert!(
                    crashed
                        || wanted == PowerState::Stopped
                        || wanted == PowerState::Shelved
                        || deleting
                        || rebooted
                        || exchanging,
                    "ended although it should run"
                );
                self.seen.domain = Domain::Defined(Power::Off(WentOff::Destroyed));
            }
            Effect::Undefine => {
                assert!(
                    matches!(self.power(), Some(Power::Off(_) | Power::Saved | Power::BrokenSave)),
                    "undefined while it runs"
                );
                self.seen.domain = Domain::Absent;
            }
            Effect::RemoveFiles | Effect::Offload => {
                assert_eq!(self.power(), None, "files removed under a domain");
                assert!(
                    deleting || wanted == PowerState::Shelved && self.shelved_image_is_here(),
                    "removed against the spec"
                );
                self.seen.root_disk = false;
                self.seen.seed = false;
                self.seen.root = RootSeen::default();
                self.disks = root::Disks::default();
                self.seen.power = PowerRecord::default();
            }
            Effect::RemoveFinalizer => self.gone = true,
        }
    }

    fn pass_time(&mut self, by: Duration) {
        self.now = self.now.checked_add(by).unwrap();
        if self.power() == Some(Power::ShuttingDown) {
            self.seen.domain = Domain::Defined(Power::Off(WentOff::ByGuest));
        }
        if self.power() == Some(Power::Saving) {
            self.seen.domain = Domain::Defined(Power::Saved);
        }
        if self.seen.domain == Domain::Unreachable("no socket".into()) {
            self.seen.domain = Domain::Absent;
        }
    }

    fn tell(&mut self, plan: &Plan) {
        let status = plan.status.clone().unwrap_or_default();
        let ready = status.conditions.iter().find(|c| c.type_ == types::READY);
        let _ = writeln!(
            self.story,
            "{:.0} {:?}\n  {} {}: {}",
            self.now,
            self.seen.domain,
            status.state.map_or("-".into(), |state| format!("{state:?}")),
            ready.map_or("-", |c| &c.reason),
            ready.map_or("-", |c| &c.message),
        );
        for effect in &plan.effects {
            let _ = writeln!(self.story, "  → {effect:?}");
        }
        for note in notes(self.instance.status.as_ref(), &status) {
            let _ = writeln!(self.story, "  ! {}: {}", note.reason, note.message);
        }
        if let Some(again) = plan.again {
            let _ = writeln!(self.story, "  look again in {again:?}");
        }
    }

    fn status(&self) -> InstanceStatus {
        self.plan().status.unwrap()
    }

    /// What only a user or the guest can help with: one that is off has no memory to save, one that sleeps wakes by itself,
    /// saved memory that is damaged is lost.
    fn waits_for_its_user(&self) -> bool {
        let wanted = self.instance.spec.power_state;
        match self.power() {
            Some(Power::BrokenSave) => wanted != PowerState::Stopped,
            Some(Power::Off(_)) => wanted == PowerState::Suspended,
            Some(Power::Sleeping) => matches!(wanted, PowerState::Suspended | PowerState::Running),
            _ => false,
        }
    }

    fn is_ready(&self) -> bool {
        is_true(&self.status().conditions, types::READY)
    }
}

#[test]
fn from_nothing_to_a_running_guest() {
    let mut world = World::new(PowerState::Running);
    world.seen.image = Some(image(Cache::Absent));
    world.seen.interfaces[0].state = InterfaceUse::NoPort;
    world.run();
    world.seen.image = Some(image(Cache::Pulling(Some(42))));
    world.run();
    world.seen.image = Some(image(cached()));
    world.run();
    world.seen.interfaces[0].state = plugged();
    world.run();
    assert!(world.is_ready());
    insta::assert_snapshot!(world.story);
}

#[test]
fn what_the_controller_says_of_a_port_that_can_not_be_made_is_said_again_and_not_contradicted() {
    let mut world = World::new(PowerState::Running);
    world.seen.interfaces[0].state = InterfaceUse::NoPort;
    (world.seen.root_disk, world.seen.seed) = (true, true);
    let mut status = world.plan().status.unwrap();
    let network = |status: &InstanceStatus| {
        let condition = status.conditions.iter().find(|c| c.type_ == types::NETWORK_READY);
        condition.unwrap().clone()
    };
    assert_eq!(network(&status).reason, "NetworkNotReady");
    for condition in &mut status.conditions {
        if condition.type_ == types::NETWORK_READY {
            condition.reason = Reason::AddressInUse.as_str().into();
            condition.message = "10.0.0.5 belongs to shop/holder-front".into();
        }
    }
    let said = network(&status);
    world.instance.status = Some(status);
    let told = world.plan().status.unwrap();
    assert_eq!(network(&told), said);
    let ready = told.conditions.iter().find(|c| c.type_ == types::READY).unwrap();
    assert_eq!((&ready.reason, &ready.message), (&said.reason, &said.message));

    world.seen.interfaces[0].state = plugged();
    assert_ne!(network(&world.plan().status.unwrap()), said);
}

#[test]
fn a_guest_that_crashes_again_and_again_is_started_ever_more_slowly() {
    let mut world = World::new(PowerState::Running);
    world.run();
    for _ in 0..4 {
        world.seen.domain = Domain::Defined(Power::Off(WentOff::Crashed));
        world.run();
    }
    assert_eq!(world.starts, 5);
    insta::assert_snapshot!(world.story);
}

#[test]
fn a_guest_that_ran_long_enough_is_started_at_once() {
    let mut world = World::new(PowerState::Running);
    world.run();
    world.now = world.now.checked_add(Duration::from_hours(1)).unwrap();
    world.seen.domain = Domain::Defined(Power::Off(WentOff::ByGuest));
    assert_eq!(world.plan().again, None);
    world.run();
    assert_eq!((world.starts, world.seen.power.starts), (2, 1));
}

#[test]
fn stopping_a_guest_that_does_not_listen() {
    let mut world = World::with_domain(PowerState::Stopped, Power::Running);
    world.deaf = 100;
    world.run();
    assert!(world.is_ready());
    assert_eq!(world.seen.power, PowerRecord::default());
    insta::assert_snapshot!(world.story);
}

#[test]
fn deleting_a_running_guest_leaves_nothing() {
    let mut world = World::with_domain(PowerState::Running, Power::Running).deleted();
    world.run();
    assert!(world.gone && world.seen.domain == Domain::Absent && !world.seen.root_disk && !world.seen.seed);
    insta::assert_snapshot!(world.story);
}

#[test]
fn deleting_waits_for_libvirt_since_the_guest_may_run() {
    let mut world = World::with_domain(PowerState::Running, Power::Running).deleted();
    world.seen.domain = Domain::Unreachable("no socket".into());
    let plan = world.plan();
    assert_eq!((plan.effects, plan.again), (vec![], Some(LIBVIRT_AGAIN)));
}

#[test]
fn an_instance_bound_elsewhere_is_none_of_our_business() {
    let mut world = World::with_domain(PowerState::Running, Power::Running);
    world.instance.spec.node_name = Some("node-2".into());
    assert_eq!(world.plan(), Plan::default());
}

#[test]
fn the_decision_that_came_with_the_node_s_name_becomes_part_of_the_status_and_stays() {
    let mut world = World::new(PowerState::Running);
    assert_eq!(world.status().scheduling, None);
    let text = r#"{"decidedAt":"2026-11-22T15:00:00Z","decidedBy":"Admission","hosts":3,"survivors":2}"#;
    world.instance.metadata.annotations = Some([(virga_crds::labels::SCHEDULING.to_owned(), text.to_owned())].into());
    let told = world.status();
    assert_eq!(told.scheduling.as_ref().map(|decision| decision.survivors), Some(2));
    world.instance.metadata.annotations = None;
    world.instance.status = Some(told.clone());
    assert_eq!(world.status().scheduling, told.scheduling);
}

#[test]
fn a_host_without_room_rejects_before_it_has_made_anything() {
    let mut world = World::new(PowerState::Running);
    world.seen.room = Room::Short("memory: 1Gi is asked for and 512Mi is left".into());
    let plan = world.plan();
    let status = plan.status.unwrap();
    assert_eq!(plan.effects, []);
    assert_eq!(
        (status.rejected_by.as_slice(), status.host.as_deref()),
        (&[NODE.to_owned()][..], None)
    );
    let scheduled = status.conditions.iter().find(|c| c.type_ == types::SCHEDULED).unwrap();
    assert_eq!(
        (scheduled.status.as_str(), scheduled.reason.as_str()),
        ("False", "HostRejected")
    );
    // Room that comes back doesn't change its mind: the controller may be binding it elsewhere.
    world.instance.status = Some(status.clone());
    world.seen.room = Room::Enough;
    let plan = world.plan();
    assert_eq!((plan.effects, plan.status), (vec![], Some(status)));
    // Once it is taken off the list, it is built.
    world.instance.status.as_mut().unwrap().rejected_by.clear();
    world.run();
    assert!(world.is_ready());
}

#[test]
fn a_host_without_room_keeps_what_it_has_begun() {
    let mut world = World::new(PowerState::Running);
    world.seen.room = Room::Short("memory".into());
    world.seen.root_disk = true;
    world.run();
    assert!(world.is_ready());
}

#[test]
fn a_lost_root_disk_is_not_made_anew_over_the_users_data() {
    let mut world = World::new(PowerState::Running);
    world.run();
    world.seen.domain = Domain::Absent;
    world.seen.root_disk = false;
    let plan = world.plan();
    assert_eq!(plan.effects, []);
    assert_eq!(plan.status.unwrap().state, Some(InstanceState::Error));
}

#[test]
fn a_lost_domain_is_defined_anew_over_its_disk() {
    let mut world = World::new(PowerState::Running);
    world.run();
    world.seen.domain = Domain::Absent;
    world.seen.flavor = None;
    world.seen.image = Some(Image::NotFound("gone".into()));
    world.run();
    assert!(world.is_ready());
}

#[test]
fn what_only_the_user_can_cure_is_stalled_and_names_the_cure() {
    let cases: [Case; 5] = [
        ("larger than the flavor's disk", |w| {
            w.seen.image = Some(image(Cache::Cached {
                virtual_size: Bytes::gib(21),
            }));
        }),
        ("minMemory", |w| {
            w.seen.image = Some(Image::Known {
                uid: "image-uid".into(),
                min_disk: Bytes::ZERO,
                min_memory: Bytes::gib(2),
                cache: Cache::Absent,
            });
        }),
        ("bad bytes", |w| {
            w.seen.image = Some(image(Cache::Invalid("not a disk image".into())));
        }),
        ("two boot sources", |w| {
            w.instance.spec.boot_volume = Some("root".into());
        }),
        ("lost disk", |w| {
            w.instance.status = Some(InstanceStatus {
                flavor: Some(flavor()),
                ..InstanceStatus::default()
            });
        }),
    ];
    let mut told = String::new();
    for (name, break_it) in cases {
        let mut world = World::new(PowerState::Running);
        break_it(&mut world);
        let plan = world.plan();
        assert_eq!(plan.effects, [], "{name}");
        let status = plan.status.unwrap();
        let stalled = status.conditions.iter().find(|c| c.type_ == types::STALLED).unwrap();
        let _ = writeln!(told, "{name}: {}: {}", stalled.reason, stalled.message);
        assert_eq!(status.state, Some(InstanceState::Error), "{name}");
    }
    insta::assert_snapshot!(told);
}

#[test]
fn what_comes_by_itself_is_waited_for_and_named() {
    let cases: [Case; 11] = [
        ("no flavor", |w| w.seen.flavor = None),
        ("no image", |w| {
            w.seen.image = Some(Image::NotFound("spec.image: there is no Image \"debian\"".into()));
        }),
        ("unreachable image", |w| {
            w.seen.image = Some(image(Cache::Unreachable("GET https://example.org/x: 503".into())));
        }),
        ("pull", |w| w.seen.image = Some(image(Cache::Pulling(Some(7))))),
        ("no network", |w| w.seen.interfaces[0].state = InterfaceUse::NoNetwork),
        ("no port", |w| w.seen.interfaces[0].state = InterfaceUse::NoPort),
        ("no volume", |w| w.seen.volumes[0].state = VolumeUse::NotFound),
        ("volume elsewhere", |w| {
            w.seen.volumes[0].state = VolumeUse::OnOtherNode("node-9".into());
        }),
        ("volume held", |w| {
            w.seen.volumes[0].state = VolumeUse::HeldBy("web-0".into());
        }),
        ("unbound volume", |w| w.seen.volumes[0].state = VolumeUse::Unbound),
        ("libvirt away", |w| {
            w.seen.domain = Domain::Unreachable("no socket".into());
        }),
    ];
    let mut told = String::new();
    for (name, take_away) in cases {
        let mut world = World::new(PowerState::Running);
        take_away(&mut world);
        let plan = world.plan();
        assert!(!plan.effects.contains(&Effect::Define), "{name}");
        let status = plan.status.unwrap();
        let reconciling = status
            .conditions
            .iter()
            .find(|c| c.type_ == types::RECONCILING)
            .unwrap();
        let _ = writeln!(told, "{name}: {}: {}", reconciling.reason, reconciling.message);
        assert_eq!(status.state, Some(InstanceState::Building), "{name}");
    }
    insta::assert_snapshot!(told);
}

#[test]
fn a_sub_port_is_waited_for_so_that_the_guest_is_told_of_it_unless_the_controller_says_that_it_can_not_be() {
    let mut world = World::new(PowerState::Running);
    world.seen.sub_ports = vec![Interface {
        network: "dmz".into(),
        state: InterfaceUse::NoPort,
    }];
    // What it has said itself is not the controller's word.
    for _ in 0..2 {
        let plan = world.plan();
        assert!(!plan.effects.contains(&Effect::WriteSeed));
        assert_eq!(network_ready(&plan), "waiting for the sub-port in Network dmz");
        world.instance.status = plan.status;
    }
    let mut waits = world.clone();
    let told = "spec.interfaces[front].trunk.subPorts[100].network: there is no Network dmz";
    for condition in &mut world.instance.status.as_mut().unwrap().conditions {
        if condition.type_ == types::NETWORK_READY {
            condition.message = told.into();
        }
    }
    let plan = world.plan();
    assert!(plan.effects.contains(&Effect::WriteSeed) && plan.effects.contains(&Effect::Define));
    assert_eq!(network_ready(&plan), told, "else the two would contradict each other");

    waits.seen.sub_ports[0].state = plugged();
    waits.run();
    assert_eq!(waits.power(), Some(Power::Running));
}

fn network_ready(plan: &Plan) -> &str {
    let mut conditions = plan.status.iter().flat_map(|status| &status.conditions);
    let said = conditions.find(|condition| condition.type_ == types::NETWORK_READY);
    said.map_or("", |condition| condition.message.as_str())
}

#[test]
fn a_failed_effect_is_told_in_the_condition_that_it_belongs_to() {
    let world = World::new(PowerState::Running);
    let status = world.status();
    let failure = |reason, stuck| Failure {
        reason,
        message: "it failed".into(),
        stuck,
    };
    let told = |effect: &Effect, failure: &Failure| {
        let status = after_failure(&world.instance, &status, effect, failure, world.now);
        let broken = status
            .conditions
            .iter()
            .find(|c| c.message == "it failed" && ![types::READY, types::RECONCILING].contains(&c.type_.as_str()));
        broken
            .map(|c| format!("{} {} {}", c.type_, c.status, c.reason))
            .unwrap()
    };
    assert_eq!(
        told(&Effect::WriteSeed, &failure(Reason::UserDataNotFound, false)),
        "StorageReady False UserDataNotFound"
    );
    assert_eq!(
        told(&Effect::Start, &failure(Reason::HypervisorError, false)),
        "Running False HypervisorError"
    );
    assert_eq!(
        told(&Effect::Start, &failure(Reason::LibvirtUnavailable, false)),
        "Running Unknown LibvirtUnavailable"
    );
}

#[test]
fn why_a_domain_could_not_start_is_still_told_while_its_next_start_is_waited_for() {
    let mut world = World::with_domain(PowerState::Running, Power::Off(WentOff::Unknown));
    let plan = world.plan();
    let failure = Failure {
        reason: Reason::HypervisorError,
        message: "starting: no such machine".into(),
        stuck: false,
    };
    let status = after_failure(
        &world.instance,
        &plan.status.unwrap(),
        &Effect::Start,
        &failure,
        world.now,
    );
    world.instance.status = Some(status);
    world.seen.power = PowerRecord::default().with_start(world.now);
    world.seen.domain = Domain::Defined(Power::Off(WentOff::Failed));
    let plan = world.plan();
    assert_eq!((plan.effects, plan.again), (vec![], Some(Duration::from_secs(10))));
    let running = plan
        .status
        .unwrap()
        .conditions
        .into_iter()
        .find(|c| c.type_ == types::RUNNING)
        .unwrap();
    assert_eq!(running.message, "starting: no such machine");
}

#[test]
fn computing_the_same_again_gives_the_same_status() {
    let mut world = World::new(PowerState::Running);
    world.run();
    let first = world.status();
    world.instance.status = Some(first.clone());
    world.now = world.now.checked_add(Duration::from_hours(5)).unwrap();
    assert_eq!(world.status(), first);
    assert_eq!(notes(Some(&first), &first), []);
}

mod leaving;
mod resize;
mod root;
mod shelve;
mod verbs;

fn any_power() -> impl Strategy<Value = Power> {
    prop_oneof![
        Just(Power::Running),
        Just(Power::Paused),
        Just(Power::IoError),
        Just(Power::Sleeping),
        Just(Power::ShuttingDown),
        Just(Power::Crashed),
        Just(Power::Saving),
        Just(Power::Saved),
        Just(Power::BrokenSave),
        any_off().prop_map(Power::Off),
    ]
}

fn any_off() -> impl Strategy<Value = WentOff> {
    prop_oneof![
        Just(WentOff::Unknown),
        Just(WentOff::ByGuest),
        Just(WentOff::Destroyed),
        Just(WentOff::Crashed),
        Just(WentOff::Failed),
    ]
}

fn any_wanted() -> impl Strategy<Value = PowerState> {
    prop_oneof![
        Just(PowerState::Running),
        Just(PowerState::Stopped),
        Just(PowerState::Paused),
        Just(PowerState::Suspended),
    ]
}

prop_compose! {
    fn any_record()(starts in 0_u32..20, started in proptest::option::of(-9000_i64..9000),
                    asked in proptest::option::of(-9000_i64..9000), nudged in proptest::option::of(-9000_i64..9000))
                   -> PowerRecord {
        let at = |second: i64| Timestamp::from_second(1_795_341_600 + second).unwrap();
        PowerRecord {
            starts, started: started.map(at), stop_asked: asked.map(at), nudged: nudged.map(at), ..PowerRecord::default()
        }
    }
}

prop_compose! {
    fn any_world()(wanted in any_wanted(), power in proptest::option::of(any_power()), unreachable in any::<bool>(),
                   root in any::<bool>(), seed in any::<bool>(), record in any_record(),
                   deaf in 0_u32..9, full in 0_u32..4, deleted in any::<bool>()) -> World {
        let mut world = match power {
            Some(power) => World::with_domain(wanted, power),
            None => World::new(wanted),
        };
        if power.is_none() {
            world.seen.root_disk = root;
            world.seen.seed = seed;
            if unreachable {
                world.seen.domain = Domain::Unreachable("no socket".into());
            }
        }
        world.seen.power = record;
        world.deaf = deaf;
        world.full = full;
        if deleted { world.deleted() } else { world }
    }
}

proptest! {
    /// From wherever a crash, a user or a host left it, an Instance ends as its spec asks, in few steps. The model
    /// asserts on the way that nothing starts twice and nothing is ended that should run.
    #[test]
    fn every_state_converges(mut world in any_world()) {
        world.run();
        if world.instance.metadata.deletion_timestamp.is_some() {
            prop_assert!(world.gone, "{}", world.story);
            prop_assert_eq!(&world.seen.domain, &Domain::Absent);
            prop_assert!(!world.seen.root_disk && !world.seen.seed);
            return Ok(());
        }
        let status = world.status();
        let wanted = world.instance.spec.power_state;
        let sleeps = world.power() == Some(Power::Sleeping) && wanted == PowerState::Running;
        prop_assert!(world.is_ready() || world.waits_for_its_user(), "{}", world.story);
        prop_assert_eq!(&world.plan().effects, &[]);
        if world.waits_for_its_user() && !sleeps {
            return Ok(());
        }
        let expected = match world.instance.spec.power_state {
            PowerState::Running if sleeps => ObservedPower::Paused,
            PowerState::Running => ObservedPower::Running,
            PowerState::Paused => ObservedPower::Paused,
            PowerState::Stopped => ObservedPower::Stopped,
            PowerState::Suspended => ObservedPower::Suspended,
            PowerState::Shelved => unreachable!("it ends without a domain"),
        };
        let crashed = status.power_state == Some(ObservedPower::Crashed);
        prop_assert!(status.power_state == Some(expected) || (crashed && expected == ObservedPower::Stopped));
        prop_assert_eq!(world.plan().effects, []);
    }

    /// A user who changes their mind in the middle gets what they asked for last.
    #[test]
    fn the_last_wish_wins(mut world in any_world(), wishes in proptest::collection::vec((any_wanted(), 0_usize..4), 1..6)) {
        for (wish, passes) in wishes {
            world.instance.spec.power_state = wish;
            for _ in 0..passes {
                if !world.gone {
                    world.pass();
                }
            }
        }
        if !world.gone {
            world.run();
        }
        prop_assert!(world.gone || world.waits_for_its_user() || world.is_ready(), "{}", world.story);
    }
}
