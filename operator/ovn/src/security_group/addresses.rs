//! Which AddressGroups are there, and which rows are they?

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use kube::ResourceExt as _;
use uuid::Uuid;
use virga_crds::AddressGroup;
use virga_ovsdb::{northbound::AddressSet, reconcile::Desired};

use super::index::Name;

/// What an operator finds a group by.
const GROUP: &str = "virga.dev/address-group";

/// All AddressGroups of the cluster.
#[derive(Default)]
pub(super) struct AddressGroups {
    known: BTreeMap<Name, (Uuid, Arc<AddressGroup>)>,
    names: BTreeMap<Uuid, Name>,
}

impl AddressGroups {
    /// A group is there, new or changed: the uids of the one and of another that had its name before. None when only its
    /// status is new.
    pub(super) fn set(&mut self, group: &Arc<AddressGroup>) -> Option<(Uuid, Option<Uuid>)> {
        let uid = group.uid()?.parse().ok()?;
        let name = name(group);
        let same = |(known, old): &(Uuid, Arc<AddressGroup>)| {
            *known == uid && old.spec == group.spec && old.metadata.generation == group.metadata.generation
        };
        if self.known.get(&name).is_some_and(same) {
            return None;
        }
        let before = self.known.insert(name.clone(), (uid, group.clone()));
        let before = before.map(|(known, _)| known).filter(|known| *known != uid);
        before.map(|before| self.names.remove(&before));
        self.names.insert(uid, name);
        Some((uid, before))
    }

    /// A group is gone: its uid, unless another one has its name by now.
    pub(super) fn remove(&mut self, group: &AddressGroup) -> Option<Uuid> {
        let name = name(group);
        let (uid, _) = self.known.get(&name)?;
        let uid = group.uid().filter(|found| *found == uid.to_string()).map(|_| *uid)?;
        self.known.remove(&name);
        self.names.remove(&uid);
        Some(uid)
    }

    /// The uid of the group of this name.
    pub(super) fn uid(&self, name: &Name) -> Option<Uuid> {
        self.known.get(name).map(|(uid, _)| *uid)
    }

    /// The uids and names of all.
    pub(super) fn names(&self) -> impl Iterator<Item = (Uuid, &Name)> {
        self.names.iter().map(|(uid, name)| (*uid, name))
    }

    /// The name of a group.
    pub(super) fn name(&self, group: Uuid) -> Option<&Name> {
        self.names.get(&group)
    }

    /// The generation of a group.
    pub(super) fn generation(&self, group: Uuid) -> Option<i64> {
        self.known.get(self.names.get(&group)?)?.1.metadata.generation
    }

    /// Adds the rows of a group: a set for each family, also an empty one, as rules must not name what isn't there.
    pub(super) fn insert(&self, desired: &mut Desired, group: Uuid) {
        let Some((name, (uid, object))) = self
            .names
            .get(&group)
            .and_then(|name| Some((name, self.known.get(name)?)))
        else {
            return;
        };
        let ranges = ranges(&object.spec.addresses);
        for (family, v4) in [("ip4", true), ("ip6", false)] {
            let of_family = ranges.iter().filter(|range| range.network().is_ipv4() == v4);
            let row = AddressSet {
                name: format!("{}_{family}", set_of(*uid)),
                addresses: of_family.map(written).collect(),
                external_ids: [(GROUP.to_owned(), format!("{}/{}", name.0, name.1))].into(),
            };
            desired.insert(format!("ag/{uid}/{family}"), &row);
        }
    }
}

/// How expressions call a group, before the family.
pub(super) fn set_of(group: Uuid) -> String {
    format!("ag_{}", group.simple())
}

/// The same addresses in as few ranges as can be, so that none is said twice. What is neither address nor range is none.
fn ranges(addresses: &[String]) -> Vec<IpNet> {
    let range = |said: &String| {
        let one = said.parse::<IpAddr>().map(IpNet::from);
        one.or_else(|_| said.parse::<IpNet>().map(|range| range.trunc())).ok()
    };
    let ranges = IpNet::aggregate(&addresses.iter().filter_map(range).collect());
    ranges.into_iter().flat_map(halves).collect()
}

/// A set can't have all addresses as one: an expression with a mask of nothing is none that compares.
fn halves(range: IpNet) -> Vec<IpNet> {
    match (range.prefix_len(), range.subnets(1)) {
        (0, Ok(halves)) => halves.collect(),
        _ => vec![range],
    }
}

fn written(range: &IpNet) -> String {
    if range.prefix_len() == range.max_prefix_len() {
        range.addr().to_string()
    } else {
        range.to_string()
    }
}

fn name(group: &AddressGroup) -> Name {
    (group.namespace().unwrap_or_default(), group.name_any())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_says_each_address_once() {
        let said = |addresses: &[&str]| -> Vec<String> {
            let addresses: Vec<String> = addresses.iter().map(|address| (*address).to_owned()).collect();
            let mut said: Vec<String> = ranges(&addresses).iter().map(written).collect();
            said.sort();
            said
        };
        assert_eq!(said(&["10.0.0.0/9", "10.128.0.0/9", "10.1.2.3"]), ["10.0.0.0/8"]);
        assert_eq!(
            said(&["10.0.0.5/32", "fd00::1", "fd00::/64"]),
            ["10.0.0.5", "fd00::/64"]
        );
        assert_eq!(
            said(&["0.0.0.0/0", "::/0"]),
            ["0.0.0.0/1", "128.0.0.0/1", "8000::/1", "::/1"]
        );
        assert_eq!(said(&["10.0.0.1, $everybody", ""]), [""; 0]);
    }
}
