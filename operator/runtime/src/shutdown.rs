//! When does it stop, and in which order?
//!
//! 1. SIGTERM or SIGINT: [`Shutdown::stopping`] is cancelled. Readiness goes false, loops take no new work.
//! 2. Workers end what they have begun, up to a limit.
//! 3. [`Shutdown::stopped`] is cancelled. The lease is given back and the servers close, since nobody writes any more.

use std::{future::Future, io, time::Duration};

use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How the process stops. Clones share one state.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    stopping: CancellationToken,
    stopped: CancellationToken,
    workers: TaskTracker,
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Every worker ended.
    Clean,
    /// This many workers had not ended at the limit.
    Abandoned(usize),
}

impl Shutdown {
    /// A process that runs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins to stop at the first SIGTERM or SIGINT.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub fn on_signals(&self) -> io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let stopping = self.stopping.clone();
        tokio::spawn(async move {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
                () = stopping.cancelled() => return,
            };
            tracing::info!(signal = name, "stopping");
            stopping.cancel();
        });
        Ok(())
    }

    /// Begins to stop.
    pub fn stop(&self) {
        self.stopping.cancel();
    }

    /// Cancelled when the process begins to stop: take no new work, end what is under way.
    pub fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }

    /// Cancelled when the workers have ended: give back the lease, close the servers.
    pub fn stopped(&self) -> CancellationToken {
        self.stopped.clone()
    }

    /// Runs a worker: a task that writes, and that ends by itself once [`Self::stopping`] is cancelled.
    pub fn worker<F>(&self, work: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.workers.spawn(work)
    }

    /// Waits until the process is to stop, then for its workers, at most `limit`; then cancels [`Self::stopped`].
    ///
    /// Keep `limit` well under the pod's `terminationGracePeriodSeconds`.
    pub async fn drain(&self, limit: Duration) -> Drained {
        self.stopping.cancelled().await;
        self.workers.close();
        let ended = tokio::time::timeout(limit, self.workers.wait()).await;
        self.stopped.cancel();
        match ended {
            Ok(()) => Drained::Clean,
            Err(_) => Drained::Abandoned(self.workers.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn workers_end_before_the_lease_is_given_back() {
        let shutdown = Shutdown::new();
        let (stopping, stopped) = (shutdown.stopping(), shutdown.stopped());
        let seen = stopped.clone();
        let worker = shutdown.worker(async move {
            stopping.cancelled().await;
            tokio::time::sleep(Duration::from_secs(3)).await;
            seen.is_cancelled()
        });
        shutdown.stop();
        assert_eq!(shutdown.drain(Duration::from_secs(10)).await, Drained::Clean);
        assert!(
            !worker.await.unwrap(),
            "stopped was cancelled before the worker had ended"
        );
        assert!(stopped.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stuck_worker_is_abandoned_at_the_limit() {
        let shutdown = Shutdown::new();
        let _stuck = shutdown.worker(std::future::pending::<()>());
        shutdown.stop();
        assert_eq!(shutdown.drain(Duration::from_secs(10)).await, Drained::Abandoned(1));
        assert!(shutdown.stopped().is_cancelled());
    }
}
