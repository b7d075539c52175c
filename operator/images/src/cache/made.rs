//! An image that was made on this node: is there room for it, what came of it, and is anybody there who can ask for it?

use std::{collections::HashSet, os::unix::fs::MetadataExt as _, path::Path, sync::Arc, time::SystemTime};

use super::{Cache, Entry, Error, Evicted, adopt::origin, fetch, fetch::blocking, fetch::lock, index};
use crate::Digest;

impl Cache {
    /// The image that was [adopted](Cache::adopt) for this key, if it is still there.
    pub fn adopted(&self, key: &str) -> Option<Entry> {
        lock(&self.shared.index).with_origin(&origin(key))
    }

    /// Removes what was [adopted](Cache::adopt) for keys of which none is `alive`: it has no source, so nobody can ask for it
    /// again. What is in `pins` stays, and what was used in the last `keep_recent`: somebody may be about to build on it.
    pub async fn forget_adopted(&self, alive: &HashSet<String>, pins: HashSet<Digest>) -> Result<Evicted, Error> {
        let shared = Arc::clone(&self.shared);
        let alive: HashSet<String> = alive.iter().map(|key| origin(key)).collect();
        blocking("removing images of nobody", move || {
            let adopted = origin("");
            let mut index = lock(&shared.index);
            let nobodys = index.only_from(|from| from.ends_with(&adopted) && !alive.contains(from));
            let keep = shared.options.keep_recent;
            let victims = index::victims(nobodys, &pins, 0, u64::MAX, SystemTime::now(), keep);
            index.remove_all(&victims)
        })
        .await?
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
