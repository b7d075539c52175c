//! Which of the host's CPUs, cells and devices a domain uses.

mod validate;
mod xml;

use std::collections::{BTreeMap, BTreeSet};

pub(super) use validate::{validate, validate_devices};
pub(super) use xml::{cpu_tune, devices, guest_numa, memory_backing, numa_tune};

/// Where on the host a domain runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum Affinity {
    /// Wherever the host's kernel puts it.
    #[default]
    Any,
    /// On these CPUs, and QEMU's own threads too.
    Cpus(BTreeSet<u32>),
    /// The guest has NUMA nodes, and each of them its place.
    Cells {
        /// The guest's NUMA nodes, in order. Together they have all virtual CPUs and all memory.
        cells: Vec<GuestCell>,
        /// The host's CPUs for QEMU's own threads; empty: those of all virtual CPUs.
        emulator: BTreeSet<u32>,
    },
}

/// One NUMA node of a guest, and its place on the host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GuestCell {
    /// Its virtual CPUs, each with the host's CPUs that it may run on.
    pub vcpus: BTreeMap<u32, BTreeSet<u32>>,
    /// Its memory, in bytes; a multiple of 1 KiB.
    pub memory_bytes: u64,
    /// The host's cell that its memory is taken from.
    pub host_cell: u32,
    /// Huge pages of so many KiB back it; none: the host's ordinary pages.
    pub huge_pages_kib: Option<u64>,
}
