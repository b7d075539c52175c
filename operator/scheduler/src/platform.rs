//! What a host is built of: hypervisor and processor.

use std::collections::BTreeSet;

/// Hypervisor and processor of a host.
///
/// Hosts of one make share one: keep it in an [`Arc`](std::sync::Arc), and what filters find out about it is found out
/// once for all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Platform {
    /// Nova's `hypervisor_type`, such as `QEMU`.
    pub hypervisor_type: String,
    /// Nova's `hypervisor_version`: `major × 1 000 000 + minor × 1 000 + micro`, so 8.2.0 is 8 002 000. 0: not known.
    pub hypervisor_version: u32,
    /// The kinds of guests that it runs. When empty, they are worked out from the host's architecture and domain types.
    pub supported: BTreeSet<Supported>,
    /// The processor.
    pub cpu: Cpu,
}

/// A kind of guest that a host can run: Nova's `supported_instances`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Supported {
    /// The guest's architecture, such as `x86_64`.
    pub architecture: String,
    /// The domain type, such as `kvm` or `qemu`.
    pub hypervisor: String,
    /// The guest's mode; `hvm` for everything that libvirt runs on KVM and QEMU.
    pub mode: String,
}

/// A host's processor: Nova's `cpu_info`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Cpu {
    /// The architecture, such as `x86_64`.
    pub architecture: String,
    /// The model, such as `EPYC-Milan`.
    pub model: String,
    /// The vendor, such as `AMD`.
    pub vendor: String,
    /// Features, such as `avx2`.
    pub features: BTreeSet<String>,
    /// NUMA cells.
    pub cells: u32,
    /// Sockets in a cell.
    pub sockets: u32,
    /// Cores in a socket.
    pub cores: u32,
    /// Threads in a core.
    pub threads: u32,
    /// Width of physical addresses in bits; 0: not known.
    pub maxphysaddr_bits: u32,
}
