//! What libvirt says of the host.

mod cells;
mod devices;

use std::collections::BTreeSet;

use uuid::Uuid;

use super::connection::Link;
use super::error;
use crate::domain::{DomainType, Firmware};
use crate::error::{Error, Result};
use crate::host::{CpuFacts, HostFacts};
use crate::xml::Element;

pub(super) fn read(link: &Link) -> Result<HostFacts> {
    let doing = "reading the host's facts";
    let connection = link.connection()?;
    let connect = connection.get();
    let explain = |error: virt::error::Error| error::explain(&connection, doing, "the host", &error);
    let unreadable = |error: crate::xml::XmlError| Error::failed(doing, &error.to_string());

    let node = connect.node_info().map_err(explain)?;
    let capabilities = Element::parse(&connect.capabilities().map_err(explain)?).map_err(unreadable)?;
    let mut host = host_of(&capabilities);
    // The capabilities list only what the model does not imply. A driver that can't tell more leaves it at that.
    if let Some(cpu) = capabilities.path(&["host", "cpu"])
        && let Ok(xml) = connect.baseline_cpu(&[&cpu.write()], virt::sys::VIR_CONNECT_BASELINE_CPU_EXPAND_FEATURES)
    {
        let implied = features_of(&Element::parse(&xml).map_err(unreadable)?);
        host.cpu.features.extend(implied);
        host.cpu.features.sort_unstable();
        host.cpu.features.dedup();
    }
    let mut firmware = vec![Firmware::Bios];
    // The test driver has no domain capabilities: then BIOS is all we know of.
    if let Some(kind) = host.domain_types.first()
        && let Ok(xml) = connect.domain_capabilities(None, Some(&host.cpu.architecture), None, Some(kind.as_str()), 0)
    {
        firmware.extend(uefi_of(&Element::parse(&xml).map_err(unreadable)?));
    }
    Ok(HostFacts {
        hostname: connect.hostname().map_err(explain)?,
        uuid: host.uuid,
        libvirt_version: version(connect.lib_version().map_err(explain)?),
        hypervisor_version: version(connect.hyp_version().map_err(explain)?),
        cpus: node.cpus,
        memory_bytes: node.memory.saturating_mul(1024),
        cpu: host.cpu,
        domain_types: host.domain_types,
        machines: host.machines,
        firmware,
        cells: cells::read(&capabilities),
        pci_devices: devices::list(&connection)?,
    })
}

struct HostPart {
    uuid: Uuid,
    cpu: CpuFacts,
    domain_types: Vec<DomainType>,
    machines: Vec<String>,
}

fn host_of(capabilities: &Element) -> HostPart {
    let text = |path: &[&str]| {
        capabilities
            .path(path)
            .map(|e| e.content().to_owned())
            .unwrap_or_default()
    };
    let architecture = text(&["host", "cpu", "arch"]);
    let mut features = capabilities.path(&["host", "cpu"]).map(features_of).unwrap_or_default();
    features.sort_unstable();
    let guests = capabilities
        .all("guest")
        .filter(|guest| guest.find("os_type").is_some_and(|kind| kind.content() == "hvm"))
        .filter_map(|guest| guest.find("arch"))
        .filter(|arch| arch.get("name") == Some(&architecture));
    let (mut machines, mut types) = (BTreeSet::new(), BTreeSet::new());
    for arch in guests {
        for domain in arch.all("domain") {
            types.extend(domain.get("type"));
            machines.extend(domain.all("machine").map(Element::content));
        }
        machines.extend(arch.all("machine").map(Element::content));
    }
    let known = [DomainType::Kvm, DomainType::Qemu, DomainType::Test];
    HostPart {
        uuid: text(&["host", "uuid"]).parse().unwrap_or_default(),
        cpu: CpuFacts {
            architecture,
            model: text(&["host", "cpu", "model"]),
            vendor: text(&["host", "cpu", "vendor"]),
            features,
        },
        domain_types: known.into_iter().filter(|kind| types.contains(kind.as_str())).collect(),
        machines: machines.into_iter().map(ToOwned::to_owned).collect(),
    }
}

/// The features that a `<cpu>` names.
fn features_of(cpu: &Element) -> Vec<String> {
    let named = cpu
        .all("feature")
        .filter(|feature| feature.get("policy") != Some("disable"));
    named
        .filter_map(|feature| feature.get("name").map(ToOwned::to_owned))
        .collect()
}

fn uefi_of(domain_capabilities: &Element) -> Vec<Firmware> {
    let has = |parent: Option<&Element>, name: &str, value: &str| {
        parent
            .into_iter()
            .flat_map(|parent| parent.all("enum"))
            .filter(|list| list.get("name") == Some(name))
            .flat_map(|list| list.all("value"))
            .any(|item| item.content() == value)
    };
    let os = domain_capabilities.find("os");
    if !has(os, "firmware", "efi") {
        return Vec::new();
    }
    let mut firmware = vec![Firmware::Uefi { secure_boot: false }];
    if has(os.and_then(|os| os.find("loader")), "secure", "yes") {
        firmware.push(Firmware::Uefi { secure_boot: true });
    }
    firmware
}

/// libvirt packs versions as major * 1 000 000 + minor * 1000 + release.
fn version(packed: u32) -> String {
    format!("{}.{}.{}", packed / 1_000_000, packed / 1000 % 1000, packed % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_unpacked() {
        assert_eq!(version(11_003_000), "11.3.0");
        assert_eq!(version(10_000_002), "10.0.2");
    }

    #[test]
    fn capabilities_of_another_architecture_do_not_count() {
        let capabilities = Element::parse(
            "<capabilities><host><uuid>10000001-0000-4000-8000-000000000001</uuid><cpu><arch>x86_64</arch>\
             <model>EPYC</model><vendor>AMD</vendor><feature name='ss'/><feature name='ht'/></cpu></host>\
             <guest><os_type>hvm</os_type><arch name='aarch64'><machine>virt</machine><domain type='kvm'/></arch></guest>\
             <guest><os_type>hvm</os_type><arch name='x86_64'><machine>pc</machine><domain type='qemu'>\
             <machine canonical='pc-q35-10.0'>q35</machine></domain></arch></guest></capabilities>",
        )
        .unwrap();
        let host = host_of(&capabilities);
        assert_eq!(host.domain_types, [DomainType::Qemu]);
        assert_eq!(host.machines, ["pc", "q35"]);
        assert_eq!(host.cpu.features, ["ht", "ss"]);
        assert_eq!(host.uuid, Uuid::from_u128(0x1000_0001_0000_4000_8000_0000_0000_0001));
    }

    #[test]
    fn uefi_is_offered_when_libvirt_finds_it_and_secure_boot_when_its_loader_can() {
        let with = |firmware: &str, secure: &str| {
            let xml = format!(
                "<domainCapabilities><os><enum name='firmware'>{firmware}</enum><loader><enum name='secure'>\
                 <value>no</value>{secure}</enum></loader></os></domainCapabilities>"
            );
            uefi_of(&Element::parse(&xml).unwrap())
        };
        assert_eq!(with("", "<value>yes</value>"), []);
        assert_eq!(with("<value>efi</value>", ""), [Firmware::Uefi { secure_boot: false }]);
        assert_eq!(with("<value>efi</value>", "<value>yes</value>").len(), 2);
    }
}
