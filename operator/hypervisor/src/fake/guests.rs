//! What the fake's guests use and say.

use std::collections::HashMap;

use uuid::Uuid;

use super::{Fake, FakeDomain, State};
use crate::domain::{DiskFault, DomainState, DomainUsage, GuestInfo, Password, StateReason};
use crate::error::{Error, Result};
use crate::events::Change;

/// What a guest was given, and says.
#[derive(Debug, Clone, Default)]
pub(super) struct FakeGuest {
    usage: DomainUsage,
    faults: Vec<DiskFault>,
    /// What its agent says, while that is connected.
    agent: Option<GuestInfo>,
    passwords: HashMap<String, Password>,
    nmis: usize,
}

impl Fake {
    /// Sets what a guest has used since it was started.
    pub fn set_usage(&self, uuid: Uuid, usage: DomainUsage) {
        self.with_guest(uuid, |guest| guest.usage = usage);
    }

    /// A guest's agent connects, and says this from now on.
    pub fn connect_guest_agent(&self, uuid: Uuid, info: GuestInfo) {
        self.with_guest(uuid, |guest| guest.agent = Some(info));
        self.send(uuid, &[Change::AgentConnected]);
    }

    /// A guest's agent goes away.
    pub fn disconnect_guest_agent(&self, uuid: Uuid) {
        self.with_guest(uuid, |guest| guest.agent = None);
        self.send(uuid, &[Change::AgentDisconnected]);
    }

    /// The password that a user in the guest was given last.
    pub fn password(&self, uuid: Uuid, user: &str) -> Option<Password> {
        self.lock().domains.get(&uuid)?.guest.passwords.get(user).cloned()
    }

    /// How many interrupts the guest was sent.
    pub fn nmis(&self, uuid: Uuid) -> usize {
        self.lock().domains.get(&uuid).map_or(0, |domain| domain.guest.nmis)
    }

    /// A disk of the guest fails, or has no space left: libvirt pauses it.
    pub fn fail_guest_disk(&self, uuid: Uuid, target: &str, no_space: bool) {
        if let Some(domain) = self.lock().domains.get_mut(&uuid)
            && domain.state.is_active()
        {
            (domain.state, domain.reason) = (DomainState::Paused, StateReason::IoError);
            domain.guest.faults = vec![DiskFault {
                target: target.to_owned(),
                no_space,
            }];
        }
        self.send(uuid, &[Change::Suspended]);
    }

    fn with_guest(&self, uuid: Uuid, change: impl FnOnce(&mut FakeGuest)) {
        if let Some(domain) = self.lock().domains.get_mut(&uuid) {
            change(&mut domain.guest);
        }
    }
}

impl State {
    pub fn usage(&self, of: &[Uuid]) -> Vec<DomainUsage> {
        let active = self.domains.iter().filter(|(_, domain)| domain.state.is_active());
        active
            .filter(|(uuid, _)| of.contains(uuid))
            .map(|(uuid, domain)| DomainUsage {
                uuid: *uuid,
                ..domain.guest.usage.clone()
            })
            .collect()
    }
}

impl FakeDomain {
    pub fn disk_faults(&mut self) -> Result<Vec<DiskFault>> {
        let domain = self.active("looking at the disks of")?;
        let halted = domain.reason == StateReason::IoError;
        Ok(if halted {
            domain.guest.faults.clone()
        } else {
            Vec::new()
        })
    }

    pub fn has_guest_agent(&self) -> bool {
        self.state.is_active() && self.guest.agent.is_some()
    }

    pub fn guest_info(&mut self) -> Result<GuestInfo> {
        let doing = "asking the guest's agent of";
        let domain = self.active(doing)?;
        let uuid = domain.config.uuid;
        let silent = || Error::busy(format!("{doing} domain {uuid}"), "Guest agent is not responding");
        domain.guest.agent.clone().ok_or_else(silent)
    }

    pub fn set_password(&mut self, user: &str, password: &Password) -> Result<()> {
        self.guest_info()?;
        self.guest.passwords.insert(user.to_owned(), password.clone());
        Ok(())
    }

    pub fn inject_nmi(&mut self) -> Result<()> {
        self.active("interrupting")?.guest.nmis += 1;
        Ok(())
    }
}
