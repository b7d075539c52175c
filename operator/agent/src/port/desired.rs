//! From the API's Network and Ports to what the back end is asked for. Pure.

use std::sync::Arc;

use kube::ResourceExt;
use virga_core::network::{Egress, ValidNetwork, ValidSubnet};
use virga_crds::{Network, Port};
use virga_network::{Mode, NodeNetwork, NodePort, NodeSubnet, SubnetRoute};

use super::error::{Error, uuid};

pub(super) fn node_network(network: &Network, valid: ValidNetwork, ports: &[Arc<Port>]) -> Result<NodeNetwork, Error> {
    Ok(NodeNetwork {
        uid: uuid(network)?,
        namespace: network.namespace().unwrap_or_default(),
        name: network.name_any(),
        generation: network.metadata.generation.unwrap_or_default(),
        dns_domain: valid.dns_domain,
        mtu: valid.mtu.map(u32::from),
        mode: match valid.egress {
            Egress::Nat => Mode::Nat,
            Egress::Isolated => Mode::Isolated,
        },
        subnets: valid.subnets.into_iter().map(node_subnet).collect(),
        ports: ports.iter().map(|port| node_port(port)).collect::<Result<_, _>>()?,
    })
}

fn node_subnet(subnet: ValidSubnet) -> NodeSubnet {
    let route = |(destination, next_hop)| SubnetRoute { destination, next_hop };
    NodeSubnet {
        cidr: subnet.cidr,
        gateway: subnet.gateway,
        dhcp: subnet.dhcp,
        dns_servers: subnet.dns_servers,
        routes: subnet.routes.into_iter().map(route).collect(),
    }
}

fn node_port(port: &Port) -> Result<NodePort, Error> {
    let unreadable = |field: &str| Error::Unreadable {
        what: format!("{field} of Port {}", port.name_any()),
    };
    let addresses = port.spec.addresses.iter().map(|address| address.ip.parse());
    Ok(NodePort {
        uid: uuid(port)?,
        mac: port.spec.mac.parse().map_err(|_| unreadable("spec.mac"))?,
        addresses: addresses
            .collect::<Result<_, _>>()
            .map_err(|_| unreadable("spec.addresses"))?,
        hostname: port.spec.hostname.clone(),
    })
}
