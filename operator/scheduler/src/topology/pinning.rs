//! What a guest holds of a host's cells and devices.

use super::{CpuSet, EmulatorThreads, GuestTopology, PciRequest};

/// Where a guest's cells and devices are on its host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pinning {
    /// The guest's cells, in order.
    pub cells: Vec<PinnedCell>,
    /// Host CPUs for QEMU's own threads; empty: wherever its virtual CPUs run.
    pub emulator: CpuSet,
    /// The one of [`emulator`](Self::emulator) that nobody else may have (`hw:emulator_threads_policy: isolate`).
    pub emulator_is_own: bool,
    /// Devices.
    pub devices: Vec<HeldDevice>,
}

impl Pinning {
    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty() && self.devices.is_empty()
    }

    /// Whether this is what was asked for: as many CPUs, as much memory and as many devices. What no pinning shows, such
    /// as a thread policy, is not compared.
    pub fn answers(&self, guest: Option<&GuestTopology>, devices: &[PciRequest]) -> bool {
        let cells = guest.map_or(&[][..], |guest| &guest.cells);
        let paged = guest.is_some_and(|guest| guest.page_size.is_some());
        let isolated = guest.is_some_and(|guest| guest.emulator_threads == EmulatorThreads::Isolate);
        let same = |(held, asked): (&PinnedCell, &super::GuestCell)| {
            let dedicated = asked.dedicated.intersection(&asked.vcpus);
            held.pins.iter().map(|&(vcpu, _)| vcpu).eq(dedicated.iter())
                && held.floating == asked.vcpus.difference(&dedicated)
                && held.memory_bytes == asked.memory_bytes
                && held.page_kib.is_some() == paged
        };
        let count = |alias: &str| self.devices.iter().filter(|device| device.alias == alias).count();
        let wanted = |alias: &str| -> u64 {
            let of_alias = devices.iter().filter(|request| request.alias == alias);
            of_alias.map(|request| u64::from(request.count)).sum()
        };
        self.cells.len() == cells.len()
            && self.cells.iter().zip(cells).all(same)
            && self.emulator_is_own == isolated
            && devices
                .iter()
                .all(|request| count(&request.alias) as u64 == wanted(&request.alias))
            && self.devices.iter().all(|device| wanted(&device.alias) > 0)
    }
}

/// Where one NUMA node of a guest is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinnedCell {
    /// The host's cell.
    pub cell: u32,
    /// Virtual CPU and the host CPU that is its own, by virtual CPU.
    pub pins: Vec<(u32, u32)>,
    /// Virtual CPUs that float over [`shared`](Self::shared).
    pub floating: CpuSet,
    /// The host CPUs that they float over.
    pub shared: CpuSet,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Pages of so many KiB back it and are counted; `None` when pages were not asked for.
    pub page_kib: Option<u64>,
    /// Host CPUs that stay empty for it: threads beside its own under the thread policy `isolate`.
    pub kept_empty: CpuSet,
}

/// A device that a guest has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldDevice {
    /// The alias that it was asked for by.
    pub alias: String,
    /// Where it is, such as `0000:3b:00.0`.
    pub address: String,
}
