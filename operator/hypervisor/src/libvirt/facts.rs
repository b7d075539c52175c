//! What libvirt says of the host.

mod cells;
mod devices;

use std::collections::BTreeSet;

use uuid::Uuid;

use super::connection::Link;
use super::error;
use crate::domain::{DomainType, Firmware};
use crate::error::{Error, Result};
use crate::host::{CpuFacts, DeviceFacts, HostFacts};
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
    // The test driver has no domain capabilities: then BIOS is all we know of.
    let mut capable = Capable::default();
    if let Some(kind) = host.domain_types.first() {
        for machine in machines(&host.cpu.architecture) {
            let told =
                connect.domain_capabilities(None, Some(&host.cpu.architecture), *machine, Some(kind.as_str()), 0);
            if let Ok(xml) = told {
                capable.add(&Element::parse(&xml).map_err(unreadable)?);
            }
        }
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
        firmware: capable.firmware(),
        devices: capable.devices(),
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

/// Machines that differ in what their guests can have: secure boot and IDE. Other architectures have one.
fn machines(architecture: &str) -> &'static [Option<&'static str>] {
    if architecture == "x86_64" {
        &[Some("q35"), Some("pc")]
    } else {
        &[None]
    }
}

/// What guests of any of the machines can have.
#[derive(Debug, Default)]
struct Capable {
    uefi: bool,
    secure_boot: bool,
    disk_buses: BTreeSet<String>,
    video_models: BTreeSet<String>,
    tpm_models: BTreeSet<String>,
    tpm_versions: BTreeSet<String>,
}

impl Capable {
    /// Adds one machine's domain capabilities.
    fn add(&mut self, capabilities: &Element) {
        let os = capabilities.find("os");
        if has(os, "firmware", "efi") {
            self.uefi = true;
            self.secure_boot |= has(os.and_then(|os| os.find("loader")), "secure", "yes");
        }
        let device = |name: &str| {
            let device = capabilities.path(&["devices", name]);
            device.filter(|device| device.get("supported") == Some("yes"))
        };
        self.disk_buses
            .extend(values(device("disk"), "bus").map(ToOwned::to_owned));
        self.video_models
            .extend(values(device("video"), "modelType").map(ToOwned::to_owned));
        // libvirt lists the emulator only where it finds swtpm.
        let tpm = device("tpm").filter(|tpm| has(Some(tpm), "backendModel", "emulator"));
        self.tpm_models.extend(values(tpm, "model").map(ToOwned::to_owned));
        self.tpm_versions
            .extend(values(tpm, "backendVersion").map(ToOwned::to_owned));
    }

    fn firmware(&self) -> Vec<Firmware> {
        let uefi = self.uefi.then_some(Firmware::Uefi { secure_boot: false });
        let secure = self.secure_boot.then_some(Firmware::Uefi { secure_boot: true });
        [Firmware::Bios].into_iter().chain(uefi).chain(secure).collect()
    }

    fn devices(self) -> DeviceFacts {
        DeviceFacts {
            disk_buses: self.disk_buses.into_iter().collect(),
            video_models: self.video_models.into_iter().collect(),
            tpm_models: self.tpm_models.into_iter().collect(),
            tpm_versions: self.tpm_versions.into_iter().collect(),
        }
    }
}

/// The values of an `<enum>` of that name.
fn values<'a>(parent: Option<&'a Element>, name: &'a str) -> impl Iterator<Item = &'a str> {
    let lists = parent.into_iter().flat_map(|parent| parent.all("enum"));
    lists
        .filter(move |list| list.get("name") == Some(name))
        .flat_map(|list| list.all("value"))
        .map(Element::content)
}

fn has(parent: Option<&Element>, name: &str, value: &str) -> bool {
    values(parent, name).any(|found| found == value)
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
            let mut capable = Capable::default();
            capable.add(&Element::parse(&xml).unwrap());
            capable.firmware().split_off(1)
        };
        assert_eq!(with("", "<value>yes</value>"), []);
        assert_eq!(with("<value>efi</value>", ""), [Firmware::Uefi { secure_boot: false }]);
        assert_eq!(with("<value>efi</value>", "<value>yes</value>").len(), 2);
    }

    #[test]
    fn the_devices_of_all_machines_are_found_and_a_tpm_only_where_swtpm_is() {
        let told = |bus: &str, backend: &str| {
            let xml = format!(
                "<domainCapabilities><devices><disk supported='yes'><enum name='bus'><value>virtio</value>\
                 <value>{bus}</value></enum></disk><video supported='no'><enum name='modelType'><value>vga</value>\
                 </enum></video><tpm supported='yes'><enum name='model'><value>tpm-tis</value></enum>\
                 <enum name='backendModel'><value>passthrough</value><value>{backend}</value></enum>\
                 <enum name='backendVersion'><value>2.0</value></enum></tpm></devices></domainCapabilities>"
            );
            Element::parse(&xml).unwrap()
        };
        let mut capable = Capable::default();
        capable.add(&told("sata", "external"));
        capable.add(&told("ide", "external"));
        assert!(capable.tpm_models.is_empty() && capable.tpm_versions.is_empty());
        capable.add(&told("ide", "emulator"));
        let devices = capable.devices();
        assert_eq!(devices.disk_buses, ["ide", "sata", "virtio"]);
        assert!(devices.video_models.is_empty());
        assert_eq!(
            (devices.tpm_models, devices.tpm_versions),
            (vec!["tpm-tis".into()], vec!["2.0".into()])
        );
    }
}
