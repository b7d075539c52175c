//! The hosts in columns: what decisions read of all of them is side by side, the rest apart.

mod figures;
mod pins;
mod tags;

use std::collections::{BTreeMap, HashMap};

use crate::bits::{BLOCK, Bits};
use crate::classes::Classes;
use crate::cohort::Cohort;
use crate::column::Column;
use crate::fits::Fits;
use crate::host::Limit;
use crate::measure::Measure;
use crate::options::Options;
use crate::resource_classes::ResourceClasses;
use crate::score::mix;
use crate::uid::stable_hash;
use crate::used::Used;
use crate::weighers;
use crate::{Candidate, Host, Platform, Resources, Scheduling};
use tags::{Tagged, retag};

/// All hosts that are known or that something is placed on, by slot numbers.
///
/// A slot lives as long as its host is registered or anything is accounted to it, so that a placement seen before its
/// host (after a restart, watches come in any order) is counted as soon as the host appears.
#[derive(Debug, Clone, Default)]
pub struct Hosts {
    cold: Vec<Cold>,
    by_name: HashMap<String, u32>,
    free: Vec<u32>,
    count: u32,
    registered: Bits,
    /// Alive and enabled.
    open: Bits,
    name_hashes: Vec<u64>,
    /// The largest Instance that can still be taken, figure by figure.
    room_vcpus: Column<u64>,
    room_memory: Column<u64>,
    room_disk: Column<u64>,
    measures: [Column<f64>; Measure::COUNT],
    zones: Classes<String>,
    platforms: Classes<Platform>,
    cohorts: Classes<Cohort>,
    traits: HashMap<String, Tagged>,
    metrics: HashMap<String, Tagged>,
    classes: ResourceClasses,
    /// Which hosts have room for guests with cells or devices, for what was asked of late.
    fits: Fits,
    /// Counts the changes to cells and devices.
    pins_version: u64,
    /// When a host's cells and devices last changed, by that count.
    pins_changed: Column<u64>,
    /// Multipliers that aggregates set, by key; NaN for hosts whose aggregates don't.
    multipliers: BTreeMap<&'static str, Vec<f64>>,
}

#[derive(Debug, Clone, Default)]
struct Cold {
    name: String,
    host: Option<Host>,
    limit: Limit,
    used: Used,
}

impl Hosts {
    #[inline]
    pub(crate) fn candidate(&self, slot: u32) -> Candidate<'_> {
        Candidate::new(self, slot)
    }

    /// How many hosts are registered.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// One more than the largest slot.
    pub(crate) fn slots(&self) -> u32 {
        // `slot_for` hands out no slot that does not fit.
        u32::try_from(self.cold.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn registered(&self) -> &Bits {
        &self.registered
    }

    pub(crate) fn open(&self) -> &Bits {
        &self.open
    }

    pub(crate) fn blocks(&self) -> usize {
        self.registered.words().len()
    }

    /// An empty set of hosts.
    pub(crate) fn none(&self) -> Bits {
        Bits::empty(self.blocks())
    }

    #[inline]
    pub(crate) fn measure(&self, measure: Measure) -> &Column<f64> {
        &self.measures[measure as usize]
    }

    pub(crate) fn room_vcpus(&self) -> &Column<u64> {
        &self.room_vcpus
    }

    pub(crate) fn room_memory(&self) -> &Column<u64> {
        &self.room_memory
    }

    pub(crate) fn room_disk(&self) -> &Column<u64> {
        &self.room_disk
    }

    pub(crate) fn zones(&self) -> &Classes<String> {
        &self.zones
    }

    pub(crate) fn platforms(&self) -> &Classes<Platform> {
        &self.platforms
    }

    pub(crate) fn cohorts(&self) -> &Classes<Cohort> {
        &self.cohorts
    }

    pub(crate) fn resource_classes(&self) -> &ResourceClasses {
        &self.classes
    }

    /// The hosts that have a trait.
    pub(crate) fn with_trait(&self, name: &str) -> Option<&Bits> {
        self.traits.get(name).map(|tagged| &tagged.hosts)
    }

    /// The hosts that report a metric.
    pub(crate) fn with_metric(&self, name: &str) -> Option<&Bits> {
        self.metrics.get(name).map(|tagged| &tagged.hosts)
    }

    /// The multipliers that aggregates set for a key; NaN for hosts whose aggregates don't. `None` when none do.
    pub(crate) fn multipliers(&self, key: &str) -> Option<&[f64]> {
        self.multipliers.get(key).map(Vec::as_slice)
    }

    /// Hashes of the names of a block of hosts, for lots.
    #[inline]
    pub(crate) fn name_hashes(&self, block: usize) -> Option<&[u64; BLOCK]> {
        self.name_hashes.get(block * BLOCK..)?.first_chunk()
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

    pub(crate) fn used(&self, slot: u32) -> &Used {
        &self.cold[slot as usize].used
    }

    pub(crate) fn limit(&self, slot: u32) -> Limit {
        self.cold[slot as usize].limit
    }

    /// The largest Instance that a host can take, `None` when it is not registered.
    pub(crate) fn room(&self, slot: u32) -> Option<Resources> {
        self.registered.contains(slot).then(|| self.room_of(slot))
    }

    pub(crate) fn room_of(&self, slot: u32) -> Resources {
        Resources {
            // Never more than the host's own processors, of which there are 32 bits.
            vcpus: u32::try_from(self.room_vcpus.get(slot)).unwrap_or(u32::MAX),
            memory_bytes: self.room_memory.get(slot),
            disk_bytes: self.room_disk.get(slot),
        }
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
        let slot = if let Some(slot) = self.free.pop() {
            self.cold[slot as usize] = cold;
            slot
        } else {
            self.cold.push(cold);
            self.grow();
            // Each slot takes hundreds of bytes: memory ends long before the numbers do.
            u32::try_from(self.cold.len() - 1).unwrap_or(u32::MAX)
        };
        self.name_hashes[slot as usize] = mix(stable_hash(name));
        self.by_name.insert(name.to_owned(), slot);
        slot
    }

    /// Makes room in every column for as many slots as there are, in whole blocks.
    fn grow(&mut self) {
        let blocks = self.cold.len().div_ceil(BLOCK);
        if blocks == self.blocks() {
            return;
        }
        self.registered.grow(blocks);
        self.open.grow(blocks);
        self.name_hashes.resize(blocks * BLOCK, 0);
        for room in [&mut self.room_vcpus, &mut self.room_memory, &mut self.room_disk] {
            room.grow(blocks);
        }
        for measure in &mut self.measures {
            measure.grow(blocks);
        }
        self.zones.grow(blocks);
        self.platforms.grow(blocks);
        self.cohorts.grow(blocks);
        for tagged in self.traits.values_mut().chain(self.metrics.values_mut()) {
            tagged.hosts.grow(blocks);
        }
        self.classes.grow(blocks);
        self.pins_changed.grow(blocks);
        for multipliers in self.multipliers.values_mut() {
            multipliers.resize(blocks * BLOCK, f64::NAN);
        }
    }

    /// Registers a host or replaces what was known of it; returns what was known. `cohort` is what its aggregates say.
    pub(crate) fn upsert(&mut self, mut host: Host, cohort: Cohort, options: &Options) -> Option<Host> {
        let slot = self.slot_for(&host.name);
        host.metrics.retain(|_, value| value.is_finite());
        self.count += u32::from(!self.registered.contains(slot));
        self.registered.set(slot, true);
        let open = host.alive && host.scheduling == Scheduling::Enabled;
        self.open.set(slot, open);
        self.platforms.put(slot, effective_platform(&host));
        let before = self.cold[slot as usize].host.take();
        let blocks = self.blocks();
        if before.as_ref().map(|before| &before.traits) != Some(&host.traits) {
            let old = before.iter().flat_map(|before| &before.traits);
            retag(&mut self.traits, blocks, slot, old, host.traits.iter());
        }
        let reported = |before: &Host| before.metrics.keys().eq(host.metrics.keys());
        if !before.as_ref().is_some_and(reported) {
            let old = before.iter().flat_map(|before| before.metrics.keys());
            retag(&mut self.metrics, blocks, slot, old, host.metrics.keys());
        }
        for class in host.inventories.keys() {
            self.classes.number(class);
        }
        let pins_changed = before
            .as_ref()
            .is_none_or(|before| before.topology != host.topology || before.ratios != host.ratios);
        let cold = &mut self.cold[slot as usize];
        cold.limit = host.limit();
        cold.host = Some(host);
        self.join(slot, cohort);
        self.reckon_fixed(slot, options);
        self.recount(slot);
        if pins_changed {
            self.recount_pins(slot);
        }
        before
    }

    /// What a registered host is busy with now. Tells whether that is new.
    pub(crate) fn set_load(&mut self, slot: u32, io_ops: u32, failed_builds: u32, options: &Options) -> bool {
        let Some(host) = self.cold[slot as usize].host.as_mut() else {
            return false;
        };
        if (host.io_ops, host.failed_builds) == (io_ops, failed_builds) {
            return false;
        }
        (host.io_ops, host.failed_builds) = (io_ops, failed_builds);
        self.reckon_fixed(slot, options);
        self.recount(slot);
        true
    }

    /// Puts a registered host into another cohort, because its aggregates say something else. Tells whether its zone has
    /// changed.
    pub(crate) fn join(&mut self, slot: u32, cohort: Cohort) -> bool {
        let Some(host) = self.cold[slot as usize].host.as_ref() else {
            return false;
        };
        let zone = cohort.zone.clone().unwrap_or_else(|| host.zone.clone());
        let moved = self.zones.of(slot) != Some(&zone);
        self.zones.put(slot, zone);
        for weigher in weighers::ALL {
            let key = weigher.multiplier_key();
            self.set_multiplier(key, slot, cohort.multiplier(key));
        }
        self.cohorts.put(slot, cohort);
        moved
    }

    fn set_multiplier(&mut self, key: &'static str, slot: u32, multiplier: Option<f64>) {
        let length = self.blocks() * BLOCK;
        match multiplier {
            Some(multiplier) => {
                let column = self.multipliers.entry(key).or_insert_with(|| vec![f64::NAN; length]);
                column[slot as usize] = multiplier;
            }
            None => {
                if let Some(column) = self.multipliers.get_mut(key) {
                    let was = std::mem::replace(&mut column[slot as usize], f64::NAN);
                    if !was.is_nan() && column.iter().all(|multiplier| multiplier.is_nan()) {
                        self.multipliers.remove(key);
                    }
                }
            }
        }
    }

    /// Takes a host out of every later decision. What is accounted to it stays until it is taken off.
    pub(crate) fn remove(&mut self, name: &str) {
        let Some(slot) = self.find(name) else { return };
        let Some(host) = self.cold[slot as usize].host.take() else {
            return;
        };
        self.count -= 1;
        self.registered.set(slot, false);
        self.open.set(slot, false);
        let blocks = self.blocks();
        retag(&mut self.traits, blocks, slot, host.traits.iter(), std::iter::empty());
        retag(&mut self.metrics, blocks, slot, host.metrics.keys(), std::iter::empty());
        self.zones.clear(slot);
        self.platforms.clear(slot);
        self.cohorts.clear(slot);
        let registered = self.registered.word(slot as usize / BLOCK);
        for room in [&mut self.room_vcpus, &mut self.room_memory, &mut self.room_disk] {
            room.clear(slot, registered);
        }
        for measure in &mut self.measures {
            measure.clear(slot, registered);
        }
        self.classes.recount(slot, None, &[]);
        self.pins_changed.clear(slot, registered);
        for weigher in weighers::ALL {
            self.set_multiplier(weigher.multiplier_key(), slot, None);
        }
        self.drop_if_unused(slot);
    }

    fn drop_if_unused(&mut self, slot: u32) {
        let cold = &mut self.cold[slot as usize];
        if cold.host.is_none() && cold.used.entries == 0 {
            self.by_name.remove(&cold.name);
            *cold = Cold::default();
            self.free.push(slot);
        }
    }
}

/// An amount as a measure.
#[expect(
    clippy::cast_precision_loss,
    reason = "a measure needs no more than 53 bits: nobody minds a byte in 8 PiB"
)]
pub(crate) fn amount(amount: u64) -> f64 {
    amount as f64
}

/// The host's platform with the kinds of guests filled in that it did not name.
fn effective_platform(host: &Host) -> Platform {
    let mut platform = Platform::clone(&host.platform);
    if platform.supported.is_empty() {
        let supported = |hypervisor: &str| crate::Supported {
            architecture: host.architecture.clone(),
            hypervisor: hypervisor.to_owned(),
            mode: "hvm".to_owned(),
        };
        if host.domain_types.is_empty() {
            platform.supported.insert(supported(""));
        }
        platform
            .supported
            .extend(host.domain_types.iter().map(|domain_type| supported(domain_type)));
    }
    platform
}
