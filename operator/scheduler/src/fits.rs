//! Who has room for which guest, kept from one decision to the next.
//!
//! To fit a guest into a host's cells takes microseconds, too long to do for every host in every decision. Guests of one
//! Flavor ask for the same, and one decision changes one host: what was found of the others still holds.

use crate::bits::Bits;
use crate::topology::{GuestTopology, Lack, PciRequest};

/// Guests that are kept. Each takes nine bits a host, and what it asks for.
const MOST: usize = 64;

/// What was found for the guests that were asked for of late.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fits {
    /// Who was asked for last is at the end.
    kept: Vec<Kept>,
}

/// What was found for one guest.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kept {
    guest: Option<GuestTopology>,
    devices: Vec<PciRequest>,
    /// Hosts that have room for it.
    pub(crate) fitting: Bits,
    /// By host, what the others lack.
    pub(crate) lacks: Vec<Lack>,
    /// The change up to which that holds; later ones have to be looked at.
    pub(crate) seen: u64,
}

impl Kept {
    fn is_for(&self, guest: Option<&GuestTopology>, devices: &[PciRequest]) -> bool {
        self.guest.as_ref() == guest && self.devices == devices
    }
}

impl Fits {
    /// What is known of a guest.
    pub(crate) fn find(&self, guest: Option<&GuestTopology>, devices: &[PciRequest]) -> Option<&Kept> {
        self.kept.iter().rev().find(|kept| kept.is_for(guest, devices))
    }

    /// Takes out what is known of a guest, for it to be brought up to date. The one that nobody asked for the longest is
    /// forgotten when there are too many.
    pub(crate) fn take(&mut self, guest: Option<&GuestTopology>, devices: &[PciRequest]) -> Kept {
        if let Some(at) = self.kept.iter().rposition(|kept| kept.is_for(guest, devices)) {
            return self.kept.remove(at);
        }
        if self.kept.len() >= MOST {
            self.kept.remove(0);
        }
        Kept {
            guest: guest.cloned(),
            devices: devices.to_vec(),
            ..Kept::default()
        }
    }

    /// Puts back what was taken out.
    pub(crate) fn put_back(&mut self, kept: Kept) {
        self.kept.push(kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::PciAffinity;

    fn gpus(count: u32) -> Vec<PciRequest> {
        vec![PciRequest {
            alias: "gpu".to_owned(),
            count,
            affinity: PciAffinity::Legacy,
        }]
    }

    #[test]
    fn who_was_not_asked_for_the_longest_is_forgotten_first() {
        let mut fits = Fits::default();
        for count in (1..=64).chain([1]) {
            let mut kept = fits.take(None, &gpus(count));
            kept.seen += 1;
            fits.put_back(kept);
        }
        assert_eq!(fits.find(None, &gpus(1)).unwrap().seen, 2);
        let new = fits.take(None, &gpus(65));
        assert_eq!(new.seen, 0);
        fits.put_back(new);
        assert!(fits.find(None, &gpus(1)).is_some() && fits.find(None, &gpus(2)).is_none());
        assert_eq!(fits.kept.len(), MOST);
    }
}
