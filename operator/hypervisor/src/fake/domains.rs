//! The fake's domains.

use std::collections::HashMap;
use std::sync::Arc;

use uuid::Uuid;

use super::backup::FakeBackup;
use super::{FakeDomain, State};
use crate::console::{Buffer, Console, ConsoleInput};
use crate::domain::{DomainInfo, DomainSpec, DomainState, InterfaceSource, SavedMemory, StateReason};
use crate::error::{Error, Result};
use crate::events::Change;

impl State {
    pub fn domain(&mut self, uuid: Uuid) -> Result<&mut FakeDomain> {
        if self.foreign.contains_key(&uuid) {
            return Err(Error::foreign(format!("domain {uuid}")));
        }
        self.domains
            .get_mut(&uuid)
            .ok_or_else(|| Error::not_found(format!("domain {uuid}")))
    }

    pub fn define(&mut self, spec: &DomainSpec) -> Result<()> {
        let doing = format!("defining domain {}", spec.name);
        spec.validate().map_err(|problems| Error::invalid(&doing, &problems))?;
        if self.foreign.contains_key(&spec.uuid) {
            return Err(Error::foreign(format!("domain {}", spec.uuid)));
        }
        let namesake = self.domains.values().find(|domain| domain.config.name == spec.name);
        let taken = namesake.is_some_and(|domain| domain.config.uuid != spec.uuid)
            || self.foreign.values().any(|name| *name == spec.name);
        if taken {
            let message = format!("domain '{}' already exists with another uuid", spec.name);
            return Err(Error::already_exists(doing, &message));
        }
        match self.domains.get_mut(&spec.uuid) {
            Some(domain) if domain.config.name != spec.name => {
                let message = format!(
                    "domain '{}' is already defined with uuid {}",
                    domain.config.name, spec.uuid
                );
                Err(Error::already_exists(doing, &message))
            }
            Some(domain) => {
                domain.config = spec.clone();
                Ok(())
            }
            None => {
                self.domains.insert(spec.uuid, FakeDomain::new(spec));
                Ok(())
            }
        }
    }

    pub fn start(&mut self, uuid: Uuid) -> Result<&'static [Change]> {
        let spec = self.domain(uuid)?.config.clone();
        let domain = self.domain(uuid)?;
        match domain.state {
            DomainState::ShutOff => {}
            DomainState::Crashed => {
                return Err(Error::invalid_state(
                    format!("starting domain {uuid}"),
                    "it crashed and is kept",
                ));
            }
            _ => return Ok(&[]),
        }
        for interface in &spec.interfaces {
            // The bridges of Open vSwitch are the host's, and always there.
            let InterfaceSource::Network(name) = &interface.source else {
                continue;
            };
            if !self
                .networks
                .values()
                .any(|network| network.config.name == *name && network.live.is_some())
            {
                let message = format!("network '{name}' is not active");
                return Err(Error::invalid_state(format!("starting domain {uuid}"), &message));
            }
        }
        let domain = self.domain(uuid)?;
        let reason = match &domain.saved {
            SavedMemory::None => StateReason::Booted,
            SavedMemory::Whole => StateReason::Restored,
            SavedMemory::Broken(message) => {
                return Err(Error::failed(format!("starting domain {uuid}"), message));
            }
        };
        domain.saved = SavedMemory::None;
        domain.ports = u32::try_from(spec.disks.len() + spec.interfaces.len())
            .unwrap_or(u32::MAX)
            .saturating_add(spec.hotplug_ports);
        domain.live = Some(spec);
        (domain.state, domain.reason) = (DomainState::Running, reason);
        Ok(&[Change::Resumed, Change::Started])
    }

    pub fn undefine(&mut self, uuid: Uuid) -> Result<()> {
        if self.domain(uuid)?.state.is_active() {
            return Err(Error::invalid_state(
                format!("undefining domain {uuid}"),
                "it is active",
            ));
        }
        self.domains.remove(&uuid);
        Ok(())
    }
}

impl FakeDomain {
    fn new(spec: &DomainSpec) -> Self {
        FakeDomain {
            config: spec.clone(),
            live: None,
            state: DomainState::ShutOff,
            reason: StateReason::Unknown,
            saved: SavedMemory::None,
            obeys_shutdown: true,
            sizes: HashMap::new(),
            ports: 0,
            lets_go: true,
            leaving: Vec::new(),
            console: None,
            guest: super::guests::FakeGuest::default(),
            backup: FakeBackup::default(),
        }
    }

    pub fn info(&self) -> DomainInfo {
        let spec = self.live.as_ref().unwrap_or(&self.config);
        DomainInfo {
            uuid: spec.uuid,
            name: spec.name.clone(),
            state: self.state,
            reason: self.reason,
            saved: self.saved.clone(),
            owner: spec.owner.clone(),
            memory_bytes: spec.memory_bytes,
            vcpus: spec.topology.vcpus(),
        }
    }

    pub fn stop(&mut self, reason: StateReason) {
        if self.state.is_active() {
            (self.state, self.reason, self.live) = (DomainState::ShutOff, reason, None);
            self.backup.end();
            self.leaving.clear();
            if let Some(console) = self.console.take() {
                console.close();
            }
        } else if reason == StateReason::Unknown {
            self.reason = reason;
        }
    }

    pub fn active(&mut self, doing: &str) -> Result<&mut Self> {
        if self.state.is_active() {
            Ok(self)
        } else {
            Err(Error::invalid_state(
                format!("{doing} domain {}", self.config.uuid),
                "domain is not running",
            ))
        }
    }

    pub fn shutdown(&mut self) -> &'static [Change] {
        if self.state != DomainState::Running || !self.obeys_shutdown {
            return &[];
        }
        self.stop(StateReason::Shutdown);
        &[Change::ShuttingDown, Change::Stopped]
    }

    pub fn destroy(&mut self) -> &'static [Change] {
        if !self.state.is_active() {
            return &[];
        }
        self.stop(StateReason::Destroyed);
        &[Change::Stopped]
    }

    pub fn suspend(&mut self) -> Result<&'static [Change]> {
        let domain = self.active("suspending")?;
        if domain.state == DomainState::Paused {
            return Ok(&[]);
        }
        (domain.state, domain.reason) = (DomainState::Paused, StateReason::User);
        Ok(&[Change::Suspended])
    }

    pub fn resume(&mut self) -> Result<&'static [Change]> {
        let domain = self.active("resuming")?;
        if domain.state != DomainState::Paused {
            return Ok(&[]);
        }
        (domain.state, domain.reason) = (DomainState::Running, StateReason::Unpaused);
        Ok(&[Change::Resumed])
    }

    pub fn save(&mut self) -> Result<&'static [Change]> {
        if self.saved == SavedMemory::Whole {
            return Ok(&[]);
        }
        self.active("saving the memory of")?.stop(StateReason::Saved);
        self.saved = SavedMemory::Whole;
        Ok(&[Change::Suspended, Change::Stopped])
    }

    pub fn discard_saved(&mut self) {
        self.saved = SavedMemory::None;
    }

    pub fn resize_disk(&mut self, target: &str, bytes: u64) -> Result<()> {
        let domain = self.active("resizing a disk of")?;
        if !domain.config.disks.iter().any(|disk| disk.target == target) {
            let doing = format!("resizing disk {target} of domain {}", domain.config.uuid);
            return Err(Error::Invalid {
                doing,
                message: format!("invalid path '{target}' not assigned to domain"),
            });
        }
        domain.sizes.insert(target.to_owned(), bytes);
        Ok(())
    }

    pub fn open_console(&mut self, force: bool) -> Result<Console> {
        let domain = self.active("opening the console of")?;
        // The buffer is shared with an open session, if there is one.
        if let Some(open) = domain.console.take().filter(|open| Arc::strong_count(open) > 1) {
            if !force {
                domain.console = Some(open);
                let doing = format!("opening the console of domain {}", domain.config.uuid);
                return Err(Error::busy(doing, "another session is open"));
            }
            open.close();
        }
        let buffer = Arc::new(Buffer::default());
        domain.console = Some(Arc::clone(&buffer));
        Ok(Console::new(Arc::clone(&buffer), Box::new(Echo(buffer))))
    }
}

/// The guest's end of the console: it says back what it hears.
struct Echo(Arc<Buffer>);

impl ConsoleInput for Echo {
    fn write(&mut self, data: &[u8]) -> Result<usize> {
        let taken = data.len().min(self.0.room());
        self.0.push(&data[..taken]);
        Ok(taken)
    }
}
