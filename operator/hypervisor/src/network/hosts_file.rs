//! A network's DHCP hosts as dnsmasq reads them from a file (dnsmasq(8), `--dhcp-hostsfile`): one a line.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::spec::{DHCP_LEASE, DhcpHost, NetworkSpec};

/// What starts an IPv6 client's line: its DUID follows.
const DUID: &str = "id:";

/// The file's text. Valid for dnsmasq when [`NetworkSpec::validate`] found nothing: then no value has a comma, a space
/// or a line's end in it. The same hosts in any order are the same text.
pub(crate) fn write_hosts(spec: &NetworkSpec) -> String {
    let mut hosts: Vec<&DhcpHost> = spec
        .subnets
        .iter()
        .filter_map(|subnet| subnet.dhcp.as_ref())
        .flat_map(|dhcp| &dhcp.hosts)
        .collect();
    hosts.sort();
    let mut text = String::new();
    for host in hosts {
        let _ = match host.address {
            IpAddr::V4(address) => write!(text, "{},{address}", host.mac),
            // Known by the DUID that a client may make of its MAC address, and by that address, whatever the DUID is:
            // dnsmasq asks the client's link for it.
            IpAddr::V6(address) => write!(text, "{DUID}{},{},[{address}]", host.mac.duid(), host.mac),
        };
        // dnsmasq tells fields by their looks: the names `ignore`, `infinite`, `120` and `12h` would be orders to it. A
        // dot at the end, which it takes off again, makes each a name (seen on 2.90).
        if let Some(name) = &host.name {
            let _ = write!(text, ",{name}.");
        }
        let _ = writeln!(text, ",{}s", DHCP_LEASE.as_secs());
    }
    text
}

/// The hosts in such a text. Lines that we never write are left out.
pub(crate) fn read_hosts(text: &str) -> Vec<DhcpHost> {
    text.lines().filter_map(read_host).collect()
}

fn read_host(line: &str) -> Option<DhcpHost> {
    let mut fields: Vec<&str> = line.split(',').collect();
    let v6 = fields[0].starts_with(DUID);
    if v6 {
        fields.remove(0);
    }
    let (mac, address, name) = match *fields.as_slice() {
        [mac, address, _lease] => (mac, address, None),
        [mac, address, name, _lease] => (mac, address, Some(name.strip_suffix('.')?)),
        _ => return None,
    };
    let address = if v6 {
        IpAddr::V6(address.strip_prefix('[')?.strip_suffix(']')?.parse().ok()?)
    } else {
        IpAddr::V4(address.parse().ok()?)
    };
    Some(DhcpHost {
        mac: mac.parse().ok()?,
        address,
        name: name.map(ToOwned::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;
    use crate::network::{MacAddress, fixtures::network};

    fn host() -> impl Strategy<Value = DhcpHost> {
        let address = prop_oneof![
            any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
            any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))),
        ];
        let name = prop::option::of("[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?(\\.[a-z0-9]{1,5}){0,2}");
        (any::<[u8; 6]>(), address, name).prop_map(|(mac, address, name)| DhcpHost {
            mac: MacAddress(mac),
            address,
            name,
        })
    }

    proptest! {
        #[test]
        fn hosts_come_back_as_they_were_written(hosts in prop::collection::vec(host(), 0..8)) {
            let mut sorted = hosts.clone();
            sorted.sort();
            prop_assert_eq!(read_hosts(&write_hosts(&network(hosts))), sorted);
        }

        #[test]
        fn reading_anything_ends_without_a_panic(text in any::<String>()) {
            let _ = read_hosts(&text);
        }
    }

    #[test]
    fn a_name_is_never_a_word_that_dnsmasq_takes_for_an_order() {
        let hosts = ["ignore", "infinite", "120", "12h"].iter().enumerate();
        let hosts = hosts.map(|(index, name)| DhcpHost {
            mac: "fa:16:3e:00:00:01".parse().unwrap(),
            address: format!("10.0.0.{}", index + 2).parse().unwrap(),
            name: Some((*name).to_owned()),
        });
        let text = write_hosts(&network(hosts.collect()));
        assert_eq!(
            text,
            "fa:16:3e:00:00:01,10.0.0.2,ignore.,120s\nfa:16:3e:00:00:01,10.0.0.3,infinite.,120s\n\
             fa:16:3e:00:00:01,10.0.0.4,120.,120s\nfa:16:3e:00:00:01,10.0.0.5,12h.,120s\n"
        );
    }

    #[test]
    fn what_we_never_write_is_left_out() {
        let ours = "fa:16:3e:00:00:01,10.0.0.2,120s\n";
        let theirs =
            "dhcp-script=/bin/sh\nfa:16:3e:00:00:02\n,,,\nid:\nid:00,[::1],120s\nfa:16:3e:00:00:03,10.0.0.3,web,120s\n";
        assert_eq!(read_hosts(&format!("{theirs}{ours}")), read_hosts(ours));
    }
}
