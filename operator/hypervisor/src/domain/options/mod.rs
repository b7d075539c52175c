//! What of a domain's machine differs from our defaults.

mod validate;
mod xml;

use std::path::PathBuf;

pub(super) use validate::validate;
pub(super) use xml::{
    bandwidth, clock, cpu_tune, features, inputs, io_tune, iommu, memory_backing, os, ports, rng, seed, serials, tpm,
    usb, video, watchdog,
};

/// What a disk or a CD-ROM is plugged into.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum DiskBus {
    /// A PCI device of its own.
    #[default]
    Virtio,
    /// virtio-scsi.
    Scsi,
    /// AHCI.
    Sata,
    /// IDE: of the machine `pc` alone, with four places.
    Ide,
    /// USB.
    Usb,
}

impl DiskBus {
    /// libvirt's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            DiskBus::Virtio => "virtio",
            DiskBus::Scsi => "scsi",
            DiskBus::Sata => "sata",
            DiskBus::Ide => "ide",
            DiskBus::Usb => "usb",
        }
    }
}

/// The model of a network card.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum InterfaceModel {
    /// virtio-net.
    #[default]
    Virtio,
    /// Intel 82540.
    E1000,
    /// Intel 82574.
    E1000e,
    /// Intel 82576.
    Igb,
    /// Realtek 8139.
    Rtl8139,
    /// VMware's.
    Vmxnet3,
}

/// A rate a second, and what it may be for a while.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct IoRate {
    /// In the long run.
    pub sustained: Option<u64>,
    /// For a while.
    pub burst: Option<u64>,
    /// For how many seconds.
    pub burst_seconds: Option<u32>,
}

/// What a disk may do. A total and its parts exclude each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct IoTune {
    /// Bytes read and written.
    pub total_bytes: IoRate,
    /// Bytes read.
    pub read_bytes: IoRate,
    /// Bytes written.
    pub write_bytes: IoRate,
    /// Reads and writes.
    pub total_iops: IoRate,
    /// Reads.
    pub read_iops: IoRate,
    /// Writes.
    pub write_iops: IoRate,
}

/// What an interface may do one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bandwidth {
    /// In the long run, in KiB a second.
    pub average_kib: u32,
    /// At most, in KiB a second.
    pub peak_kib: Option<u32>,
    /// How much at the peak, in KiB.
    pub burst_kib: Option<u32>,
}

/// What of an interface differs from our defaults.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct InterfaceOptions {
    /// The card.
    pub model: InterfaceModel,
    /// How many pairs of queues; none: one. Of virtio only.
    pub queues: Option<u32>,
    /// Whether virtio's rings are packed.
    pub packed_ring: bool,
    /// To the guest.
    pub inbound: Option<Bandwidth>,
    /// From the guest.
    pub outbound: Option<Bandwidth>,
}

/// What follows when a guest lets its watchdog run out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WatchdogAction {
    /// Nothing.
    None,
    /// It is halted.
    Pause,
    /// It is switched off.
    Poweroff,
    /// It is reset.
    Reset,
}

/// A TPM that swtpm emulates. libvirt keeps its state, by the domain's UUID, until the domain is undefined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tpm {
    /// Whether it is of version 2.0, and not of 1.2.
    pub version_2: bool,
    /// Whether the guest talks to it by CRB, and not by TIS.
    pub crb: bool,
}

/// The guest's own IOMMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Iommu {
    /// VT-d: of q35 alone.
    Intel,
    /// virtio-iommu.
    Virtio,
}

/// The USB controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UsbController {
    /// QEMU's own xHCI.
    Qemu,
    /// NEC's xHCI.
    Nec,
}

/// What keyboard or tablet are plugged into.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum InputBus {
    /// virtio.
    #[default]
    Virtio,
    /// USB.
    Usb,
}

/// How many random bytes the guest gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RngRate {
    /// So many
    pub bytes: u32,
    /// in so many milliseconds.
    pub period_ms: u32,
}

/// How much of the host's CPUs a domain gets beside others. The daemon needs the control group's CPU controller.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct CpuTune {
    /// Its weight.
    pub shares: Option<u32>,
    /// The period of the quota, in microseconds.
    pub period_us: Option<u32>,
    /// How long each virtual CPU may run in a period, in microseconds.
    pub quota_us: Option<u64>,
}

/// What of a domain's machine differs from our defaults. The default is no difference.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[allow(clippy::struct_excessive_bools, reason = "each is an answer of its own")]
pub struct GuestOptions {
    /// Where UEFI's variables are; none: where libvirt puts them.
    pub nvram: Option<PathBuf>,
    /// The TPM.
    pub tpm: Option<Tpm>,
    /// What follows when the watchdog runs out; none: there is no watchdog.
    pub watchdog: Option<WatchdogAction>,
    /// How many random bytes the guest gets; none: as many as it likes.
    pub rng_rate: Option<RngRate>,
    /// The graphics card's memory, in MiB.
    pub video_ram_mib: Option<u32>,
    /// How many serial ports there are, with the one whose output is logged.
    pub serial_ports: u32,
    /// Whether the firmware shows a menu.
    pub boot_menu: bool,
    /// Whether the guest isn't told that it runs on KVM.
    pub hide_hypervisor: bool,
    /// Whether it has performance counters; none: as the CPU has.
    pub pmu: Option<bool>,
    /// Whether it has an HPET.
    pub hpet: bool,
    /// Whether Windows runs in it: Hyper-V's interfaces where the host can, and a clock that tells the local time.
    pub windows: bool,
    /// What the seed is plugged into as a CD-ROM; none: it is a virtio disk.
    pub cdrom: Option<DiskBus>,
    /// The USB controller; none: there is one only when something is plugged into it.
    pub usb: Option<UsbController>,
    /// What the tablet is plugged into. There is one where there is VNC.
    pub tablet: InputBus,
    /// What the keyboard is plugged into beside PS/2.
    pub keyboard: Option<InputBus>,
    /// The guest's own IOMMU.
    pub iommu: Option<Iommu>,
    /// Its share of the host's CPUs.
    pub cpu_tune: CpuTune,
    /// Whether its memory is never swapped out.
    pub locked_memory: bool,
}

impl Default for GuestOptions {
    fn default() -> Self {
        GuestOptions {
            nvram: None,
            tpm: None,
            watchdog: None,
            rng_rate: None,
            video_ram_mib: None,
            serial_ports: 1,
            boot_menu: false,
            hide_hypervisor: false,
            pmu: None,
            hpet: false,
            windows: false,
            cdrom: None,
            usb: None,
            tablet: InputBus::Virtio,
            keyboard: None,
            iommu: None,
            cpu_tune: CpuTune::default(),
            locked_memory: false,
        }
    }
}
