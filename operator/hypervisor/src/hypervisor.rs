//! The contract between the agent and whatever runs the guests.

use std::path::Path;

use uuid::Uuid;

use crate::console::Console;
use crate::domain::{
    Backup, Device, DeviceName, DiskFault, DomainDevices, DomainInfo, DomainSpec, DomainUsage, GuestInfo, Password,
    Side,
};
use crate::error::Result;
use crate::events::EventStream;
use crate::host::HostFacts;
use crate::network::{NetworkInfo, NetworkSpec, NetworkUpdate};
use crate::owner::Owner;

/// A hypervisor on this host.
///
/// All calls block, and can block for as long as the hypervisor does: run them through [`Calls`](crate::Calls).
///
/// Rules that every back end keeps, and that the contract suite checks:
/// - Nothing is listed or changed that is not ours (see [`crate::DOMAIN_NAMESPACE`]); a call on it is
///   [`Error::Foreign`](crate::Error::Foreign).
/// - Calls are idempotent: asking for a state that is already there is success. Removing what is not there is
///   [`Error::NotFound`](crate::Error::NotFound).
/// - No call relies on what an earlier call left in this process's memory.
pub trait Hypervisor: Send + Sync + 'static {
    /// What the host can do.
    fn facts(&self) -> Result<HostFacts>;

    /// All domains of ours, in any state.
    fn domains(&self) -> Result<Vec<DomainInfo>>;

    /// One domain.
    fn domain(&self, uuid: Uuid) -> Result<DomainInfo>;

    /// Makes the domain's definition, or replaces it. What runs goes on as it is until the next start.
    fn define(&self, spec: &DomainSpec) -> Result<()>;

    /// Notes in a domain's metadata whose it is and of what generation, running or not, without touching the rest.
    fn set_owner(&self, uuid: Uuid, owner: &Owner) -> Result<()>;

    /// Starts the domain, from its saved memory if it has any. A paused one stays paused.
    ///
    /// Memory that can't be used is an error, and stays: booting afresh is for whoever
    /// [discards](Hypervisor::discard_saved) it.
    fn start(&self, uuid: Uuid) -> Result<()>;

    /// Presses the power button (ACPI). Returns at once; whether and when the guest obeys is the guest's business.
    fn shutdown(&self, uuid: Uuid) -> Result<()>;

    /// Ends the domain's process.
    fn destroy(&self, uuid: Uuid) -> Result<()>;

    /// Halts the guest's CPUs. The guest keeps its memory on the host.
    fn suspend(&self, uuid: Uuid) -> Result<()>;

    /// Lets a suspended guest go on.
    fn resume(&self, uuid: Uuid) -> Result<()>;

    /// Saves the guest's memory to the host's disk and ends its process. Takes as long as writing the memory does: run it
    /// through [`Calls::long`](crate::Calls::long). One that is saved stays so; one that is off without saved memory is
    /// [`Error::InvalidState`](crate::Error::InvalidState). When it fails the guest goes on as it was.
    fn save(&self, uuid: Uuid) -> Result<()>;

    /// Removes a domain's saved memory, if there is any.
    fn discard_saved(&self, uuid: Uuid) -> Result<()>;

    /// Presses the reset button.
    fn reset(&self, uuid: Uuid) -> Result<()>;

    /// Removes the definition with what libvirt keeps beside it (saved memory, UEFI variables, snapshot and checkpoint
    /// records). Disks stay. A running domain is refused with
    /// [`Error::InvalidState`](crate::Error::InvalidState): undefining it would only hide it.
    fn undefine(&self, uuid: Uuid) -> Result<()>;

    /// Makes a running domain's disk larger and tells the guest. `target` as in
    /// [`DiskSpec::target`](crate::DiskSpec::target), the new size in bytes.
    fn resize_disk(&self, uuid: Uuid, target: &str, bytes: u64) -> Result<()>;

    /// What these domains have used, those of them that are active, in one call that waits for none of them. What it can't
    /// tell of one that is busy is left out.
    fn usage(&self, of: &[Uuid]) -> Result<Vec<DomainUsage>>;

    /// The disks that a guest was halted for ([`StateReason::IoError`](crate::StateReason::IoError)).
    fn disk_faults(&self, uuid: Uuid) -> Result<Vec<DiskFault>>;

    /// Whether the agent in a guest has opened its channel. It may be silent all the same.
    fn has_guest_agent(&self, uuid: Uuid) -> Result<bool>;

    /// Asks the agent in a guest, which takes as long as the guest likes, up to about half a minute: run it through
    /// [`Calls::guest`](crate::Calls::guest). One that is not there, or doesn't answer, is
    /// [`Error::Busy`](crate::Error::Busy).
    fn guest_info(&self, uuid: Uuid) -> Result<GuestInfo>;

    /// Has the agent in a guest set a user's password. As [`Hypervisor::guest_info`].
    fn set_password(&self, uuid: Uuid, user: &str, password: &Password) -> Result<()>;

    /// Sends a guest's processors a non-maskable interrupt: most systems that are set up to dump their memory when they
    /// crash do so then.
    fn inject_nmi(&self, uuid: Uuid) -> Result<()>;

    /// Asks the guest agent to write out and halt the guest's file systems. A guest that is off, or has no agent that
    /// listens, is [`Error::InvalidState`](crate::Error::InvalidState), one without a channel to an agent
    /// [`Error::Unsupported`](crate::Error::Unsupported): nobody was asked. An agent that doesn't answer is
    /// [`Error::Busy`](crate::Error::Busy) or [`Error::Failed`](crate::Error::Failed), and they may be halted all the
    /// same: [thaw](Hypervisor::thaw) them.
    fn freeze(&self, uuid: Uuid) -> Result<()>;

    /// Lets the guest's file systems go on. Fine when they were not halted, and when the domain is off.
    fn thaw(&self, uuid: Uuid) -> Result<()>;

    /// Begins to copy one disk of a running or paused domain, as it is at this moment, to `target`: a new file, qcow2,
    /// that needs no other. `disk` is the disk's own file. The guest runs on; its disks stay as they are. At most one a
    /// domain: another is [`Error::Busy`](crate::Error::Busy) or [`Error::InvalidState`](crate::Error::InvalidState).
    fn begin_backup(&self, uuid: Uuid, disk: &Path, target: &Path) -> Result<()>;

    /// How the domain's copy stands. What is said of one that ended is the last one's, whoever began it.
    fn backup(&self, uuid: Uuid) -> Result<Backup>;

    /// Ends a copy that goes on. Its file is of no use then. Returns at once; it is over when
    /// [`backup`](Hypervisor::backup) says so. Fine when there is none.
    fn abort_backup(&self, uuid: Uuid) -> Result<()>;

    /// What is plugged into a domain, as it is defined and as it runs.
    fn devices(&self, uuid: Uuid) -> Result<DomainDevices>;

    /// Plugs a device in, on one side. One that is there already stays as it is. A disk whose target another one has is
    /// [`Error::AlreadyExists`](crate::Error::AlreadyExists); the running side of a domain that is off is
    /// [`Error::InvalidState`](crate::Error::InvalidState).
    fn attach(&self, uuid: Uuid, device: &Device, side: Side) -> Result<()>;

    /// Unplugs a device, on one side. One that is not there is unplugged. A guest that runs is asked to let go of it:
    /// whether it has is told by [`Hypervisor::devices`], and later by [`Change::Devices`](crate::Change::Devices).
    fn detach(&self, uuid: Uuid, device: &DeviceName, side: Side) -> Result<()>;

    /// Opens the serial console of a running domain. One session at a time: with `force` an open one is cut off, else
    /// it is [`Error::Busy`](crate::Error::Busy).
    fn open_console(&self, uuid: Uuid, force: bool) -> Result<Console>;

    /// All networks of ours.
    fn networks(&self) -> Result<Vec<NetworkInfo>>;

    /// One network.
    fn network(&self, uuid: Uuid) -> Result<NetworkInfo>;

    /// How many interfaces of running guests are plugged into a network, asked one by one. [`NetworkInfo::connections`] is
    /// quicker to have, and may be too high: it counts what a libvirtd left that was killed while a guest started or ended.
    fn plugged(&self, network: Uuid) -> Result<u32>;

    /// Makes the network's definition, or replaces it. What runs goes on as it is until the next start; its DHCP hosts may
    /// change at once.
    fn define_network(&self, spec: &NetworkSpec) -> Result<()>;

    /// Starts the network. An address range or bridge that something else on the host has is
    /// [`Error::AlreadyExists`](crate::Error::AlreadyExists).
    fn start_network(&self, uuid: Uuid) -> Result<()>;

    /// Stops the network. Guests on it lose their connection until they are started again.
    fn stop_network(&self, uuid: Uuid) -> Result<()>;

    /// Brings a defined network to what `spec` says: DHCP and DNS entries one by one, live and in the definition, and
    /// only those that differ; for anything else the definition is written anew and takes effect with the next start.
    /// Writes nothing when nothing differs.
    fn update_network(&self, spec: &NetworkSpec) -> Result<NetworkUpdate>;

    /// Stops the network and removes its definition.
    fn remove_network(&self, uuid: Uuid) -> Result<()>;

    /// Life-cycle events from now on, of ours and of others. A reader that falls behind by more than `capacity` events
    /// gets [`Event::Resync`](crate::Event::Resync) instead of them.
    fn events(&self, capacity: usize) -> EventStream;
}
