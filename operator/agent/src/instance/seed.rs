//! From an Instance to the seed that its guest reads at its first boot. Pure.

use std::net::IpAddr;

use ipnet::IpNet;
use virga_core::{
    instance::hostname,
    network::{ValidNetwork, ValidSubnet},
};
use virga_crds::{Instance, Port};
use virga_images::seed::{Interface, Route, Seed};

/// The seed. `interfaces` are its Ports with their Networks, the primary one first.
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
            .map(|(n, (port, network))| interface(port, network, n == 0))
            .collect(),
    }
}

fn interface(port: &Port, network: &ValidNetwork, primary: bool) -> Interface {
    let mut interface = Interface {
        mac: port.spec.mac.clone(),
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
