//! Agents that are killed at a step of their work.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use futures::future::{FutureExt as _, pending};
use virga_agent::host::Checkpoint;

/// Kills an agent before its `at`th step, counted from now; `reached` tells that it came so far.
pub fn kill_at(at: usize) -> (Arc<AtomicBool>, Checkpoint) {
    let reached = Arc::new(AtomicBool::new(false));
    let (flag, steps) = (reached.clone(), AtomicUsize::new(0));
    let checkpoint: Checkpoint = Arc::new(move |_, _| {
        if steps.fetch_add(1, Ordering::SeqCst) == at {
            flag.store(true, Ordering::SeqCst);
        }
        // Nothing else is begun by a process that is dead.
        if flag.load(Ordering::SeqCst) {
            pending().boxed()
        } else {
            async {}.boxed()
        }
    });
    (reached, checkpoint)
}
