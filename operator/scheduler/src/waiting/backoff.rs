//! How long a request rests between two tries.

use std::time::Duration;

/// How long a request rests after a refusal, however many events there are.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// After the first refusal; doubles with each further one.
    pub first: Duration,
    /// Never longer than this.
    pub longest: Duration,
}

impl Default for Backoff {
    /// One second to one minute.
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            longest: Duration::from_mins(1),
        }
    }
}

impl Backoff {
    pub(super) fn after(&self, attempts: u32) -> Duration {
        let factor = 1u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.longest)
    }
}
