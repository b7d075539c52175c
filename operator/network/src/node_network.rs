//! What one node should have of one network.

use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;
use uuid::Uuid;
use virga_hypervisor::MacAddress;

/// Where a network leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Out through the host, behind the host's address.
    Nat,
    /// Nowhere.
    Isolated,
}

/// A route told to guests besides the default one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SubnetRoute {
    /// Where it leads.
    pub destination: IpNet,
    /// The router, in the subnet.
    pub next_hop: IpAddr,
}

/// A subnet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NodeSubnet {
    /// Its address range.
    pub cidr: IpNet,
    /// The guests' router; `None`: there is none.
    pub gateway: Option<IpAddr>,
    /// Whether guests learn their addresses by DHCP.
    pub dhcp: bool,
    /// The name servers that guests are told; empty: the network's own, which knows its instances.
    pub dns_servers: Vec<IpAddr>,
    /// Routes that guests are told.
    pub routes: Vec<SubnetRoute>,
}

/// A port of an instance on this node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NodePort {
    /// The Port's UID.
    pub uid: Uuid,
    /// The interface's MAC address.
    pub mac: MacAddress,
    /// Its addresses; at most one in a subnet.
    pub addresses: Vec<IpAddr>,
    /// The instance's host name: one DNS label.
    pub hostname: String,
}

/// What one node should have of one network: the whole of it, each time.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NodeNetwork {
    /// The Network's UID.
    pub uid: Uuid,
    /// The Network's namespace.
    pub namespace: String,
    /// The Network's name.
    pub name: String,
    /// The Network's generation.
    pub generation: i64,
    /// The DNS domain of its instances.
    pub dns_domain: Option<String>,
    /// The MTU, in bytes; `None`: the back end's.
    pub mtu: Option<u32>,
    /// Where it leads.
    pub mode: Mode,
    /// Its subnets.
    pub subnets: Vec<NodeSubnet>,
    /// All its ports on this node.
    pub ports: Vec<NodePort>,
}

impl NodeNetwork {
    /// `namespace/name`, for messages.
    pub fn display_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// What can't be right on any back end. The controller checks the same; this is the last look before the host.
    pub fn validate(&self) -> Result<(), String> {
        let mut problems = Vec::new();
        for subnet in &self.subnets {
            if let Some(gateway) = subnet.gateway
                && !is_host_address(&subnet.cidr, gateway)
            {
                problems.push(format!("gateway {gateway} is not a host address of {}", subnet.cidr));
            }
        }
        let (mut macs, mut addresses) = (HashSet::new(), HashSet::new());
        for port in &self.ports {
            if port.mac.is_multicast() || !macs.insert(port.mac) {
                problems.push(format!(
                    "port {} has a MAC address ({}) that is taken or multicast",
                    port.uid, port.mac
                ));
            }
            if !is_label(&port.hostname) {
                problems.push(format!(
                    "port {} has a host name ({:?}) that is not a DNS label",
                    port.uid, port.hostname
                ));
            }
            let mut taken = HashSet::new();
            for address in &port.addresses {
                match self.subnets.iter().position(|subnet| subnet.cidr.contains(address)) {
                    None => problems.push(format!("address {address} of port {} is in no subnet", port.uid)),
                    Some(subnet) if !taken.insert(subnet) => {
                        problems.push(format!(
                            "port {} has two addresses in {}",
                            port.uid, self.subnets[subnet].cidr
                        ));
                    }
                    Some(subnet) if self.subnets[subnet].gateway == Some(*address) => {
                        problems.push(format!("address {address} of port {} is the gateway's", port.uid));
                    }
                    Some(_) => {}
                }
                if !addresses.insert(*address) {
                    problems.push(format!("address {address} of port {} is taken", port.uid));
                }
            }
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems.join("; "))
        }
    }
}

/// Neither the network's own address nor, in IPv4, the broadcast address. /31 and /32 have neither (RFC 3021).
fn is_host_address(cidr: &IpNet, address: IpAddr) -> bool {
    let small = cidr.max_prefix_len() - cidr.prefix_len() <= 1;
    cidr.contains(&address)
        && (small || address != cidr.network() && (address.is_ipv6() || address != cidr.broadcast()))
}

fn is_label(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> NodeNetwork {
        NodeNetwork {
            uid: Uuid::from_u128(1),
            namespace: "shop".to_owned(),
            name: "front".to_owned(),
            generation: 1,
            dns_domain: None,
            mtu: None,
            mode: Mode::Nat,
            subnets: vec![NodeSubnet {
                cidr: "10.0.0.0/24".parse().unwrap(),
                gateway: Some("10.0.0.1".parse().unwrap()),
                dhcp: true,
                dns_servers: Vec::new(),
                routes: Vec::new(),
            }],
            ports: Vec::new(),
        }
    }

    fn port(number: u8, address: &str) -> NodePort {
        NodePort {
            uid: Uuid::from_u128(number.into()),
            mac: MacAddress([2, 0, 0, 0, 0, number]),
            addresses: vec![address.parse().unwrap()],
            hostname: format!("web-{number}"),
        }
    }

    #[test]
    fn a_network_with_two_ports_is_valid() {
        let network = NodeNetwork {
            ports: vec![port(1, "10.0.0.5"), port(2, "10.0.0.6")],
            ..network()
        };
        assert_eq!(network.validate(), Ok(()));
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let mut bad = NodeNetwork {
            ports: vec![
                port(1, "10.0.0.1"),
                port(1, "10.0.1.5"),
                port(3, "10.0.0.5"),
                port(4, "10.0.0.5"),
            ],
            ..network()
        };
        bad.ports[2].hostname = "web_3".to_owned();
        bad.ports[3].addresses.push("10.0.0.6".parse().unwrap());
        let message = bad.validate().unwrap_err();
        for part in [
            "is the gateway's",
            "that is taken or multicast",
            "is in no subnet",
            "DNS label",
            "is taken",
            "two addresses",
        ] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }

    #[test]
    fn a_gateway_is_an_address_of_a_host() {
        for gateway in ["10.0.0.0", "10.0.0.255", "10.0.1.1"] {
            let mut bad = network();
            bad.subnets[0].gateway = Some(gateway.parse().unwrap());
            assert!(bad.validate().unwrap_err().contains("not a host address"), "{gateway}");
        }
        let mut good = network();
        good.subnets[0].cidr = "10.0.0.0/31".parse().unwrap();
        assert_eq!(good.validate(), Ok(()));
    }
}
