//! Addresses that no Instance has: those of Routers, FloatingIPs and LoadBalancers. Ports are the record of them.

use std::{collections::BTreeMap, net::IpAddr};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use virga_crds::{Port, PortAddress, PortHolder, PortSpec, labels};

use super::Allocated;
use crate::instance::port_name;

/// What such an address is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// A Router has it.
    Router,
    /// A `FloatingIP` is it.
    FloatingIp,
    /// Clients ask it of a `LoadBalancer`.
    Vip,
    /// A `LoadBalancer`'s members are asked from it whether they answer. It can't be the VIP: who has this one answers
    /// nothing else.
    HealthCheck,
}

impl Purpose {
    /// What a Port that no Instance has is for, and whose it is.
    pub fn of(port: &Port) -> Option<(Self, &PortHolder)> {
        let spec = &port.spec;
        let holders = [
            (Self::Router, &spec.router),
            (Self::FloatingIp, &spec.floating_ip),
            (Self::Vip, &spec.load_balancer),
            (Self::HealthCheck, &spec.health_check),
        ];
        let mut found = holders
            .into_iter()
            .filter_map(|(purpose, holder)| Some((purpose, holder.as_ref()?)));
        found.next()
    }

    /// The label by which the Ports of one holder are found.
    pub fn label(self) -> &'static str {
        match self {
            Self::Router => labels::ROUTER,
            Self::FloatingIp => labels::FLOATING_IP,
            Self::Vip | Self::HealthCheck => labels::LOAD_BALANCER,
        }
    }

    /// The kind of object that has it.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Router => "Router",
            Self::FloatingIp => "FloatingIP",
            Self::Vip | Self::HealthCheck => "LoadBalancer",
        }
    }

    /// How its Port's name begins.
    fn prefix(self) -> &'static str {
        match self {
            Self::Router => "router",
            Self::FloatingIp => "floatingip",
            Self::Vip => "loadbalancer",
            Self::HealthCheck => "healthcheck",
        }
    }
}

/// An address that is needed and that is nobody's: not a subnet's gateway, which is a Router's by right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// What it is for.
    pub purpose: Purpose,
    /// The path of the field that asks for it.
    pub field: String,
    /// The Network's namespace.
    pub namespace: String,
    /// The Network.
    pub network: String,
    /// The address, if it must be that.
    pub address: Option<IpAddr>,
    /// Whether the Network must be external.
    pub external: bool,
}

impl Need {
    /// What the Port of this holder is called.
    pub fn port_name(&self, holder: &ObjectMeta) -> String {
        let uid = holder.uid.as_deref().unwrap_or_default();
        let short = uid.get(..8).unwrap_or(uid);
        port_name(&format!("{}-{short}", self.purpose.prefix()), &self.network)
    }

    /// The Port that is the record of the address. It is where its Network is; nothing owns across namespaces, so its
    /// holder's finalizer is what takes it away, and the label is how it is found.
    pub fn port(&self, holder: &ObjectMeta, mac: String, addresses: &[Allocated]) -> Port {
        let name = self.port_name(holder);
        let holder = PortHolder {
            namespace: holder.namespace.clone().unwrap_or_default(),
            name: holder.name.clone().unwrap_or_default(),
            uid: holder.uid.clone().unwrap_or_default(),
        };
        let addresses = addresses.iter().map(|address| PortAddress {
            subnet: address.subnet.clone(),
            ip: address.ip.to_string(),
        });
        let mut spec = PortSpec {
            network: self.network.clone(),
            mac,
            addresses: addresses.collect(),
            ..PortSpec::default()
        };
        let labels = BTreeMap::from([(self.purpose.label().to_owned(), holder.uid.clone())]);
        let slot = match self.purpose {
            Purpose::Router => &mut spec.router,
            Purpose::FloatingIp => &mut spec.floating_ip,
            Purpose::Vip => &mut spec.load_balancer,
            Purpose::HealthCheck => &mut spec.health_check,
        };
        *slot = Some(holder);
        let metadata = ObjectMeta {
            name: Some(name),
            namespace: Some(self.namespace.clone()),
            labels: Some(labels),
            ..ObjectMeta::default()
        };
        Port {
            metadata,
            spec,
            status: None,
        }
    }

    /// Whether a Port is what is needed.
    pub fn is_met_by(&self, port: &Port) -> bool {
        let asked = self.address.map(|address| address.to_string());
        let has = |asked: &String| port.spec.addresses.iter().any(|held| held.ip == *asked);
        Purpose::of(port).is_some_and(|(purpose, _)| purpose == self.purpose)
            && port.metadata.namespace.as_deref() == Some(&self.namespace)
            && port.spec.network == self.network
            && asked.as_ref().is_none_or(has)
    }
}

/// Whether a Port is an address of this very object, and not of another one of its name.
pub fn is_held_by(port: &Port, holder: &ObjectMeta) -> bool {
    Purpose::of(port).is_some_and(|(_, found)| Some(&found.uid) == holder.uid.as_ref())
}
