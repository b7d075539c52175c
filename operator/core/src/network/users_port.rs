//! A Port that a user made: is it filled in, whose is it, and what is wrong with it?

use std::net::IpAddr;

use virga_crds::{Instance, Interface, Port, PortSpec};

use super::{AddressError, Backend, NetworkAddresses, ValidNetwork, dhcp_options};
use crate::problem::Problems;

/// Whether the controller made it, with its holder.
fn is_held(port: &PortSpec) -> bool {
    let held = [&port.router, &port.floating_ip, &port.load_balancer, &port.health_check];
    !port.instance.is_empty() || held.iter().any(|holder| holder.is_some())
}

/// Whether a user made it: it stays when who has it goes.
pub fn is_users(port: &PortSpec) -> bool {
    port.allocation.is_some() || !is_held(port)
}

/// Whether it has its addresses. One that has not may ask for what it will never get.
pub fn is_given(port: &PortSpec) -> bool {
    port.allocation.is_some() || is_held(port)
}

/// The uid of the Instance that has a Port: one that it owns, or one that it claimed.
pub fn holder_uid(port: &Port) -> Option<&str> {
    if port.spec.instance.is_empty() {
        return None;
    }
    let owners = port.metadata.owner_references.iter().flatten();
    let mut owner = owners
        .filter(|owner| owner.kind == "Instance")
        .map(|owner| owner.uid.as_str());
    let claimed = port.spec.instance_uid.as_deref();
    if is_users(&port.spec) { claimed } else { owner.next() }
}

/// Whether a Port is this very Instance's, and not one's that had its name.
pub fn is_port_of(port: &Port, instance: &Instance) -> bool {
    let meta = &instance.metadata;
    port.metadata.namespace == meta.namespace
        && Some(&port.spec.instance) == meta.name.as_ref()
        && meta.uid.is_some()
        && holder_uid(port) == meta.uid.as_deref()
}

/// Whether it is on its way out for the Instance that has it. One that a user made stays until it is let go of.
pub fn is_going(port: &Port) -> bool {
    port.metadata.deletion_timestamp.is_some() && !is_users(&port.spec)
}

/// What an interface would be that asks for what a Port is.
pub fn as_interface(port: &PortSpec) -> Interface {
    Interface {
        network: port.network.clone(),
        network_namespace: port.network_namespace.clone(),
        security_groups: port.security_groups.clone(),
        allowed_address_pairs: port.allowed_address_pairs.clone(),
        qos: port.qos,
        ..Interface::default()
    }
}

/// The addresses that it asks for.
pub fn wanted(port: &PortSpec) -> Vec<IpAddr> {
    let addresses = port.addresses.iter();
    addresses.filter_map(|asked| asked.ip.parse().ok()).collect()
}

/// What is wrong with it by itself.
pub fn validate_port(port: &PortSpec, backend: Backend) -> Problems {
    let mut problems = Problems::default();
    for asked in &port.addresses {
        if asked.ip.parse::<IpAddr>().is_err() {
            problems.add(format!("spec.addresses[{}].ip", asked.subnet), "not an IP address");
        }
    }
    problems.extend(dhcp_options::validate(port, backend));
    problems
}

/// What is wrong with the addresses that it asks for, in its Network.
pub fn validate_addresses(port: &PortSpec, network: &ValidNetwork) -> Problems {
    let mut problems = Problems::default();
    for asked in &port.addresses {
        let field = format!("spec.addresses[{}]", asked.subnet);
        let Ok(ip) = asked.ip.parse::<IpAddr>() else { continue };
        let Some(subnet) = network.subnets.iter().find(|subnet| subnet.name == asked.subnet) else {
            let names: Vec<&str> = network.subnets.iter().map(|subnet| subnet.name.as_str()).collect();
            let message = format!("Network {} has no such subnet, but {}", port.network, names.join(", "));
            problems.add(format!("{field}.subnet"), message);
            continue;
        };
        if !subnet.cidr.contains(&ip) {
            let message = format!(
                "{ip} is not in subnet {} ({}); choose one that is, or leave the address out",
                asked.subnet, subnet.cidr
            );
            problems.add(format!("{field}.ip"), message);
            continue;
        }
        let derived = subnet.derived(&port.mac).is_none_or(|made| made != ip);
        let refused = (subnet.is_derived() && derived).then(|| AddressError::Derived {
            ip,
            subnet: asked.subnet.clone(),
        });
        let found = refused.map_or_else(|| NetworkAddresses::new(network).check("", ip), Err);
        if let Err(error) = found {
            problems.add(format!("{field}.ip"), error.to_string());
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
    use virga_crds::{Allocation, InstanceSpec, NetworkSpec, PortAddress, PortHolder, Subnet};

    use super::*;
    use crate::network::validate;

    fn instance(uid: &str) -> Instance {
        let mut instance = Instance::new("web-1", InstanceSpec::default());
        instance.metadata.namespace = Some("shop".into());
        instance.metadata.uid = Some(uid.into());
        instance
    }

    fn port(spec: PortSpec) -> Port {
        let mut port = Port::new("kept", spec);
        port.metadata.namespace = Some("shop".into());
        port
    }

    #[test]
    fn who_made_a_port_is_known_from_what_only_the_controller_writes() {
        let mut spec = PortSpec::default();
        assert!(is_users(&spec) && !is_given(&spec), "a user's, and new");
        spec.allocation = Some(Allocation::Given);
        assert!(is_users(&spec) && is_given(&spec), "filled in");
        spec.instance = "web-1".into();
        assert!(is_users(&spec) && is_given(&spec), "claimed");
        spec.allocation = None;
        assert!(!is_users(&spec) && is_given(&spec), "an Instance's own");
        let spec = PortSpec {
            router: Some(PortHolder::default()),
            ..PortSpec::default()
        };
        assert!(!is_users(&spec) && is_given(&spec), "a Router's");
    }

    #[test]
    fn a_port_is_its_owners_or_who_claimed_it_and_never_anothers_of_the_name() {
        let mut own = port(PortSpec {
            instance: "web-1".into(),
            ..PortSpec::default()
        });
        assert!(!is_port_of(&own, &instance("a")), "nobody owns it");
        own.metadata.owner_references = Some(vec![OwnerReference {
            kind: "Instance".into(),
            uid: "a".into(),
            ..OwnerReference::default()
        }]);
        assert!(is_port_of(&own, &instance("a")) && !is_port_of(&own, &instance("b")));

        let mut kept = port(PortSpec {
            allocation: Some(Allocation::Given),
            ..PortSpec::default()
        });
        assert_eq!(holder_uid(&kept), None);
        kept.spec.instance = "web-1".into();
        kept.spec.instance_uid = Some("a".into());
        assert!(is_port_of(&kept, &instance("a")) && !is_port_of(&kept, &instance("b")));
        // An owner that somebody wrote into a user's Port makes it nobody's.
        kept.metadata
            .owner_references
            .clone_from(&own.metadata.owner_references);
        kept.spec.instance_uid = None;
        assert!(!is_port_of(&kept, &instance("a")));
    }

    #[test]
    fn an_address_is_of_the_subnet_that_is_named() {
        let subnet = |name: &str, cidr: &str| Subnet {
            name: name.into(),
            cidr: cidr.into(),
            ..Subnet::default()
        };
        let network = NetworkSpec {
            subnets: vec![subnet("v4", "10.0.0.0/24"), subnet("more", "10.0.1.0/24")],
            ..NetworkSpec::default()
        };
        let network = validate(&network).unwrap();
        let said = |subnet: &str, ip: &str| {
            let spec = PortSpec {
                network: "front".into(),
                addresses: vec![PortAddress {
                    subnet: subnet.into(),
                    ip: ip.into(),
                }],
                ..PortSpec::default()
            };
            validate_addresses(&spec, &network).to_string()
        };
        assert_eq!(said("v4", "10.0.0.5"), "");
        assert_eq!(
            said("v6", "10.0.0.5"),
            "spec.addresses[v6].subnet: Network front has no such subnet, but v4, more"
        );
        assert_eq!(
            said("more", "10.0.0.5"),
            "spec.addresses[more].ip: 10.0.0.5 is not in subnet more (10.0.1.0/24); choose one that is, or leave the \
             address out"
        );
        assert!(
            said("v4", "10.0.0.1").starts_with("spec.addresses[v4].ip: 10.0.0.1 is the network, broadcast or gateway")
        );
    }
}
