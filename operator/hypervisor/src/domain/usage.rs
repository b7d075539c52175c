//! What a domain uses, and what its guest says of itself.

use std::fmt;

use uuid::Uuid;

/// What an active domain has used since it was started. What libvirt could not tell without waiting is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DomainUsage {
    /// The domain.
    pub uuid: Uuid,
    /// The time that it had processors, in nanoseconds.
    pub cpu_ns: Option<u64>,
    /// Its memory.
    pub memory: MemoryUsage,
    /// Its disks.
    pub disks: Vec<DiskUsage>,
    /// Its interfaces.
    pub interfaces: Vec<InterfaceUsage>,
}

/// A domain's memory, in bytes. All but the first two are what the guest's balloon driver says, so they may be wrong on
/// purpose, and are absent without that driver.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryUsage {
    /// What of the host's memory its process takes.
    pub resident: Option<u64>,
    /// What the balloon leaves to the guest.
    pub balloon: Option<u64>,
    /// What the guest sees as its memory.
    pub available: Option<u64>,
    /// What of that is not used for anything.
    pub unused: Option<u64>,
    /// What of that can be had without swapping.
    pub usable: Option<u64>,
    /// What of that caches disks.
    pub disk_caches: Option<u64>,
    /// What was read from swap.
    pub swap_in: Option<u64>,
    /// What was written to swap.
    pub swap_out: Option<u64>,
}

/// What went through a disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// The device, as in [`DiskSpec::target`](crate::DiskSpec::target).
    pub target: String,
    /// Bytes read.
    pub read_bytes: Option<u64>,
    /// Reads.
    pub reads: Option<u64>,
    /// Nanoseconds spent on reads.
    pub read_ns: Option<u64>,
    /// Bytes written.
    pub write_bytes: Option<u64>,
    /// Writes.
    pub writes: Option<u64>,
    /// Nanoseconds spent on writes.
    pub write_ns: Option<u64>,
    /// Bytes that its file takes on the host.
    pub physical: Option<u64>,
}

/// What went through an interface, as the guest sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InterfaceUsage {
    /// The device on the host.
    pub device: String,
    /// Bytes received.
    pub received_bytes: Option<u64>,
    /// Packets received.
    pub received_packets: Option<u64>,
    /// Packets that could not be received.
    pub received_errors: Option<u64>,
    /// Packets to be received that were dropped.
    pub received_dropped: Option<u64>,
    /// Bytes sent.
    pub sent_bytes: Option<u64>,
    /// Packets sent.
    pub sent_packets: Option<u64>,
    /// Packets that could not be sent.
    pub sent_errors: Option<u64>,
    /// Packets to be sent that were dropped.
    pub sent_dropped: Option<u64>,
}

/// A disk that QEMU halted its guest for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskFault {
    /// The device, as in [`DiskSpec::target`](crate::DiskSpec::target).
    pub target: String,
    /// Whether it has no space left on the host; else it could not be read or written.
    pub no_space: bool,
}

/// What a guest's agent says of it. A guest may say anything: every text is one line and cut, every list is cut, and none
/// of it is to be believed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GuestInfo {
    /// The operating system's name for people, such as `Debian GNU/Linux 12 (bookworm)`.
    pub os: Option<String>,
    /// Its short name, such as `debian`.
    pub os_id: Option<String>,
    /// Its version, such as `12`.
    pub os_version: Option<String>,
    /// Its kernel's release.
    pub kernel: Option<String>,
    /// The guest's host name.
    pub hostname: Option<String>,
    /// Its interfaces.
    pub interfaces: Vec<GuestInterface>,
    /// Its mounted file systems.
    pub filesystems: Vec<GuestFilesystem>,
}

/// An interface as a guest's agent tells of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GuestInterface {
    /// Its name in the guest.
    pub name: String,
    /// Its MAC address.
    pub mac: Option<String>,
    /// Its addresses.
    pub addresses: Vec<std::net::IpAddr>,
}

/// A file system as a guest's agent tells of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GuestFilesystem {
    /// Where it is mounted.
    pub mountpoint: String,
    /// Its type.
    pub kind: String,
    /// How large it is, in bytes.
    pub total: Option<u64>,
    /// How much of it is used, in bytes.
    pub used: Option<u64>,
}

/// A password, which no log and no error ever has.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// The password; absent when it is empty, has more than 1,024 bytes, or a character that no one can type.
    pub fn new(text: String) -> Option<Self> {
        let typed = !text.is_empty() && text.len() <= 1024 && !text.chars().any(char::is_control);
        typed.then_some(Password(text))
    }

    /// For the call that sets it.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_one_line_and_never_shown() {
        for wrong in ["", "a\nb", "a\0b", &"x".repeat(1025)] {
            assert_eq!(Password::new(wrong.to_owned()), None, "{wrong:?}");
        }
        let right = Password::new("öffne dich".to_owned()).unwrap();
        assert_eq!(format!("{right:?}"), "Password");
    }
}
