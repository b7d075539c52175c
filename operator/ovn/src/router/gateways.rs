//! Which hosts can be a Router's gateway?

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

/// How many hosts stand in for one another: as many as Neutron takes.
const MOST: usize = 5;

/// The hosts that can lead to the outside, as the south-bound database knows them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum GatewayHosts {
    /// It has not been read yet: what is written stays.
    #[default]
    Unknown,
    /// Nobody has said where it is.
    NotConfigured,
    /// The physical networks that each chassis has a bridge to.
    Known(BTreeMap<String, BTreeSet<String>>),
}

impl GatewayHosts {
    /// The chassis for a Router, the one that comes first in front; none: it is not known which.
    ///
    /// Each Router has an order of its own, so the work is shared out, and a host more or less changes the place of no
    /// other: of the Routers only those change their gateway that get a better one, or lose theirs.
    pub(super) fn of(&self, router: Uuid, physical: &str) -> Option<Vec<String>> {
        let known = match self {
            Self::Unknown => return None,
            Self::NotConfigured => return Some(Vec::new()),
            Self::Known(known) => known,
        };
        let able = known.iter().filter(|(_, networks)| networks.contains(physical));
        let mut ranked: Vec<(Uuid, &String)> = able
            .map(|(chassis, _)| (Uuid::new_v5(&router, chassis.as_bytes()), chassis))
            .collect();
        ranked.sort();
        Some(
            ranked
                .into_iter()
                .take(MOST)
                .map(|(_, chassis)| chassis.clone())
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(count: u32) -> GatewayHosts {
        let host = |number| (format!("node-{number}"), BTreeSet::from(["physnet".to_owned()]));
        GatewayHosts::Known((0..count).map(host).collect())
    }

    #[test]
    fn at_most_five_hosts_and_another_order_for_each_router() {
        let router = Uuid::from_u128(1);
        let of = |count, router| hosts(count).of(router, "physnet").unwrap();
        assert_eq!(of(3, router).len(), 3);
        assert_eq!(of(30, router).len(), 5);
        let first: BTreeSet<String> = (0..40).map(|router| of(3, Uuid::from_u128(router)).remove(0)).collect();
        assert_eq!(first.len(), 3, "all have work");
        assert_eq!(hosts(3).of(router, "other"), Some(Vec::new()));
        assert_eq!(GatewayHosts::Unknown.of(router, "physnet"), None);
    }

    #[test]
    fn a_host_that_goes_leaves_the_others_in_their_order() {
        let router = Uuid::from_u128(7);
        let all = hosts(4).of(router, "physnet").unwrap();
        let GatewayHosts::Known(mut known) = hosts(4) else {
            panic!()
        };
        known.remove(&all[1]);
        let left = GatewayHosts::Known(known).of(router, "physnet").unwrap();
        assert_eq!(left, [all[0].clone(), all[2].clone(), all[3].clone()]);
    }
}
