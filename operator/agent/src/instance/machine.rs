//! Which machine does a guest see? From what Flavor and image ask for to what libvirt is asked for.

use virga_core::{
    flavor::{
        CdromBus, Choice as _, Cpus, DiskBus as AskedBus, Firmware as AskedFirmware, InputBus as AskedInput, Machine,
        MachineType, Rate, SecureBoot, TpmModel, TpmVersion, UsbModel, VideoModel, VifModel, VifQuota, Viommu,
        Watchdog,
    },
    problem::Problems,
};
use virga_crds::{BuiltFlavor, Image};
use virga_hypervisor::{
    Bandwidth, CpuTune, DiskBus, DiskSpec, DomainSpec, Firmware, GuestOptions, InputBus, InterfaceModel,
    InterfaceOptions, IoRate, IoTune, Iommu, RngRate, Topology, Tpm, UsbController, Video, WatchdogAction,
};

use crate::{host::Host, layout::InstanceFiles};

/// The most pairs of queues of an interface: what Linux gives a tap (`MAX_TAP_QUEUES`).
const MOST_QUEUES: u32 = 256;

/// What this Flavor and this image ask for, or what of it can't be.
pub fn asked(host: &Host, flavor: &BuiltFlavor, image: Option<&Image>) -> Result<Machine, Problems> {
    let extra = host.stores.extra_specs_of(&flavor.name)?;
    extra.machine(flavor.vcpus.into(), image.map(|image| &image.spec.properties))
}

/// How the virtual CPUs are arranged.
pub fn topology(cpus: Cpus) -> Topology {
    Topology {
        sockets: cpus.sockets,
        cores: cpus.cores,
        threads: cpus.threads,
    }
}

/// Makes the domain that machine, with all disks and interfaces that it has by now.
pub fn shape(spec: &mut DomainSpec, machine: &Machine, secure_boot: bool, files: &InstanceFiles) {
    machine.machine_type.word().clone_into(&mut spec.machine);
    spec.firmware = firmware(machine, secure_boot);
    spec.guest_agent = machine.guest_agent;
    spec.rng = machine.rng;
    spec.video = machine.video.map_or(spec.video, video);
    for disk in &mut spec.disks {
        shape_disk(disk, machine);
    }
    let vcpus = spec.topology.vcpus();
    for plugged in &mut spec.interfaces {
        plugged.options = interface(machine, vcpus);
    }
    spec.options = options(machine, files);
}

/// Makes a disk that machine's.
pub fn shape_disk(disk: &mut DiskSpec, machine: &Machine) {
    disk.bus = machine.disk_bus.map_or(DiskBus::Virtio, disk_bus);
    disk.packed_ring = machine.packed_ring;
    disk.io_tune = io_tune(machine);
}

/// Whether its disks are on a bus that knows of no plugging while it runs.
pub fn has_cold_disks(machine: &Machine) -> bool {
    matches!(machine.disk_bus, Some(AskedBus::Sata | AskedBus::Ide))
}

fn firmware(machine: &Machine, host_can: bool) -> Firmware {
    let secure_boot = match machine.secure_boot {
        SecureBoot::Required => true,
        SecureBoot::Optional => host_can,
        SecureBoot::Disabled => false,
    };
    match machine.firmware {
        AskedFirmware::Bios => Firmware::Bios,
        AskedFirmware::Uefi => Firmware::Uefi { secure_boot },
    }
}

fn options(machine: &Machine, files: &InstanceFiles) -> GuestOptions {
    let tablet = match machine.input_bus {
        Some(bus) if !machine.usb_tablet => input_bus(bus),
        None if !machine.usb_tablet => InputBus::Virtio,
        _ => InputBus::Usb,
    };
    let quota = machine.quota;
    GuestOptions {
        nvram: (machine.firmware == AskedFirmware::Uefi).then(|| files.uefi_variables()),
        tpm: machine.tpm.map(|tpm| Tpm {
            version_2: tpm.version == TpmVersion::V2,
            crb: tpm.model == TpmModel::Crb,
        }),
        watchdog: watchdog(machine.watchdog),
        rng_rate: machine.rng_rate.map(|rate| RngRate {
            bytes: rate.bytes,
            period_ms: rate.period_ms,
        }),
        video_ram_mib: machine.video_ram_mib,
        serial_ports: machine.serial_ports,
        boot_menu: machine.boot_menu,
        hide_hypervisor: machine.hide_hypervisor,
        pmu: machine.pmu,
        hpet: machine.hpet,
        windows: machine.windows,
        cdrom: machine.cdrom_bus.map(cdrom_bus),
        usb: machine.usb.map(usb),
        tablet,
        keyboard: machine.input_bus.map(input_bus),
        iommu: machine.viommu.map(|model| iommu(model, machine)),
        cpu_tune: CpuTune {
            shares: quota.cpu_shares,
            period_us: quota.cpu_period_us,
            quota_us: quota.cpu_quota_us,
        },
        locked_memory: machine.locked_memory,
    }
}

fn io_tune(machine: &Machine) -> IoTune {
    let quota = machine.quota.disk;
    let rate = |rate: Rate| IoRate {
        sustained: rate.sustained,
        burst: rate.burst,
        burst_seconds: rate.burst_seconds,
    };
    IoTune {
        total_bytes: rate(quota.total_bytes),
        read_bytes: rate(quota.read_bytes),
        write_bytes: rate(quota.write_bytes),
        total_iops: rate(quota.total_iops),
        read_iops: rate(quota.read_iops),
        write_iops: rate(quota.write_iops),
    }
}

/// What that machine's interfaces are.
pub fn interface(machine: &Machine, vcpus: u32) -> InterfaceOptions {
    let way = |quota: VifQuota| {
        Some(Bandwidth {
            average_kib: quota.average?,
            peak_kib: quota.peak,
            burst_kib: quota.burst,
        })
    };
    InterfaceOptions {
        model: machine.vif_model.map_or(InterfaceModel::Virtio, vif_model),
        queues: machine.multiqueue.then(|| vcpus.min(MOST_QUEUES)),
        packed_ring: machine.packed_ring,
        inbound: way(machine.quota.inbound),
        outbound: way(machine.quota.outbound),
    }
}

fn disk_bus(bus: AskedBus) -> DiskBus {
    match bus {
        AskedBus::Virtio => DiskBus::Virtio,
        AskedBus::Scsi => DiskBus::Scsi,
        AskedBus::Sata => DiskBus::Sata,
        AskedBus::Ide => DiskBus::Ide,
        AskedBus::Usb => DiskBus::Usb,
    }
}

fn cdrom_bus(bus: CdromBus) -> DiskBus {
    match bus {
        CdromBus::Scsi => DiskBus::Scsi,
        CdromBus::Sata => DiskBus::Sata,
        CdromBus::Ide => DiskBus::Ide,
        CdromBus::Usb => DiskBus::Usb,
    }
}

fn vif_model(model: VifModel) -> InterfaceModel {
    match model {
        VifModel::Virtio => InterfaceModel::Virtio,
        VifModel::E1000 => InterfaceModel::E1000,
        VifModel::E1000e => InterfaceModel::E1000e,
        VifModel::Igb => InterfaceModel::Igb,
        VifModel::Rtl8139 => InterfaceModel::Rtl8139,
        VifModel::Vmxnet3 => InterfaceModel::Vmxnet3,
    }
}

fn video(model: VideoModel) -> Video {
    match model {
        VideoModel::None => Video::None,
        VideoModel::Vga => Video::Vga,
        VideoModel::Virtio => Video::Virtio,
        VideoModel::Cirrus => Video::Cirrus,
        VideoModel::Bochs => Video::Bochs,
        VideoModel::Vmvga => Video::Vmvga,
        VideoModel::Qxl => Video::Qxl,
    }
}

fn input_bus(bus: AskedInput) -> InputBus {
    match bus {
        AskedInput::Virtio => InputBus::Virtio,
        AskedInput::Usb => InputBus::Usb,
    }
}

fn usb(model: UsbModel) -> UsbController {
    match model {
        UsbModel::Qemu => UsbController::Qemu,
        UsbModel::Nec => UsbController::Nec,
    }
}

fn watchdog(action: Watchdog) -> Option<WatchdogAction> {
    Some(match action {
        Watchdog::Disabled => return None,
        Watchdog::None => WatchdogAction::None,
        Watchdog::Pause => WatchdogAction::Pause,
        Watchdog::Poweroff => WatchdogAction::Poweroff,
        Watchdog::Reset => WatchdogAction::Reset,
    })
}

fn iommu(model: Viommu, machine: &Machine) -> Iommu {
    match model {
        Viommu::Auto if machine.machine_type == MachineType::Q35 => Iommu::Intel,
        Viommu::Intel => Iommu::Intel,
        Viommu::Virtio | Viommu::Auto => Iommu::Virtio,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use uuid::Uuid;
    use virga_core::flavor::extra_specs;
    use virga_crds::{Bytes, FlavorSpec};
    use virga_hypervisor::{DiskFormat, DiskSpec, DomainType, InterfaceSource, InterfaceSpec, MacAddress, Owner};

    use super::*;
    use crate::layout::Layout;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let owned = pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        owned.collect()
    }

    /// The machine of a guest with two virtual CPUs.
    pub fn machine(specs: &[(&str, &str)], properties: &[(&str, &str)]) -> Machine {
        let flavor = FlavorSpec {
            vcpus: 2,
            memory: Bytes::gib(1),
            extra_specs: map(specs),
            ..FlavorSpec::default()
        };
        extra_specs(&flavor)
            .unwrap()
            .machine(2, Some(&map(properties)))
            .unwrap()
    }

    fn shaped(specs: &[(&str, &str)], properties: &[(&str, &str)]) -> DomainSpec {
        let owner = Owner {
            namespace: "shop".into(),
            name: "web".into(),
            uid: Uuid::from_u128(1),
            generation: 1,
        };
        let machine = machine(specs, properties);
        let mut spec = DomainSpec::new(owner, "virga-1", DomainType::Qemu, topology(machine.cpus), 1 << 30);
        spec.disks = ["vda", "vdb"]
            .map(|target| DiskSpec::new(target, format!("/{target}"), DiskFormat::Qcow2))
            .into();
        spec.interfaces = vec![InterfaceSpec {
            mac: MacAddress([0xfa, 0x16, 0x3e, 0, 0, 1]),
            source: InterfaceSource::Network("net".into()),
            mtu: None,
            alias: None,
            options: InterfaceOptions::default(),
        }];
        let files = Layout::new("/var/lib/virga").instance(Uuid::from_u128(1));
        shape(&mut spec, &machine, true, &files);
        assert_eq!(spec.validate(), Ok(()));
        spec
    }

    #[test]
    fn without_wishes_the_domain_is_as_it_was() {
        let spec = shaped(&[], &[]);
        assert_eq!((spec.machine.as_str(), spec.firmware), ("q35", Firmware::Bios));
        assert_eq!(
            (spec.options.clone(), spec.video),
            (GuestOptions::default(), Video::Vga)
        );
        assert_eq!(spec.interfaces[0].options, InterfaceOptions::default());
        assert_eq!(
            (spec.disks[0].bus, spec.disks[0].io_tune),
            (DiskBus::Virtio, IoTune::default())
        );
    }

    #[test]
    fn the_variables_of_uefi_are_kept_with_the_instance() {
        let uefi = [("hw_firmware_type", "uefi")];
        let spec = shaped(&[("os:secure_boot", "required")], &uefi);
        assert_eq!(spec.firmware, Firmware::Uefi { secure_boot: true });
        let path = spec.options.nvram.unwrap();
        assert!(path.starts_with("/var/lib/virga/instances/") && path.ends_with("uefi-variables.fd"));
        let optional = shaped(&[], &[("hw_firmware_type", "uefi"), ("os_secure_boot", "optional")]);
        assert_eq!(optional.firmware, Firmware::Uefi { secure_boot: true }, "the host can");
        let machine = machine(&[], &[("hw_firmware_type", "uefi"), ("os_secure_boot", "optional")]);
        assert_eq!(firmware(&machine, false), Firmware::Uefi { secure_boot: false });
        assert_eq!(shaped(&[], &uefi).firmware, Firmware::Uefi { secure_boot: false });
    }

    #[test]
    fn quotas_reach_every_disk_and_every_interface() {
        let spec = shaped(
            &[
                ("quota:cpu_shares", "512"),
                ("quota:cpu_quota", "50000"),
                ("quota:disk_total_iops_sec", "100"),
                ("quota:disk_total_iops_sec_max", "200"),
                ("quota:vif_outbound_average", "1000"),
                ("hw:vif_multiqueue_enabled", "true"),
            ],
            &[],
        );
        for disk in &spec.disks {
            assert_eq!(disk.io_tune.total_iops.burst, Some(200));
        }
        let interface = spec.interfaces[0].options;
        assert_eq!(
            (interface.outbound.unwrap().average_kib, interface.inbound),
            (1000, None)
        );
        assert_eq!((interface.queues, spec.options.cpu_tune.shares), (Some(2), Some(512)));
        assert_eq!(spec.options.cpu_tune.quota_us, Some(50_000));
    }

    #[test]
    fn each_device_is_the_one_that_is_asked_for() {
        let spec = shaped(
            &[
                ("hw:tpm_version", "2.0"),
                ("hw:watchdog_action", "pause"),
                ("hw:viommu_model", "auto"),
            ],
            &[
                ("hw_tpm_model", "tpm-crb"),
                ("hw_disk_bus", "sata"),
                ("hw_cdrom_bus", "sata"),
                ("hw_vif_model", "e1000e"),
                ("hw_video_model", "cirrus"),
                ("hw_pointer_model", "usbtablet"),
                ("hw_qemu_guest_agent", "no"),
                ("os_type", "windows"),
            ],
        );
        let tpm = Tpm {
            version_2: true,
            crb: true,
        };
        let options = &spec.options;
        assert_eq!(
            (options.tpm, options.watchdog),
            (Some(tpm), Some(WatchdogAction::Pause))
        );
        assert_eq!((spec.disks[1].bus, options.cdrom), (DiskBus::Sata, Some(DiskBus::Sata)));
        assert_eq!(
            (spec.interfaces[0].options.model, spec.video),
            (InterfaceModel::E1000e, Video::Cirrus)
        );
        assert_eq!((options.tablet, options.iommu), (InputBus::Usb, Some(Iommu::Intel)));
        assert!(options.windows && !spec.guest_agent);
    }
}
