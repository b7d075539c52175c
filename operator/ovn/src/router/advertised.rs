//! What do a Router's advertisements tell the IPv6 guests of a Network? (ovn-nb(5), Logical_Router_Port, ipv6_ra_configs)

use std::{collections::BTreeMap, net::IpAddr};

use virga_core::network::ValidNetwork;
use virga_crds::Ipv6Mode;

use crate::dhcp;

/// What is told besides the ranges.
#[derive(Debug, Clone)]
pub(crate) struct Advertised {
    mode: Ipv6Mode,
    /// Where no DHCPv6 server says them: a name server (OVN knows of one), and the domain.
    server: Option<IpAddr>,
    domain: Option<String>,
}

impl Advertised {
    /// Nothing where guests know their addresses.
    pub(super) fn of(network: &ValidNetwork) -> Option<Self> {
        let mut subnets = network.subnets.iter();
        let subnet = subnets.find(|subnet| subnet.dhcp && subnet.cidr.addr().is_ipv6())?;
        let alone = subnet.ipv6_mode == Ipv6Mode::Slaac;
        let given = subnet.dns_servers.iter().find(|address| address.is_ipv6());
        let server = given.copied().or_else(|| dhcp::service(network, subnet));
        Some(Self {
            mode: subnet.ipv6_mode,
            server: server.filter(|_| alone),
            domain: network.dns_domain.clone().filter(|_| alone),
        })
    }

    /// In OVN's words.
    pub(super) fn configs(&self, mtu: u16) -> BTreeMap<String, String> {
        let mode = match self.mode {
            Ipv6Mode::Stateful => "dhcpv6_stateful",
            Ipv6Mode::Stateless => "dhcpv6_stateless",
            Ipv6Mode::Slaac => "slaac",
        };
        let told = [
            ("address_mode", Some(mode.to_owned())),
            // Not only to who asks.
            ("send_periodic", Some("true".to_owned())),
            ("mtu", Some(mtu.to_string())),
            ("rdnss", self.server.map(|server| server.to_string())),
            ("dnssl", self.domain.clone()),
        ];
        let told = told.into_iter();
        told.filter_map(|(name, value)| Some((name.to_owned(), value?)))
            .collect()
    }
}
