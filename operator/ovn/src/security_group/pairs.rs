//! From which addresses may a Port's guest send? (ovn-nb(5), Logical_Switch_Port, port_security)

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use virga_crds::PortSpec;

/// What a Port's guest may send from: its own addresses, which `own` is after its MAC address, and those that it was
/// allowed besides. Whether the latter have MAC addresses of their own is the second.
pub(crate) fn port_security(port: &PortSpec, own: &str) -> (BTreeSet<String>, bool) {
    let mut by_mac = BTreeMap::from([(port.mac.as_str(), own.to_owned())]);
    for pair in &port.allowed_address_pairs {
        let Some(address) = allowed(&pair.address) else {
            continue;
        };
        let mac = pair.mac.as_deref().unwrap_or(&port.mac);
        let entry = by_mac.entry(mac).or_insert_with(|| mac.to_owned());
        entry.push(' ');
        entry.push_str(&address);
    }
    let others = by_mac.len() > 1;
    (by_mac.into_values().collect(), others)
}

/// An address or a range as OVN takes it; none of what is neither.
fn allowed(address: &str) -> Option<String> {
    let one = address.parse::<IpAddr>().map(|ip| ip.to_string());
    one.or_else(|_| address.parse::<IpNet>().map(|range| range.to_string()))
        .ok()
}

#[cfg(test)]
mod tests {
    use virga_crds::AddressPair;

    use super::*;

    #[test]
    fn pairs_join_the_own_address_or_have_a_mac_address_of_their_own() {
        let pair = |address: &str, mac: Option<&str>| AddressPair {
            address: address.into(),
            mac: mac.map(Into::into),
        };
        let mut port = PortSpec {
            mac: "fa:16:3e:00:00:01".into(),
            allowed_address_pairs: vec![pair("10.0.0.100", None), pair("10.0.0.5 unknown", None)],
            ..PortSpec::default()
        };
        let own = "fa:16:3e:00:00:01 10.0.0.5";
        let said = |port: &PortSpec| port_security(port, own).0.into_iter().collect::<Vec<_>>();
        assert_eq!(said(&port), ["fa:16:3e:00:00:01 10.0.0.5 10.0.0.100"]);
        assert!(!port_security(&port, own).1);
        port.allowed_address_pairs = vec![
            pair("10.9.0.0/28", Some("00:00:5e:00:01:01")),
            pair("fd00::1", Some("00:00:5e:00:01:01")),
        ];
        assert_eq!(said(&port), ["00:00:5e:00:01:01 10.9.0.0/28 fd00::1", own]);
        assert!(port_security(&port, own).1);
    }
}
