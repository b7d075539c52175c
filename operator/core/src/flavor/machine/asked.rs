//! What do extra specs, or an image's properties, say of the guest's machine?
//!
//! Names and values are Nova's (`nova/api/validation/extra_specs`, `nova/objects/image_meta.py`). What a guest costs its
//! host beyond its size can be said by a Flavor alone: an image is a tenant's.

use super::{
    quota::Quota,
    words::{
        CdromBus, Choice, DiskBus, Firmware, InputBus, MachineType, PointerModel, RngModel, ScsiModel, SecureBoot,
        TpmModel, TpmVersion, UsbModel, VideoModel, VifModel, Viommu, Watchdog,
    },
};
use crate::flavor::extra_specs::{number, set};

/// The most serial ports: a PC has no more.
const MOST_PORTS: u32 = 4;
/// Nova's `hw:cpu_sockets` and its like go up to what a Flavor can have.
const MOST_CPUS: u32 = 65_536;
/// The most video memory, in MiB.
const MOST_VIDEO_MIB: u32 = 512;
const YES: [&str; 6] = ["1", "t", "true", "on", "y", "yes"];
const NO: [&str; 6] = ["0", "f", "false", "off", "n", "no"];

/// Sockets, cores in each, and threads in each of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sockets.
    pub sockets: Option<u32>,
    /// Cores in a socket.
    pub cores: Option<u32>,
    /// Threads in a core.
    pub threads: Option<u32>,
}

/// What one side says; nothing where it says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// `cpu_sockets`, `cpu_cores`, `cpu_threads`: what is preferred.
    pub cpus: Counts,
    /// `cpu_max_*`.
    pub most_cpus: Counts,
    /// `pmu`.
    pub pmu: Option<bool>,
    /// `hide_hypervisor_id`.
    pub hide_hypervisor: Option<bool>,
    /// `boot_menu`.
    pub boot_menu: Option<bool>,
    /// `vif_multiqueue_enabled`.
    pub multiqueue: Option<bool>,
    /// `virtio_packed_ring`.
    pub packed_ring: Option<bool>,
    /// `watchdog_action`.
    pub watchdog: Option<Watchdog>,
    /// `serial_port_count`.
    pub serial_ports: Option<u32>,
    /// `tpm_version`.
    pub tpm_version: Option<TpmVersion>,
    /// `tpm_model`.
    pub tpm_model: Option<TpmModel>,
    /// `os:secure_boot`, `os_secure_boot`.
    pub secure_boot: Option<SecureBoot>,
    /// `viommu_model`.
    pub viommu: Option<Viommu>,
    /// `usb_model`.
    pub usb: Option<UsbModel>,
    /// A Flavor's `hw:locked_memory`.
    pub locked_memory: Option<bool>,
    /// A Flavor's `hw_rng:allowed`.
    pub rng_allowed: Option<bool>,
    /// A Flavor's `hw_rng:rate_bytes`.
    pub rng_bytes: Option<u32>,
    /// A Flavor's `hw_rng:rate_period`, in milliseconds.
    pub rng_period_ms: Option<u32>,
    /// A Flavor's `hw_video:ram_max_mb`.
    pub video_ram_max_mib: Option<u32>,
    /// A Flavor's quotas.
    pub quota: Quota,
    /// An image's `hw_machine_type`.
    pub machine_type: Option<MachineType>,
    /// An image's `hw_firmware_type`.
    pub firmware: Option<Firmware>,
    /// An image's `hw_disk_bus`.
    pub disk_bus: Option<DiskBus>,
    /// An image's `hw_cdrom_bus`.
    pub cdrom_bus: Option<CdromBus>,
    /// An image's `hw_scsi_model`.
    pub scsi_model: Option<ScsiModel>,
    /// An image's `hw_vif_model`.
    pub vif_model: Option<VifModel>,
    /// An image's `hw_video_model`.
    pub video_model: Option<VideoModel>,
    /// An image's `hw_video_ram`.
    pub video_ram_mib: Option<u32>,
    /// An image's `hw_input_bus`.
    pub input_bus: Option<InputBus>,
    /// An image's `hw_pointer_model`.
    pub pointer: Option<PointerModel>,
    /// An image's `hw_rng_model`.
    pub rng_model: Option<RngModel>,
    /// An image's `hw_qemu_guest_agent`.
    pub guest_agent: Option<bool>,
    /// An image's `os_require_quiesce`. Read by whoever makes snapshots.
    pub require_quiesce: Option<bool>,
    /// An image's `hw_time_hpet`.
    pub hpet: Option<bool>,
    /// Whether an image's `os_type` is `windows`.
    pub windows: bool,
}

impl Asked {
    /// Reads an extra spec; `None` when it is none of these.
    pub fn read_spec(&mut self, key: &str, value: &str) -> Option<Result<(), String>> {
        if let Some(name) = key.strip_prefix("quota:") {
            return self.quota.read(name, value);
        }
        if let Some(read) = key.strip_prefix("hw:").and_then(|name| self.read_either(name, value)) {
            return Some(read);
        }
        Some(match key {
            "hw:hide_hypervisor_id" | "hide_hypervisor_id" => flag(&mut self.hide_hypervisor, value),
            "os:secure_boot" => choice(&mut self.secure_boot, value).and_then(|()| match self.secure_boot {
                Some(SecureBoot::Optional) => Err("\"optional\" is for images: write disabled or required".into()),
                _ => Ok(()),
            }),
            "hw:locked_memory" => flag(&mut self.locked_memory, value),
            "hw_rng:allowed" => flag(&mut self.rng_allowed, value),
            "hw_rng:rate_bytes" => count(&mut self.rng_bytes, value, 1, i32::MAX.unsigned_abs()),
            "hw_rng:rate_period" => count(&mut self.rng_period_ms, value, 1, 3_600_000),
            "hw_video:ram_max_mb" => count(&mut self.video_ram_max_mib, value, 1, MOST_VIDEO_MIB),
            _ => return None,
        })
    }

    /// Reads a property of an image; `None` when it is none of these.
    pub fn read_property(&mut self, name: &str, value: &str) -> Option<Result<(), String>> {
        if let Some(read) = name.strip_prefix("hw_").and_then(|name| self.read_either(name, value)) {
            return Some(read);
        }
        Some(match name {
            "img_hide_hypervisor_id" => flag(&mut self.hide_hypervisor, value),
            "os_secure_boot" => choice(&mut self.secure_boot, value),
            "hw_machine_type" => choice(&mut self.machine_type, value),
            "hw_firmware_type" => choice(&mut self.firmware, value),
            "hw_disk_bus" => choice(&mut self.disk_bus, value),
            "hw_cdrom_bus" => choice(&mut self.cdrom_bus, value),
            "hw_scsi_model" => choice(&mut self.scsi_model, value),
            "hw_vif_model" => choice(&mut self.vif_model, value),
            "hw_video_model" => choice(&mut self.video_model, value),
            "hw_video_ram" => count(&mut self.video_ram_mib, value, 1, MOST_VIDEO_MIB),
            "hw_input_bus" => choice(&mut self.input_bus, value),
            "hw_pointer_model" => choice(&mut self.pointer, value),
            "hw_rng_model" => choice(&mut self.rng_model, value),
            "hw_qemu_guest_agent" => flag(&mut self.guest_agent, value),
            "os_require_quiesce" => flag(&mut self.require_quiesce, value),
            "hw_time_hpet" => flag(&mut self.hpet, value),
            // Any other system is a name for people.
            "os_type" => {
                self.windows = value.eq_ignore_ascii_case("windows");
                Ok(())
            }
            _ => return None,
        })
    }

    /// What both may say: an extra spec without `hw:`, a property without `hw_`.
    fn read_either(&mut self, name: &str, value: &str) -> Option<Result<(), String>> {
        let of_cpus = |into: &mut Option<u32>| count(into, value, 1, MOST_CPUS);
        Some(match name {
            "cpu_sockets" => of_cpus(&mut self.cpus.sockets),
            "cpu_cores" => of_cpus(&mut self.cpus.cores),
            "cpu_threads" => of_cpus(&mut self.cpus.threads),
            "cpu_max_sockets" => of_cpus(&mut self.most_cpus.sockets),
            "cpu_max_cores" => of_cpus(&mut self.most_cpus.cores),
            "cpu_max_threads" => of_cpus(&mut self.most_cpus.threads),
            "pmu" => flag(&mut self.pmu, value),
            "boot_menu" => flag(&mut self.boot_menu, value),
            "vif_multiqueue_enabled" => flag(&mut self.multiqueue, value),
            "virtio_packed_ring" => flag(&mut self.packed_ring, value),
            "watchdog_action" => choice(&mut self.watchdog, value),
            // The first is where the console is logged, so there is one at least.
            "serial_port_count" => count(&mut self.serial_ports, value, 1, MOST_PORTS),
            "tpm_version" => choice(&mut self.tpm_version, value),
            "tpm_model" => choice(&mut self.tpm_model, value),
            "viommu_model" => choice(&mut self.viommu, value),
            "usb_model" => choice(&mut self.usb, value),
            _ => return None,
        })
    }
}

fn choice<T: Choice>(into: &mut Option<T>, value: &str) -> Result<(), String> {
    set(into, value, T::WORDS)
}

fn count(into: &mut Option<u32>, value: &str, least: u32, most: u32) -> Result<(), String> {
    *into = Some(number(value, least, most)?);
    Ok(())
}

/// Nova's `bool_from_string`.
fn flag(into: &mut Option<bool>, value: &str) -> Result<(), String> {
    let word = value.to_ascii_lowercase();
    *into = Some(match word.as_str() {
        word if YES.contains(&word) => true,
        word if NO.contains(&word) => false,
        _ => return Err(format!("{value:?} is not known: write true or false")),
    });
    Ok(())
}
