//! How does a guest do: what it uses, what it says of itself, and which of its disks failed?

use virga_crds::{Bytes, GuestStatus, Instance, InstanceStatus, InstanceUsage, conditions::Reason};

use super::{
    needs::Aspect,
    seen::{Domain, Power},
};
use crate::volume::{device, device_of, volume_names};

/// What was found out about the guest.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// What it uses, when that is news.
    pub usage: Option<InstanceUsage>,
    /// What it says of itself.
    pub guest: Guest,
    /// The disks that QEMU halted it for. Looked at only when it is halted.
    pub disk_faults: Vec<DiskFault>,
}

/// What the guest's agent says.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Guest {
    /// It was not asked yet, and what was told before stands.
    #[default]
    NotAsked,
    /// There is none, or it does not answer.
    Silent,
    /// This.
    Said(Box<GuestStatus>),
}

/// A disk that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskFault {
    /// The device, as the guest sees it.
    pub target: String,
    /// Whether the host has no space for it; else it could not be read or written.
    pub no_space: bool,
}

/// What is told of the usage, and of what the guest says. Of what is off nothing is.
pub(super) fn told(
    domain: &Domain,
    health: &Health,
    old: &InstanceStatus,
) -> (Option<Box<InstanceUsage>>, Option<Box<GuestStatus>>) {
    match domain {
        Domain::Defined(Power::Off(_) | Power::Saved | Power::BrokenSave) | Domain::Absent | Domain::Foreign(_) => {
            (None, None)
        }
        Domain::Defined(_) | Domain::Unreachable(_) => {
            let guest = match &health.guest {
                Guest::NotAsked => old.guest.clone(),
                Guest::Silent => None,
                Guest::Said(said) => Some(said.clone()),
            };
            let usage = health.usage.clone().map(Box::new);
            (usage.or_else(|| old.usage.clone()), guest)
        }
    }
}

/// The condition `Running` of a guest that QEMU halted.
pub(super) fn halted(instance: &Instance, faults: &[DiskFault], rescued: bool) -> Aspect {
    let named = |fault: &DiskFault| {
        let volume = volume_names(instance).find(|name| device_of(instance, name, rescued) == fault.target);
        match volume {
            Some(volume) => format!("{} (Volume {volume})", fault.target),
            None if rescued && fault.target == device(0) => format!("{} (the rescue disk)", fault.target),
            None => format!("{} (the root disk)", fault.target),
        }
    };
    let list = |faults: &[&DiskFault]| faults.iter().map(|fault| named(fault)).collect::<Vec<_>>().join(", ");
    let (full, broken): (Vec<_>, Vec<_>) = faults.iter().partition(|fault| fault.no_space);
    if !broken.is_empty() {
        let message = format!(
            "QEMU halted the guest because the host could not read or write {}: look at the host's storage and its kernel \
             log; the guest is let go on every 30 s, and goes on when the disk works again",
            list(&broken)
        );
        return Aspect::waits(Reason::DiskFailed, message);
    }
    let which = if full.is_empty() {
        "one of its disks".into()
    } else {
        list(&full)
    };
    let message = format!(
        "QEMU halted the guest because the host has no space left for {which}: free some on the file system of the host's \
         data directory; the guest is let go on every 30 s, and goes on when there is room"
    );
    Aspect::waits(
        if full.is_empty() {
            Reason::DiskFailed
        } else {
            Reason::DiskFull
        },
        message,
    )
}

/// Whether what a guest says now is worth a write after what was told before.
pub fn is_news_of_guest(old: Option<&GuestStatus>, new: &GuestStatus) -> bool {
    let Some(old) = old else { return true };
    // Files come and go: a twentieth of a file system is news, less is not.
    let near = |a: Option<Bytes>, b: Option<Bytes>, size: Option<Bytes>| match (a, b) {
        (Some(a), Some(b)) => a.0.abs_diff(b.0) < size.map_or(1, |size| size.0 / 20 + 1),
        (a, b) => a == b,
    };
    let same_filesystems = old.filesystems.len() == new.filesystems.len()
        && old.filesystems.iter().zip(&new.filesystems).all(|(old, new)| {
            (&old.mountpoint, &old.type_, old.size) == (&new.mountpoint, &new.type_, new.size)
                && near(old.used, new.used, new.size)
        });
    let others = |guest: &GuestStatus| GuestStatus {
        at: new.at.clone(),
        filesystems: Vec::new(),
        ..guest.clone()
    };
    !same_filesystems || others(old) != others(new)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use virga_crds::{GuestFilesystem, ImageRef, InstanceSpec, VolumeAttachment};

    use super::*;
    use crate::instance::WentOff;

    fn guest(hostname: &str, used: u64, second: i64) -> GuestStatus {
        GuestStatus {
            at: Time(jiff::Timestamp::from_second(second).unwrap()),
            hostname: Some(hostname.into()),
            os: None,
            os_id: None,
            os_version: None,
            kernel: None,
            interfaces: Vec::new(),
            filesystems: vec![GuestFilesystem {
                mountpoint: "/".into(),
                type_: "ext4".into(),
                size: Some(Bytes(1000)),
                used: Some(Bytes(used)),
            }],
        }
    }

    #[test]
    fn a_little_more_on_a_file_system_is_no_news_and_another_name_is() {
        let old = guest("web", 500, 1);
        assert!(is_news_of_guest(None, &old));
        assert!(!is_news_of_guest(Some(&old), &guest("web", 540, 2)));
        assert!(is_news_of_guest(Some(&old), &guest("web", 560, 2)));
        assert!(is_news_of_guest(Some(&old), &guest("www", 500, 2)));
    }

    #[test]
    fn what_was_told_stands_until_the_agent_was_asked_or_the_guest_is_off() {
        let old = InstanceStatus {
            guest: Some(Box::new(guest("web", 500, 1))),
            ..InstanceStatus::default()
        };
        let running = Domain::Defined(Power::Running);
        let ask = |domain: &Domain, guest: Guest| {
            let health = Health {
                guest,
                ..Health::default()
            };
            told(domain, &health, &old).1
        };
        assert_eq!(ask(&running, Guest::NotAsked), old.guest);
        assert_eq!(ask(&running, Guest::Silent), None);
        let said = Box::new(guest("www", 1, 2));
        assert_eq!(ask(&running, Guest::Said(said.clone())), Some(said.clone()));
        let off = Domain::Defined(Power::Off(WentOff::ByGuest));
        assert_eq!(ask(&off, Guest::Said(said)), None);
        assert_eq!(ask(&Domain::Unreachable("gone".into()), Guest::NotAsked), old.guest);
    }

    #[test]
    fn the_disk_that_failed_is_named_as_its_user_knows_it() {
        let spec = InstanceSpec {
            image: Some(ImageRef::default()),
            volumes: vec![VolumeAttachment { name: "data".into() }],
            ..InstanceSpec::default()
        };
        let instance = Instance::new("web", spec);
        let fault = |target: &str, no_space| DiskFault {
            target: target.into(),
            no_space,
        };
        let told = halted(&instance, &[fault("vda", true), fault("vdb", true)], false);
        assert_eq!(told.reason, Reason::DiskFull);
        assert!(
            told.message
                .contains("no space left for vda (the root disk), vdb (Volume data)"),
            "{}",
            told.message
        );
        let told = halted(&instance, &[fault("vda", true), fault("vdb", false)], false);
        let rescued = halted(&instance, &[fault("vda", true), fault("vdb", true)], true);
        assert!(
            rescued.message.contains("vda (the rescue disk), vdb (the root disk)"),
            "{}",
            rescued.message
        );
        assert_eq!(told.reason, Reason::DiskFailed);
        assert!(
            told.message.contains("read or write vdb (Volume data)"),
            "{}",
            told.message
        );
        assert_eq!(halted(&instance, &[], false).reason, Reason::DiskFailed);
    }
}
