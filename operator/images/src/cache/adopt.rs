//! How does a file get into the cache that was not fetched by it? It came from another node, or was made here.

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    sync::Arc,
    time::SystemTime,
};

use super::{Cache, Entry, Error, Limits, Shared, digest_of, fetch::blocking, fetch::lock};
use crate::{Digest, Format, inspect};

/// A file that is to become an image of the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adoption {
    /// Whose it is: the Image's UID.
    pub key: String,
    /// Where it is, in the cache's file system. It is gone from there afterwards, also when it is refused.
    pub file: PathBuf,
    /// Its digest, if somebody has verified that; else it is hashed.
    pub digest: Option<Digest>,
    /// The format that it must have.
    pub format: Option<Format>,
    /// What sizes are acceptable.
    pub limits: Limits,
}

impl Cache {
    /// The largest file that is taken, in bytes.
    pub fn max_image_size(&self) -> u64 {
        self.shared.options.max_image_size.min(self.shared.options.max_bytes)
    }

    /// Inspects a file and gives it its name in the cache. Nobody may write to it any more.
    ///
    /// After a crash the file is where it was or in the cache; then [`Self::get`] finds it.
    pub async fn adopt(&self, adoption: Adoption) -> Result<Entry, Error> {
        let shared = Arc::clone(&self.shared);
        blocking("adopting an image", move || {
            let taken = shared.take(&adoption);
            if taken.as_ref().is_err_and(Error::spoils_the_part)
                && let Err(error) = fs::remove_file(&adoption.file)
            {
                tracing::warn!(%error, key = adoption.key, "removing a file that is no image");
            }
            taken
        })
        .await?
    }
}

impl Shared {
    fn take(&self, adoption: &Adoption) -> Result<Entry, Error> {
        let path = &adoption.file;
        let failed = || Error::io(format!("adopting an image of {}", adoption.key));
        let mut file = File::open(path).map_err(failed())?;
        let inspection = inspect::inspect(&mut file, adoption.format)?;
        adoption.limits.accept(adoption.format, &inspection)?;
        let admit = || {
            let digest = match adoption.digest {
                Some(digest) => digest,
                None => digest_of(path)?,
            };
            file.set_permissions(Permissions::from_mode(0o444))?;
            file.sync_all()?;
            lock(&self.index).admit(path, digest, inspection, origin(&adoption.key), SystemTime::now())
        };
        admit().map_err(failed())
    }
}

/// Where an entry is said to come from that was adopted for this key.
pub(super) fn origin(key: &str) -> String {
    format!("{key} {}", Digest::of(b"adopted").hex())
}
