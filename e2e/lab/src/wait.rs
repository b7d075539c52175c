//! Bounded waits.

use std::thread;
use std::time::{Duration, Instant};

/// Between two looks at what is waited for.
const PAUSE: Duration = Duration::from_millis(40);

/// Looks until `look` finds something, at most for `bound`; `None` when time is up. Looks at least once.
pub fn until<T>(bound: Duration, look: impl FnMut() -> Option<T>) -> Option<T> {
    until_every(PAUSE, bound, look)
}

/// [`until`] with a pause of one's own.
pub fn until_every<T>(pause: Duration, bound: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if began.elapsed() >= bound {
            return None;
        }
        thread::sleep(pause);
    }
}

/// [`until`] for a yes or no.
pub fn until_true(bound: Duration, mut look: impl FnMut() -> bool) -> bool {
    until(bound, || look().then_some(())).is_some()
}
