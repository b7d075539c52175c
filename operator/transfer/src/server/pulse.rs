//! Does the peer get on? By when must the next thing have happened on a connection?
//!
//! A peer that sends its request byte by byte, that takes its answer byte by byte, or that does nothing at all holds a
//! connection and memory. So whenever it is the peer's turn there is a deadline, and it moves only when something whole
//! has happened: a request, or a piece of an answer that was taken.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// One connection's deadline. None while it is our turn; what we do then has time-outs of its own.
#[derive(Clone, Debug)]
pub(super) struct Pulse(Arc<watch::Sender<Option<Instant>>>);

impl Pulse {
    /// The peer's turn, for this long.
    pub(super) fn new(turn: Duration) -> Self {
        Self(Arc::new(watch::Sender::new(Some(Instant::now() + turn))))
    }

    pub(super) fn our_turn(&self) {
        self.0.send_replace(None);
    }

    pub(super) fn peers_turn(&self, turn: Duration) {
        self.0.send_replace(Some(Instant::now() + turn));
    }

    /// Ends when the peer has let its turn pass.
    pub(super) async fn missed(&self) {
        let mut seen = self.0.subscribe();
        loop {
            let deadline = *seen.borrow_and_update();
            let passed = async {
                match deadline {
                    Some(deadline) => sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = passed => return,
                // The sender is in `self`.
                _ = seen.changed() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_what_happens_in_time_moves_the_deadline() {
        let begin = Instant::now();
        let pulse = Pulse::new(Duration::from_secs(10));
        let watcher = tokio::spawn({
            let pulse = pulse.clone();
            async move { pulse.missed().await }
        });
        tokio::time::sleep(Duration::from_secs(9)).await;
        pulse.our_turn();
        tokio::time::sleep(Duration::from_mins(5)).await;
        assert!(!watcher.is_finished(), "our own turn has no deadline here");
        pulse.peers_turn(Duration::from_secs(30));
        watcher.await.unwrap();
        assert_eq!(begin.elapsed(), Duration::from_secs(9 + 300 + 30));
    }
}
