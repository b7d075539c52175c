//! What does this host give up, and to whom?
//!
//! Nothing but what is offered here. A request names an offer or a digest; both are looked up in memory, so no text from
//! the wire ever becomes a path. An offer is for one node, shown with a token, until a time; it is in a ledger on disk,
//! so it outlives the process. What is published by digest is for every node of the cloud, and is in memory only.

mod granted;
mod ledger;
mod version;

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use tokio::sync::{Semaphore, watch};
use virga_images::Digest;

use granted::Hash;
pub(crate) use granted::{Granted, Key};
use ledger::{Ledger, Record};
use version::Version;

use crate::{
    handover::{Asked, Refused, Source},
    name::{NoRandomness, NodeName, OfferId, Token},
};

/// How many offers there may be at once, and as many digests.
pub const MAX_OFFERS: usize = 4096;
/// How many files are hashed at once.
const MAX_HASHING: usize = 2;

/// Why an offer can't be made or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file, or the ledger, can't be read or written.
    #[error("{doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: io::Error,
    },
    /// There are [`MAX_OFFERS`] already.
    #[error("there are {MAX_OFFERS} offers; forget those that are over")]
    TooMany,
    /// Nothing is offered under this name.
    #[error("there is no offer {0}")]
    NoSuchOffer(OfferId),
    /// The name is taken by an offer of another file, or for another node, or of another kind.
    #[error("the offer {0} is of another file or for another node")]
    Taken(OfferId),
    /// The file is not the one that was offered.
    #[error("{} changed after it was offered", .0.display())]
    Changed(PathBuf),
    /// The state does not allow it.
    #[error("the offer {id} can't be changed")]
    Refused {
        /// Which.
        id: OfferId,
        /// Why.
        #[source]
        source: Refused,
    },
    /// An offer that is not over can't be forgotten.
    #[error("the offer {0} is not over: neither let go of nor taken back")]
    NotOver(OfferId),
    /// There is no token.
    #[error("making a token")]
    Token(#[from] NoRandomness),
    /// A blocking task did not come to its end.
    #[error("a task that changes the ledger broke off")]
    BrokeOff,
}

impl Error {
    fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source }
    }
}

/// Where the time is from. Any `Fn() -> Timestamp`.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What is to be offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Its name, chosen by the caller; the same name again renews the offer, with a new token and end.
    pub id: OfferId,
    /// The file. It must not change while it is offered: no guest may have it open for writing.
    pub path: PathBuf,
    /// The only node that may have it.
    pub receiver: NodeName,
    /// Until when.
    pub expires: Timestamp,
    /// Whether the receiver is to become the owner, or gets a copy.
    pub handover: bool,
}

/// All that this host offers. Cheap to clone.
#[derive(Clone)]
pub struct Offers(Arc<Shared>);

pub(crate) struct Shared {
    ledger: Ledger,
    now: Now,
    /// Held while a state is decided and written, so that all decisions are one after the other. On blocking threads only.
    writing: Mutex<()>,
    /// Held for moments.
    table: Mutex<Table>,
    changes: watch::Sender<u64>,
    hashing: Arc<Semaphore>,
}

#[derive(Default)]
struct Table {
    offers: HashMap<OfferId, Entry>,
    published: HashMap<Digest, (PathBuf, Version)>,
}

#[derive(Clone)]
struct Entry {
    record: Record,
    /// The digest of its content, computed once for each version.
    hash: Arc<Hash>,
}

impl Entry {
    fn new(record: Record) -> Self {
        let hash = Arc::default();
        Self { record, hash }
    }
}

impl std::fmt::Debug for Offers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Offers").field(&self.0.ledger).finish_non_exhaustive()
    }
}

impl Offers {
    /// Opens the ledger in this directory, which is made if it is not there. Blocks.
    pub fn open(ledger: &Path, now: Now) -> Result<Self, Error> {
        let (ledger, records) = Ledger::open(ledger)?;
        let offers = records
            .into_iter()
            .map(|record| (record.id.clone(), Entry::new(record)));
        let table = Table {
            offers: offers.collect(),
            published: HashMap::new(),
        };
        Ok(Self(Arc::new(Shared {
            ledger,
            now,
            writing: Mutex::new(()),
            table: Mutex::new(table),
            changes: watch::Sender::new(0),
            hashing: Arc::new(Semaphore::new(MAX_HASHING)),
        })))
    }

    /// Offers a file, or renews the offer. The token is for the receiver, and is not kept; the one before is worth
    /// nothing any more. Returns when the offer is durable.
    pub async fn offer(&self, offer: Offer) -> Result<Token, Error> {
        self.deciding(move |shared| shared.offer(offer)).await
    }

    /// Publishes a file under its digest, for all nodes. The caller knows that it has this digest; receivers check it.
    pub async fn publish(&self, digest: Digest, path: PathBuf) -> Result<(), Error> {
        self.deciding(move |shared| {
            let version = current(&path)?;
            let mut table = shared.table();
            if table.published.len() >= MAX_OFFERS && !table.published.contains_key(&digest) {
                return Err(Error::TooMany);
            }
            table.published.insert(digest, (path, version));
            Ok(())
        })
        .await
    }

    /// Takes a published file back. Transfers of it end.
    pub fn unpublish(&self, digest: &Digest) {
        self.0.table().published.remove(digest);
    }

    /// Takes an offer back. Transfers of it end. When this returns without an error, the source owns the file for good.
    ///
    /// An offer that was let go of can't be taken back.
    pub async fn revoke(&self, id: &OfferId) -> Result<(), Error> {
        let id = id.clone();
        self.deciding(move |shared| {
            let entry = shared.entry(&id).ok_or_else(|| Error::NoSuchOffer(id.clone()))?;
            let next = entry.record.source.after(Asked::Revoke, None);
            let next = next.map_err(|source| Error::Refused { id, source })?;
            let hash = Arc::clone(&entry.hash);
            shared.write(entry, next)?;
            hash.stop();
            Ok(())
        })
        .await
    }

    /// Removes an offer that is over from the ledger: one that was let go of or taken back, and of which the receiver
    /// has said that it knows. A receiver that asks later hears that there is no such offer, and waits.
    pub async fn forget(&self, id: &OfferId) -> Result<(), Error> {
        let id = id.clone();
        self.deciding(move |shared| {
            match shared.entry(&id).map(|entry| entry.record.source) {
                None => return Ok(()),
                Some(Source::LetGo { .. } | Source::Revoked) => {}
                Some(_) => return Err(Error::NotOver(id)),
            }
            shared.ledger.remove(&id)?;
            shared.table().offers.remove(&id);
            shared.changes.send_modify(|count| *count += 1);
            Ok(())
        })
        .await
    }

    /// The state of an offer, as it is on disk. While there is one, the guest must not be started here without
    /// [`Self::revoke`]; after [`Source::LetGo`], never.
    pub fn state(&self, id: &OfferId) -> Option<Source> {
        Some(self.0.entry(id)?.record.source)
    }

    /// All offers.
    pub fn list(&self) -> Vec<(OfferId, Source)> {
        let table = self.0.table();
        let states = table.offers.iter().map(|(id, entry)| (id.clone(), entry.record.source));
        states.collect()
    }

    /// Counts changes of states.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.0)
    }

    async fn deciding<T: Send + 'static>(
        &self,
        decide: impl FnOnce(&Shared) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let shared = Arc::clone(&self.0);
        let decided = tokio::task::spawn_blocking(move || {
            let _one_at_a_time = shared.writing.lock().unwrap_or_else(PoisonError::into_inner);
            decide(&shared)
        });
        decided.await.unwrap_or(Err(Error::BrokeOff))
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry(&self, id: &OfferId) -> Option<Entry> {
        self.table().offers.get(id).cloned()
    }

    fn offer(&self, offer: Offer) -> Result<Token, Error> {
        let Offer {
            id,
            path,
            receiver,
            expires,
            handover,
        } = offer;
        let token = Token::random()?;
        let entry = match self.entry(&id) {
            Some(entry) => {
                let Record { source, version, .. } = entry.record;
                if (&entry.record.path, &entry.record.receiver, entry.record.handover) != (&path, &receiver, handover) {
                    return Err(Error::Taken(id));
                }
                if let Source::Revoked = source {
                    let source = Refused::Revoked;
                    return Err(Error::Refused { id, source });
                }
                // After it was let go of the file may be gone, and the receiver may still want its answer.
                if source.owns() && current(&path)? != version {
                    return Err(Error::Changed(path));
                }
                Entry {
                    record: Record {
                        token: token.digest(),
                        expires,
                        ..entry.record
                    },
                    ..entry
                }
            }
            None if self.table().offers.len() >= MAX_OFFERS => return Err(Error::TooMany),
            None => Entry::new(Record {
                version: current(&path)?,
                id,
                path,
                receiver,
                token: token.digest(),
                expires,
                handover,
                source: Source::Offered,
            }),
        };
        let source = entry.record.source;
        self.write(entry, source)?;
        Ok(token)
    }

    /// Writes an entry with its next state, to disk first. Only while `writing` is held.
    fn write(&self, mut entry: Entry, next: Source) -> Result<(), Error> {
        entry.record.source = next;
        self.ledger.write(&entry.record)?;
        self.table().offers.insert(entry.record.id.clone(), entry);
        self.changes.send_modify(|count| *count += 1);
        Ok(())
    }
}

fn current(path: &Path) -> Result<Version, Error> {
    let file = version::open(path).map_err(Error::io("opening", path))?;
    let metadata = file.metadata().map_err(Error::io("reading", path))?;
    Ok(Version::of(&metadata))
}
