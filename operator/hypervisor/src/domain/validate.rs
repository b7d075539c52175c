//! Checks that libvirt would make late, badly or not at all.

use std::collections::HashSet;
use std::path::Path;

use super::affinity;
use super::devices::Device;
use super::options;
use super::spec::{
    CpuMode, DiskFormat, DiskSpec, DomainSpec, DomainType, Firmware, InterfaceSource, InterfaceSpec, MAX_VCPUS,
    SEED_TARGET,
};
use crate::error::{Problem, Problems};
use crate::xml::is_xml_char;

/// virtio-blk's serial is 20 bytes (virtio 1.2, 5.2.6.1: `VIRTIO_BLK_ID_BYTES`).
const MAX_SERIAL: usize = 20;
const MAX_NAME: usize = 128;
/// Linux' limit for the name of a network device (`IFNAMSIZ`), without its terminating zero.
const MAX_DEVICE: usize = 15;
const MAX_TITLE: usize = 256;
const MAX_BACKING: usize = 16;
/// QEMU's limits for a virtio-net MTU: 68 (RFC 791) to 65535.
const MTU: std::ops::RangeInclusive<u32> = 68..=65_535;
/// A Unix socket's path with its terminating zero (`sun_path`).
const MAX_SOCKET_PATH: usize = 107;
/// 16 TiB: far beyond any host, far below an overflow.
const MAX_MEMORY: u64 = 16 << 40;
const MIN_MEMORY: u64 = 1 << 20;

impl DomainSpec {
    /// Everything that is wrong with it.
    pub fn validate(&self) -> Result<(), Vec<Problem>> {
        let mut problems = Problems::default();
        self.validate_identity(&mut problems);
        self.validate_machine(&mut problems);
        Self::validate_disks(&self.disks, &mut problems);
        Self::validate_interfaces(&self.interfaces, &mut problems);
        affinity::validate(&mut problems, &self.affinity, self.topology.vcpus(), self.memory_bytes);
        affinity::validate_devices(&mut problems, &self.pci_devices);
        options::validate(&mut problems, self);
        for (field, path) in [
            ("seed", &self.seed),
            ("consoleLog", &self.console_log),
            ("vncSocket", &self.vnc_socket),
        ] {
            if let Some(path) = path {
                validate_path(&mut problems, field, path);
            }
        }
        if let Some(socket) = &self.vnc_socket {
            let length = socket.as_os_str().len();
            let message = format!("{length} bytes are more than a socket's path can have ({MAX_SOCKET_PATH})");
            problems.check(length <= MAX_SOCKET_PATH, "vncSocket", message);
        }
        problems.into_result()
    }

    fn validate_identity(&self, problems: &mut Problems) {
        problems.check(!self.uuid.is_nil(), "uuid", "must not be nil");
        problems.check(self.uuid == self.owner.uid, "uuid", "must be the owner's UID");
        validate_token(problems, "name", &self.name, MAX_NAME);
        for (field, text) in [
            ("owner.namespace", &self.owner.namespace),
            ("owner.name", &self.owner.name),
        ] {
            validate_text(problems, field, text, MAX_TITLE);
        }
        if let Some(title) = &self.title {
            validate_text(problems, "title", title, MAX_TITLE);
            problems.check(!title.contains('\n'), "title", "must be one line");
        }
    }

    fn validate_machine(&self, problems: &mut Problems) {
        validate_token(problems, "architecture", &self.architecture, MAX_NAME);
        validate_token(problems, "machine", &self.machine, MAX_NAME);
        let topology = self.topology;
        problems.check(
            topology.sockets > 0 && topology.cores > 0 && topology.threads > 0,
            "topology",
            "sockets, cores and threads must be at least 1",
        );
        let vcpus = topology.vcpus();
        problems.check(
            vcpus <= MAX_VCPUS,
            "topology",
            format!("{vcpus} virtual CPUs are more than {MAX_VCPUS}"),
        );
        let memory = self.memory_bytes;
        problems.check(
            memory.is_multiple_of(1024) && (MIN_MEMORY..=MAX_MEMORY).contains(&memory),
            "memoryBytes",
            format!("{memory} must be a multiple of 1024 from {MIN_MEMORY} to {MAX_MEMORY}"),
        );
        if let CpuMode::Named(model) = &self.cpu {
            validate_token(problems, "cpu", model, MAX_NAME);
        }
        problems.check(
            self.cpu != CpuMode::HostPassthrough || self.domain_type == DomainType::Kvm,
            "cpu",
            "host passthrough needs KVM",
        );
        problems.check(
            !matches!(self.firmware, Firmware::Uefi { secure_boot: true }) || self.machine.contains("q35"),
            "firmware",
            "secure boot needs a q35 machine",
        );
        problems.check(self.hotplug_ports <= 32, "hotplugPorts", "at most 32");
        problems.check(self.tcg_cache_mib != Some(0), "tcgCacheMib", "must be at least 1");
    }

    fn validate_disks(disks: &[DiskSpec], problems: &mut Problems) {
        let mut targets = HashSet::from([SEED_TARGET]);
        let (mut paths, mut serials, mut orders) = (HashSet::new(), HashSet::new(), HashSet::new());
        for (index, disk) in disks.iter().enumerate() {
            let field = |name: &str| format!("disks[{index}].{name}");
            let letters = disk.target.strip_prefix("vd").unwrap_or("");
            problems.check(
                (1..=2).contains(&letters.len()) && letters.bytes().all(|b| b.is_ascii_lowercase()),
                field("target"),
                format!("{:?} must be vda to vdzz", disk.target),
            );
            problems.check(
                targets.insert(&disk.target),
                field("target"),
                format!("{:?} is taken ({SEED_TARGET} is the seed's)", disk.target),
            );
            validate_path(problems, &field("path"), &disk.path);
            problems.check(
                paths.insert(&disk.path) || disk.read_only,
                field("path"),
                "is used by another disk of this domain",
            );
            if let Some(serial) = &disk.serial {
                problems.check(
                    (1..=MAX_SERIAL).contains(&serial.len())
                        && serial.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)),
                    field("serial"),
                    format!("{serial:?} must be 1 to {MAX_SERIAL} letters, digits, '-', '_' or '.'"),
                );
                problems.check(serials.insert(serial), field("serial"), format!("{serial:?} is taken"));
            }
            if let Some(order) = disk.boot_order {
                problems.check(order > 0, field("bootOrder"), "counts from 1");
                problems.check(orders.insert(order), field("bootOrder"), format!("{order} is taken"));
            }
            problems.check(
                disk.backing.len() <= MAX_BACKING,
                field("backing"),
                format!("more than {MAX_BACKING} files"),
            );
            problems.check(
                disk.format == DiskFormat::Qcow2 || disk.backing.is_empty(),
                field("backing"),
                "a raw disk has no backing file",
            );
            for (depth, layer) in disk.backing.iter().enumerate() {
                validate_path(problems, &field(&format!("backing[{depth}].path")), &layer.path);
                problems.check(
                    layer.format == DiskFormat::Qcow2 || depth + 1 == disk.backing.len(),
                    field(&format!("backing[{depth}]")),
                    "only the last file of a chain can be raw",
                );
            }
        }
    }

    fn validate_interfaces(interfaces: &[InterfaceSpec], problems: &mut Problems) {
        let (mut macs, mut aliases) = (HashSet::new(), HashSet::new());
        for (index, interface) in interfaces.iter().enumerate() {
            let field = |name: &str| format!("interfaces[{index}].{name}");
            problems.check(
                !interface.mac.is_multicast(),
                field("mac"),
                "must not be a multicast address",
            );
            problems.check(
                macs.insert(interface.mac),
                field("mac"),
                format!("{} is taken", interface.mac),
            );
            match &interface.source {
                InterfaceSource::Network(name) => validate_token(problems, &field("source"), name, MAX_NAME),
                InterfaceSource::OpenVSwitch { bridge, .. } => {
                    validate_token(problems, &field("source"), bridge, MAX_DEVICE);
                }
            }
            if let Some(mtu) = interface.mtu {
                problems.check(
                    MTU.contains(&mtu),
                    field("mtu"),
                    format!("{mtu} must be from 68 to 65535"),
                );
            }
            if let Some(alias) = &interface.alias {
                problems.check(
                    alias.len() > 3
                        && alias.len() <= MAX_NAME
                        && alias.starts_with("ua-")
                        && alias.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)),
                    field("alias"),
                    format!("{alias:?} must be ua- and letters, digits, '-' or '_'"),
                );
                problems.check(aliases.insert(alias), field("alias"), format!("{alias:?} is taken"));
            }
        }
    }
}

impl Device {
    /// Everything that is wrong with it by itself.
    pub fn validate(&self) -> Result<(), Vec<Problem>> {
        let mut problems = Problems::default();
        match self {
            Device::Disk(disk) => DomainSpec::validate_disks(std::slice::from_ref(disk), &mut problems),
            Device::Interface(interface) => {
                DomainSpec::validate_interfaces(std::slice::from_ref(interface), &mut problems);
            }
        }
        problems.into_result()
    }
}

/// A word for libvirt's and QEMU's own use: it can become part of a path or an option.
pub(crate) fn validate_token(problems: &mut Problems, field: &str, value: &str, max: usize) {
    let ok = !value.is_empty()
        && value.len() <= max
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        && value.as_bytes()[0].is_ascii_alphanumeric();
    let message =
        format!("{value:?} must be 1 to {max} letters, digits, '-', '_' or '.' and start with none of these three");
    problems.check(ok, field, message);
}

fn validate_text(problems: &mut Problems, field: &str, value: &str, max: usize) {
    let length = value.chars().count();
    problems.check(
        (1..=max).contains(&length),
        field,
        format!("must be 1 to {max} characters long"),
    );
    problems.check(
        value.chars().all(is_xml_char),
        field,
        "has a character that XML can't carry",
    );
}

pub(super) fn validate_path(problems: &mut Problems, field: &str, path: &Path) {
    let Some(text) = path.to_str() else {
        problems.add(field, "must be UTF-8");
        return;
    };
    problems.check(path.is_absolute(), field, format!("{text:?} must be absolute"));
    // QEMU reads a comma in a path as the end of an option in places that libvirt does not escape.
    problems.check(!text.contains(','), field, "must not contain a comma");
    problems.check(text.len() <= 4095, field, "is too long");
    problems.check(
        text.chars().all(|c| is_xml_char(c) && !c.is_control()),
        field,
        "has a control character",
    );
    problems.check(
        !path
            .components()
            .any(|part| matches!(part, std::path::Component::ParentDir)),
        field,
        "must not contain ..",
    );
}
