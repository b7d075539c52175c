//! Faults on order.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::Error;

/// A call of the [`Hypervisor`](crate::Hypervisor) trait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is the trait's method of that name")]
pub enum Operation {
    /// Whatever comes. Only for ordering faults.
    Any,
    Facts,
    Domains,
    Domain,
    Define,
    SetOwner,
    Start,
    Shutdown,
    Destroy,
    Suspend,
    Resume,
    Save,
    DiscardSaved,
    Reset,
    Undefine,
    ResizeDisk,
    Usage,
    DiskFaults,
    HasGuestAgent,
    GuestInfo,
    SetPassword,
    InjectNmi,
    Freeze,
    Thaw,
    BeginBackup,
    Backup,
    AbortBackup,
    Devices,
    Attach,
    Detach,
    OpenConsole,
    Networks,
    Network,
    DefineNetwork,
    StartNetwork,
    StopNetwork,
    UpdateNetwork,
    RemoveNetwork,
}

impl Operation {
    /// Whether it changes nothing.
    pub fn is_read(self) -> bool {
        use Operation::{
            Backup, Devices, DiskFaults, Domain, Domains, Facts, GuestInfo, HasGuestAgent, Network, Networks,
            OpenConsole, Usage,
        };
        let guests = matches!(self, Usage | Devices | DiskFaults | HasGuestAgent | GuestInfo | Backup);
        guests || matches!(self, Facts | Domains | Domain | Networks | Network | OpenConsole)
    }

    pub(super) fn doing(self) -> String {
        format!("calling {self:?}")
    }
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The call fails and changes nothing.
    Error(Error),
    /// The connection is lost before the call is made, and stays lost until it is restored.
    Disconnect,
}

#[derive(Debug, Default)]
pub(super) struct Faults {
    orders: Arc<Orders>,
}

#[derive(Debug, Default)]
struct Orders {
    state: Mutex<OrderState>,
    released: Condvar,
}

#[derive(Debug, Default)]
struct OrderState {
    queues: HashMap<Operation, VecDeque<Fault>>,
    holds: HashMap<Operation, usize>,
    latency: Duration,
}

/// While it lives, calls of its kind block.
#[derive(Debug)]
pub struct Hold {
    orders: Arc<Orders>,
    operation: Operation,
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(count) = self.orders.lock().holds.get_mut(&self.operation) {
            *count -= 1;
        }
        self.orders.released.notify_all();
    }
}

impl Orders {
    fn lock(&self) -> MutexGuard<'_, OrderState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Faults {
    pub fn order(&self, operation: Operation, times: usize, fault: &Fault) {
        let mut state = self.orders.lock();
        state
            .queues
            .entry(operation)
            .or_default()
            .extend(std::iter::repeat_n(fault.clone(), times));
    }

    pub fn set_latency(&self, latency: Duration) {
        self.orders.lock().latency = latency;
    }

    pub fn hold(&self, operation: Operation) -> Hold {
        *self.orders.lock().holds.entry(operation).or_default() += 1;
        Hold {
            orders: Arc::clone(&self.orders),
            operation,
        }
    }

    /// Waits as ordered, then says what goes wrong with this call.
    pub fn next(&self, operation: Operation) -> Option<Fault> {
        let held = |state: &OrderState| {
            [operation, Operation::Any]
                .iter()
                .any(|kind| state.holds.get(kind).is_some_and(|count| *count > 0))
        };
        let mut state = self.orders.lock();
        let latency = state.latency;
        while held(&state) {
            state = self.orders.released.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let fault = [operation, Operation::Any]
            .iter()
            .find_map(|kind| state.queues.get_mut(kind).and_then(VecDeque::pop_front));
        drop(state);
        if !latency.is_zero() {
            std::thread::sleep(latency);
        }
        fault
    }
}
