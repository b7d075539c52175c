//! Host aggregates: hosts that operators have put together under a name, with metadata.

use std::collections::{BTreeMap, BTreeSet};

/// A HostAggregate.
///
/// Nova: `nova/objects/aggregate.py`. A host may be in any number of them. What filters see of a host is the metadata of
/// all its aggregates together; where several say different things of one key, all of them hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Aggregate {
    /// Its name.
    pub name: String,
    /// The names of its hosts, registered or not.
    pub hosts: BTreeSet<String>,
    /// The availability zone that its hosts are in, if it makes one. The key `availability_zone` of the metadata says
    /// the same, and counts when this is `None`.
    pub zone: Option<String>,
    /// What it says of its hosts, such as `ssd: "true"`, `filter_tenant_id: shop` or `cpu_weight_multiplier: "2"`.
    pub metadata: BTreeMap<String, String>,
}

/// The metadata key by which an aggregate makes an availability zone.
pub(crate) const ZONE_KEY: &str = "availability_zone";

impl Aggregate {
    /// The zone that it makes.
    pub fn zone(&self) -> Option<&str> {
        self.zone
            .as_deref()
            .or_else(|| self.metadata.get(ZONE_KEY).map(String::as_str))
            .filter(|zone| !zone.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_zone_is_the_field_or_else_the_metadata() {
        let metadata = BTreeMap::from([(ZONE_KEY.to_owned(), "az2".to_owned())]);
        let mut aggregate = Aggregate {
            metadata,
            ..Aggregate::default()
        };
        assert_eq!(aggregate.zone(), Some("az2"));
        aggregate.zone = Some("az1".to_owned());
        assert_eq!(aggregate.zone(), Some("az1"));
        assert_eq!(Aggregate::default().zone(), None);
    }
}
