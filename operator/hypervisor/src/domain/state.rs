//! What libvirt says of a domain.

use uuid::Uuid;

use crate::owner::Owner;

/// libvirt's state of a domain (virDomainState).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DomainState {
    /// The guest's CPUs run (or wait for I/O).
    Running,
    /// The guest's CPUs are halted; it still has its memory.
    Paused,
    /// The guest is shutting down.
    ShuttingDown,
    /// There is no process.
    ShutOff,
    /// The guest crashed and was kept for inspection.
    Crashed,
    /// The guest sleeps (ACPI S3).
    Sleeping,
}

impl DomainState {
    /// Whether a hypervisor process exists. A crashed guest that is kept for inspection has one.
    pub fn is_active(self) -> bool {
        self != DomainState::ShutOff
    }
}

/// Why a domain is in its state (libvirt's reasons, those that tell an agent something).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StateReason {
    /// libvirt does not know: after a host restart a stopped domain says so.
    Unknown,
    /// Started from nothing.
    Booted,
    /// Moved here or away.
    Migrated,
    /// Started from saved memory.
    Restored,
    /// Saved to a file.
    Saved,
    /// Started from or stopped by a snapshot.
    Snapshot,
    /// Resumed.
    Unpaused,
    /// Woken from sleep.
    Wakeup,
    /// Asked for by a user of libvirt.
    User,
    /// A disk failed: space or I/O.
    IoError,
    /// The watchdog fired.
    Watchdog,
    /// The guest's kernel panicked or its process died.
    Crashed,
    /// The guest shut itself down.
    Shutdown,
    /// The process was ended.
    Destroyed,
    /// The process could not be started.
    Failed,
    /// Something else that libvirt has a reason for (dump, post-copy, starting up …).
    Other,
}

/// What there is of a domain's memory while it is off (libvirt's managed save).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SavedMemory {
    /// Nothing: its next start boots it.
    None,
    /// All of it: its next start goes on from there.
    Whole,
    /// A file that can't be used, and why: the host went down while it was written, or it was damaged since.
    Broken(String),
}

/// A domain of ours, as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainInfo {
    /// The UUID.
    pub uuid: Uuid,
    /// The name.
    pub name: String,
    /// Its state.
    pub state: DomainState,
    /// Why.
    pub reason: StateReason,
    /// Its saved memory. While it is active: nothing.
    pub saved: SavedMemory,
    /// Whose it is, with the generation that it was made from.
    pub owner: Owner,
    /// The memory that it may use, in bytes.
    pub memory_bytes: u64,
    /// Its virtual CPUs.
    pub vcpus: u32,
}
