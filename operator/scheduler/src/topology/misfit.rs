//! Why a guest does not fit into a host's cells.

use super::{GuestTopology, PciRequest};

/// Why a guest does not fit. The later in this list, the nearer it came to fitting: of several cells the nearest one is
/// told.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Misfit {
    /// The host tells of no cells.
    #[error("the host tells of no NUMA cells")]
    NoCells,
    /// Fewer cells than the guest has nodes: two nodes never share a cell.
    #[error("the guest has {nodes} NUMA nodes, the host only {cells} cells")]
    FewCells {
        /// NUMA nodes of the guest.
        nodes: usize,
        /// Cells of the host.
        cells: usize,
    },
    /// No pages of the size that is asked for, or the memory is no multiple of it.
    #[error("no cell has pages of the size that is asked for, of which {mib} MiB are a multiple")]
    PageSize {
        /// What a node of the guest asks for.
        mib: u64,
    },
    /// Too few pages.
    #[error("no cell has {needed} free pages of {size_kib} KiB: at most {free} are free in one")]
    Pages {
        /// Free pages of the cell that came nearest.
        free: u64,
        /// How large each is.
        size_kib: u64,
        /// What a node of the guest needs.
        needed: u64,
    },
    /// Too little memory.
    #[error("no cell has {needed_mib} MiB of memory left: at most {free_mib} MiB are left in one")]
    Memory {
        /// What is left in the cell that came nearest.
        free_mib: u64,
        /// What a node of the guest needs.
        needed_mib: u64,
    },
    /// Too few shared CPUs: one guest never floats over fewer host CPUs than it has itself.
    #[error("no cell has {needed} shared CPUs: at most {there} are in one")]
    Shared {
        /// Shared CPUs of the cell that came nearest.
        there: usize,
        /// What a node of the guest needs.
        needed: usize,
    },
    /// Too few dedicated CPUs.
    #[error("no cell has {needed} free dedicated CPUs: at most {free} are free in one")]
    Dedicated {
        /// Free dedicated CPUs of the cell that came nearest.
        free: usize,
        /// What a node of the guest needs, for QEMU's own threads included.
        needed: usize,
    },
    /// Too few cores that nobody is on, under the thread policy `isolate`.
    #[error("no cell has {needed} cores that are free as a whole: at most {free} are in one")]
    Cores {
        /// Free cores of the cell that came nearest.
        free: usize,
        /// What a node of the guest needs, for QEMU's own threads included.
        needed: usize,
    },
    /// Too few free threads beside each other, under the thread policy `require`.
    #[error("no cell has {needed} free dedicated CPUs that share cores: at most {free} are in one")]
    Siblings {
        /// Free threads beside each other, in the cell that came nearest.
        free: usize,
        /// What a node of the guest needs.
        needed: usize,
    },
    /// The shared CPUs are given out.
    #[error("no cell can take {needed} more floating CPUs: at most {free} in one")]
    Floating {
        /// What the cell that came nearest can take.
        free: u64,
        /// What a node of the guest needs.
        needed: u64,
    },
    /// Every node fits somewhere, but they want the same cells.
    #[error("each of the {nodes} NUMA nodes fits into some cell, but not all of them at once")]
    Together {
        /// NUMA nodes of the guest.
        nodes: usize,
    },
    /// Too few devices.
    #[error("{needed} free devices {alias:?} are needed, {free} are there")]
    Devices {
        /// What they were asked for by.
        alias: String,
        /// How many are free.
        free: usize,
        /// How many are asked for.
        needed: u32,
    },
    /// Enough devices, but too far from the guest's CPUs.
    #[error("{needed} free devices {alias:?} are needed near the guest's cells, {free} are there")]
    DevicesNear {
        /// What they were asked for by.
        alias: String,
        /// How many are free near the cells that were tried last.
        free: usize,
        /// How many are asked for.
        needed: u32,
    },
    /// There are more ways than are worth trying.
    #[error("no cells with the devices near them were found in {tried} attempts")]
    Undecided {
        /// Sets of cells that were tried.
        tried: usize,
    },
}

impl Misfit {
    /// Why a host that tells neither of cells nor of devices is not fit.
    pub(crate) fn nothing(guest: Option<&GuestTopology>, devices: &[PciRequest]) -> Self {
        match devices.first().filter(|_| guest.is_none()) {
            Some(request) => Self::Devices {
                alias: request.alias.clone(),
                free: 0,
                needed: request.count,
            },
            None => Self::NoCells,
        }
    }

    /// The same without numbers, so that hosts can be counted by it.
    pub fn lack(&self, devices: &[PciRequest]) -> Lack {
        let kind = |at: usize| Lack(u8::try_from(at).unwrap_or(u8::MAX));
        kind(match self {
            Self::NoCells => 0,
            Self::FewCells { .. } => 1,
            Self::PageSize { .. } => 2,
            Self::Pages { .. } => 3,
            Self::Memory { .. } => 4,
            Self::Shared { .. } => 5,
            Self::Dedicated { .. } => 6,
            Self::Cores { .. } => 7,
            Self::Siblings { .. } => 8,
            Self::Floating { .. } => 9,
            Self::Together { .. } => 10,
            Self::DevicesNear { .. } => 11,
            Self::Undecided { .. } => 12,
            Self::Devices { alias, .. } => {
                let at = devices.iter().position(|request| request.alias == *alias);
                Lack::DEVICES + at.unwrap_or(usize::MAX / 2)
            }
        })
    }
}

/// What of a guest a host lacks, in one byte: kept for every host and each of the guests that are asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lack(u8);

impl Lack {
    const KINDS: [&str; 13] = [
        "no NUMA cells",
        "too few NUMA cells",
        "no pages of that size",
        "too few free pages in a cell",
        "too little memory in a cell",
        "too few shared CPUs in a cell",
        "too few dedicated CPUs in a cell",
        "too few free cores in a cell",
        "too few free siblings in a cell",
        "too many floating CPUs in a cell",
        "not all NUMA nodes at once",
        "devices too far away",
        "too many ways to try",
    ];

    /// From here on it is the device of a request, by place in the list of requests.
    const DEVICES: usize = Self::KINDS.len();

    /// The words for it: the alias of the device that is short, or what else it is.
    pub fn words(self, devices: &[PciRequest]) -> &str {
        let at = usize::from(self.0);
        let device = || Some(devices.get(at.checked_sub(Self::DEVICES)?)?.alias.as_str());
        Self::KINDS
            .get(at)
            .copied()
            .or_else(device)
            .unwrap_or("too few devices")
    }
}
