//! Which Ports are in which group, whom do its rules name, and whose rows change with a change?

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use kube::ResourceExt as _;
use uuid::Uuid;
use virga_core::security_group::{self, of_port};
use virga_crds::{AddressGroup, Port, SecurityGroup};
use virga_ovsdb::{northbound::LogicalSwitchPort, reconcile::Desired, table::Ref};

use super::addresses::AddressGroups;

/// `namespace`, `name`.
pub(super) type Name = (String, String);

/// What a rule names.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Remote {
    Group(Name),
    Addresses(Name),
}

/// All SecurityGroups of the cluster with their Ports, and all AddressGroups.
#[derive(Default)]
pub(crate) struct Groups {
    known: BTreeMap<Name, (Uuid, Arc<SecurityGroup>)>,
    names: BTreeMap<Uuid, Name>,
    /// By group, whether it is there or not: its Ports by uid, and their Networks.
    members: BTreeMap<Name, BTreeMap<Uuid, Name>>,
    addresses: AddressGroups,
    /// By group, whether it is there or not: those whose rules name it.
    named_by: BTreeMap<Remote, BTreeSet<Name>>,
    /// Groups whose rows may differ from what they should be.
    changed: BTreeSet<Uuid>,
}

impl Groups {
    /// The same groups, without a Port.
    pub(crate) fn without_ports(&mut self) -> Self {
        let mut empty = std::mem::take(self);
        empty.members.clear();
        empty
    }

    /// A group is there, new or changed. What only its status says does not count.
    pub(crate) fn set(&mut self, group: &Arc<SecurityGroup>) {
        let Some(uid) = group.uid().and_then(|uid| uid.parse().ok()) else {
            return;
        };
        let name = place(group.as_ref());
        let before = self.known.get(&name);
        let same = |(known, old): &(Uuid, Arc<SecurityGroup>)| {
            *known == uid && old.spec == group.spec && old.metadata.generation == group.metadata.generation
        };
        if before.is_some_and(same) {
            return;
        }
        if before.is_none_or(|(known, _)| *known != uid) {
            self.forget(&name);
            self.touch_those_that_name(&Remote::Group(name.clone()));
        }
        self.unname(&name);
        for remote in remotes(group, &name.0) {
            self.named_by.entry(remote).or_default().insert(name.clone());
        }
        self.names.insert(uid, name.clone());
        self.known.insert(name, (uid, group.clone()));
        self.changed.insert(uid);
    }

    /// A group is gone.
    pub(crate) fn remove(&mut self, group: &SecurityGroup) {
        let name = place(group);
        // Another one may have its name by now.
        let known = self.known.get(&name).map(|(uid, _)| uid.to_string());
        if known.is_some() && known == group.uid() {
            self.forget(&name);
            self.touch_those_that_name(&Remote::Group(name));
        }
    }

    /// An AddressGroup is there, new or changed. What only its status says does not count.
    pub(crate) fn set_addresses(&mut self, group: &Arc<AddressGroup>) {
        let name = place(group.as_ref());
        let known = self.addresses.uid(&name);
        let Some((uid, before)) = self.addresses.set(group) else {
            return;
        };
        self.changed.extend(before.into_iter().chain([uid]));
        if known != Some(uid) {
            self.touch_those_that_name(&Remote::Addresses(name));
        }
    }

    /// An AddressGroup is gone.
    pub(crate) fn remove_addresses(&mut self, group: &AddressGroup) {
        if let Some(uid) = self.addresses.remove(group) {
            self.changed.insert(uid);
            self.touch_those_that_name(&Remote::Addresses(place(group)));
        }
    }

    /// These are all there are.
    pub(crate) fn reset<'a>(
        &mut self,
        groups: impl IntoIterator<Item = &'a Arc<SecurityGroup>>,
        addresses: impl IntoIterator<Item = &'a Arc<AddressGroup>>,
    ) {
        let members = std::mem::take(&mut self.members);
        *self = Self {
            members,
            ..Self::default()
        };
        addresses.into_iter().for_each(|group| self.set_addresses(group));
        groups.into_iter().for_each(|group| self.set(group));
    }

    fn forget(&mut self, name: &Name) {
        self.unname(name);
        if let Some((uid, _)) = self.known.remove(name) {
            self.names.remove(&uid);
            self.changed.insert(uid);
        }
    }

    fn unname(&mut self, name: &Name) {
        let Some((_, group)) = self.known.get(name) else {
            return;
        };
        for remote in remotes(group, &name.0) {
            if let Some(by) = self.named_by.get_mut(&remote) {
                by.remove(name);
                if by.is_empty() {
                    self.named_by.remove(&remote);
                }
            }
        }
    }

    fn touch_those_that_name(&mut self, remote: &Remote) {
        let by = self.named_by.get(remote).into_iter().flatten();
        let by = by.filter_map(|name| self.known.get(name));
        self.changed.extend(by.map(|(uid, _)| *uid));
    }

    /// A Port is there instead of an older one, or gone.
    pub(crate) fn set_port(&mut self, old: Option<&Port>, new: Option<&Port>) {
        let (before, after) = (old.map(places).unwrap_or_default(), new.map(places).unwrap_or_default());
        for (group, port, _) in before.difference(&after) {
            if let Some(members) = self.members.get_mut(group) {
                members.remove(port);
                if members.is_empty() {
                    self.members.remove(group);
                }
            }
        }
        for (group, port, network) in &after {
            self.members
                .entry(group.clone())
                .or_default()
                .insert(*port, network.clone());
        }
        let groups = before.symmetric_difference(&after).map(|(group, ..)| group);
        let known = groups.filter_map(|group| self.known.get(group));
        self.changed.extend(known.map(|(uid, _)| *uid));
    }

    /// The rows of a group may differ.
    pub(crate) fn touch(&mut self, group: Uuid) {
        self.changed.insert(group);
    }

    /// Whether there is something to write.
    pub(crate) fn is_dirty(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Those that have changed, and from now on have not.
    pub(crate) fn take(&mut self) -> BTreeSet<Uuid> {
        std::mem::take(&mut self.changed)
    }

    /// All that are there.
    pub(crate) fn all(&self) -> impl Iterator<Item = Uuid> {
        self.names
            .keys()
            .copied()
            .chain(self.addresses.names().map(|(uid, _)| uid))
    }

    /// The groups of a Port, as far as they are there.
    pub(crate) fn of(&self, port: &Port) -> impl Iterator<Item = Uuid> {
        let namespace = port.namespace().unwrap_or_default();
        of_port(&port.spec).into_iter().filter_map(move |group| {
            let (uid, _) = self.known.get(&(namespace.clone(), group.to_owned()))?;
            Some(*uid)
        })
    }

    /// The namespace and name of a SecurityGroup.
    pub(crate) fn name(&self, group: Uuid) -> Option<(&str, &str)> {
        let (namespace, name) = self.names.get(&group)?;
        Some((namespace, name))
    }

    /// The namespace and name of an AddressGroup.
    pub(crate) fn addresses_name(&self, group: Uuid) -> Option<(&str, &str)> {
        let (namespace, name) = self.addresses.name(group)?;
        Some((namespace, name))
    }

    /// The generation of a SecurityGroup or AddressGroup that is there.
    pub(crate) fn generation(&self, group: Uuid) -> Option<i64> {
        let known = self.names.get(&group).and_then(|name| self.known.get(name));
        match known {
            Some((_, known)) => known.metadata.generation,
            None => self.addresses.generation(group),
        }
    }

    /// The AddressGroups that wait to be written, as far as they are there: namespace and name.
    pub(crate) fn waiting_addresses(&self, everything: bool) -> impl Iterator<Item = (&str, &str)> {
        let names = self.addresses.names();
        let names = names.filter(move |(uid, _)| everything || self.changed.contains(uid));
        names.map(|(_, (namespace, name))| (namespace.as_str(), name.as_str()))
    }

    /// The SecurityGroups that wait to be written, as far as they are there: namespace and name.
    pub(crate) fn waiting(&self, everything: bool) -> impl Iterator<Item = (&str, &str)> {
        let names = self.names.iter();
        let names = names.filter(move |(uid, _)| everything || self.changed.contains(*uid));
        names.map(|(_, (namespace, name))| (namespace.as_str(), name.as_str()))
    }

    /// Adds the rows of a group. `row` is that of a Port of a Network, if it is one that rules are for.
    pub(crate) fn insert(
        &self,
        desired: &mut Desired,
        group: Uuid,
        row: impl Fn(&Name, Uuid) -> Option<Ref<LogicalSwitchPort>>,
    ) {
        self.addresses.insert(desired, group);
        let Some(name) = self.names.get(&group) else { return };
        let Some((_, object)) = self.known.get(name) else {
            return;
        };
        let members = self.members.get(name).into_iter().flatten();
        let ports = members.filter_map(|(port, network)| row(network, *port)).collect();
        super::insert(desired, group, object, ports, |remote| match named(remote, &name.0) {
            Remote::Group(name) => self.known.get(&name).map(|(uid, _)| *uid),
            Remote::Addresses(name) => self.addresses.uid(&name),
        });
    }
}

/// The groups that a Port is in, itself, and its Network.
fn places(port: &Port) -> BTreeSet<(Name, Uuid, Name)> {
    let namespace = port.namespace().unwrap_or_default();
    let Some(uid) = port.uid().and_then(|uid| uid.parse().ok()) else {
        return BTreeSet::new();
    };
    let within = |name: &str| (namespace.clone(), name.to_owned());
    let network = (port.spec.network_in(&namespace).to_owned(), port.spec.network.clone());
    let groups = of_port(&port.spec).into_iter();
    groups.map(|group| (within(group), uid, network.clone())).collect()
}

/// What the rules of a group in this namespace name.
fn remotes(group: &SecurityGroup, namespace: &str) -> impl Iterator<Item = Remote> {
    security_group::remotes(group).map(move |(_, remote)| named(remote, namespace))
}

fn named(remote: security_group::Remote<'_>, namespace: &str) -> Remote {
    let (_, namespace, name) = remote.place(namespace);
    let name = (namespace.to_owned(), name.to_owned());
    match remote {
        security_group::Remote::Group(_) => Remote::Group(name),
        security_group::Remote::Addresses(_) => Remote::Addresses(name),
    }
}

fn place(object: &impl kube::ResourceExt) -> Name {
    (object.namespace().unwrap_or_default(), object.name_any())
}
