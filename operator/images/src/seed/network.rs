//! Network configuration, version 2 (Netplan's), as cloud-init reads it from a NoCloud seed.

use std::{collections::BTreeMap, net::IpAddr};

use serde::Serialize;

use super::{Error, Interface, is_host_name};

/// The most of each of an interface's lists.
const MAX_LIST: usize = 64;

#[derive(Serialize)]
struct Config<'a> {
    version: u8,
    ethernets: BTreeMap<String, Ethernet<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    vlans: BTreeMap<String, VlanOf<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Ethernet<'a> {
    r#match: Match,
    #[serde(skip_serializing_if = "Option::is_none")]
    set_name: Option<&'a str>,
    #[serde(flatten)]
    settings: Settings<'a>,
}

#[derive(Serialize)]
struct VlanOf<'a> {
    id: u16,
    link: &'a str,
    macaddress: String,
    #[serde(flatten)]
    settings: Settings<'a>,
}

/// What cards and VLANs have alike.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Settings<'a> {
    dhcp4: bool,
    dhcp6: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    accept_ra: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    addresses: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    routes: Vec<Route>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
    #[serde(skip_serializing_if = "Nameservers::is_empty")]
    nameservers: Nameservers<'a>,
}

#[derive(Serialize)]
struct Match {
    macaddress: String,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Route {
    to: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    via: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metric: Option<u32>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    on_link: bool,
}

#[derive(Serialize)]
struct Nameservers<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    addresses: &'a [IpAddr],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    search: &'a [String],
}

impl Nameservers<'_> {
    fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.search.is_empty()
    }
}

/// The file's bytes: JSON, which is YAML, with nothing in it but checked names and numbers.
pub(super) fn config(interfaces: &[Interface]) -> Result<Vec<u8>, Error> {
    let mut ethernets = BTreeMap::new();
    // The card with a MAC address, and how it is called here.
    let mut cards = BTreeMap::new();
    for (index, interface) in interfaces.iter().enumerate() {
        if interface.vlan.is_some() {
            continue;
        }
        let macaddress = mac(index, "mac", &interface.mac)?;
        // The id only names the entry. Two digits keep the order.
        let id = format!("nic{:02}", cards.len());
        if let Some((other, _)) = cards.insert(macaddress.clone(), (index, id.clone())) {
            return Err(invalid(index, "mac", &format!("interface {other} has the same")));
        }
        let ethernet = Ethernet {
            r#match: Match { macaddress },
            set_name: interface.name.as_deref(),
            settings: settings(index, interface)?,
        };
        ethernets.insert(id, ethernet);
    }
    let mut vlans = BTreeMap::new();
    for (index, interface) in interfaces.iter().enumerate() {
        let Some(vlan) = &interface.vlan else { continue };
        let Some((_, link)) = cards.get(&mac(index, "vlan.link", &vlan.link)?) else {
            return Err(invalid(index, "vlan.link", "no card has this MAC address"));
        };
        if !(1..=4094).contains(&vlan.id) {
            return Err(invalid(index, "vlan.id", "expected 1 to 4094"));
        }
        let made = VlanOf {
            id: vlan.id,
            link,
            macaddress: mac(index, "mac", &interface.mac)?,
            settings: settings(index, interface)?,
        };
        // What Netplan calls a VLAN is its name in the guest.
        let name = interface.name.clone();
        let name = name.unwrap_or_else(|| format!("{link}.{}", vlan.id));
        if ethernets.contains_key(&name) || vlans.insert(name, made).is_some() {
            return Err(invalid(index, "vlan", "another interface is called the same"));
        }
    }
    let config = Config {
        version: 2,
        ethernets,
        vlans,
    };
    let mut text = serde_json::to_vec(&config).map_err(|error| Error::Build(error.into()))?;
    text.push(b'\n');
    Ok(text)
}

/// A MAC address as it is written there.
fn mac(index: usize, field: &str, text: &str) -> Result<String, Error> {
    let text = text.to_ascii_lowercase();
    if is_mac(&text) {
        return Ok(text);
    }
    let wanted = "expected six pairs of hexadecimal digits with colons between them";
    Err(invalid(index, field, wanted))
}

fn settings(index: usize, interface: &Interface) -> Result<Settings<'_>, Error> {
    if let Some(name) = &interface.name {
        // Linux: at most 15 bytes (IFNAMSIZ less one).
        let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if !(1..=15).contains(&name.len()) || !name.bytes().all(good) {
            return Err(invalid(
                index,
                "name",
                "expected 1 to 15 letters, digits, dashes or underscores",
            ));
        }
    }
    // The least is what IPv4 needs (RFC 791).
    if interface.mtu.is_some_and(|mtu| !(68..=65_536).contains(&mtu)) {
        return Err(invalid(index, "mtu", "expected 68 to 65536"));
    }
    for (field, length) in [
        ("addresses", interface.addresses.len()),
        ("routes", interface.routes.len()),
        ("nameservers", interface.nameservers.len()),
        ("search", interface.search.len()),
    ] {
        if length > MAX_LIST {
            return Err(invalid(index, field, &format!("there are more than {MAX_LIST}")));
        }
    }
    if interface.search.iter().any(|domain| !is_host_name(domain)) {
        return Err(invalid(index, "search", "it holds something that is no domain name"));
    }
    let route = |route: &super::Route| Route {
        to: route.to.trunc().to_string(),
        via: route.via,
        metric: route.metric,
        on_link: route.on_link,
    };
    Ok(Settings {
        dhcp4: interface.dhcp4,
        dhcp6: interface.dhcp6,
        accept_ra: interface.accept_ra,
        addresses: interface.addresses.iter().map(ToString::to_string).collect(),
        routes: interface.routes.iter().map(route).collect(),
        mtu: interface.mtu,
        nameservers: Nameservers {
            addresses: &interface.nameservers,
            search: &interface.search,
        },
    })
}

fn is_mac(text: &str) -> bool {
    text.len() == 17
        && text.split(':').count() == 6
        && text
            .split(':')
            .all(|pair| pair.len() == 2 && pair.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn invalid(index: usize, field: &str, reason: &str) -> Error {
    Error::invalid(format!("interfaces[{index}].{field}"), reason)
}
