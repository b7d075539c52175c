//! The requests that found no host, and which of them are worth another try.
//!
//! Requests that wait for the same thing are one class: an event is compared with classes, not with requests, so what it
//! costs does not grow with the queue. Within a class, who waits longest is tried first.
//!
//! Why nothing is forgotten: a refused request is rejected, on every host, by a filter that reads something in
//! `Cause::Refused::reads`. Before a host can pass, that must change; then an event names it, and the class is marked.
//! A mark is newer than the refusal until the next refusal, so it holds through the time of rest.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::{Aspects, Event, Refusal, Request, Resources, Uid};

/// Why a request waits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Cause {
    /// No host passed the filters. Made by [`Cause::refused`].
    Refused {
        /// What the rejecting filters read.
        reads: Aspects,
        /// What was asked for.
        resources: Resources,
        /// The group, where a filter about groups rejected a host.
        group: Option<Uid>,
        /// The Instances of hints, where a filter about them rejected a host.
        instances: BTreeSet<Uid>,
    },
    /// Something that the request names does not exist, such as `Flavor/m1.small`: whatever text
    /// [`Event::Appeared`] will carry.
    Missing(String),
    /// Something went wrong that has nothing to do with hosts, such as a conflict on a write: tried again after a rest,
    /// without an event.
    Transient,
}

impl Cause {
    /// The cause after a refusal by [`Cluster::schedule`](crate::Cluster::schedule).
    pub fn refused(request: &Request, refusal: &Refusal) -> Self {
        let group = request
            .group
            .as_ref()
            .filter(|_| refusal.reads.intersects(Aspects::GROUP));
        let hints = request.demands.as_ref().map(|demands| &demands.hints);
        let hints = hints.filter(|_| refusal.reads.intersects(Aspects::INSTANCES));
        let instances = hints.map(|hints| hints.different_host.union(&hints.same_host).cloned().collect());
        Self::Refused {
            reads: refusal.reads,
            resources: request.resources,
            group: group.map(|group| group.uid.clone()),
            instances: instances.unwrap_or_default(),
        }
    }

    /// Whether an event may let a request with this cause through.
    fn may_end_by(&self, event: &Event) -> bool {
        match (self, event) {
            (Self::Transient, _) => false,
            (_, Event::Resync) | (Self::Refused { .. }, Event::HostAdded) => true,
            (Self::Missing(wanted), Event::Appeared(what)) => wanted == what,
            (Self::Missing(_), _) | (Self::Refused { .. }, Event::Appeared(_)) => false,
            (Self::Refused { reads, .. }, Event::HostChanged(changed)) => reads.intersects(*changed),
            (Self::Refused { reads, resources, .. }, Event::HostFreed { room }) => {
                reads.intersects(Aspects::USAGE) || reads.intersects(Aspects::CAPACITY) && resources.fits_in(room)
            }
            // Who reads everything may want a fuller host as well as an emptier one.
            (Self::Refused { reads, instances, .. }, Event::InstanceMoved(moved)) => {
                reads.is_all() || instances.contains(moved)
            }
            (Self::Refused { group, .. }, Event::GroupChanged(changed)) => group.as_ref() == Some(changed),
        }
    }
}

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
    fn after(&self, attempts: u32) -> Duration {
        let factor = 1u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.longest)
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    const LATER: Duration = Duration::from_secs(1000);

    fn asking(vcpus: u32, reads: Aspects) -> Cause {
        Cause::Refused {
            reads,
            resources: Resources {
                vcpus,
                ..Resources::default()
            },
            group: None,
            instances: BTreeSet::new(),
        }
    }

    fn freed(vcpus: u32) -> Event {
        Event::HostFreed {
            room: Resources {
                vcpus,
                ..Resources::default()
            },
        }
    }

    fn parked(causes: &[(&str, Cause)]) -> Waiting {
        let mut waiting = Waiting::default();
        for (uid, cause) in causes {
            waiting.park(&Uid::from(*uid), cause.clone(), Duration::ZERO);
        }
        waiting
    }

    fn due(waiting: &mut Waiting, now: Duration) -> Vec<String> {
        waiting.due(now, 100).iter().map(Uid::to_string).collect()
    }

    #[test]
    fn freed_room_wakes_those_that_lacked_room_and_fit_into_it() {
        let mut waiting = parked(&[
            ("small", asking(1, Aspects::CAPACITY)),
            ("large", asking(8, Aspects::CAPACITY | Aspects::ZONE)),
            ("elsewhere", asking(1, Aspects::ZONE)),
        ]);
        assert!(due(&mut waiting, LATER).is_empty());
        waiting.wake(&freed(4));
        assert_eq!(due(&mut waiting, LATER), ["small"]);
        waiting.wake(&freed(8));
        assert_eq!(due(&mut waiting, LATER), ["large"]);
        assert_eq!(waiting.len(), 3);
    }

    #[test]
    fn a_changed_host_wakes_those_that_a_filter_refused_which_reads_the_change() {
        let causes = [
            ("zone", asking(1, Aspects::ZONE)),
            ("alive", asking(1, Aspects::LIVENESS | Aspects::CAPACITY)),
        ];
        let mut waiting = parked(&causes);
        waiting.wake(&Event::HostChanged(Aspects::LIVENESS));
        assert_eq!(due(&mut waiting, LATER), ["alive"]);
        waiting.wake(&Event::HostChanged(Aspects::ZONE | Aspects::LABELS));
        assert_eq!(due(&mut waiting, LATER), ["zone"]);
        let mut waiting = parked(&causes);
        waiting.wake(&Event::HostAdded);
        assert_eq!(due(&mut waiting, LATER), ["zone", "alive"]);
    }

    #[test]
    fn a_changed_group_wakes_its_own_members_only() {
        let of = |group: &str| Cause::Refused {
            reads: Aspects::GROUP,
            resources: Resources::default(),
            group: Some(Uid::from(group)),
            instances: BTreeSet::new(),
        };
        let mut waiting = parked(&[("web-1", of("web")), ("db-1", of("db"))]);
        waiting.wake(&Event::GroupChanged(Uid::from("db")));
        assert_eq!(due(&mut waiting, LATER), ["db-1"]);
    }

    #[test]
    fn a_moved_instance_wakes_those_whose_hints_name_it_and_those_who_read_everything() {
        let of = |reads, instances: &[&str]| Cause::Refused {
            reads,
            resources: Resources::default(),
            group: None,
            instances: instances.iter().map(|uid| Uid::from(*uid)).collect(),
        };
        let mut waiting = parked(&[
            ("beside-db", of(Aspects::INSTANCES, &["db"])),
            ("beside-web", of(Aspects::INSTANCES, &["web"])),
            ("query", of(Aspects::ALL, &[])),
        ]);
        waiting.wake(&Event::InstanceMoved(Uid::from("db")));
        assert_eq!(due(&mut waiting, LATER), ["beside-db", "query"]);
    }

    #[test]
    fn who_was_refused_for_what_is_used_is_woken_by_anything_that_leaves() {
        let mut waiting = parked(&[("a", asking(8, Aspects::USAGE))]);
        waiting.wake(&freed(0));
        assert_eq!(due(&mut waiting, LATER), ["a"]);
    }

    #[test]
    fn what_was_missing_wakes_those_that_named_it() {
        let missing = |what: &str| Cause::Missing(what.to_owned());
        let mut waiting = parked(&[("a", missing("Flavor/m1.small")), ("b", missing("Image/shop/debian"))]);
        waiting.wake(&Event::HostAdded);
        waiting.wake(&Event::Appeared("Flavor/m1.small".to_owned()));
        assert_eq!(due(&mut waiting, LATER), ["a"]);
        waiting.wake(&Event::Resync);
        assert_eq!(due(&mut waiting, LATER), ["b"]);
    }

    #[test]
    fn an_event_during_the_rest_is_not_lost() {
        let mut waiting = parked(&[("a", asking(1, Aspects::CAPACITY))]);
        waiting.wake(&freed(1));
        assert_eq!(waiting.next_due(), Some(Duration::from_secs(1)));
        assert!(due(&mut waiting, Duration::from_millis(999)).is_empty());
        assert_eq!(due(&mut waiting, Duration::from_secs(1)), ["a"]);
        assert!(due(&mut waiting, LATER).is_empty(), "handed out once");
    }

    #[test]
    fn an_event_before_the_refusal_does_not_count() {
        let mut waiting = parked(&[("a", asking(1, Aspects::CAPACITY))]);
        waiting.wake(&freed(1));
        assert_eq!(due(&mut waiting, LATER), ["a"]);
        waiting.park(&Uid::from("a"), asking(1, Aspects::CAPACITY), LATER);
        assert!(due(&mut waiting, LATER * 2).is_empty());
    }

    #[test]
    fn the_rest_doubles_up_to_the_longest_and_starts_anew_after_a_nudge() {
        let uid = Uid::from("a");
        let mut waiting = Waiting::default();
        let mut rests = Vec::new();
        for _ in 0..40 {
            waiting.park(&uid, Cause::Transient, Duration::ZERO);
            rests.push(waiting.next_due().unwrap().as_secs());
        }
        assert_eq!(rests[..8], [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(rests[39], 60);
        waiting.nudge(&uid);
        assert_eq!(due(&mut waiting, Duration::ZERO), ["a"]);
        waiting.park(&uid, Cause::Transient, Duration::ZERO);
        assert_eq!(waiting.next_due(), Some(Duration::from_secs(1)));
    }

    #[test]
    fn who_waits_longest_is_tried_first_and_no_more_than_asked_for() {
        let mut waiting = parked(&[
            ("a", asking(1, Aspects::CAPACITY)),
            ("b", Cause::Transient),
            ("c", asking(2, Aspects::CAPACITY)),
            ("d", asking(1, Aspects::CAPACITY)),
        ]);
        waiting.wake(&freed(2));
        let first: Vec<_> = waiting.due(LATER, 3).iter().map(Uid::to_string).collect();
        assert_eq!(first, ["a", "b", "c"]);
        assert_eq!(due(&mut waiting, LATER), ["d"]);
    }

    #[test]
    fn nothing_is_left_of_what_was_removed_at_any_stage() {
        let mut waiting = parked(&[("rests", Cause::Transient), ("queued", asking(1, Aspects::ZONE))]);
        waiting.nudge(&Uid::from("tried"));
        assert_eq!(due(&mut waiting, Duration::ZERO), ["tried"]);
        waiting.end_rests(LATER);
        waiting.park(&Uid::from("rests"), Cause::Transient, LATER);
        for uid in ["rests", "queued", "tried", "unknown"] {
            waiting.remove(&Uid::from(uid));
        }
        assert!(waiting.is_empty() && waiting.classes.is_empty() && waiting.resting.is_empty());
        waiting.wake(&Event::Resync);
        assert!(due(&mut waiting, LATER * 2).is_empty());
    }
}
