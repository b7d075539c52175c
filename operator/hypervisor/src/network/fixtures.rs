//! A network for tests.

use std::net::{IpAddr, Ipv4Addr};

use uuid::Uuid;

use super::{Dhcp, DhcpHost, ForwardMode, NetworkSpec, SubnetSpec};
use crate::owner::Owner;

/// One subnet, 10.0.0.0/24, with these hosts.
pub fn network(hosts: Vec<DhcpHost>) -> NetworkSpec {
    let uuid = Uuid::from_u128(1);
    NetworkSpec {
        uuid,
        name: "n".to_owned(),
        owner: Owner {
            namespace: "a".to_owned(),
            name: "b".to_owned(),
            uid: uuid,
            generation: 1,
        },
        bridge: "b".to_owned(),
        mode: ForwardMode::Nat,
        mtu: None,
        domain: None,
        subnets: vec![SubnetSpec {
            address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
            prefix: 24,
            dhcp: Some(Dhcp {
                hosts,
                ..Dhcp::default()
            }),
        }],
        dns_hosts: Vec::new(),
    }
}
