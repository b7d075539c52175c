//! May a LoadBalancer be as it is written? What only OVN and the guests can tell, its condition tells.

use std::{collections::BTreeSet, net::IpAddr};

use kube::ResourceExt as _;
use virga_core::{
    load_balancer::members_network,
    network::{self, AddressError, NetworkAddresses, Purpose, Segment, ValidNetwork},
    selector::selects,
};
use virga_crds::LoadBalancer;

use super::Findings;
use crate::stores::Stores;

pub(super) fn load_balancer(new: &LoadBalancer, stores: &Stores) -> Findings {
    let mut findings = Findings::default();
    let own = new.namespace().unwrap_or_default();
    let vip = &new.spec.vip;
    let valid = valid_network("spec.vip.network", &own, &vip.network, stores, &mut findings);
    if let Some(valid) = &valid {
        if valid.segment != Segment::Overlay {
            let message = format!(
                "Network {:?} reaches a physical network, whose machines would see the address on every host at once: take an \
                 Overlay one, and let a FloatingIP lead to it",
                vip.network
            );
            findings.problems.add("spec.vip.network", message);
        }
        if let Some(address) = vip.address.as_deref().and_then(|text| text.parse().ok())
            && let Err(error) = free(new, valid, address, stores)
        {
            findings.problems.add("spec.vip.address", error.to_string());
        }
    }
    members(new, &own, valid.as_ref(), stores, &mut findings);
    findings
}

fn valid_network(
    field: &str,
    namespace: &str,
    name: &str,
    stores: &Stores,
    findings: &mut Findings,
) -> Option<ValidNetwork> {
    let Some(network) = stores.network(namespace, name) else {
        let message = format!("there is no Network {name:?} in namespace {namespace}: create it");
        findings.warn(field, &message);
        return None;
    };
    // One that is wrong by itself says so in its own status.
    network::validate(&network.spec).ok()
}

/// Whether it can have this address, or has it.
fn free(new: &LoadBalancer, valid: &ValidNetwork, address: IpAddr, stores: &Stores) -> Result<(), AddressError> {
    const OWN: &str = "its own";
    let mut taken = NetworkAddresses::new(valid);
    let namespace = new.namespace();
    let ports = stores.ports.state();
    let there = ports
        .iter()
        .filter(|port| port.namespace() == namespace && port.spec.network == new.spec.vip.network);
    for port in there {
        let is_own = Purpose::of(port).is_some_and(|(purpose, holder)| {
            purpose == Purpose::Vip && Some(&holder.name) == new.metadata.name.as_ref()
        });
        let whose = if is_own {
            OWN.to_owned()
        } else {
            format!("Port {:?}", port.name_any())
        };
        for held in &port.spec.addresses {
            if let Ok(ip) = held.ip.parse() {
                taken.adopt(&whose, ip);
            }
        }
    }
    taken.check(OWN, address)
}

fn members(new: &LoadBalancer, own: &str, vip: Option<&ValidNetwork>, stores: &Stores, findings: &mut Findings) {
    let members = &new.spec.members;
    let network = members_network(new);
    if members.network.is_some() && network != new.spec.vip.network {
        valid_network("spec.members.network", own, network, stores, findings);
    }
    let families: Option<BTreeSet<bool>> = vip.map(|valid| {
        let subnets = valid.subnets.iter();
        subnets.map(|subnet| subnet.cidr.addr().is_ipv4()).collect()
    });
    for text in &members.addresses {
        let field = format!("spec.members.addresses[{text}]");
        let Ok(address) = text.parse::<IpAddr>() else { continue };
        if new.spec.vip.address.as_deref() == Some(text) {
            findings
                .problems
                .add(&field, "that is its own address: name somebody else");
        } else if families
            .as_ref()
            .is_some_and(|families| !families.contains(&address.is_ipv4()))
        {
            let message = format!(
                "Network {:?} of the VIP has no addresses of this family: take a Network with some",
                new.spec.vip.network
            );
            findings.problems.add(&field, message);
        }
    }
    if let Some(selector) = &members.selector {
        let instances = stores.instances.state();
        let chosen = instances
            .iter()
            .filter(|instance| instance.namespace().as_deref() == Some(own))
            .any(|instance| selects(selector, instance.metadata.labels.as_ref()));
        if !chosen && members.addresses.is_empty() {
            let message =
                format!("it chooses no Instance in namespace {own} yet: all connections are refused until it does");
            findings.warn("spec.members.selector", &message);
        }
    }
}
