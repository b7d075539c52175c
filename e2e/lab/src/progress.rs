//! What the lab is doing, on standard error, with the seconds since it began.

use std::time::{Duration, Instant};

/// How often a long step says that it is still going on.
const REMINDER: Duration = Duration::from_secs(15);

/// Prints one line a step. Cheap to copy: it is only the moment it began.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    began: Instant,
}

impl Progress {
    /// Starts the clock.
    pub fn start() -> Self {
        Self { began: Instant::now() }
    }

    /// Says what begins now.
    pub fn step(&self, what: &str) {
        eprintln!("[{:6.1} s] {what}", self.elapsed().as_secs_f64());
    }

    /// Time since the clock started.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// For a step that can take minutes: call `tick` in its waiting loop, it says now and then that the step goes on.
    pub fn reminder(self, what: &str) -> Reminder<'_> {
        Reminder {
            progress: self,
            what,
            last: Instant::now(),
        }
    }
}

/// Made by [`Progress::reminder`].
#[derive(Debug)]
pub struct Reminder<'a> {
    progress: Progress,
    what: &'a str,
    last: Instant,
}

impl Reminder<'_> {
    /// Prints if the last line is long ago.
    pub fn tick(&mut self) {
        if self.last.elapsed() >= REMINDER {
            self.last = Instant::now();
            self.progress.step(&format!("still {}", self.what));
        }
    }
}
