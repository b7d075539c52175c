//! Which Routers are there, and which Networks does each touch?

mod advertised;
mod gateways;
mod resolve;
mod rows;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use kube::ResourceExt as _;
use uuid::Uuid;
use virga_core::network::ValidNetwork;
use virga_crds::{Port, Router, RouterNetwork};

pub use gateways::GatewayHosts;
pub(crate) use resolve::{Joint, Look, NetworkSeen, Resolved, everywhere, held};
pub(crate) use rows::{insert, plug};

/// `namespace`, `name`.
pub(crate) type Name = (String, String);

/// All Routers of the cluster, and their addresses.
#[derive(Default)]
pub(crate) struct Routers {
    by_uid: BTreeMap<Uuid, Arc<Router>>,
    names: BTreeMap<Name, Uuid>,
    /// Which Routers name each Network.
    on: BTreeMap<Name, BTreeSet<Uuid>>,
    /// What each was given, by Network.
    ports: BTreeMap<Uuid, BTreeMap<Name, Arc<Port>>>,
    hosts: GatewayHosts,
}

impl Routers {
    /// A Router is there, new or changed. The answer has the Networks that it touches or touched; none: nothing that counts
    /// has changed. One that is being deleted routes no more.
    pub fn set(&mut self, router: &Arc<Router>) -> Option<(Uuid, BTreeSet<Name>)> {
        if router.metadata.deletion_timestamp.is_some() {
            return self.remove(router);
        }
        let uid = uid(router.as_ref())?;
        let name = name(router.as_ref());
        let old = self.names.get(&name).and_then(|old| self.by_uid.get(old));
        if old.is_some_and(|old| is_as_before(old, router)) {
            return None;
        }
        let mut touched = BTreeSet::new();
        if let Some(old) = old.cloned() {
            touched.extend(self.forget(&old));
        }
        for network in networks(router) {
            self.on.entry(network.clone()).or_default().insert(uid);
            touched.insert(network);
        }
        self.names.insert(name, uid);
        self.by_uid.insert(uid, router.clone());
        Some((uid, touched))
    }

    /// A Router is gone.
    pub fn remove(&mut self, router: &Router) -> Option<(Uuid, BTreeSet<Name>)> {
        let uid = uid(router)?;
        let known = self.by_uid.get(&uid).cloned()?;
        Some((uid, self.forget(&known)))
    }

    fn forget(&mut self, router: &Router) -> BTreeSet<Name> {
        let Some(uid) = uid(router) else { return BTreeSet::new() };
        self.by_uid.remove(&uid);
        self.names.remove(&name(router));
        let named = networks(router);
        for network in &named {
            if let Some(on) = self.on.get_mut(network) {
                on.remove(&uid);
                if on.is_empty() {
                    self.on.remove(network);
                }
            }
        }
        named
    }

    /// A Port that is an address of a Router is there. The answer is the Router, when that changes anything.
    pub fn set_port(&mut self, port: &Arc<Port>) -> Option<Uuid> {
        let router = holder(port)?;
        let old = self
            .ports
            .entry(router)
            .or_default()
            .insert(network_of(port), port.clone());
        let same = old.is_some_and(|old| old.spec == port.spec && old.metadata.uid == port.metadata.uid);
        (!same).then_some(router)
    }

    /// It is gone.
    pub fn remove_port(&mut self, port: &Port) -> Option<Uuid> {
        let router = holder(port)?;
        let held = self.ports.get_mut(&router)?;
        let network = network_of(port);
        if held
            .get(&network)
            .is_none_or(|known| known.metadata.uid != port.metadata.uid)
        {
            return None;
        }
        held.remove(&network);
        if held.is_empty() {
            self.ports.remove(&router);
        }
        Some(router)
    }

    /// The hosts that can be gateways are these. The answer has the Routers that may care.
    pub fn set_hosts(&mut self, hosts: GatewayHosts) -> Vec<Uuid> {
        if self.hosts == hosts {
            return Vec::new();
        }
        self.hosts = hosts;
        let outward = self
            .by_uid
            .iter()
            .filter(|(_, router)| router.spec.external_gateway.is_some());
        outward.map(|(uid, _)| *uid).collect()
    }

    pub fn hosts(&self) -> &GatewayHosts {
        &self.hosts
    }

    /// The Routers that name a Network.
    pub fn on(&self, network: &Name) -> impl Iterator<Item = Uuid> {
        self.on.get(network).into_iter().flatten().copied()
    }

    /// The Networks that a Router names.
    pub fn networks(&self, router: Uuid) -> BTreeSet<Name> {
        self.by_uid
            .get(&router)
            .map(|router| networks(router))
            .unwrap_or_default()
    }

    /// The Routers of a namespace, the oldest first.
    pub fn within(&self, namespace: &str) -> Vec<Uuid> {
        let from = (namespace.to_owned(), String::new());
        let named = self.names.range(from..).take_while(|((of, _), _)| of == namespace);
        let mut found: Vec<(i64, Uuid)> = named
            .filter_map(|(_, uid)| Some((created(self.by_uid.get(uid)?), *uid)))
            .collect();
        found.sort_unstable();
        found.into_iter().map(|(_, uid)| uid).collect()
    }

    pub fn uids(&self) -> impl Iterator<Item = Uuid> {
        self.by_uid.keys().copied()
    }

    pub fn get(&self, router: Uuid) -> Option<&Arc<Router>> {
        self.by_uid.get(&router)
    }

    /// What a Router comes to.
    pub fn resolve(&self, router: Uuid, look: Look<'_>) -> Option<Resolved> {
        let found = self.by_uid.get(&router)?;
        Some(resolve::resolve(self, found, router, look))
    }

    /// The Routers' ports in a Network, each with its Router's uid and name.
    pub fn joints(&self, network: &Name, look: Look<'_>) -> Vec<(Uuid, String, Joint)> {
        let resolved = self.on(network).filter_map(|router| self.resolve(router, look));
        let joints = resolved.filter_map(|resolved| {
            let Resolved { uid, name, joints, .. } = resolved;
            let joint = joints.into_iter().find(|joint| joint.name == *network)?;
            Some((uid, name, joint))
        });
        joints.collect()
    }

    /// What a Router was given in a Network.
    fn port(&self, router: Uuid, network: &Name) -> Option<&Arc<Port>> {
        self.ports.get(&router)?.get(network)
    }

    /// The name of an older Router that has, or wants, the same address of a Network.
    fn has_before(
        &self,
        uid: Uuid,
        router: &Router,
        network: &Name,
        address: IpAddr,
        valid: &ValidNetwork,
    ) -> Option<String> {
        let own = (created(router), uid);
        let others = self
            .on(network)
            .filter_map(|other| Some((other, self.by_uid.get(&other)?)));
        let older = others.filter(|(other, found)| (created(found), *other) < own);
        let wants = |joined: &RouterNetwork| {
            let asked: Option<IpAddr> = joined.address.as_deref().and_then(|text| text.parse().ok());
            let of_subnets = || {
                let subnets = valid.subnets.iter();
                let mut named = subnets.filter(|subnet| {
                    joined
                        .subnet
                        .as_ref()
                        .is_none_or(|subnet_name| *subnet_name == subnet.name)
                });
                named.any(|subnet| subnet.gateway == Some(address))
            };
            asked.map_or_else(of_subnets, |asked| asked == address)
        };
        let has = |found: &Router| {
            let mut joined = found.spec.networks.iter().filter(|joined| joined.network == network.1);
            found.namespace().as_deref() == Some(&network.0) && joined.any(wants)
        };
        older
            .filter(|(_, found)| has(found))
            .map(|(_, found)| found.name_any())
            .next()
    }
}

/// The Networks that a Router names.
fn networks(router: &Router) -> BTreeSet<Name> {
    let own = router.namespace().unwrap_or_default();
    let external = router.spec.external_gateway.iter().map(|gateway| {
        let network = &gateway.network;
        (
            network.namespace.clone().unwrap_or_else(|| own.clone()),
            network.name.clone(),
        )
    });
    let joined = router
        .spec
        .networks
        .iter()
        .map(|joined| (own.clone(), joined.network.clone()));
    joined.chain(external).collect()
}

/// The Router that a Port is an address of.
fn holder(port: &Port) -> Option<Uuid> {
    port.spec.router.as_ref()?.uid.parse().ok()
}

fn network_of(port: &Port) -> Name {
    (port.namespace().unwrap_or_default(), port.spec.network.clone())
}

fn is_as_before(old: &Router, new: &Router) -> bool {
    old.metadata.uid == new.metadata.uid && old.spec == new.spec && old.metadata.generation == new.metadata.generation
}

fn name(router: &Router) -> Name {
    (router.namespace().unwrap_or_default(), router.name_any())
}

fn uid(router: &Router) -> Option<Uuid> {
    router.uid()?.parse().ok()
}

fn created(router: &Router) -> i64 {
    let created = router.metadata.creation_timestamp.as_ref();
    created.map_or(i64::MAX, |time| time.0.as_second())
}
