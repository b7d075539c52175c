//! The node's image cache: verified images by their SHA-256 digest, fetched once however many ask.
//!
//! The directory is the only state. Images are `sha256-<hex>.<format>`, read only, each with a small JSON file beside
//! it; an unfinished download is `<key>.part`. Everything is found again at [`Cache::open`], and a download that a
//! crash or a restart broke off goes on where it stopped.
//!
//! What has a name in the cache was hashed while it arrived, compared with the checksum if there is one, inspected
//! ([`crate::inspect`]) and synced to disk, in this order and before it got the name.
//!
//! ```no_run
//! # async fn example() -> Result<(), virga_images::cache::Error> {
//! use virga_images::cache::{Cache, Limits, Options, Request, Source};
//!
//! let cache = Cache::open("/var/lib/virga/images", Options::new(50 << 30, 5 << 30)).await?;
//! let fetch = cache.ensure(Request {
//!     key: "0b0ab6bc-5d1c-4a8e-9f5b-6f2a1f0f8a51".to_owned(),
//!     source: Source::Http { url: "https://example.org/debian-13.qcow2".to_owned() },
//!     sha256: None,
//!     format: None,
//!     limits: Limits::default(),
//! });
//! println!("{:?} percent", fetch.progress().percent());
//! let entry = fetch.await?;
//! println!("{} is {}", entry.digest, entry.path.display());
//! # Ok(())
//! # }
//! ```

mod adopt;
mod error;
mod fetch;
mod http;
mod index;
mod made;
mod options;
mod part;
mod progress;
mod request;

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File, Permissions, TryLockError},
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use sha2::{Digest as _, Sha256};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tracing::info;

pub use adopt::Adoption;
pub use error::{Class, Error};
pub use index::Entry;
pub use made::allocated;
pub use options::Options;
pub use progress::{Fetch, Phase, Progress};
pub use request::{Limits, Request, Source};

use crate::{Digest, inspect};
use fetch::{Fetched, Fetcher, blocking, lock};
use http::Http;
use index::Index;
use request::CheckedSource;

/// How many fetches may be under way or wait for their turn.
const MAX_FETCHES: usize = 256;

/// What eviction did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evicted {
    /// Which images are gone.
    pub digests: Vec<Digest>,
    /// How many bytes that freed.
    pub bytes: u64,
}

/// The image cache of one node. Clones share it; when the last is dropped, its fetches stop.
#[derive(Clone, Debug)]
pub struct Cache {
    shared: Arc<Shared>,
    /// Cancelled with the last clone, though fetches still hold `shared`.
    stop: Arc<Stop>,
}

#[derive(Debug)]
struct Stop(CancellationToken);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

#[derive(Debug)]
struct Shared {
    directory: PathBuf,
    options: Options,
    http: Http,
    index: Mutex<Index>,
    fetches: Mutex<HashMap<String, Running>>,
    slots: Semaphore,
    next_id: AtomicU64,
    /// Held as long as the cache is open.
    lock: File,
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Closing the file is not enough: a child that is just being made has a copy until it begins its program.
        let _ = self.lock.unlock();
    }
}

#[derive(Debug)]
struct Running {
    id: u64,
    request: Request,
    fetch: Fetch,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl Cache {
    /// Opens the cache in `directory`, which is made if it is missing, and finds what is in it.
    ///
    /// One process at a time; a second gets [`Error::Locked`]. The process must have installed a TLS provider.
    pub async fn open(directory: impl Into<PathBuf>, options: Options) -> Result<Self, Error> {
        let http = Http::new(&options)?;
        let directory = directory.into();
        let shared = blocking("opening the image cache", move || {
            let doing = format!("opening the image cache {}", directory.display());
            fs::create_dir_all(&directory).map_err(Error::io(&doing))?;
            let lock = File::create(directory.join(".lock")).map_err(Error::io(&doing))?;
            match lock.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(Error::Locked(directory)),
                Err(TryLockError::Error(error)) => return Err(Error::io(&doing)(error)),
            }
            let index = Index::open(&directory).map_err(Error::io(&doing))?;
            Ok(Shared {
                index: Mutex::new(index),
                fetches: Mutex::default(),
                slots: Semaphore::new(options.concurrency.max(1)),
                next_id: AtomicU64::new(0),
                lock,
                directory,
                options,
                http,
            })
        })
        .await??;
        Ok(Self {
            shared: Arc::new(shared),
            stop: Arc::new(Stop(CancellationToken::new())),
        })
    }

    /// Sees to it that the image is in the cache. Must be called inside a tokio runtime.
    ///
    /// Returns at once. All who ask with the same request share one fetch; a request with the same key and another
    /// content replaces the one before, which ends with [`Error::Cancelled`]. A fetch that failed is not remembered:
    /// the next call tries again.
    pub fn ensure(&self, request: Request) -> Fetch {
        let source = match request.check() {
            Ok(source) => source,
            Err(error) => return Fetch::ended(Err(error)),
        };
        let mut fetches = lock(&self.shared.fetches);
        if let Some(running) = fetches.get(&request.key).filter(|running| running.request == request) {
            return running.fetch.clone();
        }
        if fetches.len() >= MAX_FETCHES && !fetches.contains_key(&request.key) {
            return Fetch::ended(Err(Error::Busy(MAX_FETCHES)));
        }
        let previous = fetches.remove(&request.key);
        let id = self.shared.next_id.fetch_add(1, Ordering::Relaxed);
        let (progress, progress_seen) = watch::channel(Progress {
            phase: Phase::Queued,
            bytes: 0,
            total: None,
        });
        let (outcome, outcome_seen) = watch::channel(None);
        let fetch = Fetch {
            progress: progress_seen,
            outcome: outcome_seen,
        };
        let cancel = self.stop.0.child_token();
        let task = tokio::spawn({
            let (shared, request, cancel) = (Arc::clone(&self.shared), request.clone(), cancel.clone());
            async move {
                if let Some(previous) = previous {
                    // Two fetches must never write to one part.
                    previous.cancel.cancel();
                    let _ = previous.task.await;
                }
                let key = request.key.clone();
                let result = shared.fetch(request, source, &progress, &cancel).await;
                let mut fetches = lock(&shared.fetches);
                if fetches.get(&key).is_some_and(|running| running.id == id) {
                    fetches.remove(&key);
                }
                drop(fetches);
                progress.send_modify(|progress| progress.phase = Phase::Ended);
                outcome.send_replace(Some(result));
            }
        });
        fetches.insert(
            request.key.clone(),
            Running {
                id,
                request,
                fetch: fetch.clone(),
                cancel,
                task,
            },
        );
        fetch
    }

    /// The fetch under way for `key`, if there is one.
    pub fn under_way(&self, key: &str) -> Option<Fetch> {
        lock(&self.shared.fetches).get(key).map(|running| running.fetch.clone())
    }

    /// The image with this digest. Does not count as a use.
    pub fn get(&self, digest: Digest) -> Option<Entry> {
        lock(&self.shared.index).get(digest)
    }

    /// All images, by digest.
    pub fn entries(&self) -> Vec<Entry> {
        lock(&self.shared.index).entries()
    }

    /// How many bytes the images take. Unfinished downloads are not counted.
    pub fn used_bytes(&self) -> u64 {
        lock(&self.shared.index).used()
    }

    /// Removes images, least recently used first, until the cache takes at most `max_bytes` and `min_free` bytes are
    /// free.
    ///
    /// `pins` are the digests in use: every base of a disk on this node, and every image that an Instance bound to it
    /// names. They stay, and so do images used in the last `keep_recent`.
    pub async fn evict(&self, pins: HashSet<Digest>) -> Result<Evicted, Error> {
        let shared = Arc::clone(&self.shared);
        blocking("evicting images", move || {
            let options = &shared.options;
            let shortfall = options.min_free.saturating_sub(fetch::free_space(&shared.directory)?);
            let mut index = lock(&shared.index);
            let candidates = index.candidates();
            let now = SystemTime::now();
            let victims = index::victims(
                candidates,
                &pins,
                options.max_bytes,
                shortfall,
                now,
                options.keep_recent,
            );
            index.remove_all(&victims)
        })
        .await?
    }

    /// Reads an image again and compares it with its digest; [`Error::Damaged`] when the disk has lost bits. Nothing
    /// is removed: a guest may run on what is left.
    pub async fn verify(&self, digest: Digest) -> Result<(), Error> {
        let path = self.get(digest).ok_or(Error::NotCached(digest))?.path;
        let actual = blocking("verifying an image", move || digest_of(&path))
            .await?
            .map_err(Error::io(format!("verifying the image {digest}")))?;
        if actual == digest {
            Ok(())
        } else {
            Err(Error::Damaged {
                expected: digest,
                actual,
            })
        }
    }

    /// Removes an image, used or not. Fine when it is not there.
    pub async fn remove(&self, digest: Digest) -> Result<(), Error> {
        let shared = Arc::clone(&self.shared);
        blocking("removing an image", move || lock(&shared.index).remove(digest))
            .await?
            .map_err(Error::io(format!("removing the image {digest}")))
    }

    /// Stops the fetch of `key`, if there is one, and removes what it has fetched: the Image is gone.
    pub async fn discard(&self, key: &str) -> Result<(), Error> {
        let running = lock(&self.shared.fetches).get(key).map(|running| {
            running.cancel.cancel();
            running.fetch.clone()
        });
        if let Some(fetch) = running {
            // However it ended, it has let go of the part.
            let _ = fetch.wait().await;
        }
        self.remove_parts(vec![key.to_owned()]).await
    }

    /// Removes the unfinished downloads of keys that are not in `keys`: their Images were deleted while nobody looked.
    pub async fn discard_others(&self, keys: &HashSet<String>) -> Result<(), Error> {
        let directory = self.shared.directory.clone();
        let found = blocking("listing the parts", move || part::keys(&directory))
            .await?
            .map_err(Error::io("listing unfinished downloads"))?;
        let running: HashSet<_> = lock(&self.shared.fetches).keys().cloned().collect();
        let gone = found
            .into_iter()
            .filter(|key| !keys.contains(key) && !running.contains(key))
            .collect();
        self.remove_parts(gone).await
    }

    /// Stops all fetches and waits until they have let go of the disk. Parts stay, for the next process.
    pub async fn close(self) {
        self.stop.0.cancel();
        let tasks: Vec<_> = lock(&self.shared.fetches)
            .drain()
            .map(|(_, running)| running.task)
            .collect();
        for task in tasks {
            let _ = task.await;
        }
    }

    async fn remove_parts(&self, keys: Vec<String>) -> Result<(), Error> {
        let directory = self.shared.directory.clone();
        blocking("removing parts", move || {
            keys.iter().try_for_each(|key| part::discard_key(&directory, key))
        })
        .await?
        .map_err(Error::io("removing unfinished downloads"))
    }
}

impl Shared {
    async fn fetch(
        self: &Arc<Self>,
        request: Request,
        source: CheckedSource,
        progress: &watch::Sender<Progress>,
        cancel: &CancellationToken,
    ) -> Result<Entry, Error> {
        if let Some(entry) = self.hit(&request).await? {
            return Ok(entry);
        }
        let _slot = tokio::select! {
            () = cancel.cancelled() => return Err(Error::Cancelled),
            slot = self.slots.acquire() => slot.map_err(|_| Error::Cancelled)?,
        };
        // Another key may have brought the same content while this one waited.
        if let Some(entry) = self.hit(&request).await? {
            return Ok(entry);
        }
        let (directory, options, http) = (&self.directory, &self.options, &self.http);
        let job = Fetcher {
            directory,
            options,
            http,
            request: &request,
            progress,
            cancel,
        };
        let fetched = match source {
            CheckedSource::Http(url) => job.download(&url).await?,
            CheckedSource::Path(path) => job.copy(&path).await?,
        };
        progress.send_modify(|progress| progress.phase = Phase::Verifying);
        let shared = Arc::clone(self);
        let entry = blocking("admitting an image", move || shared.admit(&request, &fetched)).await??;
        info!(digest = %entry.digest, format = %entry.inspection.format, bytes = entry.inspection.size, "image cached");
        Ok(entry)
    }

    async fn hit(self: &Arc<Self>, request: &Request) -> Result<Option<Entry>, Error> {
        let (shared, request) = (Arc::clone(self), request.clone());
        blocking("looking into the cache", move || {
            lock(&shared.index).hit(&request, SystemTime::now())
        })
        .await?
    }

    /// Inspects a complete part and gives it its name. A part that is no good is removed.
    fn admit(&self, request: &Request, fetched: &Fetched) -> Result<Entry, Error> {
        let part = lock(&fetched.part);
        let admit = || {
            let inspection = inspect::inspect(&mut part.file(), request.format)?;
            request.accepts(&inspection)?;
            let sync = || {
                part.file().set_permissions(Permissions::from_mode(0o444))?;
                part.file().sync_all()?;
                let mut index = lock(&self.index);
                let origin = request.origin();
                let entry = index.admit(part.path(), fetched.digest, inspection, origin, SystemTime::now())?;
                part.forget()?;
                Ok(entry)
            };
            sync().map_err(Error::io(format!("storing the image {}", fetched.digest)))
        };
        admit().inspect_err(|error: &Error| {
            if error.spoils_the_part()
                && let Err(error) = part.discard()
            {
                tracing::warn!(%error, key = request.key, "removing a bad download failed");
            }
        })
    }
}

fn digest_of(path: &Path) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut piece = vec![0; part::PIECE];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(Digest::finish(hasher)),
            count => hasher.update(&piece[..count]),
        }
    }
}
