//! Does one NUMA node of a guest fit into one cell of a host?
//!
//! Nova: `_numa_fit_instance_cell` in nova/virt/hardware.py.

use super::cores::Cores;
use super::occupied::pages;
use super::{CpuSet, EmulatorThreads, GuestCell, GuestTopology, HostCell, Limits, Misfit, Occupied, PageSize};

/// A host's cell with what is left of it.
#[derive(Debug)]
pub(super) struct Cell<'a> {
    pub(super) facts: &'a HostCell,
    /// Dedicated CPUs without an owner.
    pub(super) free: CpuSet,
    /// Virtual CPUs that float.
    pub(super) floating: u64,
    /// What guests hold, with counted pages or without.
    memory_bytes: u128,
    occupied: &'a Occupied,
}

/// What one NUMA node of a guest needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    pub(super) dedicated: usize,
    pub(super) floating: usize,
    memory_bytes: u64,
    /// One dedicated CPU more, for QEMU's own threads.
    pub(super) emulator: bool,
}

impl Node {
    pub(super) fn of(guest: &GuestTopology, at: usize, cell: &GuestCell) -> Self {
        let dedicated = cell.dedicated.shared_with(&cell.vcpus);
        Self {
            dedicated,
            floating: cell.vcpus.len() - dedicated,
            memory_bytes: cell.memory_bytes,
            emulator: at == 0 && guest.emulator_threads == EmulatorThreads::Isolate,
        }
    }

    /// Host CPUs of its own.
    pub(super) fn own(&self) -> usize {
        self.dedicated + usize::from(self.emulator)
    }
}

/// What kind of guest it is, all nodes together (Nova's `cpu_policy`: dedicated, mixed, shared).
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    /// Some CPU is its own: its memory is never overcommitted.
    pub(super) pins: bool,
    /// Some CPU floats: the ratios hold.
    floats: bool,
}

impl Kind {
    pub(super) fn of(nodes: &[Node]) -> Self {
        let pins = nodes.iter().any(|node| node.dedicated > 0);
        Self {
            pins,
            floats: !pins || nodes.iter().any(|node| node.floating > 0),
        }
    }
}

const MIB: u128 = 1 << 20;

fn mib(bytes: u128) -> u64 {
    u64::try_from(bytes / MIB).unwrap_or(u64::MAX)
}

impl<'a> Cell<'a> {
    pub(super) fn new(facts: &'a HostCell, occupied: &'a Occupied) -> Self {
        Self {
            facts,
            free: facts.dedicated.difference(occupied.cpus()),
            floating: occupied.floating(facts.id),
            memory_bytes: occupied.all_memory_bytes(facts.id),
            occupied,
        }
    }

    /// Memory that nobody holds.
    pub(super) fn free_memory(&self) -> u128 {
        u128::from(self.facts.memory_bytes).saturating_sub(self.memory_bytes)
    }

    fn smallest_page(&self) -> Option<u64> {
        self.facts.pages.iter().map(|pages| pages.size_kib).min()
    }

    /// Pages of a size that may be given out. Memory without counted pages is in the smallest ones.
    fn free_pages(&self, size_kib: u64) -> u64 {
        let Some(there) = self.facts.pages.iter().find(|pages| pages.size_kib == size_kib) else {
            return 0;
        };
        let mut used = self.occupied.pages(self.facts.id, size_kib);
        if self.smallest_page() == Some(size_kib) {
            used += pages(self.occupied.memory_bytes(self.facts.id), size_kib);
        }
        let left = there.total.saturating_sub(there.reserved);
        u64::try_from(u128::from(left).saturating_sub(used)).unwrap_or(u64::MAX)
    }

    /// Whether a node fits, and which pages back it.
    pub(super) fn takes(
        &self,
        node: &Node,
        kind: Kind,
        guest: &GuestTopology,
        limits: Limits,
    ) -> Result<Option<u64>, Misfit> {
        let page = guest.page_size.map(|wanted| self.page(wanted, node.memory_bytes));
        let page = page.transpose()?;
        if page.is_none() {
            self.takes_memory(node, kind)?;
        }
        self.takes_cpus(node, guest)?;
        if kind.floats {
            self.keeps_limits(node, limits)?;
        }
        Ok(page)
    }

    /// The size of pages that back so much memory.
    fn page(&self, wanted: PageSize, memory_bytes: u64) -> Result<u64, Misfit> {
        let memory = u128::from(memory_bytes);
        let mut sizes: Vec<u64> = self.facts.pages.iter().map(|pages| pages.size_kib).collect();
        sizes.sort_unstable_by(|one, other| other.cmp(one));
        let sizes = match wanted {
            PageSize::Any => sizes.as_slice(),
            PageSize::Small => &sizes[sizes.len().saturating_sub(1)..],
            PageSize::Large => &sizes[..sizes.len().saturating_sub(1)],
            PageSize::Kib(size) => {
                let at = sizes.iter().position(|&there| there == size);
                at.map_or(&[][..], |at| &sizes[at..=at])
            }
        };
        let mut nearest = Misfit::PageSize { mib: mib(memory) };
        for &size in sizes {
            if size == 0 || memory % (u128::from(size) * 1024) != 0 {
                continue;
            }
            let free = self.free_pages(size);
            let needed = u64::try_from(pages(memory, size)).unwrap_or(u64::MAX);
            if needed <= free {
                return Ok(size);
            }
            nearest = nearest.max(Misfit::Pages {
                free,
                size_kib: size,
                needed,
            });
        }
        Err(nearest)
    }

    /// Memory without counted pages: guests with CPUs of their own have theirs for sure, others share it up to the ratio.
    fn takes_memory(&self, node: &Node, kind: Kind) -> Result<(), Misfit> {
        let needed = u128::from(node.memory_bytes);
        let left = match (self.smallest_page(), kind.pins) {
            (Some(size), true) => u128::from(self.free_pages(size)) * u128::from(size) * 1024,
            (Some(size), false) => {
                let there = self.facts.pages.iter().find(|pages| pages.size_kib == size);
                there.map_or(0, |pages| u128::from(pages.total) * u128::from(size) * 1024)
            }
            (None, true) => self.free_memory(),
            (None, false) => self.facts.memory_bytes.into(),
        };
        if needed <= left {
            return Ok(());
        }
        Err(Misfit::Memory {
            free_mib: mib(left),
            needed_mib: mib(needed + MIB - 1),
        })
    }

    fn takes_cpus(&self, node: &Node, guest: &GuestTopology) -> Result<(), Misfit> {
        let there = self.facts.shared.len();
        if node.floating > there {
            return Err(Misfit::Shared {
                there,
                needed: node.floating,
            });
        }
        let (free, needed) = (self.free.len(), node.own());
        if needed > free {
            return Err(Misfit::Dedicated { free, needed });
        }
        Cores::of(self, guest.thread_policy).take(node, guest.thread_policy)
    }

    fn keeps_limits(&self, node: &Node, limits: Limits) -> Result<(), Misfit> {
        let limit = limits.vcpus.of(self.facts.shared.len() as u64);
        let (free, needed) = (limit.saturating_sub(self.floating), node.floating as u64);
        if needed > free {
            return Err(Misfit::Floating { free, needed });
        }
        let limit = u128::from(limits.memory.of(self.facts.memory_bytes));
        let (left, needed) = (limit.saturating_sub(self.memory_bytes), u128::from(node.memory_bytes));
        if needed > left {
            return Err(Misfit::Memory {
                free_mib: mib(left),
                needed_mib: mib(needed + MIB - 1),
            });
        }
        Ok(())
    }
}
