//! The index of hosts, placements and reservations that every decision reads and changes.

mod aggregates;
mod decisions;
mod pins;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use crate::allocation::{Allocation, Amount, Claim, More};
use crate::cohort::Aggregates;
use crate::explanation::Decisions;
use crate::groups::Groups;
use crate::host::Limit;
use crate::hosts::Hosts;
use crate::{Aspects, Event, Host, Profile, Resources, Uid};

/// How a cluster is scheduled.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Filters, weighers, strategy.
    pub profile: Profile,
    /// How long room is held for an Instance that has not shown in the watch. Longer than an admitted create takes to
    /// show, else the room is promised twice.
    pub reservation_ttl: Duration,
    /// Decides among hosts of equal weight, together with the request's UID.
    pub seed: u64,
}

/// All hosts, and all that is placed or reserved on them.
///
/// Kept up to date by single changes: no call but a decision looks at all hosts. Hosts, Instances and groups may show in
/// any order; a placement on a host that is not known yet is kept and counted when the host appears.
///
/// Every change that may help a waiting request leaves an [`Event`], see [`take_events`](Self::take_events).
#[derive(Debug, Clone)]
pub struct Cluster {
    settings: Settings,
    hosts: Hosts,
    aggregates: Aggregates,
    groups: Groups,
    allocations: HashMap<Uid, Allocation>,
    /// The ends of all reservations, soonest first.
    deadlines: BTreeSet<(Duration, Uid)>,
    /// By host, the Instances whose cells and devices it has not told of.
    untold: HashMap<u32, BTreeSet<Uid>>,
    events: Vec<Event>,
    decisions: Decisions,
}

/// Where an Instance is accounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding<'a> {
    /// The host's name.
    pub host: &'a str,
    /// What is accounted.
    pub resources: Resources,
    /// When the reservation ends; `None` for a placement that was seen.
    pub reserved_until: Option<Duration>,
}

/// What is accounted to a host, placements and reservations alike.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Instances, without Volumes.
    pub instances: u32,
    /// Virtual processors given out.
    pub vcpus: u64,
    /// Memory given out, in bytes.
    pub memory_bytes: u128,
    /// Disk given out, in bytes.
    pub disk_bytes: u128,
}

/// Events that are kept until somebody takes them. When there are more, one [`Event::Resync`] stands for all.
const MOST_EVENTS: usize = 1024;

impl Cluster {
    /// A cluster without hosts.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            hosts: Hosts::default(),
            aggregates: Aggregates::default(),
            groups: Groups::default(),
            allocations: HashMap::new(),
            deadlines: BTreeSet::new(),
            untold: HashMap::new(),
            events: Vec::new(),
            decisions: Decisions::default(),
        }
    }

    /// Adds a host, or replaces what was known of the host of that name. What is placed on it stays.
    pub fn upsert_host(&mut self, host: Host) {
        let name = host.name.clone();
        let cohort = self.aggregates.cohort(&name);
        let before = self.hosts.upsert(host, cohort, &self.settings.profile.options);
        let slot = self.hosts.find(&name);
        let after = slot.and_then(|slot| self.hosts.host(slot));
        let changes = match (&before, after) {
            (Some(before), Some(after)) => before.changes_to(after),
            _ => Aspects::NONE,
        };
        if before.is_none() {
            self.note(Event::HostAdded);
        } else if !changes.is_empty() {
            self.note(Event::HostChanged(changes));
        }
        if let Some(slot) = slot
            && (before.is_none() || changes.intersects(Aspects::CAPACITY))
        {
            self.settle_pins(slot);
        }
    }

    /// What a host is busy with now: [`Host::io_ops`] and [`Host::failed_builds`]. One that was never heard of stays unknown.
    pub fn set_load(&mut self, name: &str, io_ops: u32, failed_builds: u32) {
        let options = &self.settings.profile.options;
        let slot = self.hosts.find(name);
        if slot.is_some_and(|slot| self.hosts.set_load(slot, io_ops, failed_builds, options)) {
            self.note(Event::HostChanged(Aspects::LOAD));
        }
    }

    /// Takes a host out of every later decision. Placements on it stay accounted, should it come back.
    pub fn remove_host(&mut self, name: &str) {
        self.hosts.remove(name);
    }

    /// Notes that an Instance with this host was seen, which holds processors, memory and disk only; see
    /// [`place_claim`](Self::place_claim).
    pub fn place(&mut self, uid: &Uid, host: &str, resources: &Resources, group: Option<&Uid>) {
        self.place_claim(
            uid,
            &Claim {
                group,
                ..Claim::new(host, resources)
            },
        );
    }

    /// Notes that an Instance (or a Volume) with this host was seen. Confirms its reservation, moves what is accounted
    /// when the host is another one, and adjusts it when the amounts are.
    ///
    /// This is a fact from outside, so it is accounted even where no filter would have let it through. Where its cells and
    /// devices are is taken from the claim. As long as that does not say, what was reserved on the host is kept, or a
    /// place is found that is free, so that nothing is promised twice.
    pub fn place_claim(&mut self, uid: &Uid, claim: &Claim<'_>) {
        let mut amount = self.amount(claim);
        if let Some(before) = self.allocations.get(uid) {
            if let Some(More { image: Some(image), .. }) = before.amount.more.as_deref()
                && amount.image().is_none()
            {
                // It was reserved for an image that this claim does not name.
                amount.more.get_or_insert_default().image = Some(image.clone());
            }
            let stays = self.hosts.name(before.host) == claim.host;
            if stays {
                amount.keep_pinning(&before.amount);
            }
            let group = before.group.and_then(|slot| self.groups.uid(slot));
            if stays && group == claim.group && before.amount == amount {
                self.end_reservation(uid);
                return;
            }
        }
        let left = self.let_go(uid);
        let host = self.hosts.slot_for(claim.host);
        self.account(uid, host, amount, claim.group, None);
        self.settle_pins(host);
        if let Some(left) = left.filter(|&left| left != host) {
            self.settle_pins(left);
        }
        // To a group with affinity its first member opens a host; others are not helped, and find that out.
        if let Some(group) = claim.group {
            self.note(Event::GroupChanged(group.clone()));
        }
        self.note(Event::InstanceMoved(uid.clone()));
    }

    /// Notes that an Instance is gone for good: neither a placement nor a reservation of it is left.
    pub fn forget(&mut self, uid: &Uid) {
        self.release(uid);
    }

    /// Notes that an Instance was seen without a host. Ends its placement, but not a reservation: that may be newer than
    /// what was seen.
    pub fn unplace(&mut self, uid: &Uid) {
        if self
            .allocations
            .get(uid)
            .is_some_and(|allocation| allocation.until.is_none())
        {
            self.release(uid);
        }
    }

    /// Gives up a reservation, for example because the binding could not be written. A placement stays: what was seen
    /// is a fact.
    pub fn unreserve(&mut self, uid: &Uid) {
        if self
            .allocations
            .get(uid)
            .is_some_and(|allocation| allocation.until.is_some())
        {
            self.release(uid);
        }
    }

    /// Ends the reservations whose time is up, and tells whose they were. To be called every now and then.
    pub fn expire(&mut self, now: Duration) -> Vec<Uid> {
        let mut expired = Vec::new();
        while let Some((until, uid)) = self.deadlines.pop_first() {
            if until > now {
                self.deadlines.insert((until, uid));
                break;
            }
            self.release(&uid);
            expired.push(uid);
        }
        expired
    }

    /// Takes the events since the last call. To be handed to [`Waiting::wake`](crate::Waiting::wake) in order.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Where an Instance is accounted.
    pub fn binding(&self, uid: &Uid) -> Option<Binding<'_>> {
        let allocation = self.allocations.get(uid)?;
        Some(Binding {
            host: self.hosts.name(allocation.host),
            resources: allocation.amount.resources,
            reserved_until: allocation.until,
        })
    }

    /// The registered hosts, in no particular order.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> + '_ {
        self.hosts.iter()
    }

    /// A registered host.
    pub fn host(&self, name: &str) -> Option<&Host> {
        self.hosts.find(name).and_then(|slot| self.hosts.host(slot))
    }

    /// What is accounted to a host; nothing for one that was never heard of.
    pub fn usage(&self, host: &str) -> Usage {
        let Some(slot) = self.hosts.find(host) else {
            return Usage::default();
        };
        let used = self.hosts.used(slot);
        Usage {
            instances: used.instances,
            vcpus: used.vcpus,
            memory_bytes: used.memory_bytes,
            disk_bytes: used.disk_bytes,
        }
    }

    /// The units of other resource classes that are accounted to a host.
    pub fn units_used(&self, host: &str) -> BTreeMap<&str, u128> {
        let units = self.hosts.find(host).map(|slot| self.hosts.used(slot).units.as_slice());
        let classes = self.hosts.resource_classes();
        units
            .into_iter()
            .flatten()
            .map(|&(class, used)| (classes.name(class), used))
            .collect()
    }

    /// The most that a host gives out in all; `None` for a host that is not registered.
    pub fn limit(&self, host: &str) -> Option<Limit> {
        let slot = self.hosts.find(host)?;
        self.hosts.host(slot)?;
        Some(self.hosts.limit(slot))
    }

    /// How many members of a group are on a host, reservations included.
    pub fn members_on(&self, group: &Uid, host: &str) -> u32 {
        let members = self.groups.hosts_of(group).iter();
        let on_host = |slot| members.clone().find(|(at, _)| *at == slot).map(|&(_, count)| count);
        self.hosts.find(host).and_then(on_host).unwrap_or(0)
    }

    /// How many reservations are held.
    pub fn reservations(&self) -> usize {
        self.deadlines.len()
    }

    /// How many Instances are accounted, placed or reserved.
    pub fn len(&self) -> usize {
        self.allocations.len()
    }

    /// Whether no Instance is accounted.
    pub fn is_empty(&self) -> bool {
        self.allocations.is_empty()
    }

    /// What a claim adds to a host's account.
    fn amount(&mut self, claim: &Claim<'_>) -> Amount {
        let units = match claim.units {
            Some(units) if !units.is_empty() => self.hosts.units(units),
            _ => Vec::new(),
        };
        let image = claim.image.filter(|_| self.settings.profile.weighs_images()).cloned();
        Amount {
            resources: *claim.resources,
            is_instance: claim.is_instance,
            more: More::of(claim, units, image),
        }
    }

    /// Does something as if an Instance were not accounted. No event, for nothing has changed afterwards.
    fn without<T>(&mut self, uid: &Uid, work: impl FnOnce(&Self) -> T) -> T {
        let Some(held) = self.allocations.get(uid) else {
            return work(self);
        };
        let host = self.hosts.name(held.host).to_owned();
        let Some((held, group)) = self.unaccount(uid) else {
            return work(self);
        };
        let done = work(self);
        let slot = self.hosts.slot_for(&host);
        self.account(uid, slot, held.amount, group.as_ref(), held.until);
        done
    }

    fn account(&mut self, uid: &Uid, host: u32, amount: Amount, group: Option<&Uid>, until: Option<Duration>) {
        self.hosts.add(host, &amount, until.is_some());
        let group = group.map(|group| self.groups.join(group, host));
        if amount.wanted().is_some() {
            self.untold.entry(host).or_default().insert(uid.clone());
        }
        if let Some(until) = until {
            self.deadlines.insert((until, uid.clone()));
        }
        self.allocations.insert(
            uid.clone(),
            Allocation {
                host,
                group,
                amount,
                until,
            },
        );
    }

    /// Takes an Instance out of all indices; returns what it held and its group.
    fn unaccount(&mut self, uid: &Uid) -> Option<(Allocation, Option<Uid>)> {
        let (uid, held) = self.allocations.remove_entry(uid)?;
        let group = held.group.and_then(|slot| self.groups.leave(slot, held.host));
        if held.amount.wanted().is_some()
            && let Some(untold) = self.untold.get_mut(&held.host)
        {
            untold.remove(&uid);
            if untold.is_empty() {
                self.untold.remove(&held.host);
            }
        }
        if let Some(until) = held.until {
            self.deadlines.remove(&(until, uid));
        }
        self.hosts.take_off(held.host, &held.amount, held.until.is_some());
        Some((held, group))
    }

    /// Takes an Instance off its host for good, and says so to those who wait.
    fn release(&mut self, uid: &Uid) {
        if let Some(host) = self.let_go(uid) {
            self.settle_pins(host);
        }
    }

    /// The same, before others on the host are told. Returns the host's slot.
    fn let_go(&mut self, uid: &Uid) -> Option<u32> {
        let (held, group) = self.unaccount(uid)?;
        if let Some(room) = self.hosts.room(held.host) {
            self.note(Event::HostFreed { room });
        }
        if let Some(group) = group {
            self.note(Event::GroupChanged(group));
        }
        self.note(Event::InstanceMoved(uid.clone()));
        Some(held.host)
    }

    fn renew(&mut self, uid: &Uid, until: Duration) {
        if let Some(held) = self.allocations.get_mut(uid)
            && let Some(before) = held.until.replace(until)
        {
            self.deadlines.remove(&(before, uid.clone()));
            self.deadlines.insert((until, uid.clone()));
        }
    }

    /// Makes a placement of a reservation.
    fn end_reservation(&mut self, uid: &Uid) {
        if let Some(held) = self.allocations.get_mut(uid)
            && let Some(until) = held.until.take()
        {
            let host = held.host;
            self.deadlines.remove(&(until, uid.clone()));
            self.hosts.settle(host);
            // It no longer counts as an operation that is about to begin.
            self.note(Event::HostChanged(Aspects::LOAD));
        }
    }

    fn note(&mut self, event: Event) {
        if self.events.len() >= MOST_EVENTS {
            self.events.clear();
            self.events.push(Event::Resync);
        } else if self.events.last() != Some(&event) {
            self.events.push(event);
        }
    }
}
