//! Telling of the node: when something changes, at most once a second but for what somebody waits for, and not at all when
//! nothing does.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::api::core::v1::Node;
use kube::{Api, ResourceExt};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use virga_crds::{Bytes, HostMetric, Hypervisor, HypervisorAddress, HypervisorSpec, InstanceTopology};
use virga_runtime::{class::chain, health::Check};

use super::{
    cpu_monitor::CpuMonitor,
    status::{Told, status},
};
use crate::{capacity::Disk, host::Host, room};

/// The shortest time between two writes.
const COALESCE: Duration = Duration::from_secs(1);
/// How often the node is looked at when nobody says that something changed: free space has no event.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// How old what is told of the host may be: huge pages and devices come and go without an event.
const FACTS: Duration = Duration::from_mins(1);
/// How often libvirt is asked while it is away.
const LIBVIRT_AGAIN: Duration = Duration::from_secs(2);

/// Says that something changed. Clones share it.
#[derive(Clone, Default)]
pub struct Wake {
    notify: Arc<Notify>,
    urgent: Arc<Notify>,
    /// Why libvirt can't be reached; absent when it can.
    unreachable: Arc<Mutex<Option<String>>>,
}

impl Wake {
    /// Look again.
    pub fn wake(&self) {
        self.notify.notify_one();
    }

    /// Look again at once: somebody waits for what is to be told, and it happens seldom.
    pub fn wake_at_once(&self) {
        self.urgent.notify_one();
    }

    /// The connection to libvirt was lost.
    pub fn lost(&self, why: &str) {
        *self.lock() = Some(why.to_owned());
        self.wake();
    }

    /// Why libvirt can't be reached.
    pub fn unreachable(&self) -> Option<String> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.unreachable.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the report is made with, beside the host.
pub struct Reporter {
    /// The host.
    pub host: Host,
    /// Who says that something changed.
    pub wake: Wake,
    /// Below this much free space the disk is under pressure.
    pub min_free: Bytes,
    /// Whether the host's CPUs are measured.
    pub monitors_cpu: bool,
    /// The host's address; the Node's own when absent.
    pub host_ip: Option<String>,
    /// Whether libvirt can be reached, for `/readyz`.
    pub check: Check,
    /// Called when libvirt is there again: everything is looked at anew.
    pub reconnected: Arc<dyn Fn() + Send + Sync>,
}

/// Reports until the process stops.
pub async fn run(reporter: Reporter, stop: CancellationToken) {
    let mut addresses = Vec::new();
    let mut monitor = reporter.monitors_cpu.then(CpuMonitor::default);
    let mut next = Instant::now();
    // Until libvirt has answered once, it counts as away.
    reporter.wake.lost("not asked yet");
    loop {
        reporter.look_at_libvirt().await;
        if addresses.is_empty() {
            addresses = reporter.addresses().await;
        }
        let metrics = monitor.as_mut().map(|monitor| monitor.metrics(Instant::now()));
        let metrics = metrics.unwrap_or_default();
        if let Err(error) = reporter.report(addresses.clone(), metrics).await {
            tracing::warn!(error = chain(&error), "reporting the Hypervisor");
        }
        let host = &reporter.host;
        host.metrics.node(host.images.used_bytes(), host.calls.load().stuck);
        next = (next + COALESCE).max(Instant::now() + COALESCE);
        let pause = match reporter.wake.unreachable() {
            Some(_) => LIBVIRT_AGAIN,
            None => LOOK_EVERY,
        };
        let changed = async {
            tokio::select! {
                () = reporter.wake.notify.notified() => {}
                () = sleep(pause) => {}
            }
            sleep_until(next).await;
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = reporter.wake.urgent.notified() => {}
            () = changed => {}
        }
    }
}

impl Reporter {
    /// Asks libvirt whether it is back, if it was away.
    async fn look_at_libvirt(&self) {
        let Some(before) = self.wake.unreachable() else { return };
        match self.host.facts.refresh(&self.host.calls).await {
            Ok(facts) => {
                *self.wake.lock() = None;
                self.check.pass();
                tracing::info!(
                    libvirt = facts.libvirt_version,
                    qemu = facts.hypervisor_version,
                    domain_type = self.host.domain_type.on(&facts).as_str(),
                    "libvirt answers"
                );
                (self.reconnected)();
            }
            Err(error) => {
                let why = error.to_string();
                if why != before {
                    tracing::warn!(error = why, "libvirt can't be reached");
                }
                self.check.fail(why.clone());
                *self.wake.lock() = Some(why);
            }
        }
    }

    async fn report(
        &self,
        addresses: Vec<HypervisorAddress>,
        metrics: Vec<HostMetric>,
    ) -> Result<(), virga_runtime::apply::Error> {
        let host = &self.host;
        let known = host
            .stores
            .hypervisor
            .find(|hypervisor| hypervisor.name_any() == host.node);
        let hypervisor = if let Some(hypervisor) = known {
            hypervisor
        } else {
            let new = Hypervisor::new(&host.node, HypervisorSpec::default());
            match host.writer.create(&new).await? {
                Some(created) => Arc::new(created),
                // Somebody made it just now: the watch will show it.
                None => return Ok(()),
            }
        };
        let unreachable = self.wake.unreachable();
        let facts = match unreachable {
            None => host.facts.within(&host.calls, FACTS).await.ok(),
            Some(_) => None,
        };
        let (promised, instances) = room::promised(host);
        let told = Told {
            facts: facts.as_deref(),
            domain_type: facts.as_deref().map(|facts| host.domain_type.on(facts).as_str()),
            unreachable: unreachable.as_deref(),
            disk: Disk::of(&host.layout),
            min_free: self.min_free,
            promised,
            instances,
            held: self.held().await,
            metrics,
            images: host.images.report(),
            addresses,
            transfer_port: host.transfers.port(),
            version: env!("CARGO_PKG_VERSION"),
        };
        let status = status(&hypervisor, told, host.clock.now());
        host.writer.apply_status(hypervisor.as_ref(), &status).await?;
        Ok(())
    }

    /// What Instances have of the host's CPUs and devices, by their names; nothing while it can't be read, which each
    /// claim tells of.
    async fn held(&self) -> Vec<(String, InstanceTopology)> {
        let held = self.host.topologies.all().await.unwrap_or_default();
        let mut held: Vec<_> = held
            .into_iter()
            .map(|(uid, topology)| {
                let instance = self.host.stores.instance(&uid.to_string());
                let name = instance.map(|instance| {
                    let namespace = instance.namespace().unwrap_or_default();
                    format!("{namespace}/{}", instance.name_any())
                });
                (name.unwrap_or_else(|| uid.to_string()), topology)
            })
            .collect();
        held.sort_by(|(one, _), (other, _)| one.cmp(other));
        held
    }

    /// From the flag, or the Node's own.
    async fn addresses(&self) -> Vec<HypervisorAddress> {
        let internal = |address: String| HypervisorAddress {
            kind: "InternalIP".into(),
            address,
        };
        if let Some(address) = &self.host_ip {
            return vec![internal(address.clone())];
        }
        let node = Api::<Node>::all(self.host.client.clone())
            .get_opt(&self.host.node)
            .await;
        let status = node.ok().flatten().and_then(|node| node.status).unwrap_or_default();
        let addresses = status.addresses.unwrap_or_default().into_iter();
        addresses
            .filter(|address| address.type_ == "InternalIP")
            .map(|address| internal(address.address))
            .take(16)
            .collect()
    }
}
