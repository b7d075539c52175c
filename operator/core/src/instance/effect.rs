use std::time::Duration;

use virga_crds::{Bytes, InstanceStatus, conditions::Reason};

use super::{deeds::Deeds, devices::Side, root::RootRecord, seen::PowerRecord};

/// One thing to do. Each is idempotent: done twice, or done half and then again, it gives the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Begin to fetch the image into the node's cache. Doesn't wait for it.
    PullImage {
        /// The Image's uid.
        uid: String,
    },
    /// Make the root disk over the cached image.
    CreateRootDisk {
        /// The Image's uid.
        uid: String,
        /// How large the disk is.
        size: Bytes,
    },
    /// Note beside the disks what is made of them.
    RecordRoot(Box<RootRecord>),
    /// Make the next root disk beside the one that is there.
    CreateNextRoot {
        /// The Image's uid.
        uid: String,
        /// How large the disk is.
        size: Bytes,
    },
    /// Write the seed of the next root disk beside the one that is there.
    WriteNextSeed,
    /// Remove what was made for a next root disk.
    DropNextRoot,
    /// Put the next root disk and its seed in the place of those that are there.
    ExchangeRoot,
    /// Make the disk to be rescued with.
    CreateRescueDisk {
        /// The Image's uid.
        uid: String,
        /// How large the disk is.
        size: Bytes,
    },
    /// Remove the disk to be rescued with.
    RemoveRescueDisk,
    /// Make the root disk larger.
    GrowRoot {
        /// How large.
        size: Bytes,
        /// Whether a guest has it in use.
        live: bool,
    },
    /// Write the seed that tells cloud-init in the guest who it is.
    WriteSeed,
    /// Bring a network up on this node, with all the ports that are plugged here.
    EnsureNetwork {
        /// The Network's name.
        network: String,
    },
    /// Define the domain. It doesn't run yet.
    Define,
    /// Write the domain's definition anew, with the devices that it has. What runs goes on as it is.
    Redefine,
    /// Note in the domain that it is as this generation of the spec asks.
    MarkInLine,
    /// Plug a volume in.
    AttachVolume {
        /// The Volume's name.
        name: String,
        /// Its uid.
        uid: String,
        /// libvirt's name for it.
        target: String,
        /// Where.
        side: Side,
    },
    /// Unplug a volume. A guest that runs is asked to let go of it.
    DetachVolume {
        /// The Volume's uid.
        uid: String,
        /// Where.
        side: Side,
    },
    /// Plug an interface in.
    AttachInterface {
        /// The Network's name.
        network: String,
        /// Where.
        side: Side,
    },
    /// Unplug an interface. A guest that runs is asked to let go of it.
    DetachInterface {
        /// Its MAC address.
        mac: String,
        /// Where.
        side: Side,
    },
    /// Note beside the disks when the domain was started or asked to stop.
    RecordPower(PowerRecord),
    /// Start the domain.
    Start,
    /// Start the domain from its saved memory.
    Restore,
    /// Save its memory to the host's disk, and end its process.
    Save,
    /// Throw its saved memory away.
    DiscardSaved,
    /// Halt its processors.
    Suspend,
    /// Let its processors go on.
    Resume,
    /// Note beside the disks what is done to the guest once.
    RecordDeeds(Deeds),
    /// Send the guest's processors a non-maskable interrupt.
    InjectNmi,
    /// Have the guest's agent set the administrator's password.
    SetPassword,
    /// Ask the guest to shut down (ACPI power button).
    Shutdown,
    /// End its process.
    Destroy,
    /// Take the domain's definition away.
    Undefine,
    /// Take its ports out of their networks, and networks that have no other port away.
    ReleasePorts,
    /// Remove its directory with all disks of its own. Volumes stay.
    RemoveFiles,
    /// Remove the same of one whose root disk is in an Image: the root disk first, because its directory tells of it.
    Offload,
    /// Let the Instance go.
    RemoveFinalizer,
}

impl Effect {
    /// What is under way, for `status.task`.
    pub fn task(&self) -> &'static str {
        match self {
            Self::PullImage { .. } => "fetching the image",
            Self::CreateRootDisk { .. } => "creating the root disk",
            Self::RecordRoot(_) | Self::DropNextRoot => "exchanging the root disk",
            Self::CreateNextRoot { .. } | Self::WriteNextSeed | Self::ExchangeRoot => "rebuilding",
            Self::CreateRescueDisk { .. } | Self::RemoveRescueDisk => "rescuing",
            Self::GrowRoot { .. } => "growing the root disk",
            Self::WriteSeed => "writing the seed",
            Self::EnsureNetwork { .. } => "plugging the ports",
            Self::Define => "defining the domain",
            Self::Redefine | Self::MarkInLine => "putting the definition right",
            Self::AttachVolume { .. } | Self::AttachInterface { .. } => "plugging in",
            Self::DetachVolume { .. } | Self::DetachInterface { .. } => "unplugging",
            Self::RecordPower(_) | Self::Start => "starting",
            Self::Suspend => "pausing",
            Self::Resume | Self::Restore => "resuming",
            Self::RecordDeeds(_) | Self::InjectNmi => "interrupting the guest",
            Self::SetPassword => "setting the password",
            Self::Save => "suspending",
            Self::DiscardSaved => "discarding the saved memory",
            Self::Shutdown | Self::Destroy => "stopping",
            Self::Offload => "offloading",
            Self::Undefine | Self::ReleasePorts | Self::RemoveFiles | Self::RemoveFinalizer => "deleting",
        }
    }

    /// Whether a guest may only be started, or go on, after it; and whether what was before it must be done by then.
    pub fn is_in_turn(&self) -> bool {
        matches!(
            self,
            Self::RecordPower(_)
                | Self::Start
                | Self::Restore
                | Self::AttachVolume { .. }
                | Self::DetachVolume { .. }
                | Self::AttachInterface { .. }
                | Self::DetachInterface { .. }
        )
    }

    /// The name of metrics and logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::PullImage { .. } => "PullImage",
            Self::CreateRootDisk { .. } => "CreateRootDisk",
            Self::RecordRoot(_) => "RecordRoot",
            Self::CreateNextRoot { .. } => "CreateNextRoot",
            Self::WriteNextSeed => "WriteNextSeed",
            Self::DropNextRoot => "DropNextRoot",
            Self::ExchangeRoot => "ExchangeRoot",
            Self::CreateRescueDisk { .. } => "CreateRescueDisk",
            Self::RemoveRescueDisk => "RemoveRescueDisk",
            Self::GrowRoot { .. } => "GrowRoot",
            Self::WriteSeed => "WriteSeed",
            Self::EnsureNetwork { .. } => "EnsureNetwork",
            Self::Define => "Define",
            Self::Redefine => "Redefine",
            Self::MarkInLine => "MarkInLine",
            Self::AttachVolume {
                side: Side::Defined, ..
            } => "DefineVolume",
            Self::AttachVolume { .. } => "AttachVolume",
            Self::DetachVolume {
                side: Side::Defined, ..
            } => "UndefineVolume",
            Self::DetachVolume { .. } => "DetachVolume",
            Self::AttachInterface {
                side: Side::Defined, ..
            } => "DefineInterface",
            Self::AttachInterface { .. } => "AttachInterface",
            Self::DetachInterface {
                side: Side::Defined, ..
            } => "UndefineInterface",
            Self::DetachInterface { .. } => "DetachInterface",
            Self::RecordPower(_) => "RecordPower",
            Self::Start => "Start",
            Self::Restore => "Restore",
            Self::Save => "Save",
            Self::DiscardSaved => "DiscardSaved",
            Self::Suspend => "Suspend",
            Self::Resume => "Resume",
            Self::RecordDeeds(_) => "RecordDeeds",
            Self::InjectNmi => "InjectNmi",
            Self::SetPassword => "SetPassword",
            Self::Shutdown => "Shutdown",
            Self::Destroy => "Destroy",
            Self::Undefine => "Undefine",
            Self::ReleasePorts => "ReleasePorts",
            Self::RemoveFiles => "RemoveFiles",
            Self::Offload => "Offload",
            Self::RemoveFinalizer => "RemoveFinalizer",
        }
    }
}

/// What to do about an Instance, and what to tell its user meanwhile.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// To be carried out in this order, up to the first that fails.
    pub effects: Vec<Effect>,
    /// What to publish; absent when this agent has no say in it.
    pub status: Option<InstanceStatus>,
    /// When to look again, if nothing changes before.
    pub again: Option<Duration>,
}

/// What a user should hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Whether something is wrong.
    pub warning: bool,
    /// The same as the condition's.
    pub reason: Reason,
    /// What was being done.
    pub action: &'static str,
    /// The condition's message.
    pub message: String,
}
