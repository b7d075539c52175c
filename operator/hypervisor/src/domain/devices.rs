//! What is plugged into a domain: as asked for ([`Device`]) and as libvirt says ([`Devices`]).

use std::path::{Path, PathBuf};

use super::spec::{DiskSpec, InterfaceSpec};
use crate::network::MacAddress;
use crate::owner::Owner;

/// The two descriptions that libvirt has of a domain. They may differ: what is defined counts from the next start on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// What is defined.
    Defined,
    /// What runs.
    Running,
}

/// A device to plug in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Device {
    /// A disk.
    Disk(Box<DiskSpec>),
    /// A network interface.
    Interface(InterfaceSpec),
}

/// What a plugged device is known by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DeviceName {
    /// A disk, by its file.
    Disk(PathBuf),
    /// A network interface, by its MAC address.
    Interface(MacAddress),
}

impl Device {
    /// What it is known by once it is plugged in.
    pub fn name(&self) -> DeviceName {
        match self {
            Device::Disk(disk) => DeviceName::Disk(disk.path.clone()),
            Device::Interface(interface) => DeviceName::Interface(interface.mac),
        }
    }
}

/// A disk as libvirt says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskDevice {
    /// libvirt's name for it, as `vdb`.
    pub target: String,
    /// Its file; none for one that is no file.
    pub path: Option<PathBuf>,
}

/// A network interface as libvirt says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceDevice {
    /// Its MAC address.
    pub mac: MacAddress,
    /// The name that whoever plugged it in gave it.
    pub alias: Option<String>,
    /// The device on the host, by the same name as in [`InterfaceUsage::device`](crate::InterfaceUsage::device); while the
    /// domain runs.
    pub device: Option<String>,
}

/// One description of a domain, in what can be plugged in or changed by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Devices {
    /// The disks, in libvirt's order.
    pub disks: Vec<DiskDevice>,
    /// The network interfaces, in libvirt's order.
    pub interfaces: Vec<InterfaceDevice>,
    /// How many virtual CPUs are switched on.
    pub vcpus: u32,
    /// The memory that it may use, in bytes.
    pub memory_bytes: u64,
    /// The line for people.
    pub title: Option<String>,
    /// Whose it is, with the generation that it was made from.
    pub owner: Option<Owner>,
    /// How many more devices can be plugged in while it runs; none: the machine needs no ports for that.
    pub free_ports: Option<u32>,
}

impl Devices {
    /// Whether a device is plugged in.
    pub fn has(&self, device: &DeviceName) -> bool {
        match device {
            DeviceName::Disk(path) => self.disk(path).is_some(),
            DeviceName::Interface(mac) => self.interfaces.iter().any(|interface| interface.mac == *mac),
        }
    }

    /// The disk on a file.
    pub fn disk(&self, path: &Path) -> Option<&DiskDevice> {
        self.disks.iter().find(|disk| disk.path.as_deref() == Some(path))
    }
}

/// Both descriptions of a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainDevices {
    /// What is defined.
    pub defined: Devices,
    /// What runs, if it does.
    pub running: Option<Devices>,
}

impl DomainDevices {
    /// One of the two; of a domain that is off, there is none that runs.
    pub fn on(&self, side: Side) -> Option<&Devices> {
        match side {
            Side::Defined => Some(&self.defined),
            Side::Running => self.running.as_ref(),
        }
    }
}
