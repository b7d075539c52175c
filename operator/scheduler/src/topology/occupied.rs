//! What is taken of a host's cells and devices.

use std::collections::BTreeMap;

use super::{CpuSet, Pinning};

/// What guests hold of one host's cells and devices, all together.
///
/// Two guests may be said to hold the same CPU or device, for reports come one by one. Both are counted then, and it is
/// free when both are taken off.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Occupied {
    /// Dedicated CPUs, those kept empty among them.
    cpus: CpuSet,
    /// Those of them that several hold, and how many more than one; never zero.
    again: BTreeMap<u32, u32>,
    /// Cells by id; only those that something is held of.
    cells: BTreeMap<u32, Load>,
    /// Addresses of devices, and how many hold each; never zero.
    devices: BTreeMap<String, u32>,
}

/// What is held of one cell beside CPUs of one's own.
#[derive(Debug, Clone, Default, PartialEq)]
struct Load {
    /// Virtual CPUs that float.
    floating: u64,
    /// Bytes without counted pages.
    memory_bytes: u128,
    /// Pages by size in KiB; never zero.
    pages: BTreeMap<u64, u128>,
}

impl Occupied {
    /// Counts what a guest holds.
    pub fn add(&mut self, pinning: &Pinning) {
        for cpu in own_cpus(pinning) {
            if self.cpus.contains(cpu) {
                *self.again.entry(cpu).or_default() += 1;
            } else {
                self.cpus.insert(cpu);
            }
        }
        for cell in &pinning.cells {
            let load = self.cells.entry(cell.cell).or_default();
            load.floating += cell.floating.len() as u64;
            match cell.page_kib {
                Some(size) => *load.pages.entry(size).or_default() += pages(cell.memory_bytes.into(), size),
                None => load.memory_bytes += u128::from(cell.memory_bytes),
            }
        }
        for device in &pinning.devices {
            *self.devices.entry(device.address.clone()).or_default() += 1;
        }
    }

    /// Takes off what [`add`](Self::add) counted.
    pub fn take_off(&mut self, pinning: &Pinning) {
        for cpu in own_cpus(pinning) {
            match self.again.get_mut(&cpu) {
                None => self.cpus.remove(cpu),
                Some(1) => {
                    self.again.remove(&cpu);
                }
                Some(more) => *more -= 1,
            }
        }
        for cell in &pinning.cells {
            let Some(load) = self.cells.get_mut(&cell.cell) else {
                continue;
            };
            load.floating = load.floating.saturating_sub(cell.floating.len() as u64);
            match cell.page_kib {
                Some(size) => {
                    if let Some(used) = load.pages.get_mut(&size) {
                        *used = used.saturating_sub(pages(cell.memory_bytes.into(), size));
                        if *used == 0 {
                            load.pages.remove(&size);
                        }
                    }
                }
                None => load.memory_bytes = load.memory_bytes.saturating_sub(cell.memory_bytes.into()),
            }
            if *load == Load::default() {
                self.cells.remove(&cell.cell);
            }
        }
        for device in &pinning.devices {
            if let Some(holders) = self.devices.get_mut(&device.address) {
                *holders -= 1;
                if *holders == 0 {
                    self.devices.remove(&device.address);
                }
            }
        }
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.cpus.is_empty() && self.cells.is_empty() && self.devices.is_empty()
    }

    /// The dedicated CPUs that have an owner, or are kept empty for one.
    pub fn cpus(&self) -> &CpuSet {
        &self.cpus
    }

    /// Whether a device has an owner.
    pub fn has_device(&self, address: &str) -> bool {
        self.devices.contains_key(address)
    }

    /// How many devices have an owner.
    pub fn devices(&self) -> usize {
        self.devices.len()
    }

    /// Whether somebody else holds a CPU or a device of a guest that is [counted](Self::add) too.
    pub fn is_shared(&self, pinning: &Pinning) -> bool {
        let shared = |address: &str| self.devices.get(address).is_some_and(|&holders| holders > 1);
        !self.again.is_empty() && own_cpus(pinning).any(|cpu| self.again.contains_key(&cpu))
            || pinning.devices.iter().any(|device| shared(&device.address))
    }

    /// Virtual CPUs that float over a cell's shared CPUs.
    pub fn floating(&self, cell: u32) -> u64 {
        self.cells.get(&cell).map_or(0, |load| load.floating)
    }

    /// Bytes of a cell's memory that guests without counted pages hold.
    pub fn memory_bytes(&self, cell: u32) -> u128 {
        self.cells.get(&cell).map_or(0, |load| load.memory_bytes)
    }

    /// Bytes of a cell's memory that guests hold, with counted pages or without.
    pub fn all_memory_bytes(&self, cell: u32) -> u128 {
        self.cells.get(&cell).map_or(0, |load| {
            let pages = load.pages.iter();
            load.memory_bytes
                + pages
                    .map(|(&size, &pages)| pages * u128::from(size) * 1024)
                    .sum::<u128>()
        })
    }

    /// Pages of a size in KiB that guests hold of a cell.
    pub fn pages(&self, cell: u32, size_kib: u64) -> u128 {
        let load = self.cells.get(&cell);
        load.and_then(|load| load.pages.get(&size_kib).copied()).unwrap_or(0)
    }
}

/// The host CPUs that nobody else may have while this guest is there.
pub(super) fn own_cpus(pinning: &Pinning) -> impl Iterator<Item = u32> + '_ {
    let pinned = pinning
        .cells
        .iter()
        .flat_map(|cell| cell.pins.iter().map(|&(_, cpu)| cpu));
    let empty = pinning.cells.iter().flat_map(|cell| cell.kept_empty.iter());
    let emulator = pinning.emulator.iter().filter(|_| pinning.emulator_is_own);
    pinned.chain(empty).chain(emulator)
}

/// How many pages of a size hold so much memory.
pub(super) fn pages(memory_bytes: u128, size_kib: u64) -> u128 {
    memory_bytes.div_ceil(u128::from(size_kib.max(1)) * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{HeldDevice, PinnedCell};

    fn pinning(cpus: &[u32], memory_bytes: u64, page_kib: Option<u64>, device: &str) -> Pinning {
        Pinning {
            cells: vec![PinnedCell {
                cell: 1,
                pins: (0..).zip(cpus.iter().copied()).collect(),
                floating: "2,3".parse().unwrap(),
                shared: "0,1".parse().unwrap(),
                memory_bytes,
                page_kib,
                kept_empty: CpuSet::new(),
            }],
            emulator: "9".parse().unwrap(),
            emulator_is_own: true,
            devices: vec![HeldDevice {
                alias: "gpu".to_owned(),
                address: device.to_owned(),
            }],
        }
    }

    #[test]
    fn what_is_added_and_taken_off_again_leaves_nothing() {
        let (one, other) = (
            pinning(&[4, 5], 8192, None, "a"),
            pinning(&[6], 4096 * 1024, Some(2048), "b"),
        );
        let mut occupied = Occupied::default();
        occupied.add(&one);
        occupied.add(&other);
        assert_eq!(
            (occupied.cpus().to_string(), occupied.devices()),
            ("4-6,9".to_owned(), 2)
        );
        assert_eq!((occupied.floating(1), occupied.memory_bytes(1)), (4, 8192));
        assert_eq!(
            (occupied.pages(1, 2048), occupied.all_memory_bytes(1)),
            (2, 8192 + 4096 * 1024)
        );
        occupied.take_off(&one);
        occupied.take_off(&other);
        assert!(occupied.is_empty() && occupied == Occupied::default(), "{occupied:?}");
    }

    #[test]
    fn a_cpu_that_two_are_said_to_hold_is_free_when_both_are_gone() {
        let (one, other) = (pinning(&[4], 0, None, "a"), pinning(&[4], 0, None, "b"));
        let mut occupied = Occupied::default();
        occupied.add(&one);
        assert!(!occupied.is_shared(&one));
        occupied.add(&other);
        assert!(occupied.is_shared(&one) && occupied.is_shared(&other));
        occupied.take_off(&one);
        assert!(occupied.cpus().contains(4) && !occupied.is_shared(&other));
        occupied.take_off(&other);
        assert!(occupied.cpus().is_empty());
    }
}
