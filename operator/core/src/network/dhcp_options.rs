//! What does DHCP tell one guest besides, and in which words does OVN take it? (ovn-nb(5), DHCP_Options, of OVN 23.03)

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use virga_crds::{DhcpOption, DhcpOptionName as Name, PortSpec};

use super::Backend;
use crate::problem::Problems;

/// Why libvirt's networks tell nothing of one guest alone.
pub const NO_OPTIONS: &str =
    "libvirt's networks tell all guests the same: leave it out, or have the operator install Virga with OVN";

/// The most addresses, domains or routes of an option: what is told has to fit into one packet.
const MOST: usize = 16;

/// An option as OVN calls it, and its value as OVN writes it.
pub fn told(option: &DhcpOption) -> Result<(&'static str, String), String> {
    let value = option.value.trim();
    let quoted = |value: &str| format!("\"{value}\"");
    Ok(match option.name {
        Name::BootfileName => ("bootfile_name", quoted(text(value)?)),
        Name::ClasslessStaticRoute => ("classless_static_route", routes(value)?),
        Name::DnsServer => ("dns_server", addresses(value)?),
        Name::DomainName => ("domain_name", quoted(domain(value)?)),
        Name::DomainSearchList => ("domain_search_list", quoted(&domains(value)?)),
        Name::LeaseTime => ("lease_time", number(value, 60, u32::MAX)?),
        Name::LogServer => ("log_server", addresses(value)?),
        Name::Mtu => ("mtu", number(value, 576, 9216)?),
        Name::NextServer => ("next_server", address(value)?.to_string()),
        Name::NtpServer => ("ntp_server", addresses(value)?),
        Name::PathPrefix => ("path_prefix", quoted(text(value)?)),
        Name::Router => ("router", address(value)?.to_string()),
        Name::TftpServer => match address(value) {
            Ok(address) => ("tftp_server", address.to_string()),
            Err(_) => ("tftp_server", quoted(domain(value)?)),
        },
        Name::TftpServerAddress => ("tftp_server_address", address(value)?.to_string()),
        Name::Wpad => ("wpad", quoted(text(value)?)),
    })
}

/// What is wrong with a Port's options.
pub(super) fn validate(port: &PortSpec, backend: Backend) -> Problems {
    let mut problems = Problems::default();
    if backend == Backend::Libvirt && !port.dhcp_options.is_empty() {
        problems.add("spec.dhcpOptions", NO_OPTIONS);
    }
    for option in &port.dhcp_options {
        if let Err(message) = told(option) {
            let name = serde_json::to_value(option.name).unwrap_or_default();
            let name = name.as_str().unwrap_or_default();
            problems.add(format!("spec.dhcpOptions[{name}].value"), message);
        }
    }
    problems
}

/// As the schema says too: no quotes, which end it, and nothing that can't be seen.
fn text(value: &str) -> Result<&str, String> {
    let fits = |c: char| (c.is_ascii_graphic() || c == ' ') && c != '"' && c != '\\';
    if value.is_empty() || value.len() > 255 || !value.chars().all(fits) {
        return Err("1 to 255 characters of ASCII, without quotes and backslashes".to_owned());
    }
    Ok(value)
}

fn number(value: &str, least: u32, most: u32) -> Result<String, String> {
    let number = value.parse().ok().filter(|number| (least..=most).contains(number));
    let number: u32 = number.ok_or_else(|| format!("a number from {least} to {most}"))?;
    Ok(number.to_string())
}

fn address(value: &str) -> Result<Ipv4Addr, String> {
    value.parse().map_err(|_| format!("{value:?} is no IPv4 address"))
}

fn parts(value: &str) -> Result<Vec<&str>, String> {
    let parts: Vec<&str> = value.split(',').map(str::trim).collect();
    if parts.len() > MOST {
        return Err(format!("more than {MOST}, parted by commas"));
    }
    Ok(parts)
}

fn addresses(value: &str) -> Result<String, String> {
    let all = parts(value)?.into_iter().map(address);
    let all: Vec<String> = all
        .map(|one| one.map(|one| one.to_string()))
        .collect::<Result<_, _>>()?;
    Ok(match all.as_slice() {
        [one] => one.clone(),
        several => format!("{{{}}}", several.join(", ")),
    })
}

fn domain(value: &str) -> Result<&str, String> {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if value.len() > 253 || !value.split('.').all(is_label) {
        return Err(format!(
            "{value:?} is no domain: labels of letters, digits and '-', parted by dots"
        ));
    }
    Ok(value)
}

fn domains(value: &str) -> Result<String, String> {
    let all = parts(value)?.into_iter().map(domain);
    Ok(all.collect::<Result<Vec<_>, _>>()?.join(", "))
}

fn routes(value: &str) -> Result<String, String> {
    let wrong = || "routes as destination,nextHop,… such as 192.0.2.0/24,10.0.0.2,0.0.0.0/0,10.0.0.1".to_owned();
    let parts: Vec<&str> = value.split(',').map(str::trim).collect();
    if parts.len() > 2 * MOST || !parts.len().is_multiple_of(2) {
        return Err(wrong());
    }
    let route = |pair: &[&str]| {
        let to: Ipv4Net = pair[0].parse().ok()?;
        let via: Ipv4Addr = pair[1].parse().ok()?;
        (to == to.trunc()).then(|| format!("{to},{via}"))
    };
    let routes: Option<Vec<String>> = parts.chunks(2).map(route).collect();
    Ok(format!("{{{}}}", routes.ok_or_else(wrong)?.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: Name, value: &str) -> Result<String, String> {
        let value = value.to_owned();
        told(&DhcpOption { name, value }).map(|(name, value)| format!("{name} = {value}"))
    }

    #[test]
    fn values_are_written_as_ovn_reads_them() {
        let said = |name, value| of(name, value).unwrap();
        assert_eq!(
            said(Name::BootfileName, "pxelinux.0"),
            r#"bootfile_name = "pxelinux.0""#
        );
        assert_eq!(said(Name::NtpServer, "10.0.0.1"), "ntp_server = 10.0.0.1");
        assert_eq!(
            said(Name::NtpServer, "10.0.0.1,10.0.0.2"),
            "ntp_server = {10.0.0.1, 10.0.0.2}"
        );
        assert_eq!(
            said(Name::DomainSearchList, "a.example, b.example"),
            r#"domain_search_list = "a.example, b.example""#
        );
        assert_eq!(
            said(Name::ClasslessStaticRoute, "192.0.2.0/24,10.0.0.2,0.0.0.0/0,10.0.0.1"),
            "classless_static_route = {192.0.2.0/24,10.0.0.2, 0.0.0.0/0,10.0.0.1}"
        );
        assert_eq!(said(Name::TftpServer, "10.0.0.9"), "tftp_server = 10.0.0.9");
        assert_eq!(
            said(Name::TftpServer, "tftp.example"),
            r#"tftp_server = "tftp.example""#
        );
        assert_eq!(said(Name::Mtu, " 1400 "), "mtu = 1400");
    }

    #[test]
    fn what_ovn_could_not_read_is_refused_with_what_it_takes() {
        for (name, value) in [
            (Name::BootfileName, "a\"; drop"),
            (Name::BootfileName, "a\\"),
            (Name::ClasslessStaticRoute, "192.0.2.0/24"),
            (Name::ClasslessStaticRoute, "192.0.2.1/24,10.0.0.2"),
            (Name::DnsServer, "fd00::1"),
            (Name::DomainName, "-a.example"),
            (Name::DomainSearchList, "a.example,,b.example"),
            (Name::LeaseTime, "1"),
            (Name::Mtu, "68"),
            (Name::Router, "10.0.0.1,10.0.0.2"),
            (Name::TftpServer, "no name"),
        ] {
            assert!(of(name, value).is_err(), "{name:?} {value}");
        }
        let port = PortSpec {
            dhcp_options: vec![DhcpOption {
                name: Name::Mtu,
                value: "many".into(),
            }],
            ..PortSpec::default()
        };
        let said = validate(&port, Backend::Libvirt).to_string();
        assert_eq!(
            said,
            format!("spec.dhcpOptions: {NO_OPTIONS}; spec.dhcpOptions[MTU].value: a number from 576 to 9216")
        );
        assert!(validate(&PortSpec::default(), Backend::Libvirt).is_empty());
    }
}
