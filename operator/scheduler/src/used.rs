//! What is accounted to one host.

use std::sync::Arc;

use crate::ImageFacts;
use crate::allocation::Amount;
use crate::topology::Occupied;

/// What is accounted to a host. Wide enough that no sum of amounts from the API overflows, so that taking an amount off
/// again always gives back what was there.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Used {
    pub(crate) vcpus: u64,
    pub(crate) memory_bytes: u128,
    pub(crate) disk_bytes: u128,
    /// Instances and Volumes.
    pub(crate) entries: u32,
    pub(crate) instances: u32,
    /// Reservations among them.
    pub(crate) pending: u32,
    /// Number of a resource class and units of it, never zero.
    pub(crate) units: Vec<(u32, u128)>,
    /// Images that Instances were built from, and how many, never zero.
    pub(crate) images: Vec<(Arc<ImageFacts>, u32)>,
    /// Cells and devices.
    pub(crate) occupied: Occupied,
}

impl Used {
    /// Accounts one Instance or Volume.
    pub(crate) fn add(&mut self, amount: &Amount, pending: bool) {
        self.vcpus += u64::from(amount.resources.vcpus);
        self.memory_bytes += u128::from(amount.resources.memory_bytes);
        self.disk_bytes += u128::from(amount.resources.disk_bytes);
        self.entries += 1;
        self.instances += u32::from(amount.is_instance);
        self.pending += u32::from(pending);
        for &(class, units) in amount.units() {
            match self.units.iter_mut().find(|(of, _)| *of == class) {
                Some((_, used)) => *used += u128::from(units),
                None => self.units.push((class, units.into())),
            }
        }
        if let Some(image) = amount.image() {
            match self.images.iter_mut().find(|(known, _)| known == image) {
                Some((_, count)) => *count += 1,
                None => self.images.push((image.clone(), 1)),
            }
        }
        if let Some(pinning) = amount.pinning() {
            self.occupied.add(pinning);
        }
    }

    /// Takes off what [`add`](Self::add) accounted.
    pub(crate) fn take_off(&mut self, amount: &Amount, pending: bool) {
        self.vcpus -= u64::from(amount.resources.vcpus);
        self.memory_bytes -= u128::from(amount.resources.memory_bytes);
        self.disk_bytes -= u128::from(amount.resources.disk_bytes);
        self.entries -= 1;
        self.instances -= u32::from(amount.is_instance);
        self.pending -= u32::from(pending);
        for &(class, units) in amount.units() {
            if let Some((_, used)) = self.units.iter_mut().find(|(of, _)| *of == class) {
                *used -= u128::from(units);
            }
        }
        self.units.retain(|&(_, units)| units > 0);
        if let Some(image) = amount.image() {
            if let Some((_, count)) = self.images.iter_mut().find(|(known, _)| known == image) {
                *count -= 1;
            }
            self.images.retain(|&(_, count)| count > 0);
        }
        if let Some(pinning) = amount.pinning() {
            self.occupied.take_off(pinning);
        }
    }
}
