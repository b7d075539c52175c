//! What may this peer do with that offer, now?

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
};

use bytes::Bytes;
use rustix::fs::fstat;
use tokio::sync::Notify;
use virga_images::Digest;

use super::{Entry, Error, Shared, version, version::Version};
use crate::{
    content::{self, Hashing},
    extents::{self, Page},
    handover::{Asked, Refused, Source},
    name::{NodeName, OfferId, Token},
    wire::{Code, Hashed, Manifest},
};

/// What a request names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Offer(OfferId, Token),
    Digest(Digest),
}

/// A file that a peer may read, for as long as [`Granted::check`] says so.
#[derive(Clone)]
pub(crate) struct Granted {
    shared: Arc<Shared>,
    peer: NodeName,
    key: Key,
    path: PathBuf,
    version: Version,
    /// Whether the ledger says that it is being read.
    noted: bool,
}

/// The digest of an offered file, computed once.
#[derive(Default)]
pub(super) struct Hash {
    hashing: Arc<Hashing>,
    state: Mutex<HashState>,
    ended: Notify,
}

#[derive(Clone, Copy, Default)]
enum HashState {
    #[default]
    Idle,
    Running,
    Ended(Result<Digest, Code>),
}

impl Hash {
    pub(super) fn stop(&self) {
        self.hashing.stop.store(true, Ordering::Relaxed);
    }

    fn state(&self) -> std::sync::MutexGuard<'_, HashState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self) -> Result<Hashed, Code> {
        let hashed = self.hashing.done.load(Ordering::Relaxed);
        let digest = match *self.state() {
            HashState::Ended(result) => Some(result?),
            HashState::Idle | HashState::Running => None,
        };
        Ok(Hashed { digest, hashed })
    }
}

impl Shared {
    /// What this peer is granted under this key. To anybody else the offer is not there.
    pub(crate) fn granted(self: &Arc<Self>, peer: &NodeName, key: Key) -> Result<Granted, Code> {
        let (path, version, noted) = match &key {
            Key::Offer(id, token) => {
                let record = self.known(peer, id, token)?.record;
                match record.source {
                    Source::LetGo { .. } => return Err(Code::LetGo),
                    Source::Revoked => return Err(Code::Revoked),
                    _ if record.expires <= (self.now)() => return Err(Code::Expired),
                    source => (record.path, record.version, source == Source::Transferring),
                }
            }
            Key::Digest(digest) => {
                let (path, version) = self.table().published.get(digest).cloned().ok_or(Code::NotOffered)?;
                (path, version, true)
            }
        };
        Ok(Granted {
            shared: Arc::clone(self),
            peer: peer.clone(),
            key,
            path,
            version,
            noted,
        })
    }

    fn known(&self, peer: &NodeName, id: &OfferId, token: &Token) -> Result<Entry, Code> {
        let entry = self.entry(id).ok_or(Code::NotOffered)?;
        if entry.record.receiver == *peer && entry.record.token == token.digest() {
            Ok(entry)
        } else {
            Err(Code::NotOffered)
        }
    }

    /// Lets the hand-over take a step, and writes it down before this returns. Blocks.
    pub(crate) fn hand_over(&self, peer: &NodeName, id: &OfferId, token: &Token, asked: Asked) -> Result<Source, Code> {
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = self.known(peer, id, token)?;
        let record = &entry.record;
        if !record.handover && asked != Asked::Read {
            return Err(Code::NotAHandover);
        }
        // What is over stays so, and is told at any time: the receiver may have missed the answer.
        let is_over = matches!(record.source, Source::LetGo { .. } | Source::Revoked);
        if !is_over {
            if record.expires <= (self.now)() {
                return Err(Code::Expired);
            }
            let file = version::open(&record.path).map_err(|error| failed(&record.id, &error))?;
            let same = record.version.still_is(&file, &record.path);
            if !same.map_err(|error| failed(&record.id, &error))? {
                return Err(Code::Changed);
            }
        }
        let content = match record.source {
            // The file is the same as then, so there is no need to hash it again after a restart.
            Source::Verified { digest } => Some(digest),
            _ => entry.hash.seen()?.digest,
        };
        if !is_over && content.is_none() && matches!(asked, Asked::Verified(_)) {
            return Err(Code::Busy);
        }
        let next = record.source.after(asked, content).map_err(code)?;
        if next != record.source {
            let id = record.id.clone();
            self.write(entry, next).map_err(|error| unwritten(&id, &error))?;
            tracing::info!(offer = %id, receiver = %peer, state = ?next, "an offer went on");
        }
        Ok(next)
    }
}

fn code(refused: Refused) -> Code {
    match refused {
        Refused::LetGo => Code::LetGo,
        Refused::Revoked => Code::Revoked,
        Refused::NotVerified => Code::NotVerified,
        Refused::Mismatch => Code::DigestMismatch,
    }
}

fn failed(what: &OfferId, error: &io::Error) -> Code {
    if error.kind() == io::ErrorKind::NotFound {
        return Code::Changed;
    }
    tracing::warn!(offer = %what, %error, "an offered file can't be read");
    Code::Failed
}

fn unwritten(what: &OfferId, error: &Error) -> Code {
    tracing::warn!(offer = %what, error = %error, source = ?std::error::Error::source(error), "the ledger can't be written");
    Code::Failed
}

impl Granted {
    /// Whether it is granted still.
    pub(crate) fn check(&self) -> Result<(), Code> {
        let now = self.shared.granted(&self.peer, self.key.clone())?;
        if now.version == self.version && now.path == self.path {
            Ok(())
        } else {
            Err(Code::Changed)
        }
    }

    /// Whether the ledger says already that the file is being read.
    pub(crate) fn is_noted(&self) -> bool {
        self.noted
    }

    pub(crate) fn length(&self) -> u64 {
        self.version.length
    }

    /// What `If-Match` must say.
    pub(crate) fn tag(&self) -> String {
        match &self.key {
            // All nodes that have a digest have the same, so a receiver may go on at another one.
            Key::Digest(digest) => digest.to_string(),
            Key::Offer(..) => self.version.tag(),
        }
    }

    /// Opens the file, if it is the one that was offered. Blocks.
    pub(crate) fn open(&self) -> Result<File, Code> {
        let file = version::open(&self.path).map_err(|error| self.failed(&error))?;
        self.unchanged(&file)?;
        Ok(file)
    }

    fn unchanged(&self, file: &File) -> Result<(), Code> {
        match self.version.still_is(file, &self.path) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Code::Changed),
            Err(error) => Err(self.failed(&error)),
        }
    }

    fn failed(&self, error: &io::Error) -> Code {
        if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof) {
            return Code::Changed;
        }
        tracing::warn!(path = %self.path.display(), %error, "an offered file can't be read");
        Code::Failed
    }

    /// Blocks.
    pub(crate) fn manifest(&self) -> Result<Manifest, Code> {
        let file = self.open()?;
        let blocks = fstat(&file).map_err(|error| self.failed(&error.into()))?.st_blocks;
        // POSIX leaves the unit open; on Linux it is 512 bytes.
        let allocated = u64::try_from(blocks).unwrap_or(0).saturating_mul(512);
        let handover = match &self.key {
            Key::Offer(id, _) => self.shared.entry(id).is_some_and(|entry| entry.record.handover),
            Key::Digest(_) => false,
        };
        Ok(Manifest {
            length: self.length(),
            allocated: allocated.min(self.length()),
            version: self.tag(),
            handover,
        })
    }

    /// Blocks.
    pub(crate) fn extents(&self, from: u64) -> Result<Page, Code> {
        if from > self.length() {
            return Err(Code::BadRange);
        }
        let file = self.open()?;
        let page = extents::page(&file, from, self.length()).map_err(|error| self.failed(&error))?;
        self.unchanged(&file)?;
        Ok(page)
    }

    /// Reads a piece that lies in the file, and looks afterwards whether the file is still what was offered, and still
    /// granted. Blocks.
    pub(crate) fn read(&self, file: &File, at: u64, len: usize) -> Result<Bytes, Code> {
        let mut piece = vec![0; len];
        file.read_exact_at(&mut piece, at)
            .map_err(|error| self.failed(&error))?;
        self.unchanged(file)?;
        self.check()?;
        Ok(piece.into())
    }

    /// Begins to hash an offered file, unless it is hashed or being so.
    pub(crate) fn begin_hashing(&self) {
        let Key::Offer(id, _) = &self.key else { return };
        let Some(hash) = self.shared.entry(id).map(|entry| entry.hash) else {
            return;
        };
        {
            let mut state = hash.state();
            // What failed for a reason that may pass is tried again.
            if !matches!(*state, HashState::Idle | HashState::Ended(Err(Code::Failed))) {
                return;
            }
            *state = HashState::Running;
        }
        let granted = self.clone();
        let turns = Arc::clone(&self.shared.hashing);
        tokio::spawn(async move {
            let result = match turns.acquire_owned().await {
                Ok(turn) => {
                    let hashing = Arc::clone(&hash.hashing);
                    let work = move || {
                        let _turn = turn;
                        granted.hash(&hashing)
                    };
                    tokio::task::spawn_blocking(work).await.unwrap_or(Err(Code::Failed))
                }
                Err(_) => Err(Code::Failed),
            };
            *hash.state() = HashState::Ended(result);
            hash.ended.notify_waiters();
        });
    }

    fn hash(&self, hashing: &Hashing) -> Result<Digest, Code> {
        let file = self.open()?;
        let digest = match content::digest(&file, self.length(), hashing) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(Code::Revoked),
            digest => digest.map_err(|error| self.failed(&error))?,
        };
        self.unchanged(&file)?;
        Ok(digest)
    }

    /// The digest of the content, or how far it is when it was not ready until `patience` was over.
    pub(crate) async fn digest(&self, patience: tokio::time::Instant) -> Result<Hashed, Code> {
        let id = match &self.key {
            Key::Digest(digest) => {
                let hashed = self.length();
                return Ok(Hashed {
                    digest: Some(*digest),
                    hashed,
                });
            }
            Key::Offer(id, _) => id,
        };
        let hash = self.shared.entry(id).ok_or(Code::NotOffered)?.hash;
        let ended = hash.ended.notified();
        tokio::pin!(ended);
        // From here on no end is missed.
        ended.as_mut().enable();
        self.begin_hashing();
        let seen = hash.seen()?;
        if seen.digest.is_some() {
            return Ok(seen);
        }
        // Either way, what is seen then is the answer.
        let _ = tokio::time::timeout_at(patience, ended).await;
        hash.seen()
    }
}
