//! How fast? One bound for all transfers of a process, which can be changed while they run.

use std::{
    num::NonZeroU64,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    sync::{Mutex as Turn, Notify},
    time::{Duration, Instant, sleep},
};

/// The lowest bound, in bytes per second. With a lower one, transfers would look to their peers as if they had stopped.
pub const MIN_RATE: u64 = 256 * 1024;
/// What an idle bucket gathers: the bytes of this much time.
const BURST: Duration = Duration::from_millis(100);
const NANOS: i128 = 1_000_000_000;

/// A token bucket of bytes, shared by all clones. Who asks first is served first.
#[derive(Clone, Debug)]
pub struct Bandwidth(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bucket: Mutex<Bucket>,
    /// Fair: tokio's mutex is first come, first served.
    turn: Turn<()>,
    changed: Notify,
}

#[derive(Debug)]
struct Bucket {
    /// Bytes per second; `None` is no bound.
    rate: Option<u64>,
    /// In bytes times nanoseconds per second, so that nothing is lost to rounding. Below zero after a large piece.
    tokens: i128,
    at: Instant,
}

impl Bandwidth {
    /// A bucket with this many bytes per second, at least [`MIN_RATE`]; `None` is no bound.
    pub fn new(rate: Option<NonZeroU64>) -> Self {
        let bucket = Bucket {
            rate: rate.map(at_least),
            tokens: 0,
            at: Instant::now(),
        };
        Self(Arc::new(Shared {
            bucket: Mutex::new(bucket),
            turn: Turn::new(()),
            changed: Notify::new(),
        }))
    }

    /// Changes the bound, for those who wait too.
    pub fn set(&self, rate: Option<NonZeroU64>) {
        let mut bucket = self.0.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        bucket.refill(Instant::now());
        bucket.rate = rate.map(at_least);
        drop(bucket);
        // One at most waits for the bucket; the others wait for their turn. The permit is kept if nobody waits yet.
        self.0.changed.notify_one();
    }

    /// The bound in bytes per second.
    pub fn rate(&self) -> Option<u64> {
        self.0.bucket.lock().unwrap_or_else(PoisonError::into_inner).rate
    }

    /// Waits until this many bytes may go.
    ///
    /// A piece may be larger than what the bucket holds: it goes when the bucket is not empty, and those behind it wait
    /// longer. So the mean is kept for pieces of any size.
    pub async fn take(&self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let _turn = self.0.turn.lock().await;
        loop {
            let wait = {
                let mut bucket = self.0.bucket.lock().unwrap_or_else(PoisonError::into_inner);
                bucket.take(bytes, Instant::now())
            };
            let Some(wait) = wait else { return };
            tokio::select! {
                () = sleep(wait) => {}
                () = self.0.changed.notified() => {}
            }
        }
    }
}

impl Bucket {
    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.at).as_nanos();
        self.at = now;
        let Some(rate) = self.rate else {
            self.tokens = 0;
            return;
        };
        let (rate, elapsed) = (i128::from(rate), i128::try_from(elapsed).unwrap_or(i128::MAX));
        let most = rate.saturating_mul(i128::try_from(BURST.as_nanos()).unwrap_or(0));
        self.tokens = self.tokens.saturating_add(rate.saturating_mul(elapsed)).min(most);
    }

    /// Takes the bytes, or tells how long to wait before the bucket is not empty.
    fn take(&mut self, bytes: usize, now: Instant) -> Option<Duration> {
        self.refill(now);
        let rate = i128::from(self.rate?);
        if self.tokens <= 0 {
            let nanos = (-self.tokens) / rate + 1;
            return Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)));
        }
        self.tokens -= i128::try_from(bytes).unwrap_or(i128::MAX / NANOS).saturating_mul(NANOS);
        None
    }
}

fn at_least(rate: NonZeroU64) -> u64 {
    rate.get().max(MIN_RATE)
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1024 * 1024;

    fn rate(bytes: u64) -> Option<NonZeroU64> {
        NonZeroU64::new(bytes)
    }

    #[tokio::test(start_paused = true)]
    async fn all_takers_together_stay_within_the_bound() {
        let bandwidth = Bandwidth::new(rate(10 * MIB));
        let begin = Instant::now();
        let taker = async || {
            for _ in 0..50 {
                bandwidth.take(128 * 1024).await;
            }
        };
        join_all((0..8).map(|_| taker())).await;
        // 50 MiB at 10 MiB/s; the burst is 0.1 s, the last piece is paid for by whoever comes next.
        let took = begin.elapsed().as_secs_f64();
        assert!((4.8..5.2).contains(&took), "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_bound_holds_for_those_who_wait() {
        let bandwidth = Bandwidth::new(rate(MIN_RATE));
        bandwidth.take(usize::try_from(60 * MIN_RATE).unwrap()).await;
        let begin = Instant::now();
        let waiting = tokio::spawn({
            let bandwidth = bandwidth.clone();
            async move { bandwidth.take(1).await }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        bandwidth.set(None);
        waiting.await.unwrap();
        assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
        bandwidth.take(usize::MAX).await;
        assert!(begin.elapsed() < Duration::from_secs(2), "no bound is no wait");
    }

    #[tokio::test(start_paused = true)]
    async fn a_bound_is_never_so_low_that_a_transfer_looks_dead() {
        assert_eq!(Bandwidth::new(rate(1)).rate(), Some(MIN_RATE));
        assert_eq!(Bandwidth::new(None).rate(), None);
    }

    proptest! {
        #[test]
        fn over_any_time_no_more_goes_than_the_rate_the_burst_and_one_piece(
            rate_in in MIN_RATE..1_u64 << 40,
            pieces in proptest::collection::vec((1_usize..1 << 20, 0_u64..50_000_000), 1..200),
        ) {
            let begin = Instant::now();
            let mut bucket = Bucket { rate: Some(rate_in), tokens: 0, at: begin };
            let (mut now, mut went, mut largest) = (begin, 0_u128, 0);
            for (piece, idle) in pieces {
                now += Duration::from_nanos(idle);
                while let Some(wait) = bucket.take(piece, now) {
                    now += wait;
                }
                went += piece as u128;
                largest = largest.max(piece);
                let allowed = u128::from(rate_in) * (now - begin + BURST).as_nanos() / 1_000_000_000;
                prop_assert!(went <= allowed + largest as u128 + 1, "{went} of {allowed}");
            }
        }
    }
}
