//! One transfer: from nothing, or from what an earlier attempt left, to a verified file.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering};

use http_body_util::BodyExt as _;
use tokio::time::{Instant, interval, sleep, timeout_at};
use virga_images::{Digest, durable};

use super::{
    Client, Error, Phase, Request, What,
    connection::Connection,
    error::Failure,
    free_space,
    journal::Record,
    partial::{Begun, Partial, Verified},
    progress::Meter,
};
use crate::{
    content::Hashing,
    extents::Extent,
    wire::{Code, Manifest},
};

/// Bytes are gathered to this much before they are written.
const PIECE: usize = 1024 * 1024;
/// So much must come within the time for a stall, or the source is too slow to wait for.
const STEP: usize = 64 * 1024;
/// An attempt that brought this much was a good one: the count of failures starts again.
const GOOD_PROGRESS: u64 = 1024 * 1024;

/// A transfer under way.
pub(super) struct Fetch<'a> {
    pub(super) client: &'a Client,
    pub(super) request: &'a Request,
    pub(super) meter: Meter<'a>,
    pub(super) deadline: Instant,
    last_checkpoint: Instant,
}

/// The file, before and after the source has said what it is.
enum Held {
    Begun(Box<Begun>),
    Partial(Arc<Mutex<Partial>>),
    /// While it is with a blocking task, which did not give it back.
    Lost,
}

/// Ends the hashing when the transfer is dropped.
struct StopOnDrop(Arc<Hashing>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

impl<'a> Fetch<'a> {
    pub(super) fn new(client: &'a Client, request: &'a Request, meter: Meter<'a>, deadline: Instant) -> Self {
        Self {
            client,
            request,
            meter,
            deadline,
            last_checkpoint: Instant::now(),
        }
    }

    /// Brings all bytes here, and proves that they are the source's.
    pub(super) async fn run(mut self, begun: Begun) -> Result<Verified, Error> {
        let mut held = Held::Begun(Box::new(begun));
        let mut failures = 0;
        // Ends: an attempt brings GOOD_PROGRESS of a bounded number of bytes or counts as a failure, and the deadline
        // ends what a source could still stretch.
        let partial = loop {
            let before = held.done();
            let reason = match self.attempt(&mut held).await {
                Ok(partial) => break partial,
                Err(Failure::Final(error)) => {
                    self.keep(&held).await?;
                    return Err(error);
                }
                Err(Failure::Transient(reason)) => reason,
            };
            let good = held.done() >= before.saturating_add(GOOD_PROGRESS);
            failures = if good { 1 } else { failures + 1 };
            if let Err(error) = self
                .client
                .again(&self.request.source, failures, reason, self.deadline)
                .await
            {
                self.keep(&held).await?;
                return Err(error);
            }
        };
        let actual = self.hash(&partial).await?;
        let expected = match &self.request.source.what {
            What::Digest(digest) => *digest,
            What::Offer { .. } => self.client.sources_digest(&self.request.source, self.deadline).await?,
        };
        if expected != actual {
            on_disk(&partial, Partial::discard).await?;
            return Err(Error::DigestMismatch { expected, actual });
        }
        drop(held);
        let partial = Arc::into_inner(partial).ok_or(Error::BrokeOff)?;
        let partial = partial.into_inner().unwrap_or_else(PoisonError::into_inner);
        super::blocking(move || partial.verified(actual)).await
    }

    /// One connection.
    async fn attempt(&mut self, held: &mut Held) -> Result<Arc<Mutex<Partial>>, Failure> {
        let mut connection = Connection::open(self.client, &self.request.source, self.deadline).await?;
        let manifest = connection.manifest().await?;
        let partial = self.open(held, &connection, &manifest).await?;
        let (mut from, done) = {
            let partial = lock(&partial);
            (partial.position(), partial.done())
        };
        self.meter.begin(Phase::Transferring, done, manifest.allocated);
        let length = manifest.length;
        while from < length {
            let page = connection.extents(from, length).await?;
            if page.next.is_none() {
                // All that is to come is known now.
                let rest: u64 = page.extents.iter().map(|extent| extent.len).sum();
                let done = lock(&partial).done();
                self.meter.total(done.saturating_add(rest));
            }
            for extent in page.extents {
                self.extent(&mut connection, &partial, extent, &manifest).await?;
            }
            match page.next {
                Some(next) => from = next,
                None => break,
            }
        }
        let end = |partial: &mut Partial| {
            partial.end();
            partial.checkpoint()
        };
        on_disk(&partial, end).await?;
        Ok(partial)
    }

    /// The partial file for what the source has.
    async fn open(
        &self,
        held: &mut Held,
        connection: &Connection,
        manifest: &Manifest,
    ) -> Result<Arc<Mutex<Partial>>, Failure> {
        let (source, limit) = (&self.request.source, self.request.max_length);
        if manifest.length > limit {
            let length = manifest.length;
            return Err(Error::TooLarge { length, limit }.into());
        }
        let is_offer = match &source.what {
            What::Offer { .. } => true,
            What::Digest(digest) if manifest.version == digest.to_string() => false,
            What::Digest(_) => return Err(connection.broken("it has another file under this digest")),
        };
        if manifest.handover && !is_offer {
            return Err(connection.broken("it hands over what is only copied"));
        }
        let wanted = Record::new(
            source.what(),
            manifest.version.clone(),
            manifest.length,
            manifest.handover,
        );
        match std::mem::replace(held, Held::Lost) {
            Held::Lost => Err(Error::BrokeOff.into()),
            Held::Partial(partial) => {
                let same = {
                    let partial = lock(&partial);
                    let record = partial.record();
                    (&record.version, record.length) == (&wanted.version, wanted.length)
                };
                *held = Held::Partial(Arc::clone(&partial));
                if same {
                    Ok(partial)
                } else {
                    let (node, code) = (source.node.clone(), Code::Changed);
                    Err(Error::Refused { node, code }.into())
                }
            }
            Held::Begun(begun) => {
                let needed = manifest.allocated.saturating_sub(begun.durable(&wanted));
                if let Err(error) = self.check_space(needed) {
                    *held = Held::Begun(begun);
                    return Err(error.into());
                }
                let partial = super::blocking(move || begun.open(wanted)).await?;
                let partial = Arc::new(Mutex::new(partial));
                *held = Held::Partial(Arc::clone(&partial));
                Ok(partial)
            }
        }
    }

    fn check_space(&self, needed: u64) -> Result<(), Error> {
        let path = &self.request.destination;
        let directory = durable::parent(path).map_err(Error::io("receiving", path))?;
        let free = free_space(directory).map_err(Error::io("reading the free space of", directory))?;
        let reserve = self.client.options.min_free;
        if free < needed.saturating_add(reserve) {
            return Err(Error::NoSpace { needed, free, reserve });
        }
        Ok(())
    }

    /// The bytes of one extent: bounded by what was asked for, by time, and by our own bandwidth.
    async fn extent(
        &mut self,
        connection: &mut Connection,
        partial: &Arc<Mutex<Partial>>,
        extent: Extent,
        manifest: &Manifest,
    ) -> Result<(), Failure> {
        let mut body = connection.data(extent, &manifest.version, manifest.length).await?;
        let stall = self.client.options.stall;
        let mut at = extent.start;
        let mut left = extent.len;
        let mut gathered = Vec::new();
        let (mut due, mut step) = (Instant::now() + stall, 0);
        loop {
            let frame = timeout_at(due.min(self.deadline), body.frame()).await;
            let frame = match frame {
                Err(_) if Instant::now() >= self.deadline => return Err(Error::TookTooLong.into()),
                Err(_) => return Err(Failure::Transient("the source sends too slowly".to_owned())),
                Ok(None) => break,
                Ok(Some(frame)) => frame.map_err(|error| Failure::transient(&error))?,
            };
            let Ok(data) = frame.into_data() else { continue };
            let Some(rest) = left.checked_sub(data.len() as u64) else {
                return Err(connection.broken("it sends more than it was asked for"));
            };
            left = rest;
            step += data.len();
            gathered.extend_from_slice(&data);
            let ours = Instant::now();
            self.client.bandwidth.take(data.len()).await;
            if gathered.len() >= PIECE {
                (at, gathered) = self.write(partial, at, gathered).await?;
            }
            // Our own waiting is not the source's fault.
            due = if step >= STEP {
                Instant::now() + stall
            } else {
                due + ours.elapsed()
            };
            step %= STEP;
        }
        self.write(partial, at, gathered).await?;
        if left > 0 {
            return Err(Failure::Transient(format!(
                "{left} of {} bytes did not come",
                extent.len
            )));
        }
        Ok(())
    }

    /// Writes what has come, makes it durable when it is time for that, and gives the buffer back.
    async fn write(
        &mut self,
        partial: &Arc<Mutex<Partial>>,
        at: u64,
        gathered: Vec<u8>,
    ) -> Result<(u64, Vec<u8>), Error> {
        let next = at + gathered.len() as u64;
        let is_time = self.last_checkpoint.elapsed() >= self.client.options.checkpoint_every;
        let enough = self.client.options.checkpoint_bytes;
        let (synced, done, mut gathered) = on_disk(partial, move |partial| {
            partial.write(at, &gathered)?;
            let sync = is_time || partial.unsynced() >= enough;
            if sync {
                partial.checkpoint()?;
            }
            Ok((sync, partial.done(), gathered))
        })
        .await?;
        if synced {
            self.last_checkpoint = Instant::now();
        }
        self.meter.done(done);
        gathered.clear();
        Ok((next, gathered))
    }

    /// Makes durable what is here, for the next attempt.
    async fn keep(&self, held: &Held) -> Result<(), Error> {
        if let Held::Partial(partial) = held {
            on_disk(partial, Partial::checkpoint).await?;
        }
        Ok(())
    }

    /// The digest of what is on this disk.
    async fn hash(&mut self, partial: &Arc<Mutex<Partial>>) -> Result<Digest, Error> {
        let length = lock(partial).record().length;
        self.meter.begin(Phase::Verifying, 0, length);
        let hashing = Arc::new(Hashing::default());
        let _stop = StopOnDrop(Arc::clone(&hashing));
        let work = on_disk(partial, {
            let hashing = Arc::clone(&hashing);
            move |partial| partial.digest(&hashing)
        });
        tokio::pin!(work);
        let mut ticks = interval(self.client.options.poll);
        loop {
            tokio::select! {
                digest = &mut work => {
                    self.meter.done(length);
                    return digest;
                }
                () = sleep(self.deadline.saturating_duration_since(Instant::now())) => return Err(Error::TookTooLong),
                _ = ticks.tick() => self.meter.done(hashing.done.load(Ordering::Relaxed)),
            }
        }
    }
}

impl Held {
    fn done(&self) -> u64 {
        match self {
            Self::Partial(partial) => lock(partial).done(),
            Self::Begun(_) | Self::Lost => 0,
        }
    }
}

fn lock(partial: &Mutex<Partial>) -> MutexGuard<'_, Partial> {
    partial.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does something with the file on a thread that may block.
async fn on_disk<T: Send + 'static>(
    partial: &Arc<Mutex<Partial>>,
    work: impl FnOnce(&mut Partial) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let partial = Arc::clone(partial);
    super::blocking(move || work(&mut lock(&partial))).await
}
