//! The receiving side: fetches a file from another node, goes on after any crash, verifies it, and takes it over.
//!
//! [`Client::receive`] may be dropped at any moment, and the process may die at any byte: the next call with the same
//! request goes on. When it returns the file has its name, is durable, and is what the source has. A file that is handed
//! over is not ours yet: [`Client::complete`] makes it so.

mod complete;
mod connection;
mod error;
mod fetch;
mod journal;
mod partial;
mod progress;

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, sleep},
};
use virga_images::Digest;

pub use error::Error;
pub use progress::{Phase, Progress};

use crate::{
    bandwidth::Bandwidth,
    handover::Receiver,
    name::{NodeName, OfferId, Token},
    tls::Credentials,
};
use connection::Connection;
use error::Failure;
use fetch::Fetch;
use partial::{Found, Paths, Verified};
use progress::Meter;

/// How often a lock is tried that a transfer which was just dropped may still hold.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many transfers run at once; more wait.
    pub max_transfers: usize,
    /// How long to wait for a connection.
    pub connect: Duration,
    /// How long to wait for an answer. Longer than servers take to work.
    pub answer: Duration,
    /// How long to wait for the next 64 KiB.
    pub stall: Duration,
    /// How long one call may take in all. What came is kept.
    pub deadline: Duration,
    /// How often in a row an attempt may fail without progress.
    pub attempts: u32,
    /// The wait after the first failure; it doubles with each.
    pub backoff: Duration,
    /// The longest wait.
    pub max_backoff: Duration,
    /// After this much data what came is made durable.
    pub checkpoint_bytes: u64,
    /// The same, by time.
    pub checkpoint_every: Duration,
    /// How long to wait for a lock that another transfer to the same name holds.
    pub lock: Duration,
    /// How often progress is looked at while hashing, and the source asked for its digest.
    pub poll: Duration,
    /// Bytes that must stay free in the file system.
    pub min_free: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_transfers: 2,
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(45),
            stall: Duration::from_secs(30),
            deadline: Duration::from_hours(24),
            attempts: 8,
            backoff: Duration::from_millis(500),
            max_backoff: Duration::from_secs(30),
            checkpoint_bytes: 64 * 1024 * 1024,
            checkpoint_every: Duration::from_secs(5),
            lock: Duration::from_secs(10),
            poll: Duration::from_millis(250),
            min_free: 1024 * 1024 * 1024,
        }
    }
}

/// What is received, and from whom.
#[derive(Clone, Debug)]
pub struct Source {
    /// Who has it. Its certificate must say so.
    pub node: NodeName,
    /// Where it listens.
    pub address: SocketAddr,
    /// What it is.
    pub what: What,
}

/// What is received.
#[derive(Clone, Debug)]
pub enum What {
    /// A file that was offered to this node.
    Offer {
        /// Its name.
        id: OfferId,
        /// What came with the offer.
        token: Token,
    },
    /// A file with this digest, which any node may have.
    Digest(Digest),
}

impl Source {
    /// For the journal: what is being received, without the token.
    fn what(&self) -> String {
        match &self.what {
            What::Offer { id, .. } => format!("offer {} of {}", id, self.node),
            What::Digest(digest) => format!("digest {digest}"),
        }
    }
}

/// One transfer.
#[derive(Clone, Debug)]
pub struct Request {
    /// From where.
    pub source: Source,
    /// The file that is to be. Its directory is there. Names beside it with `.partial` and `.transfer` are used.
    pub destination: PathBuf,
    /// The longest file that is taken, in bytes, holes included.
    pub max_length: u64,
}

/// A file that is here, durable, and what the source has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Where.
    pub path: PathBuf,
    /// In bytes, holes included.
    pub length: u64,
    /// Of the whole content.
    pub digest: Digest,
    /// Whether the source owns it still: then [`Client::complete`] comes next.
    pub handover: bool,
}

/// A file that is ours: the source has let go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned {
    /// Where.
    pub path: PathBuf,
}

/// Receives files. Cheap to clone; all clones share their places and their bandwidth.
#[derive(Clone, Debug)]
pub struct Client {
    credentials: Arc<Credentials>,
    bandwidth: Bandwidth,
    options: Arc<Options>,
    places: Arc<Semaphore>,
}

impl Client {
    /// A client of this node.
    pub fn new(credentials: Arc<Credentials>, bandwidth: Bandwidth, options: Options) -> Self {
        let places = Arc::new(Semaphore::new(options.max_transfers));
        let options = Arc::new(options);
        Self {
            credentials,
            bandwidth,
            options,
            places,
        }
    }

    /// Brings the file here, or finishes what an earlier call began. Safe to drop at any moment.
    pub async fn receive(&self, request: &Request, progress: &watch::Sender<Progress>) -> Result<Received, Error> {
        let mut meter = Meter::new(progress);
        let Ok(_place) = self.places.acquire().await else {
            return Err(Error::BrokeOff);
        };
        let deadline = Instant::now() + self.options.deadline;
        let (paths, what) = (Paths::of(&request.destination), request.source.what());
        let verified = match self
            .unless_under_way(move || partial::find(paths.clone(), &what))
            .await?
        {
            Found::Verified(verified) => verified,
            Found::Partial(begun) => {
                meter.begin(Phase::Transferring, 0, 0);
                Fetch::new(self, request, meter, deadline).run(begun).await?
            }
        };
        let received = blocking(move || received(verified)).await?;
        progress.send_modify(|progress| {
            progress.phase = Phase::Received;
            progress.total = progress.total.max(progress.done);
        });
        tracing::info!(source = %request.source.node, path = %received.path.display(), length = received.length,
            digest = %received.digest, "received a file");
        Ok(received)
    }

    /// Takes a received file over: tells the source that it is verified, and asks it to let go. Can be repeated after
    /// any failure, and when it was done already.
    ///
    /// When the source has taken the offer back, the file is removed here, and the error says so.
    pub async fn complete(&self, request: &Request) -> Result<Owned, Error> {
        complete::complete(self, request, Instant::now() + self.options.deadline).await
    }

    /// Removes what is here of a transfer. Refused for a file that was verified for a hand-over: the source may have let
    /// go of it, so [`Client::complete`] must tell.
    pub async fn abandon(&self, destination: &Path) -> Result<(), Error> {
        let paths = Paths::of(destination);
        self.unless_under_way(move || complete::abandon(&paths)).await
    }

    /// What the journal of a transfer to this name says; nothing when there is none: then a file of that name is ours.
    pub async fn state(&self, destination: &Path) -> Result<Option<Receiver>, Error> {
        let paths = Paths::of(destination);
        let state = move || {
            let journal = paths.journal(false)?;
            Ok(journal.map(|journal| journal.record().map_or(Receiver::Partial, |record| record.receiver)))
        };
        self.unless_under_way(state).await
    }

    /// Does something that needs the journal's lock, again and again until its holder, which may be a transfer that was
    /// just dropped, is done.
    async fn unless_under_way<T: Send + 'static>(
        &self,
        work: impl Fn() -> Result<T, Error> + Send + Sync + 'static,
    ) -> Result<T, Error> {
        let work = Arc::new(work);
        let until = Instant::now() + self.options.lock;
        loop {
            let work = Arc::clone(&work);
            match blocking(move || work()).await {
                Err(Error::UnderWay(_)) if Instant::now() < until => sleep(LOCK_PAUSE).await,
                done => return done,
            }
        }
    }

    /// Waits before the next attempt, or says that there is none.
    async fn again(&self, source: &Source, failures: u32, reason: String, deadline: Instant) -> Result<(), Error> {
        let node = &source.node;
        if Instant::now() >= deadline {
            return Err(Error::TookTooLong);
        }
        if failures >= self.options.attempts {
            return Err(Error::Unreachable {
                node: node.clone(),
                attempts: failures,
                reason,
            });
        }
        let doubled = self
            .options
            .backoff
            .saturating_mul(1 << failures.saturating_sub(1).min(16));
        let wait = doubled.min(self.options.max_backoff);
        tracing::warn!(%node, reason, failures, ?wait, "a transfer broke off");
        sleep(wait).await;
        Ok(())
    }

    /// The digest that the source has computed. It is asked again while it gets on.
    async fn sources_digest(&self, source: &Source, deadline: Instant) -> Result<Digest, Error> {
        let (mut failures, mut hashed) = (0, 0);
        loop {
            let asked = async {
                let mut connection = Connection::open(self, source, deadline).await?;
                loop {
                    let answer = connection.digest().await?;
                    if let Some(digest) = answer.digest {
                        return Ok(digest);
                    }
                    if answer.hashed <= hashed {
                        return Err(Failure::Transient("the source's hashing does not get on".to_owned()));
                    }
                    (hashed, failures) = (answer.hashed, 0);
                    sleep(self.options.poll).await;
                    if Instant::now() >= deadline {
                        return Err(Error::TookTooLong.into());
                    }
                }
            };
            match asked.await {
                Ok(digest) => return Ok(digest),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Transient(reason)) => {
                    failures += 1;
                    self.again(source, failures, reason, deadline).await?;
                }
            }
        }
    }
}

/// The end of a transfer. A copy needs no journal any more. Blocks.
fn received(verified: Verified) -> Result<Received, Error> {
    let received = Received {
        path: verified.paths.whole.clone(),
        length: verified.record.length,
        digest: verified.digest,
        handover: verified.record.handover,
    };
    if !received.handover {
        partial::remove_journal(&verified.paths, verified.journal)?;
    }
    Ok(received)
}

fn free_space(directory: &Path) -> io::Result<u64> {
    let space = rustix::fs::statvfs(directory)?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

/// Runs `work` on a thread that may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(Error::BrokeOff))
}
