//! Who acts on an Instance at this moment? One at a time: the loop that runs it, or the one that gives it away.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{Mutex as Turn, OwnedMutexGuard};
use uuid::Uuid;

/// A turn for each Instance. Clones share them.
#[derive(Clone, Default)]
pub struct Turns {
    turns: Arc<Mutex<HashMap<Uuid, Arc<Turn<()>>>>>,
}

impl Turns {
    /// Waits until nobody else acts on it; nobody else does until the guard is dropped.
    pub async fn take(&self, uid: Uuid) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            // Those that nobody waits for or holds are made anew when they are asked for.
            turns.retain(|known, turn| *known == uid || Arc::strong_count(turn) > 1);
            Arc::clone(turns.entry(uid).or_default())
        };
        turn.lock_owned().await
    }
}
