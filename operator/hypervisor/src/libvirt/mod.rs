//! libvirt, through the crate `virt` and, where that has gaps or swallows errors, its raw bindings.
//!
//! Known faults of virt 0.5.0 that this module goes around: `Domain::state`, `set_memory`, `block_info` and
//! `attach_device` drop libvirt's error; `all_domain_stats` and `interface_addresses` leak; events and close callbacks
//! have no safe wrapper; a `Stream` with a callback must not move.

mod admin;
mod backup;
mod connection;
mod console;
mod devices;
mod domains;
mod error;
mod event_loop;
mod facts;
mod guest;
mod half_started;
mod hosts_file;
mod networks;
mod params;
mod plugged;
mod saved;
mod usage;

use std::path::{Path, PathBuf};
use std::time::Duration;

use uuid::Uuid;

use self::connection::Link;
use self::hosts_file::HostsFiles;
use crate::console::Console;
use crate::domain::{
    Backup, Device, DeviceName, DiskFault, DomainDevices, DomainInfo, DomainSpec, DomainUsage, GuestInfo, Password,
    Side,
};
use crate::error::{Error, Result};
use crate::events::EventStream;
use crate::host::HostFacts;
use crate::hypervisor::Hypervisor;
use crate::network::{NetworkInfo, NetworkSpec, NetworkUpdate};
use crate::owner::Owner;

/// How to reach libvirt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LibvirtOptions {
    /// The connection URI. The socket is named because libvirt's client looks in /var/run, which an image without a
    /// base system does not have.
    pub uri: String,
    /// How often the daemon is asked for a sign of life, in seconds.
    pub keepalive_interval_s: i32,
    /// How many signs of life may be missing before the connection counts as lost.
    pub keepalive_count: u32,
    /// The longest wait between two attempts to connect. The first waits are shorter; a call in between fails at once.
    pub max_backoff: Duration,
    /// Where the DHCP hosts of networks are kept, one file a network; under the same path here and on the host, where
    /// dnsmasq's user must be able to read. `None`: they are kept in libvirt's XML. That is slow: for each that comes or
    /// goes, libvirt makes the network's firewall rules anew.
    pub network_hosts: Option<PathBuf>,
}

impl Default for LibvirtOptions {
    fn default() -> Self {
        LibvirtOptions {
            uri: "qemu:///system?socket=/run/libvirt/libvirt-sock".to_owned(),
            keepalive_interval_s: 5,
            keepalive_count: 3,
            max_backoff: Duration::from_secs(5),
            network_hosts: None,
        }
    }
}

/// libvirt on this host. Connects with the first call, and again after the connection was lost.
#[derive(Debug)]
pub struct Libvirt {
    link: Link,
    hosts: HostsFiles,
}

impl Libvirt {
    /// Makes libvirt's event loop and its thread, once in the process; does not connect yet.
    pub fn new(options: LibvirtOptions) -> Result<Self> {
        if options.uri.contains('\0') {
            let message = "the URI has a zero byte".to_owned();
            return Err(Error::Invalid {
                doing: "setting up libvirt".to_owned(),
                message,
            });
        }
        let hosts = HostsFiles::new(options.network_hosts.clone())?;
        event_loop::start()?;
        Ok(Libvirt {
            hosts,
            link: Link::new(options),
        })
    }
}

impl Hypervisor for Libvirt {
    fn facts(&self) -> Result<HostFacts> {
        facts::read(&self.link)
    }

    fn domains(&self) -> Result<Vec<DomainInfo>> {
        domains::list(&self.link)
    }

    fn domain(&self, uuid: Uuid) -> Result<DomainInfo> {
        domains::find(&self.link, uuid, "reading")?.info()
    }

    fn define(&self, spec: &DomainSpec) -> Result<()> {
        domains::define(&self.link, spec)
    }

    fn set_owner(&self, uuid: Uuid, owner: &Owner) -> Result<()> {
        domains::find(&self.link, uuid, "marking")?.set_owner(owner)
    }

    fn start(&self, uuid: Uuid) -> Result<()> {
        domains::find(&self.link, uuid, "starting")?.start()
    }

    fn shutdown(&self, uuid: Uuid) -> Result<()> {
        domains::find(&self.link, uuid, "shutting down")?.shutdown()
    }

    fn destroy(&self, uuid: Uuid) -> Result<()> {
        domains::find(&self.link, uuid, "destroying")?.destroy()
    }

    fn suspend(&self, uuid: Uuid) -> Result<()> {
        domains::find(&self.link, uuid, "suspending")?.suspend()
    }

    fn resume(&self, uuid: Uuid) -> Result<()> {
        domains::find(&self.link, uuid, "resuming")?.resume()
    }

    fn save(&self, uuid: Uuid) -> Result<()> {
        domains::find(&self.link, uuid, "saving the memory of")?.save()
    }

    fn discard_saved(&self, uuid: Uuid) -> Result<()> {
        domains::find(&self.link, uuid, "discarding the saved memory of")?.discard_saved()
    }

    fn reset(&self, uuid: Uuid) -> Result<()> {
        domains::find(&self.link, uuid, "resetting")?.reset()
    }

    fn undefine(&self, uuid: Uuid) -> Result<()> {
        domains::find(&self.link, uuid, "undefining")?.undefine()
    }

    fn resize_disk(&self, uuid: Uuid, target: &str, bytes: u64) -> Result<()> {
        domains::find(&self.link, uuid, "resizing a disk of")?.resize_disk(target, bytes)
    }

    fn usage(&self, of: &[Uuid]) -> Result<Vec<DomainUsage>> {
        usage::read(&self.link, of)
    }

    fn disk_faults(&self, uuid: Uuid) -> Result<Vec<DiskFault>> {
        domains::find(&self.link, uuid, "looking at the disks of")?.disk_faults()
    }

    fn has_guest_agent(&self, uuid: Uuid) -> Result<bool> {
        domains::find(&self.link, uuid, "looking for the guest agent of")?.has_guest_agent()
    }

    fn guest_info(&self, uuid: Uuid) -> Result<GuestInfo> {
        domains::find(&self.link, uuid, "asking the guest agent of")?.guest_info()
    }

    fn set_password(&self, uuid: Uuid, user: &str, password: &Password) -> Result<()> {
        domains::find(&self.link, uuid, "setting a password in")?.set_password(user, password)
    }

    fn inject_nmi(&self, uuid: Uuid) -> Result<()> {
        domains::find(&self.link, uuid, "interrupting")?.inject_nmi()
    }

    fn freeze(&self, uuid: Uuid) -> Result<()> {
        domains::find(&self.link, uuid, "freezing the file systems of")?.freeze()
    }

    fn thaw(&self, uuid: Uuid) -> Result<()> {
        domains::find(&self.link, uuid, "thawing the file systems of")?.thaw()
    }

    fn begin_backup(&self, uuid: Uuid, disk: &Path, target: &Path) -> Result<()> {
        domains::find(&self.link, uuid, "copying a disk of")?.begin_backup(disk, target)
    }

    fn backup(&self, uuid: Uuid) -> Result<Backup> {
        domains::find(&self.link, uuid, "asking after the copy of a disk of")?.backup()
    }

    fn abort_backup(&self, uuid: Uuid) -> Result<()> {
        domains::find(&self.link, uuid, "ending the copy of a disk of")?.abort_backup()
    }

    fn devices(&self, uuid: Uuid) -> Result<DomainDevices> {
        domains::find(&self.link, uuid, "reading the devices of")?.devices()
    }

    fn attach(&self, uuid: Uuid, device: &Device, side: Side) -> Result<()> {
        domains::find(&self.link, uuid, "plugging a device into")?.attach(device, side)
    }

    fn detach(&self, uuid: Uuid, device: &DeviceName, side: Side) -> Result<()> {
        domains::find(&self.link, uuid, "unplugging a device from")?.detach(device, side)
    }

    fn open_console(&self, uuid: Uuid, force: bool) -> Result<Console> {
        domains::find(&self.link, uuid, "opening the console of")?.open_console(force)
    }

    fn networks(&self) -> Result<Vec<NetworkInfo>> {
        networks::list(&self.link, &self.hosts)
    }

    fn network(&self, uuid: Uuid) -> Result<NetworkInfo> {
        Ok(networks::find(&self.link, &self.hosts, uuid, "reading")?.into_info())
    }

    fn plugged(&self, network: Uuid) -> Result<u32> {
        networks::find(&self.link, &self.hosts, network, "looking at the ports of")?.plugged()
    }

    fn define_network(&self, spec: &NetworkSpec) -> Result<()> {
        networks::define(&self.link, &self.hosts, spec)
    }

    fn start_network(&self, uuid: Uuid) -> Result<()> {
        networks::find(&self.link, &self.hosts, uuid, "starting")?.start()
    }

    fn stop_network(&self, uuid: Uuid) -> Result<()> {
        networks::find(&self.link, &self.hosts, uuid, "stopping")?.stop()
    }

    fn update_network(&self, spec: &NetworkSpec) -> Result<NetworkUpdate> {
        networks::update(&self.link, &self.hosts, spec)
    }

    fn remove_network(&self, uuid: Uuid) -> Result<()> {
        networks::find(&self.link, &self.hosts, uuid, "removing")?.remove()
    }

    fn events(&self, capacity: usize) -> EventStream {
        self.link.hub().subscribe(capacity)
    }
}
