use std::collections::BTreeSet;

use proptest::prelude::*;
use virga_crds::{
    BuiltFlavor, DriftPolicy, ImageRef, Instance, InstanceSpec, Interface as SpecInterface, VolumeAttachment,
};

use super::*;
use crate::instance::{
    Deeds, Domain, Effect, Health, Interface, Power, PowerRecord, Room, RootSeen, Snapshotting, Volume, VolumeUse,
    devices::step::{Pace, Step},
};

/// A domain on which effects take place as they would on a real one.
#[derive(Clone, Debug)]
struct World {
    instance: Instance,
    seen: Seen,
    /// How many more times the guest keeps what it is asked to let go of.
    holds: u32,
    /// What the domain had and should have at the beginning: nothing may take it away meanwhile.
    kept: BTreeSet<String>,
}

fn volume(n: u8) -> Disk {
    Disk {
        target: crate::volume::device(usize::from(n) + 1),
        kind: DiskKind::Volume {
            uid: format!("u{n}"),
            name: Some(format!("v{n}")),
        },
    }
}

fn nic(n: u8) -> Nic {
    Nic {
        mac: format!("m{n}"),
        kind: NicKind::Port {
            uid: format!("p{n}"),
            network: Some(format!("n{n}")),
            addresses: vec![address(n)],
        },
    }
}

fn address(n: u8) -> Address {
    Address {
        network: format!("n{n}"),
        ip: format!("10.0.0.{n}"),
        mac: format!("m{n}"),
    }
}

fn side(volumes: &BTreeSet<u8>, nics: &BTreeSet<u8>) -> Plugged {
    let own = [("vda", DiskKind::Root), ("vdz", DiskKind::Own)];
    let own = own.map(|(target, kind)| Disk {
        target: target.into(),
        kind,
    });
    Plugged {
        disks: own.into_iter().chain(volumes.iter().map(|n| volume(*n))).collect(),
        interfaces: nics.iter().map(|n| nic(*n)).collect(),
        vcpus: 1,
        memory: Bytes::gib(1),
        title: Some("shop/web-1".into()),
        free_ports: Some(32),
    }
}

impl World {
    fn new(volumes: &BTreeSet<u8>, nics: &BTreeSet<u8>, defined: Plugged, running: Option<Plugged>) -> Self {
        let mut instance = Instance::new(
            "web-1",
            InstanceSpec {
                flavor: "m1.small".into(),
                image: Some(ImageRef::default()),
                volumes: volumes
                    .iter()
                    .map(|n| VolumeAttachment { name: format!("v{n}") })
                    .collect(),
                interfaces: nics
                    .iter()
                    .map(|n| SpecInterface {
                        network: format!("n{n}"),
                        ..SpecInterface::default()
                    })
                    .collect(),
                ..InstanceSpec::default()
            },
        );
        instance.metadata.namespace = Some("shop".into());
        instance.metadata.generation = Some(2);
        let power = if running.is_some() {
            Power::Running
        } else {
            Power::Off(crate::instance::WentOff::Unknown)
        };
        let present = Present { defined, running };
        let names = |plugged: &Plugged| -> BTreeSet<String> {
            let disks = plugged.disks.iter().map(|disk| format!("{:?}", disk.kind));
            disks
                .chain(plugged.interfaces.iter().map(|nic| nic.mac.clone()))
                .collect()
        };
        let wanted: BTreeSet<String> = names(&side(volumes, nics));
        let mut kept: BTreeSet<String> = names(&present.defined).intersection(&wanted).cloned().collect();
        if let Some(running) = &present.running {
            kept = kept.intersection(&names(running)).cloned().collect();
        }
        World {
            seen: Seen {
                node: "node-1".into(),
                domain: Domain::Defined(power),
                root_disk: true,
                seed: true,
                power: PowerRecord::default(),
                flavor: Some(BuiltFlavor {
                    name: "m1.small".into(),
                    vcpus: 1,
                    memory: Bytes::gib(1),
                    disk: Bytes::gib(20),
                }),
                image: None,
                volumes: volumes
                    .iter()
                    .map(|n| Volume {
                        name: format!("v{n}"),
                        state: VolumeUse::Ready,
                    })
                    .collect(),
                sub_ports: Vec::new(),
                interfaces: nics
                    .iter()
                    .map(|n| Interface {
                        network: format!("n{n}"),
                        state: InterfaceUse::Ready(vec![address(*n)]),
                    })
                    .collect(),
                shelve: crate::instance::ShelveSeen::default(),
                leaving: None,
                deeds: Deeds::default(),
                guest_agent: true,
                devices: Devices {
                    present: Some(present),
                    volumes: volumes.iter().map(|n| (format!("v{n}"), format!("u{n}"))).collect(),
                    ports: nics
                        .iter()
                        .map(|n| {
                            let port = OwnPort {
                                uid: format!("p{n}"),
                                mac: format!("m{n}"),
                            };
                            (format!("n{n}"), port)
                        })
                        .collect(),
                    asked: BTreeMap::new(),
                    cold_disks: false,
                    generation: Some(1),
                },
                topology: None,
                root: RootSeen::default(),
                health: Health::default(),
                snapshotting: Snapshotting::No,
                room: Room::Enough,
                save_room: Room::Enough,
            },
            instance,
            holds: 0,
            kept,
        }
    }

    fn present(&mut self) -> &mut Present {
        self.seen.devices.present.as_mut().unwrap()
    }

    fn side(&mut self, side: Side) -> &mut Plugged {
        let present = self.present();
        match side {
            Side::Defined => &mut present.defined,
            Side::Running => present.running.as_mut().expect("plugged into what is off"),
        }
    }

    fn step(&self) -> Step {
        let running = self.seen.devices.present.as_ref().unwrap().running.is_some();
        step(&self.instance, &self.seen, if running { Pace::On } else { Pace::Off })
    }

    fn apply(&mut self, effect: &Effect) {
        let holds = self.holds;
        let live = self.seen.devices.present.as_ref().unwrap().running.clone();
        match effect {
            Effect::AttachVolume {
                name,
                uid,
                target,
                side,
            } => {
                let on = self.side(*side);
                assert!(on.volume(uid).is_none(), "plugged in twice: {effect:?}");
                assert!(
                    on.disks.iter().all(|disk| disk.target != *target),
                    "target taken: {effect:?}"
                );
                on.disks.push(Disk {
                    target: target.clone(),
                    kind: DiskKind::Volume {
                        uid: uid.clone(),
                        name: Some(name.clone()),
                    },
                });
                on.free_ports = on.free_ports.map(|ports| ports.checked_sub(1).expect("a free port"));
            }
            Effect::DetachVolume { uid, side } => {
                if *side == Side::Running {
                    self.seen
                        .devices
                        .asked
                        .insert(Asked::Volume(uid.clone()), Duration::ZERO);
                    self.holds = holds.saturating_sub(1);
                    if holds > 0 {
                        return;
                    }
                } else {
                    assert!(
                        live.is_none_or(|live| live.volume(uid).is_none()),
                        "undefined while the guest has it: {effect:?}"
                    );
                }
                let uid = uid.clone();
                self.side(*side)
                    .disks
                    .retain(|disk| !matches!(&disk.kind, DiskKind::Volume { uid: theirs, .. } if *theirs == uid));
            }
            Effect::AttachInterface { network, side } => {
                let port = self.seen.devices.ports[network].clone();
                let n: u8 = network[1..].parse().unwrap();
                let on = self.side(*side);
                assert!(!on.port(&port), "plugged in twice: {effect:?}");
                on.interfaces.push(nic(n));
            }
            Effect::DetachInterface { mac, side } => {
                if *side == Side::Running {
                    self.seen
                        .devices
                        .asked
                        .insert(Asked::Interface(mac.clone()), Duration::ZERO);
                    self.holds = holds.saturating_sub(1);
                    if holds > 0 {
                        return;
                    }
                }
                let mac = mac.clone();
                self.side(*side).interfaces.retain(|nic| nic.mac != mac);
            }
            Effect::EnsureNetwork { .. } => {}
            Effect::MarkInLine => self.seen.devices.generation = self.instance.metadata.generation,
            other => panic!("not about devices: {other:?}"),
        }
    }

    /// What both sides have, and that what was to be kept is there.
    fn check(&self) {
        let present = self.seen.devices.present.as_ref().unwrap();
        for on in present.sides() {
            let disks = on.disks.iter().map(|disk| format!("{:?}", disk.kind));
            let all: BTreeSet<String> = disks.chain(on.interfaces.iter().map(|nic| nic.mac.clone())).collect();
            assert!(
                self.kept.is_subset(&all),
                "{:?} of {:?}",
                self.kept.difference(&all),
                self.kept
            );
        }
    }

    fn run(&mut self) {
        for _ in 0..200 {
            let step = self.step();
            for effect in &step.effects {
                self.apply(effect);
                self.check();
            }
            match (step.effects.is_empty(), step.again) {
                (true, None) => return,
                (true, Some(again)) => {
                    for ago in self.seen.devices.asked.values_mut() {
                        *ago += again;
                    }
                }
                _ => {}
            }
        }
        panic!("no rest: {:?}", self.step());
    }

    fn volumes(&self, side: Side) -> BTreeSet<String> {
        let present = self.seen.devices.present.as_ref().unwrap();
        let on = match side {
            Side::Defined => Some(&present.defined),
            Side::Running => present.running.as_ref(),
        };
        let disks = on.map_or(&[][..], |on| &on.disks).iter();
        let volumes = disks.filter_map(|disk| match &disk.kind {
            DiskKind::Volume { uid, .. } => Some(uid.clone()),
            _ => None,
        });
        volumes.collect()
    }
}

fn set(numbers: &[u8]) -> BTreeSet<u8> {
    numbers.iter().copied().collect()
}

fn some() -> impl Strategy<Value = BTreeSet<u8>> {
    proptest::collection::btree_set(0_u8..6, 0..6)
}

proptest! {
    #[test]
    fn from_any_state_the_steps_end_with_what_is_wanted_and_lose_nothing_on_the_way(
        wanted in (some(), some()),
        defined in (some(), some()),
        running in proptest::option::of((some(), some())),
        holds in 0_u32..4,
    ) {
        let running = running.map(|(volumes, nics)| side(&volumes, &nics));
        let mut world = World::new(&wanted.0, &wanted.1, side(&defined.0, &defined.1), running);
        world.holds = holds;
        world.run();
        let step = world.step();
        prop_assert!(step.settled() && step.drifted.is_none(), "{step:?}");
        let volumes: BTreeSet<String> = wanted.0.iter().map(|n| format!("u{n}")).collect();
        let present = world.seen.devices.present.clone().unwrap();
        prop_assert_eq!(&world.volumes(Side::Defined), &volumes);
        if present.running.is_some() {
            prop_assert_eq!(&world.volumes(Side::Running), &volumes);
        }
        for on in present.sides() {
            let macs: BTreeSet<_> = on.interfaces.iter().map(|nic| nic.mac.clone()).collect();
            let wanted: BTreeSet<_> = wanted.1.iter().map(|n| format!("m{n}")).collect();
            prop_assert_eq!(macs, wanted);
        }
    }

    #[test]
    fn targets_are_kept_and_never_given_twice(volumes in some(), kept in some()) {
        let volumes: Vec<u8> = volumes.into_iter().collect();
        let kept: BTreeMap<u8, String> = kept.into_iter().map(|n| (n, crate::volume::device(usize::from(n) + 3))).collect();
        let given = targets(&volumes, &kept);
        for (volume, target) in volumes.iter().zip(&given) {
            prop_assert!(kept.get(volume).is_none_or(|had| had == target));
            prop_assert!(target != "vda" && target != "vdz");
        }
        let apart: BTreeSet<_> = given.iter().collect();
        prop_assert_eq!(apart.len(), given.len());
    }
}

#[test]
fn a_volume_goes_into_the_definition_first_and_out_of_it_last() {
    let mut world = World::new(
        &set(&[1]),
        &set(&[]),
        side(&set(&[2]), &set(&[])),
        Some(side(&set(&[2]), &set(&[]))),
    );
    let names: Vec<_> = world.step().effects.iter().map(Effect::name).collect();
    assert_eq!(names, ["DetachVolume", "DefineVolume", "AttachVolume"]);
    world.holds = 1;
    for effect in world.step().effects {
        world.apply(&effect);
    }
    let step = world.step();
    assert_eq!((step.effects.len(), step.again), (0, Some(Duration::from_secs(20))));
    let told = step.storage.unwrap();
    assert_eq!(told.reason, virga_crds::conditions::Reason::Detaching);
    assert!(told.message.contains("has not let go of vdd"), "{}", told.message);
    assert_eq!(world.volumes(Side::Defined).len(), 2, "nobody else may have it yet");
}

#[test]
fn without_a_free_port_a_device_waits_for_the_next_start() {
    let mut running = side(&set(&[]), &set(&[]));
    running.free_ports = Some(1);
    let mut world = World::new(&set(&[1, 2]), &set(&[]), side(&set(&[]), &set(&[])), Some(running));
    world.run();
    assert_eq!(world.volumes(Side::Defined).len(), 2);
    assert_eq!(world.volumes(Side::Running).len(), 1);
    let told = world.step().storage.unwrap();
    assert_eq!(told.reason, virga_crds::conditions::Reason::RestartPending);
    assert!(told.message.contains("reboot"), "{}", told.message);
}

#[test]
fn disks_on_a_bus_without_hot_plug_wait_for_the_next_start() {
    let start = || side(&set(&[2]), &set(&[]));
    let mut world = World::new(&set(&[1]), &set(&[]), start(), Some(start()));
    world.seen.devices.cold_disks = true;
    world.run();
    assert_eq!(world.volumes(Side::Running), BTreeSet::from(["u2".to_owned()]));
    let told = world.step().storage.unwrap();
    assert_eq!(told.reason, virga_crds::conditions::Reason::RestartPending);
    world.present().running = None;
    world.run();
    assert_eq!(world.volumes(Side::Defined), BTreeSet::from(["u1".to_owned()]));
}

#[test]
fn what_can_not_be_told_apart_is_left_alone() {
    let mut world = World::new(&set(&[1]), &set(&[]), side(&set(&[]), &set(&[])), None);
    world.present().defined.disks.push(Disk {
        target: "vdb".into(),
        kind: DiskKind::Volume {
            uid: "u9".into(),
            name: None,
        },
    });
    // It may be the one that the spec names, which is out of reach.
    world.seen.devices.volumes.clear();
    world.seen.volumes[0].state = VolumeUse::NotFound;
    assert_eq!(world.step().effects, []);
    assert_eq!(
        needed(&world.instance, &world.seen).volumes.len(),
        1,
        "and it is needed"
    );
    // Now it is known to be another.
    world.seen.devices.volumes.insert("v1".into(), "u1".into());
    world.seen.volumes[0].state = VolumeUse::Ready;
    let names: Vec<_> = world.step().effects.iter().map(Effect::name).collect();
    assert_eq!(names, ["UndefineVolume", "DefineVolume"]);
}

#[test]
fn a_volume_out_of_reach_keeps_no_guest_from_being_started() {
    let mut world = World::new(&set(&[1, 2]), &set(&[1]), side(&set(&[1]), &set(&[])), None);
    world.seen.devices.volumes.remove("v2");
    world.seen.volumes[1].state = VolumeUse::OnOtherNode("node-2".into());
    let needed = needed(&world.instance, &world.seen);
    let names: Vec<_> = needed.volumes.iter().map(|volume| volume.name.as_str()).collect();
    assert_eq!((names, needed.interfaces.len()), (vec!["v1"], 0));
    let told = world.step().storage.unwrap();
    assert!(told.message.contains("node-2"), "{}", told.message);
}

#[test]
fn nothing_is_plugged_in_or_out_of_saved_memory() {
    let world = World::new(&set(&[1]), &set(&[1]), side(&set(&[2]), &set(&[2])), None);
    let step = step(&world.instance, &world.seen, Pace::Wait("it is saved"));
    assert_eq!(step.effects, []);
    for told in [step.storage.unwrap(), step.network.unwrap()] {
        assert_eq!(told.reason, virga_crds::conditions::Reason::StateForbids);
        assert!(told.message.contains("it is saved"), "{}", told.message);
    }
    // What it was saved with is needed to go on, and its address is still its own.
    let needed = needed(&world.instance, &world.seen);
    assert!(needed.interfaces.iter().any(|interface| interface.network == "n2"));
    let kept = leaving_addresses(&world.seen, &InstanceStatus::default());
    assert_eq!(kept, [address(2)]);
}

#[test]
fn addresses_stay_told_of_while_libvirt_does_not_answer() {
    let mut world = World::new(&set(&[]), &set(&[]), side(&set(&[]), &set(&[])), None);
    world.seen.devices.present = None;
    world.seen.domain = Domain::Unreachable("no socket".into());
    let old = InstanceStatus {
        addresses: vec![address(2)],
        ..InstanceStatus::default()
    };
    assert_eq!(leaving_addresses(&world.seen, &old), [address(2)]);
    world.seen.domain = Domain::Absent;
    assert_eq!(leaving_addresses(&world.seen, &old), []);
}

#[test]
fn what_was_added_by_hand_is_told_of_and_left() {
    let mut world = World::new(
        &set(&[]),
        &set(&[]),
        side(&set(&[]), &set(&[])),
        Some(side(&set(&[]), &set(&[]))),
    );
    let running = world.side(Side::Running);
    running.disks.push(Disk {
        target: "vdx".into(),
        kind: DiskKind::Foreign("/tmp/theirs.raw".into()),
    });
    running.interfaces.push(Nic {
        mac: "m9".into(),
        kind: NicKind::Foreign,
    });
    let step = world.step();
    assert!(step.effects.is_empty() && step.settled());
    let told = step.drifted.unwrap();
    assert!(
        told.message.contains("/tmp/theirs.raw") && told.message.contains("m9"),
        "{}",
        told.message
    );
}

#[test]
fn a_changed_definition_is_written_anew_and_what_runs_is_told_to_wait() {
    let mut world = World::new(
        &set(&[]),
        &set(&[]),
        side(&set(&[]), &set(&[])),
        Some(side(&set(&[]), &set(&[]))),
    );
    world.side(Side::Defined).vcpus = 4;
    world.side(Side::Running).memory = Bytes::gib(2);
    let step = world.step();
    assert_eq!(step.effects, [Effect::Redefine]);
    let told = step.drifted.unwrap();
    assert_eq!(told.reason, virga_crds::conditions::Reason::RestartPending);
    assert!(
        told.message.contains("2Gi of memory instead of 1Gi"),
        "{}",
        told.message
    );
    // If that did not help, it is not tried again at once.
    world
        .seen
        .devices
        .asked
        .insert(Asked::Definition, Duration::from_secs(1));
    let step = world.step();
    assert!(step.effects.is_empty() && step.again.is_some());
    assert!(step.drifted.unwrap().message.contains("4 CPUs instead of 1"));
}

#[test]
fn under_report_nothing_is_put_right_until_the_spec_is_changed() {
    let mut world = World::new(&set(&[1]), &set(&[]), side(&set(&[2]), &set(&[])), None);
    world.instance.spec.drift_policy = DriftPolicy::Report;
    world.side(Side::Defined).vcpus = 4;
    world.seen.devices.generation = Some(2);
    let step = world.step();
    assert!(step.effects.is_empty() && step.settled());
    let told = step.drifted.unwrap().message;
    for part in [
        "volume v1",
        "was unplugged by hand",
        "volume v2",
        "was plugged in by hand",
        "4 CPUs",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    // A new spec is carried out, and noted.
    world.instance.metadata.generation = Some(3);
    world.run();
    assert_eq!(world.volumes(Side::Defined), BTreeSet::from(["u1".to_owned()]));
    assert_eq!(world.seen.devices.generation, Some(3));
}

#[test]
fn a_sub_port_that_is_missing_is_told_of_and_what_is_plugged_in_stays() {
    let start = || side(&set(&[]), &set(&[1]));
    let mut world = World::new(&set(&[]), &set(&[1]), start(), Some(start()));
    assert!(world.step().settled());
    world.seen.sub_ports = vec![Interface {
        network: "dmz".into(),
        state: InterfaceUse::NoPort,
    }];
    let step = world.step();
    assert_eq!(step.effects, []);
    assert_eq!(step.network.unwrap().message, "waiting for the sub-port in Network dmz");
    world.seen.sub_ports[0].state = InterfaceUse::Ready(vec![address(2)]);
    assert!(world.step().settled());
}
