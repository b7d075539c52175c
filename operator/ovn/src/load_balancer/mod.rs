//! Which LoadBalancers are there, and whom does each choose?

mod resolve;
mod rows;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use kube::ResourceExt as _;
use uuid::Uuid;
use virga_core::{
    load_balancer::{Role, is_served, members_network, role},
    selector::selects,
};
use virga_crds::{Instance, LoadBalancer, Port};

pub(crate) use resolve::{Around, Member, Place, ResolvedBalancer};
pub(crate) use rows::{Balanced, balanced, insert, plug, references};

use crate::router::Name;

/// All LoadBalancers of the cluster, their addresses, and the Instances that they may choose.
#[derive(Default)]
pub(crate) struct LoadBalancers {
    by_uid: BTreeMap<Uuid, Arc<LoadBalancer>>,
    names: BTreeMap<Name, Uuid>,
    /// The records of each one's addresses.
    ports: BTreeMap<(Uuid, Role), Arc<Port>>,
    guests: BTreeMap<Name, Guest>,
}

/// What counts of an Instance.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Guest {
    labels: BTreeMap<String, String>,
    /// Whether it may be sent connections.
    served: bool,
}

impl LoadBalancers {
    /// One is there, new or changed. The answer says whether anything that counts is. One that is being deleted balances
    /// nothing any more.
    pub fn set(&mut self, balancer: &Arc<LoadBalancer>) -> Option<Uuid> {
        if balancer.metadata.deletion_timestamp.is_some() {
            return self.remove(balancer);
        }
        let uid = uid(balancer)?;
        let old = self.names.insert(name(balancer), uid);
        if let Some(old) = old.filter(|old| *old != uid) {
            self.by_uid.remove(&old);
        }
        let before = self.by_uid.insert(uid, balancer.clone());
        let same = before.is_some_and(|before| {
            before.spec == balancer.spec && before.metadata.generation == balancer.metadata.generation
        });
        (!same).then_some(uid)
    }

    /// One is gone.
    pub fn remove(&mut self, balancer: &LoadBalancer) -> Option<Uuid> {
        let uid = uid(balancer)?;
        self.by_uid.remove(&uid)?;
        let name = name(balancer);
        if self.names.get(&name) == Some(&uid) {
            self.names.remove(&name);
        }
        Some(uid)
    }

    /// The same LoadBalancers, without Ports and Instances.
    pub fn alone(&mut self) -> Self {
        Self {
            by_uid: std::mem::take(&mut self.by_uid),
            names: std::mem::take(&mut self.names),
            ..Self::default()
        }
    }

    /// These are all there are.
    pub fn reset<'a>(&mut self, balancers: impl IntoIterator<Item = &'a Arc<LoadBalancer>>) {
        (self.by_uid, self.names) = Default::default();
        for balancer in balancers {
            self.set(balancer);
        }
    }

    /// The record of an address is there. The answer is whose, when that changes anything.
    pub fn set_port(&mut self, port: &Arc<Port>) -> Option<Uuid> {
        let key = record(port)?;
        let old = self.ports.insert(key, port.clone());
        (!old.is_some_and(|old| old.spec == port.spec)).then_some(key.0)
    }

    /// It is gone.
    pub fn remove_port(&mut self, port: &Port) -> Option<Uuid> {
        let key = record(port)?;
        let known = self.ports.get(&key)?;
        if known.metadata.uid != port.metadata.uid {
            return None;
        }
        self.ports.remove(&key);
        Some(key.0)
    }

    /// An Instance is there, new or changed. The answer has those that choose it, or did.
    pub fn set_instance(&mut self, instance: &Instance) -> Vec<Uuid> {
        let guest = Guest {
            labels: instance.metadata.labels.clone().unwrap_or_default(),
            served: is_served(instance),
        };
        let name = (instance.namespace().unwrap_or_default(), instance.name_any());
        let old = self.guests.insert(name.clone(), guest.clone());
        if old.as_ref() == Some(&guest) {
            return Vec::new();
        }
        self.choosing(&name.0, &old.iter().chain([&guest]))
    }

    /// An Instance is gone.
    pub fn remove_instance(&mut self, instance: &Instance) -> Vec<Uuid> {
        let name = (instance.namespace().unwrap_or_default(), instance.name_any());
        let old = self.guests.remove(&name);
        self.choosing(&name.0, &old.iter())
    }

    fn choosing<'a>(&self, namespace: &str, guests: &(impl Iterator<Item = &'a Guest> + Clone)) -> Vec<Uuid> {
        let chooses = |balancer: &LoadBalancer| guests.clone().any(|guest| chooses(balancer, guest));
        let within = self.within(namespace);
        within
            .filter(|uid| self.by_uid.get(uid).is_some_and(|balancer| chooses(balancer)))
            .collect()
    }

    /// Those that a guest's Port is, or may be, a member of.
    pub fn to(&self, port: &Port) -> Vec<Uuid> {
        let namespace = port.namespace().unwrap_or_default();
        let guest = self.guests.get(&(namespace.clone(), port.spec.instance.clone()));
        let is_member = |balancer: &LoadBalancer| {
            let spec = &balancer.spec;
            let named = |ip: &String| spec.members.addresses.contains(ip);
            (members_network(balancer) == port.spec.network && guest.is_some_and(|guest| chooses(balancer, guest)))
                || port.spec.addresses.iter().any(|held| named(&held.ip))
        };
        let within = self.within(&namespace);
        within
            .filter(|uid| self.by_uid.get(uid).is_some_and(|balancer| is_member(balancer)))
            .collect()
    }

    /// Those of a namespace, in the order of their names.
    pub fn within(&self, namespace: &str) -> impl Iterator<Item = Uuid> {
        let namespace = namespace.to_owned();
        let from = (namespace.clone(), String::new());
        let names = self.names.range(from..);
        names
            .take_while(move |((of, _), _)| *of == namespace)
            .map(|(_, uid)| *uid)
    }

    pub fn uids(&self) -> impl Iterator<Item = Uuid> {
        self.by_uid.keys().copied()
    }

    pub fn get(&self, uid: Uuid) -> Option<&Arc<LoadBalancer>> {
        self.by_uid.get(&uid)
    }

    /// By namespace and name.
    pub fn named(&self, name: &Name) -> Option<Uuid> {
        self.names.get(name).copied()
    }

    /// The Instances that one chooses, with whether each may be sent connections.
    fn chosen(&self, balancer: &LoadBalancer) -> Vec<(&str, bool)> {
        let namespace = balancer.namespace().unwrap_or_default();
        let from = (namespace.clone(), String::new());
        let within = self.guests.range(from..).take_while(|((of, _), _)| *of == namespace);
        within
            .filter(|(_, guest)| chooses(balancer, guest))
            .map(|((_, name), guest)| (name.as_str(), guest.served))
            .collect()
    }

    /// Where members are asked from.
    fn source(&self, uid: Uuid) -> BTreeSet<std::net::IpAddr> {
        let port = self.ports.get(&(uid, Role::HealthCheck));
        let held = port.into_iter().flat_map(|port| &port.spec.addresses);
        held.filter_map(|held| held.ip.parse().ok()).collect()
    }
}

fn chooses(balancer: &LoadBalancer, guest: &Guest) -> bool {
    let selector = balancer.spec.members.selector.as_ref();
    selector.is_some_and(|selector| selects(selector, Some(&guest.labels)))
}

/// Whose record a Port is, and of what.
fn record(port: &Port) -> Option<(Uuid, Role)> {
    let (role, holder) = role(port)?;
    Some((holder.uid.parse().ok()?, role))
}

fn name(balancer: &LoadBalancer) -> Name {
    (balancer.namespace().unwrap_or_default(), balancer.name_any())
}

fn uid(balancer: &LoadBalancer) -> Option<Uuid> {
    balancer.uid()?.parse().ok()
}
