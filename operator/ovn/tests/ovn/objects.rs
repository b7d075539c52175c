//! What the tests write of.

use std::sync::Arc;

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use uuid::Uuid;
use virga_core::network::Backend;
use virga_crds::{Network, NetworkSpec, Port, PortAddress, PortSpec, Subnet};
use virga_ovn::Cloud;

pub const OVN: Backend = Backend::Ovn { underlay_mtu: 1500 };
pub const OWNER: &str = "test";

pub fn cloud() -> Cloud {
    Cloud::new(OWNER, OVN)
}

pub fn uid(number: u64) -> Uuid {
    Uuid::from_u64_pair(0, number)
}

pub fn subnet(name: &str, cidr: &str) -> Subnet {
    Subnet {
        name: name.into(),
        cidr: cidr.into(),
        ..Subnet::default()
    }
}

/// A network in `shop`, created at the second of its number.
pub fn network(number: u64, name: &str, change: impl FnOnce(&mut NetworkSpec)) -> Arc<Network> {
    let mut spec = NetworkSpec {
        subnets: vec![subnet("v4", "10.0.0.0/24")],
        ..NetworkSpec::default()
    };
    change(&mut spec);
    let mut network = Network::new(name, spec);
    network.metadata.namespace = Some("shop".into());
    network.metadata.uid = Some(uid(number).to_string());
    network.metadata.generation = Some(1);
    let second = i64::try_from(number).unwrap();
    network.metadata.creation_timestamp = Some(Time(Timestamp::from_second(second).unwrap()));
    Arc::new(network)
}

/// A port of an instance of the name `web-<number>`; the addresses are in the subnets `v4` and `v6`.
pub fn port(number: u64, network: &str, addresses: &[&str]) -> Arc<Port> {
    let address = |ip: &&str| PortAddress {
        subnet: if ip.contains(':') { "v6" } else { "v4" }.into(),
        ip: (*ip).into(),
    };
    let spec = PortSpec {
        network: network.into(),
        instance: format!("web-{number}"),
        hostname: format!("web-{number}"),
        node_name: None,
        mac: format!("fa:16:3e:00:{:02x}:{:02x}", number / 256 % 256, number % 256),
        addresses: addresses.iter().map(address).collect(),
        ..PortSpec::default()
    };
    let mut port = Port::new(&format!("web-{number}-{network}"), spec);
    port.metadata.namespace = Some("shop".into());
    port.metadata.uid = Some(uid(1 << 32 | number).to_string());
    Arc::new(port)
}
