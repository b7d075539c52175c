//! What every kind's controller works with.

use std::sync::Arc;

use kube::Client;
use virga_runtime::{apply::Writer, clock::Clock, events::Events, lease::Leadership, metrics::ReconcileMetrics};

use crate::{ovn::Carrier, scheduling::Scheduler, stores::Stores};

/// What every kind's controller works with. One a process, shared.
#[derive(Clone)]
pub struct Context {
    /// What carries the networks.
    pub carrier: Carrier,
    /// The API server. Prefer [`Self::writer`] for writes and [`Self::stores`] for reads.
    pub client: Client,
    /// Wall and monotonic time.
    pub clock: Arc<dyn Clock>,
    /// Events for users.
    pub events: Events,
    /// Whether this process leads. Controllers run in the leader only; one that has been at work for long asks again
    /// before it writes.
    pub leadership: Leadership,
    /// The counters of all loops.
    pub metrics: ReconcileMetrics,
    /// The namespace that Virga's own processes run in.
    pub namespace: String,
    /// Where Instances run, and how long a node has been silent.
    pub scheduler: Arc<Scheduler>,
    /// What the cluster holds.
    pub stores: Stores,
    /// Writes as the field manager [`virga_crds::managers::CONTROLLER`].
    pub writer: Writer,
}
