//! A wall clock that a test owns.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// The wall time that tests begin at: 2026-01-01T00:00:00Z.
const EPOCH_SECONDS: i64 = 1_767_225_600;

/// A wall clock that begins at 2026-01-01T00:00:00Z and follows tokio's clock, so it stands still or jumps ahead with it
/// when that is paused. Clones show the same time.
#[derive(Debug, Clone)]
pub struct FakeClock {
    began: Instant,
    offset: Arc<Mutex<SignedDuration>>,
}

impl Default for FakeClock {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            offset: Arc::default(),
        }
    }
}

impl FakeClock {
    /// The wall time.
    pub fn now(&self) -> Timestamp {
        let offset = *self.offset.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = SignedDuration::try_from(self.began.elapsed()).unwrap_or(SignedDuration::MAX);
        let epoch = Timestamp::from_second(EPOCH_SECONDS).unwrap_or_default();
        epoch
            .saturating_add(elapsed)
            .and_then(|now| now.saturating_add(offset))
            .unwrap_or(Timestamp::MAX)
    }

    /// Moves the wall time alone, as NTP or an operator would: forward, or back.
    pub fn jump(&self, by: SignedDuration) {
        let mut offset = self.offset.lock().unwrap_or_else(PoisonError::into_inner);
        *offset = offset.saturating_add(by);
    }

    /// This clock as a closure, which `virga-runtime` takes for a clock.
    pub fn reader(&self) -> impl Fn() -> Timestamp + Send + Sync + 'static {
        let clock = self.clone();
        move || clock.now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn it_follows_tokios_clock_and_jumps_when_told() {
        let clock = FakeClock::default();
        assert_eq!(clock.now().to_string(), "2026-01-01T00:00:00Z");
        tokio::time::advance(Duration::from_secs(90)).await;
        assert_eq!(clock.now().to_string(), "2026-01-01T00:01:30Z");
        clock.jump(SignedDuration::from_hours(-1));
        assert_eq!(clock.clone().now().to_string(), "2025-12-31T23:01:30Z");
    }
}
