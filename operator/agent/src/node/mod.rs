//! What does this node have, and what does it tell of it?

mod report;
mod status;

pub use report::{Reporter, Wake, run};

use virga_crds::{Bytes, Resources};
use virga_hypervisor::HostFacts;

use crate::layout::Layout;

/// What the host has: libvirt's word on processors and memory, and the file system of the data directory.
pub fn capacity(facts: &HostFacts, layout: &Layout) -> Resources {
    Resources {
        vcpus: facts.cpus,
        memory: Bytes(facts.memory_bytes),
        disk: disk(layout).total,
    }
}

/// The file system of the data directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Disk {
    /// How large it is.
    pub total: Bytes,
    /// How much of it is free for us.
    pub free: Bytes,
}

/// Asks the kernel. A data directory that can't be asked about has no room.
pub(crate) fn disk(layout: &Layout) -> Disk {
    match rustix::fs::statvfs(layout.root()) {
        Ok(stat) => Disk {
            total: Bytes(stat.f_blocks.saturating_mul(stat.f_frsize)),
            free: Bytes(stat.f_bavail.saturating_mul(stat.f_frsize)),
        },
        Err(error) => {
            tracing::warn!(error = %std::io::Error::from(error), "asking for the data directory's free space");
            Disk::default()
        }
    }
}
