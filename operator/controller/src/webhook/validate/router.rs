//! May a Router or a FloatingIP be as it is written? What only all Routers together can tell, its condition tells.

use kube::ResourceExt as _;
use virga_core::network::validate;
use virga_crds::{FloatingIP, NetworkRef, NetworkScope, Router};

use super::Findings;
use crate::stores::Stores;

pub(super) fn floating_ip(new: &FloatingIP, stores: &Stores) -> Findings {
    let mut findings = Findings::default();
    let own = new.namespace().unwrap_or_default();
    outside("spec.network", &new.spec.network, &own, stores, &mut findings);
    if let Some(name) = &new.spec.load_balancer
        && stores.load_balancer(&own, name).is_none()
    {
        let message = format!("there is no LoadBalancer {name:?} in namespace {own}: create it");
        findings.warn("spec.loadBalancer", &message);
    }
    findings
}

/// A Network that is the outside.
fn outside(field: &str, network: &NetworkRef, own: &str, stores: &Stores, findings: &mut Findings) {
    let (namespace, name) = (network.namespace.as_deref().unwrap_or(own), &network.name);
    match stores.network(namespace, name) {
        None => findings.warn(
            field,
            &format!("there is no Network {name:?} in namespace {namespace}: create it"),
        ),
        Some(network) if network.spec.scope != NetworkScope::External => findings.problems.add(
            field,
            format!("Network {name:?} in namespace {namespace} is not external: name one with scope External"),
        ),
        Some(_) => {}
    }
}

pub(super) fn router(new: &Router, stores: &Stores) -> Findings {
    let mut findings = Findings::default();
    let own = new.namespace().unwrap_or_default();
    if let Some(gateway) = &new.spec.external_gateway {
        outside(
            "spec.externalGateway.network",
            &gateway.network,
            &own,
            stores,
            &mut findings,
        );
    }
    let mut ranges = Vec::new();
    for joined in &new.spec.networks {
        let field = format!("spec.networks[{}]", joined.network);
        let Some(network) = stores.network(&own, &joined.network) else {
            let message = format!("there is no Network {:?} in namespace {own}: create it", joined.network);
            findings.warn(&field, &message);
            continue;
        };
        // One that is wrong by itself says so in its own status.
        let Ok(valid) = validate(&network.spec) else { continue };
        let chosen = |name: &str| joined.subnet.as_ref().is_none_or(|subnet| subnet == name);
        for subnet in valid.subnets.iter().filter(|subnet| chosen(&subnet.name)) {
            let overlap = ranges.iter().find(|(_, range): &&(String, ipnet::IpNet)| {
                range.contains(&subnet.cidr) || subnet.cidr.contains(range)
            });
            if let Some((other, range)) = overlap {
                let message = format!(
                    "{} overlaps with {range} of Network {other:?}: a Router can't tell them apart, so leave one out",
                    subnet.cidr
                );
                findings.problems.add(&field, message);
            }
            ranges.push((joined.network.clone(), subnet.cidr));
        }
    }
    for route in &new.spec.routes {
        if route.destination.contains(':') != route.next_hop.contains(':') {
            let field = format!("spec.routes[{} {}]", route.destination, route.next_hop);
            findings.problems.add(field, "one is IPv4 and the other IPv6");
        }
    }
    findings
}
