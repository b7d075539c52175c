//! An image that was made on this node: is there room for it, and what came of it?

use std::{os::unix::fs::MetadataExt as _, path::Path};

use super::{Cache, Entry, Error, fetch, fetch::lock};
use crate::Digest;

impl Cache {
    /// The image that was [adopted](Cache::adopt) for this key, if it is still there.
    pub fn adopted(&self, key: &str) -> Option<Entry> {
        let origin = format!("{key} {}", Digest::of(b"adopted").hex());
        lock(&self.shared.index).with_origin(&origin)
    }

    /// Whether `bytes` more can be written and enough stays free.
    pub fn check_room(&self, bytes: u64) -> Result<(), Error> {
        let free = fetch::free_space(&self.shared.directory)?;
        let reserve = self.shared.options.min_free;
        if free < bytes.saturating_add(reserve) {
            let needed = bytes;
            return Err(Error::NoSpace { needed, free, reserve });
        }
        Ok(())
    }
}

/// What a file takes of its file system, in bytes; nothing when it can't be looked at.
pub fn allocated(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.blocks() * 512)
}
