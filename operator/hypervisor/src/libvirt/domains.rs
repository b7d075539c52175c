//! Domains of libvirt.

use std::ffi::c_int;
use std::sync::Arc;

use uuid::Uuid;
use virt::domain::Domain;
use virt::error::ErrorNumber;
use virt::sys;

use super::connection::{Connection, Link};
use super::{console, error, guest, saved};
use crate::console::Console;
use crate::domain::{
    DiskFault, DomainInfo, DomainSpec, DomainState, GuestInfo, Password, SavedMemory, StateReason, to_xml,
};
use crate::error::{Error, Result};
use crate::owner::{DOMAIN_NAMESPACE, Owner};
use crate::xml::Element;

type VirtResult<T> = std::result::Result<T, virt::error::Error>;

/// A domain of ours, for the time of one call. Never kept: a handle does not outlive its connection.
pub(super) struct Ours {
    connection: Arc<Connection>,
    pub(super) domain: Domain,
    uuid: Uuid,
    owner: Owner,
    verb: &'static str,
}

/// Looks up a domain and makes sure that it is ours.
pub(super) fn find(link: &Link, uuid: Uuid, verb: &'static str) -> Result<Ours> {
    let connection = link.connection()?;
    let (doing, what) = (format!("{verb} domain {uuid}"), format!("domain {uuid}"));
    let explain = |error: &virt::error::Error| error::explain(&connection, &doing, &what, error);
    let domain = connection
        .get()
        .lookup_domain_by_uuid_string(&uuid.to_string())
        .map_err(|e| explain(&e))?;
    let owner = owner_of(&domain)
        .map_err(|e| explain(&e))?
        .ok_or_else(|| Error::foreign(&what))?;
    Ok(Ours {
        connection,
        domain,
        uuid,
        owner,
        verb,
    })
}

/// All domains of ours. One that vanishes while we look is left out.
pub(super) fn list(link: &Link) -> Result<Vec<DomainInfo>> {
    let connection = link.connection()?;
    let explain = |error: &virt::error::Error| error::explain(&connection, "listing domains", "domains", error);
    let mut infos = Vec::new();
    for domain in connection.get().list_all_domains(0).map_err(|e| explain(&e))? {
        let info = owner_of(&domain).and_then(|owner| owner.map(|owner| info_of(&domain, owner)).transpose());
        match info {
            Ok(info) => infos.extend(info),
            Err(error) if error.code().is(ErrorNumber::NoDomain) => {}
            Err(error) => return Err(explain(&error)),
        }
    }
    infos.sort_by_key(|info| info.uuid);
    Ok(infos)
}

pub(super) fn define(link: &Link, spec: &DomainSpec) -> Result<()> {
    let doing = format!("defining domain {}", spec.name);
    spec.validate().map_err(|problems| Error::invalid(&doing, &problems))?;
    match find(link, spec.uuid, "defining") {
        Ok(_) | Err(Error::NotFound { .. }) => {}
        Err(error) => return Err(error),
    }
    let connection = link.connection()?;
    connection
        .get()
        .define_domain_xml_flags(&to_xml(spec), sys::VIR_DOMAIN_DEFINE_VALIDATE)
        .map(|_| ())
        .map_err(|e| error::explain(&connection, &doing, &spec.name, &e))
}

impl Ours {
    pub fn info(&self) -> Result<DomainInfo> {
        self.explain(info_of(&self.domain, self.owner.clone()))
    }

    pub fn set_owner(&self, owner: &Owner) -> Result<()> {
        let mut flags = sys::VIR_DOMAIN_AFFECT_CONFIG;
        if self.is_active()? {
            flags |= sys::VIR_DOMAIN_AFFECT_LIVE;
        }
        let xml = owner.bare_element("instance").write();
        self.explain(self.domain.set_metadata(
            sys::VIR_DOMAIN_METADATA_ELEMENT.cast_signed(),
            Some(&xml),
            Some("virga"),
            Some(DOMAIN_NAMESPACE),
            flags,
        ))
    }

    pub fn start(&self) -> Result<()> {
        match self.state()? {
            (DomainState::ShutOff, _) => {
                // libvirt would boot the domain afresh over what it takes for a half-written file.
                if let SavedMemory::Broken(message) = self.explain(saved::saved(&self.domain))? {
                    return Err(Error::failed(self.doing(), &message));
                }
                self.explain(self.domain.create())
            }
            (DomainState::Crashed, _) => Err(Error::invalid_state(self.doing(), "it crashed and is kept")),
            _ => Ok(()),
        }
    }

    pub fn shutdown(&self) -> Result<()> {
        if !self.is_active()? {
            return Ok(());
        }
        // The power button, never the guest agent: an agent that hangs would hold the domain's lock.
        let result = match self.domain.shutdown_flags(sys::VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN) {
            // libvirt's test driver knows no buttons.
            Err(error) if error.code().is(ErrorNumber::InvalidArg) => self.domain.shutdown(),
            other => other,
        };
        match self.explain(result) {
            // It was active a moment ago: it is going down, which is what we wanted. libvirt can call a domain active
            // and refuse the button in the same moment (seen on 11.3).
            Err(Error::InvalidState { .. }) => Ok(()),
            other => other,
        }
    }

    pub fn destroy(&self) -> Result<()> {
        if !self.is_active()? {
            return Ok(());
        }
        match self.explain(self.domain.destroy()) {
            // A guest that stopped by itself between our look and our call is as stopped as we wanted it.
            Err(Error::InvalidState { .. }) if !self.is_active()? => Ok(()),
            other => other,
        }
    }

    pub fn suspend(&self) -> Result<()> {
        match self.state()? {
            (DomainState::Paused, _) => Ok(()),
            (DomainState::ShutOff, _) => Err(self.not_running()),
            _ => self.explain(self.domain.suspend()),
        }
    }

    pub fn resume(&self) -> Result<()> {
        match self.state()? {
            (DomainState::Running, _) => Ok(()),
            (DomainState::ShutOff, _) => Err(self.not_running()),
            _ => self.explain(self.domain.resume()),
        }
    }

    pub fn save(&self) -> Result<()> {
        match self.state()? {
            (DomainState::ShutOff, _) => match self.explain(saved::saved(&self.domain))? {
                SavedMemory::Whole => Ok(()),
                SavedMemory::None | SavedMemory::Broken(_) => Err(self.not_running()),
            },
            _ => self.explain(self.domain.managed_save(0)),
        }
    }

    pub fn discard_saved(&self) -> Result<()> {
        if self.explain(self.domain.has_managed_save(0))? {
            self.explain(self.domain.managed_save_remove(0))?;
        }
        Ok(())
    }

    pub fn reset(&self) -> Result<()> {
        if !self.is_active()? {
            return Err(self.not_running());
        }
        self.explain(self.domain.reset())
    }

    pub fn undefine(&self) -> Result<()> {
        if self.is_active()? {
            return Err(Error::invalid_state(self.doing(), "it is active"));
        }
        let flags = sys::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
            | sys::VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
            | sys::VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
            | sys::VIR_DOMAIN_UNDEFINE_NVRAM;
        let result = match self.domain.undefine_flags(flags) {
            // libvirt's test driver knows no other things to remove.
            Err(error) if error.code().is(ErrorNumber::InvalidArg) => {
                self.domain.undefine_flags(sys::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE)
            }
            other => other,
        };
        self.explain(result)
    }

    pub fn resize_disk(&self, target: &str, bytes: u64) -> Result<()> {
        if !self.is_active()? {
            return Err(self.not_running());
        }
        if target.contains('\0') {
            return Err(Error::Invalid {
                doing: self.doing(),
                message: "the disk's name has a zero byte".to_owned(),
            });
        }
        self.explain(
            self.domain
                .block_resize(target, bytes, sys::VIR_DOMAIN_BLOCK_RESIZE_BYTES),
        )
    }

    pub fn disk_faults(&self) -> Result<Vec<DiskFault>> {
        if !self.is_active()? {
            return Err(self.not_running());
        }
        self.explain(guest::disk_faults(&self.domain))
    }

    pub fn has_guest_agent(&self) -> Result<bool> {
        Ok(self.is_active()? && self.explain(guest::is_connected(&self.domain))?)
    }

    pub fn guest_info(&self) -> Result<GuestInfo> {
        if !self.is_active()? {
            return Err(self.not_running());
        }
        self.explain(guest::info(&self.domain))
    }

    pub fn set_password(&self, user: &str, password: &Password) -> Result<()> {
        if !self.is_active()? {
            return Err(self.not_running());
        }
        self.explain(guest::set_password(&self.domain, user, password))
    }

    pub fn inject_nmi(&self) -> Result<()> {
        if !self.is_active()? {
            return Err(self.not_running());
        }
        self.explain(guest::inject_nmi(&self.domain))
    }

    pub fn open_console(&self, force: bool) -> Result<Console> {
        if !self.is_active()? {
            return Err(self.not_running());
        }
        self.explain(console::open(&self.connection, &self.domain, force))
    }

    fn state(&self) -> Result<(DomainState, StateReason)> {
        self.explain(state_of(&self.domain))
    }

    pub(super) fn is_active(&self) -> Result<bool> {
        self.explain(self.domain.is_active())
    }

    pub(super) fn not_running(&self) -> Error {
        Error::invalid_state(self.doing(), "domain is not running")
    }

    pub(super) fn doing(&self) -> String {
        format!("{} domain {}", self.verb, self.uuid)
    }

    pub(super) fn explain<T>(&self, result: VirtResult<T>) -> Result<T> {
        result.map_err(|e| error::explain(&self.connection, &self.doing(), &format!("domain {}", self.uuid), &e))
    }
}

/// Whose a domain is; `None`: not ours. What runs counts before what is defined.
fn owner_of(domain: &Domain) -> VirtResult<Option<Owner>> {
    match domain.metadata(
        sys::VIR_DOMAIN_METADATA_ELEMENT.cast_signed(),
        Some(DOMAIN_NAMESPACE),
        0,
    ) {
        Ok(xml) => Ok(Element::parse(&xml).ok().as_ref().and_then(Owner::from_element)),
        Err(error) if error.code().is(ErrorNumber::NoDomainMetadata) => Ok(None),
        Err(error) => Err(error),
    }
}

fn info_of(domain: &Domain, owner: Owner) -> VirtResult<DomainInfo> {
    let (state, reason) = state_of(domain)?;
    let info = domain.info()?;
    let saved = if state.is_active() {
        SavedMemory::None
    } else {
        saved::saved(domain)?
    };
    Ok(DomainInfo {
        uuid: domain.uuid()?,
        name: domain.name()?,
        state,
        reason,
        saved,
        owner,
        memory_bytes: info.max_mem.saturating_mul(1024),
        vcpus: info.nr_virt_cpu,
    })
}

/// virDomainGetState; `Domain::state` of virt 0.5.0 says `Ok` when it fails.
fn state_of(domain: &Domain) -> VirtResult<(DomainState, StateReason)> {
    let (mut state, mut reason): (c_int, c_int) = (-1, -1);
    // SAFETY: the domain's pointer is valid as long as `domain` lives, and both results are written before the call
    // returns.
    let result = unsafe { sys::virDomainGetState(domain.as_ptr(), &raw mut state, &raw mut reason, 0) };
    if result < 0 {
        return Err(virt::error::Error::last_error());
    }
    let known = translate(state.cast_unsigned(), reason.cast_unsigned());
    // A disk that fails while libvirt is still letting the guest go on: its word of the failure comes before libvirt takes
    // the guest for running, and is dropped. What the disks themselves say is left.
    if known == (DomainState::Paused, StateReason::Unknown)
        && !guest::disk_faults(domain).unwrap_or_default().is_empty()
    {
        return Ok((DomainState::Paused, StateReason::IoError));
    }
    Ok(known)
}

fn translate(state: u32, reason: u32) -> (DomainState, StateReason) {
    use StateReason as R;
    match state {
        sys::VIR_DOMAIN_RUNNING | sys::VIR_DOMAIN_BLOCKED => (
            DomainState::Running,
            match reason {
                sys::VIR_DOMAIN_RUNNING_UNKNOWN => R::Unknown,
                sys::VIR_DOMAIN_RUNNING_BOOTED => R::Booted,
                sys::VIR_DOMAIN_RUNNING_MIGRATED => R::Migrated,
                sys::VIR_DOMAIN_RUNNING_RESTORED => R::Restored,
                sys::VIR_DOMAIN_RUNNING_FROM_SNAPSHOT => R::Snapshot,
                sys::VIR_DOMAIN_RUNNING_UNPAUSED => R::Unpaused,
                sys::VIR_DOMAIN_RUNNING_WAKEUP => R::Wakeup,
                sys::VIR_DOMAIN_RUNNING_CRASHED => R::Crashed,
                _ => R::Other,
            },
        ),
        sys::VIR_DOMAIN_PAUSED => (
            DomainState::Paused,
            match reason {
                sys::VIR_DOMAIN_PAUSED_UNKNOWN => R::Unknown,
                sys::VIR_DOMAIN_PAUSED_USER => R::User,
                sys::VIR_DOMAIN_PAUSED_MIGRATION => R::Migrated,
                sys::VIR_DOMAIN_PAUSED_SAVE => R::Saved,
                sys::VIR_DOMAIN_PAUSED_IOERROR => R::IoError,
                sys::VIR_DOMAIN_PAUSED_WATCHDOG => R::Watchdog,
                sys::VIR_DOMAIN_PAUSED_FROM_SNAPSHOT | sys::VIR_DOMAIN_PAUSED_SNAPSHOT => R::Snapshot,
                sys::VIR_DOMAIN_PAUSED_SHUTTING_DOWN => R::Shutdown,
                sys::VIR_DOMAIN_PAUSED_CRASHED => R::Crashed,
                _ => R::Other,
            },
        ),
        sys::VIR_DOMAIN_SHUTDOWN => (
            DomainState::ShuttingDown,
            if reason == sys::VIR_DOMAIN_SHUTDOWN_USER {
                R::User
            } else {
                R::Unknown
            },
        ),
        sys::VIR_DOMAIN_CRASHED => (DomainState::Crashed, R::Crashed),
        sys::VIR_DOMAIN_PMSUSPENDED => (DomainState::Sleeping, R::Unknown),
        sys::VIR_DOMAIN_SHUTOFF => (
            DomainState::ShutOff,
            match reason {
                sys::VIR_DOMAIN_SHUTOFF_UNKNOWN => R::Unknown,
                sys::VIR_DOMAIN_SHUTOFF_SHUTDOWN => R::Shutdown,
                sys::VIR_DOMAIN_SHUTOFF_DESTROYED => R::Destroyed,
                sys::VIR_DOMAIN_SHUTOFF_CRASHED => R::Crashed,
                sys::VIR_DOMAIN_SHUTOFF_MIGRATED => R::Migrated,
                sys::VIR_DOMAIN_SHUTOFF_SAVED => R::Saved,
                sys::VIR_DOMAIN_SHUTOFF_FAILED => R::Failed,
                sys::VIR_DOMAIN_SHUTOFF_FROM_SNAPSHOT => R::Snapshot,
                _ => R::Other,
            },
        ),
        // VIR_DOMAIN_NOSTATE and states of a newer libvirt: say as little as libvirt does.
        _ => (DomainState::Running, R::Unknown),
    }
}
