//! Which cells and devices Instances hold, told by their hosts or found by ourselves.

use super::Cluster;
use crate::topology::{Occupied, Pinning};
use crate::{Event, Request, Uid};

impl Cluster {
    /// Where an Instance's cells and devices are: as its host says, else as they were promised.
    pub fn pinning(&self, uid: &Uid) -> Option<&Pinning> {
        self.allocations.get(uid)?.amount.pinning()
    }

    /// What is taken of a host's cells and devices; `None` for one that was never heard of.
    pub fn occupied(&self, host: &str) -> Option<&Occupied> {
        self.hosts.find(host).map(|slot| self.hosts.occupied(slot))
    }

    /// Where a request's cells and devices would be on a host that passed for it.
    pub(super) fn pinning_on(&self, slot: u32, request: &Request) -> Option<Pinning> {
        let demands = request.demands.as_deref()?;
        if demands.topology.is_none() && demands.devices.is_empty() {
            return None;
        }
        let pinning = self.hosts.fit_on(slot, demands.topology.as_ref(), &demands.devices);
        pinning.ok()
    }

    /// Looks at the hosts' cells and devices for a request ahead of its decision.
    pub(super) fn keep_fits(&mut self, request: &Request) {
        let Some(demands) = request.demands.as_deref() else {
            return;
        };
        if !demands.devices.is_empty() {
            self.hosts.keep_fits(None, &demands.devices);
        }
        if demands.topology.is_some() {
            self.hosts.keep_fits(demands.topology.as_ref(), &demands.devices);
        }
    }

    /// Finds places anew, on one host, for those of whom it has not told where they are: for who has none, and for who has
    /// one that the host says another has. Called whenever something on the host has changed.
    pub(super) fn settle_pins(&mut self, slot: u32) {
        let Some(untold) = self.untold.get(&slot) else { return };
        let mut moved = false;
        for uid in untold {
            let held = self.allocations.get_mut(uid);
            let Some(more) = held.and_then(|held| held.amount.more.as_deref_mut()) else {
                continue;
            };
            let shared = |pinning: &Pinning| self.hosts.occupied(slot).is_shared(pinning);
            if more.pinning.as_ref().is_some_and(shared) {
                let old = more.pinning.take();
                self.hosts.repin(slot, old.as_ref(), None);
                moved = true;
            }
        }
        for uid in untold {
            let held = self.allocations.get_mut(uid);
            let Some(more) = held.and_then(|held| held.amount.more.as_deref_mut()) else {
                continue;
            };
            let Some(wanted) = more.wanted.as_ref().filter(|_| more.pinning.is_none()) else {
                continue;
            };
            let found = self.hosts.fit_on(slot, wanted.topology.as_ref(), &wanted.devices);
            if let Ok(found) = found {
                self.hosts.repin(slot, None, Some(&found));
                more.pinning = Some(found);
            }
        }
        if let Some(room) = self.hosts.room(slot).filter(|_| moved) {
            self.note(Event::HostFreed { room });
        }
    }
}
