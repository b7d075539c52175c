//! What filters and weighers are told by the operator: the options of Nova's `[filter_scheduler]` and `[metrics]`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::ProfileError;

/// Options of filters and weighers. What is left out is as Nova has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Options {
    /// IoOpsFilter, AggregateIoOpsFilter: a host takes no further Instance when so many operations run. 8.
    pub max_io_ops_per_host: u32,
    /// NumInstancesFilter, AggregateNumInstancesFilter: a host takes no further Instance when it has so many. 50.
    pub max_instances_per_host: u32,
    /// IsolatedHostsFilter: names of hosts for isolated images.
    pub isolated_hosts: BTreeSet<String>,
    /// IsolatedHostsFilter: UIDs of images for isolated hosts.
    pub isolated_images: BTreeSet<String>,
    /// IsolatedHostsFilter: whether isolated hosts take isolated images only. True.
    pub restrict_isolated_hosts_to_isolated_images: bool,
    /// ImagePropertiesFilter: the architecture of images that name none.
    pub image_properties_default_architecture: Option<String>,
    /// ImagePropertiesWeigher: what each property counts, by name. When empty, every property counts 1.
    pub image_properties_weights: BTreeMap<String, f64>,
    /// MetricsFilter and MetricsWeigher.
    pub metrics: MetricsOptions,
}

/// Options about metrics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct MetricsOptions {
    /// What each metric counts, by name (Nova's `weight_setting`).
    pub weights: BTreeMap<String, f64>,
    /// Whether a host must report all of them. True. Nova then fails a request when some host does not; here such hosts
    /// are rejected, as if MetricsFilter had been named.
    pub required: bool,
    /// What a host measures that does not report all of them. -10000.
    pub weight_of_unavailable: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_io_ops_per_host: 8,
            max_instances_per_host: 50,
            isolated_hosts: BTreeSet::new(),
            isolated_images: BTreeSet::new(),
            restrict_isolated_hosts_to_isolated_images: true,
            image_properties_default_architecture: None,
            image_properties_weights: BTreeMap::new(),
            metrics: MetricsOptions::default(),
        }
    }
}

impl Default for MetricsOptions {
    fn default() -> Self {
        Self {
            weights: BTreeMap::new(),
            required: true,
            weight_of_unavailable: -10_000.0,
        }
    }
}

impl MetricsOptions {
    /// Σ metric × its weight, or what a host measures that lacks one.
    pub(crate) fn sum(&self, metrics: &BTreeMap<String, f64>) -> f64 {
        let mut sum = 0.0;
        for (name, weight) in &self.weights {
            match metrics.get(name) {
                Some(value) => sum += value * weight,
                None if *weight == 0.0 => {}
                None => return self.weight_of_unavailable,
            }
        }
        // Products of finite numbers may still be too large for one.
        if sum.is_finite() {
            sum
        } else {
            self.weight_of_unavailable
        }
    }
}

const LARGEST: f64 = 1e9;

impl Options {
    /// All that is wrong with them.
    pub(crate) fn check(&self) -> Vec<ProfileError> {
        let weights = |field: &'static str, weights: &BTreeMap<String, f64>| {
            let wrong = |&(_, weight): &(&String, &f64)| !(weight.is_finite() && weight.abs() <= LARGEST);
            let error = |(name, &value): (&String, &f64)| ProfileError::Option {
                field: format!("{field}[{name}]"),
                value,
            };
            weights.iter().filter(wrong).map(error).collect::<Vec<_>>()
        };
        let mut errors = weights("options.imagePropertiesWeights", &self.image_properties_weights);
        errors.extend(weights("options.metrics.weights", &self.metrics.weights));
        let unavailable = self.metrics.weight_of_unavailable;
        if !(unavailable.is_finite() && unavailable.abs() <= LARGEST) {
            errors.push(ProfileError::Option {
                field: "options.metrics.weightOfUnavailable".to_owned(),
                value: unavailable,
            });
        }
        errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(pairs: &[(&str, f64)]) -> BTreeMap<String, f64> {
        pairs.iter().map(|&(name, value)| (name.to_owned(), value)).collect()
    }

    #[test]
    fn metrics_are_summed_by_their_weights_and_one_missing_counts_for_all() {
        let options = MetricsOptions {
            weights: named(&[("cpu.percent", -1.0), ("net", 2.0), ("unused", 0.0)]),
            ..MetricsOptions::default()
        };
        let sum = |metrics: &[(&str, f64)]| options.sum(&named(metrics)).to_string();
        assert_eq!(sum(&[("cpu.percent", 30.0), ("net", 5.0)]), "-20");
        assert_eq!(sum(&[("cpu.percent", 30.0)]), "-10000");
        assert_eq!(sum(&[("cpu.percent", -1e308), ("net", 1e308)]), "-10000", "infinite");
    }

    #[test]
    fn what_is_no_number_to_weigh_with_is_told_with_its_field() {
        let mut options = Options::default();
        assert_eq!(options.check(), []);
        options.metrics.weights = named(&[("cpu.percent", f64::NAN)]);
        options.metrics.weight_of_unavailable = -1e10;
        options.image_properties_weights = named(&[("os_distro", f64::INFINITY)]);
        assert_eq!(options.check().len(), 3);
    }
}
