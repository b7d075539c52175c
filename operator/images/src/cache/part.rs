//! A download that is not finished: its bytes, their running digest, and what a later attempt needs to go on.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::index::remove_if_there;
use crate::{Digest, durable};

/// Bytes are gathered to this much before they are written and hashed.
pub(super) const PIECE: usize = 1024 * 1024;
/// Zeros of this length become holes.
const HOLE: usize = 64 * 1024;

/// What the server said about the file, so that a resumed download joins bytes of one version only (RFC 9110, 13.1.5).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Version {
    /// A strong entity tag.
    pub(super) etag: Option<String>,
    pub(super) last_modified: Option<String>,
    /// The whole length in bytes.
    pub(super) total: Option<u64>,
}

impl Version {
    /// What to put into If-Range.
    pub(super) fn validator(&self) -> Option<&str> {
        self.etag.as_deref().or(self.last_modified.as_deref())
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Sidecar {
    origin: String,
    boot: String,
    version: Version,
}

/// An unfinished download in `<key>.part`, described by `<key>.part.json`.
#[derive(Debug)]
pub(super) struct Part {
    path: PathBuf,
    origin: String,
    pub(super) version: Version,
    work: Work,
}

/// What goes to the blocking threads and comes back.
#[derive(Debug)]
struct Work {
    file: File,
    hasher: Sha256,
    /// Bytes that are written and hashed.
    len: u64,
    buffer: Vec<u8>,
}

impl Part {
    /// Opens the part of `key`, with what an earlier attempt left if that was for the same origin, else empty.
    ///
    /// After a reboot the file's end may be zeros that were never written. With a checksum that shows in the end, so
    /// `checksummed` parts are kept; others start over.
    pub(super) fn open(directory: &Path, key: &str, origin: String, checksummed: bool) -> io::Result<Self> {
        let path = directory.join(format!("{key}.part"));
        let sidecar = fs::read(sidecar_path(&path))
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let same_boot = |sidecar: &Sidecar| !sidecar.boot.is_empty() && sidecar.boot == boot();
        let kept = sidecar
            .filter(|sidecar: &Sidecar| sidecar.origin == origin && (checksummed || same_boot(sidecar)))
            .map(|sidecar| sidecar.version);
        if kept.is_none() {
            remove_if_there(&path)?;
            remove_if_there(&sidecar_path(&path))?;
        }
        if path.exists() {
            // It is read only when a crash came just before it got its name.
            fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)?;
        let mut work = Work {
            file,
            hasher: Sha256::new(),
            len: 0,
            buffer: Vec::new(),
        };
        work.hash_what_is_there()?;
        Ok(Self {
            path,
            origin,
            version: kept.unwrap_or_default(),
            work,
        })
    }

    /// Length in bytes, with what is still in memory.
    pub(super) fn len(&self) -> u64 {
        self.work.len + self.work.buffer.len() as u64
    }

    /// Length in bytes of what is on disk.
    pub(super) fn flushed(&self) -> u64 {
        self.work.len
    }

    /// Whether enough is in memory to be written.
    pub(super) fn is_full(&self) -> bool {
        self.work.buffer.len() >= PIECE
    }

    /// The bytes in memory, when they are the first of the file.
    pub(super) fn head(&self) -> Option<&[u8]> {
        (self.work.len == 0).then_some(&self.work.buffer)
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.work.buffer.extend_from_slice(bytes);
    }

    /// Writes and hashes what is in memory. Blocks.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let work = &mut self.work;
        let mut offset = work.len;
        for block in work.buffer.chunks(HOLE) {
            if block.iter().any(|byte| *byte != 0) {
                work.file.write_all_at(block, offset)?;
            }
            offset += block.len() as u64;
        }
        work.file.set_len(offset)?;
        work.hasher.update(&work.buffer);
        work.len = offset;
        work.buffer.clear();
        Ok(())
    }

    /// Forgets all bytes. Blocks.
    pub(super) fn restart(&mut self) -> io::Result<()> {
        self.work.buffer.clear();
        self.work.file.set_len(0)?;
        self.work.hasher = Sha256::new();
        self.work.len = 0;
        self.version = Version::default();
        remove_if_there(&sidecar_path(&self.path))
    }

    /// Writes down which version of the file the bytes belong to. Blocks.
    pub(super) fn describe(&mut self, version: Version) -> io::Result<()> {
        if self.version != version || !sidecar_path(&self.path).exists() {
            let sidecar = Sidecar {
                origin: self.origin.clone(),
                boot: boot(),
                version: version.clone(),
            };
            durable::write(&sidecar_path(&self.path), &serde_json::to_vec(&sidecar)?, 0o600)?;
            self.version = version;
        }
        Ok(())
    }

    /// The digest of the bytes that were flushed.
    pub(super) fn digest(&self) -> Digest {
        Digest::finish(self.work.hasher.clone())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file(&self) -> &File {
        &self.work.file
    }

    /// Removes the part's files. Blocks.
    pub(super) fn discard(&self) -> io::Result<()> {
        discard(&self.path)
    }

    /// Removes the description only: the bytes have got a name of their own. Blocks.
    pub(super) fn forget(&self) -> io::Result<()> {
        remove_if_there(&sidecar_path(&self.path))
    }
}

impl Work {
    fn hash_what_is_there(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; PIECE];
        loop {
            match (&self.file).read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => {
                    self.hasher.update(&buffer[..count]);
                    self.len += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// The keys that have a part in `directory`.
pub(super) fn keys(directory: &Path) -> io::Result<Vec<String>> {
    let mut keys = Vec::new();
    for file in fs::read_dir(directory)? {
        if let Some(key) = file?.file_name().to_str().and_then(|name| name.strip_suffix(".part")) {
            keys.push(key.to_owned());
        }
    }
    Ok(keys)
}

/// Removes the part of `key`, if there is one.
pub(super) fn discard_key(directory: &Path, key: &str) -> io::Result<()> {
    discard(&directory.join(format!("{key}.part")))
}

fn discard(path: &Path) -> io::Result<()> {
    remove_if_there(path)?;
    remove_if_there(&sidecar_path(path))
}

fn sidecar_path(part: &Path) -> PathBuf {
    let mut name = part.as_os_str().to_owned();
    name.push(".json");
    name.into()
}

/// Which boot of the machine this is; the same text means that no write was lost in between.
fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .trim()
        .to_owned()
}
