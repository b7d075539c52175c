//! Hosts' cells and devices: what is left of them, and who has room for which guest.

use super::{Cold, Hosts, amount};
use crate::bits::{BLOCK, Bits, ones};
use crate::measure::Measure;
use crate::topology::{GuestTopology, HostTopology, Lack, Limits, Misfit, Occupied, PciRequest, Pinning, fit, fits};

/// Nova's `MAX_DEVS`: more devices than that are all the same to the PCIWeigher.
const MOST_DEVICES: u64 = 100;

impl Hosts {
    /// What is taken of a host's cells and devices.
    pub(crate) fn occupied(&self, slot: u32) -> &Occupied {
        &self.cold[slot as usize].used.occupied
    }

    /// Where a guest's cells and devices would be on a host.
    pub(crate) fn fit_on(
        &self,
        slot: u32,
        guest: Option<&GuestTopology>,
        devices: &[PciRequest],
    ) -> Result<Pinning, Misfit> {
        let (host, occupied, limits) = self.offer(slot, guest, devices)?;
        fit(host, occupied, limits, guest, devices)
    }

    /// Whether a guest has room on a host.
    pub(crate) fn fits_on(
        &self,
        slot: u32,
        guest: Option<&GuestTopology>,
        devices: &[PciRequest],
    ) -> Result<(), Misfit> {
        let (host, occupied, limits) = self.offer(slot, guest, devices)?;
        fits(host, occupied, limits, guest, devices)
    }

    /// What a guest is to fit into.
    fn offer(
        &self,
        slot: u32,
        guest: Option<&GuestTopology>,
        devices: &[PciRequest],
    ) -> Result<(&HostTopology, &Occupied, Limits), Misfit> {
        let Cold { host, used, .. } = &self.cold[slot as usize];
        let told = host.as_ref().and_then(|host| Some((host, host.topology.as_deref()?)));
        let Some((host, topology)) = told else {
            return Err(Misfit::nothing(guest, devices));
        };
        let limits = Limits {
            vcpus: host.ratios.vcpus,
            memory: host.ratios.memory,
        };
        Ok((topology, &used.occupied, limits))
    }

    /// Puts one guest's pinning in the place of another. Neither Instances nor amounts change.
    pub(crate) fn repin(&mut self, slot: u32, old: Option<&Pinning>, new: Option<&Pinning>) {
        let occupied = &mut self.cold[slot as usize].used.occupied;
        if let Some(old) = old {
            occupied.take_off(old);
        }
        if let Some(new) = new {
            occupied.add(new);
        }
        self.recount_pins(slot);
    }

    /// A host's cells or devices are others, or others have them.
    pub(super) fn recount_pins(&mut self, slot: u32) {
        let Cold {
            host: Some(host), used, ..
        } = &self.cold[slot as usize]
        else {
            return;
        };
        let devices = host.topology.as_deref().map_or(&[][..], |topology| &topology.devices);
        let free = devices.iter();
        let free = free.filter(|device| used.occupied.devices() == 0 || !used.occupied.has_device(&device.address));
        let free = (free.count() as u64).min(MOST_DEVICES - 1);
        let registered = self.registered.word(slot as usize / BLOCK);
        self.measures[Measure::FewDevices as usize].set(slot, amount(MOST_DEVICES - free), registered);
        self.pins_version += 1;
        self.pins_changed.set(slot, self.pins_version, registered);
    }

    /// Works out who has room for a guest and keeps it, so that the next decisions look at those hosts only where
    /// something has changed. To be called before a decision; without it, decisions are the same and slower.
    pub(crate) fn keep_fits(&mut self, guest: Option<&GuestTopology>, devices: &[PciRequest]) {
        let mut kept = self.fits.take(guest, devices);
        kept.fitting.grow(self.blocks());
        kept.lacks.resize(self.blocks() * BLOCK, Lack::default());
        // Who lacks the devices alone, lacks them for a guest with cells too.
        let without = guest.and_then(|_| self.fits.find(None, devices));
        let without = without.filter(|without| without.seen == self.pins_version);
        for (block, &word) in self.registered.words().iter().enumerate() {
            if self.pins_changed.bounds(block).1 <= kept.seen {
                continue;
            }
            for slot in ones(block, word) {
                if self.pins_changed.get(slot) > kept.seen {
                    let known = without.filter(|without| !without.fitting.contains(slot));
                    let lack = match known.and_then(|without| without.lacks.get(slot as usize)) {
                        Some(&lack) => Some(lack),
                        None => self
                            .fits_on(slot, guest, devices)
                            .err()
                            .map(|misfit| misfit.lack(devices)),
                    };
                    kept.fitting.set(slot, lack.is_none());
                    kept.lacks[slot as usize] = lack.unwrap_or_default();
                }
            }
        }
        kept.seen = self.pins_version;
        self.fits.put_back(kept);
    }

    /// What of a guest a host lacks; `None` when it has room.
    pub(crate) fn lack(&self, slot: u32, guest: Option<&GuestTopology>, devices: &[PciRequest]) -> Option<Lack> {
        let kept = self.fits.find(guest, devices);
        match kept.filter(|kept| self.pins_changed.get(slot) <= kept.seen) {
            Some(kept) if kept.fitting.contains(slot) => None,
            Some(kept) => kept.lacks.get(slot as usize).copied(),
            None => self
                .fits_on(slot, guest, devices)
                .err()
                .map(|misfit| misfit.lack(devices)),
        }
    }

    /// Keeps the hosts that have room for a guest.
    pub(crate) fn keep_fitting(&self, guest: Option<&GuestTopology>, devices: &[PciRequest], left: &mut Bits) {
        let Some(kept) = self.fits.find(guest, devices) else {
            left.retain(|slot| self.fits_on(slot, guest, devices).is_ok());
            return;
        };
        left.change(|block, word| {
            if self.pins_changed.bounds(block).1 <= kept.seen {
                return word & kept.fitting.word(block);
            }
            let mut fitting = 0;
            for slot in ones(block, word) {
                let fits = if self.pins_changed.get(slot) > kept.seen {
                    self.fits_on(slot, guest, devices).is_ok()
                } else {
                    kept.fitting.contains(slot)
                };
                fitting |= u64::from(fits) << (slot % 64);
            }
            fitting
        });
    }
}
