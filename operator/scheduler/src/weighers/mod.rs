//! Weighers: which of the hosts that passed is best.
//!
//! Each file is one measure under the name that Nova gives it. The weight of a host is the sum, over weighers, of
//! multiplier × normalised measure; the highest wins.

mod cpu;
mod disk;
mod normalise;
mod ram;
mod soft_affinity;
mod soft_anti_affinity;

use std::fmt::Debug;

use crate::hosts::Hosts;
use crate::{Ask, Candidate};

pub(crate) use normalise::normalise;

/// One measure of a host.
pub trait Weigher: Debug + Sync {
    /// The name in profiles and in explanations.
    fn name(&self) -> &'static str;

    /// Whether the measure says anything about this request. Asked once a decision.
    fn applies(&self, _ask: &Ask<'_>) -> bool {
        true
    }

    /// Whether more of it means more room, so that a profile that packs turns its sign.
    fn measures_room(&self) -> bool {
        false
    }

    /// A fixed lower end of the scale (Nova's `minval`); `None` for the lowest measure among the hosts.
    fn floor(&self) -> Option<f64> {
        None
    }

    /// The measure, in whatever unit: only its place between the lowest and the highest counts. Finite.
    fn measure(&self, host: Candidate<'_>, ask: &Ask<'_>) -> f64;

    /// The measures of all `slots`. Provided here so that it is compiled once for each weigher, with `measure` inlined.
    #[doc(hidden)]
    fn sweep(&self, hosts: &Hosts, ask: &Ask<'_>, slots: &[u32], measures: &mut Vec<f64>) {
        measures.clear();
        measures.extend(slots.iter().map(|&slot| self.measure(hosts.candidate(slot), ask)));
    }
}

/// Every weigher. All are in use unless a profile says otherwise, as in Nova.
pub const ALL: [&dyn Weigher; 5] = [
    &ram::RAMWeigher,
    &cpu::CPUWeigher,
    &disk::DiskWeigher,
    &soft_affinity::ServerGroupSoftAffinityWeigher,
    &soft_anti_affinity::ServerGroupSoftAntiAffinityWeigher,
];

/// The weigher of a name.
pub fn find(name: &str) -> Option<&'static dyn Weigher> {
    ALL.into_iter().find(|weigher| weigher.name() == name)
}

/// An amount as a measure.
#[expect(
    clippy::cast_precision_loss,
    reason = "a measure needs no more than 53 bits: nobody minds a byte in 8 PiB"
)]
fn amount(amount: u64) -> f64 {
    amount as f64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_weigher_is_found_by_its_own_name_only() {
        let names: BTreeSet<_> = ALL.iter().map(|weigher| weigher.name()).collect();
        assert_eq!(names.len(), ALL.len());
        for name in names {
            assert_eq!(find(name).unwrap().name(), name);
        }
        assert!(find("IoOpsWeigher").is_none());
    }
}
