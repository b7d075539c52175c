//! The hosts as flat vectors: what every decision reads is in one, the rest in another.

use std::collections::HashMap;
use std::ops::Range;

use crate::host::Limit;
use crate::uid::stable_hash;
use crate::{Host, Resources, Scheduling};

/// All hosts that are known or that something is placed on, by slot numbers.
///
/// A slot lives as long as its host is registered or anything is accounted to it, so that a placement seen before its
/// host (after a restart, watches come in any order) is counted as soon as the host appears.
#[derive(Debug, Clone, Default)]
pub struct Hosts {
    hot: Vec<Hot>,
    cold: Vec<Cold>,
    by_name: HashMap<String, u32>,
    free: Vec<u32>,
    registered: u32,
    zones: Names,
    architectures: Names,
}

/// What every decision reads of a host; about one cache line.
#[derive(Debug, Clone, Default)]
struct Hot {
    registered: bool,
    open: bool,
    zone: u32,
    architecture: u32,
    /// The largest Instance that can still be taken.
    room: Resources,
    spare: Spare,
    name_hash: u64,
}

#[derive(Debug, Clone, Default)]
struct Cold {
    name: String,
    host: Option<Host>,
    limit: Limit,
    used: Used,
}

/// What is accounted to a host. Wide enough that no sum of amounts from the API overflows, so that taking an amount off
/// again always gives back what was there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) vcpus: u64,
    pub(crate) memory_bytes: u128,
    pub(crate) disk_bytes: u128,
    pub(crate) instances: u32,
}

/// What is left on a host, for weighing. Nova's `vcpus × ratio − used`, `free_ram_mb` and `free_disk_mb`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spare {
    /// Virtual processors that may still be given out: `(capacity − reserved) × ratio − used`.
    pub vcpus: u64,
    /// Physical memory: `capacity − reserved − used`, in bytes.
    pub memory_bytes: u64,
    /// Physical disk: `capacity − reserved − used`, in bytes.
    pub disk_bytes: u64,
}

/// Texts by small numbers, never taken back: there are as many as operators made up zones and architectures.
#[derive(Debug, Clone, Default)]
struct Names(HashMap<String, u32>);

/// The number of a text that no host has.
pub(crate) const NOWHERE: u32 = u32::MAX;

impl Names {
    fn number(&mut self, name: &str) -> u32 {
        if let Some(&number) = self.0.get(name) {
            return number;
        }
        let number = u32::try_from(self.0.len()).unwrap_or(NOWHERE);
        self.0.insert(name.to_owned(), number);
        number
    }

    /// Looks up and adds nothing: what tenants ask for must not grow the table.
    fn find(&self, name: &str) -> u32 {
        self.0.get(name).copied().unwrap_or(NOWHERE)
    }
}

/// One host in a decision: what filters and weighers see.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    hosts: &'a Hosts,
    hot: &'a Hot,
    slot: u32,
}

impl<'a> Candidate<'a> {
    /// Whether the host is alive and enabled.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.hot.open
    }

    /// The largest Instance that the host can take now: the lesser of its physical size and of what may still be given
    /// out, for each amount.
    #[inline]
    pub fn room(&self) -> &'a Resources {
        &self.hot.room
    }

    /// What is left, for weighing.
    #[inline]
    pub fn spare(&self) -> Spare {
        self.hot.spare
    }

    /// All that is known of the host. Costs a cache miss: not for the common case of a filter.
    pub fn host(&self) -> Option<&'a Host> {
        self.hosts.cold[self.slot as usize].host.as_ref()
    }

    #[inline]
    pub(crate) fn zone(&self) -> u32 {
        self.hot.zone
    }

    #[inline]
    pub(crate) fn architecture(&self) -> u32 {
        self.hot.architecture
    }

    #[inline]
    pub(crate) fn slot(&self) -> u32 {
        self.slot
    }

    #[inline]
    pub(crate) fn name_hash(&self) -> u64 {
        self.hot.name_hash
    }
}

impl Hosts {
    #[inline]
    pub(crate) fn candidate(&self, slot: u32) -> Candidate<'_> {
        Candidate {
            hosts: self,
            hot: &self.hot[slot as usize],
            slot,
        }
    }

    /// How many hosts are registered.
    pub(crate) fn registered(&self) -> u32 {
        self.registered
    }

    /// One more than the largest slot.
    pub(crate) fn slots(&self) -> u32 {
        // `slot_for` hands out no slot that does not fit.
        u32::try_from(self.hot.len()).unwrap_or(u32::MAX)
    }

    /// The slots of registered hosts within a range.
    pub(crate) fn registered_in(&self, range: Range<u32>) -> impl Iterator<Item = u32> + '_ {
        let hot = &self.hot[range.start as usize..range.end as usize];
        range.zip(hot).filter(|(_, hot)| hot.registered).map(|(slot, _)| slot)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Host> + '_ {
        self.cold.iter().filter_map(|cold| cold.host.as_ref())
    }

    pub(crate) fn find(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn host(&self, slot: u32) -> Option<&Host> {
        self.cold[slot as usize].host.as_ref()
    }

    pub(crate) fn name(&self, slot: u32) -> &str {
        &self.cold[slot as usize].name
    }

    pub(crate) fn used(&self, slot: u32) -> Used {
        self.cold[slot as usize].used
    }

    pub(crate) fn limit(&self, slot: u32) -> Limit {
        self.cold[slot as usize].limit
    }

    /// The largest Instance that a host can take, `None` when it is not registered.
    pub(crate) fn room(&self, slot: u32) -> Option<Resources> {
        let hot = &self.hot[slot as usize];
        hot.registered.then_some(hot.room)
    }

    pub(crate) fn find_zone(&self, name: &str) -> u32 {
        self.zones.find(name)
    }

    pub(crate) fn find_architecture(&self, name: &str) -> u32 {
        self.architectures.find(name)
    }

    /// The slot of a name, made when there is none.
    pub(crate) fn slot_for(&mut self, name: &str) -> u32 {
        if let Some(&slot) = self.by_name.get(name) {
            return slot;
        }
        let cold = Cold {
            name: name.to_owned(),
            ..Cold::default()
        };
        let hot = Hot {
            name_hash: stable_hash(name),
            ..Hot::default()
        };
        let slot = if let Some(slot) = self.free.pop() {
            self.hot[slot as usize] = hot;
            self.cold[slot as usize] = cold;
            slot
        } else {
            self.hot.push(hot);
            self.cold.push(cold);
            // Each slot takes hundreds of bytes: memory ends long before the numbers do.
            u32::try_from(self.hot.len() - 1).unwrap_or(u32::MAX)
        };
        self.by_name.insert(name.to_owned(), slot);
        slot
    }

    /// Registers a host or replaces what was known of it; returns what was known.
    pub(crate) fn upsert(&mut self, host: Host) -> Option<Host> {
        let slot = self.slot_for(&host.name);
        let read = &mut self.hot[slot as usize];
        self.registered += u32::from(!read.registered);
        read.registered = true;
        read.open = host.alive && host.scheduling == Scheduling::Enabled;
        read.zone = self.zones.number(&host.zone);
        read.architecture = self.architectures.number(&host.architecture);
        let cold = &mut self.cold[slot as usize];
        cold.limit = host.limit();
        let before = cold.host.replace(host);
        self.recount(slot);
        before
    }

    /// Takes a host out of every later decision. What is accounted to it stays until it is taken off.
    pub(crate) fn remove(&mut self, name: &str) {
        let Some(slot) = self.find(name) else { return };
        self.registered -= u32::from(self.hot[slot as usize].registered);
        self.hot[slot as usize].registered = false;
        self.cold[slot as usize].host = None;
        self.drop_if_unused(slot);
    }

    /// Accounts one Instance to a host.
    pub(crate) fn add(&mut self, slot: u32, amount: &Resources) {
        let used = &mut self.cold[slot as usize].used;
        used.vcpus += u64::from(amount.vcpus);
        used.memory_bytes += u128::from(amount.memory_bytes);
        used.disk_bytes += u128::from(amount.disk_bytes);
        used.instances += 1;
        self.recount(slot);
    }

    /// Takes off what [`add`](Self::add) accounted.
    pub(crate) fn take_off(&mut self, slot: u32, amount: &Resources) {
        let used = &mut self.cold[slot as usize].used;
        used.vcpus -= u64::from(amount.vcpus);
        used.memory_bytes -= u128::from(amount.memory_bytes);
        used.disk_bytes -= u128::from(amount.disk_bytes);
        used.instances -= 1;
        self.recount(slot);
        self.drop_if_unused(slot);
    }

    fn drop_if_unused(&mut self, slot: u32) {
        let cold = &mut self.cold[slot as usize];
        if cold.host.is_none() && cold.used.instances == 0 {
            self.by_name.remove(&cold.name);
            *cold = Cold::default();
            self.free.push(slot);
        }
    }

    /// Works out anew what a decision reads, from what is accounted.
    fn recount(&mut self, slot: u32) {
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
        let vcpus = free(limit.vcpus, used.vcpus.into());
        let read = &mut self.hot[slot as usize];
        read.room = Resources {
            vcpus: u32::try_from(vcpus).unwrap_or(u32::MAX).min(host.capacity.vcpus),
            memory_bytes: free(limit.memory_bytes, used.memory_bytes).min(host.capacity.memory_bytes),
            disk_bytes: free(limit.disk_bytes, used.disk_bytes).min(host.capacity.disk_bytes),
        };
        read.spare = Spare {
            vcpus,
            memory_bytes: free(
                physical(host.capacity.memory_bytes, host.reserved.memory_bytes),
                used.memory_bytes,
            ),
            disk_bytes: free(
                physical(host.capacity.disk_bytes, host.reserved.disk_bytes),
                used.disk_bytes,
            ),
        };
    }
}
