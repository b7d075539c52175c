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
    instance::{plugs, port_name},
    load_balancer::{is_served, members_network},
    network::Purpose,
    selector::selects,
};
use virga_crds::{Instance, LoadBalancer, Port};

pub(crate) use resolve::{Around, Member, Place, ResolvedBalancer};
pub(crate) use rows::{Balanced, balanced, insert, plug, references};

use crate::holders::{Holders, Name, Records};

/// All LoadBalancers of the cluster, their addresses, and the Instances that they may choose.
#[derive(Default)]
pub(crate) struct LoadBalancers {
    pub known: Holders<LoadBalancer>,
    /// The records of each one's addresses.
    pub records: Records<Purpose>,
    guests: BTreeMap<Name, Guest>,
}

/// What counts of an Instance.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Guest {
    labels: BTreeMap<String, String>,
    /// Whether it may be sent connections.
    served: bool,
    /// The Ports that its interfaces name, by Network; the others are its own.
    named: BTreeMap<String, String>,
}

impl LoadBalancers {
    /// The same LoadBalancers, without Ports and Instances.
    pub fn alone(&mut self) -> Self {
        Self {
            known: std::mem::take(&mut self.known),
            ..Self::default()
        }
    }

    /// These are all there are.
    pub fn reset<'a>(&mut self, balancers: impl IntoIterator<Item = &'a Arc<LoadBalancer>>) {
        self.known = Holders::default();
        for balancer in balancers {
            self.known.set(balancer);
        }
    }

    /// An Instance is there, new or changed. The answer has those that choose it, or did.
    pub fn set_instance(&mut self, instance: &Instance) -> Vec<Uuid> {
        let named = plugs(&instance.spec).filter_map(|plug| {
            let port = plug.interface.port.clone()?;
            Some((plug.interface.network.clone(), port))
        });
        let guest = Guest {
            labels: instance.metadata.labels.clone().unwrap_or_default(),
            served: is_served(instance),
            named: named.collect(),
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
        self.known.those(namespace, chooses)
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
        self.known.those(&namespace, is_member)
    }

    /// The Instances that one chooses, with whether each may be sent connections, and what its Port in a Network is called.
    fn chosen(&self, balancer: &LoadBalancer, network: &str) -> Vec<(&str, bool, String)> {
        let namespace = balancer.namespace().unwrap_or_default();
        let from = (namespace.clone(), String::new());
        let within = self.guests.range(from..).take_while(|((of, _), _)| *of == namespace);
        within
            .filter(|(_, guest)| chooses(balancer, guest))
            .map(|((_, name), guest)| {
                let port = guest.named.get(network).cloned();
                let port = port.unwrap_or_else(|| port_name(name, network));
                (name.as_str(), guest.served, port)
            })
            .collect()
    }

    /// Where members are asked from.
    fn source(&self, uid: Uuid) -> BTreeSet<std::net::IpAddr> {
        let port = self.records.get(uid, Purpose::HealthCheck);
        let held = port.into_iter().flat_map(|port| &port.spec.addresses);
        held.filter_map(|held| held.ip.parse().ok()).collect()
    }
}

fn chooses(balancer: &LoadBalancer, guest: &Guest) -> bool {
    let selector = balancer.spec.members.selector.as_ref();
    selector.is_some_and(|selector| selects(selector, Some(&guest.labels)))
}
