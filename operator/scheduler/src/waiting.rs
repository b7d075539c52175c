//! The requests that found no host, and which of them are worth another try.
//!
//! Requests that wait for the same thing are one class: an event is compared with classes, not with requests, so what it
//! costs does not grow with the queue. Within a class, who waits longest is tried first.
//!
//! Why nothing is forgotten: a refused request is rejected, on every host, by a filter that reads something in
//! `Cause::Refused::reads`. Before a host can pass, that must change; then an event names it, and the class is marked.
//! A mark is newer than the refusal until the next refusal, so it holds through the time of rest.

mod backoff;
mod cause;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

pub use backoff::Backoff;
pub use cause::Cause;

use crate::{Event, Uid};

/// The set of waiting requests.
///
/// The caller's loop: [`wake`](Self::wake) for each event, [`due`](Self::due) for the next few worth a try, and for each
/// of those either [`park`](Self::park) again or [`remove`](Self::remove). It holds one small entry for each unbound
/// Instance and is bounded by their number.
#[derive(Debug, Clone, Default)]
pub struct Waiting {
    backoff: Backoff,
    /// Counts refusals and events, so that their order is known.
    sequence: u64,
    entries: HashMap<Uid, Entry>,
    classes: HashMap<Cause, Class>,
    /// Who rests, and until when, soonest first.
    resting: BTreeSet<(Duration, Uid)>,
}

#[derive(Debug, Clone)]
struct Entry {
    cause: Cause,
    attempts: u32,
    parked_at: u64,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Not to be tried before this time.
    Resting(Duration),
    /// In the queue of its class.
    Queued,
    /// Handed out by `due`.
    Tried,
}

#[derive(Debug, Clone, Default)]
struct Class {
    /// Entries with this cause, queued or not.
    members: usize,
    /// The last event that may help them.
    marked_at: u64,
    /// By age.
    queue: BTreeSet<(u64, Uid)>,
}

impl Waiting {
    /// An empty set.
    pub fn new(backoff: Backoff) -> Self {
        Self {
            backoff,
            ..Self::default()
        }
    }

    /// Adds a request after a refusal, or puts it back after another one. It rests, longer each time.
    pub fn park(&mut self, uid: &Uid, cause: Cause, now: Duration) {
        let attempts = self.take(uid).map_or(1, |entry| entry.attempts.saturating_add(1));
        let until = now.saturating_add(self.backoff.after(attempts));
        self.add(uid, cause, attempts, Stage::Resting(until));
    }

    /// Makes a request due at once, waiting or not, because it changed itself (or is new).
    pub fn nudge(&mut self, uid: &Uid) {
        self.take(uid);
        self.add(uid, Cause::Transient, 0, Stage::Queued);
    }

    /// Takes a request out: it found a host, or is gone.
    pub fn remove(&mut self, uid: &Uid) {
        self.take(uid);
    }

    /// Notes an event. Its effect shows in [`due`](Self::due).
    pub fn wake(&mut self, event: &Event) {
        self.sequence += 1;
        for (cause, class) in &mut self.classes {
            if cause.may_end_by(event) {
                class.marked_at = self.sequence;
            }
        }
    }

    /// At most `limit` requests that are worth a try now, who waits longest first. Each is handed out once, until it is
    /// parked again. When `limit` are returned, there may be more.
    pub fn due(&mut self, now: Duration, limit: usize) -> Vec<Uid> {
        self.end_rests(now);
        let mut due: Vec<(u64, Uid)> = Vec::new();
        for class in self.classes.values() {
            let marked = class
                .queue
                .iter()
                .take_while(|(parked_at, _)| *parked_at < class.marked_at);
            due.extend(marked.take(limit).cloned());
        }
        due.sort_unstable();
        due.truncate(limit);
        for place in &due {
            if let Some(entry) = self.entries.get_mut(&place.1) {
                entry.stage = Stage::Tried;
                if let Some(class) = self.classes.get_mut(&entry.cause) {
                    class.queue.remove(place);
                }
            }
        }
        due.into_iter().map(|(_, uid)| uid).collect()
    }

    /// When to call [`due`](Self::due) next if no event comes before: the end of the next rest.
    pub fn next_due(&self) -> Option<Duration> {
        self.resting.first().map(|(until, _)| *until)
    }

    /// Why a request waits; `None` when it doesn't.
    pub fn cause(&self, uid: &Uid) -> Option<&Cause> {
        self.entries.get(uid).map(|entry| &entry.cause)
    }

    /// How many requests wait.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn add(&mut self, uid: &Uid, cause: Cause, attempts: u32, stage: Stage) {
        self.sequence += 1;
        let parked_at = self.sequence;
        let class = self.classes.entry(cause.clone()).or_default();
        class.members += 1;
        if cause == Cause::Transient {
            // Always worth a try.
            class.marked_at = u64::MAX;
        }
        match stage {
            Stage::Resting(until) => {
                self.resting.insert((until, uid.clone()));
            }
            Stage::Queued => {
                class.queue.insert((parked_at, uid.clone()));
            }
            Stage::Tried => {}
        }
        self.entries.insert(
            uid.clone(),
            Entry {
                cause,
                attempts,
                parked_at,
                stage,
            },
        );
    }

    fn take(&mut self, uid: &Uid) -> Option<Entry> {
        let (uid, entry) = self.entries.remove_entry(uid)?;
        if let Some(class) = self.classes.get_mut(&entry.cause) {
            class.members -= 1;
            match entry.stage {
                Stage::Resting(until) => {
                    self.resting.remove(&(until, uid));
                }
                Stage::Queued => {
                    class.queue.remove(&(entry.parked_at, uid));
                }
                Stage::Tried => {}
            }
            if class.members == 0 {
                self.classes.remove(&entry.cause);
            }
        }
        Some(entry)
    }

    fn end_rests(&mut self, now: Duration) {
        while let Some((until, uid)) = self.resting.pop_first() {
            if until > now {
                self.resting.insert((until, uid));
                break;
            }
            if let Some(entry) = self.entries.get_mut(&uid) {
                entry.stage = Stage::Queued;
                if let Some(class) = self.classes.get_mut(&entry.cause) {
                    class.queue.insert((entry.parked_at, uid));
                }
            }
        }
    }
}
