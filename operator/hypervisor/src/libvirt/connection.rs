//! One connection to libvirt's daemon, and the link that replaces it when it breaks.

use std::ffi::{c_char, c_int, c_void};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;
use virt::connect::Connect;
use virt::sys;

use super::LibvirtOptions;
use super::error::classify;
use super::half_started;
use crate::error::{Error, Result};
use crate::events::{Change, Event, Hub};

/// How long a call waits for another call's attempt to connect.
const OPENING_WAIT: Duration = Duration::from_secs(5);
const FIRST_BACKOFF: Duration = Duration::from_millis(100);

/// Any callback of an event, as libvirt keeps it.
type Generic = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *mut c_void);

/// An open connection with its callbacks.
pub(super) struct Connection {
    connect: Connect,
    loss: Arc<Loss>,
    callbacks: Vec<c_int>,
    has_close_callback: bool,
}

/// Says once that a connection was lost, whoever notices first.
struct Loss {
    hub: Arc<Hub>,
    reported: AtomicBool,
}

impl Loss {
    fn report(&self) {
        if !self.reported.swap(true, Ordering::AcqRel) {
            self.hub.send(&Event::Disconnected);
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("alive", &self.is_alive())
            .finish_non_exhaustive()
    }
}

impl Connection {
    fn open(options: &LibvirtOptions, hub: &Arc<Hub>) -> Result<Connection> {
        let doing = format!("connecting to libvirt at {}", options.uri);
        let connect = Connect::open(Some(&options.uri)).map_err(|error| Error::unavailable(&doing, error.message()))?;
        if half_started::mend(&options.uri) {
            return Err(Error::unavailable(&doing, "libvirtd is started anew"));
        }
        let loss = Arc::new(Loss {
            hub: Arc::clone(hub),
            reported: AtomicBool::new(false),
        });
        let mut connection = Connection {
            connect,
            loss,
            callbacks: Vec::new(),
            has_close_callback: false,
        };
        // libvirt's test driver is in our own process: it has no keep-alive and no close callback, and needs none.
        if let Err(error) = connection
            .connect
            .set_keep_alive(options.keepalive_interval_s, options.keepalive_count)
        {
            tracing::debug!(error = error.message(), "libvirt keep-alive is not available");
        }
        connection.register_close_callback();
        connection
            .register_lifecycle_callback(hub)
            .map_err(|error| classify(&doing, "libvirt", &error))?;
        if let Err(error) = connection.register_agent_callback(hub) {
            tracing::debug!(
                error = error.message(),
                "libvirt's events of guest agents are not available"
            );
        }
        for event in [
            sys::VIR_DOMAIN_EVENT_ID_DEVICE_ADDED,
            sys::VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED,
        ] {
            // Without them devices are looked at when their time has come.
            if let Err(error) = connection.register_device_callback(hub, event) {
                tracing::debug!(error = error.message(), "libvirt's events of devices are not available");
            }
        }
        Ok(connection)
    }

    pub fn get(&self) -> &Connect {
        &self.connect
    }

    /// Whether the socket to the daemon is open. Asks nobody: a daemon that hangs is found by keep-alive.
    pub fn is_alive(&self) -> bool {
        let alive = !self.loss.reported.load(Ordering::Acquire) && self.connect.is_alive().unwrap_or(false);
        if !alive {
            self.loss.report();
        }
        alive
    }

    fn register_lifecycle_callback(&mut self, hub: &Arc<Hub>) -> std::result::Result<(), virt::error::Error> {
        type Lifecycle =
            unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, c_int, *mut c_void) -> c_int;
        // SAFETY: libvirt casts the callback of VIR_DOMAIN_EVENT_ID_LIFECYCLE back to exactly the type `Lifecycle`
        // before it calls it (virConnectDomainEventCallback with an int result); the transmute is its C macro
        // VIR_DOMAIN_EVENT_CALLBACK.
        let callback = unsafe { std::mem::transmute::<Lifecycle, Generic>(on_lifecycle) };
        self.register(hub, sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE, callback)
    }

    fn register_agent_callback(&mut self, hub: &Arc<Hub>) -> std::result::Result<(), virt::error::Error> {
        type Agent = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, c_int, *mut c_void);
        // SAFETY: libvirt casts the callback of VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE back to exactly the type `Agent`
        // before it calls it (virConnectDomainEventAgentLifecycleCallback); see above.
        let callback = unsafe { std::mem::transmute::<Agent, Generic>(on_agent) };
        self.register(hub, sys::VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE, callback)
    }

    /// For the events of devices that were plugged in or let go of, which have one form.
    fn register_device_callback(
        &mut self,
        hub: &Arc<Hub>,
        event: sys::virDomainEventID,
    ) -> std::result::Result<(), virt::error::Error> {
        type OnDevice = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *const c_char, *mut c_void);
        // SAFETY: libvirt casts the callbacks of VIR_DOMAIN_EVENT_ID_DEVICE_ADDED and _REMOVED back to exactly the type
        // `OnDevice` before it calls them (virConnectDomainEventDeviceAddedCallback, …DeviceRemovedCallback); see above.
        let callback = unsafe { std::mem::transmute::<OnDevice, Generic>(on_device) };
        self.register(hub, event, callback)
    }

    fn register(
        &mut self,
        hub: &Arc<Hub>,
        event: sys::virDomainEventID,
        callback: Generic,
    ) -> std::result::Result<(), virt::error::Error> {
        let opaque = Box::into_raw(Box::new(Arc::clone(hub))).cast::<c_void>();
        // SAFETY: the connection pointer is valid as long as `self.connect` lives. `opaque` is a boxed Arc<Hub>, which is
        // what our callbacks and `free_hub` take it for; libvirt calls `free_hub` once, after the last call of the
        // callback.
        let id = unsafe {
            sys::virConnectDomainEventRegisterAny(
                self.connect.as_ptr(),
                std::ptr::null_mut(),
                event.cast_signed(),
                Some(callback),
                opaque,
                Some(free_hub),
            )
        };
        if id < 0 {
            let error = virt::error::Error::last_error();
            // SAFETY: the registration failed, so libvirt kept nothing and `free_hub` will not be called for this box,
            // which came from `Box::into_raw` above.
            unsafe { free_hub(opaque) };
            return Err(error);
        }
        self.callbacks.push(id);
        Ok(())
    }

    fn register_close_callback(&mut self) {
        let opaque = Box::into_raw(Box::new(Arc::clone(&self.loss))).cast::<c_void>();
        // SAFETY: the connection pointer is valid as long as `self.connect` lives. `opaque` is a boxed Arc<Loss>, which
        // is what `on_close` and `free_loss` take it for; libvirt calls `free_loss` once, after the last call.
        let result = unsafe {
            sys::virConnectRegisterCloseCallback(self.connect.as_ptr(), Some(on_close), opaque, Some(free_loss))
        };
        self.has_close_callback = result == 0;
        if !self.has_close_callback {
            // SAFETY: the registration failed, so libvirt kept nothing; the box came from `Box::into_raw` above.
            unsafe { free_loss(opaque) };
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Registered callbacks hold the connection open, so they go first. A broken connection makes these calls fail
        // after they have done their local part: nothing is left to do about it.
        // SAFETY: the connection pointer is valid, `self.connect` is dropped after this; the identifier and the
        // function are those that were registered.
        unsafe {
            for id in &self.callbacks {
                sys::virConnectDomainEventDeregisterAny(self.connect.as_ptr(), *id);
            }
            if self.has_close_callback {
                sys::virConnectUnregisterCloseCallback(self.connect.as_ptr(), Some(on_close));
            }
        }
    }
}

/// # Safety
/// libvirt calls it with a valid domain, and with the `opaque` of its registration: a boxed `Arc<Hub>` not yet freed.
unsafe extern "C" fn on_lifecycle(
    _connection: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    event: c_int,
    _detail: c_int,
    opaque: *mut c_void,
) -> c_int {
    // SAFETY: the domain is valid for the time of this call.
    let Some(uuid) = (unsafe { uuid_of(domain) }) else {
        return 0;
    };
    // SAFETY: see the contract of this function; the reference does not outlive the call.
    let hub = unsafe { &*opaque.cast::<Arc<Hub>>() };
    let change = match event.cast_unsigned() {
        sys::VIR_DOMAIN_EVENT_DEFINED => Change::Defined,
        sys::VIR_DOMAIN_EVENT_UNDEFINED => Change::Undefined,
        sys::VIR_DOMAIN_EVENT_STARTED => Change::Started,
        sys::VIR_DOMAIN_EVENT_SUSPENDED => Change::Suspended,
        sys::VIR_DOMAIN_EVENT_RESUMED => Change::Resumed,
        sys::VIR_DOMAIN_EVENT_STOPPED => Change::Stopped,
        sys::VIR_DOMAIN_EVENT_SHUTDOWN => Change::ShuttingDown,
        sys::VIR_DOMAIN_EVENT_PMSUSPENDED => Change::Sleeping,
        sys::VIR_DOMAIN_EVENT_CRASHED => Change::Crashed,
        // An event of a newer libvirt: something happened that we have no word for.
        _ => {
            hub.send(&Event::Resync);
            return 0;
        }
    };
    hub.send(&Event::Domain { uuid, change });
    0
}

/// # Safety
/// libvirt calls it with a valid domain, and with the `opaque` of its registration: a boxed `Arc<Hub>` not yet freed.
unsafe extern "C" fn on_agent(
    _connection: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    state: c_int,
    _reason: c_int,
    opaque: *mut c_void,
) {
    // SAFETY: the domain is valid for the time of this call.
    let Some(uuid) = (unsafe { uuid_of(domain) }) else {
        return;
    };
    // SAFETY: see the contract of this function; the reference does not outlive the call.
    let hub = unsafe { &*opaque.cast::<Arc<Hub>>() };
    let connected = state.cast_unsigned() == sys::VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_CONNECTED;
    let change = if connected {
        Change::AgentConnected
    } else {
        Change::AgentDisconnected
    };
    hub.send(&Event::Domain { uuid, change });
}

/// # Safety
/// libvirt calls it with a valid domain, and with the `opaque` of its registration: a boxed `Arc<Hub>` not yet freed.
unsafe extern "C" fn on_device(
    _connection: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    _alias: *const c_char,
    opaque: *mut c_void,
) {
    // SAFETY: the domain is valid for the time of this call.
    let Some(uuid) = (unsafe { uuid_of(domain) }) else {
        return;
    };
    // SAFETY: see the contract of this function; the reference does not outlive the call.
    let hub = unsafe { &*opaque.cast::<Arc<Hub>>() };
    hub.send(&Event::Domain {
        uuid,
        change: Change::Devices,
    });
}

/// # Safety
/// The domain is valid.
unsafe fn uuid_of(domain: sys::virDomainPtr) -> Option<Uuid> {
    let mut bytes: uuid::Bytes = [0; 16];
    // SAFETY: see the contract of this function; the buffer has VIR_UUID_BUFLEN (16) bytes.
    let result = unsafe { sys::virDomainGetUUID(domain, bytes.as_mut_ptr()) };
    (result == 0).then(|| Uuid::from_bytes(bytes))
}

/// # Safety
/// `opaque` is a box of `Arc<Hub>` made by `register`, and this is called once for it.
unsafe extern "C" fn free_hub(opaque: *mut c_void) {
    // SAFETY: see the contract of this function.
    drop(unsafe { Box::from_raw(opaque.cast::<Arc<Hub>>()) });
}

/// # Safety
/// libvirt calls it with the `opaque` of its registration: a boxed `Arc<Loss>` not yet freed.
unsafe extern "C" fn on_close(_connection: sys::virConnectPtr, _reason: c_int, opaque: *mut c_void) {
    // SAFETY: see the contract of this function; the reference does not outlive the call.
    let loss = unsafe { &*opaque.cast::<Arc<Loss>>() };
    loss.report();
}

/// # Safety
/// `opaque` is a box of `Arc<Loss>` made by `register_close_callback`, and this is called once for it.
unsafe extern "C" fn free_loss(opaque: *mut c_void) {
    // SAFETY: see the contract of this function.
    drop(unsafe { Box::from_raw(opaque.cast::<Arc<Loss>>()) });
}

/// Hands out the current connection, and opens a new one when it is broken.
#[derive(Debug)]
pub(super) struct Link {
    options: LibvirtOptions,
    hub: Arc<Hub>,
    slot: Mutex<Slot>,
    opened: Condvar,
}

#[derive(Debug, Default)]
struct Slot {
    current: Option<Arc<Connection>>,
    opening: bool,
    opened_before: bool,
    failures: u32,
    retry: Option<(Instant, Error)>,
}

impl Link {
    pub fn new(options: LibvirtOptions) -> Self {
        Link {
            options,
            hub: Arc::default(),
            slot: Mutex::default(),
            opened: Condvar::new(),
        }
    }

    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// The connection, opened if need be. One caller opens, the others wait for it; between failed attempts callers get
    /// the last error at once.
    pub fn connection(&self) -> Result<Arc<Connection>> {
        let mut slot = self.lock();
        if let Some(connection) = slot.current.take_if(|connection| !connection.is_alive()) {
            // Outside the lock: closing is libvirt's business and may take its time.
            drop(slot);
            drop(connection);
            slot = self.lock();
        }
        if slot.opening {
            slot = self
                .opened
                .wait_timeout_while(slot, OPENING_WAIT, |slot| slot.opening)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        if let Some(connection) = &slot.current {
            return Ok(Arc::clone(connection));
        }
        let doing = || format!("connecting to libvirt at {}", self.options.uri);
        if slot.opening {
            return Err(Error::unavailable(doing(), "another call still waits for its answer"));
        }
        if let Some((at, error)) = &slot.retry
            && Instant::now() < *at
        {
            return Err(error.clone());
        }
        slot.opening = true;
        drop(slot);
        let result = Connection::open(&self.options, &self.hub);
        let mut slot = self.lock();
        slot.opening = false;
        self.opened.notify_all();
        match result {
            Ok(connection) => {
                let connection = Arc::new(connection);
                slot.current = Some(Arc::clone(&connection));
                (slot.failures, slot.retry) = (0, None);
                if std::mem::replace(&mut slot.opened_before, true) {
                    // Nobody told us what happened while there was no connection.
                    self.hub.send(&Event::Resync);
                }
                Ok(connection)
            }
            Err(error) => {
                let wait = FIRST_BACKOFF
                    .saturating_mul(1 << slot.failures.min(10))
                    .min(self.options.max_backoff);
                slot.failures = slot.failures.saturating_add(1);
                slot.retry = Some((Instant::now() + wait, error.clone()));
                Err(error)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
