//! Checks before libvirt sees a network. libvirt writes names and addresses into dnsmasq's files line by line, so
//! nothing but what these checks let through may reach it.

use std::collections::HashSet;
use std::net::IpAddr;

use super::overlap::overlap;
use super::spec::{Dhcp, NetworkSpec, SubnetSpec};
use crate::error::{Problem, Problems};

/// Linux: IFNAMSIZ less the terminating zero.
const MAX_BRIDGE: usize = 15;

impl NetworkSpec {
    /// Everything that is wrong with it.
    pub fn validate(&self) -> Result<(), Vec<Problem>> {
        let mut problems = Problems::default();
        problems.check(!self.uuid.is_nil(), "uuid", "must not be nil");
        problems.check(self.uuid == self.owner.uid, "uuid", "must be the owner's UID");
        check_word(&mut problems, "name", &self.name, 64);
        check_word(&mut problems, "bridge", &self.bridge, MAX_BRIDGE);
        for (field, text) in [
            ("owner.namespace", &self.owner.namespace),
            ("owner.name", &self.owner.name),
        ] {
            problems.check(is_domain_name(text), field, format!("{text:?} must be a DNS name"));
        }
        if let Some(domain) = &self.domain {
            problems.check(
                is_domain_name(domain),
                "domain",
                format!("{domain:?} must be a DNS name"),
            );
        }
        if let Some(mtu) = self.mtu {
            problems.check(
                (576..=65_535).contains(&mtu),
                "mtu",
                format!("{mtu} must be from 576 to 65535"),
            );
        }
        for (index, subnet) in self.subnets.iter().enumerate() {
            check_subnet(&mut problems, index, subnet);
        }
        for family in [true, false] {
            let mut of_family = self.subnets.iter().filter(|s| s.address.is_ipv4() == family);
            let with_dhcp = of_family.clone().filter(|s| s.dhcp.is_some()).count();
            problems.check(
                with_dhcp == 0 || of_family.next().is_some_and(|first| first.dhcp.is_some()),
                "subnets",
                "the subnet with DHCP must be the first of its address family",
            );
            let name = if family { "IPv4" } else { "IPv6" };
            problems.check(
                with_dhcp <= 1,
                "subnets",
                format!(
                    "{with_dhcp} {name} subnets have DHCP: a libvirt network serves one; turn it off for the others"
                ),
            );
        }
        for (index, subnet) in self.subnets.iter().enumerate() {
            for (other_index, other) in self.subnets.iter().enumerate().take(index) {
                problems.check(
                    !overlap((other.address, other.prefix), (subnet.address, subnet.prefix)),
                    format!("subnets[{index}]"),
                    format!("overlaps subnets[{other_index}]"),
                );
            }
        }
        self.check_dns(&mut problems);
        problems.into_result()
    }

    fn check_dns(&self, problems: &mut Problems) {
        let mut addresses = HashSet::new();
        for (index, host) in self.dns_hosts.iter().enumerate() {
            let field = format!("dnsHosts[{index}]");
            problems.check(
                addresses.insert(host.address),
                &field,
                format!("{} has two entries", host.address),
            );
            problems.check(!host.names.is_empty(), &field, "must have a name");
            for name in &host.names {
                problems.check(is_domain_name(name), &field, format!("{name:?} must be a DNS name"));
            }
        }
    }
}

fn check_subnet(problems: &mut Problems, index: usize, subnet: &SubnetSpec) {
    let field = |name: &str| format!("subnets[{index}].{name}");
    let bits = if subnet.address.is_ipv4() { 32 } else { 128 };
    problems.check(
        (1..bits).contains(&subnet.prefix),
        field("prefix"),
        format!("{} must be from 1 to {}", subnet.prefix, bits - 1),
    );
    problems.check(
        !subnet.address.is_unspecified() && !subnet.address.is_multicast() && !subnet.address.is_loopback(),
        field("address"),
        format!("{} can't be a bridge's address", subnet.address),
    );
    if let Some(dhcp) = &subnet.dhcp {
        check_dhcp(problems, index, subnet, dhcp);
    }
}

fn check_dhcp(problems: &mut Problems, index: usize, subnet: &SubnetSpec, dhcp: &Dhcp) {
    let field = |name: &str| format!("subnets[{index}].dhcp.{name}");
    let inside = |address: &IpAddr| overlap((*address, u8::MAX), (subnet.address, subnet.prefix));
    let same_family = |address: &IpAddr| address.is_ipv4() == subnet.address.is_ipv4();
    for (first, last) in &dhcp.ranges {
        problems.check(
            inside(first) && inside(last) && first <= last,
            field("ranges"),
            format!("{first}-{last} must lie in the subnet, first to last"),
        );
    }
    let (mut macs, mut addresses, mut names) = (HashSet::new(), HashSet::new(), HashSet::new());
    for host in &dhcp.hosts {
        problems.check(
            inside(&host.address) && host.address != subnet.address,
            field("hosts"),
            format!(
                "{} must lie in the subnet and not be the bridge's address",
                host.address
            ),
        );
        problems.check(
            macs.insert(host.mac),
            field("hosts"),
            format!("{} has two entries", host.mac),
        );
        problems.check(
            addresses.insert(host.address),
            field("hosts"),
            format!("{} has two entries", host.address),
        );
        if let Some(name) = &host.name {
            problems.check(
                is_domain_name(name),
                field("hosts"),
                format!("{name:?} must be a DNS name"),
            );
            problems.check(names.insert(name), field("hosts"), format!("{name:?} has two entries"));
        }
    }
    problems.check(
        dhcp.dns_servers.iter().all(same_family),
        field("dnsServers"),
        "must be of the subnet's address family",
    );
    for route in &dhcp.routes {
        // DHCPv6 carries no routes; router advertisements do (RFC 4191), which libvirt can't set.
        problems.check(
            subnet.address.is_ipv4(),
            field("routes"),
            "are possible in IPv4 subnets only",
        );
        problems.check(
            same_family(&route.destination) && inside(&route.via) && route.prefix <= 32,
            field("routes"),
            format!(
                "{}/{} via {} must go through a router in the subnet",
                route.destination, route.prefix, route.via
            ),
        );
    }
}

fn check_word(problems: &mut Problems, field: &str, value: &str, max: usize) {
    let ok = (1..=max).contains(&value.len())
        && value
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        && value.as_bytes()[0].is_ascii_alphanumeric();
    problems.check(
        ok,
        field,
        format!("{value:?} must be 1 to {max} letters, digits, '-' or '_'"),
    );
}

/// RFC 1123: labels of letters, digits and inner hyphens, 63 bytes each, 253 in all.
fn is_domain_name(name: &str) -> bool {
    (1..=253).contains(&name.len())
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}
