//! What time is it? Wall time for what is written down, monotonic time for what is measured.

use jiff::Timestamp;
use tokio::time::Instant;

/// A source of time. Code that decides takes a time as an argument; code that acts takes a clock.
///
/// Any `Fn() -> Timestamp` is a clock, so a test passes a closure over its fake wall time. Monotonic time is tokio's,
/// which a test pauses with `start_paused`.
pub trait Clock: Send + Sync + 'static {
    /// The wall time, for fields such as `lastTransitionTime`. It may jump: never measure with it.
    fn now(&self) -> Timestamp;

    /// The monotonic time, for expiry and time-outs.
    fn instant(&self) -> Instant {
        Instant::now()
    }
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

impl<F> Clock for F
where
    F: Fn() -> Timestamp + Send + Sync + 'static,
{
    fn now(&self) -> Timestamp {
        self()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::Arc, time::Duration};

    #[tokio::test(start_paused = true)]
    async fn a_closure_is_a_clock_whose_monotonic_time_is_tokios() {
        let at: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(move || at);
        let before = clock.instant();
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(clock.now(), at);
        assert_eq!(clock.instant() - before, Duration::from_secs(5));
    }
}
