//! What a domain should be ([`DomainSpec`]) and what libvirt says it is ([`DomainInfo`]).

mod affinity;
mod backup;
mod devices;
mod options;
mod read;
mod spec;
mod state;
mod usage;
mod validate;
mod xml;

pub use affinity::{Affinity, GuestCell};
pub use backup::Backup;
pub use devices::{Device, DeviceName, Devices, DiskDevice, DomainDevices, InterfaceDevice, Side};
pub use options::{
    Bandwidth, CpuTune, DiskBus, GuestOptions, InputBus, InterfaceModel, InterfaceOptions, IoRate, IoTune, Iommu,
    RngRate, Tpm, UsbController, WatchdogAction,
};
pub(crate) use read::{device_xml, devices as devices_from_xml};
pub(crate) use spec::SEED_TARGET;
pub use spec::{
    Cache, CpuMode, Discard, DiskFormat, DiskLayer, DiskSpec, DomainSpec, DomainType, Firmware, InterfaceSource,
    InterfaceSpec, LifecycleAction, MAX_VCPUS, Topology, Video,
};
pub use state::{DomainInfo, DomainState, SavedMemory, StateReason};
pub use usage::{
    DiskFault, DiskUsage, DomainUsage, GuestFilesystem, GuestInfo, GuestInterface, InterfaceUsage, MemoryUsage,
    Password,
};
pub(crate) use xml::device_to_xml;
pub use xml::to_xml;
