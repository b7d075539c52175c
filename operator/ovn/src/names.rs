//! Which names does a Network answer for? (ovn-nb(5), DNS)
//!
//! A guest's, bare and in the Network's domain, both families; and for each of its addresses, its name.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::IpAddr,
};

use virga_ovsdb::northbound::Dns;

use crate::key::spaced;

/// The names of a Network's guests.
#[derive(Default)]
pub(crate) struct Names {
    domain: Option<String>,
    addresses: BTreeMap<String, BTreeSet<IpAddr>>,
    /// By address: OVN takes one name for each.
    by_address: BTreeMap<IpAddr, String>,
}

impl Names {
    /// Of a Network with this domain.
    pub fn new(domain: Option<&str>) -> Self {
        Self {
            domain: domain.map(str::to_lowercase),
            ..Self::default()
        }
    }

    /// A guest's. One that has no name, or no address, is not answered for.
    pub fn add(&mut self, host: &str, addresses: &BTreeSet<IpAddr>) {
        if host.is_empty() || addresses.is_empty() {
            return;
        }
        let host = host.to_lowercase();
        let whole = self.domain.as_ref().map(|domain| format!("{host}.{domain}"));
        for address in addresses {
            let name = whole.as_ref().unwrap_or(&host);
            self.by_address.entry(*address).or_insert_with(|| name.clone());
        }
        for name in whole.into_iter().chain([host]) {
            self.addresses.entry(name).or_default().extend(addresses);
        }
    }

    /// The row; none: there is nothing to answer.
    pub fn row(self) -> Option<Dns> {
        let forward = self
            .addresses
            .into_iter()
            .map(|(name, addresses)| (name, spaced(&addresses)));
        let back = self
            .by_address
            .into_iter()
            .map(|(address, name)| (reverse(address), name));
        let records: BTreeMap<String, String> = forward.chain(back).collect();
        (!records.is_empty()).then(|| Dns {
            records,
            ..Dns::default()
        })
    }
}

/// What is asked for the name of an address (RFC 1035, 3.5; RFC 3596, 2.5).
fn reverse(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(address) => {
            let mut name = String::new();
            for byte in address.octets().into_iter().rev() {
                // Writing to a String can't fail.
                let _ = write!(name, "{:x}.{:x}.", byte & 0xf, byte >> 4);
            }
            name + "ip6.arpa"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(domain: Option<&str>, guests: &[(&str, &[&str])]) -> Vec<String> {
        let mut names = Names::new(domain);
        for (host, addresses) in guests {
            names.add(
                host,
                &addresses.iter().map(|address| address.parse().unwrap()).collect(),
            );
        }
        let records = names.row().map(|row| row.records).unwrap_or_default();
        records
            .into_iter()
            .map(|(name, value)| format!("{name} {value}"))
            .collect()
    }

    #[test]
    fn a_guest_is_found_by_its_names_and_its_addresses() {
        assert_eq!(
            said(Some("Front.shop"), &[("Web-1", &["10.0.0.5", "fd00:1::5"])]),
            [
                "5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa web-1.front.shop",
                "5.0.0.10.in-addr.arpa web-1.front.shop",
                "web-1 10.0.0.5 fd00:1::5",
                "web-1.front.shop 10.0.0.5 fd00:1::5",
            ]
        );
        assert_eq!(
            said(None, &[("web-1", &["10.0.0.5"])]),
            ["5.0.0.10.in-addr.arpa web-1", "web-1 10.0.0.5"]
        );
        assert!(said(None, &[("", &["10.0.0.5"]), ("web-1", &[])]).is_empty());
    }
}
