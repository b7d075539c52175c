//! What of the options QEMU or libvirt would refuse.

use super::{Bandwidth, DiskBus, InterfaceModel, Iommu};
use crate::domain::spec::DomainSpec;
use crate::domain::validate::validate_path;
use crate::error::Problems;

/// A PC's serial ports.
const MOST_PORTS: u32 = 4;
/// IDE's places, without the one that is kept for the seed.
const MOST_ON_IDE: usize = 3;
/// What virtio-net can have.
const MOST_QUEUES: u32 = 256;

/// Everything that is wrong with them.
pub fn validate(problems: &mut Problems, spec: &DomainSpec) {
    let options = &spec.options;
    if let Some(path) = &options.nvram {
        validate_path(problems, "options.nvram", path);
    }
    problems.check(
        (1..=MOST_PORTS).contains(&options.serial_ports),
        "options.serialPorts",
        format!("{} must be from 1 to {MOST_PORTS}", options.serial_ports),
    );
    problems.check(
        options.tpm.is_none_or(|tpm| tpm.version_2 || !tpm.crb),
        "options.tpm",
        "CRB is of version 2.0 only",
    );
    let q35 = spec.machine.contains("q35");
    problems.check(
        options.iommu != Some(Iommu::Intel) || q35,
        "options.iommu",
        "VT-d needs a q35 machine",
    );
    problems.check(
        options.cdrom != Some(DiskBus::Virtio),
        "options.cdrom",
        "there is no CD-ROM on virtio",
    );
    let on_ide = spec.disks.iter().filter(|disk| disk.bus == DiskBus::Ide).count();
    problems.check(
        !q35 || (on_ide == 0 && options.cdrom != Some(DiskBus::Ide)),
        "disks",
        "IDE needs a machine of type pc",
    );
    problems.check(
        on_ide <= MOST_ON_IDE,
        "disks",
        format!("{on_ide} disks are more than IDE has room for ({MOST_ON_IDE}): take sata or virtio"),
    );
    for (index, interface) in spec.interfaces.iter().enumerate() {
        let field = |name: &str| format!("interfaces[{index}].options.{name}");
        let options = &interface.options;
        problems.check(
            options
                .queues
                .is_none_or(|queues| (1..=MOST_QUEUES).contains(&queues) && options.model == InterfaceModel::Virtio),
            field("queues"),
            format!("must be from 1 to {MOST_QUEUES}, and of virtio"),
        );
        for (name, way) in [("inbound", options.inbound), ("outbound", options.outbound)] {
            problems.check(way.is_none_or(is_bound), field(name), "must be at least 1 KiB a second");
        }
    }
}

fn is_bound(bandwidth: Bandwidth) -> bool {
    bandwidth.average_kib > 0 && bandwidth.peak_kib != Some(0) && bandwidth.burst_kib != Some(0)
}
