//! What a domain should be ([`DomainSpec`]) and what libvirt says it is ([`DomainInfo`]).

mod affinity;
mod backup;
mod options;
mod spec;
mod state;
mod usage;
mod validate;
mod xml;

pub use affinity::{Affinity, GuestCell};
pub use backup::Backup;
pub use options::{
    Bandwidth, CpuTune, DiskBus, GuestOptions, InputBus, InterfaceModel, InterfaceOptions, IoRate, IoTune, Iommu,
    RngRate, Tpm, UsbController, WatchdogAction,
};
pub use spec::{
    Cache, CpuMode, Discard, DiskFormat, DiskLayer, DiskSpec, DomainSpec, DomainType, Firmware, InterfaceSource,
    InterfaceSpec, LifecycleAction, MAX_VCPUS, Topology, Video,
};
pub use state::{DomainInfo, DomainState, SavedMemory, StateReason};
pub use usage::{
    DiskFault, DiskUsage, DomainUsage, GuestFilesystem, GuestInfo, GuestInterface, InterfaceUsage, MemoryUsage,
    Password,
};
pub use xml::to_xml;
