//! What does the cluster want, and what of it has changed since it was last written?

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use kube::ResourceExt as _;
use uuid::Uuid;
use virga_core::{
    instance::port_of,
    network::{Backend, Purpose, Segment, ValidNetwork, is_given, validate},
    problem::Problems,
};
use virga_crds::{AddressGroup, FloatingIP, Instance, Network, Port, Router, SecurityGroup};

use crate::{
    GatewayHosts,
    floating_ip::{First, FloatingIps},
    holders::{Name, created, name, uid},
    load_balancer::LoadBalancers,
    router::Routers,
    security_group::Groups,
};

mod balanced;
mod known;
mod wanted;

pub use wanted::{Refusal, Wanted};

/// Who had it first: the time of creation, then the uid.
type Age = (i64, Uuid);

/// All Networks and Ports of the cluster, by Network, and all SecurityGroups.
pub struct Cloud {
    owner: Box<str>,
    backend: Backend,
    networks: BTreeMap<Name, Held>,
    /// Where each uid is: rows are known by uids, and objects by names.
    names: BTreeMap<Uuid, Name>,
    /// Who has, or wants, each piece of a physical network.
    segments: BTreeMap<Segment, BTreeSet<Age>>,
    /// The Network that each guest's Port is in.
    places: BTreeMap<Name, Name>,
    groups: Groups,
    routers: Routers,
    floating: FloatingIps,
    balancers: LoadBalancers,
    /// Networks, FloatingIPs, LoadBalancers and Routers whose rows may differ from what they should be.
    changed: BTreeSet<Uuid>,
    /// Whether all rows may, also those of Networks that nobody knows any more.
    everything: bool,
}

#[derive(Default)]
struct Held {
    network: Option<Known>,
    /// By namespace and name: Ports of other namespaces are in Networks that are shared.
    ports: BTreeMap<Name, Arc<Port>>,
}

struct Known {
    uid: Uuid,
    object: Arc<Network>,
    valid: Result<ValidNetwork, Problems>,
}

impl Cloud {
    /// A cloud without Networks, of which nothing was written yet. `owner` is this installation's name for its rows.
    pub fn new(owner: impl Into<Box<str>>, backend: Backend) -> Self {
        Self {
            owner: owner.into(),
            backend,
            networks: BTreeMap::new(),
            places: BTreeMap::new(),
            names: BTreeMap::new(),
            segments: BTreeMap::new(),
            routers: Routers::default(),
            floating: FloatingIps::default(),
            balancers: LoadBalancers::default(),
            groups: Groups::default(),
            changed: BTreeSet::new(),
            everything: true,
        }
    }

    /// A Network is there, new or changed. What only its status says does not count.
    pub fn set_network(&mut self, network: &Arc<Network>) {
        let Some(uid) = uid(network.as_ref()) else { return };
        let name = name(network.as_ref());
        let known = self.networks.get(&name).and_then(|held| held.network.as_ref());
        if known.is_some_and(|known| known.uid == uid && is_as_before(&known.object, network)) {
            return;
        }
        self.forget(&name);
        let mut valid = validate(&network.spec);
        if let Ok(found) = &valid
            && let Err(problems) = self.backend.check(found)
        {
            valid = Err(problems);
        }
        if let Ok(ValidNetwork { segment, .. }) = &valid
            && *segment != Segment::Overlay
        {
            let wanting = self.segments.entry(segment.clone()).or_default();
            wanting.insert((created(network.as_ref()), uid));
            self.changed.extend(wanting.iter().map(|(_, uid)| uid));
        }
        self.names.insert(uid, name.clone());
        self.changed.extend(self.routers.on(&name));
        self.networks.entry(name).or_default().network = Some(Known {
            uid,
            object: network.clone(),
            valid,
        });
        self.changed.insert(uid);
        self.stir_places(&network.namespace().unwrap_or_default());
    }

    /// A Network is gone.
    pub fn remove_network(&mut self, network: &Network) {
        let name = name(network);
        let known = self.networks.get(&name).and_then(|held| held.network.as_ref());
        // Another one may have its name by now.
        if known.is_some_and(|known| Some(known.uid) == uid(network)) {
            self.forget(&name);
            self.stir_places(&name.0);
        }
    }

    fn forget(&mut self, name: &Name) {
        let Some(held) = self.networks.get_mut(name) else {
            return;
        };
        let Some(known) = held.network.take() else { return };
        if held.ports.is_empty() {
            self.networks.remove(name);
        }
        self.names.remove(&known.uid);
        self.changed.insert(known.uid);
        self.changed.extend(self.routers.on(name));
        if let Ok(ValidNetwork { segment, .. }) = &known.valid
            && let Some(wanting) = self.segments.get_mut(segment)
        {
            wanting.remove(&(created(known.object.as_ref()), known.uid));
            self.changed.extend(wanting.iter().map(|(_, uid)| uid));
            if wanting.is_empty() {
                self.segments.remove(segment);
            }
        }
    }

    /// A Router is there, new or changed. What only its status says does not count.
    pub fn set_router(&mut self, router: &Arc<Router>) {
        let touched = self.routers.set(router);
        self.stir(touched);
    }

    /// A Router is gone.
    pub fn remove_router(&mut self, router: &Router) {
        let touched = self.routers.remove(router);
        self.stir(touched);
    }

    /// A FloatingIP is there, new or changed. What only its status says does not count.
    pub fn set_floating_ip(&mut self, floating: &Arc<FloatingIP>) {
        let changed = self.floating.known.set(floating);
        self.stir_floating(&floating.namespace().unwrap_or_default(), changed);
    }

    /// A FloatingIP is gone.
    pub fn remove_floating_ip(&mut self, floating: &FloatingIP) {
        let changed = self.floating.known.remove(floating);
        self.stir_floating(&floating.namespace().unwrap_or_default(), changed);
    }

    /// An Instance is there, new or changed. Which interface is its first one counts, and whether LoadBalancers send there.
    pub fn set_instance(&mut self, instance: &Instance) {
        let first = instance.spec.interfaces.first();
        let name = instance.name_any();
        let first = first.map_or(First::None, |interface| First::Port(port_of(&name, interface)));
        self.instance(instance, Some(&first));
    }

    /// An Instance is gone.
    pub fn remove_instance(&mut self, instance: &Instance) {
        self.instance(instance, None);
    }

    fn instance(&mut self, instance: &Instance, first: Option<&First>) {
        let namespace = instance.namespace().unwrap_or_default();
        let changed = self
            .floating
            .set_instance(&(namespace.clone(), instance.name_any()), first);
        self.stir_floating(&namespace, changed);
        self.balanced_instance(instance, first.is_some());
    }

    /// These FloatingIPs may lead elsewhere now, by another Router of their namespace.
    fn stir_floating(&mut self, namespace: &str, changed: impl IntoIterator<Item = Uuid>) {
        let before = self.changed.len();
        self.changed.extend(changed);
        if self.changed.len() > before {
            self.changed.extend(self.routers.known.by_age(namespace));
        }
    }

    /// The record of a FloatingIP's address has changed.
    fn stir_holder(&mut self, changed: Option<Uuid>) {
        let namespace = changed.and_then(|uid| self.floating.known.get(uid)?.namespace());
        if let Some(namespace) = namespace {
            self.stir_floating(&namespace, changed);
        }
    }

    /// These hosts can be gateways.
    pub fn set_gateway_hosts(&mut self, hosts: GatewayHosts) {
        self.changed.extend(self.routers.set_hosts(hosts));
    }

    /// A Router may differ, its plugs in these Networks too, and what the other Routers there can have.
    fn stir(&mut self, touched: Option<(Uuid, BTreeSet<Name>)>) {
        let Some((router, networks)) = touched else { return };
        self.changed.insert(router);
        let namespaces: BTreeSet<&String> = networks.iter().map(|(namespace, _)| namespace).collect();
        for namespace in namespaces {
            self.stir_places(namespace);
        }
        for name in networks {
            self.changed.extend(self.routers.on(&name));
            let known = self.networks.get(&name).and_then(|held| held.network.as_ref());
            self.changed.extend(known.map(|known| known.uid));
        }
    }

    fn stir_router(&mut self, router: Option<Uuid>) {
        self.stir(router.map(|router| (router, self.routers.networks(router))));
    }

    /// A Port is there, new or changed.
    pub fn set_port(&mut self, port: &Arc<Port>) {
        if let Some((purpose, holder)) = Purpose::of(port) {
            let Ok(holder) = holder.uid.parse() else { return };
            return match purpose {
                Purpose::Router => {
                    let router = self.routers.records.set(holder, network_of(port), port);
                    self.stir_router(router);
                }
                Purpose::FloatingIp => {
                    let floating = self.floating.records.set(holder, (), port);
                    self.stir_holder(floating);
                }
                Purpose::Vip | Purpose::HealthCheck => {
                    let balancer = self.balancers.records.set(holder, purpose, port);
                    self.stir_record(balancer);
                }
            };
        }
        if !is_given(&port.spec) {
            // What it asks for may be another's.
            return;
        }
        let (own, network) = (name(port.as_ref()), network_of(port));
        // One of its name was in another Network, and is gone.
        let before = self.places.insert(own.clone(), network.clone());
        if let Some(before) = before.filter(|before| *before != network) {
            self.unplug(&before, &own);
        }
        let held = self.networks.entry(network).or_default();
        let old = held.ports.insert(own, port.clone());
        let same = |old: &Arc<Port>| old.metadata.uid == port.metadata.uid && is_same(old, port);
        if old.as_ref().is_some_and(same) {
            return;
        }
        self.changed.extend(held.network.as_ref().map(|known| known.uid));
        self.groups.set_port(old.as_deref(), Some(port));
        // It may have been another Instance's.
        let before = old.iter().filter(|old| old.spec.instance != port.spec.instance);
        for port in before.chain([port]) {
            self.stir_members(self.balancers.to(port));
            let leading = self.floating.to(port);
            self.stir_floating(&port.namespace().unwrap_or_default(), leading);
        }
    }

    /// A Port is gone.
    pub fn remove_port(&mut self, port: &Port) {
        if let Some((purpose, holder)) = Purpose::of(port) {
            let Ok(holder) = holder.uid.parse() else { return };
            return match purpose {
                Purpose::Router => {
                    let router = self.routers.records.remove(holder, network_of(port), port);
                    self.stir_router(router);
                }
                Purpose::FloatingIp => {
                    let floating = self.floating.records.remove(holder, (), port);
                    self.stir_holder(floating);
                }
                Purpose::Vip | Purpose::HealthCheck => {
                    let balancer = self.balancers.records.remove(holder, purpose, port);
                    self.stir_record(balancer);
                }
            };
        }
        self.stir_members(self.balancers.to(port));
        let leading = self.floating.to(port);
        self.stir_floating(&port.namespace().unwrap_or_default(), leading);
        let (own, network) = (name(port), network_of(port));
        let held = self.networks.get(&network).and_then(|held| held.ports.get(&own));
        if held.is_some_and(|held| held.metadata.uid == port.metadata.uid) {
            self.places.remove(&own);
            self.unplug(&network, &own);
        }
    }

    /// A Port is in a Network no more.
    fn unplug(&mut self, network: &Name, port: &Name) {
        let Some(held) = self.networks.get_mut(network) else {
            return;
        };
        let old = held.ports.remove(port);
        self.groups.set_port(old.as_deref(), None);
        match &held.network {
            Some(known) => drop(self.changed.insert(known.uid)),
            None if held.ports.is_empty() => drop(self.networks.remove(network)),
            None => {}
        }
    }

    /// A SecurityGroup is there, new or changed. What only its status says does not count.
    pub fn set_group(&mut self, group: &Arc<SecurityGroup>) {
        self.groups.set(group);
    }

    /// A SecurityGroup is gone.
    pub fn remove_group(&mut self, group: &SecurityGroup) {
        self.groups.remove(group);
    }

    /// An AddressGroup is there, new or changed. What only its status says does not count.
    pub fn set_address_group(&mut self, group: &Arc<AddressGroup>) {
        self.groups.set_addresses(group);
    }

    /// An AddressGroup is gone.
    pub fn remove_address_group(&mut self, group: &AddressGroup) {
        self.groups.remove_addresses(group);
    }

    /// These SecurityGroups and AddressGroups are all there are.
    pub fn reset_groups<'a>(
        &mut self,
        groups: impl IntoIterator<Item = &'a Arc<SecurityGroup>>,
        addresses: impl IntoIterator<Item = &'a Arc<AddressGroup>>,
    ) {
        self.groups.reset(groups, addresses);
        self.everything = true;
    }

    /// These are all there are. Everything may have changed.
    pub fn reset<'a>(
        &mut self,
        networks: impl IntoIterator<Item = &'a Arc<Network>>,
        ports: impl IntoIterator<Item = &'a Arc<Port>>,
        routers: impl IntoIterator<Item = &'a Arc<Router>>,
        floating: impl IntoIterator<Item = &'a Arc<FloatingIP>>,
        instances: impl IntoIterator<Item = &'a Arc<Instance>>,
    ) {
        let mut fresh = Self::new(&*self.owner, self.backend);
        fresh.set_gateway_hosts(self.routers.hosts().clone());
        fresh.groups = self.groups.without_ports();
        fresh.balancers = self.balancers.alone();
        networks.into_iter().for_each(|network| fresh.set_network(network));
        ports.into_iter().for_each(|port| fresh.set_port(port));
        routers.into_iter().for_each(|router| fresh.set_router(router));
        instances.into_iter().for_each(|instance| fresh.set_instance(instance));
        floating
            .into_iter()
            .for_each(|floating| fresh.set_floating_ip(floating));
        *self = fresh;
    }

    /// All rows may differ: the database is another one, or somebody has been at it.
    pub fn touch_everything(&mut self) {
        self.everything = true;
    }

    /// The rows of a Network, Router, SecurityGroup or AddressGroup may differ.
    pub fn touch(&mut self, uid: Uuid) {
        self.changed.insert(uid);
        self.groups.touch(uid);
    }

    /// Whether there is something to write.
    pub fn is_dirty(&self) -> bool {
        self.everything || !self.changed.is_empty() || self.groups.is_dirty()
    }
}

/// Whether two versions of a Network have the same rows, and are told of in the same words.
fn is_as_before(old: &Network, new: &Network) -> bool {
    old.spec == new.spec && old.metadata.generation == new.metadata.generation
}

/// Whether two versions of a Port have the same row. Where it is plugged in is the hosts' to know.
fn is_same(old: &Port, new: &Port) -> bool {
    let (old, new) = (&old.spec, &new.spec);
    old.mac == new.mac
        && old.addresses == new.addresses
        && old.hostname == new.hostname
        && old.instance == new.instance
        && old.security_groups == new.security_groups
        && old.allowed_address_pairs == new.allowed_address_pairs
        && old.qos == new.qos
        && old.dhcp_options == new.dhcp_options
        && old.trunk == new.trunk
}

/// The Network that a Port is in.
fn network_of(port: &Port) -> Name {
    let own = port.namespace().unwrap_or_default();
    (port.spec.network_in(&own).to_owned(), port.spec.network.clone())
}
