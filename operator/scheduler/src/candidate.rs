//! One host, as filters and weighers see it.

use crate::cohort::Cohort;
use crate::hosts::Hosts;
use crate::measure::Measure;
use crate::topology::{GuestTopology, Lack, Misfit, PciRequest};
use crate::used::Used;
use crate::{Host, Platform, Resources};

/// What is left on a host, for weighing. Nova's `vcpus × ratio − used`, `free_ram_mb` and `free_disk_mb`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Spare {
    /// Virtual processors that may still be given out: `(capacity − reserved) × ratio − used`.
    pub vcpus: f64,
    /// Physical memory: `capacity − reserved − used`, in bytes.
    pub memory_bytes: f64,
    /// Physical disk: `capacity − reserved − used`, in bytes.
    pub disk_bytes: f64,
}

/// One host in a decision: what filters and weighers see.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    hosts: &'a Hosts,
    slot: u32,
}

impl<'a> Candidate<'a> {
    #[inline]
    pub(crate) fn new(hosts: &'a Hosts, slot: u32) -> Self {
        Self { hosts, slot }
    }

    /// Whether the host is alive and enabled.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.hosts.open().contains(self.slot)
    }

    /// The largest Instance that the host can take now: the lesser of its physical size and of what may still be given
    /// out, for each amount.
    #[inline]
    pub fn room(&self) -> Resources {
        self.hosts.room_of(self.slot)
    }

    /// What is left, for weighing.
    #[inline]
    pub fn spare(&self) -> Spare {
        Spare {
            vcpus: self.measure(Measure::SpareVcpus),
            memory_bytes: self.measure(Measure::SpareMemory),
            disk_bytes: self.measure(Measure::SpareDisk),
        }
    }

    /// All that is known of the host. Costs a cache miss: not for the common case of a filter.
    pub fn host(&self) -> Option<&'a Host> {
        self.hosts.host(self.slot)
    }

    #[inline]
    pub(crate) fn measure(&self, measure: Measure) -> f64 {
        self.hosts.measure(measure).get(self.slot)
    }

    /// The zone that it is in: its aggregates', or its own.
    pub(crate) fn zone(&self) -> Option<&'a String> {
        self.hosts.zones().of(self.slot)
    }

    pub(crate) fn platform(&self) -> Option<&'a Platform> {
        self.hosts.platforms().of(self.slot)
    }

    pub(crate) fn cohort(&self) -> Option<&'a Cohort> {
        self.hosts.cohorts().of(self.slot)
    }

    /// Units of a resource class that it can still give out.
    pub(crate) fn units_left(&self, class: u32) -> u64 {
        self.hosts.resource_classes().left(class, self.slot)
    }

    /// What it lacks of a guest with cells or devices; `None` when it has room.
    pub(crate) fn lack(&self, guest: Option<&GuestTopology>, devices: &[PciRequest]) -> Option<Lack> {
        self.hosts.lack(self.slot, guest, devices)
    }

    /// The same with numbers.
    pub(crate) fn misfit(&self, guest: Option<&GuestTopology>, devices: &[PciRequest]) -> Option<Misfit> {
        self.hosts.fits_on(self.slot, guest, devices).err()
    }

    pub(crate) fn used(&self) -> &'a Used {
        self.hosts.used(self.slot)
    }

    #[inline]
    pub(crate) fn slot(&self) -> u32 {
        self.slot
    }
}
