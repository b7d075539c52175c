//! What changes with a LoadBalancer, and what of it with the rest of its namespace?

use std::sync::Arc;

use kube::ResourceExt as _;
use uuid::Uuid;
use virga_crds::{Instance, LoadBalancer};
use virga_ovsdb::reconcile::Desired;

use super::{Cloud, Name};
use crate::{
    load_balancer::{self, Around, ResolvedBalancer},
    router::{Look, Resolved},
    switch::Sharing,
};

impl Cloud {
    /// A LoadBalancer is there, new or changed. What only its status says does not count.
    pub fn set_load_balancer(&mut self, balancer: &Arc<LoadBalancer>) {
        let changed = self.balancers.known.set(balancer);
        self.stir_switches(&balancer.namespace().unwrap_or_default(), changed, &balancer.name_any());
    }

    /// A LoadBalancer is gone.
    pub fn remove_load_balancer(&mut self, balancer: &LoadBalancer) {
        let changed = self.balancers.known.remove(balancer);
        self.stir_switches(&balancer.namespace().unwrap_or_default(), changed, &balancer.name_any());
    }

    /// These LoadBalancers are all there are.
    pub fn reset_load_balancers<'a>(&mut self, balancers: impl IntoIterator<Item = &'a Arc<LoadBalancer>>) {
        self.balancers.reset(balancers);
        self.everything = true;
    }

    /// The LoadBalancers that wait to be written: namespace and name.
    pub fn waiting_load_balancers(&self) -> impl Iterator<Item = Name> {
        self.waiting_of(&self.balancers.known)
    }

    /// The namespace and name of a LoadBalancer.
    pub fn load_balancer_name(&self, balancer: Uuid) -> Option<Name> {
        self.balancers.known.name(balancer)
    }

    /// The generation of a LoadBalancer.
    pub fn load_balancer_generation(&self, balancer: Uuid) -> Option<i64> {
        self.balancers.known.generation(balancer)
    }

    /// One is new, another one, or gone: the switches that it is in may be others.
    fn stir_switches(&mut self, namespace: &str, changed: Option<Uuid>, balancer: &str) {
        if changed.is_none() {
            return;
        }
        self.changed.extend(changed);
        self.stir_leading(&(namespace.to_owned(), balancer.to_owned()));
        let from = (namespace.to_owned(), String::new());
        let within = self.networks.range(from..).take_while(|((of, _), _)| of == namespace);
        let known = within.filter_map(|(_, held)| held.network.as_ref());
        let known: Vec<Uuid> = known.map(|known| known.uid).collect();
        self.changed.extend(known);
    }

    /// A Network or a Router of the namespace has changed: so may have the places of all LoadBalancers there.
    pub(super) fn stir_places(&mut self, namespace: &str) {
        let all = self.balancers.known.within(namespace);
        let all: Vec<(Uuid, String)> = all.map(|(uid, balancer)| (uid, balancer.name_any())).collect();
        for (uid, name) in all {
            self.stir_switches(namespace, Some(uid), &name);
        }
    }

    /// These have other members.
    pub(super) fn stir_members(&mut self, balancers: Vec<Uuid>) {
        for balancer in balancers {
            self.changed.insert(balancer);
            if let Some(name) = self.load_balancer_name(balancer) {
                self.stir_leading(&name);
            }
        }
    }

    /// The addresses outside that lead to a LoadBalancer share out as it does.
    fn stir_leading(&mut self, balancer: &Name) {
        let leading = self.floating.to_balancer(balancer);
        self.stir_floating(&balancer.0, leading);
    }

    /// The record of an address of a LoadBalancer has changed.
    pub(super) fn stir_record(&mut self, holder: Option<Uuid>) {
        if let Some((namespace, name)) = holder.and_then(|holder| self.load_balancer_name(holder)) {
            self.stir_switches(&namespace, holder, &name);
        }
    }

    /// An Instance is there, or gone (`false`).
    pub(super) fn balanced_instance(&mut self, instance: &Instance, is_there: bool) {
        let changed = if is_there {
            self.balancers.set_instance(instance)
        } else {
            self.balancers.remove_instance(instance)
        };
        self.stir_members(changed);
    }

    /// What a LoadBalancer comes to.
    pub(super) fn balancer(&self, uid: Uuid, look: Look<'_>) -> Option<ResolvedBalancer> {
        let (namespace, _) = self.load_balancer_name(uid)?;
        let routers = self.routers_of(&namespace, look);
        let plug = |name: &str| self.plug(&namespace, name);
        let at = |network: &Name, address: std::net::IpAddr| {
            let ports = &self.networks.get(network)?.ports;
            let text = address.to_string();
            let mut found = ports.values();
            found
                .find(|port| port.spec.addresses.iter().any(|held| held.ip == text))
                .cloned()
        };
        let around = Around {
            look,
            routers: &routers,
            plug: &plug,
            at: &at,
        };
        self.balancers.resolve(uid, &around)
    }

    /// The Routers of a namespace, the oldest first.
    pub(super) fn routers_of(&self, namespace: &str, look: Look<'_>) -> Vec<Resolved> {
        let routers = self.routers.known.by_age(namespace).into_iter();
        routers.filter_map(|uid| self.routers.resolve(uid, look)).collect()
    }

    /// Adds the plugs of LoadBalancers in a Network's switch, and says which share out what is sent there.
    pub(super) fn sharing(&self, desired: &mut Desired, network: &Name, uid: Uuid, look: Look<'_>) -> Sharing {
        let mut sharing = Sharing::default();
        let mut within = self.balancers.known.within(&network.0).peekable();
        if within.peek().is_none() {
            return sharing;
        }
        let routers = self.routers_of(&network.0, look);
        for (balancer, object) in within {
            let Some(Ok(place)) = self.balancers.place(balancer, look, &routers) else {
                continue;
            };
            if !place.networks.contains(network) {
                continue;
            }
            let protocols = object.spec.listeners.iter().map(|listener| listener.protocol);
            sharing.balancers.extend(load_balancer::references(balancer, protocols));
            if place.network == uid {
                let name = format!("{}/{}", network.0, object.name_any());
                sharing.plugs.insert(load_balancer::plug(desired, balancer, &name, uid));
            }
        }
        sharing
    }
}
