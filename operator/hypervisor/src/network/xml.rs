//! libvirt's XML for a [`NetworkSpec`] (<https://libvirt.org/formatnetwork.html>) and for the parts that
//! virNetworkUpdate takes.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;

use super::diff::HostChange;
use super::mac::MacAddress;
use super::spec::{DHCP_LEASE, Dhcp, DhcpHost, DnsHost, ForwardMode, NetworkSpec, SubnetSpec};
use crate::owner::NETWORK_NAMESPACE;
use crate::xml::Element;

/// libvirt's pass-through to dnsmasq: the only way to tell guests other name servers and routes, and to have hosts in a
/// file of our own.
pub(super) const DNSMASQ_NAMESPACE: &str = "http://libvirt.org/schemas/network/dnsmasq/1.0";
pub(super) const DNS_OPTION: &str = "dhcp-option=option:dns-server,";
pub(super) const DNS6_OPTION: &str = "dhcp-option=option6:dns-server,";
pub(super) const ROUTE_OPTION: &str = "dhcp-option=option:classless-static-route,";
pub(super) const HOSTS_OPTION: &str = "dhcp-hostsfile=";
/// No interface has it: Linux refuses to set it.
pub(super) const NOBODY: MacAddress = MacAddress([0; 6]);

/// The network XML. Everything is escaped. Valid for libvirt when [`NetworkSpec::validate`] found nothing.
pub fn to_xml(spec: &NetworkSpec) -> String {
    write(spec, None)
}

/// The network XML, with the DHCP hosts in a file that dnsmasq reads besides. libvirt turns DHCP on only where its XML
/// has an entry, so each subnet gets one that no interface can ask for: nobody's, with the bridge's own address, which
/// no host may have.
pub(crate) fn to_xml_without_hosts(spec: &NetworkSpec, hosts_file: &Path) -> String {
    let mut spec = spec.clone();
    for subnet in &mut spec.subnets {
        if let Some(dhcp) = &mut subnet.dhcp {
            dhcp.hosts = vec![DhcpHost {
                mac: NOBODY,
                address: subnet.address,
                name: None,
            }];
        }
    }
    write(&spec, Some(hosts_file))
}

fn write(spec: &NetworkSpec, hosts_file: Option<&Path>) -> String {
    let mut options = dnsmasq_options(spec);
    options.extend(hosts_file.map(|path| format!("{HOSTS_OPTION}{}", path.display())));
    let domain = spec.domain.as_ref();
    Element::new("network")
        .attr_if("xmlns:dnsmasq", (!options.is_empty()).then_some(DNSMASQ_NAMESPACE))
        .child(Element::new("name").text(&spec.name))
        .child(Element::new("uuid").text(spec.uuid.to_string()))
        .child(Element::new("metadata").child(spec.owner.element("network", NETWORK_NAMESPACE)))
        .child_if((spec.mode == ForwardMode::Nat).then(|| Element::new("forward").attr("mode", "nat")))
        // No spanning tree and no delay: the bridge has no other bridge to loop with, and a guest's first DHCP
        // requests must not be lost.
        .child(
            Element::new("bridge")
                .attr("name", &spec.bridge)
                .attr("stp", "off")
                .attr("delay", "0"),
        )
        .child_if(spec.mtu.map(|mtu| Element::new("mtu").attr("size", mtu.to_string())))
        .child_if(domain.map(|name| Element::new("domain").attr("name", name).attr("localOnly", "yes")))
        .child_if(
            (!spec.dns_hosts.is_empty()).then(|| Element::new("dns").children(spec.dns_hosts.iter().map(dns_host))),
        )
        .children(spec.subnets.iter().map(subnet))
        .child_if((!options.is_empty()).then(|| {
            Element::new("dnsmasq:options").children(
                options
                    .iter()
                    .map(|value| Element::new("dnsmasq:option").attr("value", value)),
            )
        }))
        .write()
}

fn subnet(subnet: &SubnetSpec) -> Element {
    let family = if subnet.address.is_ipv4() { "ipv4" } else { "ipv6" };
    Element::new("ip")
        .attr("family", family)
        .attr("address", subnet.address.to_string())
        .attr("prefix", subnet.prefix.to_string())
        .child_if(subnet.dhcp.as_ref().map(|dhcp| {
            Element::new("dhcp")
                .children(dhcp.ranges.iter().map(|(first, last)| {
                    Element::new("range")
                        .attr("start", first.to_string())
                        .attr("end", last.to_string())
                }))
                .children(dhcp.hosts.iter().map(dhcp_host))
        }))
}

/// libvirt knows IPv4 clients by MAC and IPv6 clients by DUID only; we give the DUID that a client makes of its MAC.
fn dhcp_host(host: &DhcpHost) -> Element {
    let element = match host.address {
        IpAddr::V4(_) => Element::new("host").attr("mac", host.mac.to_string()),
        IpAddr::V6(_) => Element::new("host").attr("id", host.mac.duid()),
    };
    let lease = Element::new("lease")
        .attr("expiry", DHCP_LEASE.as_secs().to_string())
        .attr("unit", "seconds");
    element
        .attr_if("name", host.name.as_ref())
        .attr("ip", host.address.to_string())
        .child(lease)
}

fn dns_host(host: &DnsHost) -> Element {
    Element::new("host")
        .attr("ip", host.address.to_string())
        .children(host.names.iter().map(|name| Element::new("hostname").text(name)))
}

/// The XML that virNetworkUpdate takes for a change.
pub(crate) fn change_xml(change: &HostChange) -> String {
    match change {
        HostChange::AddDhcp { host, .. }
        | HostChange::ModifyDhcp { host, .. }
        | HostChange::DeleteDhcp { host, .. } => dhcp_host(host).write(),
        HostChange::AddDns(host) => dns_host(host).write(),
        // By address alone: libvirt matches names too, and one name can have an IPv4 and an IPv6 entry.
        HostChange::DeleteDns(host) => Element::new("host").attr("ip", host.address.to_string()).write(),
    }
}

fn dnsmasq_options(spec: &NetworkSpec) -> Vec<String> {
    spec.subnets
        .iter()
        .filter_map(|subnet| subnet.dhcp.as_ref().map(|dhcp| (subnet, dhcp)))
        .flat_map(|(subnet, dhcp)| {
            [dns_option(subnet, dhcp), route_option(spec.mode, subnet, dhcp)]
                .into_iter()
                .flatten()
        })
        .collect()
}

fn dns_option(subnet: &SubnetSpec, dhcp: &Dhcp) -> Option<String> {
    if dhcp.dns_servers.is_empty() {
        return None;
    }
    let servers = dhcp.dns_servers.iter().map(|server| match server {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    });
    let key = if subnet.address.is_ipv4() {
        DNS_OPTION
    } else {
        DNS6_OPTION
    };
    Some(format!("{key}{}", servers.collect::<Vec<_>>().join(",")))
}

/// RFC 3442: a client that gets this option ignores the router option, so the default route has to be in it as well.
fn route_option(mode: ForwardMode, subnet: &SubnetSpec, dhcp: &Dhcp) -> Option<String> {
    if dhcp.routes.is_empty() {
        return None;
    }
    let mut routes = String::new();
    for route in &dhcp.routes {
        let _ = write!(routes, "{}/{},{},", route.destination, route.prefix, route.via);
    }
    if mode == ForwardMode::Nat {
        let _ = write!(routes, "0.0.0.0/0,{},", subnet.address);
    }
    Some(format!("{ROUTE_OPTION}{}", routes.trim_end_matches(',')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Definition, fixtures::network, read};

    #[test]
    fn a_network_with_its_hosts_in_a_file_names_the_file_and_keeps_dhcp_on() {
        let mut spec = network(Vec::new());
        spec.subnets.push(SubnetSpec {
            address: "fd00::1".parse().unwrap(),
            prefix: 64,
            dhcp: Some(Dhcp::default()),
        });
        let empty = spec.clone();
        spec.subnets[0].dhcp.as_mut().unwrap().hosts = vec![DhcpHost {
            mac: MacAddress([2, 0, 0, 0, 0, 1]),
            address: "10.0.0.2".parse().unwrap(),
            name: Some("web-1".to_owned()),
        }];
        let path = Path::new("/var/lib/virga/networks/n.hosts");
        let xml = to_xml_without_hosts(&spec, path);
        assert!(!xml.contains("web-1") && xml.matches("<host ").count() == 2, "{xml}");
        let expected = Definition {
            spec: empty,
            hosts_file: Some(path.to_owned()),
        };
        assert_eq!(read(&xml), Some(expected));
    }
}
