//! The index of hosts, placements and reservations that every decision reads and changes.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::allocation::Allocation;
use crate::decide::{Ask, decide};
use crate::groups::Groups;
use crate::host::Limit;
use crate::hosts::Hosts;
use crate::{Event, Host, Placement, Profile, Refusal, Request, Resources, Uid, Weighed};

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
    groups: Groups,
    allocations: HashMap<Uid, Allocation>,
    /// The ends of all reservations, soonest first.
    deadlines: BTreeSet<(Duration, Uid)>,
    events: Vec<Event>,
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
    /// Instances.
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
            groups: Groups::default(),
            allocations: HashMap::new(),
            deadlines: BTreeSet::new(),
            events: Vec::new(),
        }
    }

    /// Adds a host, or replaces what was known of the host of that name. What is placed on it stays.
    pub fn upsert_host(&mut self, host: Host) {
        let name = host.name.clone();
        let before = self.hosts.upsert(host);
        let after = self.hosts.find(&name).and_then(|slot| self.hosts.host(slot));
        match (before, after) {
            (None, _) => self.note(Event::HostAdded),
            (Some(before), Some(after)) => {
                let changes = before.changes_to(after);
                if !changes.is_empty() {
                    self.note(Event::HostChanged(changes));
                }
            }
            (Some(_), None) => {}
        }
    }

    /// Takes a host out of every later decision. Placements on it stay accounted, should it come back.
    pub fn remove_host(&mut self, name: &str) {
        self.hosts.remove(name);
    }

    /// Notes that an Instance with this host was seen. Confirms its reservation, moves what is accounted when the host
    /// is another one, and adjusts it when the amounts are.
    ///
    /// This is a fact from outside, so it is accounted even where no filter would have let it through.
    pub fn place(&mut self, uid: &Uid, host: &str, resources: &Resources, group: Option<&Uid>) {
        let before = self.allocations.get(uid).copied();
        let same_group = before.is_some_and(|before| before.group.and_then(|slot| self.groups.uid(slot)) == group);
        let same_host = before.is_some_and(|before| self.hosts.name(before.host) == host);
        if let Some(before) = before
            && same_group
            && same_host
            && before.resources == *resources
        {
            self.end_reservation(uid, before);
            return;
        }
        self.release(uid);
        let host = self.hosts.slot_for(host);
        self.account(uid, host, resources, group, None);
        // To a group with affinity its first member opens a host; others are not helped, and find that out.
        if let Some(group) = group {
            self.note(Event::GroupChanged(group.clone()));
        }
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

    /// Finds a host and reserves room on it, in one step.
    ///
    /// Asked again for the same UID, it answers with the same host while the placement or reservation lives, so that a
    /// retried admission is harmless; a reservation is then renewed. What was held is decided anew when the request now
    /// excludes that host; a mere reservation also when the host is gone or when the request's amounts or group differ.
    pub fn schedule(&mut self, request: &Request, now: Duration) -> Result<Placement, Refusal> {
        let until = now.saturating_add(self.settings.reservation_ttl);
        let held = self.allocations.get(&request.uid).copied();
        if let Some(held) = held {
            if self.still_good(&held, request) {
                if held.until.is_some() {
                    self.renew(&request.uid, held, until);
                }
                return Ok(self.reused(&held));
            }
            if held.until.is_some() {
                self.release(&request.uid);
            }
        }
        let choice = match held.filter(|held| held.until.is_none()) {
            None => self.choose(request),
            // A placement is a fact until the watch says otherwise: it is given up only for another host.
            Some(placed) => self.without(&request.uid, placed, |cluster| cluster.choose(request)),
        };
        let (slot, placement) = choice?;
        self.release(&request.uid);
        let group = request.group.as_ref().map(|group| &group.uid);
        self.account(&request.uid, slot, &request.resources, group, Some(until));
        Ok(placement)
    }

    /// What [`schedule`](Self::schedule) would answer, reserving nothing.
    pub fn dry_run(&self, request: &Request) -> Result<Placement, Refusal> {
        match self.allocations.get(&request.uid) {
            Some(held) if self.still_good(held, request) => Ok(self.reused(held)),
            Some(_) => {
                // Rare: only a request that was refused by the host that holds it. A copy is dear but simple.
                let mut copy = self.clone();
                copy.schedule(request, Duration::ZERO)
            }
            None => self.choose(request).map(|(_, placement)| placement),
        }
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
            resources: allocation.resources,
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

    fn choose(&self, request: &Request) -> Result<(u32, Placement), Refusal> {
        let ask = Ask::new(request, &self.hosts, &self.groups);
        let choice = decide(&self.settings.profile, self.settings.seed, &self.hosts, &ask)?;
        let named = |&(slot, weight): &(u32, f64)| Weighed {
            host: self.hosts.name(slot).to_owned(),
            weight,
        };
        let placement = Placement {
            host: self.hosts.name(choice.slot).to_owned(),
            hosts: self.hosts.registered(),
            survivors: choice.survivors,
            best: choice.best.iter().map(named).collect(),
            reused: false,
        };
        Ok((choice.slot, placement))
    }

    fn still_good(&self, held: &Allocation, request: &Request) -> bool {
        let allowed = request.allows_host(self.hosts.name(held.host));
        if held.until.is_none() {
            return allowed;
        }
        let group = held.group.and_then(|slot| self.groups.uid(slot));
        allowed
            && held.resources == request.resources
            && group == request.group.as_ref().map(|group| &group.uid)
            && self.hosts.host(held.host).is_some()
    }

    fn reused(&self, held: &Allocation) -> Placement {
        Placement {
            host: self.hosts.name(held.host).to_owned(),
            hosts: self.hosts.registered(),
            survivors: 0,
            best: Vec::new(),
            reused: true,
        }
    }

    /// Decides as if an Instance were not accounted. No event, for nothing has changed afterwards.
    fn without<T>(&mut self, uid: &Uid, held: Allocation, decide: impl FnOnce(&Self) -> T) -> T {
        let host = self.hosts.name(held.host).to_owned();
        let group = held.group.and_then(|slot| self.groups.uid(slot)).cloned();
        self.unaccount(uid);
        let decided = decide(self);
        let slot = self.hosts.slot_for(&host);
        self.account(uid, slot, &held.resources, group.as_ref(), held.until);
        decided
    }

    fn account(&mut self, uid: &Uid, host: u32, resources: &Resources, group: Option<&Uid>, until: Option<Duration>) {
        self.hosts.add(host, resources);
        let group = group.map(|group| self.groups.join(group, host));
        if let Some(until) = until {
            self.deadlines.insert((until, uid.clone()));
        }
        self.allocations.insert(
            uid.clone(),
            Allocation {
                host,
                group,
                resources: *resources,
                until,
            },
        );
    }

    /// Takes an Instance out of all indices; returns what it held and its group.
    fn unaccount(&mut self, uid: &Uid) -> Option<(Allocation, Option<Uid>)> {
        let (uid, held) = self.allocations.remove_entry(uid)?;
        let group = held.group.and_then(|slot| self.groups.leave(slot, held.host));
        if let Some(until) = held.until {
            self.deadlines.remove(&(until, uid));
        }
        self.hosts.take_off(held.host, &held.resources);
        Some((held, group))
    }

    /// Takes an Instance off its host for good, and says so to those who wait.
    fn release(&mut self, uid: &Uid) {
        let Some((held, group)) = self.unaccount(uid) else {
            return;
        };
        if let Some(room) = self.hosts.room(held.host) {
            self.note(Event::HostFreed { room });
        }
        if let Some(group) = group {
            self.note(Event::GroupChanged(group));
        }
    }

    fn renew(&mut self, uid: &Uid, held: Allocation, until: Duration) {
        self.end_reservation(uid, held);
        self.deadlines.insert((until, uid.clone()));
        self.allocations.insert(
            uid.clone(),
            Allocation {
                until: Some(until),
                ..held
            },
        );
    }

    /// Makes a placement of a reservation.
    fn end_reservation(&mut self, uid: &Uid, held: Allocation) {
        if let Some(until) = held.until {
            self.deadlines.remove(&(until, uid.clone()));
            self.allocations.insert(uid.clone(), Allocation { until: None, ..held });
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
