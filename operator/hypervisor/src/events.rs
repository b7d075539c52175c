//! Events on their way from the hypervisor's thread to an async reader, with a bound.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;
use uuid::Uuid;

/// What happened to a domain (virDomainEventType). What it means is found by looking at the domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Change {
    /// Its definition was made or changed.
    Defined,
    /// Its definition was removed.
    Undefined,
    /// It started.
    Started,
    /// Its CPUs were halted.
    Suspended,
    /// Its CPUs go on.
    Resumed,
    /// Its process ended.
    Stopped,
    /// The guest is shutting down.
    ShuttingDown,
    /// The guest sleeps (ACPI).
    Sleeping,
    /// The guest crashed.
    Crashed,
    /// The agent in the guest opened its channel.
    AgentConnected,
    /// The agent in the guest closed its channel.
    AgentDisconnected,
    /// A device was plugged into it while it ran, or it let go of one.
    Devices,
}

/// A life-cycle event.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Event {
    /// Something happened to a domain, ours or not.
    Domain {
        /// The domain.
        uuid: Uuid,
        /// What.
        change: Change,
    },
    /// The connection was lost. The next call opens a new one, after which `Resync` comes.
    Disconnected,
    /// Events may have been lost: look at everything.
    Resync,
}

/// Events, in order. Dropping it ends the delivery.
#[derive(Debug)]
pub struct EventStream {
    queue: Arc<Queue>,
}

#[derive(Debug)]
struct Queue {
    state: Mutex<State>,
    wake: Notify,
    capacity: usize,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<Event>,
    closed: bool,
}

impl EventStream {
    /// The next event, or `None` when the hypervisor is gone. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            // Made before looking, so that an event which comes in between is not missed.
            let woken = self.queue.wake.notified();
            {
                let mut state = self.queue.lock();
                if let Some(event) = state.events.pop_front() {
                    return Some(event);
                }
                if state.closed {
                    return None;
                }
            }
            woken.await;
        }
    }

    /// The next event if there is one.
    pub fn try_next(&mut self) -> Option<Event> {
        self.queue.lock().events.pop_front()
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, event: Event) {
        {
            let mut state = self.lock();
            // A full queue is replaced by one marker: whoever looks at everything needs no single events.
            if state.events.len() >= self.capacity {
                state.events.clear();
                state.events.push_back(Event::Resync);
            } else if state.events.back() != Some(&event) || event != Event::Resync {
                state.events.push_back(event);
            }
        }
        self.wake.notify_one();
    }
}

/// Where a back end sends its events to: any number of readers.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    readers: Mutex<Vec<Weak<Queue>>>,
}

impl Hub {
    pub fn subscribe(&self, capacity: usize) -> EventStream {
        let queue = Arc::new(Queue {
            state: Mutex::default(),
            wake: Notify::new(),
            capacity: capacity.max(1),
        });
        let mut readers = self.lock();
        readers.retain(|reader| reader.strong_count() > 0);
        readers.push(Arc::downgrade(&queue));
        EventStream { queue }
    }

    pub fn send(&self, event: &Event) {
        for reader in self.lock().iter().filter_map(Weak::upgrade) {
            reader.push(event.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Queue>>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        for reader in self.lock().iter().filter_map(Weak::upgrade) {
            reader.lock().closed = true;
            reader.wake.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(n: u128) -> Event {
        Event::Domain {
            uuid: Uuid::from_u128(n),
            change: Change::Started,
        }
    }

    #[tokio::test]
    async fn a_reader_that_falls_behind_gets_one_resync_and_then_the_newest_events() {
        let hub = Hub::default();
        let mut stream = hub.subscribe(3);
        for n in 0..4 {
            hub.send(&started(n));
        }
        hub.send(&started(9));
        assert_eq!(stream.next().await, Some(Event::Resync));
        assert_eq!(stream.next().await, Some(started(9)));
        assert_eq!(stream.try_next(), None);
    }

    #[tokio::test]
    async fn a_waiting_reader_is_woken_and_ends_with_the_hypervisor() {
        let hub = Hub::default();
        let mut stream = hub.subscribe(3);
        let reader = tokio::spawn(async move { (stream.next().await, stream.next().await) });
        tokio::task::yield_now().await;
        hub.send(&started(1));
        tokio::task::yield_now().await;
        drop(hub);
        assert_eq!(reader.await.unwrap(), (Some(started(1)), None));
    }

    #[tokio::test]
    async fn each_reader_gets_every_event() {
        let hub = Hub::default();
        let (mut one, mut two) = (hub.subscribe(3), hub.subscribe(3));
        hub.send(&started(1));
        assert_eq!(one.next().await, two.next().await);
    }
}
