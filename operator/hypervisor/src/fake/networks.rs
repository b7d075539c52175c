//! The fake's networks.

use uuid::Uuid;

use super::{FakeNetwork, State};
use crate::domain::InterfaceSource;
use crate::error::{Error, Result};
use crate::network::{NetworkInfo, NetworkSpec, NetworkUpdate, diff, overlap, ranges};

impl State {
    pub fn known_network(&self, uuid: Uuid) -> Result<&FakeNetwork> {
        if self.foreign.contains_key(&uuid) {
            return Err(Error::foreign(format!("network {uuid}")));
        }
        self.networks
            .get(&uuid)
            .ok_or_else(|| Error::not_found(format!("network {uuid}")))
    }

    pub fn network_mut(&mut self, uuid: Uuid) -> Result<&mut FakeNetwork> {
        if self.foreign.contains_key(&uuid) {
            return Err(Error::foreign(format!("network {uuid}")));
        }
        self.networks
            .get_mut(&uuid)
            .ok_or_else(|| Error::not_found(format!("network {uuid}")))
    }

    pub fn network_info(&self, network: &FakeNetwork) -> NetworkInfo {
        let plugged = self
            .domains
            .values()
            .filter_map(|domain| domain.live.as_ref())
            .flat_map(|live| &live.interfaces)
            .filter(|interface| interface.source == InterfaceSource::Network(network.config.name.clone()))
            .count();
        NetworkInfo {
            spec: network.config.clone(),
            live: network.live.clone(),
            connections: u32::try_from(plugged).unwrap_or(u32::MAX),
        }
    }

    pub fn define_network(&mut self, spec: &NetworkSpec) -> Result<()> {
        let doing = format!("defining network {}", spec.name);
        spec.validate().map_err(|problems| Error::invalid(&doing, &problems))?;
        if self.foreign.contains_key(&spec.uuid) {
            return Err(Error::foreign(format!("network {}", spec.uuid)));
        }
        let mut others = self
            .networks
            .values()
            .filter(|network| network.config.uuid != spec.uuid);
        if others.any(|n| n.config.name == spec.name) || self.foreign.values().any(|name| *name == spec.name) {
            return Err(Error::already_exists(
                doing,
                &format!("network '{}' already exists with another uuid", spec.name),
            ));
        }
        if self
            .networks
            .values()
            .any(|n| n.config.uuid != spec.uuid && n.config.bridge == spec.bridge)
        {
            return Err(Error::already_exists(
                doing,
                &format!("bridge name '{}' already in use.", spec.bridge),
            ));
        }
        match self.networks.get_mut(&spec.uuid) {
            Some(network) => network.config = spec.clone(),
            None => {
                self.networks.insert(
                    spec.uuid,
                    FakeNetwork {
                        config: spec.clone(),
                        live: None,
                    },
                );
            }
        }
        Ok(())
    }

    pub fn start_network(&mut self, uuid: Uuid) -> Result<()> {
        let network = self.known_network(uuid)?;
        if network.live.is_some() {
            return Ok(());
        }
        let conflict = self
            .networks
            .values()
            .filter_map(|other| other.live.as_ref())
            .find(|other| ranges(&network.config).any(|mine| ranges(other).any(|theirs| overlap(mine, theirs))));
        if let Some(other) = conflict {
            let message = format!("Network is already in use by interface {}", other.bridge);
            return Err(Error::already_exists(
                format!("starting network {}", network.config.name),
                &message,
            ));
        }
        let network = self.network_mut(uuid)?;
        network.live = Some(network.config.clone());
        Ok(())
    }

    pub fn update_network(&mut self, spec: &NetworkSpec) -> Result<NetworkUpdate> {
        let doing = format!("updating network {}", spec.name);
        spec.validate().map_err(|problems| Error::invalid(doing, &problems))?;
        let network = self.known_network(spec.uuid)?;
        let mut update = NetworkUpdate::default();
        let to_config = diff(&network.config, spec);
        update.host_changes = to_config.hosts.len();
        update.redefined = to_config.structure;
        if to_config.structure {
            self.define_network(spec)?;
        }
        let network = self.network_mut(spec.uuid)?;
        if !to_config.is_empty() {
            network.config = spec.clone();
        }
        if let Some(live) = &mut network.live {
            let to_live = diff(live, spec);
            update.host_changes = update.host_changes.max(to_live.hosts.len());
            update.restart_needed = to_live.structure;
            for (mine, theirs) in live.subnets.iter_mut().zip(&spec.subnets) {
                let hosts = theirs.dhcp.as_ref().map(|dhcp| dhcp.hosts.clone()).unwrap_or_default();
                if mine.dhcp.is_some() || !hosts.is_empty() {
                    mine.dhcp.get_or_insert_default().hosts = hosts;
                }
            }
            live.dns_hosts.clone_from(&spec.dns_hosts);
        }
        Ok(update)
    }
}
