//! What does the host have?

use virga_crds::{Bytes, Resources};
use virga_hypervisor::{Cache, HostFacts};

use crate::layout::Layout;

/// What the host has: libvirt's word on processors and memory, and the file system of the data directory.
pub fn capacity(facts: &HostFacts, disk: Disk) -> Resources {
    Resources {
        vcpus: facts.cpus,
        memory: Bytes(facts.memory_bytes),
        disk: disk.total,
    }
}

/// The file system of the data directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// How large it is.
    pub total: Bytes,
    /// How much of it is free for us.
    pub free: Bytes,
}

impl Disk {
    /// Asks the kernel. A data directory that can't be asked about has no room.
    pub fn of(layout: &Layout) -> Self {
        match rustix::fs::statvfs(layout.root()) {
            Ok(stat) => Self {
                total: Bytes(stat.f_blocks.saturating_mul(stat.f_frsize)),
                free: Bytes(stat.f_bavail.saturating_mul(stat.f_frsize)),
            },
            Err(error) => {
                tracing::warn!(error = %std::io::Error::from(error), "asking for the data directory's free space");
                Self::default()
            }
        }
    }
}

/// How guests' disks are cached: past the page cache, where the data directory's file system takes direct I/O. Without
/// it QEMU can't open them so.
pub fn disk_cache(layout: &Layout) -> Cache {
    use std::os::unix::fs::OpenOptionsExt as _;
    let probe = layout.root().join(".direct-io");
    let flags = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).unwrap_or(0);
    let opened = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .custom_flags(flags)
        .open(&probe);
    let direct = opened.is_ok();
    // One that is left behind is used again.
    let _ = std::fs::remove_file(&probe);
    if direct { Cache::None } else { Cache::Writeback }
}
