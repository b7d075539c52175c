//! A [`NetworkSpec`] from libvirt's XML.

use std::path::PathBuf;

use super::mac::MacAddress;
use super::overlap::range_of;
use super::spec::{Dhcp, DhcpHost, DnsHost, ForwardMode, NetworkSpec, Route, SubnetSpec};
use super::xml::{DNS_OPTION, DNS6_OPTION, HOSTS_OPTION, NOBODY, ROUTE_OPTION};
use crate::owner::{NETWORK_NAMESPACE, Owner};
use crate::xml::Element;

/// What libvirt's XML says of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Definition {
    /// The network, without the hosts that are in `hosts_file`.
    pub spec: NetworkSpec,
    /// The file with its DHCP hosts, if they are not in the XML.
    pub hosts_file: Option<PathBuf>,
}

/// Reads libvirt's description of a network. `None` when the network is not ours (it has no metadata of ours) or was
/// changed by hand into something that we never write. DHCP hosts that are in a file of their own are left out.
pub fn from_xml(document: &str) -> Option<NetworkSpec> {
    read(document).map(|definition| definition.spec)
}

/// As [`from_xml`], with the name of the file that has its DHCP hosts.
pub(crate) fn read(document: &str) -> Option<Definition> {
    let root = Element::parse(document).ok()?;
    let owner = Owner::from_element(root.find("metadata")?.child_in_namespace(NETWORK_NAMESPACE)?)?;
    let mode = match root.find("forward") {
        None => ForwardMode::Isolated,
        Some(forward) if forward.get("mode") == Some("nat") => ForwardMode::Nat,
        Some(_) => return None,
    };
    let mut spec = NetworkSpec {
        uuid: root.find("uuid")?.content().parse().ok()?,
        name: root.find("name")?.content().to_owned(),
        owner,
        bridge: root.find("bridge")?.get("name")?.to_owned(),
        mode,
        mtu: match root.find("mtu") {
            Some(mtu) => Some(mtu.get("size")?.parse().ok()?),
            None => None,
        },
        domain: root
            .find("domain")
            .and_then(|domain| domain.get("name"))
            .map(ToOwned::to_owned),
        subnets: root.all("ip").map(subnet).collect::<Option<Vec<_>>>()?,
        dns_hosts: match root.find("dns") {
            Some(dns) => dns.all("host").map(dns_host).collect::<Option<Vec<_>>>()?,
            None => Vec::new(),
        },
    };
    let mut hosts_file = None;
    if let Some(options) = root.find("dnsmasq:options") {
        for option in options.all("dnsmasq:option") {
            let option = option.get("value")?;
            match option.strip_prefix(HOSTS_OPTION) {
                Some(path) => hosts_file = Some(PathBuf::from(path)),
                None => apply_option(&mut spec, option)?,
            }
        }
    }
    if hosts_file.is_some() {
        // The entry that keeps DHCP on (see `to_xml_without_hosts`).
        for dhcp in spec.subnets.iter_mut().filter_map(|subnet| subnet.dhcp.as_mut()) {
            dhcp.hosts.retain(|host| host.mac != NOBODY);
        }
    }
    Some(Definition { spec, hosts_file })
}

fn subnet(element: &Element) -> Option<SubnetSpec> {
    let (address, prefix) = range_of(element)?;
    let dhcp = match element.find("dhcp") {
        Some(dhcp) => Some(Dhcp {
            ranges: dhcp
                .all("range")
                .map(|range| Some((range.get("start")?.parse().ok()?, range.get("end")?.parse().ok()?)))
                .collect::<Option<Vec<_>>>()?,
            hosts: dhcp.all("host").map(dhcp_host).collect::<Option<Vec<_>>>()?,
            ..Dhcp::default()
        }),
        None => None,
    };
    Some(SubnetSpec { address, prefix, dhcp })
}

fn dhcp_host(element: &Element) -> Option<DhcpHost> {
    let mac = match (element.get("mac"), element.get("id")) {
        (Some(mac), _) => mac.parse().ok()?,
        (None, Some(id)) => MacAddress::from_duid(id)?,
        (None, None) => return None,
    };
    Some(DhcpHost {
        mac,
        address: element.get("ip")?.parse().ok()?,
        name: element.get("name").map(ToOwned::to_owned),
    })
}

fn dns_host(element: &Element) -> Option<DnsHost> {
    let address = element.get("ip")?.parse().ok()?;
    Some(DnsHost {
        address,
        names: element.all("hostname").map(|name| name.content().to_owned()).collect(),
    })
}

fn apply_option(spec: &mut NetworkSpec, option: &str) -> Option<()> {
    let v4 = !option.starts_with(DNS6_OPTION);
    let mode = spec.mode;
    // The first of its family: `validate` wants the one with DHCP there, because libvirt drops a DHCP section without
    // entries and then does not say which one it was.
    let subnet = spec.subnets.iter_mut().find(|subnet| subnet.address.is_ipv4() == v4)?;
    let gateway = subnet.address;
    let dhcp = subnet.dhcp.get_or_insert_default();
    if let Some(servers) = option
        .strip_prefix(DNS_OPTION)
        .or_else(|| option.strip_prefix(DNS6_OPTION))
    {
        for server in servers.split(',') {
            dhcp.dns_servers.push(server.trim_matches(['[', ']']).parse().ok()?);
        }
        return Some(());
    }
    let mut parts = option.strip_prefix(ROUTE_OPTION)?.split(',');
    while let Some(destination) = parts.next() {
        let (destination, prefix) = destination.split_once('/')?;
        dhcp.routes.push(Route {
            destination: destination.parse().ok()?,
            prefix: prefix.parse().ok()?,
            via: parts.next()?.parse().ok()?,
        });
    }
    // The default route that we add ourselves (see `route_option`).
    if mode == ForwardMode::Nat {
        dhcp.routes.pop_if(|route| route.prefix == 0 && route.via == gateway);
    }
    Some(())
}
