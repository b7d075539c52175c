//! Where guests make their IPv6 address themselves: which one, and which subnets they can do so in?

use std::net::{IpAddr, Ipv6Addr};

use virga_crds::Subnet;

use super::ValidSubnet;
use crate::problem::Problems;

impl ValidSubnet {
    /// Whether its guests make their address of their MAC address (RFC 4862, RFC 4291 appendix A).
    pub fn is_derived(&self) -> bool {
        self.dhcp && self.cidr.addr().is_ipv6() && self.ipv6_mode.is_derived()
    }

    /// The address that a guest with this MAC address makes.
    pub fn derived(&self, mac: &str) -> Option<IpAddr> {
        let IpAddr::V6(network) = self.cidr.network() else {
            return None;
        };
        let host = interface_id(mac).filter(|_| self.is_derived())?;
        Some(Ipv6Addr::from(u128::from(network) | u128::from(host)).into())
    }
}

/// The modified EUI-64 of a MAC address.
fn interface_id(mac: &str) -> Option<u64> {
    let parts: Result<Vec<u8>, _> = mac.split(':').map(|part| u8::from_str_radix(part, 16)).collect();
    let [first, rest @ ..]: [u8; 6] = parts.ok()?.try_into().ok()?;
    let halves = [&[first ^ 2], &rest[..2], &[0xff, 0xfe], &rest[2..]].concat();
    Some(u64::from_be_bytes(halves.try_into().ok()?))
}

/// The schema says the same; this is for who asks without it.
pub(super) fn check(subnet: &Subnet, valid: &ValidSubnet, problems: &mut Problems) {
    let Some(mode) = subnet.ipv6_mode else { return };
    let at = format!("spec.subnets[{}].ipv6Mode", valid.name);
    if valid.cidr.addr().is_ipv4() {
        problems.add(at, "is for IPv6: leave it out");
    } else if mode.is_derived() && valid.cidr.prefix_len() != 64 {
        problems.add(
            at,
            "guests make addresses of their own in a /64 only (RFC 4862): take one, or DHCPv6Stateful",
        );
    } else if mode.is_derived() && !subnet.allocation_pools.is_empty() {
        problems.add(
            at,
            "addresses follow from MAC addresses and are of no pool: leave allocationPools out, or take DHCPv6Stateful",
        );
    }
}

/// A router advertises all of a network's ranges at once, and one way to come by addresses.
pub(super) fn check_all(subnets: &[ValidSubnet], problems: &mut Problems) {
    let of_six = || subnets.iter().filter(|subnet| subnet.cidr.addr().is_ipv6());
    if let Some(derived) = of_six()
        .find(|subnet| subnet.is_derived())
        .filter(|_| of_six().count() > 1)
    {
        problems.add(
            format!("spec.subnets[{}].ipv6Mode", derived.name),
            "where guests make their own addresses there is one IPv6 subnet: leave the others out, or take DHCPv6Stateful",
        );
    }
}

#[cfg(test)]
mod tests {
    use virga_crds::{Ipv6Mode, NetworkSpec};

    use super::*;
    use crate::network::validate;

    fn subnet(name: &str, cidr: &str, mode: Option<Ipv6Mode>) -> Subnet {
        Subnet {
            name: name.into(),
            cidr: cidr.into(),
            ipv6_mode: mode,
            ..Subnet::default()
        }
    }

    fn checked(subnets: Vec<Subnet>) -> Result<Vec<ValidSubnet>, String> {
        let spec = NetworkSpec {
            subnets,
            ..NetworkSpec::default()
        };
        let valid = validate(&spec).map_err(|problems| problems.to_string())?;
        Ok(valid.subnets)
    }

    #[test]
    fn an_address_follows_from_the_mac_address_where_guests_make_it() {
        let of = |mode| checked(vec![subnet("v6", "fd00:1::/64", mode)]).unwrap()[0].derived("fa:16:3e:01:02:03");
        let made = "fd00:1::f816:3eff:fe01:203".parse().ok();
        assert_eq!(of(Some(Ipv6Mode::Slaac)), made);
        assert_eq!(of(Some(Ipv6Mode::Stateless)), made);
        assert_eq!(of(Some(Ipv6Mode::Stateful)), None);
        assert_eq!(of(None), None);
        let mut known = subnet("v6", "fd00:1::/64", Some(Ipv6Mode::Slaac));
        known.dhcp = virga_crds::Dhcp::Disabled;
        assert_eq!(checked(vec![known]).unwrap()[0].derived("fa:16:3e:01:02:03"), None);
    }

    #[test]
    fn where_guests_could_make_none_it_is_refused_with_the_cure() {
        let slaac = Some(Ipv6Mode::Slaac);
        let says = |subnets, words: &str| {
            let said = checked(subnets).unwrap_err();
            assert!(said.contains(words), "{said}");
        };
        says(
            vec![subnet("a", "10.0.0.0/24", slaac)],
            "spec.subnets[a].ipv6Mode: is for IPv6",
        );
        says(vec![subnet("a", "fd00::/80", slaac)], "in a /64 only");
        says(
            vec![subnet("a", "fd00::/64", slaac), subnet("b", "fd00:1::/64", None)],
            "there is one IPv6 subnet",
        );
        let mut pooled = subnet("a", "fd00::/64", slaac);
        pooled.allocation_pools = vec![virga_crds::AllocationPool {
            start: "fd00::10".into(),
            end: "fd00::20".into(),
        }];
        says(vec![pooled], "leave allocationPools out");
    }
}
