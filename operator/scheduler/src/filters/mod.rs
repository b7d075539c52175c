//! Filters: which hosts can take a request at all.
//!
//! Each file is one rule under the name that Nova gives it. A host that a filter rejects is not shown to later filters
//! and is counted under the filter that rejected it, as in Nova.

mod availability_zone;
mod compute;
mod core;
mod disk;
mod image_properties;
mod ram;
mod retry;
mod server_group_affinity;
mod server_group_anti_affinity;
mod volume_locality;

use std::fmt::Debug;

use crate::hosts::Hosts;
use crate::outcome::Tally;
use crate::{Ask, Aspects, Candidate};

/// One rule about hosts.
pub trait Filter: Debug + Sync {
    /// The name in profiles and in messages.
    fn name(&self) -> &'static str;

    /// What of a host the rule looks at. A refused request is tried again when one of these changes.
    fn reads(&self) -> Aspects;

    /// Whether the rule says anything about this request. Asked once a decision.
    fn applies(&self, _ask: &Ask<'_>) -> bool {
        true
    }

    /// Whether the host passes.
    fn check<'a>(&self, host: Candidate<'a>, ask: &Ask<'a>) -> Result<(), Why<'a>>;

    /// Keeps those of `slots` that pass and counts the others.
    ///
    /// Provided here so that it is compiled once for each filter, with `check` inlined into the loop.
    #[doc(hidden)]
    fn sweep<'a>(&self, hosts: &'a Hosts, ask: &Ask<'a>, slots: &mut Vec<u32>, tally: &mut Tally<'a>) {
        slots.retain(|&slot| match self.check(hosts.candidate(slot), ask) {
            Ok(()) => true,
            Err(why) => {
                tally.add(why);
                false
            }
        });
    }
}

/// Why a filter rejected a host, beyond the filter's name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Why<'a> {
    /// Words for everybody; empty when the filter's name says all.
    pub text: &'a str,
    /// Words for operators only, such as the reason of a cordon; may be empty.
    pub note: &'a str,
}

impl<'a> Why<'a> {
    /// The filter's name says all.
    pub const PLAIN: Self = Self { text: "", note: "" };

    /// With words for everybody.
    pub const fn because(text: &'a str) -> Self {
        Self { text, note: "" }
    }
}

/// An Instance larger than the whole host, which no freed room will help.
pub(crate) const LARGER_THAN_HOST: Why<'static> = Why::because("larger than the host");

/// Every filter, in the order that profiles use unless told otherwise: cheap and telling ones first.
pub const ALL: [&dyn Filter; 10] = [
    &compute::ComputeFilter,
    &availability_zone::AvailabilityZoneFilter,
    &retry::RetryFilter,
    &volume_locality::VolumeLocalityFilter,
    &image_properties::ImagePropertiesFilter,
    &core::CoreFilter,
    &ram::RamFilter,
    &disk::DiskFilter,
    &server_group_anti_affinity::ServerGroupAntiAffinityFilter,
    &server_group_affinity::ServerGroupAffinityFilter,
];

/// The filter of a name.
pub fn find(name: &str) -> Option<&'static dyn Filter> {
    ALL.into_iter().find(|filter| filter.name() == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_filter_is_found_by_its_own_name_only() {
        let names: BTreeSet<_> = ALL.iter().map(|filter| filter.name()).collect();
        assert_eq!(names.len(), ALL.len());
        for name in names {
            assert_eq!(find(name).unwrap().name(), name);
        }
        assert!(find("NUMATopologyFilter").is_none());
    }
}
