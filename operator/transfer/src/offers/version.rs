//! Is it still the same file? A file that is served must not change, and shows it when it did.

use std::{
    fs::{File, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::name::hex;

/// What of a file changes when somebody writes to it or puts another in its place.
///
/// Not the time of the inode's last change: libvirt changes owners and labels of files that it lets go of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Version {
    inode: u64,
    pub(super) length: u64,
    modified_s: i64,
    modified_ns: i64,
}

impl Version {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            length: metadata.len(),
            modified_s: metadata.mtime(),
            modified_ns: metadata.mtime_nsec(),
        }
    }

    /// A name that tells versions apart and gives nothing away.
    pub(super) fn tag(&self) -> String {
        let mut hasher = Sha256::new();
        hasher.update(self.inode.to_be_bytes());
        hasher.update(self.length.to_be_bytes());
        hasher.update(self.modified_s.to_be_bytes());
        hasher.update(self.modified_ns.to_be_bytes());
        hex(&hasher.finalize()[..16])
    }

    /// Whether the open file and the one at the path are still this one. Blocks.
    pub(super) fn still_is(&self, file: &File, path: &Path) -> io::Result<bool> {
        if Self::of(&file.metadata()?) != *self {
            return Ok(false);
        }
        match std::fs::symlink_metadata(path) {
            Ok(there) => Ok(there.is_file() && Self::of(&there) == *self),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Opens a regular file, and nothing that a link leads to. Blocks.
pub(super) fn open(path: &Path) -> io::Result<File> {
    // Without NONBLOCK, opening a named pipe would wait for its writer.
    let flags = OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file: File = rustix::fs::open(path, flags, Mode::empty())?.into();
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"))
    }
}
