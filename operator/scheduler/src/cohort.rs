//! What a host's aggregates say of it, all together.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::str::FromStr;

use crate::Ratio;
use crate::aggregate::{Aggregate, ZONE_KEY};

/// The hosts that are in the same aggregates: filters about aggregates are asked once for all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Cohort {
    /// Names of the aggregates.
    pub(crate) aggregates: BTreeSet<String>,
    /// The zone that they make, if any.
    pub(crate) zone: Option<String>,
    /// Every key with the values that the aggregates give it (Nova's `aggregate_values_from_key`).
    pub(crate) values: BTreeMap<String, BTreeSet<String>>,
    /// The same, with lists taken apart at commas (Nova's `aggregate_metadata_get_by_host`).
    pub(crate) metadata: BTreeMap<String, BTreeSet<String>>,
}

impl Cohort {
    /// The least of a key's values, as Nova's `validate_num_values` has it. `None` when there is none, or when one of them
    /// can't be read.
    pub(crate) fn least<T: FromStr + PartialOrd>(&self, key: &str) -> Option<T> {
        let mut least: Option<T> = None;
        for text in self.values.get(key)? {
            let value: T = text.trim().parse().ok()?;
            if least.as_ref().is_none_or(|least| value < *least) {
                least = Some(value);
            }
        }
        least
    }

    /// An allocation ratio, such as `ram_allocation_ratio`.
    pub(crate) fn ratio(&self, key: &str) -> Option<Ratio> {
        self.least(key)
    }

    /// A weigher's multiplier, such as `cpu_weight_multiplier`.
    pub(crate) fn multiplier(&self, key: &str) -> Option<f64> {
        self.least(key)
            .filter(|multiplier: &f64| multiplier.is_finite() && multiplier.abs() <= 1e9)
    }
}

/// All aggregates, and which of them each host is in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Aggregates {
    by_name: BTreeMap<String, Aggregate>,
    of_host: HashMap<String, BTreeSet<String>>,
}

impl Aggregates {
    /// Adds an aggregate or replaces what was known of it. Returns the hosts that it concerns.
    pub(crate) fn upsert(&mut self, aggregate: Aggregate) -> BTreeSet<String> {
        if self.by_name.get(&aggregate.name) == Some(&aggregate) {
            return BTreeSet::new();
        }
        let mut hosts = self.remove(&aggregate.name);
        for host in &aggregate.hosts {
            self.of_host
                .entry(host.clone())
                .or_default()
                .insert(aggregate.name.clone());
        }
        hosts.extend(aggregate.hosts.iter().cloned());
        self.by_name.insert(aggregate.name.clone(), aggregate);
        hosts
    }

    /// Forgets an aggregate. Returns the hosts that it concerned.
    pub(crate) fn remove(&mut self, name: &str) -> BTreeSet<String> {
        let Some(old) = self.by_name.remove(name) else {
            return BTreeSet::new();
        };
        for host in &old.hosts {
            if let Some(names) = self.of_host.get_mut(host) {
                names.remove(name);
                if names.is_empty() {
                    self.of_host.remove(host);
                }
            }
        }
        old.hosts
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Aggregate> + '_ {
        self.by_name.values()
    }

    /// The aggregates of a host, by name.
    fn of<'a>(&'a self, host: &str) -> impl Iterator<Item = &'a Aggregate> + use<'a> {
        let names = self.of_host.get(host).into_iter().flatten();
        names.filter_map(|name| self.by_name.get(name))
    }

    /// What a host's aggregates say of it.
    pub(crate) fn cohort(&self, host: &str) -> Cohort {
        let mut cohort = Cohort::default();
        for aggregate in self.of(host) {
            cohort.aggregates.insert(aggregate.name.clone());
            let zone = aggregate.zone();
            if cohort.zone.is_none() {
                cohort.zone = zone.map(str::to_owned);
            }
            let given = aggregate
                .metadata
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_str()));
            let given = given
                .filter(|(key, _)| *key != ZONE_KEY)
                .chain(zone.map(|zone| (ZONE_KEY, zone)));
            for (key, value) in given {
                cohort
                    .values
                    .entry(key.to_owned())
                    .or_default()
                    .insert(value.to_owned());
                let parts = value.split(',').map(|part| part.trim().to_owned());
                cohort.metadata.entry(key.to_owned()).or_default().extend(parts);
            }
        }
        cohort
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::aggregate;

    fn aggregates(all: Vec<Aggregate>) -> Aggregates {
        let mut aggregates = Aggregates::default();
        for aggregate in all {
            aggregates.upsert(aggregate);
        }
        aggregates
    }

    #[test]
    fn values_of_several_aggregates_are_a_set_and_the_least_number_counts() {
        let known = aggregates(vec![
            aggregate(
                "a",
                &["node-1"],
                &[("max_io_ops_per_host", "20"), ("ssd", "true, nvme")],
            ),
            aggregate("b", &["node-1"], &[("max_io_ops_per_host", "7"), ("ssd", "false")]),
            aggregate("c", &["node-2"], &[("max_io_ops_per_host", "1")]),
        ]);
        let cohort = known.cohort("node-1");
        assert_eq!(cohort.least::<u32>("max_io_ops_per_host"), Some(7));
        assert_eq!(
            cohort.values["ssd"],
            BTreeSet::from(["false".to_owned(), "true, nvme".to_owned()])
        );
        assert_eq!(
            cohort.metadata["ssd"],
            BTreeSet::from(["false", "nvme", "true"].map(str::to_owned))
        );
        assert_eq!(known.cohort("node-9"), Cohort::default());
    }

    #[test]
    fn one_value_that_is_no_number_spoils_them_all_as_in_nova() {
        let known = aggregates(vec![
            aggregate("a", &["node-1"], &[("cpu_weight_multiplier", "2")]),
            aggregate("b", &["node-1"], &[("cpu_weight_multiplier", "much")]),
        ]);
        assert_eq!(known.cohort("node-1").multiplier("cpu_weight_multiplier"), None);
    }

    #[test]
    fn of_several_zones_the_first_aggregate_s_by_name_holds() {
        let zone = |name: &str, zone: &str| Aggregate {
            zone: Some(zone.to_owned()),
            ..aggregate(name, &["node-1"], &[])
        };
        let known = aggregates(vec![zone("b", "az2"), zone("a", "az1"), zone("c", "az1")]);
        assert_eq!(known.cohort("node-1").zone.as_deref(), Some("az1"));
    }

    #[test]
    fn nothing_is_left_of_an_aggregate_that_is_gone() {
        let mut known = aggregates(vec![aggregate("a", &["node-1", "node-2"], &[])]);
        let concerned = known.upsert(aggregate("a", &["node-2", "node-3"], &[]));
        assert_eq!(concerned.len(), 3);
        assert_eq!(
            known.upsert(aggregate("a", &["node-2", "node-3"], &[])).len(),
            0,
            "nothing has changed"
        );
        known.remove("a");
        assert!(known.of_host.is_empty() && known.by_name.is_empty());
    }
}
