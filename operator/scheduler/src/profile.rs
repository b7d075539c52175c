//! A profile: which filters and weighers are in use, and how.

use std::collections::BTreeSet;
use std::num::NonZeroU8;

use serde::{Deserialize, Serialize};

use crate::filters::{self, Filter};
use crate::weighers::{self, Weigher};

/// A profile as it is written in configuration. What is left out is as in [`ProfileSpec::default`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ProfileSpec {
    /// Names of filters, in the order in which they run (Nova's `enabled_filters`).
    pub filters: Vec<String>,
    /// Weighers with their multipliers (Nova's `*_weight_multiplier`).
    pub weighers: Vec<WeigherSpec>,
    /// Whether to spread or to pack.
    pub strategy: Strategy,
    /// The host is chosen at random among so many of the best (Nova's `host_subset_size`). 1: the best.
    pub host_subset_size: NonZeroU8,
}

/// A weigher and its multiplier.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WeigherSpec {
    /// The weigher's name.
    pub name: String,
    /// How much it counts. Negative turns the preference round; 0 switches it off.
    pub multiplier: f64,
}

/// What to do with room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Strategy {
    /// Prefer emptier hosts, as Nova does unless told.
    #[default]
    Spread,
    /// Prefer fuller hosts: turns the sign of every weigher that measures room.
    Pack,
}

impl Default for ProfileSpec {
    /// All filters, all weighers with multiplier 1, spread, always the best host.
    fn default() -> Self {
        let weigher = |weigher: &&dyn Weigher| WeigherSpec {
            name: weigher.name().to_owned(),
            multiplier: 1.0,
        };
        Self {
            filters: filters::ALL.iter().map(|filter| filter.name().to_owned()).collect(),
            weighers: weighers::ALL.iter().map(weigher).collect(),
            strategy: Strategy::Spread,
            host_subset_size: NonZeroU8::MIN,
        }
    }
}

/// A profile with its filters and weighers found.
#[derive(Debug, Clone)]
pub struct Profile {
    pub(crate) filters: Vec<&'static dyn Filter>,
    pub(crate) weighers: Vec<(&'static dyn Weigher, f64)>,
    pub(crate) host_subset_size: NonZeroU8,
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
}

const LARGEST_MULTIPLIER: f64 = 1e9;

impl Profile {
    /// Finds the filters and weighers of a profile. Returns all errors, not the first only.
    pub fn resolve(spec: &ProfileSpec) -> Result<Self, Vec<ProfileError>> {
        let mut errors = Vec::new();
        let mut seen = BTreeSet::new();
        let mut chosen_filters = Vec::new();
        for name in &spec.filters {
            match filters::find(name) {
                None => errors.push(ProfileError::UnknownFilter(name.clone())),
                Some(_) if !seen.insert(name) => errors.push(ProfileError::Duplicate(name.clone())),
                Some(filter) => chosen_filters.push(filter),
            }
        }
        let mut chosen_weighers = Vec::new();
        for WeigherSpec { name, multiplier } in &spec.weighers {
            match weighers::find(name) {
                None => errors.push(ProfileError::UnknownWeigher(name.clone())),
                Some(_) if !seen.insert(name) => errors.push(ProfileError::Duplicate(name.clone())),
                Some(_) if !multiplier.is_finite() || multiplier.abs() > LARGEST_MULTIPLIER => {
                    errors.push(ProfileError::Multiplier {
                        name: name.clone(),
                        multiplier: *multiplier,
                    });
                }
                Some(weigher) if spec.strategy == Strategy::Pack && weigher.measures_room() => {
                    chosen_weighers.push((weigher, -multiplier));
                }
                Some(weigher) => chosen_weighers.push((weigher, *multiplier)),
            }
        }
        if errors.is_empty() {
            Ok(Self {
                filters: chosen_filters,
                weighers: chosen_weighers,
                host_subset_size: spec.host_subset_size,
            })
        } else {
            Err(errors)
        }
    }
}

impl Default for Profile {
    /// [`ProfileSpec::default`], resolved.
    fn default() -> Self {
        Self {
            filters: filters::ALL.to_vec(),
            weighers: weighers::ALL.into_iter().map(|weigher| (weigher, 1.0)).collect(),
            host_subset_size: NonZeroU8::MIN,
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
                ("ServerGroupSoftAffinityWeigher", 1.0),
                ("ServerGroupSoftAntiAffinityWeigher", 1.0),
            ]
        );
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
