//! Waiting with a bound.

use std::time::{Duration, Instant};

/// Looks until `look` finds something, and panics when it did not within `timeout`.
pub fn eventually<T>(what: &str, timeout: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + timeout;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "not within {timeout:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
