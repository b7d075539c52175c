//! Whose turn is it? Who has waited longest, each at most once, and nobody who has a turn already.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    future::poll_fn,
    hash::Hash,
    task::Poll,
    time::Duration,
};

use tokio_util::time::{DelayQueue, delay_queue};

/// Objects that wait for their turn, have it, or are to be looked at later. As long as there are objects.
///
/// kube's own queue gives the next turn to any of those that wait: when there are always some, one of them can wait for as
/// long as others come.
pub(super) struct Line<K> {
    /// In the order in which they came.
    waiting: VecDeque<K>,
    /// Those who wait, and those who have a turn and are to have another one.
    asked: HashSet<K>,
    taken: HashSet<K>,
    later: DelayQueue<K>,
    timers: HashMap<K, delay_queue::Key>,
}

impl<K: Hash + Eq + Clone> Line<K> {
    pub fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            asked: HashSet::new(),
            taken: HashSet::new(),
            later: DelayQueue::new(),
            timers: HashMap::new(),
        }
    }

    /// It is to have a turn, or another one when it has one now.
    pub fn ask(&mut self, key: K) {
        self.forget(&key);
        if self.asked.insert(key.clone()) && !self.taken.contains(&key) {
            self.waiting.push_back(key);
        }
    }

    /// It is not to be looked at later by itself.
    pub fn forget(&mut self, key: &K) {
        if let Some(timer) = self.timers.remove(key) {
            self.later.remove(&timer);
        }
    }

    /// Gives a turn to who has waited longest.
    pub fn next(&mut self) -> Option<K> {
        let key = self.waiting.pop_front()?;
        self.asked.remove(&key);
        self.taken.insert(key.clone());
        Some(key)
    }

    /// Its turn is over. It comes again after this time, unless somebody asks sooner.
    pub fn ended(&mut self, key: K, again: Option<Duration>) {
        self.taken.remove(&key);
        if self.asked.contains(&key) {
            self.waiting.push_back(key);
        } else if let Some(again) = again {
            let timer = self.later.insert(key.clone(), again);
            self.timers.insert(key, timer);
        }
    }

    /// Waits for the next who is to be looked at now; for ever when there is none.
    pub async fn due(&mut self) -> K {
        poll_fn(|context| match self.later.poll_expired(context) {
            Poll::Ready(Some(due)) => {
                let key = due.into_inner();
                self.timers.remove(&key);
                Poll::Ready(key)
            }
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    const SOON: Duration = Duration::from_secs(1);

    #[test]
    fn who_has_waited_longest_is_next_however_many_come_after() {
        let mut line = Line::new();
        line.ask(0);
        for other in 1..1000 {
            line.ask(other);
            line.ask(0);
        }
        assert!((0..1000).eq(std::iter::from_fn(|| line.next())));
    }

    #[test]
    fn who_has_a_turn_has_no_second_one_until_it_is_over() {
        let mut line = Line::new();
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
        let mut line = Line::new();
        for key in ["a", "b", "c"] {
            line.ask(key);
            line.next();
            line.ended(key, Some(SOON));
        }
        line.ask("a");
        line.forget(&"b");
        assert_eq!(line.due().await, "c");
        tokio::time::sleep(SOON).await;
        assert!(line.due().now_or_never().is_none());
        assert_eq!(line.next(), Some("a"));
    }
}
