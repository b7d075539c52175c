//! Address ranges that can't be on one host together.

use std::net::IpAddr;

use super::spec::NetworkSpec;
use crate::xml::Element;

/// An address range: an address in it and its prefix length.
pub(crate) type Range = (IpAddr, u8);

/// Whether two ranges share an address.
pub(crate) fn overlap((a, a_prefix): Range, (b, b_prefix): Range) -> bool {
    let prefix = u32::from(a_prefix.min(b_prefix));
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros() >= prefix.min(32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros() >= prefix.min(128),
        _ => false,
    }
}

/// The ranges of a network.
pub(crate) fn ranges(spec: &NetworkSpec) -> impl Iterator<Item = Range> {
    spec.subnets.iter().map(|subnet| (subnet.address, subnet.prefix))
}

/// The ranges of any libvirt network, ours or not. What can't be read is left out.
pub(crate) fn ranges_of_xml(document: &str) -> Vec<Range> {
    let Ok(root) = Element::parse(document) else {
        return Vec::new();
    };
    root.all("ip").filter_map(range_of).collect()
}

/// The address and prefix of an `<ip>` element. libvirt keeps a mask when it was given one.
pub(super) fn range_of(element: &Element) -> Option<Range> {
    let address = element.get("address")?.parse().ok()?;
    let prefix = match (element.get("prefix"), element.get("netmask")) {
        (Some(prefix), _) => prefix.parse().ok()?,
        (None, Some(mask)) => u8::try_from(mask.parse::<std::net::Ipv4Addr>().ok()?.to_bits().leading_ones()).ok()?,
        (None, None) => return None,
    };
    Some((address, prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> Range {
        let (address, prefix) = text.split_once('/').unwrap();
        (address.parse().unwrap(), prefix.parse().unwrap())
    }

    #[test]
    fn ranges_overlap_when_one_holds_the_other() {
        for (a, b, expected) in [
            ("10.0.0.1/24", "10.0.0.129/25", true),
            ("10.0.0.1/25", "10.0.0.129/25", false),
            ("10.0.0.1/8", "10.9.9.9/32", true),
            ("0.0.0.0/0", "10.9.9.9/32", true),
            ("fd00::1/64", "fd00::ffff/128", true),
            ("fd00::1/64", "fd00:0:0:1::1/64", false),
            ("::/0", "10.0.0.1/24", false),
        ] {
            assert_eq!(overlap(range(a), range(b)), expected, "{a} {b}");
            assert_eq!(overlap(range(b), range(a)), expected, "{b} {a}");
        }
    }

    #[test]
    fn ranges_of_a_foreign_network_are_read_from_prefix_or_mask() {
        let xml = "<network><name>x</name><ip address='192.168.122.1' netmask='255.255.255.0'/>\
                   <ip family='ipv6' address='fd00::1' prefix='64'/><ip address='1.2.3.4'/></network>";
        assert_eq!(ranges_of_xml(xml), [range("192.168.122.1/24"), range("fd00::1/64")]);
    }
}
