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

use crate::holders::{Holders, Name, Records, created, name, uid};

pub use gateways::GatewayHosts;
pub(crate) use resolve::{Joint, Look, NetworkSeen, Resolved, everywhere, held};
pub(crate) use rows::{insert, plug};

/// All Routers of the cluster, and their addresses.
#[derive(Default)]
pub(crate) struct Routers {
    pub known: Holders<Router>,
    /// Which Routers name each Network.
    on: BTreeMap<Name, BTreeSet<Uuid>>,
    /// What each was given, by Network.
    pub records: Records<Name>,
    hosts: GatewayHosts,
}

impl Routers {
    /// A Router is there, new or changed. The answer has the Networks that it touches or touched; none: nothing that counts
    /// has changed. One that is being deleted routes no more.
    pub fn set(&mut self, router: &Arc<Router>) -> Option<(Uuid, BTreeSet<Name>)> {
        if router.metadata.deletion_timestamp.is_some() {
            return self.remove(router);
        }
        let before = self.known.named(&name(router.as_ref()));
        let before = before.and_then(|uid| Some((uid, networks(self.known.get(uid)?))));
        let uid = self.known.set(router)?;
        let mut touched = BTreeSet::new();
        if let Some((old, networks)) = before {
            self.leave(old, &networks);
            touched.extend(networks);
        }
        for network in networks(router) {
            self.on.entry(network.clone()).or_default().insert(uid);
            touched.insert(network);
        }
        Some((uid, touched))
    }

    /// A Router is gone.
    pub fn remove(&mut self, router: &Router) -> Option<(Uuid, BTreeSet<Name>)> {
        let named = networks(self.known.get(uid(router)?)?);
        let uid = self.known.remove(router)?;
        self.leave(uid, &named);
        Some((uid, named))
    }

    /// A Router names these Networks no more.
    fn leave(&mut self, router: Uuid, networks: &BTreeSet<Name>) {
        for network in networks {
            if let Some(on) = self.on.get_mut(network) {
                on.remove(&router);
                if on.is_empty() {
                    self.on.remove(network);
                }
            }
        }
    }

    /// The hosts that can be gateways are these. The answer has the Routers that may care.
    pub fn set_hosts(&mut self, hosts: GatewayHosts) -> Vec<Uuid> {
        if self.hosts == hosts {
            return Vec::new();
        }
        self.hosts = hosts;
        let leads_out = |router: &Arc<Router>| router.spec.external_gateway.is_some();
        let all = self.known.uids();
        all.filter(|uid| self.known.get(*uid).is_some_and(leads_out)).collect()
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
        self.known
            .get(router)
            .map(|router| networks(router))
            .unwrap_or_default()
    }

    /// What a Router comes to.
    pub fn resolve(&self, router: Uuid, look: Look<'_>) -> Option<Resolved> {
        let found = self.known.get(router)?;
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
        self.records.get(router, network.clone())
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
            .filter_map(|other| Some((other, self.known.get(other)?)));
        let older = others.filter(|(other, found)| (created(found.as_ref()), *other) < own);
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
