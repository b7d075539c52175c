//! How far a fetch is, and how it ended.

use futures::future::{BoxFuture, FutureExt as _};
use tokio::sync::watch;

use super::{Entry, Error};

/// What a fetch is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It waits for its turn.
    Queued,
    /// Bytes are coming.
    Downloading,
    /// All bytes are there; they are synced and inspected.
    Verifying,
    /// It has ended, well or not.
    Ended,
}

/// How far a fetch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What it is doing.
    pub phase: Phase,
    /// How many bytes are on disk.
    pub bytes: u64,
    /// How many there will be, when the source says so.
    pub total: Option<u64>,
}

impl Progress {
    /// Whole percent, rounded down, when the total is known.
    pub fn percent(&self) -> Option<u8> {
        let total = self.total.filter(|total| *total > 0)?;
        u8::try_from(u128::from(self.bytes.min(total)) * 100 / u128::from(total)).ok()
    }
}

pub(super) type Outcome = Option<Result<Entry, Error>>;

/// A fetch under way. Await it for the entry, or drop it: the fetch goes on, and [`super::Cache::ensure`] finds it again.
#[derive(Clone, Debug)]
pub struct Fetch {
    pub(super) progress: watch::Receiver<Progress>,
    pub(super) outcome: watch::Receiver<Outcome>,
}

impl Fetch {
    /// How far it is.
    pub fn progress(&self) -> Progress {
        *self.progress.borrow()
    }

    /// A channel that tells how far it is.
    pub fn watch(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// How it ended, if it has.
    pub fn outcome(&self) -> Option<Result<Entry, Error>> {
        self.outcome.borrow().clone()
    }

    /// Waits for the end.
    pub async fn wait(mut self) -> Result<Entry, Error> {
        match self.outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or(Err(Error::Cancelled)),
            // The runtime is going down.
            Err(_) => Err(Error::Cancelled),
        }
    }

    /// One that has nothing to do.
    pub(super) fn ended(outcome: Result<Entry, Error>) -> Self {
        let progress = Progress {
            phase: Phase::Ended,
            bytes: 0,
            total: None,
        };
        Self {
            progress: watch::channel(progress).1,
            outcome: watch::channel(Some(outcome)).1,
        }
    }
}

impl IntoFuture for Fetch {
    type Output = Result<Entry, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.wait().boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_is_whole_and_never_above_a_hundred() {
        let percent = |bytes, total| {
            Progress {
                phase: Phase::Downloading,
                bytes,
                total,
            }
            .percent()
        };
        assert_eq!(percent(1, Some(3)), Some(33));
        assert_eq!(percent(u64::MAX, Some(u64::MAX)), Some(100));
        assert_eq!(percent(5, Some(3)), Some(100));
        assert_eq!(percent(5, Some(0)), None);
        assert_eq!(percent(5, None), None);
    }
}
