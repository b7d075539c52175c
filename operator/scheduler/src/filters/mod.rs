//! Filters: which hosts can take a request at all.
//!
//! Each file is one rule under the name that Nova gives it. A host that a filter rejects is not shown to later filters
//! and is counted under the filter that rejected it, as in Nova.

mod aggregate_image_properties_isolation;
mod aggregate_instance_extra_specs;
mod aggregate_io_ops;
mod aggregate_membership;
mod aggregate_multi_tenancy_isolation;
mod aggregate_num_instances;
mod aggregate_ratio;
mod aggregate_type_affinity;
mod all_hosts;
mod availability_zone;
mod compute;
mod compute_capabilities;
mod core;
mod different_host;
mod disk;
mod image_properties;
mod io_ops;
mod isolated_aggregates;
mod isolated_hosts;
mod json;
mod metrics;
mod num_instances;
mod numa_topology;
mod pci_passthrough;
mod ram;
mod requested_host;
mod resource_class;
mod retry;
mod same_host;
mod server_group_affinity;
mod server_group_anti_affinity;
mod simple_cidr_affinity;
mod traits;
mod volume_locality;

use std::fmt::Debug;

use crate::attribute::Number;
use crate::bits::Bits;
use crate::bound::Bound;
use crate::cohort::Cohort;
use crate::comparison::Comparison;
use crate::hosts::Hosts;
use crate::{Ask, Aspects, Candidate, Options, Ratio};

/// One rule about hosts.
pub trait Filter: Debug + Sync {
    /// The name in profiles and in messages.
    fn name(&self) -> &'static str;

    /// What of a host the rule looks at for this request. A refused request is tried again when one of these changes.
    fn reads(&self, ask: &Ask<'_>) -> Aspects;

    /// Whether the rule says anything about this request. Asked once a decision.
    fn applies(&self, _ask: &Ask<'_>) -> bool {
        true
    }

    /// Whether it guards what is given out, as in Nova Placement does, so that no profile goes without it.
    fn is_placement(&self) -> bool {
        false
    }

    /// The rule of Placement that it takes the place of.
    fn stands_in_for(&self) -> Option<&'static str> {
        None
    }

    /// Whether the host passes: the rule itself.
    fn check<'a>(&self, host: Candidate<'a>, ask: &Ask<'a>) -> Result<(), Why<'a>>;

    /// What there is to say of one host that does not pass, where that is more than [`check`](Self::check) says: words
    /// with numbers in them, which differ from host to host.
    fn at_length(&self, _host: Candidate<'_>, _ask: &Ask<'_>) -> Option<String> {
        None
    }

    /// Takes those out of `left` that do not pass. The same as [`check`](Self::check) of each, but most rules can do it
    /// for many hosts at once.
    #[doc(hidden)]
    fn sweep(&self, hosts: &Hosts, ask: &Ask<'_>, left: &mut Bits) {
        left.retain(|slot| self.check(hosts.candidate(slot), ask).is_ok());
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

/// The filters that profiles use unless told otherwise, cheap and telling ones first: those that Nova enables, those that
/// stand for Placement, and those for cells and devices, without which a guest would be promised what is not there.
pub const DEFAULT: [&dyn Filter; 17] = [
    &compute::ComputeFilter,
    &availability_zone::AvailabilityZoneFilter,
    &requested_host::RequestedHostFilter,
    &retry::RetryFilter,
    &volume_locality::VolumeLocalityFilter,
    &image_properties::ImagePropertiesFilter,
    &compute_capabilities::ComputeCapabilitiesFilter,
    &traits::TraitsFilter,
    &aggregate_membership::AggregateMembershipFilter,
    &core::CoreFilter,
    &ram::RamFilter,
    &disk::DiskFilter,
    &resource_class::ResourceClassFilter,
    &server_group_anti_affinity::ServerGroupAntiAffinityFilter,
    &server_group_affinity::ServerGroupAffinityFilter,
    &pci_passthrough::PciPassthroughFilter,
    &numa_topology::NUMATopologyFilter,
];

/// The filters that a profile has to name.
pub const OTHERS: [&dyn Filter; 19] = [
    &all_hosts::AllHostsFilter,
    &aggregate_instance_extra_specs::AggregateInstanceExtraSpecsFilter,
    &aggregate_multi_tenancy_isolation::AggregateMultiTenancyIsolation,
    &aggregate_type_affinity::AggregateTypeAffinityFilter,
    &aggregate_image_properties_isolation::AggregateImagePropertiesIsolation,
    &io_ops::IoOpsFilter,
    &aggregate_io_ops::AggregateIoOpsFilter,
    &num_instances::NumInstancesFilter,
    &aggregate_num_instances::AggregateNumInstancesFilter,
    &isolated_hosts::IsolatedHostsFilter,
    &isolated_aggregates::IsolatedAggregatesFilter,
    &json::JsonFilter,
    &metrics::MetricsFilter,
    &different_host::DifferentHostFilter,
    &same_host::SameHostFilter,
    &simple_cidr_affinity::SimpleCIDRAffinityFilter,
    &aggregate_ratio::CORE,
    &aggregate_ratio::RAM,
    &aggregate_ratio::DISK,
];

/// Every filter.
pub fn all() -> impl Iterator<Item = &'static dyn Filter> {
    DEFAULT.into_iter().chain(OTHERS)
}

/// The filter of a name.
pub fn find(name: &str) -> Option<&'static dyn Filter> {
    all().find(|filter| filter.name() == name)
}

/// Adds what no profile goes without: what stands for Placement, and MetricsFilter where metrics are required.
pub(crate) fn complete(filters: &mut Vec<&'static dyn Filter>, options: &Options) {
    let metrics = options.metrics.required && !options.metrics.weights.is_empty();
    for filter in all() {
        let name = filter.name();
        let needed = filter.is_placement() || metrics && name == "MetricsFilter";
        let there = |known: &&'static dyn Filter| known.name() == name || known.stands_in_for() == Some(name);
        if needed && !filters.iter().any(there) {
            filters.push(filter);
        }
    }
}

/// Keeps the hosts in a list of slots.
fn keep_slots(hosts: &Hosts, slots: &[u32], left: &mut Bits) {
    let mut kept = hosts.none();
    for &slot in slots {
        kept.set(slot, left.contains(slot));
    }
    *left = kept;
}

/// Whether a host passes by what its aggregates say together. One that is in none passes.
fn by_aggregates<'a>(host: Candidate<'_>, passes: impl FnOnce(&Cohort) -> bool) -> Result<(), Why<'a>> {
    if host.cohort().is_none_or(passes) {
        Ok(())
    } else {
        Err(Why::PLAIN)
    }
}

/// What is asked of one amount of a host, and how much of it is given out.
struct Given {
    asked: u64,
    used: u128,
    capacity: u64,
    reserved: u64,
    ratio: Ratio,
}

/// `(capacity − reserved) × ratio ≥ used + asked`, and `asked ≤ capacity`. Who asks for nothing fits.
fn fits<'a>(given: &Given) -> Result<(), Why<'a>> {
    let Given {
        asked,
        used,
        capacity,
        reserved,
        ratio,
    } = *given;
    let limit = ratio.of(capacity.saturating_sub(reserved));
    if asked > capacity {
        Err(LARGER_THAN_HOST)
    } else if asked == 0 || u128::from(limit) >= used + u128::from(asked) {
        Ok(())
    } else {
        Err(Why::PLAIN)
    }
}

/// Whether a number is below what the host's aggregates say, the least of several, or below `most`.
fn is_below(host: Candidate<'_>, number: Number, key: &str, most: u32) -> bool {
    let said = host.cohort().and_then(|cohort| cohort.least::<u32>(key));
    number.of(host).unwrap_or(0.0) < f64::from(said.unwrap_or(most))
}

/// Keeps the hosts that [are below](is_below).
///
/// Most are below the least of all; only the others are asked one by one.
fn keep_below(hosts: &Hosts, number: Number, key: &str, most: u32, left: &mut Bits) {
    let limits = hosts.cohorts().values().filter_map(|cohort| cohort.least::<u32>(key));
    let least = limits.chain([most]).min().unwrap_or(most);
    let mut sure = left.clone();
    if let Some(bound) = Bound::new(number, Comparison::Less, f64::from(least)) {
        bound.keep(hosts, &mut sure);
    }
    left.drop_all(&sure);
    left.retain(|slot| is_below(hosts.candidate(slot), number, key, most));
    left.add_all(&sure);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_filter_is_found_by_its_own_name_only() {
        let names: BTreeSet<_> = all().map(Filter::name).collect();
        assert_eq!(names.len(), DEFAULT.len() + OTHERS.len());
        for name in names {
            assert_eq!(find(name).unwrap().name(), name);
        }
        assert!(find("TrustedFilter").is_none());
    }
}
