//! Weighers: which of the hosts that passed is best.
//!
//! Each file is one measure under the name that Nova gives it. The weight of a host is the sum, over weighers, of
//! multiplier × normalised measure; the highest wins. The multiplier is the one that the host's aggregates set, the least
//! of several (Nova's `get_weight_multiplier`), else the profile's.

mod build_failure;
mod cpu;
mod disk;
mod hypervisor_version;
mod image_properties;
mod io_ops;
mod metrics;
mod num_instances;
mod pci;
mod ram;
mod soft_affinity;
mod soft_anti_affinity;

use std::fmt::Debug;

use crate::bits::Bits;
use crate::hosts::Hosts;
use crate::measure::Measure;
use crate::{Ask, Candidate};

/// One measure of a host.
pub trait Weigher: Debug + Sync {
    /// The name in profiles and in explanations.
    fn name(&self) -> &'static str;

    /// The key in an aggregate's metadata that sets the multiplier for its hosts.
    fn multiplier_key(&self) -> &'static str;

    /// The multiplier unless a profile says otherwise.
    fn default_multiplier(&self) -> f64 {
        1.0
    }

    /// -1 when Nova turns the sign of the multiplier before it applies it.
    fn sign(&self) -> f64 {
        1.0
    }

    /// Whether the measure says anything about this request. Asked once a decision.
    fn applies(&self, _ask: &Ask<'_>) -> bool {
        true
    }

    /// Whether more of it means more room, so that a profile that packs turns its sign.
    fn measures_room(&self) -> bool {
        false
    }

    /// Whether it keeps new Instances away from where the last ones went, so that a profile that packs leaves it out.
    fn resists_packing(&self) -> bool {
        false
    }

    /// Whether it reads the images of Instances that are there, which are kept only for a weigher that does.
    fn reads_images(&self) -> bool {
        false
    }

    /// A fixed lower end of the scale (Nova's `minval`); `None` for the lowest measure among the hosts.
    fn floor(&self) -> Option<f64> {
        None
    }

    /// The column that holds the measure; `None` when it is worked out for each request.
    #[doc(hidden)]
    fn kept(&self) -> Option<Measure> {
        None
    }

    /// The measure, in whatever unit: only its place between the lowest and the highest counts. Finite, and not below the
    /// floor.
    fn measure(&self, host: Candidate<'_>, _ask: &Ask<'_>) -> f64 {
        self.kept().map_or(0.0, |measure| host.measure(measure))
    }

    /// The measures of all `slots` into their places in `figures`, which holds zeros. Asked only when none is kept.
    #[doc(hidden)]
    fn sweep(&self, hosts: &Hosts, ask: &Ask<'_>, slots: &Bits, figures: &mut [f64]) {
        for slot in slots.iter() {
            figures[slot as usize] = self.measure(hosts.candidate(slot), ask);
        }
    }
}

/// Every weigher. All are in use unless a profile says otherwise, as in Nova; two have a multiplier of 0 there.
///
/// Nova's CrossCellWeigher is not here: Nova's cells, each with a database of its own, are not here either.
pub const ALL: [&dyn Weigher; 12] = [
    &ram::RAMWeigher,
    &cpu::CPUWeigher,
    &disk::DiskWeigher,
    &metrics::MetricsWeigher,
    &io_ops::IoOpsWeigher,
    &soft_affinity::ServerGroupSoftAffinityWeigher,
    &soft_anti_affinity::ServerGroupSoftAntiAffinityWeigher,
    &build_failure::BuildFailureWeigher,
    &hypervisor_version::HypervisorVersionWeigher,
    &num_instances::NumInstancesWeigher,
    &image_properties::ImagePropertiesWeigher,
    &pci::PCIWeigher,
];

/// The weigher of a name.
pub fn find(name: &str) -> Option<&'static dyn Weigher> {
    ALL.into_iter().find(|weigher| weigher.name() == name)
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
        assert!(find("CrossCellWeigher").is_none());
    }

    #[test]
    fn every_weigher_has_a_key_of_its_own() {
        let keys: BTreeSet<_> = ALL.iter().map(|weigher| weigher.multiplier_key()).collect();
        assert_eq!(keys.len(), ALL.len());
    }
}
