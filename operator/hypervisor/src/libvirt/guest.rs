//! What only the guest's agent can say or do, and what reaches a guest past it.
//!
//! A guest may answer megabytes, rubbish, or nothing. libvirt bounds an answer (10 MiB) and parses it; it waits for the
//! answer as long as it is told to, which is for ever unless it is told. These calls hold libvirt's lock on the agent of
//! that one domain only.

use std::ffi::c_int;

use virt::domain::Domain;
use virt::error::{Error, ErrorNumber};
use virt::sys;

use super::params::Params;
use crate::clean::clean;
use crate::domain::{DiskFault, GuestFilesystem, GuestInfo, GuestInterface, Password};
use crate::xml::Element;

type VirtResult<T> = Result<T, Error>;

/// How long a guest's agent may take for one answer, in seconds.
const ANSWER_S: c_int = 3;
/// How much of what a guest says is taken over.
const MOST: u64 = 16;
const TEXT_CHARS: usize = 255;
/// The name of the agent's channel.
const CHANNEL: &str = "org.qemu.guest_agent.0";
/// More disks than a domain of ours has.
const MOST_DISKS: usize = 64;

/// The disks that QEMU halted the guest for.
pub(super) fn disk_faults(domain: &Domain) -> VirtResult<Vec<DiskFault>> {
    let none = sys::virDomainDiskError {
        disk: std::ptr::null_mut(),
        error: 0,
    };
    let mut errors = [none; MOST_DISKS];
    let room = u32::try_from(errors.len()).unwrap_or_default();
    // SAFETY: the domain's pointer is valid as long as `domain` lives; libvirt writes at most `room` entries.
    let count = unsafe { sys::virDomainGetDiskErrors(domain.as_ptr(), errors.as_mut_ptr(), room, 0) };
    let Ok(count) = usize::try_from(count) else {
        return Err(Error::last_error());
    };
    let mut faults = Vec::new();
    for error in errors.iter().take(count).filter(|error| !error.disk.is_null()) {
        // SAFETY: libvirt made the name with malloc, ended it with a zero and leaves it to its caller; it is read and freed
        // once.
        let target = unsafe {
            let target = std::ffi::CStr::from_ptr(error.disk).to_string_lossy().into_owned();
            libc::free(error.disk.cast());
            target
        };
        faults.push(DiskFault {
            target: clean(&target),
            no_space: error.error.cast_unsigned() == sys::VIR_DOMAIN_DISK_ERROR_NO_SPACE,
        });
    }
    Ok(faults)
}

/// Whether the guest's agent has opened its channel.
pub(super) fn is_connected(domain: &Domain) -> VirtResult<bool> {
    let Ok(domain) = Element::parse(&domain.xml_desc(0)?) else {
        return Ok(false);
    };
    let devices = domain.find("devices");
    let channels = devices.into_iter().flat_map(|devices| devices.all("channel"));
    let mut targets = channels.filter_map(|channel| channel.find("target"));
    Ok(targets.any(|target| target.get("name") == Some(CHANNEL) && target.get("state") == Some("connected")))
}

/// What the guest's agent says. A part that this agent does not know is left out; an agent that does not answer ends it.
pub(super) fn info(domain: &Domain) -> VirtResult<GuestInfo> {
    set_patience(domain)?;
    let mut info = GuestInfo::default();
    let os = ask(domain, sys::VIR_DOMAIN_GUEST_INFO_OS)?;
    let said = |params: &Params, name: &str| params.text(name).map(one_line).filter(|text| !text.is_empty());
    info.os = said(&os, "os.pretty-name").or_else(|| said(&os, "os.name"));
    info.os_id = said(&os, "os.id");
    info.os_version = said(&os, "os.version-id").or_else(|| said(&os, "os.version"));
    info.kernel = said(&os, "os.kernel-release");
    info.hostname = said(&ask(domain, sys::VIR_DOMAIN_GUEST_INFO_HOSTNAME)?, "hostname");
    info.interfaces = interfaces(&ask(domain, sys::VIR_DOMAIN_GUEST_INFO_INTERFACES)?);
    info.filesystems = filesystems(&ask(domain, sys::VIR_DOMAIN_GUEST_INFO_FILESYSTEM)?);
    Ok(info)
}

fn ask(domain: &Domain, kind: u32) -> VirtResult<Params> {
    let (mut params, mut count) = (std::ptr::null_mut(), 0);
    // SAFETY: the domain's pointer is valid as long as `domain` lives; both results are written before the call returns.
    let result = unsafe { sys::virDomainGetGuestInfo(domain.as_ptr(), kind, &raw mut params, &raw mut count, 0) };
    if result < 0 {
        let error = Error::last_error();
        return match error.code().known() {
            Some(ErrorNumber::AgentUnresponsive | ErrorNumber::NoDomain | ErrorNumber::OperationInvalid) | None => {
                Err(error)
            }
            // The agent does not know this, or said rubbish.
            Some(_) => Ok(Params::default()),
        };
    }
    // SAFETY: libvirt made `count` parameters, which are ours to free, once.
    unsafe {
        let copied = Params::copy(params, count);
        sys::virTypedParamsFree(params, count);
        Ok(copied)
    }
}

fn interfaces(params: &Params) -> Vec<GuestInterface> {
    let of = |place: u64| {
        let text = |what: &str| params.text(&format!("if.{place}.{what}")).map(one_line);
        let addresses = params.count(&format!("if.{place}.addr.count"), MOST);
        GuestInterface {
            name: text("name").unwrap_or_default(),
            mac: text("hwaddr").map(|mac| mac.chars().take(17).collect()),
            addresses: (0..addresses)
                .filter_map(|address| text(&format!("addr.{address}.addr"))?.parse().ok())
                .collect(),
        }
    };
    (0..params.count("if.count", MOST)).map(of).collect()
}

fn filesystems(params: &Params) -> Vec<GuestFilesystem> {
    let of = |place: u64| {
        let text = |what: &str| {
            params
                .text(&format!("fs.{place}.{what}"))
                .map(one_line)
                .unwrap_or_default()
        };
        GuestFilesystem {
            mountpoint: text("mountpoint"),
            kind: text("fstype"),
            total: params.number(&format!("fs.{place}.total-bytes")),
            used: params.number(&format!("fs.{place}.used-bytes")),
        }
    };
    (0..params.count("fs.count", MOST)).map(of).collect()
}

/// Sets a user's password in the guest.
pub(super) fn set_password(domain: &Domain, user: &str, password: &Password) -> VirtResult<()> {
    set_patience(domain)?;
    domain.set_user_password(user, password.text(), 0)
}

/// Sends the guest's processors a non-maskable interrupt.
pub(super) fn inject_nmi(domain: &Domain) -> VirtResult<()> {
    // SAFETY: the domain's pointer is valid as long as `domain` lives.
    let result = unsafe { sys::virDomainInjectNMI(domain.as_ptr(), 0) };
    if result < 0 { Err(Error::last_error()) } else { Ok(()) }
}

/// Tells libvirt how long to wait for this guest's agent. It forgets when the domain ends.
fn set_patience(domain: &Domain) -> VirtResult<()> {
    // SAFETY: the domain's pointer is valid as long as `domain` lives.
    let result = unsafe { sys::virDomainAgentSetResponseTimeout(domain.as_ptr(), ANSWER_S, 0) };
    if result < 0 { Err(Error::last_error()) } else { Ok(()) }
}

/// What a guest said, on one line, without control characters, and cut.
fn one_line(text: &str) -> String {
    let line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(TEXT_CHARS)
        .collect();
    line.trim().to_owned()
}
