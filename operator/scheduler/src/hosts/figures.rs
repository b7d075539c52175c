//! What is accounted to hosts, and the columns that are worked out from it.

use std::collections::BTreeMap;

use super::{Cold, Hosts, amount};
use crate::Resources;
use crate::allocation::Amount;
use crate::bits::BLOCK;
use crate::measure::Measure;
use crate::options::Options;

impl Hosts {
    /// Works out the measures that only a changed host or profile changes.
    pub(crate) fn reckon_fixed(&mut self, slot: u32, options: &Options) {
        let Some(host) = &self.cold[slot as usize].host else {
            return;
        };
        let registered = self.registered.word(slot as usize / BLOCK);
        for (measure, value) in [
            (Measure::FailedBuilds, f64::from(host.failed_builds)),
            (Measure::Version, f64::from(host.platform.hypervisor_version)),
            (Measure::Metrics, options.metrics.sum(&host.metrics)),
            (Measure::TotalVcpus, f64::from(host.capacity.vcpus)),
            (Measure::TotalMemory, amount(host.capacity.memory_bytes)),
            (Measure::TotalDisk, amount(host.capacity.disk_bytes)),
        ] {
            self.measures[measure as usize].set(slot, value, registered);
        }
    }

    /// The numbers of resource classes, made when there are none.
    pub(crate) fn units(&mut self, units: &BTreeMap<String, u64>) -> Vec<(u32, u64)> {
        let mut numbered: Vec<(u32, u64)> = units
            .iter()
            .filter(|&(_, &units)| units > 0)
            .map(|(class, &units)| (self.classes.number(class), units))
            .collect();
        numbered.sort_unstable();
        numbered
    }

    /// Accounts one Instance or Volume to a host.
    pub(crate) fn add(&mut self, slot: u32, amount: &Amount, pending: bool) {
        self.cold[slot as usize].used.add(amount, pending);
        self.recount(slot);
        if amount.pinning().is_some() {
            self.recount_pins(slot);
        }
    }

    /// Takes off what [`add`](Self::add) accounted.
    pub(crate) fn take_off(&mut self, slot: u32, amount: &Amount, pending: bool) {
        self.cold[slot as usize].used.take_off(amount, pending);
        self.recount(slot);
        if amount.pinning().is_some() {
            self.recount_pins(slot);
        }
        self.drop_if_unused(slot);
    }

    /// A reservation has become a placement.
    pub(crate) fn settle(&mut self, slot: u32) {
        self.cold[slot as usize].used.pending -= 1;
        self.recount(slot);
    }

    /// Works out anew what a decision reads, from what is accounted.
    pub(super) fn recount(&mut self, slot: u32) {
        let Cold {
            host: Some(host),
            limit,
            used,
            ..
        } = &self.cold[slot as usize]
        else {
            return;
        };
        let free = |limit: u64, used: u128| u64::try_from(u128::from(limit).saturating_sub(used)).unwrap_or(u64::MAX);
        let physical = |capacity: u64, reserved: u64| capacity.saturating_sub(reserved);
        let Resources {
            vcpus,
            memory_bytes,
            disk_bytes,
        } = host.capacity;
        let registered = self.registered.word(slot as usize / BLOCK);
        let spare_vcpus = free(limit.vcpus, used.vcpus.into());
        self.room_vcpus.set(slot, spare_vcpus.min(vcpus.into()), registered);
        self.room_memory.set(
            slot,
            free(limit.memory_bytes, used.memory_bytes).min(memory_bytes),
            registered,
        );
        self.room_disk.set(
            slot,
            free(limit.disk_bytes, used.disk_bytes).min(disk_bytes),
            registered,
        );
        let spare_memory = free(physical(memory_bytes, host.reserved.memory_bytes), used.memory_bytes);
        let spare_disk = free(physical(disk_bytes, host.reserved.disk_bytes), used.disk_bytes);
        for (measure, value) in [
            (Measure::SpareMemory, amount(spare_memory)),
            (Measure::SpareDisk, amount(spare_disk)),
            (Measure::SpareVcpus, amount(spare_vcpus)),
            (Measure::IoOps, f64::from(host.io_ops) + f64::from(used.pending)),
            (Measure::Instances, f64::from(used.instances)),
        ] {
            self.measures[measure as usize].set(slot, value, registered);
        }
        self.classes.recount(slot, Some(host), &used.units);
    }
}
