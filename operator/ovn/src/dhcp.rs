//! What does DHCP tell the guests of a subnet? (ovn-nb(5), DHCP_Options)

use std::{collections::BTreeMap, net::IpAddr};

use uuid::Uuid;
use virga_core::network::{Segment, ValidNetwork, ValidSubnet, dhcp_option};
use virga_crds::{DhcpOption, Ipv6Mode};
use virga_ovsdb::northbound::DhcpOptions;

use crate::key::{listed, service_mac};

/// How long an address is leased, in seconds: it is for life, so this says only how soon changed options are seen.
const LEASE: &str = "86400";

/// What an IPv4 DHCP server calls itself where the subnet has no gateway whose address it could take.
const NO_GATEWAY: &str = "169.254.0.1";

/// The address in a subnet that answers DHCP and DNS: the gateway's, as long as that is nobody else's.
pub(crate) fn service(network: &ValidNetwork, subnet: &ValidSubnet) -> Option<IpAddr> {
    match network.segment {
        Segment::Overlay => subnet.gateway,
        // In a physical network the gateway is a machine of its own.
        Segment::Physical { .. } => None,
    }
}

/// The options of a subnet; none where its guests know their addresses.
pub(crate) fn options(uid: Uuid, network: &ValidNetwork, mtu: u16, subnet: &ValidSubnet) -> Option<DhcpOptions> {
    let six = subnet.cidr.network().is_ipv6();
    if !subnet.dhcp || (six && subnet.ipv6_mode == Ipv6Mode::Slaac) {
        return None;
    }
    let options = if subnet.cidr.network().is_ipv4() {
        v4(uid, network, mtu, subnet)
    } else {
        v6(uid, network, subnet)
    };
    Some(DhcpOptions {
        cidr: subnet.cidr.to_string(),
        options: options
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
        external_ids: BTreeMap::new(),
    })
}

/// Has a row tell one guest more, or something else: of IPv4 only. What can't be told is said of its Port.
pub(crate) fn add(row: &mut DhcpOptions, subnet: &ValidSubnet, own: &[DhcpOption]) {
    if subnet.cidr.network().is_ipv4() {
        let told = own.iter().filter_map(|option| dhcp_option(option).ok());
        row.options.extend(told.map(|(name, value)| (name.to_owned(), value)));
    }
}

/// As given, else whoever answers in the subnet itself.
fn dns_servers(network: &ValidNetwork, subnet: &ValidSubnet) -> Option<String> {
    if subnet.dns_servers.is_empty() {
        return service(network, subnet).map(|address| address.to_string());
    }
    let family = |address: &&IpAddr| address.is_ipv4() == subnet.cidr.network().is_ipv4();
    let servers: Vec<IpAddr> = subnet.dns_servers.iter().filter(family).copied().collect();
    listed(&servers)
}

fn v4(uid: Uuid, network: &ValidNetwork, mtu: u16, subnet: &ValidSubnet) -> BTreeMap<&'static str, String> {
    let gateway = subnet.gateway.map(|gateway| gateway.to_string());
    let mut options = BTreeMap::from([
        ("lease_time", LEASE.to_owned()),
        ("mtu", mtu.to_string()),
        ("server_id", gateway.clone().unwrap_or_else(|| NO_GATEWAY.to_owned())),
        ("server_mac", service_mac(uid)),
    ]);
    options.extend(dns_servers(network, subnet).map(|servers| ("dns_server", servers)));
    options.extend(
        network
            .dns_domain
            .as_ref()
            .map(|domain| ("domain_name", format!("\"{domain}\""))),
    );
    if !subnet.routes.is_empty() {
        let routes = subnet.routes.iter().map(|(to, via)| format!("{to},{via}"));
        // Who is told of routes so does not look at the option for the default one (RFC 3442).
        let default = gateway.iter().map(|gateway| format!("0.0.0.0/0,{gateway}"));
        let routes: Vec<String> = routes.chain(default).collect();
        options.insert("classless_static_route", format!("{{{}}}", routes.join(", ")));
    }
    options.extend(gateway.map(|gateway| ("router", gateway)));
    options
}

/// Addresses and name servers only: the way on is told by router advertisements.
fn v6(uid: Uuid, network: &ValidNetwork, subnet: &ValidSubnet) -> BTreeMap<&'static str, String> {
    let mut options = BTreeMap::from([("server_id", service_mac(uid))]);
    if subnet.ipv6_mode == Ipv6Mode::Stateless {
        options.insert("dhcpv6_stateless", "true".to_owned());
    }
    options.extend(dns_servers(network, subnet).map(|servers| ("dns_server", servers)));
    options.extend(
        network
            .dns_domain
            .as_ref()
            .map(|domain| ("domain_search", format!("\"{domain}\""))),
    );
    options
}
