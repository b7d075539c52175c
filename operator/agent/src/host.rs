//! What every part of the agent works with.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::BoxFuture;
use kube::Client;
use tokio::time::Instant;
use uuid::Uuid;
use virga_hypervisor::{Cache, Calls, DomainType, HostFacts, Hypervisor};
use virga_images::disk::QemuImg;
use virga_runtime::{apply::Writer, clock::Clock, events::Events};
use virga_scheduler::Ratios;

use crate::{
    ask::Ask, claims::Claims, image::Images, layout::Layout, metrics::Metrics, plugged::Plugged, port::Networks,
    snapshot::Snapshots, stores::Stores, topology::Topologies, transfer::Transfers, turns::Turns, usage::Usage,
};

/// How long a call that only reads may take.
pub const READ: Duration = Duration::from_secs(10);
/// How long a call that changes a domain or a network may take.
pub const CHANGE: Duration = Duration::from_mins(1);

/// Called before and after each effect, with the effect's name. The tests of crashes listen; nothing else does.
pub type Checkpoint = Arc<dyn Fn(Moment, &'static str) -> BoxFuture<'static, ()> + Send + Sync>;

/// When a [`Checkpoint`] is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Right before.
    Before,
    /// Right after.
    After,
}

/// This node, and what acts on it.
#[derive(Clone)]
pub struct Host {
    /// Its name.
    pub node: String,
    /// Where on it is what.
    pub layout: Layout,
    /// Its libvirt.
    pub calls: Calls,
    /// How its guests are run.
    pub domain_type: DomainChoice,
    /// What libvirt told about the host.
    pub facts: Facts,
    /// How many times over it is promised, where its Hypervisor doesn't say.
    pub ratios: Ratios,
    /// Its images.
    pub images: Images,
    /// Images that are being made of its Instances.
    pub snapshots: Snapshots,
    /// Its networks.
    pub networks: Networks,
    /// Its volumes, and who has them.
    pub claims: Claims,
    /// What is plugged into its domains.
    pub plugged: Plugged,
    /// What of its CPUs, pages and devices Instances have.
    pub topologies: Topologies,
    /// Its disks.
    pub disks: QemuImg,
    /// How guests' disks are cached.
    pub disk_cache: Cache,
    /// The controller, for what the API server does not give.
    pub controller: Ask,
    /// Who acts on an Instance.
    pub turns: Turns,
    /// Bytes from and to other hosts.
    pub transfers: Transfers,
    /// What its guests use, and say of themselves.
    pub usage: Usage,
    /// What the cluster holds for it.
    pub stores: Stores,
    /// For reads past the stores.
    pub client: Client,
    /// Writes to the API.
    pub writer: Writer,
    /// Events to users.
    pub events: Events,
    /// What is counted.
    pub metrics: Metrics,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// For tests of crashes.
    pub checkpoint: Option<Checkpoint>,
}

impl Host {
    /// A call for one domain that only reads.
    pub async fn read<T, F>(&self, domain: Uuid, call: F) -> virga_hypervisor::Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Hypervisor) -> virga_hypervisor::Result<T> + Send + 'static,
    {
        self.calls.look(domain, READ, call).await
    }

    /// A call that changes one domain.
    pub async fn change<T, F>(&self, domain: Uuid, call: F) -> virga_hypervisor::Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Hypervisor) -> virga_hypervisor::Result<T> + Send + 'static,
    {
        self.calls.domain(domain, CHANGE, call).await
    }

    /// A call that changes one domain and is known to take long. One too many at once is refused, and tried again.
    pub async fn long<T, F>(&self, domain: Uuid, deadline: Duration, call: F) -> virga_hypervisor::Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Hypervisor) -> virga_hypervisor::Result<T> + Send + 'static,
    {
        self.calls.long(domain, deadline, call).await
    }

    /// Carries an effect out, counts it, and passes the points that a test may want to stop at.
    pub async fn carry_out<T, E>(&self, effect: &'static str, act: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        self.reach(Moment::Before, effect).await;
        let began = Instant::now();
        let result = act.await;
        self.metrics.effect(effect, result.is_ok(), began.elapsed());
        if result.is_ok() {
            tracing::info!(effect, took_ms = began.elapsed().as_millis(), "done");
        }
        self.reach(Moment::After, effect).await;
        result
    }

    async fn reach(&self, moment: Moment, effect: &'static str) {
        if let Some(checkpoint) = &self.checkpoint {
            checkpoint(moment, effect).await;
        }
    }
}

/// How guests are run, as the operator asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DomainChoice {
    /// With KVM where it works.
    Auto,
    /// In this way.
    Always(DomainType),
}

impl DomainChoice {
    /// How guests are run on a host with these facts.
    ///
    /// libvirt offers KVM wherever `/dev/kvm` exists, and that proves little: on a host whose CPU has no virtualization
    /// of its own, a paravirtual `/dev/kvm` opens and guests hang. So `Auto` asks the CPU as well.
    pub fn on(self, facts: &HostFacts) -> DomainType {
        match self {
            Self::Always(domain_type) => domain_type,
            Self::Auto if facts.domain_types.contains(&DomainType::Kvm) && cpu_virtualizes() => DomainType::Kvm,
            // libvirt's test driver, which has no other.
            Self::Auto if facts.domain_types == [DomainType::Test] => DomainType::Test,
            Self::Auto => DomainType::Qemu,
        }
    }
}

/// Whether the CPU has virtualization: Intel's VMX or AMD's SVM. Other architectures show it by `/dev/kvm` alone.
fn cpu_virtualizes() -> bool {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut flags = info.lines().filter(|line| line.starts_with("flags"));
    if cfg!(target_arch = "x86_64") {
        flags.any(|line| line.split_whitespace().any(|flag| flag == "vmx" || flag == "svm"))
    } else {
        true
    }
}

/// The host's facts. Clones share them.
#[derive(Clone, Default)]
pub struct Facts {
    known: Arc<Mutex<Option<Known>>>,
}

struct Known {
    facts: Arc<HostFacts>,
    at: Instant,
}

impl Facts {
    /// The facts; libvirt is asked when they are not known.
    pub async fn get(&self, calls: &Calls) -> virga_hypervisor::Result<Arc<HostFacts>> {
        self.within(calls, Duration::MAX).await
    }

    /// The facts; libvirt is asked when they are not known, or are older than this.
    pub async fn within(&self, calls: &Calls, age: Duration) -> virga_hypervisor::Result<Arc<HostFacts>> {
        let known = {
            let known = self.lock();
            let young = known.as_ref().filter(|known| known.at.elapsed() <= age);
            young.map(|known| known.facts.clone())
        };
        match known {
            Some(facts) => Ok(facts),
            None => self.refresh(calls).await,
        }
    }

    /// Asks libvirt anew: it may have been upgraded while it was away, and huge pages and devices come and go.
    pub async fn refresh(&self, calls: &Calls) -> virga_hypervisor::Result<Arc<HostFacts>> {
        let facts = Arc::new(calls.host(READ, Hypervisor::facts).await?);
        let at = Instant::now();
        *self.lock() = Some(Known {
            facts: facts.clone(),
            at,
        });
        Ok(facts)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
