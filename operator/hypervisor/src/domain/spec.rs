//! The specification of a domain, in our own words.

use std::path::PathBuf;

use uuid::Uuid;

use super::affinity::Affinity;
use super::options::{DiskBus, GuestOptions, InterfaceOptions, IoTune};
use crate::network::MacAddress;
use crate::owner::Owner;
use crate::pci::PciAddress;

/// The most virtual CPUs a domain may have: what libvirt reports for QEMU's newest q35 machines.
pub const MAX_VCPUS: u32 = 4096;

/// The seed disk's target: fixed, so that volumes added later never move it.
pub(crate) const SEED_TARGET: &str = "vdz";

/// How the guest's instructions are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DomainType {
    /// On the host's CPU, through /dev/kvm.
    Kvm,
    /// Translated by QEMU (TCG): slow, works everywhere.
    Qemu,
    /// Not at all: libvirt's test driver (`test:///`).
    Test,
}

impl DomainType {
    /// libvirt's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            DomainType::Kvm => "kvm",
            DomainType::Qemu => "qemu",
            DomainType::Test => "test",
        }
    }
}

/// What starts the guest's operating system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Firmware {
    /// SeaBIOS.
    Bios,
    /// OVMF or its like, chosen by libvirt from the host's firmware descriptors.
    Uefi {
        /// With enrolled keys, so that only signed boot loaders run.
        secure_boot: bool,
    },
}

/// The shape in which the guest sees its virtual CPUs. Their number is the product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Topology {
    /// CPU sockets.
    pub sockets: u32,
    /// Cores in a socket.
    pub cores: u32,
    /// Threads in a core.
    pub threads: u32,
}

impl Topology {
    /// One socket for each virtual CPU, Nova's default.
    pub fn sockets(vcpus: u32) -> Self {
        Topology {
            sockets: vcpus,
            cores: 1,
            threads: 1,
        }
    }

    /// The number of virtual CPUs.
    pub fn vcpus(self) -> u32 {
        self.sockets.saturating_mul(self.cores).saturating_mul(self.threads)
    }
}

/// Which CPU the guest sees.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CpuMode {
    /// The named model nearest to the host's CPU: migrates between like hosts.
    HostModel,
    /// The host's CPU as it is. KVM only.
    HostPassthrough,
    /// Everything that the accelerator can do. Good for TCG.
    Maximum,
    /// A model of libvirt's list, such as `qemu64` or `EPYC-Milan`.
    Named(String),
}

/// The format of a disk image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DiskFormat {
    /// QEMU's copy-on-write format.
    Qcow2,
    /// Plain bytes.
    Raw,
}

impl DiskFormat {
    /// libvirt's and QEMU's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            DiskFormat::Qcow2 => "qcow2",
            DiskFormat::Raw => "raw",
        }
    }
}

/// How the host caches a disk's data (QEMU's `cache` modes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cache {
    /// Past the host's page cache (`O_DIRECT`): the file system must allow it.
    None,
    /// Through the page cache; the guest's flushes reach the disk.
    Writeback,
    /// Through the page cache; each write reaches the disk.
    Writethrough,
    /// Past the page cache; each write reaches the disk.
    DirectSync,
    /// Flushes are ignored. For throw-away guests.
    Unsafe,
}

/// What becomes of the guest's discard (TRIM) requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Discard {
    /// The space is given back.
    Unmap,
    /// Nothing.
    Ignore,
}

/// A file below a disk in its backing chain.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DiskLayer {
    /// The file.
    pub path: PathBuf,
    /// Its format.
    pub format: DiskFormat,
}

/// A disk on a file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DiskSpec {
    /// The device, `vda` to `vdzz`, whatever the bus: its place among the domain's disks. Guests name disks as they find
    /// them, so use `serial` to find one inside.
    pub target: String,
    /// The file.
    pub path: PathBuf,
    /// Its format. Never guessed: a raw disk whose guest writes a qcow2 header must stay raw.
    pub format: DiskFormat,
    /// The files below `path`, nearest first; empty: none. libvirt and QEMU get the whole chain from here and follow
    /// no name that they find in an image, so a file name planted in a header opens nothing.
    pub backing: Vec<DiskLayer>,
    /// Whether the guest can only read.
    pub read_only: bool,
    /// Shown to the guest as the disk's serial (`/dev/disk/by-id/virtio-<serial>`); at most 20 bytes (virtio).
    pub serial: Option<String>,
    /// The place in the boot order, from 1.
    pub boot_order: Option<u32>,
    /// How the host caches.
    pub cache: Cache,
    /// What becomes of discards.
    pub discard: Discard,
    /// What it is plugged into.
    pub bus: DiskBus,
    /// Whether virtio's rings are packed.
    pub packed_ring: bool,
    /// What it may do.
    pub io_tune: IoTune,
}

impl DiskSpec {
    /// A writable disk that is not booted from, without backing files, that gives discarded space back.
    pub fn new(target: impl Into<String>, path: impl Into<PathBuf>, format: DiskFormat) -> Self {
        DiskSpec {
            target: target.into(),
            path: path.into(),
            format,
            backing: Vec::new(),
            read_only: false,
            serial: None,
            boot_order: None,
            cache: Cache::None,
            discard: Discard::Unmap,
            bus: DiskBus::Virtio,
            packed_ring: false,
            io_tune: IoTune::default(),
        }
    }
}

/// What an interface is plugged into.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InterfaceSource {
    /// A libvirt network, by name.
    Network(String),
    /// A bridge of Open vSwitch. libvirt makes the port there, and gives it the name by which OVN knows it.
    OpenVSwitch {
        /// The bridge, `br-int` with OVN.
        bridge: String,
        /// The port's `iface-id`.
        interface_id: Uuid,
        /// Whether guest and host may leave checksums and segments to each other. A switch in user space drops what
        /// lacks its checksum.
        offloads: bool,
    },
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct InterfaceSpec {
    /// The guest's MAC address.
    pub mac: MacAddress,
    /// What it is plugged into.
    pub source: InterfaceSource,
    /// The MTU that the guest is told, in bytes; none: the network's.
    pub mtu: Option<u32>,
    /// A name of our own for the device, which must start with `ua-` (libvirt's rule); used to unplug it later.
    pub alias: Option<String>,
    /// What of it differs from our defaults.
    pub options: InterfaceOptions,
}

/// The graphics card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Video {
    /// None.
    None,
    /// Standard VGA: works with every guest.
    Vga,
    /// virtio-vga: needs a driver beyond text mode.
    Virtio,
    /// Cirrus Logic's, for old guests.
    Cirrus,
    /// Bochs' display, for UEFI.
    Bochs,
    /// VMware's.
    Vmvga,
    /// Red Hat's, where QEMU has SPICE.
    Qxl,
}

/// What follows when the guest powers off, reboots or crashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LifecycleAction {
    /// The domain stops.
    Destroy,
    /// The domain starts again.
    Restart,
    /// The domain stays as it is, for inspection.
    Preserve,
}

/// What a domain should be. Made with [`DomainSpec::new`], then filled.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DomainSpec {
    /// The domain's UUID: the Instance's UID.
    pub uuid: Uuid,
    /// The domain's name, unique on the host.
    pub name: String,
    /// Whose it is; kept in the metadata.
    pub owner: Owner,
    /// A line for people, shown by `virsh desc --title`.
    pub title: Option<String>,
    /// How instructions are run.
    pub domain_type: DomainType,
    /// The guest's architecture, as QEMU names it.
    pub architecture: String,
    /// QEMU's machine type.
    pub machine: String,
    /// What starts the operating system.
    pub firmware: Firmware,
    /// The virtual CPUs.
    pub topology: Topology,
    /// The guest's memory, in bytes; a multiple of 1 KiB.
    pub memory_bytes: u64,
    /// Where on the host it runs, and the guest's NUMA nodes.
    pub affinity: Affinity,
    /// Which CPU the guest sees.
    pub cpu: CpuMode,
    /// The disks.
    pub disks: Vec<DiskSpec>,
    /// The NoCloud seed: an ISO or VFAT image, given to the guest as a read-only virtio disk, or as a CD-ROM if
    /// [`GuestOptions::cdrom`] says so.
    pub seed: Option<PathBuf>,
    /// The network interfaces, the primary first.
    pub interfaces: Vec<InterfaceSpec>,
    /// The host's PCI devices that are passed through to the guest.
    pub pci_devices: Vec<PciAddress>,
    /// Where the serial console is logged; virtlogd appends and rotates.
    pub console_log: Option<PathBuf>,
    /// The Unix socket that serves VNC.
    pub vnc_socket: Option<PathBuf>,
    /// Whether there is a channel for the QEMU guest agent.
    pub guest_agent: bool,
    /// How often the balloon reports memory figures, in seconds; 0: never.
    pub balloon_stats_period_s: u32,
    /// Whether the guest gets random numbers from the host's /dev/urandom.
    pub rng: bool,
    /// The graphics card.
    pub video: Video,
    /// When the guest powers off.
    pub on_poweroff: LifecycleAction,
    /// When the guest reboots.
    pub on_reboot: LifecycleAction,
    /// When the guest crashes.
    pub on_crash: LifecycleAction,
    /// How many PCIe ports stay free for devices plugged in later: q35 can't add ports to a running guest.
    pub hotplug_ports: u32,
    /// TCG's translation cache, in MiB; none: QEMU's default of up to 1 GiB. Ignored for other domain types.
    pub tcg_cache_mib: Option<u32>,
    /// What of its machine differs from these defaults.
    pub options: GuestOptions,
}

impl DomainSpec {
    /// A domain with our defaults: q35, BIOS, host-model CPU under KVM and `maximum` else, guest agent, random numbers,
    /// balloon figures each 10 s, VGA, 8 free PCIe ports; power-off and crash stop it, reboot restarts it. Without
    /// disks, interfaces, passed through devices, console log and VNC; it runs anywhere on the host.
    pub fn new(
        owner: Owner,
        name: impl Into<String>,
        domain_type: DomainType,
        topology: Topology,
        memory_bytes: u64,
    ) -> Self {
        DomainSpec {
            uuid: owner.uid,
            name: name.into(),
            owner,
            title: None,
            domain_type,
            architecture: "x86_64".to_owned(),
            machine: "q35".to_owned(),
            firmware: Firmware::Bios,
            topology,
            memory_bytes,
            affinity: Affinity::Any,
            cpu: if domain_type == DomainType::Kvm {
                CpuMode::HostModel
            } else {
                CpuMode::Maximum
            },
            disks: Vec::new(),
            seed: None,
            interfaces: Vec::new(),
            pci_devices: Vec::new(),
            console_log: None,
            vnc_socket: None,
            guest_agent: true,
            balloon_stats_period_s: 10,
            rng: true,
            video: Video::Vga,
            on_poweroff: LifecycleAction::Destroy,
            on_reboot: LifecycleAction::Restart,
            on_crash: LifecycleAction::Destroy,
            hotplug_ports: 8,
            tcg_cache_mib: None,
            options: GuestOptions::default(),
        }
    }
}
