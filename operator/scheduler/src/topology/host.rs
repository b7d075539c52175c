//! What a host has in cells and devices.

use super::CpuSet;

/// A host's NUMA cells and the devices that it may give away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostTopology {
    /// Its cells, by id.
    pub cells: Vec<HostCell>,
    /// Devices that operators let guests have.
    pub devices: Vec<PciDevice>,
}

/// One NUMA cell of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostCell {
    /// Its number, as the host's kernel counts.
    pub id: u32,
    /// The number of its socket.
    pub socket: u32,
    /// CPUs that guests without CPUs of their own share (Nova's `cpu_shared_set`).
    pub shared: CpuSet,
    /// CPUs that are given to one guest each (Nova's `cpu_dedicated_set`).
    pub dedicated: CpuSet,
    /// Threads of one core together; empty where each core has one thread.
    pub siblings: Vec<CpuSet>,
    /// Its memory in bytes.
    pub memory_bytes: u64,
    /// Its pages, by size.
    pub pages: Vec<Pages>,
}

/// Pages of one size in a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pages {
    /// How large each is, in KiB.
    pub size_kib: u64,
    /// How many there are.
    pub total: u64,
    /// How many of them are kept back.
    pub reserved: u64,
}

/// A device that a guest may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PciDevice {
    /// Where it is, such as `0000:3b:00.0`.
    pub address: String,
    /// What operators call its kind.
    pub alias: String,
    /// The cell that it is near to, where that is known.
    pub cell: Option<u32>,
}
