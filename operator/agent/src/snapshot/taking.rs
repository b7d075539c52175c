//! Of which Instances is an image being made right now?

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{Semaphore, SemaphorePermit};
use uuid::Uuid;
use virga_core::instance::Snapshotting;

/// How many images are made at once (Nova's `max_concurrent_snapshots`).
const AT_ONCE: usize = 5;

/// The Instances of which an image is being made. Clones share them. In memory only: what a process that died was at is
/// noted on the disk.
#[derive(Clone)]
pub struct Snapshots {
    under_way: Arc<Mutex<HashMap<Uuid, Snapshotting>>>,
    slots: Arc<Semaphore>,
}

impl Default for Snapshots {
    fn default() -> Self {
        Self {
            under_way: Arc::default(),
            slots: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

/// While it lives, no other image of the Instance is made.
pub struct Taking {
    snapshots: Snapshots,
    instance: Uuid,
}

impl Snapshots {
    /// Whether an image of the Instance is being made.
    pub fn of(&self, instance: Uuid) -> Snapshotting {
        self.lock().get(&instance).copied().unwrap_or_default()
    }

    /// Begins one; `None` when one is being made.
    pub fn begin(&self, instance: Uuid) -> Option<Taking> {
        let mut under_way = self.lock();
        if under_way.contains_key(&instance) {
            return None;
        }
        under_way.insert(instance, Snapshotting::Live);
        Some(Taking {
            snapshots: self.clone(),
            instance,
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, Snapshotting>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taking {
    /// From now on the Instance is not started, or may be.
    pub fn set(&self, how: Snapshotting) {
        self.snapshots.lock().insert(self.instance, how);
    }

    /// Waits until not too many are made.
    pub async fn slot(&self) -> Option<SemaphorePermit<'_>> {
        self.snapshots.slots.acquire().await.ok()
    }
}

impl Drop for Taking {
    fn drop(&mut self) {
        self.snapshots.lock().remove(&self.instance);
    }
}
