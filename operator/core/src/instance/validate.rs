use std::{collections::BTreeSet, net::IpAddr};

use label::is_label;
use virga_crds::Instance;

use super::{hints, trunk};
use crate::{
    network::{AddressError, ValidNetwork},
    problem::Problems,
};

/// Nova's and cloud-init's bound of user data, in bytes.
pub const USER_DATA_BYTES: usize = 65_536;

/// What is wrong with an Instance by itself: what the schema says too, so that the agent is safe without webhooks, and
/// what a schema can't say.
pub fn validate(instance: &Instance) -> Problems {
    let spec = &instance.spec;
    let mut problems = Problems::default();
    if spec.image.is_some() == spec.boot_volume.is_some() {
        problems.add(
            "spec",
            "exactly one of image and bootVolume must be given: they are the two sources of the root disk",
        );
    }
    let hostname = hostname(instance);
    if !is_label(hostname) {
        let field = if spec.hostname.is_some() {
            "spec.hostname"
        } else {
            "metadata.name"
        };
        problems.add(
            field,
            format!(
                "{hostname:?} is no host name: at most 63 letters, digits and '-', beginning with a letter or digit"
            ),
        );
    }
    let mut seen = BTreeSet::new();
    let mut macs = BTreeSet::new();
    let plugs: Vec<_> = trunk::plugs(spec).collect();
    for plug in &plugs {
        let (field, interface) = (plug.field(), plug.interface.as_ref());
        if !seen.insert(interface.network.as_str()) {
            problems.add(
                &field,
                "the network is listed twice: an Instance has at most one interface or sub-port a Network",
            );
        }
        if let Some(mac) = interface.mac.as_deref().filter(|mac| !macs.insert(*mac)) {
            problems.add(format!("{field}.mac"), format!("{mac} is given twice"));
        }
        match interface.address.as_deref().map(str::parse::<IpAddr>) {
            Some(Err(_)) => problems.add(format!("{field}.address"), "not an IP address"),
            Some(Ok(ip)) if ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() => {
                problems.add(format!("{field}.address"), format!("{ip} can't be a guest's address"));
            }
            _ => {}
        }
    }
    for interface in &spec.interfaces {
        problems.extend(trunk::validate(interface));
    }
    let mut volumes: BTreeSet<&str> = spec.boot_volume.as_deref().into_iter().collect();
    for volume in &spec.volumes {
        if !volumes.insert(&volume.name) {
            problems.add(
                format!("spec.volumes[{}]", volume.name),
                "the volume is listed twice, or is the bootVolume",
            );
        }
    }
    if let Some(data) = &spec.user_data {
        if data.inline.is_some() == data.secret_ref.is_some() {
            problems.add("spec.userData", "exactly one of inline and secretRef must be given");
        }
        if data.inline.as_ref().is_some_and(|text| text.len() > USER_DATA_BYTES) {
            problems.add(
                "spec.userData.inline",
                "more than 64 KiB: have the guest fetch the rest from a URL",
            );
        }
    }
    for (n, key) in spec.ssh_keys.iter().enumerate() {
        if key.contains(['\n', '\r']) || key.split(' ').filter(|part| !part.is_empty()).count() < 2 {
            problems.add(
                format!("spec.sshKeys[{n}]"),
                "not one line of an OpenSSH public key file",
            );
        }
    }
    if let Some(hints) = spec.placement.as_ref().and_then(|placement| placement.hints.as_ref()) {
        problems.extend(hints::validate(instance, hints));
    }
    problems
}

/// What is wrong with an interface's address in the Network it names.
pub fn validate_address(field: &str, address: IpAddr, network: &ValidNetwork) -> Problems {
    let mut problems = Problems::default();
    let addresses = crate::network::NetworkAddresses::new(network);
    let derived = network
        .subnets
        .iter()
        .find(|subnet| subnet.is_derived() && subnet.cidr.contains(&address));
    let refused = derived.map(|subnet| AddressError::Derived {
        ip: address,
        subnet: subnet.name.clone(),
    });
    let found = refused.map_or_else(|| addresses.check("", address), Err);
    if let Err(error @ (AddressError::Outside { .. } | AddressError::Reserved { .. } | AddressError::Derived { .. })) =
        found
    {
        problems.add(field, error.to_string());
    }
    problems
}

/// The guest's host name.
pub fn hostname(instance: &Instance) -> &str {
    let name = instance.metadata.name.as_deref().unwrap_or_default();
    instance.spec.hostname.as_deref().unwrap_or(name)
}

mod label {
    /// Whether a text is an RFC 1123 label.
    pub(super) fn is_label(text: &str) -> bool {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        !text.is_empty()
            && text.len() <= 63
            && text.chars().all(inner)
            && !text.starts_with('-')
            && !text.ends_with('-')
    }
}

#[cfg(test)]
mod tests {
    use virga_crds::{ImageRef, InstanceSpec, Interface, UserData, VolumeAttachment};

    use super::*;

    fn instance(change: impl FnOnce(&mut InstanceSpec)) -> Instance {
        let mut spec = InstanceSpec {
            flavor: "m1.small".into(),
            image: Some(ImageRef {
                name: "debian".into(),
                namespace: None,
            }),
            ..InstanceSpec::default()
        };
        change(&mut spec);
        Instance::new("web-1", spec)
    }

    #[test]
    fn a_plain_instance_is_valid() {
        assert!(validate(&instance(|_| {})).is_empty());
    }

    #[test]
    fn every_problem_is_named_at_once() {
        let bad = instance(|spec| {
            spec.boot_volume = Some("root".into());
            spec.interfaces = vec![
                Interface {
                    network: "a".into(),
                    address: Some("224.0.0.1".into()),
                    ..Interface::default()
                },
                Interface {
                    network: "a".into(),
                    address: Some("nope".into()),
                    ..Interface::default()
                },
            ];
            spec.volumes = vec![VolumeAttachment { name: "root".into() }];
            spec.user_data = Some(UserData {
                inline: Some("x".repeat(70_000)),
                secret_ref: None,
            });
            spec.ssh_keys = vec!["ssh-ed25519 AAAA\nssh-rsa BBBB".into()];
            spec.hostname = Some("-x".into());
        });
        let fields: Vec<_> = validate(&bad).iter().map(|p| p.field.clone()).collect();
        assert_eq!(
            fields,
            [
                "spec",
                "spec.hostname",
                "spec.interfaces[a].address",
                "spec.interfaces[a]",
                "spec.interfaces[a].address",
                "spec.volumes[root]",
                "spec.userData.inline",
                "spec.sshKeys[0]",
            ]
        );
    }
}
