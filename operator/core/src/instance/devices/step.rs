//! From what a domain is plugged into to what it should be.
//!
//! The definition comes first when something is plugged in, and last when it is unplugged. So it names every file that the
//! guest may have open, at any moment and in saved memory too: who has a volume is told by definitions alone.

use std::collections::BTreeMap;
use std::time::Duration;

use virga_crds::{DriftPolicy, Instance, conditions::Reason};

use super::{Asked, DiskKind, NicKind, OwnPort, Plugged, Present, Side, drift, free_target, is_ready};
use crate::instance::{
    effect::Effect,
    needs::{self, Aspect},
    seen::{Interface, InterfaceUse, Seen, VolumeUse},
};
use crate::volume::volume_names;

/// How soon a guest that keeps a device is asked again (Nova's `device_detach_timeout`).
const LET_GO_AGAIN: Duration = Duration::from_secs(20);

const AT_THE_NEXT_START: &str = "it is done at the next start: stop and start the Instance, or ask for a reboot";

/// What can be changed now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::instance) enum Pace {
    /// It is off: its definition.
    Off,
    /// Its guest runs or stands still as asked: both.
    On,
    /// Nothing, and why.
    Wait(&'static str),
}

/// What to do next about the devices of a domain.
#[derive(Debug, Default)]
pub(in crate::instance) struct Step {
    /// In their order.
    pub effects: Vec<Effect>,
    /// What is wrong with the volumes.
    pub storage: Option<Aspect>,
    /// What is wrong with the interfaces.
    pub network: Option<Aspect>,
    /// What was changed by hand, or waits for the next start.
    pub drifted: Option<Aspect>,
    /// When to look again.
    pub again: Option<Duration>,
}

impl Step {
    /// Whether all that the spec names is plugged in, and nothing else of ours.
    pub fn settled(&self) -> bool {
        self.storage.is_none() && self.network.is_none()
    }

    fn storage(&mut self, aspect: Aspect) {
        self.storage.get_or_insert(aspect);
    }

    fn network(&mut self, aspect: Aspect) {
        self.network.get_or_insert(aspect);
    }

    pub(super) fn again(&mut self, wait: Duration) {
        self.again = Some(self.again.map_or(wait, |again| again.min(wait)));
    }
}

/// One look at a domain, and what is made of it.
struct Look<'a> {
    instance: &'a Instance,
    seen: &'a Seen,
    present: &'a Present,
    pace: Pace,
    /// Differences are told, and left.
    report: bool,
    differences: Vec<String>,
    /// The ports that are left for what is plugged in.
    free_ports: Option<u32>,
    step: Step,
}

/// The next step.
pub(in crate::instance) fn step(instance: &Instance, seen: &Seen, pace: Pace) -> Step {
    let Some(present) = &seen.devices.present else {
        return Step::default();
    };
    let told = instance.spec.drift_policy == DriftPolicy::Report;
    let in_line = seen.devices.generation == instance.metadata.generation;
    let mut look = Look {
        instance,
        seen,
        present,
        pace,
        report: told && in_line,
        differences: Vec::new(),
        free_ports: present.running.as_ref().and_then(|running| running.free_ports),
        step: Step::default(),
    };
    look.volumes();
    look.interfaces();
    let Look {
        mut step, differences, ..
    } = look;
    drift::tell(instance, seen, present, pace, differences, &mut step);
    // Differences that come later are somebody else's doing.
    if told && !in_line && step.settled() && step.effects.is_empty() && !matches!(pace, Pace::Wait(_)) {
        step.effects.push(Effect::MarkInLine);
    }
    step
}

/// What a start needs: of the volumes and interfaces, those that its definition names. Others are plugged in when they
/// can be; memory that was saved with an interface that is on its way out still needs its network.
pub(in crate::instance) fn needed(instance: &Instance, seen: &Seen) -> Seen {
    let mut needed = seen.clone();
    let Some(present) = &seen.devices.present else {
        return needed;
    };
    let (devices, defined) = (&seen.devices, &present.defined);
    // One that is out of reach may be any that nobody knows the name of.
    let unknown = |kind: &DiskKind| matches!(kind, DiskKind::Volume { name: None, .. });
    needed.volumes.retain(|volume| match devices.volumes.get(&volume.name) {
        _ if instance.spec.boot_volume.as_ref() == Some(&volume.name) => true,
        Some(uid) => defined.volume(uid).is_some(),
        None => defined.disks.iter().any(|disk| unknown(&disk.kind)),
    });
    needed
        .interfaces
        .retain(|interface| match devices.ports.get(&interface.network) {
            Some(port) => defined.port(port),
            None => defined.interfaces.iter().any(|nic| nic.network().is_none()),
        });
    for nic in &defined.interfaces {
        if let NicKind::Port {
            network: Some(network),
            addresses,
            ..
        } = &nic.kind
            && !needed.interfaces.iter().any(|interface| interface.network == *network)
        {
            needed.interfaces.push(Interface {
                network: network.clone(),
                state: InterfaceUse::Ready(addresses.clone()),
            });
        }
    }
    needed
}

impl Look<'_> {
    /// Whether a device is to be on a side: the definition always, what runs while something does.
    fn lacks(&self, has: impl Fn(&Plugged) -> bool) -> (bool, bool) {
        let running = self.present.running.as_ref();
        (
            !has(&self.present.defined),
            running.is_some_and(|running| !has(running)),
        )
    }

    fn volumes(&mut self) {
        for (uid, disk) in self.leaving_volumes() {
            let what = format!("volume {}", disk.name);
            let on_running = self
                .present
                .running
                .as_ref()
                .is_some_and(|side| side.volume(&uid).is_some());
            let asked = Asked::Volume(uid.clone());
            let detach = |side| Effect::DetachVolume { uid: uid.clone(), side };
            let leave = Leave {
                what,
                device: disk.target,
                asked,
                on_running,
                cold: self.seen.devices.cold_disks,
            };
            if let Some(aspect) = self.unplug(&leave, detach) {
                self.step.storage(aspect);
            }
        }
        let mut chosen: BTreeMap<String, String> = BTreeMap::new();
        for wanted in &self.instance.spec.volumes {
            let name = wanted.name.as_str();
            let known = self.seen.devices.volumes.get(name);
            let has = |side: &Plugged| known.is_some_and(|uid| side.volume(uid).is_some());
            let (defined, running) = self.lacks(has);
            if !defined && !running {
                continue;
            }
            let state = self.seen.volumes.iter().find(|volume| volume.name == name);
            let problem = match state.map(|volume| &volume.state) {
                // Whoever is plugged in holds it: it can go into the other side as well.
                Some(VolumeUse::Ready) => None,
                Some(state) => needs::volume_problem(name, state),
                None => continue,
            };
            if let Some(aspect) = problem {
                self.step.storage(aspect);
                continue;
            }
            let Some(uid) = known else { continue };
            let target = self.target(uid, &chosen);
            chosen.insert(uid.clone(), target.clone());
            let attach = |side| Effect::AttachVolume {
                name: name.to_owned(),
                uid: uid.clone(),
                target: target.clone(),
                side,
            };
            let in_the_way = self
                .present
                .running
                .as_ref()
                .is_some_and(|running| running.disks.iter().any(|disk| disk.target == target));
            let come = Come {
                what: format!("volume {name}"),
                device: &target,
                defined,
                running,
                hindrance: match self.seen.devices.cold_disks {
                    _ if running && in_the_way => Some(Hindrance::InTheWay),
                    true => Some(Hindrance::Cold),
                    false => None,
                },
            };
            if let Some(aspect) = self.plug(&come, Vec::new(), attach) {
                self.step.storage(aspect);
            }
        }
    }

    fn interfaces(&mut self) {
        for (nic, network) in self.leaving_nics() {
            let what = network.map_or_else(
                || format!("interface {nic}"),
                |network| format!("interface in Network {network}"),
            );
            let has = |side: &Plugged| side.interfaces.iter().any(|other| other.mac == nic);
            let on_running = self.present.running.as_ref().is_some_and(has);
            let asked = Asked::Interface(nic.clone());
            let detach = |side| Effect::DetachInterface { mac: nic.clone(), side };
            let leave = Leave {
                what,
                device: nic.clone(),
                asked,
                on_running,
                cold: false,
            };
            if let Some(aspect) = self.unplug(&leave, detach) {
                self.step.network(aspect);
            }
        }
        for sub in &self.seen.sub_ports {
            if let Some(aspect) = needs::sub_port_problem(self.instance, sub) {
                self.step.network(aspect);
            }
        }
        for interface in &self.seen.interfaces {
            let network = interface.network.as_str();
            let port = self.seen.devices.ports.get(network);
            let (defined, running) = self.lacks(|side| port.is_some_and(|port| side.port(port)));
            if !defined && !running {
                continue;
            }
            let (Some(port), true) = (port, is_ready(&interface.state)) else {
                // A Port that is not seen for a moment takes nothing away from a guest that is plugged in.
                if let Some(aspect) = needs::interface_problem(self.instance, interface) {
                    self.step.network(aspect);
                }
                continue;
            };
            let attach = |side| Effect::AttachInterface {
                network: network.to_owned(),
                side,
            };
            let same_name = |side: &Plugged| {
                side.interfaces
                    .iter()
                    .any(|nic| nic.uid() == Some(port.uid.as_str()) && !nic.is(port))
            };
            let come = Come {
                what: format!("interface in Network {network}"),
                device: &port.mac,
                defined,
                running,
                hindrance: self.present.sides().any(same_name).then_some(Hindrance::InTheWay),
            };
            let before = vec![Effect::EnsureNetwork {
                network: network.to_owned(),
            }];
            if let Some(aspect) = self.plug(&come, before, attach) {
                self.step.network(aspect);
            }
        }
    }

    /// Volumes that are plugged in and that the spec doesn't name. One of which nobody knows the name is left alone while
    /// a volume of the spec is out of reach: it may be that one.
    fn leaving_volumes(&self) -> BTreeMap<String, Leaving> {
        let named: Vec<&str> = volume_names(self.instance).collect();
        let uids = &self.seen.devices.volumes;
        let all_known = named.iter().all(|name| uids.contains_key(*name));
        let mut leaving = BTreeMap::new();
        for disk in self.present.sides().flat_map(|side| &side.disks) {
            let DiskKind::Volume { uid, name } = &disk.kind else {
                continue;
            };
            let kept = uids.values().any(|wanted| wanted == uid)
                || name.as_ref().map_or(!all_known, |name| named.contains(&name.as_str()));
            if !kept {
                leaving.insert(
                    uid.clone(),
                    Leaving {
                        target: disk.target.clone(),
                        name: name.clone().unwrap_or_else(|| uid.clone()),
                    },
                );
            }
        }
        leaving
    }

    /// Interfaces of ours, by MAC address, that are not as a Port of the spec's networks says; with their Network's name.
    fn leaving_nics(&self) -> BTreeMap<String, Option<String>> {
        let ports = &self.seen.devices.ports;
        let named = |network: &str| {
            self.seen
                .interfaces
                .iter()
                .any(|interface| interface.network == network)
        };
        let all_known = self
            .seen
            .interfaces
            .iter()
            .all(|interface| ports.contains_key(&interface.network));
        let mut leaving = BTreeMap::new();
        for nic in self.present.sides().flat_map(|side| &side.interfaces) {
            let NicKind::Port { network, .. } = &nic.kind else {
                continue;
            };
            let kept = ports.values().any(|port: &OwnPort| nic.is(port))
                || match network {
                    Some(network) => named(network) && !ports.contains_key(network),
                    None => !all_known,
                };
            if !kept {
                leaving.insert(nic.mac.clone(), network.clone());
            }
        }
        leaving
    }

    /// The target that a volume has already on either side, or the first that nothing has.
    fn target(&self, uid: &str, chosen: &BTreeMap<String, String>) -> String {
        let mut sides = self.present.sides();
        if let Some(disk) = sides.find_map(|side| side.volume(uid)) {
            return disk.target.clone();
        }
        free_target(|target| {
            let mut disks = self.present.sides().flat_map(|side| &side.disks);
            disks.any(|disk| disk.target == target) || chosen.values().any(|other| other == target)
        })
    }

    /// Unplugs: from the guest, and when that has let go, from the definition.
    fn unplug(&mut self, leave: &Leave, detach: impl Fn(Side) -> Effect) -> Option<Aspect> {
        let Leave { what, device, .. } = leave;
        if self.report {
            self.differences
                .push(format!("{what} ({device}) was plugged in by hand"));
            return None;
        }
        if let Pace::Wait(why) = self.pace {
            return Some(Aspect::waits(
                Reason::StateForbids,
                format!("{what} ({device}) is to be unplugged: {why}"),
            ));
        }
        if !leave.on_running {
            self.step.effects.push(detach(Side::Defined));
            return Some(Aspect::waits(Reason::Building, format!("unplugging {what} ({device})")));
        }
        if leave.cold {
            return Some(Aspect::waits(
                Reason::RestartPending,
                format!("{what} ({device}) can't be unplugged while the guest runs: {AT_THE_NEXT_START}"),
            ));
        }
        match self.seen.devices.asked.get(&leave.asked) {
            None => {
                self.step.effects.push(detach(Side::Running));
                Some(Aspect::waits(Reason::Building, format!("unplugging {what} ({device})")))
            }
            Some(ago) => {
                if *ago >= LET_GO_AGAIN {
                    self.step.effects.push(detach(Side::Running));
                } else {
                    self.step.again(LET_GO_AGAIN.saturating_sub(*ago));
                }
                Some(Aspect::waits(
                    Reason::Detaching,
                    format!(
                        "the guest has not let go of {device} yet ({what}): it is asked every {} s; unmount it there, or stop or                          reboot the Instance",
                        LET_GO_AGAIN.as_secs()
                    ),
                ))
            }
        }
    }

    /// Plugs in: into the definition, then into the guest.
    fn plug(&mut self, come: &Come<'_>, before: Vec<Effect>, attach: impl Fn(Side) -> Effect) -> Option<Aspect> {
        let Come { what, device, .. } = come;
        if self.report {
            self.differences
                .push(format!("{what} ({device}) was unplugged by hand"));
            return None;
        }
        if let Pace::Wait(why) = self.pace {
            return Some(Aspect::waits(
                Reason::StateForbids,
                format!("{what} is to be plugged in: {why}"),
            ));
        }
        if come.hindrance == Some(Hindrance::InTheWay) {
            self.step.again(LET_GO_AGAIN);
            return Some(Aspect::waits(
                Reason::Detaching,
                format!("{what} waits until the guest has let go of the device that has its place ({device})"),
            ));
        }
        let plugging = Aspect::waits(Reason::Building, format!("plugging in {what} ({device})"));
        if come.defined {
            self.step.effects.push(attach(Side::Defined));
        }
        if !come.running || self.pace == Pace::Off {
            return Some(plugging);
        }
        let cold = come.hindrance == Some(Hindrance::Cold);
        if cold || self.free_ports == Some(0) {
            let why = if cold {
                "its bus knows of no plugging while the guest runs"
            } else {
                "the machine has no free port to plug it into while it runs"
            };
            return Some(Aspect::waits(
                Reason::RestartPending,
                format!("{what} ({device}): {why}: {AT_THE_NEXT_START}"),
            ));
        }
        self.free_ports = self.free_ports.map(|ports| ports.saturating_sub(1));
        self.step.effects.extend(before);
        self.step.effects.push(attach(Side::Running));
        Some(plugging)
    }
}

/// A volume that is to be unplugged.
struct Leaving {
    target: String,
    name: String,
}

/// A device that is to be unplugged.
struct Leave {
    what: String,
    device: String,
    asked: Asked,
    on_running: bool,
    /// It can't be unplugged while the guest runs.
    cold: bool,
}

/// A device that is to be plugged in.
struct Come<'a> {
    what: String,
    device: &'a str,
    /// The definition lacks it.
    defined: bool,
    /// What runs lacks it.
    running: bool,
    hindrance: Option<Hindrance>,
}

/// Why a device can't be plugged in now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hindrance {
    /// Something that is on its way out has its place.
    InTheWay,
    /// Its bus knows of no plugging while the guest runs.
    Cold,
}
