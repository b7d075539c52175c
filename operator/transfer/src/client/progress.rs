//! How far is it, and how fast?

use std::time::Duration;

use tokio::{sync::watch, time::Instant};

/// The rate is a mean over about this much time.
const WINDOW: Duration = Duration::from_secs(5);
/// The rate is looked at again after this much.
const TICK: Duration = Duration::from_millis(250);

/// What a transfer is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// It waits for its turn.
    #[default]
    Queued,
    /// Bytes are coming.
    Transferring,
    /// All are here; both sides compute the digest.
    Verifying,
    /// The file is verified and has its name.
    Received,
}

/// How far a transfer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// What it is doing.
    pub phase: Phase,
    /// Bytes of data that are here, holes not counted. While verifying: bytes of the whole file that are hashed.
    pub done: u64,
    /// How many there will be. An estimate until the source's list of extents has been read.
    pub total: u64,
    /// Bytes per second, a mean over the last seconds.
    pub rate: u64,
}

impl Progress {
    /// Whole percent of this phase, rounded down; 0 when there is nothing to do.
    pub fn percent(&self) -> u8 {
        if self.total == 0 {
            return 0;
        }
        let percent = u128::from(self.done) * 100 / u128::from(self.total);
        u8::try_from(percent.min(100)).unwrap_or(100)
    }
}

/// Counts, and tells who watches.
#[derive(Debug)]
pub(super) struct Meter<'a> {
    watch: &'a watch::Sender<Progress>,
    now: Progress,
    /// Since the rate was computed last.
    since: Instant,
    came: u64,
}

impl<'a> Meter<'a> {
    pub(super) fn new(watch: &'a watch::Sender<Progress>) -> Self {
        let now = Progress::default();
        watch.send_replace(now);
        let since = Instant::now();
        Self {
            watch,
            now,
            since,
            came: 0,
        }
    }

    /// A phase begins, or another attempt at it.
    pub(super) fn begin(&mut self, phase: Phase, done: u64, total: u64) {
        let rate = if phase == self.now.phase { self.now.rate } else { 0 };
        self.now = Progress {
            phase,
            done,
            total: total.max(done),
            rate,
        };
        (self.since, self.came) = (Instant::now(), 0);
        self.watch.send_replace(self.now);
    }

    /// The total is known better now.
    pub(super) fn total(&mut self, total: u64) {
        self.now.total = total.max(self.now.done);
    }

    /// So many bytes are done in all.
    pub(super) fn done(&mut self, done: u64) {
        self.came += done.saturating_sub(self.now.done);
        self.now.done = done;
        self.now.total = self.now.total.max(done);
        let elapsed = self.since.elapsed();
        if elapsed >= TICK {
            self.now.rate = mean(self.now.rate, self.came, elapsed);
            (self.since, self.came) = (Instant::now(), 0);
        }
        self.watch.send_replace(self.now);
    }
}

/// The mean so far with these bytes in this time added: a share of it that grows with the time.
fn mean(before: u64, came: u64, elapsed: Duration) -> u64 {
    let nanos = elapsed.as_nanos().max(1);
    let rate = u128::from(came) * 1_000_000_000 / nanos;
    if before == 0 {
        return u64::try_from(rate).unwrap_or(u64::MAX);
    }
    let window = WINDOW.as_nanos();
    let mean = (u128::from(before) * window + rate * nanos) / (window + nanos);
    u64::try_from(mean).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_steady_stream_has_its_rate_and_ends_at_a_hundred_percent() {
        let (watch, seen) = watch::channel(Progress::default());
        let mut meter = Meter::new(&watch);
        meter.begin(Phase::Transferring, 0, 10_000_000);
        for step in 1..=100 {
            tokio::time::advance(Duration::from_millis(100)).await;
            meter.done(step * 100_000);
        }
        let progress = *seen.borrow();
        assert_eq!(progress.percent(), 100);
        assert!((990_000..1_010_000).contains(&progress.rate), "{progress:?}");
    }

    #[test]
    fn a_percentage_never_leaves_its_range() {
        let percent = |done, total| {
            let progress = Progress {
                done,
                total,
                ..Progress::default()
            };
            progress.percent()
        };
        assert_eq!((percent(0, 0), percent(1, 3), percent(5, 3)), (0, 33, 100));
        assert_eq!(percent(u64::MAX, u64::MAX), 100);
    }
}
