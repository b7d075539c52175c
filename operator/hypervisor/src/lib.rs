//! What Virga needs of a hypervisor, and libvirt as the one that runs.
//!
//! - [`Hypervisor`] is the contract: blocking, object safe, idempotent calls that touch only what is ours.
//! - [`DomainSpec`] and [`NetworkSpec`] say what a domain or a network should be; `to_xml` turns them into libvirt's XML.
//! - [`Libvirt`] is the real back end, [`Fake`] an in-memory one with fault injection; both pass the same contract suite
//!   (`testing::contract`, behind the feature `testing`).
//! - [`Calls`] is the async face: its own threads, one queue per domain, a time-out on every call.
//! - [`EventStream`] delivers life-cycle events, with a resync marker when some were lost.
//!
//! A domain or network is ours only when its metadata holds our namespace element ([`DOMAIN_NAMESPACE`],
//! [`NETWORK_NAMESPACE`]). Nothing else is listed or changed.

mod calls;
mod clean;
mod console;
mod cpu_list;
mod domain;
mod error;
mod events;
mod fake;
mod host;
mod hypervisor;
mod libvirt;
mod network;
mod owner;
mod pci;
mod xml;

#[cfg(feature = "testing")]
pub mod testing;

pub use calls::{Calls, CallsLimits, CallsLoad};
pub use console::{Console, ConsoleInput};
pub use domain::{
    Affinity, Backup, Bandwidth, Cache, CpuMode, CpuTune, Device, DeviceName, Devices, Discard, DiskBus, DiskDevice,
    DiskFault, DiskFormat, DiskLayer, DiskSpec, DiskUsage, DomainDevices, DomainInfo, DomainSpec, DomainState,
    DomainType, DomainUsage, Firmware, GuestCell, GuestFilesystem, GuestInfo, GuestInterface, GuestOptions, InputBus,
    InterfaceDevice, InterfaceModel, InterfaceOptions, InterfaceSource, InterfaceSpec, InterfaceUsage, IoRate, IoTune,
    Iommu, LifecycleAction, MAX_VCPUS, MemoryUsage, Password, RngRate, SavedMemory, Side, StateReason, Topology, Tpm,
    UsbController, Video, WatchdogAction, to_xml,
};
pub use error::{Error, Kind, Problem, Result};
pub use events::{Change, Event, EventStream};
pub use fake::{Fake, Fault, Operation};
pub use host::{CellCpu, CellFacts, CpuFacts, DeviceFacts, HostFacts, PageFacts, PciFacts, PciKind};
pub use hypervisor::Hypervisor;
pub use libvirt::{Libvirt, LibvirtOptions};
pub use network::{
    DHCP_LEASE, Dhcp, DhcpHost, DnsHost, ForwardMode, HostChange, MacAddress, NetworkDiff, NetworkInfo, NetworkSpec,
    NetworkUpdate, Route, SubnetSpec, diff as network_diff, from_xml as network_from_xml, to_xml as network_to_xml,
};
pub use owner::{DOMAIN_NAMESPACE, NETWORK_NAMESPACE, Owner};
pub use pci::{PciAddress, PciAddressError};
