//! Which filters hold when nobody says otherwise?
//!
//! Nova enables five filters and leaves the rest to the operator; a hint or a key of an aggregate whose filter is not
//! enabled is then silently ignored. Here every filter is enabled that only acts when some resource says so: what is
//! written is never ignored. The ratios that aggregates name are taken over with each host (see [`super::host`]), so that
//! CoreFilter, RamFilter and DiskFilter hold them too.

use virga_scheduler::{Profile, ProfileSpec};

/// What users ask for with hints.
const OF_HINTS: [&str; 4] = [
    "DifferentHostFilter",
    "SameHostFilter",
    "JsonFilter",
    "SimpleCIDRAffinityFilter",
];

/// What operators ask for with the metadata of aggregates.
const OF_AGGREGATES: [&str; 6] = [
    "AggregateInstanceExtraSpecsFilter",
    "AggregateMultiTenancyIsolation",
    "AggregateTypeAffinityFilter",
    "AggregateImagePropertiesIsolation",
    "AggregateIoOpsFilter",
    "AggregateNumInstancesFilter",
];

/// The profile of a controller that was told nothing else.
pub fn standard() -> ProfileSpec {
    let mut spec = ProfileSpec::default();
    spec.filters
        .extend(OF_AGGREGATES.iter().chain(&OF_HINTS).map(ToString::to_string));
    // These two limit what an aggregate limits, and nothing else.
    spec.options.max_io_ops_per_host = u32::MAX;
    spec.options.max_instances_per_host = u32::MAX;
    spec
}

/// The same, resolved.
pub(super) fn resolved() -> Profile {
    Profile::resolve(&standard()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_profile_can_be_resolved_and_holds_every_filter_that_acts_on_what_is_written() {
        let profile = Profile::resolve(&standard()).unwrap();
        let filters: Vec<&str> = profile.filters().collect();
        for name in OF_HINTS.iter().chain(&OF_AGGREGATES) {
            assert!(filters.contains(name), "{name}");
        }
    }
}
