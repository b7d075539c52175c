//! What wakes a kind's loop besides its watches? Whoever notices what no watch tells of sends word, and each loop picks
//! what concerns its own objects.

use futures::{Stream, stream};
use tokio::sync::broadcast::{self, error::RecvError};

/// How many words a slow reader may be behind. One that is further behind is helped by its loop's resync.
const BACKLOG: usize = 4096;

/// Word of what should be looked at again, for all who listen.
pub struct Wakeups<T>(broadcast::Sender<T>);

impl<T: Clone> Default for Wakeups<T> {
    fn default() -> Self {
        Self(broadcast::Sender::new(BACKLOG))
    }
}

impl<T: Clone + Send + 'static> Wakeups<T> {
    /// Sends word to all who listen now.
    pub fn send(&self, word: T) {
        // A failure to send means that nobody listens.
        let _ = self.0.send(word);
    }

    /// What `pick` makes of each word from now on; `None` is passed over. A reader that falls behind misses the oldest:
    /// back it up with a slow resync. The stream ends when the sender is gone.
    pub fn picked<U, F>(&self, pick: F) -> impl Stream<Item = U> + Send + use<T, U, F>
    where
        F: Fn(T) -> Option<U> + Send,
    {
        stream::unfold((self.0.subscribe(), pick), async |(mut receiver, pick)| {
            loop {
                match receiver.recv().await {
                    Ok(word) => {
                        if let Some(picked) = pick(word) {
                            return Some((picked, (receiver, pick)));
                        }
                    }
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn each_reader_picks_what_is_for_it_from_now_on() {
        let wakeups = Wakeups::default();
        wakeups.send(1);
        let even = wakeups.picked(|n| (n % 2 == 0).then_some(n));
        let words = wakeups.picked(|n| Some(n.to_string()));
        (2..=4).for_each(|n| wakeups.send(n));
        drop(wakeups);
        assert_eq!(even.collect::<Vec<_>>().await, [2, 4]);
        assert_eq!(words.collect::<Vec<_>>().await, ["2", "3", "4"]);
    }

    #[tokio::test]
    async fn a_reader_that_falls_behind_goes_on_with_what_is_left() {
        let wakeups = Wakeups::default();
        let all = wakeups.picked(Some);
        (0..=BACKLOG).for_each(|n| wakeups.send(n));
        drop(wakeups);
        let seen = all.collect::<Vec<_>>().await;
        assert_eq!((seen.first(), seen.len()), (Some(&1), BACKLOG));
    }
}
