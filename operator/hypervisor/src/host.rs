//! What the host can do.

use std::collections::BTreeSet;

use uuid::Uuid;

use crate::domain::{DomainType, Firmware};
use crate::pci::PciAddress;

/// The host's CPU.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CpuFacts {
    /// The architecture, as libvirt names it (`x86_64`).
    pub architecture: String,
    /// The named model nearest to it; empty when libvirt does not know.
    pub model: String,
    /// Its vendor; empty when libvirt does not know.
    pub vendor: String,
    /// Features, sorted: those that the model implies too, as far as libvirt can tell.
    pub features: Vec<String>,
}

/// A NUMA cell of the host: CPUs and the memory that is near to them. A host whose kernel knows no NUMA has one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CellFacts {
    /// Its number, as the kernel counts.
    pub id: u32,
    /// Its memory, in bytes.
    pub memory_bytes: u64,
    /// Its pages, the smallest first.
    pub pages: Vec<PageFacts>,
    /// Its CPUs that are online, by number.
    pub cpus: Vec<CellCpu>,
}

/// Pages of one size in a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageFacts {
    /// How large each is, in KiB.
    pub size_kib: u64,
    /// How many there are.
    pub total: u64,
}

/// Where a CPU is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellCpu {
    /// Its number.
    pub id: u32,
    /// The number of its socket.
    pub socket: u32,
    /// The CPUs that are threads of its core, itself among them.
    pub siblings: BTreeSet<u32>,
}

/// What kind of PCI device it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PciKind {
    /// An ordinary one.
    Plain,
    /// A bridge: part of the bus, nothing that a guest can have.
    Bridge,
    /// One that can be split (SR-IOV's physical function), and into how many it is.
    PhysicalFunction {
        /// How many virtual functions it has now.
        virtual_functions: usize,
    },
    /// A part of another (SR-IOV's virtual function).
    VirtualFunction,
}

/// A PCI device of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PciFacts {
    /// Where it is.
    pub address: PciAddress,
    /// Its vendor.
    pub vendor: u16,
    /// Its product.
    pub product: u16,
    /// Its kind.
    pub kind: PciKind,
    /// The NUMA cell that it is near to, where the kernel knows.
    pub cell: Option<u32>,
    /// Its IOMMU group; without one it can't be given to a guest.
    pub iommu_group: Option<u32>,
    /// The driver that has it.
    pub driver: Option<String>,
}

/// The devices that guests can have, in libvirt's words, sorted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeviceFacts {
    /// Buses of disks.
    pub disk_buses: Vec<String>,
    /// Graphics cards.
    pub video_models: Vec<String>,
    /// Models of TPMs that swtpm emulates; none where it isn't installed.
    pub tpm_models: Vec<String>,
    /// Versions of these.
    pub tpm_versions: Vec<String>,
}

/// Facts about the host and its hypervisor. Most change only with an upgrade or a reboot; huge pages and PCI devices can
/// come and go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    /// The host's name as libvirt knows it.
    pub hostname: String,
    /// libvirt's own UUID of the host.
    pub uuid: Uuid,
    /// The libvirt daemon's version.
    pub libvirt_version: String,
    /// The hypervisor's (QEMU's) version.
    pub hypervisor_version: String,
    /// CPUs that are online.
    pub cpus: u32,
    /// The CPU.
    pub cpu: CpuFacts,
    /// The memory, in bytes.
    pub memory_bytes: u64,
    /// How guests can be run. KVM is listed when libvirt offers it, which does not prove that a guest starts with it.
    pub domain_types: Vec<DomainType>,
    /// Machine types for the host's architecture, sorted.
    pub machines: Vec<String>,
    /// What can start a guest.
    pub firmware: Vec<Firmware>,
    /// The devices that guests can have.
    pub devices: DeviceFacts,
    /// The NUMA cells, by number.
    pub cells: Vec<CellFacts>,
    /// The PCI devices, by address.
    pub pci_devices: Vec<PciFacts>,
}
