//! What the host can do.

use uuid::Uuid;

use crate::domain::{DomainType, Firmware};

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

/// Facts about the host and its hypervisor. They change only with an upgrade or a reboot.
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
}
