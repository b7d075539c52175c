//! What a domain is plugged into beside what it should be: facts, as the agent found them in one look.

mod drift;
mod step;

use std::collections::BTreeMap;
use std::time::Duration;

use virga_crds::{Address, Bytes, InstanceStatus};

use super::seen::{InterfaceUse, Seen};

pub(super) use step::{Pace, needed, step};

/// The two descriptions that libvirt has of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// What is defined, and counts from the next start on.
    Defined,
    /// What runs.
    Running,
}

/// What there is of devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Devices {
    /// What libvirt says; absent without a domain, and while libvirt can't be asked.
    pub present: Option<Present>,
    /// The uids of the volumes that the spec names, as far as they are bound to this node: by name.
    pub volumes: BTreeMap<String, String>,
    /// The Ports of the networks that the spec names: by the network's name.
    pub ports: BTreeMap<String, OwnPort>,
    /// How long ago something was asked for that takes its time.
    pub asked: BTreeMap<Asked, Duration>,
    /// Volumes can't be plugged in or out while it runs: their bus knows of no such thing (SATA, IDE).
    pub cold_disks: bool,
    /// The generation of the spec that the domain was last brought in line with.
    pub generation: Option<i64>,
}

/// A Port of the Instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnPort {
    /// Its uid.
    pub uid: String,
    /// Its MAC address.
    pub mac: String,
}

/// Something that is asked for again only after a while.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asked {
    /// That the guest lets go of a volume, by uid.
    Volume(String),
    /// That the guest lets go of an interface, by MAC address.
    Interface(String),
    /// That the definition is written anew.
    Definition,
}

/// A domain that exists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Present {
    /// As it is defined.
    pub defined: Plugged,
    /// As it runs, if it does.
    pub running: Option<Plugged>,
}

/// One description of a domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plugged {
    /// The disks.
    pub disks: Vec<Disk>,
    /// The network interfaces.
    pub interfaces: Vec<Nic>,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory.
    pub memory: Bytes,
    /// The line for people.
    pub title: Option<String>,
    /// How many more devices can be plugged in while it runs; absent where that has no bound.
    pub free_ports: Option<u32>,
}

/// A disk of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// libvirt's name for it, as `vdb`.
    pub target: String,
    /// What it is.
    pub kind: DiskKind,
}

/// What a disk of a domain is, by its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskKind {
    /// The root disk, or the boot volume.
    Root,
    /// Another file of the Instance's own directory.
    Own,
    /// A volume.
    Volume {
        /// Its uid.
        uid: String,
        /// The Volume's name; absent when it isn't known.
        name: Option<String>,
    },
    /// None of ours: its file.
    Foreign(String),
}

/// A network interface of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nic {
    /// Its MAC address.
    pub mac: String,
    /// What it is.
    pub kind: NicKind,
}

/// What a network interface of a domain is, by the name that it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NicKind {
    /// A Port's.
    Port {
        /// The Port's uid.
        uid: String,
        /// The Network's name; absent when the Port isn't known.
        network: Option<String>,
        /// The Port's addresses.
        addresses: Vec<Address>,
    },
    /// None of ours.
    Foreign,
}

impl Present {
    /// Both descriptions.
    pub(super) fn sides(&self) -> impl Iterator<Item = &Plugged> {
        std::iter::once(&self.defined).chain(&self.running)
    }
}

impl Plugged {
    /// The disk on a volume.
    pub fn volume(&self, uid: &str) -> Option<&Disk> {
        self.disks
            .iter()
            .find(|disk| matches!(&disk.kind, DiskKind::Volume { uid: theirs, .. } if theirs == uid))
    }

    pub(super) fn port(&self, port: &OwnPort) -> bool {
        self.interfaces.iter().any(|nic| nic.is(port))
    }
}

impl Nic {
    pub(super) fn is(&self, port: &OwnPort) -> bool {
        self.mac == port.mac && self.uid() == Some(port.uid.as_str())
    }

    pub(super) fn network(&self) -> Option<&str> {
        match &self.kind {
            NicKind::Port { network, .. } => network.as_deref(),
            NicKind::Foreign => None,
        }
    }

    pub(super) fn uid(&self) -> Option<&str> {
        match &self.kind {
            NicKind::Port { uid, .. } => Some(uid),
            NicKind::Foreign => None,
        }
    }
}

/// The targets of a domain's volumes: what each has already stays, the others get the first that are free. `vda` is the
/// root disk's, `vdz` the seed's; an Instance has at most 16 volumes, so letters never run out.
pub fn targets<K: Ord + Clone>(volumes: &[K], kept: &BTreeMap<K, String>) -> Vec<String> {
    let mut taken: Vec<String> = kept.values().cloned().collect();
    let mut targets = Vec::new();
    for volume in volumes {
        let target = kept
            .get(volume)
            .cloned()
            .unwrap_or_else(|| free_target(|target| taken.iter().any(|other| other == target)));
        taken.push(target.clone());
        targets.push(target);
    }
    targets
}

fn free_target(taken: impl Fn(&str) -> bool) -> String {
    (1..)
        .map(crate::volume::device)
        .take(25)
        .find(|target| !taken(target))
        .unwrap_or_else(|| crate::volume::device(24))
}

/// The addresses that an Instance still has though its spec no longer names their Network: until the guest has let go of
/// them they can't be another's. While libvirt can't be asked, those that were told of before stay.
pub(super) fn leaving_addresses(seen: &Seen, old: &InstanceStatus) -> Vec<Address> {
    let named = |network: &str| seen.interfaces.iter().any(|interface| interface.network == network);
    // Another Port's in the same Network was taken out, and put in anew.
    let another = |nic: &Nic, network: &str| seen.devices.ports.get(network).is_some_and(|port| !nic.is(port));
    let is_anothers = |address: &Address| {
        let port = seen.devices.ports.get(&address.network);
        port.is_some_and(|port| port.mac != address.mac)
    };
    let Some(present) = &seen.devices.present else {
        let exists = !matches!(seen.domain, super::seen::Domain::Absent);
        let kept = old
            .addresses
            .iter()
            .filter(|address| exists && (!named(&address.network) || is_anothers(address)));
        return kept.cloned().collect();
    };
    let mut addresses: Vec<Address> = Vec::new();
    for nic in present.sides().flat_map(|side| &side.interfaces) {
        if let NicKind::Port {
            network: Some(network),
            addresses: theirs,
            ..
        } = &nic.kind
            && (!named(network) || another(nic, network))
        {
            addresses.extend(
                theirs
                    .iter()
                    .filter(|new| !addresses.contains(new))
                    .cloned()
                    .collect::<Vec<_>>(),
            );
        }
    }
    addresses
}

/// Whether an interface can be plugged in now.
fn is_ready(state: &InterfaceUse) -> bool {
    matches!(state, InterfaceUse::Ready(_))
}

#[cfg(test)]
mod tests;
