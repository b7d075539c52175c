//! Networks of libvirt.

use std::iter;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use uuid::Uuid;
use virt::error::ErrorNumber;
use virt::network::Network;
use virt::sys;

use super::connection::{Connection, Link};
use super::error;
use super::hosts_file::{HostsFile, HostsFiles};
use super::plugged;
use crate::error::{Error, Result};
use crate::network::{
    Definition, DnsHost, HostChange, NetworkDiff, NetworkInfo, NetworkSpec, NetworkUpdate, Range, change_xml, diff,
    overlap, ranges, ranges_of_xml, read, read_hosts, to_xml, to_xml_without_hosts, write_hosts,
};

type VirtResult<T> = std::result::Result<T, virt::error::Error>;

/// A network of ours, for the time of one call.
pub(super) struct Ours {
    connection: Arc<Connection>,
    network: Network,
    found: Found,
    /// Where its DHCP hosts should be; `None`: in libvirt's XML.
    hosts: Option<HostsFile>,
    verb: &'static str,
}

/// What there is of a network.
struct Found {
    definition: Definition,
    live: Option<Definition>,
    connections: u32,
    /// What its hosts file says; `None` when there is none.
    hosts: Option<String>,
}

/// Looks up a network and makes sure that it is ours.
pub(super) fn find(link: &Link, files: &HostsFiles, uuid: Uuid, verb: &'static str) -> Result<Ours> {
    let connection = link.connection()?;
    let (doing, what) = (format!("{verb} network {uuid}"), format!("network {uuid}"));
    let explain = |error: &virt::error::Error| error::explain(&connection, &doing, &what, error);
    let network = connection
        .get()
        .lookup_network_by_uuid_string(&uuid.to_string())
        .map_err(|e| explain(&e))?;
    let mut found = Found::look(&network)
        .map_err(|e| explain(&e))?
        .ok_or_else(|| Error::foreign(&what))?;
    let hosts = files.of(uuid);
    found.read_hosts(hosts.as_ref())?;
    Ok(Ours {
        connection,
        network,
        found,
        hosts,
        verb,
    })
}

/// All networks of ours. One that vanishes while we look is left out.
pub(super) fn list(link: &Link, files: &HostsFiles) -> Result<Vec<NetworkInfo>> {
    let connection = link.connection()?;
    let explain = |error: &virt::error::Error| error::explain(&connection, "listing networks", "networks", error);
    let mut infos = Vec::new();
    for network in connection.get().list_all_networks(0).map_err(|e| explain(&e))? {
        match Found::look(&network) {
            Ok(None) => {}
            Ok(Some(mut found)) => {
                found.read_hosts(files.of(found.definition.spec.uuid).as_ref())?;
                infos.push(found.into_info());
            }
            Err(error) if error.code().is(ErrorNumber::NoNetwork) => {}
            Err(error) => return Err(explain(&error)),
        }
    }
    infos.sort_by_key(|info| info.spec.uuid);
    Ok(infos)
}

pub(super) fn define(link: &Link, files: &HostsFiles, spec: &NetworkSpec) -> Result<()> {
    let doing = format!("defining network {}", spec.name);
    spec.validate().map_err(|problems| Error::invalid(&doing, &problems))?;
    let ours = match find(link, files, spec.uuid, "defining") {
        Ok(ours) => Some(ours),
        Err(Error::NotFound { .. }) => None,
        Err(error) => return Err(error),
    };
    // The definition first, so that there is no file without one.
    write_definition(link, files, spec)?;
    match (ours, files.of(spec.uuid)) {
        (Some(ours), _) => {
            let live = ours.write_hosts(spec, Vec::new())?;
            ours.apply(&live, sys::VIR_NETWORK_UPDATE_AFFECT_LIVE)
        }
        (None, Some(file)) => file.write(&write_hosts(spec)),
        (None, None) => Ok(()),
    }
}

fn write_definition(link: &Link, files: &HostsFiles, spec: &NetworkSpec) -> Result<()> {
    let connection = link.connection()?;
    let xml = match files.of(spec.uuid) {
        Some(file) => to_xml_without_hosts(spec, file.path()),
        None => to_xml(spec),
    };
    let result = connection.get().define_network_xml(&xml).map(|_| ());
    let doing = format!("defining network {}", spec.name);
    result.map_err(|e| error::explain(&connection, &doing, &format!("network {}", spec.name), &e))
}

pub(super) fn update(link: &Link, files: &HostsFiles, spec: &NetworkSpec) -> Result<NetworkUpdate> {
    let doing = format!("updating network {}", spec.name);
    spec.validate().map_err(|problems| Error::invalid(doing, &problems))?;
    let ours = find(link, files, spec.uuid, "updating")?;
    let mut config = ours.differences(&ours.found.definition, spec);
    let mut live = ours.found.live.as_ref().map(|live| ours.differences(live, spec));
    let update = NetworkUpdate {
        host_changes: live
            .iter()
            .fold(config.hosts.len(), |most, live| most.max(live.hosts.len())),
        redefined: config.structure,
        // A definition that libvirt could not write in full is found by the next call, which looks anew.
        restart_needed: live.as_ref().is_some_and(|live| live.structure),
    };
    if config.structure {
        write_definition(link, files, spec)?;
        config.hosts.clear();
    }
    // What is in the file is not for libvirt.
    let in_file = |definition: &Definition, change: &HostChange| definition.hosts_file.is_some() && !change.is_dns();
    config.hosts.retain(|change| !in_file(&ours.found.definition, change));
    if let (Some(changes), Some(definition)) = (&mut live, &ours.found.live) {
        changes.hosts.retain(|change| !in_file(definition, change));
    }
    let to_live = ours.write_hosts(spec, live.unwrap_or_default().hosts)?;
    if config.hosts == to_live {
        let mut both = sys::VIR_NETWORK_UPDATE_AFFECT_CONFIG | sys::VIR_NETWORK_UPDATE_AFFECT_LIVE;
        // libvirt's test driver has one definition for both, and would make each change twice.
        if ours
            .connection
            .get()
            .driver_type()
            .is_ok_and(|driver| driver.eq_ignore_ascii_case("test"))
        {
            both = sys::VIR_NETWORK_UPDATE_AFFECT_LIVE;
        }
        ours.apply(&to_live, both)?;
    } else {
        // It does not run, someone changed one and not the other, or a change stopped halfway.
        ours.apply(&config.hosts, sys::VIR_NETWORK_UPDATE_AFFECT_CONFIG)?;
        ours.apply(&to_live, sys::VIR_NETWORK_UPDATE_AFFECT_LIVE)?;
    }
    Ok(update)
}

/// A DNS entry whose coming and going makes libvirt tell dnsmasq to read its files anew. The name can't be anybody's
/// (RFC 6761, 6.4), the address neither (RFC 5737).
fn reminder() -> DnsHost {
    DnsHost {
        address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 0)),
        names: vec!["virga-reads-anew.invalid".to_owned()],
    }
}

impl Ours {
    pub fn into_info(self) -> NetworkInfo {
        self.found.into_info()
    }

    pub fn plugged(&self) -> Result<u32> {
        self.explain(plugged::by_running_guests(self.connection.get(), &self.network))
    }

    /// What has to be done to make it `spec`. Hosts that are in the wrong place are a difference of structure.
    fn differences(&self, definition: &Definition, spec: &NetworkSpec) -> NetworkDiff {
        let mut differences = diff(&definition.spec, spec);
        differences.structure |= definition.hosts_file.as_deref() != self.hosts.as_ref().map(HostsFile::path);
        differences
    }

    /// Writes the hosts file if it says something else. `live` is what libvirt is going to be told of the running
    /// network; what is given back is to be told it now.
    ///
    /// dnsmasq reads the file when it starts and whenever libvirt changed a DNS entry: the first of `live`, then. If there
    /// is none, a reminder is entered before the file is written and removed after. So whoever is killed at any point
    /// leaves an entry in libvirt that is not as it should be, and with it the next call has dnsmasq read the file.
    fn write_hosts(&self, spec: &NetworkSpec, mut live: Vec<HostChange>) -> Result<Vec<HostChange>> {
        let Some(file) = &self.hosts else {
            return Ok(live);
        };
        let text = write_hosts(spec);
        if self.found.hosts.as_ref() == Some(&text) {
            return Ok(live);
        }
        let reads = |live: &Definition| live.hosts_file.as_deref() == Some(file.path());
        if live.is_empty() && self.found.live.as_ref().is_some_and(reads) {
            self.apply(&[HostChange::AddDns(reminder())], sys::VIR_NETWORK_UPDATE_AFFECT_LIVE)?;
            live.push(HostChange::DeleteDns(reminder()));
        }
        file.write(&text)?;
        Ok(live)
    }

    pub fn start(&self) -> Result<()> {
        if self.found.live.is_some() {
            return Ok(());
        }
        if let Some((name, (address, prefix))) = self.explain(self.overlapping())? {
            let message = format!("libvirt network '{name}' has {address}/{prefix}");
            return Err(Error::already_exists(
                format!("starting network {}", self.found.definition.spec.name),
                &message,
            ));
        }
        self.explain(self.network.create())
    }

    pub fn stop(&self) -> Result<()> {
        if self.found.live.is_none() {
            return Ok(());
        }
        self.explain(self.network.destroy())
    }

    pub fn remove(&self) -> Result<()> {
        self.stop()?;
        if let Some(file) = &self.hosts {
            file.remove()?;
        }
        self.explain(self.network.undefine())
    }

    /// An active network, ours or not, that shares addresses with this one. libvirt itself refuses a range only when
    /// the host has a route with exactly the same destination and length.
    fn overlapping(&self) -> VirtResult<Option<(String, Range)>> {
        for network in self
            .connection
            .get()
            .list_all_networks(sys::VIR_CONNECT_LIST_NETWORKS_ACTIVE)?
        {
            let xml = match network.xml_desc(0) {
                Err(error) if error.code().is(ErrorNumber::NoNetwork) => continue,
                xml => xml?,
            };
            let mut theirs = ranges_of_xml(&xml).into_iter();
            if let Some(range) =
                theirs.find(|theirs| ranges(&self.found.definition.spec).any(|mine| overlap(mine, *theirs)))
            {
                return Ok(Some((network.name()?, range)));
            }
        }
        Ok(None)
    }

    fn apply(&self, changes: &[HostChange], flags: u32) -> Result<()> {
        for change in changes {
            let (command, section, subnet) = match change {
                HostChange::AddDhcp { subnet, .. } => (
                    sys::VIR_NETWORK_UPDATE_COMMAND_ADD_LAST,
                    sys::VIR_NETWORK_SECTION_IP_DHCP_HOST,
                    Some(*subnet),
                ),
                HostChange::ModifyDhcp { subnet, .. } => (
                    sys::VIR_NETWORK_UPDATE_COMMAND_MODIFY,
                    sys::VIR_NETWORK_SECTION_IP_DHCP_HOST,
                    Some(*subnet),
                ),
                HostChange::DeleteDhcp { subnet, .. } => (
                    sys::VIR_NETWORK_UPDATE_COMMAND_DELETE,
                    sys::VIR_NETWORK_SECTION_IP_DHCP_HOST,
                    Some(*subnet),
                ),
                HostChange::AddDns(_) => (
                    sys::VIR_NETWORK_UPDATE_COMMAND_ADD_LAST,
                    sys::VIR_NETWORK_SECTION_DNS_HOST,
                    None,
                ),
                HostChange::DeleteDns(_) => (
                    sys::VIR_NETWORK_UPDATE_COMMAND_DELETE,
                    sys::VIR_NETWORK_SECTION_DNS_HOST,
                    None,
                ),
            };
            let index = subnet.and_then(|subnet| i32::try_from(subnet).ok()).unwrap_or(-1);
            self.explain(self.network.update(command, section, index, &change_xml(change), flags))?;
        }
        Ok(())
    }

    fn explain<T>(&self, result: VirtResult<T>) -> Result<T> {
        let what = format!("network {}", self.found.definition.spec.uuid);
        result.map_err(|e| error::explain(&self.connection, &format!("{} {what}", self.verb), &what, &e))
    }
}

impl Found {
    /// `None` when the network is not ours.
    fn look(network: &Network) -> VirtResult<Option<Self>> {
        let definition = match network.xml_desc(sys::VIR_NETWORK_XML_INACTIVE) {
            // libvirt's test driver knows no such flag.
            Err(error) if error.code().is(ErrorNumber::InvalidArg) => network.xml_desc(0)?,
            xml => xml?,
        };
        let Some(definition) = read(&definition) else {
            return Ok(None);
        };
        let (live, connections) = if network.is_active()? {
            (read(&network.xml_desc(0)?), plugged::count(network)?)
        } else {
            (None, 0)
        };
        Ok(Some(Found {
            definition,
            live,
            connections,
            hosts: None,
        }))
    }

    /// Adds the hosts in its file to what says that they are there.
    fn read_hosts(&mut self, file: Option<&HostsFile>) -> Result<()> {
        let Some(file) = file else {
            return Ok(());
        };
        self.hosts = file.read()?;
        let hosts = self.hosts.as_deref().map(read_hosts).unwrap_or_default();
        for definition in iter::once(&mut self.definition).chain(&mut self.live) {
            if definition.hosts_file.as_deref() != Some(file.path()) {
                continue;
            }
            for subnet in &mut definition.spec.subnets {
                let v4 = subnet.address.is_ipv4();
                if let Some(dhcp) = &mut subnet.dhcp {
                    let of_family = hosts.iter().filter(|host| host.address.is_ipv4() == v4);
                    dhcp.hosts.extend(of_family.cloned());
                }
            }
        }
        Ok(())
    }

    fn into_info(self) -> NetworkInfo {
        NetworkInfo {
            spec: self.definition.spec,
            live: self.live.map(|live| live.spec),
            connections: self.connections,
        }
    }
}
