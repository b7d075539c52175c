//! Networks of libvirt.

use std::sync::Arc;

use uuid::Uuid;
use virt::error::ErrorNumber;
use virt::network::Network;
use virt::sys;

use super::connection::{Connection, Link};
use super::error;
use crate::error::{Error, Result};
use crate::network::{
    HostChange, NetworkInfo, NetworkSpec, NetworkUpdate, Range, change_xml, diff, from_xml, overlap, ranges,
    ranges_of_xml, to_xml,
};

type VirtResult<T> = std::result::Result<T, virt::error::Error>;

/// A network of ours, for the time of one call.
pub(super) struct Ours {
    connection: Arc<Connection>,
    network: Network,
    info: NetworkInfo,
    verb: &'static str,
}

/// Looks up a network and makes sure that it is ours.
pub(super) fn find(link: &Link, uuid: Uuid, verb: &'static str) -> Result<Ours> {
    let connection = link.connection()?;
    let (doing, what) = (format!("{verb} network {uuid}"), format!("network {uuid}"));
    let explain = |error: &virt::error::Error| error::explain(&connection, &doing, &what, error);
    let network = connection
        .get()
        .lookup_network_by_uuid_string(&uuid.to_string())
        .map_err(|e| explain(&e))?;
    let info = info_of(&network)
        .map_err(|e| explain(&e))?
        .ok_or_else(|| Error::foreign(&what))?;
    Ok(Ours {
        connection,
        network,
        info,
        verb,
    })
}

/// All networks of ours. One that vanishes while we look is left out.
pub(super) fn list(link: &Link) -> Result<Vec<NetworkInfo>> {
    let connection = link.connection()?;
    let explain = |error: &virt::error::Error| error::explain(&connection, "listing networks", "networks", error);
    let mut infos = Vec::new();
    for network in connection.get().list_all_networks(0).map_err(|e| explain(&e))? {
        match info_of(&network) {
            Ok(info) => infos.extend(info),
            Err(error) if error.code().is(ErrorNumber::NoNetwork) => {}
            Err(error) => return Err(explain(&error)),
        }
    }
    infos.sort_by_key(|info| info.spec.uuid);
    Ok(infos)
}

pub(super) fn define(link: &Link, spec: &NetworkSpec) -> Result<()> {
    let doing = format!("defining network {}", spec.name);
    spec.validate().map_err(|problems| Error::invalid(&doing, &problems))?;
    match find(link, spec.uuid, "defining") {
        Ok(_) | Err(Error::NotFound { .. }) => {}
        Err(error) => return Err(error),
    }
    let connection = link.connection()?;
    connection
        .get()
        .define_network_xml(&to_xml(spec))
        .map(|_| ())
        .map_err(|e| error::explain(&connection, &doing, &format!("network {}", spec.name), &e))
}

pub(super) fn update(link: &Link, spec: &NetworkSpec) -> Result<NetworkUpdate> {
    let doing = format!("updating network {}", spec.name);
    spec.validate().map_err(|problems| Error::invalid(doing, &problems))?;
    let ours = find(link, spec.uuid, "updating")?;
    let to_config = diff(&ours.info.spec, spec);
    let to_live = ours.info.live.as_ref().map(|live| diff(live, spec)).unwrap_or_default();
    let mut update = NetworkUpdate {
        host_changes: to_config.hosts.len().max(to_live.hosts.len()),
        redefined: to_config.structure,
        restart_needed: to_live.structure,
    };
    if to_config.structure {
        define(link, spec)?;
        ours.apply(&to_live.hosts, sys::VIR_NETWORK_UPDATE_AFFECT_LIVE)?;
    } else if ours.info.live.is_none() {
        ours.apply(&to_config.hosts, sys::VIR_NETWORK_UPDATE_AFFECT_CONFIG)?;
    } else if to_config.hosts == to_live.hosts {
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
        ours.apply(&to_live.hosts, both)?;
    } else {
        // Someone changed one and not the other, or a change stopped halfway.
        ours.apply(&to_config.hosts, sys::VIR_NETWORK_UPDATE_AFFECT_CONFIG)?;
        ours.apply(&to_live.hosts, sys::VIR_NETWORK_UPDATE_AFFECT_LIVE)?;
    }
    // A definition that libvirt could not write in full is found by the next call, which looks anew.
    update.restart_needed &= ours.info.live.is_some();
    Ok(update)
}

impl Ours {
    pub fn into_info(self) -> NetworkInfo {
        self.info
    }

    pub fn start(&self) -> Result<()> {
        if self.info.live.is_some() {
            return Ok(());
        }
        if let Some((name, (address, prefix))) = self.explain(self.overlapping())? {
            let message = format!("libvirt network '{name}' has {address}/{prefix}");
            return Err(Error::already_exists(
                format!("starting network {}", self.info.spec.name),
                &message,
            ));
        }
        self.explain(self.network.create())
    }

    pub fn stop(&self) -> Result<()> {
        if self.info.live.is_none() {
            return Ok(());
        }
        self.explain(self.network.destroy())
    }

    pub fn remove(&self) -> Result<()> {
        self.stop()?;
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
            if let Some(range) = theirs.find(|theirs| ranges(&self.info.spec).any(|mine| overlap(mine, *theirs))) {
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
        let what = format!("network {}", self.info.spec.uuid);
        result.map_err(|e| error::explain(&self.connection, &format!("{} {what}", self.verb), &what, &e))
    }
}

/// `None` when the network is not ours.
fn info_of(network: &Network) -> VirtResult<Option<NetworkInfo>> {
    let definition = match network.xml_desc(sys::VIR_NETWORK_XML_INACTIVE) {
        // libvirt's test driver knows no such flag.
        Err(error) if error.code().is(ErrorNumber::InvalidArg) => network.xml_desc(0)?,
        xml => xml?,
    };
    let Some(spec) = from_xml(&definition) else {
        return Ok(None);
    };
    if !network.is_active()? {
        return Ok(Some(NetworkInfo {
            spec,
            live: None,
            connections: 0,
        }));
    }
    let live = from_xml(&network.xml_desc(0)?);
    Ok(Some(NetworkInfo {
        spec,
        live,
        connections: count_ports(network)?,
    }))
}

/// How many interfaces are plugged in. libvirt's XML has a number too, which each virNetworkUpdate sets back to zero
/// (seen on 11.3).
fn count_ports(network: &Network) -> VirtResult<u32> {
    // SAFETY: the network's pointer is valid as long as `network` lives; a null array asks for the count alone.
    let count = unsafe { sys::virNetworkListAllPorts(network.as_ptr(), std::ptr::null_mut(), 0) };
    u32::try_from(count).or_else(|_| {
        let error = virt::error::Error::last_error();
        // libvirt's test driver has no ports: its guests are plugged into nothing.
        if error.code().is(ErrorNumber::NoSupport) {
            Ok(0)
        } else {
            Err(error)
        }
    })
}
