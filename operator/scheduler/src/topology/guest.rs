//! What a guest asks of a host's cells and devices.

use super::CpuSet;

/// The cells of a guest (Nova's `InstanceNUMATopology`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GuestTopology {
    /// The guest's NUMA nodes, at least one, in order.
    pub cells: Vec<GuestCell>,
    /// Which pages back its memory (`hw:mem_page_size`). Without it, it has whatever the host gives, and no pages are
    /// counted.
    pub page_size: Option<PageSize>,
    /// What dedicated CPUs share a core with (`hw:cpu_thread_policy`).
    pub thread_policy: ThreadPolicy,
    /// Where QEMU's own threads run (`hw:emulator_threads_policy`).
    pub emulator_threads: EmulatorThreads,
}

impl GuestTopology {
    /// So many nodes, each with so many CPUs of its own and so much memory.
    pub fn dedicated(nodes: u32, cpus: u32, memory_bytes: u64) -> Self {
        let cell = |node: u32| {
            let vcpus: CpuSet = (node * cpus..(node + 1) * cpus).collect();
            GuestCell {
                dedicated: vcpus.clone(),
                vcpus,
                memory_bytes,
            }
        };
        Self {
            cells: (0..nodes).map(cell).collect(),
            page_size: None,
            thread_policy: ThreadPolicy::default(),
            emulator_threads: EmulatorThreads::default(),
        }
    }
}

/// One NUMA node of a guest.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GuestCell {
    /// Its virtual CPUs, all of them.
    pub vcpus: CpuSet,
    /// Those of them that want a host CPU of their own; the others float over the cell's shared ones.
    pub dedicated: CpuSet,
    /// Its memory in bytes.
    pub memory_bytes: u64,
}

/// Which pages back a guest's memory (`hw:mem_page_size`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PageSize {
    /// The host's smallest.
    Small,
    /// Any but the smallest, the largest first.
    Large,
    /// Any, the largest first.
    Any,
    /// Of so many KiB.
    Kib(u64),
}

/// What dedicated CPUs share a core with (`hw:cpu_thread_policy`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum ThreadPolicy {
    /// Siblings where there are any.
    #[default]
    Prefer,
    /// Nobody: each has a core of its own, whose other threads stay empty.
    Isolate,
    /// Threads of the same guest only: the host must have siblings.
    Require,
}

/// Where QEMU's own threads run (`hw:emulator_threads_policy`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum EmulatorThreads {
    /// Over the guest's own CPUs.
    #[default]
    WithGuest,
    /// `share`: over the host's shared CPUs; over the guest's own where the host has none.
    Share,
    /// `isolate`: on one dedicated host CPU more, of the guest's first cell.
    Isolate,
}

/// Devices of one kind that a guest wants passed through (`pci_passthrough:alias`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PciRequest {
    /// The name that operators gave to that kind of device.
    pub alias: String,
    /// How many, at least 1.
    pub count: u32,
    /// How near to the guest's CPUs they must be.
    pub affinity: PciAffinity,
}

/// How near to a guest's CPUs its devices must be (`hw:pci_numa_affinity_policy`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum PciAffinity {
    /// In a cell of the guest's.
    Required,
    /// In a cell of the guest's, or in none that is known.
    #[default]
    Legacy,
    /// In a cell of the guest's where there is one, else anywhere.
    Preferred,
    /// In a socket of the guest's cells.
    Socket,
}
