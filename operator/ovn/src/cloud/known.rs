//! What is each object called, and which of them wait to be written?

use kube::{Resource, core::object::HasSpec};
use uuid::Uuid;

use super::Cloud;
use crate::holders::{Holders, Name, uid};

impl Cloud {
    /// The Networks that wait to be written, as far as they are there: namespace and name.
    pub fn waiting(&self) -> impl Iterator<Item = (&str, &str)> {
        self.names
            .iter()
            .filter(|(uid, _)| self.everything || self.changed.contains(*uid))
            .map(|(_, (namespace, name))| (namespace.as_str(), name.as_str()))
    }

    /// The SecurityGroups that wait to be written, as far as they are there: namespace and name.
    pub fn waiting_groups(&self) -> impl Iterator<Item = (&str, &str)> {
        self.groups.waiting(self.everything)
    }

    /// The namespace and name of a SecurityGroup.
    pub fn group_name(&self, group: Uuid) -> Option<(&str, &str)> {
        self.groups.name(group)
    }

    /// The AddressGroups that wait to be written, as far as they are there: namespace and name.
    pub fn waiting_address_groups(&self) -> impl Iterator<Item = (&str, &str)> {
        self.groups.waiting_addresses(self.everything)
    }

    /// The namespace and name of an AddressGroup.
    pub fn address_group_name(&self, group: Uuid) -> Option<(&str, &str)> {
        self.groups.addresses_name(group)
    }

    /// The generation of a SecurityGroup or AddressGroup.
    pub fn group_generation(&self, group: Uuid) -> Option<i64> {
        self.groups.generation(group)
    }

    /// The namespace and name of a Network.
    pub fn name(&self, network: Uuid) -> Option<(&str, &str)> {
        let (namespace, name) = self.names.get(&network)?;
        Some((namespace, name))
    }

    /// Those of a kind that wait to be written.
    pub(super) fn waiting_of<K>(&self, all: &Holders<K>) -> impl Iterator<Item = Name>
    where
        K: Resource<DynamicType = ()> + HasSpec<Spec: PartialEq>,
    {
        let waiting = all.uids().filter(|uid| self.everything || self.changed.contains(uid));
        waiting.filter_map(|uid| all.name(uid))
    }

    /// The Routers that wait to be written: namespace and name.
    pub fn waiting_routers(&self) -> impl Iterator<Item = Name> {
        self.waiting_of(&self.routers.known)
    }

    /// The namespace and name of a Router.
    pub fn router_name(&self, router: Uuid) -> Option<Name> {
        self.routers.known.name(router)
    }

    /// The generation of a Router.
    pub fn router_generation(&self, router: Uuid) -> Option<i64> {
        self.routers.known.generation(router)
    }

    /// The FloatingIPs that wait to be written: namespace and name.
    pub fn waiting_floating_ips(&self) -> impl Iterator<Item = Name> {
        self.waiting_of(&self.floating.known)
    }

    /// The namespace and name of a FloatingIP.
    pub fn floating_ip_name(&self, floating: Uuid) -> Option<Name> {
        self.floating.known.name(floating)
    }

    /// The generation of a Network.
    pub fn generation(&self, network: Uuid) -> Option<i64> {
        let known = self.networks.get(self.names.get(&network)?)?.network.as_ref()?;
        known.object.metadata.generation
    }

    /// The namespace and name of a Port of a Network.
    pub fn port_name(&self, network: Uuid, port: Uuid) -> Option<(&str, &str)> {
        let place = self.names.get(&network)?;
        let mut ports = self.networks.get(place)?.ports.iter();
        let ((namespace, name), _) = ports.find(|(_, found)| uid(found.as_ref()) == Some(port))?;
        Some((namespace, name))
    }
}
