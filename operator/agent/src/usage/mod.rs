//! What guests use, and what they say of themselves: measured often for the metrics, told seldom in the status.
//!
//! Nothing is decided by what is kept here, so an agent that is restarted loses nothing but the first figures.

mod figures;
mod guests;
mod plugs;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::Stream;
use kube::{ResourceExt, runtime::reflector::ObjectRef};
use prometheus_client::registry::Registry;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use virga_core::instance::{Counters, Guest, Health, is_news_of_usage, usage};
use virga_crds::{Instance, InstanceUsage};
use virga_hypervisor::DomainUsage;
use virga_runtime::class::chain;

pub use guests::follow as follow_guests;
use plugs::Plug;

use crate::host::{Host, READ};

/// How many Instances may wait for a look because something is new of them. One more comes again with the next figures.
const WAITING: usize = 256;

/// How often what is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Periods {
    /// Figures for the metrics.
    pub sample: Duration,
    /// What is told in the status is over so long.
    pub tell: Duration,
    /// A guest's agent.
    pub guest: Duration,
    /// From when a guest's agent connects until it is asked: a guest that boots has better things to do.
    pub greeting: Duration,
}

impl Default for Periods {
    fn default() -> Self {
        Self {
            sample: Duration::from_secs(15),
            tell: Duration::from_mins(5),
            guest: Duration::from_mins(10),
            greeting: Duration::from_secs(30),
        }
    }
}

/// The last figures of each guest. Clones share them.
#[derive(Clone, Debug)]
pub struct Usage {
    known: Arc<Mutex<Known>>,
    news: mpsc::Sender<ObjectRef<Instance>>,
}

#[derive(Debug, Default)]
struct Known {
    samples: Vec<Sample>,
    marks: HashMap<Uuid, Mark>,
    usage: HashMap<Uuid, InstanceUsage>,
    guests: HashMap<Uuid, Guest>,
}

/// What a guest has used, for the metrics.
#[derive(Debug)]
struct Sample {
    namespace: String,
    name: String,
    /// The Ports of its interfaces, by the device on the host.
    plugs: HashMap<String, Plug>,
    usage: DomainUsage,
}

/// From where on usage is counted.
#[derive(Debug)]
struct Mark {
    counters: Counters,
    at: Instant,
}

impl Usage {
    /// Nothing is known yet; the metrics show what will be. The Instances of which something is new are in the stream.
    pub fn new(registry: &mut Registry) -> (Self, impl Stream<Item = ObjectRef<Instance>> + Send + use<>) {
        let (news, woken) = mpsc::channel(WAITING);
        let known = Arc::<Mutex<Known>>::default();
        registry.register_collector(Box::new(figures::Figures::new(known.clone())));
        let woken = futures::stream::unfold(woken, |mut woken| async move {
            let next = woken.recv().await?;
            Some((next, woken))
        });
        (Self { known, news }, woken)
    }

    /// What is known of a guest, but its disks.
    pub fn health(&self, uid: Uuid) -> Health {
        let known = self.lock();
        Health {
            usage: known.usage.get(&uid).cloned(),
            guest: known.guests.get(&uid).cloned().unwrap_or_default(),
            disk_faults: Vec::new(),
        }
    }

    /// The guests that ran when they were looked at last.
    fn running(&self) -> HashSet<Uuid> {
        self.lock().samples.iter().map(|sample| sample.usage.uuid).collect()
    }

    fn set_guest(&self, uid: Uuid, guest: Guest) {
        self.lock().guests.insert(uid, guest);
    }

    fn wake(&self, instance: &Instance) {
        // A full queue is no loss: what is not told is found new again.
        let _ = self.news.try_send(ObjectRef::from_obj(instance));
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Measures until the process stops.
pub async fn run(host: Host, periods: Periods, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(periods.sample) => {}
        }
        measure(&host, periods.tell).await;
    }
}

async fn measure(host: &Host, tell: Duration) {
    let instances: HashMap<Uuid, Arc<Instance>> = host
        .stores
        .instances
        .state()
        .into_iter()
        .filter_map(|instance| Some((instance.uid()?.parse().ok()?, instance)))
        .collect();
    let uids: Vec<Uuid> = instances.keys().copied().collect();
    let measured = match host.calls.host(READ, move |hypervisor| hypervisor.usage(&uids)).await {
        Ok(measured) => measured,
        Err(error) => {
            // Old figures would be told as new ones.
            host.usage.lock().samples.clear();
            tracing::debug!(error = chain(&error), "measuring what guests use");
            return;
        }
    };
    let now = Instant::now();
    let mut known = host.usage.lock();
    known.samples.clear();
    let active: HashSet<Uuid> = measured.iter().map(|usage| usage.uuid).collect();
    known.marks.retain(|uid, _| active.contains(uid));
    known.usage.retain(|uid, _| active.contains(uid));
    known.guests.retain(|uid, _| active.contains(uid));
    for measured in measured {
        let uid = measured.uuid;
        let Some(instance) = instances.get(&uid) else { continue };
        // One that is busy tells nothing of its processors: then the others are half the truth.
        if let Some(counters) = counters(&measured) {
            let mark = known.marks.entry(uid).or_insert(Mark { counters, at: now });
            let passed = now.duration_since(mark.at);
            if passed >= tell {
                let used = usage(&mark.counters, &counters, passed, host.clock.now());
                *mark = Mark { counters, at: now };
                let told = instance.status.as_ref().and_then(|status| status.usage.as_deref());
                if let Some(used) = used.filter(|used| is_news_of_usage(told, used)) {
                    known.usage.insert(uid, used);
                    host.usage.wake(instance);
                }
            }
        }
        known.samples.push(Sample {
            namespace: instance.namespace().unwrap_or_default(),
            name: instance.name_any(),
            plugs: plugs::of(host, instance, uid),
            usage: measured,
        });
    }
}

fn counters(measured: &DomainUsage) -> Option<Counters> {
    let memory = &measured.memory;
    let of_disks = |what: fn(&virga_hypervisor::DiskUsage) -> Option<u64>| {
        let values = measured.disks.iter().filter_map(what);
        values.fold(0, u64::saturating_add)
    };
    let of_interfaces = |what: fn(&virga_hypervisor::InterfaceUsage) -> Option<u64>| {
        let values = measured.interfaces.iter().filter_map(what);
        values.fold(0, u64::saturating_add)
    };
    Some(Counters {
        cpu_ns: measured.cpu_ns?,
        memory: memory
            .available
            .zip(memory.usable.or(memory.unused))
            .map(|(available, free)| available.saturating_sub(free)),
        resident: memory.resident,
        disk: (!measured.disks.is_empty()).then(|| of_disks(|disk| disk.physical)),
        read: of_disks(|disk| disk.read_bytes),
        written: of_disks(|disk| disk.write_bytes),
        received: of_interfaces(|interface| interface.received_bytes),
        sent: of_interfaces(|interface| interface.sent_bytes),
    })
}
