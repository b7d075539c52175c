use std::time::Duration;

use super::{deeds::Deeds, health::Health, leaving::Leaving};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use virga_crds::{Address, BuiltFlavor, Bytes, InstanceTopology, conditions::Reason};

use super::{
    devices::Devices,
    root::RootSeen,
    shelve::{DiskMark, ShelveSeen},
    snapshotting::Snapshotting,
};

/// Everything that deciding about one Instance takes, as the agent found it in one look.
///
/// Facts only: what libvirt says, what lies on the disk, what the watches hold. Nothing is remembered from an earlier
/// pass, so an agent that was killed decides as one that was not.
#[derive(Clone, Debug)]
pub struct Seen {
    /// This agent's node.
    pub node: String,
    /// The domain.
    pub domain: Domain,
    /// Whether the root disk's file is there. Always false with a boot volume.
    pub root_disk: bool,
    /// Whether the seed is there.
    pub seed: bool,
    /// Starts and stops, as noted beside the disks.
    pub power: PowerRecord,
    /// The size that it is to be built with; absent when its Flavor doesn't exist.
    pub flavor: Option<BuiltFlavor>,
    /// The image; absent with a boot volume.
    pub image: Option<Image>,
    /// What there is for the root disk to be exchanged.
    pub root: RootSeen,
    /// Its volumes: the boot volume first, then those of `spec.volumes` in their order.
    pub volumes: Vec<Volume>,
    /// Its interfaces, in the order of `spec.interfaces`.
    pub interfaces: Vec<Interface>,
    /// The sub-ports of their trunks. There is nothing to be plugged in for them.
    pub sub_ports: Vec<Interface>,
    /// What its domain is plugged into.
    pub devices: Devices,
    /// What it holds of the host's CPUs, pages and devices, as noted beside its disks.
    pub topology: Option<InstanceTopology>,
    /// Whether the host has room for it. Looked at only before anything of it exists here.
    pub room: Room,
    /// Whether the host's disk has room for its memory. Looked at only when that is to be saved.
    pub save_room: Room,
    /// How its guest does.
    pub health: Health,
    /// Whether an image is being made of its root disk.
    pub snapshotting: Snapshotting,
    /// What there is for it to be shelved or unshelved.
    pub shelve: ShelveSeen,
    /// That it is on its way to another host.
    pub leaving: Option<Leaving>,
    /// What was done to its guest, as noted beside the disks.
    pub deeds: Deeds,
    /// Whether an agent in the guest has opened its channel. Looked at only when one is needed.
    pub guest_agent: bool,
}

/// The domain with the Instance's uid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Domain {
    /// libvirt can't be asked, and why.
    Unreachable(String),
    /// A domain that isn't ours has the Instance's UUID or name: what libvirt said.
    Foreign(String),
    /// There is none.
    Absent,
    /// It is defined.
    Defined(Power),
}

/// libvirt's state of a domain, with those of its reasons that change what is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    /// It runs.
    Running,
    /// Its processors stand still, as somebody asked.
    Paused,
    /// QEMU halted it, because one of its disks failed or is full.
    IoError,
    /// It sleeps (ACPI S3), by the guest's own doing.
    Sleeping,
    /// It is shutting down.
    ShuttingDown,
    /// Its memory is being saved.
    Saving,
    /// There is no process, and its memory is saved.
    Saved,
    /// There is no process, and its saved memory can't be used.
    BrokenSave,
    /// There is no process.
    Off(WentOff),
    /// It crashed, and its process was kept.
    Crashed,
}

/// Why a domain is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WentOff {
    /// Nobody knows: it never ran, or the host was restarted.
    Unknown,
    /// The guest shut itself down.
    ByGuest,
    /// Its process was ended from outside.
    Destroyed,
    /// It crashed.
    Crashed,
    /// It could not be started.
    Failed,
}

/// The image that the root disk is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Image {
    /// There is no such Image, or it isn't shared with this namespace.
    NotFound(String),
    /// The Image exists, and the cache stands like this.
    Known {
        /// The Image's uid: the cache's key.
        uid: String,
        /// `spec.minDisk`.
        min_disk: Bytes,
        /// `spec.minMemory`.
        min_memory: Bytes,
        /// What the node's cache has.
        cache: Cache,
    },
}

/// How an image stands in the node's cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cache {
    /// It isn't there.
    Absent,
    /// It is on its way; so many percent are there, if the length is known.
    Pulling(Option<u8>),
    /// It is there and was verified.
    Cached {
        /// How large the disk in it is.
        virtual_size: Bytes,
    },
    /// Its bytes can't be used.
    Invalid(String),
    /// It can't be had now, and is tried again.
    Unreachable(String),
}

/// A volume that the Instance names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// How it stands.
    pub state: VolumeUse,
}

/// Whether an Instance can have a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeUse {
    /// There is no such Volume.
    NotFound,
    /// The Volume is being deleted.
    Deleting,
    /// It isn't bound to a node yet.
    Unbound,
    /// It is on another node.
    OnOtherNode(String),
    /// Another Instance has it.
    HeldBy(String),
    /// Its file isn't made yet, and why, if it is known.
    NotReady(String),
    /// It can be used.
    Ready,
}

/// An interface that the Instance asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The Network's name.
    pub network: String,
    /// How it stands.
    pub state: InterfaceUse,
}

/// Whether an interface can be plugged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InterfaceUse {
    /// There is no such Network.
    NoNetwork,
    /// The controller hasn't made the Port yet.
    NoPort,
    /// The Network can't be carried out, and why.
    Invalid(String),
    /// The Port is there, with these addresses.
    Ready(Vec<Address>),
}

/// Whether the host has room for one more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Room {
    /// It has, or it was promised to this Instance already.
    Enough,
    /// It hasn't; what is short.
    Short(String),
}

/// When an Instance's domain was started and asked to stop. Kept in a small file beside its disks, so that a crash loop
/// or a guest that ignores ACPI is known as such by an agent that was restarted in the middle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PowerRecord {
    /// How often it was started in a row: 0 when it has run long enough since, or was stopped as asked.
    #[serde(default)]
    pub starts: u32,
    /// The last of these starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// When it was first asked to shut down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_asked: Option<Timestamp>,
    /// When it was last asked to shut down, or to go on after a disk error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nudged: Option<Timestamp>,
    /// It was seen running since its last start. Noted only where that decides whether it is started again.
    #[serde(default, skip_serializing_if = "is_false")]
    pub ran: bool,
    /// Its guest shut itself down since. libvirt forgets it when the host is restarted.
    #[serde(default, skip_serializing_if = "is_false")]
    pub halted: bool,
    /// The last reboot that was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reboot: Option<RebootRecord>,
    /// Since when it is off for being shelved: the name of that shelving. A start ends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shelved: Option<Timestamp>,
    /// How its root disk was then: what is written to it afterwards is in no Image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shelved_disk: Option<DiskMark>,
}

/// A reboot that was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RebootRecord {
    /// The `at` that asked for it.
    pub at: Timestamp,
    /// When the guest was started again. Noted right before, so that it is not ended once more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<Timestamp>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(value: &bool) -> bool {
    !value
}

/// The pause between the first and the second start in a row.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
/// The longest pause between two starts (the kubelet's `MaxContainerBackOff`).
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// A domain that ran for so long has not crashed in a row (the kubelet's rule: twice the longest pause).
const FORGIVEN_AFTER: Duration = Duration::from_mins(10);

impl PowerRecord {
    /// How long to wait before the next start: 10 s after the last one, doubling with each in a row up to 5 minutes.
    pub fn pause(&self, now: Timestamp) -> Duration {
        let since_start = self.started.map_or(Duration::MAX, |started| since(started, now));
        doubled(self.starts).saturating_sub(since_start)
    }

    /// The record with one more start.
    pub fn with_start(self, now: Timestamp) -> Self {
        let rebooting = self.reboot.is_some_and(|reboot| reboot.finished.is_none());
        let in_a_row = self.started.is_some_and(|started| since(started, now) < FORGIVEN_AFTER);
        let starts = if in_a_row && !rebooting {
            self.starts.saturating_add(1)
        } else {
            1
        };
        Self {
            starts,
            started: Some(now),
            reboot: self.reboot.map(|reboot| RebootRecord {
                finished: reboot.finished.or(Some(now)),
                ..reboot
            }),
            ..Self::default()
        }
    }

    /// The record with a reboot that begins.
    pub fn with_reboot(self, at: Timestamp) -> Self {
        Self {
            reboot: Some(RebootRecord { at, finished: None }),
            ..self
        }
    }

    /// The record of a domain that is off as asked: nothing counts but its reboots.
    pub fn cleared(self) -> Self {
        Self {
            reboot: self.reboot,
            ..Self::default()
        }
    }

    /// The record with one more request to shut down.
    pub fn with_stop(self, now: Timestamp) -> Self {
        Self {
            stop_asked: self.stop_asked.or(Some(now)),
            nudged: Some(now),
            ..self
        }
    }

    /// The record with one more request to go on.
    pub fn with_nudge(self, now: Timestamp) -> Self {
        Self {
            nudged: Some(now),
            ..self
        }
    }

    /// The record of a domain that runs as it should: only its starts count, and that it ran, if that is to be known.
    pub fn at_rest(self, ran: bool) -> Self {
        Self {
            stop_asked: None,
            nudged: None,
            ran,
            halted: false,
            ..self
        }
    }

    /// When the next start may be.
    pub fn next_start(&self) -> Option<Timestamp> {
        let started = self.started?;
        started.checked_add(doubled(self.starts)).ok()
    }

    /// How long ago it was asked to shut down.
    pub fn stopping_for(&self, now: Timestamp) -> Option<Duration> {
        self.stop_asked.map(|asked| since(asked, now))
    }

    /// How long ago it was last asked to shut down or to go on.
    pub fn nudged_for(&self, now: Timestamp) -> Option<Duration> {
        self.nudged.map(|nudged| since(nudged, now))
    }
}

fn doubled(starts: u32) -> Duration {
    let Some(earlier) = starts.checked_sub(1) else {
        return Duration::ZERO;
    };
    FIRST_PAUSE
        .saturating_mul(2_u32.saturating_pow(earlier))
        .min(LONGEST_PAUSE)
}

/// A clock may be set back by so much without a wait getting longer than it is for.
const SET_BACK: SignedDuration = SignedDuration::from_secs(60);

/// From then to now. What seems to be yet to come is now when the clock was set back a little, and long ago when it was
/// set back by more: else a wait for it would last until the clock has caught up.
fn since(then: Timestamp, now: Timestamp) -> Duration {
    let passed = now.duration_since(then);
    match Duration::try_from(passed) {
        Ok(passed) => passed,
        Err(_) if passed >= -SET_BACK => Duration::ZERO,
        Err(_) => Duration::MAX,
    }
}

/// What kept an effect from being carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// For the condition and the event.
    pub reason: Reason,
    /// What was being done and what went wrong, in one line.
    pub message: String,
    /// Whether only the user can help.
    pub stuck: bool,
}
