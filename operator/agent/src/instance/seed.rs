//! From an Instance to the seed that its guest reads at its first boot. Pure.

use std::net::IpAddr;

use ipnet::IpNet;
use virga_core::{
    instance::hostname,
    network::{ValidNetwork, ValidSubnet},
};
use virga_crds::{Instance, Port, TrunkParent};
use virga_images::seed::{Interface, Route, Seed, Vlan};

/// The seed. `interfaces` are its Ports with their Networks, the primary one first, sub-ports among them.
pub fn seed(instance: &Instance, uid: &str, user_data: Option<Vec<u8>>, interfaces: &[(&Port, &ValidNetwork)]) -> Seed {
    Seed {
        instance_id: uid.into(),
        hostname: hostname(instance).into(),
        ssh_keys: instance.spec.ssh_keys.clone(),
        metadata: instance.spec.metadata.clone(),
        user_data,
        interfaces: interfaces
            .iter()
            .enumerate()
            .filter_map(|(n, (port, network))| {
                let vlan = match &port.spec.trunk {
                    Some(trunk) => Some(vlan(trunk, interfaces)?),
                    None => None,
                };
                Some(interface(port, network, vlan, n == 0))
            })
            .collect(),
    }
}

/// The VLAN that a sub-port is, if its parent is among these.
fn vlan(trunk: &TrunkParent, interfaces: &[(&Port, &ValidNetwork)]) -> Option<Vlan> {
    let mut ports = interfaces.iter().map(|(port, _)| port);
    let parent = ports.find(|port| port.metadata.uid.as_ref() == Some(&trunk.uid))?;
    Some(Vlan {
        link: parent.spec.mac.clone(),
        id: trunk.segment_id,
    })
}

fn interface(port: &Port, network: &ValidNetwork, vlan: Option<Vlan>, primary: bool) -> Interface {
    let mut interface = Interface {
        mac: port.spec.mac.clone(),
        vlan,
        mtu: network.mtu.map(u32::from),
        search: network.dns_domain.clone().into_iter().collect(),
        ..Interface::default()
    };
    for subnet in &network.subnets {
        let held = port.spec.addresses.iter().find(|address| address.subnet == subnet.name);
        let Some(address) = held.and_then(|address| address.ip.parse::<IpAddr>().ok()) else {
            continue;
        };
        match (subnet.dhcp, address) {
            (true, IpAddr::V4(_)) => interface.dhcp4 = true,
            (true, IpAddr::V6(_)) if subnet.is_derived() => interface.accept_ra = true,
            (true, IpAddr::V6(_)) => interface.dhcp6 = true,
            (false, _) => fix(&mut interface, subnet, address, primary),
        }
    }
    interface
}

/// Tells a fixed address, since no DHCP server does.
fn fix(interface: &mut Interface, subnet: &ValidSubnet, address: IpAddr, primary: bool) {
    interface
        .addresses
        .extend(IpNet::new(address, subnet.cidr.prefix_len()).ok());
    let route = |to: IpNet, via: IpAddr| Route {
        to,
        via: Some(via),
        metric: None,
        on_link: false,
    };
    // Two default routes would fight: the primary interface has it.
    if let Some(gateway) = subnet.gateway.filter(|_| primary) {
        let everywhere = match gateway {
            IpAddr::V4(_) => IpNet::new(std::net::Ipv4Addr::UNSPECIFIED.into(), 0),
            IpAddr::V6(_) => IpNet::new(std::net::Ipv6Addr::UNSPECIFIED.into(), 0),
        };
        interface.routes.extend(everywhere.ok().map(|to| route(to, gateway)));
    }
    interface
        .routes
        .extend(subnet.routes.iter().map(|(to, via)| route(*to, *via)));
    if subnet.dns_servers.is_empty() {
        interface.nameservers.extend(subnet.gateway);
    } else {
        interface.nameservers.extend(&subnet.dns_servers);
    }
}

#[cfg(test)]
mod tests {
    use virga_core::network::validate;
    use virga_crds::{Dhcp, InstanceSpec, Ipv6Mode, NetworkSpec, PortAddress, PortSpec, Subnet};

    use super::*;

    fn network(dhcp: Dhcp) -> ValidNetwork {
        validate(&NetworkSpec {
            mtu: 1400,
            dns_domain: Some("front.shop".into()),
            subnets: vec![Subnet {
                name: "v4".into(),
                cidr: "10.0.0.0/24".into(),
                dhcp,
                ..Subnet::default()
            }],
            ..NetworkSpec::default()
        })
        .unwrap()
    }

    fn port() -> Port {
        Port::new(
            "web-1-front",
            PortSpec {
                mac: "fa:16:3e:00:00:01".into(),
                addresses: vec![PortAddress {
                    subnet: "v4".into(),
                    ip: "10.0.0.5".into(),
                }],
                ..PortSpec::default()
            },
        )
    }

    #[test]
    fn a_guest_is_told_its_metadata() {
        let mut instance = Instance::new("web-1", InstanceSpec::default());
        instance.spec.metadata.insert("tier".into(), "web".into());
        assert_eq!(seed(&instance, "uid", None, &[]).metadata, instance.spec.metadata);
    }

    #[test]
    fn a_guest_asks_by_dhcp_where_there_is_a_server() {
        let instance = Instance::new("web-1", InstanceSpec::default());
        let (port, network) = (port(), network(Dhcp::Enabled));
        let seed = seed(&instance, "uid", None, &[(&port, &network)]);
        let interface = &seed.interfaces[0];
        assert!(interface.dhcp4 && interface.addresses.is_empty() && interface.routes.is_empty());
        assert_eq!((interface.mtu, seed.hostname.as_str()), (Some(1400), "web-1"));
        assert!(seed.iso().is_ok());
    }

    #[test]
    fn a_guest_that_makes_its_address_listens_to_routers() {
        let instance = Instance::new("web-1", InstanceSpec::default());
        let mut port = port();
        port.spec.addresses[0] = PortAddress {
            subnet: "v6".into(),
            ip: "fd00::f816:3eff:fe00:1".into(),
        };
        for (mode, told) in [(Ipv6Mode::Slaac, (false, true)), (Ipv6Mode::Stateful, (true, false))] {
            let subnet = Subnet {
                name: "v6".into(),
                cidr: "fd00::/64".into(),
                ipv6_mode: Some(mode),
                ..Subnet::default()
            };
            let network = validate(&NetworkSpec {
                subnets: vec![subnet],
                ..NetworkSpec::default()
            })
            .unwrap();
            let seed = seed(&instance, "uid", None, &[(&port, &network)]);
            let interface = &seed.interfaces[0];
            assert_eq!((interface.dhcp6, interface.accept_ra), told, "{mode:?}");
            assert!(interface.addresses.is_empty() && seed.iso().is_ok());
        }
    }

    #[test]
    fn a_sub_port_is_a_vlan_of_its_parent() {
        let instance = Instance::new("web-1", InstanceSpec::default());
        let (asks, fixed) = (network(Dhcp::Enabled), network(Dhcp::Disabled));
        let mut parent = port();
        parent.metadata.uid = Some("parent".into());
        let sub = |parent: &str, segment_id| {
            let mut sub = port();
            sub.spec.mac = "fa:16:3e:50:00:10".into();
            sub.spec.trunk = Some(TrunkParent {
                port: "web-1-front".into(),
                uid: parent.into(),
                segment_id,
            });
            sub
        };
        let (one, two, stray) = (sub("parent", 100), sub("parent", 200), sub("another", 300));
        let plugs = [(&parent, &asks), (&one, &asks), (&two, &fixed), (&stray, &asks)];
        let seed = seed(&instance, "uid", None, &plugs);
        let vlans: Vec<_> = seed.interfaces.iter().map(|told| told.vlan.as_ref()).collect();
        let told = |id| Vlan {
            link: "fa:16:3e:00:00:01".into(),
            id,
        };
        assert_eq!(vlans, [None, Some(&told(100)), Some(&told(200))]);
        assert!(seed.interfaces[1].dhcp4);
        let fixed = &seed.interfaces[2];
        assert_eq!(fixed.addresses[0].to_string(), "10.0.0.5/24");
        assert!(
            fixed.routes.is_empty(),
            "only the primary interface has the default route"
        );
        assert!(seed.iso().is_ok());
    }

    #[test]
    fn a_guest_is_told_its_address_where_there_is_none() {
        let instance = Instance::new("web-1", InstanceSpec::default());
        let (port, network) = (port(), network(Dhcp::Disabled));
        let plugs = [(&port, &network), (&port, &network)];
        let seed = seed(&instance, "uid", None, &plugs);
        let interface = &seed.interfaces[0];
        assert_eq!(interface.addresses[0].to_string(), "10.0.0.5/24");
        assert_eq!(interface.routes[0].to.to_string(), "0.0.0.0/0");
        assert_eq!(interface.nameservers[0].to_string(), "10.0.0.1");
        assert!(
            seed.interfaces[1].routes.is_empty(),
            "only the primary interface has the default route"
        );
    }
}
