//! One fetch: from a checked request to a complete part with the right digest.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use reqwest::Url;
use rustix::fs::{Mode, OFlags, openat};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    Error, Options, Phase, Progress, Request,
    http::{Failure, Http},
    part::{PIECE, Part, Version},
    request::at_most,
};
use crate::{Digest, inspect};

/// An attempt that brought this much was a good one: the count of failures starts again.
const GOOD_PROGRESS: u64 = 1024 * 1024;
/// Free space is looked at again after this much.
const SPACE_CHECK: u64 = 64 * 1024 * 1024;

/// What a fetch works with.
pub(super) struct Fetcher<'a> {
    pub(super) directory: &'a Path,
    pub(super) options: &'a Options,
    pub(super) http: &'a Http,
    pub(super) request: &'a Request,
    pub(super) progress: &'a watch::Sender<Progress>,
    pub(super) cancel: &'a CancellationToken,
}

/// All bytes, on disk and hashed, not yet inspected.
pub(super) struct Fetched {
    pub(super) part: Arc<Mutex<Part>>,
    pub(super) digest: Digest,
}

impl Fetcher<'_> {
    /// The largest file that may come.
    fn max_size(&self) -> u64 {
        self.request
            .limits
            .max_size
            .min(self.options.max_image_size)
            .min(self.options.max_bytes)
    }

    /// Downloads over HTTP, going on where an earlier attempt or process stopped.
    pub(super) async fn download(&self, url: &Url) -> Result<Fetched, Error> {
        let deadline = Instant::now() + self.options.deadline;
        let part = self.open_part(self.request.sha256.is_some()).await?;
        let mut resumed = lock(&part).len() > 0;
        let mut second_chance = true;
        let mut failures = 0;
        // Ends: a round brings at least GOOD_PROGRESS of a bounded number of bytes, or counts as a failure. The deadline
        // ends what a server could still stretch by changing its file again and again.
        loop {
            let before = lock(&part).len();
            let attempt = async {
                self.attempt(url, &part, deadline).await?;
                Ok(self.check_digest(&part)?)
            };
            let (reason, retry_after) = match attempt.await {
                Ok(digest) => return Ok(Fetched { part, digest }),
                // Two versions of the file may have been joined: one more chance from the start.
                Err(Failure::Final(Error::ChecksumMismatch { .. })) if resumed && second_chance => {
                    (resumed, second_chance) = (false, false);
                    self.on_disk(&part, Part::restart).await?;
                    continue;
                }
                Err(Failure::Final(error)) => {
                    // A stopped download keeps all that came, for the next process.
                    let spoilt = error.spoils_the_part();
                    self.on_disk(&part, move |part| if spoilt { part.discard() } else { part.flush() })
                        .await?;
                    return Err(error);
                }
                Err(Failure::Stale(reason)) => {
                    self.on_disk(&part, Part::restart).await?;
                    (reason, None)
                }
                Err(Failure::Transient { reason, retry_after }) => (reason, retry_after),
            };
            self.on_disk(&part, Part::flush).await?;
            let now = lock(&part).len();
            resumed = now > 0;
            failures = if now >= before.saturating_add(GOOD_PROGRESS) {
                1
            } else {
                failures + 1
            };
            if failures >= self.options.attempts || Instant::now() >= deadline {
                return Err(Error::Unreachable {
                    attempts: failures,
                    reason,
                });
            }
            let wait = retry_after.unwrap_or_else(|| backoff(self.options, failures));
            warn!(
                key = self.request.key,
                reason,
                failures,
                bytes = now,
                ?wait,
                "a download broke off"
            );
            tokio::select! {
                () = self.cancel.cancelled() => return Err(Error::Cancelled),
                () = sleep(wait) => {}
            }
        }
    }

    /// One request and its body.
    async fn attempt(&self, url: &Url, part: &Arc<Mutex<Part>>, deadline: Instant) -> Result<(), Failure> {
        let (offset, before) = {
            let part = lock(part);
            (part.len(), part.version.clone())
        };
        if offset > 0 && before.total == Some(offset) {
            return Ok(());
        }
        // Without a validator only a checksum can tell whether the halves fit.
        let offset = if before.validator().is_some() || self.request.sha256.is_some() {
            offset
        } else {
            0
        };
        let mut answer = tokio::select! {
            () = self.cancel.cancelled() => return Err(Error::Cancelled.into()),
            answer = self.http.get(url, offset, &before, self.patience(deadline)) => answer?,
        };
        let version = answer.version.clone();
        at_most("the file", version.total.unwrap_or_default(), self.max_size())?;
        self.check_space(version.total.unwrap_or_default().saturating_sub(answer.offset))?;
        let restart = answer.offset == 0;
        self.on_disk(part, {
            let version = version.clone();
            move |part| {
                if restart && part.len() > 0 {
                    part.restart()?;
                }
                part.describe(version)
            }
        })
        .await?;
        self.report(Phase::Downloading, answer.offset, version.total);
        loop {
            let chunk = tokio::select! {
                () = self.cancel.cancelled() => return Err(Error::Cancelled.into()),
                chunk = timeout_at(self.patience(deadline), answer.response.chunk()) => chunk,
            };
            let chunk = chunk
                .map_err(|_| Failure::transient("the server stopped sending"))?
                .map_err(|error| super::http::failure(&error))?;
            let Some(chunk) = chunk else { break };
            let full = {
                let mut part = lock(part);
                part.push(&chunk);
                at_most("the file", part.len(), self.max_size())?;
                part.is_full()
            };
            if full {
                self.take_in(part, &version).await?;
            }
        }
        self.take_in(part, &version).await?;
        let len = lock(part).len();
        match version.total {
            Some(total) if total != len => Err(Failure::transient(format!("{len} of {total} bytes came"))),
            _ => Ok(()),
        }
    }

    /// Copies a file of the node's store directory.
    pub(super) async fn copy(&self, path: &Path) -> Result<Fetched, Error> {
        let Some(root) = self.options.store.clone() else {
            let reason = "this node has no store directory";
            return Err(Error::InvalidPath {
                path: path.to_owned(),
                reason,
            });
        };
        let relative = path.to_owned();
        let source = blocking("opening a file of the store", move || open_beneath(&root, &relative)).await??;
        let total = source
            .metadata()
            .map_err(Error::io("reading a file of the store"))?
            .len();
        at_most("the file", total, self.max_size())?;
        self.check_space(total)?;
        let part = self.open_part(false).await?;
        self.on_disk(&part, Part::restart).await?;
        let source = Arc::new(source);
        let version = Version {
            total: Some(total),
            ..Version::default()
        };
        let copied = async {
            loop {
                if self.cancel.is_cancelled() {
                    return Err(Error::Cancelled);
                }
                let from = Arc::clone(&source);
                let came = self
                    .on_disk(&part, move |part| {
                        let mut piece = vec![0; PIECE];
                        let came = (&*from).read(&mut piece)?;
                        part.push(&piece[..came]);
                        Ok(came)
                    })
                    .await?;
                if came == 0 {
                    return self.check_digest(&part);
                }
                at_most("the file", lock(&part).len(), self.max_size())?;
                self.take_in(&part, &version).await?;
            }
        };
        match copied.await {
            Ok(digest) => Ok(Fetched { part, digest }),
            Err(error) => {
                self.on_disk(&part, |part| part.discard()).await?;
                Err(error)
            }
        }
    }

    /// Writes what came, and looks at the first piece: the wrong thing need not be fetched to its end.
    async fn take_in(&self, part: &Arc<Mutex<Part>>, version: &Version) -> Result<(), Error> {
        let foreign = lock(part).head().and_then(inspect::refuse_early);
        if let Some(foreign) = foreign {
            return Err(foreign.into());
        }
        let before = lock(part).flushed();
        self.on_disk(part, Part::flush).await?;
        let now = lock(part).len();
        if now / SPACE_CHECK > before / SPACE_CHECK {
            self.check_space(version.total.unwrap_or_default().saturating_sub(now))?;
        }
        self.report(Phase::Downloading, now, version.total);
        Ok(())
    }

    fn check_digest(&self, part: &Mutex<Part>) -> Result<Digest, Error> {
        let actual = lock(part).digest();
        match self.request.sha256 {
            Some(expected) if expected != actual => Err(Error::ChecksumMismatch { expected, actual }),
            _ => Ok(actual),
        }
    }

    fn check_space(&self, needed: u64) -> Result<(), Error> {
        let free = free_space(self.directory)?;
        let reserve = self.options.min_free;
        if free < needed.saturating_add(reserve) {
            Err(Error::NoSpace { needed, free, reserve })
        } else {
            Ok(())
        }
    }

    /// Until when the next byte must come.
    fn patience(&self, deadline: Instant) -> Instant {
        deadline.min(Instant::now() + self.options.stall_timeout)
    }

    fn report(&self, phase: Phase, bytes: u64, total: Option<u64>) {
        self.progress.send_replace(Progress { phase, bytes, total });
    }

    async fn open_part(&self, checksummed: bool) -> Result<Arc<Mutex<Part>>, Error> {
        let (directory, key, origin) = (
            self.directory.to_owned(),
            self.request.key.clone(),
            self.request.origin(),
        );
        let part = blocking("opening the part", move || {
            Part::open(&directory, &key, origin, checksummed)
        })
        .await?;
        part.map(|part| Arc::new(Mutex::new(part)))
            .map_err(|error| self.disk_error(error))
    }

    /// Does something with the part on a thread that may block.
    async fn on_disk<T: Send + 'static>(
        &self,
        part: &Arc<Mutex<Part>>,
        work: impl FnOnce(&mut Part) -> io::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let part = Arc::clone(part);
        blocking("writing the part", move || work(&mut lock(&part)))
            .await?
            .map_err(|error| self.disk_error(error))
    }

    fn disk_error(&self, error: io::Error) -> Error {
        if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            let free = free_space(self.directory).unwrap_or_default();
            Error::NoSpace {
                needed: 0,
                free,
                reserve: self.options.min_free,
            }
        } else {
            Error::io(format!("writing the part of {}", self.request.key))(error)
        }
    }
}

/// Doubles with each failure, with up to half of it at random so that nodes don't come back together.
fn backoff(options: &Options, failures: u32) -> Duration {
    let doubled = options
        .backoff
        .saturating_mul(1 << failures.saturating_sub(1).min(16))
        .min(options.max_backoff);
    doubled.mul_f64(0.5 + fastrand::f64() / 2.0)
}

/// Free bytes for unprivileged users in the file system of `directory`.
pub(super) fn free_space(directory: &Path) -> Result<u64, Error> {
    let space = rustix::fs::statvfs(directory)
        .map_err(|error| Error::io(format!("reading the free space of {}", directory.display()))(error.into()))?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

/// Opens a regular file below `root`. Links may be followed inside, never to the outside.
///
/// Links are resolved first, then the plain path is walked without following any: one that appears in between is an
/// error, not a way out.
fn open_beneath(root: &Path, relative: &Path) -> Result<File, Error> {
    let invalid = |reason| Error::InvalidPath {
        path: relative.to_owned(),
        reason,
    };
    let missing = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Error::NoSuchFile(relative.to_owned()),
        _ => Error::io(format!("opening the store's file {}", relative.display()))(error),
    };
    let root = root
        .canonicalize()
        .map_err(Error::io(format!("opening the store directory {}", root.display())))?;
    let resolved = root.join(relative).canonicalize().map_err(missing)?;
    let inside: PathBuf = resolved
        .strip_prefix(&root)
        .map_err(|_| invalid("it leads out of the store directory"))?
        .to_owned();
    let mut names: Vec<_> = inside.components().collect();
    let Some(name) = names.pop() else {
        return Err(invalid("it is a directory"));
    };
    let mut directory = File::open(&root).map_err(missing)?;
    for name in names {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
        directory = openat(&directory, name.as_os_str(), flags, Mode::empty())
            .map_err(|error| missing(error.into()))?
            .into();
    }
    // Without NONBLOCK, opening a named pipe would wait for its writer.
    let flags = OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file: File = openat(&directory, name.as_os_str(), flags, Mode::empty())
        .map_err(|error| missing(error.into()))?
        .into();
    if file.metadata().map_err(missing)?.is_file() {
        Ok(file)
    } else {
        Err(invalid("it is no regular file"))
    }
}

/// Runs `work` on a thread that may block.
pub(super) async fn blocking<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|stopped| Error::io(doing)(io::Error::other(stopped)))
}

/// Locks, also after a panic of somebody who held the lock: the state is checked against the disk anyway.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
