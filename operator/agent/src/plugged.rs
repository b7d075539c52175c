//! What is plugged into which domain?
//!
//! libvirt is asked once, and again when it told of a change, when one was made from here, or when what it said has grown
//! old: a domain's description is too long to be read on each pass.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{Stream, stream};
use jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;
use tokio::{sync::broadcast, time::Instant};
use uuid::Uuid;
use virga_core::instance::Asked;
use virga_crds::Volume;
use virga_hypervisor::DomainDevices;

use crate::host::Host;

/// What libvirt said is believed for so long, should its word of a change get lost or never come.
const MAX_AGE: Duration = Duration::from_mins(9);
/// How many Volumes may wait to be looked at.
const CHANGES: usize = 1024;

/// What is plugged into the domains of this node. Clones share it.
#[derive(Clone)]
pub struct Plugged {
    known: Arc<Mutex<HashMap<Uuid, Known>>>,
    changed: broadcast::Sender<ObjectRef<Volume>>,
}

#[derive(Default)]
struct Known {
    devices: Option<Arc<DomainDevices>>,
    /// Counts changes: what was read before the last one is old.
    version: u64,
    read: Option<(u64, Instant)>,
    asked: BTreeMap<Asked, Timestamp>,
}

impl Default for Plugged {
    fn default() -> Self {
        Self {
            known: Arc::default(),
            changed: broadcast::channel(CHANGES).0,
        }
    }
}

impl Plugged {
    /// What is plugged into a domain.
    pub async fn of(&self, host: &Host, domain: Uuid) -> virga_hypervisor::Result<Arc<DomainDevices>> {
        let version = {
            let mut known = self.lock();
            let known = known.entry(domain).or_default();
            let fresh = known
                .read
                .is_some_and(|(version, at)| version == known.version && at.elapsed() < MAX_AGE);
            match &known.devices {
                Some(devices) if fresh => return Ok(devices.clone()),
                _ => known.version,
            }
        };
        let read = host.read(domain, move |hypervisor| hypervisor.devices(domain)).await;
        let mut known = self.lock();
        match read {
            Ok(devices) => {
                let devices = Arc::new(devices);
                let known = known.entry(domain).or_default();
                known.devices = Some(devices.clone());
                known.read = Some((version, Instant::now()));
                Ok(devices)
            }
            Err(error) => {
                if error.is_not_found() {
                    known.remove(&domain);
                }
                Err(error)
            }
        }
    }

    /// What libvirt said last, however long ago.
    pub fn last(&self, domain: Uuid) -> Option<Arc<DomainDevices>> {
        self.lock().get(&domain)?.devices.clone()
    }

    /// Something was, or may have been, changed.
    pub fn touch(&self, domain: Uuid) {
        if let Some(known) = self.lock().get_mut(&domain) {
            known.version += 1;
        }
    }

    /// Anything may have been changed.
    pub fn touch_all(&self) {
        for known in self.lock().values_mut() {
            known.version += 1;
        }
    }

    /// The domain is gone.
    pub fn forget(&self, domain: Uuid) {
        self.lock().remove(&domain);
    }

    /// Notes that something was asked for. Only to spare the guest: one who forgets asks once more.
    pub fn ask(&self, domain: Uuid, what: Asked, now: Timestamp) {
        self.lock().entry(domain).or_default().asked.insert(what, now);
    }

    /// It is not asked for any more.
    pub fn unask(&self, domain: Uuid, what: &Asked) {
        if let Some(known) = self.lock().get_mut(&domain) {
            known.asked.remove(what);
        }
    }

    /// How long ago what was asked for.
    pub fn asked(&self, domain: Uuid, now: Timestamp) -> BTreeMap<Asked, Duration> {
        let known = self.lock();
        let asked = known.get(&domain).map(|known| &known.asked);
        let ago = |at: &Timestamp| Duration::try_from(now.duration_since(*at)).unwrap_or_default();
        asked
            .into_iter()
            .flatten()
            .map(|(what, at)| (what.clone(), ago(at)))
            .collect()
    }

    /// A Volume was plugged in or out.
    pub fn tell(&self, volume: ObjectRef<Volume>) {
        // Nobody listening is fine.
        let _ = self.changed.send(volume);
    }

    /// Volumes that were plugged in or out from now on. One that falls behind misses some: each is told of again by its
    /// Instance.
    pub fn changes(&self) -> impl Stream<Item = ObjectRef<Volume>> + Send + use<> {
        stream::unfold(self.changed.subscribe(), |mut changed| async move {
            loop {
                match changed.recv().await {
                    Ok(volume) => return Some((volume, changed)),
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a domain has a file, or will have it from its next start on.
pub fn has_file(devices: &DomainDevices, file: &Path) -> bool {
    let running = devices.running.as_ref();
    devices.defined.disk(file).is_some() || running.is_some_and(|running| running.disk(file).is_some())
}
