//! A profile: which filters and weighers are in use, and how.

use std::collections::BTreeSet;
use std::num::NonZeroU8;

use serde::{Deserialize, Serialize};

use crate::Options;
use crate::filters::{self, Filter};
use crate::weighers::{self, Weigher};

/// A profile as it is written in configuration. What is left out is as in [`ProfileSpec::default`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ProfileSpec {
    /// Names of filters, in the order in which they run (Nova's `enabled_filters`). What Nova leaves to Placement is
    /// never left out: those filters run after the named ones when they are not named themselves.
    pub filters: Vec<String>,
    /// Weighers with their multipliers (Nova's `*_weight_multiplier`).
    pub weighers: Vec<WeigherSpec>,
    /// Whether to spread, to pack, or to leave it to chance.
    pub strategy: Strategy,
    /// The host is chosen at random among so many of the best (Nova's `host_subset_size`). 1: the best. Hosts of equal
    /// weight are always shuffled (Nova's `shuffle_best_same_weighed_hosts`).
    pub host_subset_size: NonZeroU8,
    /// What filters and weighers are told.
    pub options: Options,
}

/// A weigher and its multiplier.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WeigherSpec {
    /// The weigher's name.
    pub name: String,
    /// How much it counts. Negative turns the preference round; 0 switches it off, but for hosts whose aggregates say
    /// otherwise.
    pub multiplier: f64,
}

/// What to do with room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Strategy {
    /// Prefer emptier hosts, as Nova does unless told.
    #[default]
    Spread,
    /// Prefer fuller hosts: turns the sign of every weigher that measures room, and leaves IoOpsWeigher out, for which the
    /// Instance that was placed last would be a reason to go elsewhere.
    Pack,
    /// Any of the hosts that pass, at random: nothing is weighed (Nova's ChanceScheduler).
    Chance,
}

impl Default for ProfileSpec {
    /// The filters that Nova enables and those that stand for Placement, all weighers with Nova's multipliers, spread,
    /// always the best host.
    fn default() -> Self {
        let weigher = |weigher: &&dyn Weigher| WeigherSpec {
            name: weigher.name().to_owned(),
            multiplier: weigher.default_multiplier(),
        };
        Self {
            filters: filters::DEFAULT.iter().map(|filter| filter.name().to_owned()).collect(),
            weighers: weighers::ALL.iter().map(weigher).collect(),
            strategy: Strategy::Spread,
            host_subset_size: NonZeroU8::MIN,
            options: Options::default(),
        }
    }
}

/// A profile with its filters and weighers found.
#[derive(Debug, Clone)]
pub struct Profile {
    pub(crate) filters: Vec<&'static dyn Filter>,
    /// With multipliers as they are applied, signs turned where they have to be.
    pub(crate) weighers: Vec<(&'static dyn Weigher, f64)>,
    pub(crate) host_subset_size: NonZeroU8,
    pub(crate) options: Options,
}

/// What is wrong with a profile.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ProfileError {
    /// No filter has this name.
    #[error("reading the scheduler profile: there is no filter {0:?}")]
    UnknownFilter(String),
    /// No weigher has this name.
    #[error("reading the scheduler profile: there is no weigher {0:?}")]
    UnknownWeigher(String),
    /// Nova has it, and here it would do nothing or pretend.
    #[error("reading the scheduler profile: {name} can't be used here: {why}")]
    NotHere {
        /// The filter or weigher.
        name: String,
        /// The reason, and what to do instead.
        why: &'static str,
    },
    /// A filter or weigher is named twice.
    #[error("reading the scheduler profile: {0} is named twice")]
    Duplicate(String),
    /// Not a number to multiply with. Beyond a billion the sum of weights would lose the small ones.
    #[error("reading the scheduler profile: the multiplier of {name} is {multiplier}, not between -1e9 and 1e9")]
    Multiplier {
        /// The weigher.
        name: String,
        /// Its multiplier.
        multiplier: f64,
    },
    /// Not a number to weigh with.
    #[error("reading the scheduler profile: {field} is {value}, not between -1e9 and 1e9")]
    Option {
        /// The field's path.
        field: String,
        /// What it says.
        value: f64,
    },
}

/// What Nova has and this crate has not, with the reason.
const NOT_HERE: [(&str, &str); 2] = [
    (
        "TrustedFilter",
        "it asked an attestation service that no longer exists; give hosts that you trust a trait such as \
         CUSTOM_TRUSTED and ask for trait:CUSTOM_TRUSTED=required",
    ),
    (
        "CrossCellWeigher",
        "there are no cells here: one scheduler sees every host",
    ),
];

const LARGEST_MULTIPLIER: f64 = 1e9;

fn unknown(name: &str, otherwise: impl FnOnce(String) -> ProfileError) -> ProfileError {
    match NOT_HERE.iter().find(|(known, _)| *known == name) {
        Some(&(_, why)) => ProfileError::NotHere {
            name: name.to_owned(),
            why,
        },
        None => otherwise(name.to_owned()),
    }
}

impl Profile {
    /// Finds the filters and weighers of a profile. Returns all errors, not the first only.
    pub fn resolve(spec: &ProfileSpec) -> Result<Self, Vec<ProfileError>> {
        let mut errors = Vec::new();
        let mut seen = BTreeSet::new();
        let mut chosen_filters = Vec::new();
        for name in &spec.filters {
            match filters::find(name) {
                None => errors.push(unknown(name, ProfileError::UnknownFilter)),
                Some(_) if !seen.insert(name) => errors.push(ProfileError::Duplicate(name.clone())),
                Some(filter) => chosen_filters.push(filter),
            }
        }
        filters::complete(&mut chosen_filters, &spec.options);
        let mut chosen_weighers = Vec::new();
        for WeigherSpec { name, multiplier } in &spec.weighers {
            match weighers::find(name) {
                None => errors.push(unknown(name, ProfileError::UnknownWeigher)),
                Some(_) if !seen.insert(name) => errors.push(ProfileError::Duplicate(name.clone())),
                Some(_) if !multiplier.is_finite() || multiplier.abs() > LARGEST_MULTIPLIER => {
                    errors.push(ProfileError::Multiplier {
                        name: name.clone(),
                        multiplier: *multiplier,
                    });
                }
                Some(weigher) if spec.strategy == Strategy::Pack && weigher.resists_packing() => {}
                Some(weigher) => {
                    let packs = spec.strategy == Strategy::Pack && weigher.measures_room();
                    let sign = if packs { -weigher.sign() } else { weigher.sign() };
                    chosen_weighers.push((weigher, sign * multiplier));
                }
            }
        }
        errors.extend(spec.options.check());
        if !errors.is_empty() {
            return Err(errors);
        }
        if spec.strategy == Strategy::Chance {
            // All are equal then, and lots decide among equals.
            chosen_weighers.clear();
        }
        Ok(Self {
            filters: chosen_filters,
            weighers: chosen_weighers,
            host_subset_size: spec.host_subset_size,
            options: spec.options.clone(),
        })
    }

    /// Whether anything is asked about the images of Instances that are there.
    pub fn weighs_images(&self) -> bool {
        self.weighers
            .iter()
            .any(|(weigher, multiplier)| weigher.reads_images() && *multiplier != 0.0)
    }

    /// The names of the filters, in the order in which they run.
    pub fn filters(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.filters.iter().map(|filter| filter.name())
    }

    /// The names of the weighers with their multipliers, signs turned where the strategy or the weigher asks for it.
    pub fn weighers(&self) -> impl Iterator<Item = (&'static str, f64)> + '_ {
        self.weighers
            .iter()
            .map(|&(weigher, multiplier)| (weigher.name(), multiplier))
    }
}

impl Default for Profile {
    /// [`ProfileSpec::default`], resolved.
    fn default() -> Self {
        Self {
            filters: filters::DEFAULT.to_vec(),
            weighers: weighers::ALL
                .into_iter()
                .map(|weigher| (weigher, weigher.sign() * weigher.default_multiplier()))
                .collect(),
            host_subset_size: NonZeroU8::MIN,
            options: Options::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn multipliers(profile: &Profile) -> Vec<(&str, f64)> {
        profile
            .weighers
            .iter()
            .map(|(weigher, multiplier)| (weigher.name(), *multiplier))
            .collect()
    }

    #[test]
    fn the_default_profile_is_the_default_spec_resolved() {
        let (resolved, default) = (Profile::resolve(&ProfileSpec::default()).unwrap(), Profile::default());
        let names = |profile: &Profile| profile.filters.iter().map(|filter| filter.name()).collect::<Vec<_>>();
        assert_eq!(names(&resolved), names(&default));
        assert_eq!(multipliers(&resolved), multipliers(&default));
        assert_eq!(resolved.host_subset_size, default.host_subset_size);
    }

    #[test]
    fn packing_turns_the_sign_of_what_measures_room_only() {
        let spec = ProfileSpec {
            strategy: Strategy::Pack,
            ..ProfileSpec::default()
        };
        assert_eq!(
            multipliers(&Profile::resolve(&spec).unwrap()),
            [
                ("RAMWeigher", -1.0),
                ("CPUWeigher", -1.0),
                ("DiskWeigher", -1.0),
                ("MetricsWeigher", 1.0),
                ("ServerGroupSoftAffinityWeigher", 1.0),
                ("ServerGroupSoftAntiAffinityWeigher", 1.0),
                ("BuildFailureWeigher", -1e6),
                ("HypervisorVersionWeigher", 1.0),
                ("NumInstancesWeigher", 0.0),
                ("ImagePropertiesWeigher", 0.0),
                ("PCIWeigher", 1.0),
            ]
        );
    }

    #[test]
    fn chance_weighs_nothing() {
        let spec = ProfileSpec {
            strategy: Strategy::Chance,
            ..ProfileSpec::default()
        };
        assert_eq!(Profile::resolve(&spec).unwrap().weighers().count(), 0);
    }

    #[test]
    fn what_nova_leaves_to_placement_runs_even_when_it_is_not_named() {
        let resolved = |names: &[&str]| {
            let spec = ProfileSpec {
                filters: names.iter().map(ToString::to_string).collect(),
                ..ProfileSpec::default()
            };
            Profile::resolve(&spec).unwrap().filters().collect::<Vec<_>>()
        };
        // What stands in a nova.conf of today.
        let names = [
            "ComputeFilter",
            "ComputeCapabilitiesFilter",
            "ImagePropertiesFilter",
            "ServerGroupAntiAffinityFilter",
            "ServerGroupAffinityFilter",
        ];
        let filters = resolved(&names);
        assert_eq!(filters[..5], names);
        for placement in [
            "AvailabilityZoneFilter",
            "CoreFilter",
            "RamFilter",
            "DiskFilter",
            "TraitsFilter",
            "PciPassthroughFilter",
            "NUMATopologyFilter",
        ] {
            assert!(filters.contains(&placement), "{placement}");
        }
        let filters = resolved(&["AggregateCoreFilter"]);
        assert!(
            !filters.contains(&"CoreFilter") && filters.contains(&"RamFilter"),
            "one stands in for the other"
        );
        assert_eq!(
            resolved(&[]).len(),
            filters::DEFAULT.iter().filter(|filter| filter.is_placement()).count()
        );
    }

    #[test]
    fn required_metrics_bring_their_filter() {
        let mut spec = ProfileSpec::default();
        spec.options.metrics.weights.insert("cpu.percent".to_owned(), -1.0);
        assert!(
            Profile::resolve(&spec)
                .unwrap()
                .filters()
                .any(|name| name == "MetricsFilter")
        );
        spec.options.metrics.required = false;
        assert!(
            !Profile::resolve(&spec)
                .unwrap()
                .filters()
                .any(|name| name == "MetricsFilter")
        );
    }

    #[test]
    fn what_is_not_here_is_refused_with_the_reason() {
        let spec = ProfileSpec {
            filters: vec!["TrustedFilter".to_owned()],
            weighers: vec![WeigherSpec {
                name: "CrossCellWeigher".to_owned(),
                multiplier: 1.0,
            }],
            ..ProfileSpec::default()
        };
        let errors = Profile::resolve(&spec).unwrap_err();
        assert!(
            errors.iter().all(|error| matches!(error, ProfileError::NotHere { .. })),
            "{errors:?}"
        );
        assert_eq!(errors.len(), 2);
        assert!(errors[0].to_string().contains("trait:CUSTOM_TRUSTED=required"));
    }

    #[test]
    fn all_that_is_wrong_with_a_profile_is_told_at_once() {
        let weigher = |name: &str, multiplier| WeigherSpec {
            name: name.to_owned(),
            multiplier,
        };
        let spec = ProfileSpec {
            filters: ["RamFilter", "RamFilter", "HamFilter"].map(str::to_owned).to_vec(),
            weighers: vec![weigher("RAMWeigher", 1e10), weigher("HAMWeigher", 1.0)],
            ..ProfileSpec::default()
        };
        assert_eq!(
            Profile::resolve(&spec).unwrap_err(),
            [
                ProfileError::Duplicate("RamFilter".to_owned()),
                ProfileError::UnknownFilter("HamFilter".to_owned()),
                ProfileError::Multiplier {
                    name: "RAMWeigher".to_owned(),
                    multiplier: 1e10
                },
                ProfileError::UnknownWeigher("HAMWeigher".to_owned()),
            ]
        );
    }
}
