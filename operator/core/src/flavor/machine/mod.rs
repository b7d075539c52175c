//! Which machine does a guest see? A Flavor and an image together, by Nova's rules.
//!
//! Nova: the `get_*_constraint` functions of nova/virt/hardware.py, and the libvirt driver's own reading
//! (nova/virt/libvirt/driver.py). Where Flavor and image may both speak they must say the same, unless a rule below says
//! otherwise.

mod asked;
mod cpus;
mod quota;
mod traits;
mod words;

use std::collections::{BTreeMap, BTreeSet};

pub use asked::Asked;
pub use cpus::Cpus;
pub use quota::{DiskQuota, Quota, Rate, VifQuota};
pub use traits::{DeviceFacts, device_traits, known_device_traits};
pub use words::{
    CdromBus, Choice, DiskBus, Firmware, InputBus, MachineType, SecureBoot, TpmModel, TpmVersion, UsbModel, VideoModel,
    VifModel, Viommu, Watchdog,
};

use crate::problem::Problems;

/// Nova's `hw_rng:rate_period` when only `rate_bytes` is said, in milliseconds: libvirt's.
const RNG_PERIOD_MS: u32 = 1_000;

/// A virtual TPM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tpm {
    /// Its version.
    pub version: TpmVersion,
    /// How the guest talks to it.
    pub model: TpmModel,
}

/// How many random bytes the guest gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RngRate {
    /// So many
    pub bytes: u32,
    /// in so many milliseconds.
    pub period_ms: u32,
}

/// The machine that a guest sees, and how much of its host it may use. `None` is our default.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is an answer of its own")]
pub struct Machine {
    /// How its virtual CPUs are arranged.
    pub cpus: Cpus,
    /// QEMU's machine.
    pub machine_type: MachineType,
    /// What starts it.
    pub firmware: Firmware,
    /// Whether only signed boot loaders run.
    pub secure_boot: SecureBoot,
    /// Whether it has performance counters.
    pub pmu: Option<bool>,
    /// Whether it is not told that it runs on KVM.
    pub hide_hypervisor: bool,
    /// Whether its firmware shows a menu.
    pub boot_menu: bool,
    /// Whether each interface has a queue for each virtual CPU.
    pub multiqueue: bool,
    /// Whether virtio's rings are packed.
    pub packed_ring: bool,
    /// Whether its memory is never swapped out.
    pub locked_memory: bool,
    /// Whether it has a channel for its agent.
    pub guest_agent: bool,
    /// Whether it has an HPET.
    pub hpet: bool,
    /// Whether Windows runs in it.
    pub windows: bool,
    /// Its watchdog.
    pub watchdog: Watchdog,
    /// How many serial ports it has.
    pub serial_ports: u32,
    /// Its TPM.
    pub tpm: Option<Tpm>,
    /// Its IOMMU.
    pub viommu: Option<Viommu>,
    /// Its USB controller.
    pub usb: Option<UsbModel>,
    /// Whether it gets random numbers.
    pub rng: bool,
    /// How many of them.
    pub rng_rate: Option<RngRate>,
    /// What its disks are plugged into.
    pub disk_bus: Option<DiskBus>,
    /// What its seed is plugged into as a CD-ROM.
    pub cdrom_bus: Option<CdromBus>,
    /// Its network cards.
    pub vif_model: Option<VifModel>,
    /// Its graphics card.
    pub video: Option<VideoModel>,
    /// The graphics card's memory, in MiB.
    pub video_ram_mib: Option<u32>,
    /// What its keyboard and tablet are plugged into.
    pub input_bus: Option<InputBus>,
    /// Whether its tablet is on USB.
    pub usb_tablet: bool,
    /// How much of its host it may use.
    pub quota: Quota,
}

/// The machine of a guest with so many virtual CPUs, whose Flavor says `flavor` and whose image says `image`; or all that
/// is wrong with them. Without an image the Flavor is looked at alone: what an image may still say is not missed.
pub fn machine(vcpus: u32, flavor: &Asked, image: Option<&Asked>) -> Result<Machine, Problems> {
    let mut problems = Problems::default();
    let nothing = Asked::default();
    let cpus = cpus::cpus(vcpus, flavor, image.unwrap_or(&nothing), &mut problems);
    let machine = merge(flavor, image, &mut problems);
    problems.or(|| Machine { cpus, ..machine })
}

/// The traits that a host must have for what they ask for.
pub fn required(flavor: &Asked, image: Option<&Asked>) -> BTreeSet<String> {
    let nothing = Asked::default();
    traits::required(flavor, image.unwrap_or(&nothing))
}

/// What an image says; what can't be read is as if it were not said, for an Image is checked when it is written.
pub fn image_asked(properties: &BTreeMap<String, String>) -> Asked {
    let mut asked = Asked::default();
    for (name, value) in properties {
        // A property that is wrong leaves nothing behind.
        let _ = asked.read_property(name, value);
    }
    asked
}

/// What of an image can't be, whatever its Flavor.
pub fn check_image(image: &Asked, problems: &mut Problems) {
    let machine_type = image.machine_type.unwrap_or(MachineType::Q35);
    if machine_type != MachineType::Pc {
        let message = "is of the machine pc alone: set hw_machine_type to pc as well, or take sata";
        if image.disk_bus == Some(DiskBus::Ide) {
            problems.add(property("disk_bus"), message);
        }
        if image.cdrom_bus == Some(CdromBus::Ide) {
            problems.add(property("cdrom_bus"), message);
        }
    }
    if image.multiqueue == Some(true) && image.vif_model.is_some_and(|model| model != VifModel::Virtio) {
        let message = "is for virtio alone: set hw_vif_model to virtio, or leave one of the two out";
        problems.add(property("vif_multiqueue_enabled"), message);
    }
    if image.secure_boot == Some(SecureBoot::Required) && image.firmware != Some(Firmware::Uefi) {
        let message = "needs UEFI: set hw_firmware_type to uefi as well";
        problems.add("spec.properties[os_secure_boot]", message);
    }
}

fn key(name: &str) -> String {
    format!("spec.extraSpecs[hw:{name}]")
}

fn property(name: &str) -> String {
    format!("spec.properties[hw_{name}]")
}

fn merge(flavor: &Asked, image: Option<&Asked>, problems: &mut Problems) -> Machine {
    flavor.quota.check(problems);
    let alone = image.is_none();
    let nothing = Asked::default();
    let image = image.unwrap_or(&nothing);
    check_image(image, problems);
    let machine_type = image.machine_type.unwrap_or(MachineType::Q35);
    let firmware = image.firmware.unwrap_or(Firmware::Bios);
    let secure_boot = secure_boot(flavor, image, machine_type, firmware, alone, problems);
    let multiqueue = same("vif_multiqueue_enabled", flavor.multiqueue, image.multiqueue, problems) == Some(true);
    if multiqueue && image.multiqueue.is_none() && image.vif_model.is_some_and(|model| model != VifModel::Virtio) {
        let message =
            "has no queues, which the Flavor's hw:vif_multiqueue_enabled asks for: name another Flavor or Image";
        problems.add(property("vif_model"), message);
    }
    let viommu = same("viommu_model", flavor.viommu, image.viommu, problems);
    if viommu == Some(Viommu::Intel) && machine_type != MachineType::Q35 {
        let message = "has no VT-d, which hw:viommu_model asks for: set it to q35, or the other to virtio or auto";
        problems.add(property("machine_type"), message);
    }
    let (usb_tablet, input_bus) = (image.pointer.is_some(), image.input_bus);
    Machine {
        cpus: Cpus::default(),
        machine_type,
        firmware,
        secure_boot,
        pmu: same("pmu", flavor.pmu, image.pmu, problems),
        hide_hypervisor: same_of(
            ("spec.properties[img_hide_hypervisor_id]", "hw:hide_hypervisor_id"),
            (flavor.hide_hypervisor, image.hide_hypervisor),
            problems,
        ) == Some(true),
        // Nova asks the image only where the Flavor says nothing.
        boot_menu: flavor.boot_menu.or(image.boot_menu).unwrap_or(false),
        multiqueue,
        packed_ring: same("virtio_packed_ring", flavor.packed_ring, image.packed_ring, problems) == Some(true),
        locked_memory: flavor.locked_memory.unwrap_or(false),
        guest_agent: image.guest_agent.unwrap_or(true),
        hpet: image.hpet.unwrap_or(false),
        windows: image.windows,
        // In Nova the image's word stands for the Flavor's.
        watchdog: image.watchdog.or(flavor.watchdog).unwrap_or(Watchdog::Disabled),
        serial_ports: serial_ports(flavor, image, problems),
        tpm: tpm(flavor, image, problems),
        viommu,
        usb: same("usb_model", flavor.usb, image.usb, problems),
        rng: flavor.rng_allowed.unwrap_or(true),
        rng_rate: rng_rate(flavor, problems),
        disk_bus: image.disk_bus,
        cdrom_bus: image.cdrom_bus,
        vif_model: image.vif_model,
        video: image.video_model,
        video_ram_mib: video_ram(flavor, image, problems),
        input_bus,
        usb_tablet,
        quota: flavor.quota,
    }
}

/// What one of the two says, or both alike.
fn same<T: Copy + PartialEq>(name: &str, flavor: Option<T>, image: Option<T>, problems: &mut Problems) -> Option<T> {
    same_of((&property(name), &format!("hw:{name}")), (flavor, image), problems)
}

/// [`same`], where the two have names of their own: the field, and the Flavor's key.
fn same_of<T: Copy + PartialEq>(
    (field, key): (&str, &str),
    (flavor, image): (Option<T>, Option<T>),
    problems: &mut Problems,
) -> Option<T> {
    if let (Some(flavor), Some(image)) = (flavor, image)
        && flavor != image
    {
        let message = format!("is not what the Flavor's {key} says: name another Flavor or Image");
        problems.add(field, message);
    }
    flavor.or(image)
}

/// Nova boots without it when the image's firmware is none of UEFI; here that is told.
fn secure_boot(
    flavor: &Asked,
    image: &Asked,
    machine_type: MachineType,
    firmware: Firmware,
    alone: bool,
    problems: &mut Problems,
) -> SecureBoot {
    let names = ("spec.properties[os_secure_boot]", "os:secure_boot");
    let asked = same_of(names, (flavor.secure_boot, image.secure_boot), problems).unwrap_or(SecureBoot::Disabled);
    let here = firmware == Firmware::Uefi && machine_type == MachineType::Q35;
    match asked {
        SecureBoot::Required if !alone && firmware != Firmware::Uefi && image.secure_boot.is_none() => {
            let message = "must be uefi for the Flavor's os:secure_boot: name another Flavor or Image";
            problems.add(property("firmware_type"), message);
        }
        SecureBoot::Required if !alone && machine_type != MachineType::Q35 => {
            let message = "must be q35 for secure boot: leave it out, or name another Flavor";
            problems.add(property("machine_type"), message);
        }
        SecureBoot::Optional if !here => return SecureBoot::Disabled,
        _ => {}
    }
    asked
}

fn tpm(flavor: &Asked, image: &Asked, problems: &mut Problems) -> Option<Tpm> {
    let version = same("tpm_version", flavor.tpm_version, image.tpm_version, problems);
    let model = same("tpm_model", flavor.tpm_model, image.tpm_model, problems);
    let field = |name: &str, of_flavor: bool| if of_flavor { key(name) } else { property(name) };
    let Some(version) = version else {
        if model.is_some() {
            let message = "is missing: write 1.2 or 2.0 beside the model of the TPM";
            problems.add(field("tpm_version", flavor.tpm_model.is_some()), message);
        }
        return None;
    };
    let model = model.unwrap_or(TpmModel::Tis);
    if model == TpmModel::Crb && version != TpmVersion::V2 {
        let message = "is of version 2.0 alone: write tpm-tis, or set the version to 2.0";
        problems.add(field("tpm_model", flavor.tpm_model.is_some()), message);
    }
    Some(Tpm { version, model })
}

fn serial_ports(flavor: &Asked, image: &Asked, problems: &mut Problems) -> u32 {
    if let (Some(most), Some(wished)) = (flavor.serial_ports, image.serial_ports)
        && wished > most
    {
        let message = format!("is more than the Flavor's hw:serial_port_count, {most}: name another Flavor or Image");
        problems.add(property("serial_port_count"), message);
    }
    image.serial_ports.or(flavor.serial_ports).unwrap_or(1)
}

fn video_ram(flavor: &Asked, image: &Asked, problems: &mut Problems) -> Option<u32> {
    let wished = image.video_ram_mib?;
    match flavor.video_ram_max_mib {
        Some(most) if wished <= most => {}
        Some(most) => {
            let message =
                format!("is more than the Flavor's hw_video:ram_max_mb, {most}: name another Flavor or Image");
            problems.add(property("video_ram"), message);
        }
        None => {
            let message = "may be chosen only where the Flavor has hw_video:ram_max_mb: name another Flavor or Image";
            problems.add(property("video_ram"), message);
        }
    }
    Some(wished)
}

fn rng_rate(flavor: &Asked, problems: &mut Problems) -> Option<RngRate> {
    if flavor.rng_bytes.is_none() && flavor.rng_period_ms.is_some() {
        let message = "is the period of hw_rng:rate_bytes: write that as well";
        problems.add("spec.extraSpecs[hw_rng:rate_period]", message);
    }
    Some(RngRate {
        bytes: flavor.rng_bytes?,
        period_ms: flavor.rng_period_ms.unwrap_or(RNG_PERIOD_MS),
    })
}

#[cfg(test)]
mod tests;
