//! Copies of a running guest's disk, and its file systems standing still for the moment in which one begins.
//!
//! A push backup is used, and no snapshot: it leaves the guest's own disks as they are, so that nothing has to be put
//! right in them when somebody dies in the middle. `virt` 0.5.0 has no methods for it.

use std::ffi::{CString, c_int, c_ulonglong};
use std::path::Path;
use std::ptr;

use virt::domain::Domain;
use virt::error::{Error as VirtError, ErrorNumber};
use virt::sys;

use super::domains::Ours;
use crate::clean::clean;
use crate::domain::Backup;
use crate::error::{Error, Result};
use crate::xml::Element;

/// How long the guest agent may take for one command, in seconds. Without it libvirt waits for ever.
const AGENT_PATIENCE: c_int = 20;

impl Ours {
    pub fn freeze(&self) -> Result<()> {
        if !self.is_active()? {
            return Err(self.not_running());
        }
        // SAFETY: the domain's pointer is valid as long as `domain` lives.
        let result = unsafe { sys::virDomainAgentSetResponseTimeout(self.domain.as_ptr(), AGENT_PATIENCE, 0) };
        self.checked(result)?;
        // SAFETY: as above; no list of mount points means all of them.
        let result = unsafe { sys::virDomainFSFreeze(self.domain.as_ptr(), ptr::null_mut(), 0, 0) };
        self.checked(result).map_err(|error| match error {
            // libvirt's code is that of an agent that was asked and is silent. The words are its daemon's, which runs
            // untranslated as a service.
            Error::Busy { doing, message } if message.contains("guest agent is not connected") => {
                Error::InvalidState { doing, message }
            }
            error => error,
        })
    }

    pub fn thaw(&self) -> Result<()> {
        if !self.is_active()? {
            return Ok(());
        }
        // SAFETY: the domain's pointer is valid as long as `domain` lives.
        let result = unsafe { sys::virDomainAgentSetResponseTimeout(self.domain.as_ptr(), AGENT_PATIENCE, 0) };
        self.checked(result)?;
        // SAFETY: as above; no list of mount points means all of them.
        let result = unsafe { sys::virDomainFSThaw(self.domain.as_ptr(), ptr::null_mut(), 0, 0) };
        match self.checked(result) {
            Err(_) if !self.is_active()? => Ok(()),
            other => other,
        }
    }

    pub fn begin_backup(&self, disk: &Path, target: &Path) -> Result<()> {
        if !self.is_active()? {
            return Err(self.not_running());
        }
        let definition = self.explain(self.domain.xml_desc(0))?;
        let invalid = |message: String| Error::Invalid {
            doing: self.doing(),
            message,
        };
        let definition = Element::parse(&definition).map_err(|error| invalid(error.to_string()))?;
        let xml = request(&definition, disk, target)
            .ok_or_else(|| invalid(format!("it has no disk {}", disk.display())))?
            .write();
        let xml = CString::new(xml).map_err(|_| invalid("a path has a zero byte".to_owned()))?;
        // SAFETY: the domain's pointer is valid as long as `domain` lives, and libvirt copies the text.
        let result = unsafe { sys::virDomainBackupBegin(self.domain.as_ptr(), xml.as_ptr(), ptr::null(), 0) };
        self.checked(result)
    }

    pub fn backup(&self) -> Result<Backup> {
        // What its process was at went with it.
        if !self.is_active()? {
            return Ok(Backup::None);
        }
        let running = self.explain(job(&self.domain, 0))?;
        if running.is_backup() && running.kind != sys::VIR_DOMAIN_JOB_NONE {
            return Ok(Backup::Running {
                done: running.processed,
                total: running.total,
            });
        }
        // Kept, so that one who asks again is told the same.
        let flags = sys::VIR_DOMAIN_JOB_STATS_COMPLETED | sys::VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED;
        let ended = self.explain(job(&self.domain, flags))?;
        Ok(match (ended.is_backup(), ended.kind) {
            (false, _) | (_, sys::VIR_DOMAIN_JOB_NONE) => Backup::None,
            (true, sys::VIR_DOMAIN_JOB_COMPLETED) if ended.success != Some(false) => Backup::Finished,
            (true, _) => Backup::Failed(ended.message.unwrap_or_else(|| "libvirt doesn't say why".to_owned())),
        })
    }

    pub fn abort_backup(&self) -> Result<()> {
        // Nothing else is aborted: saving the memory is such a job too.
        if !matches!(self.backup()?, Backup::Running { .. }) {
            return Ok(());
        }
        // SAFETY: the domain's pointer is valid as long as `domain` lives.
        let result = unsafe { sys::virDomainAbortJob(self.domain.as_ptr()) };
        match self.checked(result) {
            // It ended by itself between our look and our call.
            Err(Error::InvalidState { .. }) => Ok(()),
            other => other,
        }
    }

    fn checked(&self, result: c_int) -> Result<()> {
        self.explain(if result < 0 {
            Err(VirtError::last_error())
        } else {
            Ok(())
        })
    }
}

/// libvirt's description of a backup of one disk, named by its file; `None` when the domain has no such disk.
fn request(definition: &Element, disk: &Path, target: &Path) -> Option<Element> {
    let mut found = false;
    let mut disks = Vec::new();
    for device in definition.find("devices")?.all("disk") {
        let name = device.find("target").and_then(|target| target.get("dev"))?;
        let file = device.find("source").and_then(|source| source.get("file"));
        let element = Element::new("disk").attr("name", name);
        // Each of the others is named: what is not, libvirt may take for wanted.
        disks.push(if file.is_some_and(|file| Path::new(file) == disk) {
            found = true;
            element
                .attr("backup", "yes")
                .attr("type", "file")
                .child(Element::new("target").attr("file", target.to_string_lossy()))
                .child(Element::new("driver").attr("type", "qcow2"))
        } else {
            element.attr("backup", "no")
        });
    }
    found.then(|| {
        Element::new("domainbackup")
            .attr("mode", "push")
            .child(Element::new("disks").children(disks))
    })
}

/// What libvirt says of a domain's job.
#[derive(Debug, Default)]
struct Job {
    kind: sys::virDomainJobType,
    operation: Option<c_int>,
    total: u64,
    processed: u64,
    success: Option<bool>,
    message: Option<String>,
}

impl Job {
    fn is_backup(&self) -> bool {
        self.operation == Some(sys::VIR_DOMAIN_JOB_OPERATION_BACKUP.cast_signed())
    }
}

/// virDomainGetJobStats; the method of virt 0.5.0 knows neither whether a backup succeeded nor why not.
fn job(domain: &Domain, flags: sys::virDomainGetJobStatsFlags) -> std::result::Result<Job, VirtError> {
    let (mut kind, mut count): (c_int, c_int) = (0, 0);
    let mut parameters: sys::virTypedParameterPtr = ptr::null_mut();
    // SAFETY: the domain's pointer is valid as long as `domain` lives, and all results are written before the call
    // returns; the list is ours then.
    let result = unsafe {
        sys::virDomainGetJobStats(
            domain.as_ptr(),
            &raw mut kind,
            &raw mut parameters,
            &raw mut count,
            flags,
        )
    };
    if result < 0 {
        let error = VirtError::last_error();
        // libvirt's test driver knows no jobs.
        return if error.code().is(ErrorNumber::NoSupport) {
            Ok(Job::default())
        } else {
            Err(error)
        };
    }
    let mut job = Job {
        kind: kind.cast_unsigned(),
        ..Job::default()
    };
    // SAFETY: list and count are libvirt's own and are freed only below; each value is written when 1 is returned; the
    // text lives as long as the list and is copied.
    unsafe {
        let mut operation: c_int = 0;
        if sys::virTypedParamsGetInt(
            parameters,
            count,
            sys::VIR_DOMAIN_JOB_OPERATION.as_ptr(),
            &raw mut operation,
        ) == 1
        {
            job.operation = Some(operation);
        }
        let mut number: c_ulonglong = 0;
        if sys::virTypedParamsGetULLong(
            parameters,
            count,
            sys::VIR_DOMAIN_JOB_DISK_TOTAL.as_ptr(),
            &raw mut number,
        ) == 1
        {
            job.total = number;
        }
        if sys::virTypedParamsGetULLong(
            parameters,
            count,
            sys::VIR_DOMAIN_JOB_DISK_PROCESSED.as_ptr(),
            &raw mut number,
        ) == 1
        {
            job.processed = number;
        }
        let mut flag: c_int = 0;
        if sys::virTypedParamsGetBoolean(parameters, count, sys::VIR_DOMAIN_JOB_SUCCESS.as_ptr(), &raw mut flag) == 1 {
            job.success = Some(flag != 0);
        }
        let mut text: *const std::ffi::c_char = ptr::null();
        if sys::virTypedParamsGetString(parameters, count, sys::VIR_DOMAIN_JOB_ERRMSG.as_ptr(), &raw mut text) == 1
            && !text.is_null()
        {
            job.message = Some(clean(&std::ffi::CStr::from_ptr(text).to_string_lossy()));
        }
        sys::virTypedParamsFree(parameters, count);
    }
    Ok(job)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_disk_with_that_file_is_copied_and_every_other_is_named() {
        let definition = Element::parse(
            "<domain><devices>\
             <disk type='file' device='disk'><source file='/i/root.qcow2'/><target dev='vda'/></disk>\
             <disk type='file' device='disk'><source file='/v/data.qcow2'/><target dev='vdb'/></disk>\
             <disk type='file' device='cdrom'><target dev='sda'/></disk>\
             </devices></domain>",
        )
        .unwrap();
        let xml = request(&definition, Path::new("/i/root.qcow2"), Path::new("/s/a&b.qcow2"))
            .unwrap()
            .write();
        assert!(
            xml.contains("name=\"vda\" backup=\"yes\"") && xml.contains("/s/a&amp;b.qcow2"),
            "{xml}"
        );
        assert!(
            xml.contains("name=\"vdb\" backup=\"no\"") && xml.contains("name=\"sda\" backup=\"no\""),
            "{xml}"
        );
        assert_eq!(request(&definition, Path::new("/i/other"), Path::new("/s/a")), None);
    }
}
