//! What is in the cache: the files on disk, and nothing but the files on disk.
//!
//! An image is `sha256-<hex>.<format>`; beside it lies `sha256-<hex>.json`, whose modification time is the last use. A
//! name is given only after the bytes were verified and synced, so what has a name is good.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::{Error, Evicted, Request};
use crate::{
    Digest, Format, durable,
    inspect::{self, Inspection},
};

/// How many origins an entry remembers. An origin that is forgotten costs one download.
const MAX_ORIGINS: usize = 64;

/// A verified image in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The SHA-256 digest of the file.
    pub digest: Digest,
    /// Where it is. Read only; use it as a base, never write to it.
    pub path: PathBuf,
    /// What was found in it.
    pub inspection: Inspection,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sidecar {
    inspection: Inspection,
    /// Which requests without a digest this content was the answer to.
    origins: Vec<String>,
}

#[derive(Debug)]
struct Record {
    entry: Entry,
    origins: Vec<String>,
    /// What the file takes of the file system; less than its length when it has holes.
    allocated: u64,
    last_used: SystemTime,
}

/// The entries by digest.
#[derive(Debug)]
pub(super) struct Index {
    directory: PathBuf,
    records: HashMap<Digest, Record>,
}

/// An entry as eviction sees it.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) digest: Digest,
    pub(super) allocated: u64,
    pub(super) last_used: SystemTime,
}

impl Index {
    /// Reads the directory. What a crash left half done is removed; what is not ours is left alone.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        let mut index = Self {
            directory: directory.to_owned(),
            records: HashMap::new(),
        };
        let mut sidecars = Vec::new();
        for file in fs::read_dir(directory)? {
            let file = file?;
            let name = file.file_name();
            let Some(name) = name.to_str() else { continue };
            if name.starts_with(durable::TEMPORARY_PREFIX) {
                fs::remove_file(file.path())?;
            } else if let Some((digest, extension)) = parse_name(name) {
                match extension.parse::<Format>() {
                    Ok(format) => index.load(digest, format, &file.path())?,
                    Err(_) if extension == "json" => sidecars.push((digest, file.path())),
                    Err(_) => {}
                }
            }
        }
        for (digest, path) in sidecars {
            if !index.records.contains_key(&digest) {
                fs::remove_file(path)?;
            }
        }
        Ok(index)
    }

    fn load(&mut self, digest: Digest, format: Format, path: &Path) -> io::Result<()> {
        let metadata = fs::symlink_metadata(path)?;
        if !metadata.is_file() {
            return Ok(());
        }
        let sidecar_path = sidecar_path(&self.directory, digest);
        let sidecar = fs::read(&sidecar_path)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Sidecar>(&bytes).ok());
        let sidecar = match sidecar {
            Some(sidecar) if sidecar.inspection.size == metadata.len() => sidecar,
            Some(_) => {
                // Somebody wrote to it, or the file system lost its end.
                warn!(%digest, "removing a cached image whose length has changed");
                return fs::remove_file(path);
            }
            // Without a sidecar the file tells all but where it came from.
            None => match inspect::inspect(&mut File::open(path)?, Some(format)) {
                Ok(inspection) => {
                    let sidecar = Sidecar {
                        inspection,
                        origins: Vec::new(),
                    };
                    write_sidecar(&sidecar_path, &sidecar)?;
                    sidecar
                }
                Err(inspect::Error::Read(error)) => return Err(error),
                Err(error) => {
                    warn!(%digest, %error, "removing a cached file that is no image");
                    return fs::remove_file(path);
                }
            },
        };
        let entry = Entry {
            digest,
            path: path.to_owned(),
            inspection: sidecar.inspection,
        };
        let last_used = fs::metadata(&sidecar_path)?.modified()?;
        let record = Record {
            entry,
            origins: sidecar.origins,
            allocated: metadata.blocks() * 512,
            last_used,
        };
        self.records.insert(digest, record);
        Ok(())
    }

    /// The entry that answers `request`, marked as used now. Drops an entry whose file is gone or was changed.
    pub(super) fn hit(&mut self, request: &Request, now: SystemTime) -> Result<Option<Entry>, Error> {
        let origin = request.origin();
        let digest = match request.sha256 {
            Some(digest) => Some(digest),
            None => self
                .records
                .values()
                .find(|record| record.origins.contains(&origin))
                .map(|r| r.entry.digest),
        };
        let Some(record) = digest.and_then(|digest| self.records.get_mut(&digest)) else {
            return Ok(None);
        };
        let digest = record.entry.digest;
        if !is_whole(&record.entry) {
            warn!(%digest, "a cached image has disappeared or changed its length, it is fetched again");
            self.remove(digest)
                .map_err(Error::io(format!("removing the damaged image {digest}")))?;
            return Ok(None);
        }
        request.accepts(&record.entry.inspection)?;
        record.last_used = now;
        let doing = || format!("marking the image {digest} as used");
        if record.origins.contains(&origin) {
            File::open(sidecar_path(&self.directory, digest))
                .and_then(|file| file.set_modified(now))
                .map_err(Error::io(doing()))?;
        } else {
            record.remember(origin);
            record.save(&self.directory).map_err(Error::io(doing()))?;
        }
        Ok(Some(record.entry.clone()))
    }

    /// Takes in a verified, synced and read-only file that has no name yet.
    pub(super) fn admit(
        &mut self,
        file: &Path,
        digest: Digest,
        inspection: Inspection,
        origin: String,
        now: SystemTime,
    ) -> io::Result<Entry> {
        if let Some(record) = self.records.get_mut(&digest)
            && is_whole(&record.entry)
        {
            // Another key brought the same bytes meanwhile, and a guest may run on them already.
            record.last_used = now;
            record.remember(origin);
            record.save(&self.directory)?;
            fs::remove_file(file)?;
            return Ok(record.entry.clone());
        }
        let path = self
            .directory
            .join(format!("sha256-{}.{}", digest.hex(), inspection.format));
        let allocated = fs::metadata(file)?.blocks() * 512;
        let entry = Entry {
            digest,
            path,
            inspection,
        };
        let record = Record {
            entry: entry.clone(),
            origins: vec![origin],
            allocated,
            last_used: now,
        };
        // The sidecar first: one without a file is removed at the next start, and the part is still there.
        record.save(&self.directory)?;
        fs::rename(file, &entry.path)?;
        durable::sync_directory(&self.directory)?;
        self.records.insert(digest, record);
        Ok(entry)
    }

    /// Removes an entry's files. Fine when they are gone.
    pub(super) fn remove(&mut self, digest: Digest) -> io::Result<()> {
        if let Some(record) = self.records.remove(&digest) {
            remove_if_there(&record.entry.path)?;
        }
        remove_if_there(&sidecar_path(&self.directory, digest))
    }

    /// Removes these. What is gone before one that can't be removed stays gone.
    pub(super) fn remove_all(&mut self, victims: &[Candidate]) -> Result<Evicted, Error> {
        let mut evicted = Evicted {
            digests: Vec::new(),
            bytes: 0,
        };
        for victim in victims {
            self.remove(victim.digest)
                .map_err(Error::io(format!("evicting the image {}", victim.digest)))?;
            evicted.digests.push(victim.digest);
            evicted.bytes += victim.allocated;
        }
        Ok(evicted)
    }

    /// The entry that came from there, if it is whole.
    pub(super) fn with_origin(&self, origin: &str) -> Option<Entry> {
        let mut records = self.records.values();
        let record = records.find(|record| record.origins.iter().any(|known| known == origin))?;
        is_whole(&record.entry).then(|| record.entry.clone())
    }

    pub(super) fn get(&self, digest: Digest) -> Option<Entry> {
        self.records.get(&digest).map(|record| record.entry.clone())
    }

    pub(super) fn entries(&self) -> Vec<Entry> {
        let mut entries: Vec<_> = self.records.values().map(|record| record.entry.clone()).collect();
        entries.sort_by_key(|entry| entry.digest);
        entries
    }

    pub(super) fn candidates(&self) -> Vec<Candidate> {
        self.records
            .values()
            .map(|record| Candidate {
                digest: record.entry.digest,
                allocated: record.allocated,
                last_used: record.last_used,
            })
            .collect()
    }

    /// The entries that came from these origins and no other.
    pub(super) fn only_from(&self, is_one: impl Fn(&str) -> bool) -> Vec<Candidate> {
        let mut found = self.candidates();
        found.retain(|candidate| {
            let origins = self.records.get(&candidate.digest).map(|record| &record.origins);
            origins.is_some_and(|origins| !origins.is_empty() && origins.iter().all(|origin| is_one(origin)))
        });
        found
    }

    pub(super) fn used(&self) -> u64 {
        self.records.values().map(|record| record.allocated).sum()
    }
}

impl Record {
    fn remember(&mut self, origin: String) {
        if !self.origins.contains(&origin) {
            if self.origins.len() == MAX_ORIGINS {
                self.origins.remove(0);
            }
            self.origins.push(origin);
        }
    }

    fn save(&self, directory: &Path) -> io::Result<()> {
        let sidecar = Sidecar {
            inspection: self.entry.inspection.clone(),
            origins: self.origins.clone(),
        };
        write_sidecar(&sidecar_path(directory, self.entry.digest), &sidecar)
    }
}

/// Which entries to remove, the least recently used first, until `used` is at most `max_bytes` and `shortfall` bytes
/// are freed. Never one that is pinned, nor one used in the last `keep` (somebody may be about to build on it).
pub(super) fn victims(
    mut candidates: Vec<Candidate>,
    pins: &HashSet<Digest>,
    max_bytes: u64,
    shortfall: u64,
    now: SystemTime,
    keep: Duration,
) -> Vec<Candidate> {
    let used: u64 = candidates.iter().map(|candidate| candidate.allocated).sum();
    let excess = used.saturating_sub(max_bytes).max(shortfall);
    candidates.retain(|candidate| {
        // A clock that was set back must not make entries old.
        let idle = now.duration_since(candidate.last_used).unwrap_or_default();
        !pins.contains(&candidate.digest) && idle >= keep
    });
    candidates.sort_by_key(|candidate| (candidate.last_used, candidate.digest));
    let mut freed = 0;
    candidates
        .into_iter()
        .take_while(|candidate| {
            let more = freed < excess;
            freed += candidate.allocated;
            more
        })
        .inspect(|candidate| info!(digest = %candidate.digest, bytes = candidate.allocated, "evicting a cached image"))
        .collect()
}

fn is_whole(entry: &Entry) -> bool {
    fs::symlink_metadata(&entry.path)
        .is_ok_and(|metadata| metadata.is_file() && metadata.len() == entry.inspection.size)
}

pub(super) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn parse_name(name: &str) -> Option<(Digest, &str)> {
    let (hex, extension) = name.strip_prefix("sha256-")?.split_once('.')?;
    Some((hex.parse().ok()?, extension))
}

fn sidecar_path(directory: &Path, digest: Digest) -> PathBuf {
    directory.join(format!("sha256-{}.json", digest.hex()))
}

fn write_sidecar(path: &Path, sidecar: &Sidecar) -> io::Result<()> {
    durable::write(path, &serde_json::to_vec(sidecar)?, 0o600)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(name: u8, allocated: u64, age_s: u64) -> Candidate {
        let last_used = SystemTime::UNIX_EPOCH + Duration::from_secs(1000 - age_s);
        Candidate {
            digest: Digest::of(&[name]),
            allocated,
            last_used,
        }
    }

    fn evicted(candidates: &[Candidate], pins: &[u8], max_bytes: u64, shortfall: u64) -> Vec<Digest> {
        let pins = pins.iter().map(|pin| Digest::of(&[*pin])).collect();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        victims(
            candidates.to_vec(),
            &pins,
            max_bytes,
            shortfall,
            now,
            Duration::from_secs(10),
        )
        .into_iter()
        .map(|victim| victim.digest)
        .collect()
    }

    #[test]
    fn the_least_recently_used_go_first_until_it_fits() {
        let all = [candidate(1, 10, 100), candidate(2, 10, 300), candidate(3, 10, 200)];
        assert_eq!(evicted(&all, &[], 30, 0), []);
        assert_eq!(evicted(&all, &[], 29, 0), [Digest::of(&[2])]);
        assert_eq!(evicted(&all, &[], 10, 0), [Digest::of(&[2]), Digest::of(&[3])]);
    }

    #[test]
    fn pinned_and_fresh_entries_stay_even_when_it_does_not_fit() {
        let all = [candidate(1, 10, 5), candidate(2, 10, 300), candidate(3, 10, 200)];
        assert_eq!(evicted(&all, &[2], 0, 0), [Digest::of(&[3])]);
    }

    #[test]
    fn a_full_file_system_evicts_below_the_limit() {
        let all = [candidate(1, 10, 100), candidate(2, 10, 300)];
        assert_eq!(evicted(&all, &[], 1000, 5), [Digest::of(&[2])]);
        assert_eq!(evicted(&all, &[], 1000, 11), [Digest::of(&[2]), Digest::of(&[1])]);
    }
}
