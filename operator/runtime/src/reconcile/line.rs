//! Whose turn is it? Who has waited longest, each at most once, and nobody who has a turn already or rests after one.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    future::poll_fn,
    hash::Hash,
    task::Poll,
    time::Duration,
};

use tokio_util::time::{DelayQueue, delay_queue};

/// Objects that wait for their turn, have it, rest, or are to be looked at later. As long as there are objects.
///
/// kube's own queue gives the next turn to any of those that wait: when there are always some, one of them can wait for as
/// long as others come. Nor does it hold back those that change all the time as they should be: it waits until they have
/// not changed for a while, which may never be, and the first change waits like all others.
pub(super) struct Line<K> {
    rest: Duration,
    /// In the order in which they came.
    waiting: VecDeque<K>,
    /// Those who wait, and those who have a turn, or rest, and are to have another one.
    asked: HashSet<K>,
    /// Those who have a turn, or rest.
    taken: HashSet<K>,
    /// Until when, and when they come again after that.
    resting: DelayQueue<(K, Option<Duration>)>,
    later: DelayQueue<K>,
    timers: HashMap<K, delay_queue::Key>,
}

impl<K: Hash + Eq + Clone> Line<K> {
    /// One in which nobody has a turn sooner than this after the end of the one before.
    pub fn new(rest: Duration) -> Self {
        Self {
            rest,
            waiting: VecDeque::new(),
            asked: HashSet::new(),
            taken: HashSet::new(),
            resting: DelayQueue::new(),
            later: DelayQueue::new(),
            timers: HashMap::new(),
        }
    }

    /// It is to have a turn, or another one when it has one now or rests.
    pub fn ask(&mut self, key: K) {
        // It is not looked at later by itself.
        if let Some(timer) = self.timers.remove(&key) {
            self.later.remove(&timer);
        }
        if self.asked.insert(key.clone()) && !self.taken.contains(&key) {
            self.waiting.push_back(key);
        }
    }

    /// Gives a turn to who has waited longest.
    pub fn next(&mut self) -> Option<K> {
        let key = self.waiting.pop_front()?;
        self.asked.remove(&key);
        self.taken.insert(key.clone());
        Some(key)
    }

    /// Its turn is over. It comes again after this time, unless somebody asks sooner; in either case it rests first.
    pub fn ended(&mut self, key: K, again: Option<Duration>) {
        if self.rest.is_zero() {
            self.rested(key, again);
        } else {
            let again = again.map(|again| again.saturating_sub(self.rest));
            self.resting.insert((key, again), self.rest);
        }
    }

    fn rested(&mut self, key: K, again: Option<Duration>) {
        self.taken.remove(&key);
        if self.asked.contains(&key) {
            self.waiting.push_back(key);
        } else if let Some(again) = again {
            let timer = self.later.insert(key.clone(), again);
            self.timers.insert(key, timer);
        }
    }

    /// Waits until somebody has rested or is to be looked at again, who then waits for a turn; for ever when there is nobody.
    pub async fn due(&mut self) {
        poll_fn(|context| {
            let mut passed = Poll::Pending;
            while let Poll::Ready(Some(rested)) = self.resting.poll_expired(context) {
                let (key, again) = rested.into_inner();
                self.rested(key, again);
                passed = Poll::Ready(());
            }
            while let Poll::Ready(Some(due)) = self.later.poll_expired(context) {
                let key = due.into_inner();
                self.timers.remove(&key);
                self.ask(key);
                passed = Poll::Ready(());
            }
            passed
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use tokio::time::{Instant, sleep};

    use super::*;

    const SOON: Duration = Duration::from_secs(1);
    const REST: Duration = Duration::from_millis(200);

    fn restless() -> Line<&'static str> {
        Line::new(Duration::ZERO)
    }

    #[test]
    fn who_has_waited_longest_is_next_however_many_come_after() {
        let mut line = Line::new(REST);
        line.ask(0);
        for other in 1..1000 {
            line.ask(other);
            line.ask(0);
        }
        assert!((0..1000).eq(std::iter::from_fn(|| line.next())));
    }

    #[test]
    fn who_has_a_turn_has_no_second_one_until_it_is_over() {
        let mut line = restless();
        line.ask("a");
        assert_eq!(line.next(), Some("a"));
        line.ask("a");
        line.ask("a");
        assert_eq!(line.next(), None);
        line.ended("a", None);
        assert_eq!(line.next(), Some("a"));
        assert_eq!(line.next(), None, "asked twice is one turn");
        line.ended("a", None);
        assert_eq!(line.next(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_asked_for_sooner_does_not_come_a_second_time() {
        let mut line = restless();
        for key in ["a", "b"] {
            line.ask(key);
            line.next();
            line.ended(key, Some(SOON));
        }
        line.ask("a");
        assert_eq!(line.next(), Some("a"));
        line.due().await;
        assert_eq!(line.next(), Some("b"));
        sleep(SOON).await;
        assert!(line.due().now_or_never().is_none());
        assert_eq!(line.next(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn who_rests_is_asked_for_in_vain_and_has_one_turn_afterwards() {
        let mut line = Line::new(REST);
        line.ask("a");
        assert_eq!(line.next(), Some("a"), "the first turn is at once");
        line.ask("a");
        line.ended("a", None);
        let ended = Instant::now();
        line.ask("a");
        assert_eq!(line.next(), None);
        line.ask("b");
        assert_eq!(line.next(), Some("b"), "nobody else is held back");
        line.due().await;
        assert!(ended.elapsed() >= REST);
        assert_eq!(line.next(), Some("a"));
        line.ended("a", None);
        line.due().await;
        assert_eq!(line.next(), None, "nobody asked for it again");
        line.ask("a");
        assert_eq!(line.next(), Some("a"), "it has rested");
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_again_by_itself_rests_within_that_time_and_not_beside_it() {
        let mut line = Line::new(REST);
        for (again, after) in [(SOON, SOON), (Duration::ZERO, REST)] {
            line.ask("a");
            assert_eq!(line.next(), Some("a"));
            line.ended("a", Some(again));
            let ended = Instant::now();
            while line.waiting.is_empty() {
                line.due().await;
            }
            let waited = ended.elapsed();
            assert!(waited >= after && waited < after + REST / 2, "{waited:?}");
            assert_eq!(line.next(), Some("a"));
            line.ended("a", None);
            line.due().await;
        }
    }
}
