//! What is free, and who decides? One lock over the cluster's index and the queue of those that wait, held for as long
//! as one decision takes and never across an await.
//!
//! Every replica keeps the index up to date, so that a new leader can decide soon; only a leader whose index is known to
//! be complete decides (see [`super::takeover`]).

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kube::ResourceExt;
use prometheus_client::registry::Registry;
use tokio::{sync::Notify, time::Instant};
use virga_core::host_aggregate::Aggregates;
use virga_crds::Instance;
use virga_runtime::{clock::Clock, heartbeat::Heartbeats};
use virga_scheduler::{
    Asker, Backoff, Cause, Cluster, Placement, Profile, Refusal, Request, Resources, Settings, Uid, Waiting,
};

use super::{
    host::HostDefaults,
    index::pending_key,
    load::{Build, Loads},
    metrics::Metrics,
    obstacle::Obstacle,
    profile, request,
    resizes::Grant,
};
use crate::stores::Stores;

/// How long a reservation holds for a create that has not been seen: some webhook after us may have refused it.
pub const RESERVATION_HOLDS: Duration = Duration::from_secs(30);
/// An agent's Lease is named for its node, with this in front.
pub(super) const LEASE_PREFIX: &str = "virga-";

/// `namespace/name` of an Instance.
pub type Key = (String, String);

/// Who decides where Instances run. Shared by the webhook and the queue.
pub struct Scheduler {
    state: Mutex<State>,
    pub(super) stores: Stores,
    pub(super) clock: Arc<dyn Clock>,
    epoch: Instant,
    pub(super) defaults: HostDefaults,
    /// Something happened that the queue should look at.
    pub(super) woken: Notify,
    metrics: Metrics,
}

pub(super) struct State {
    pub(super) cluster: Cluster,
    pub(super) waiting: Waiting,
    pub(super) beats: Heartbeats,
    /// Every Instance that was seen.
    pub(super) known: HashMap<Key, Known>,
    /// The key of each Instance that waits.
    pub(super) waiters: HashMap<Uid, Key>,
    /// Every Volume that counts on a node.
    pub(super) volumes: HashMap<Key, Uid>,
    /// Every Flavor that was seen.
    pub(super) flavors: HashSet<String>,
    /// The aggregates, as they were when one of them changed last.
    pub(super) aggregates: Arc<Aggregates>,
    /// The aggregates of each host.
    pub(super) memberships: HashMap<String, BTreeSet<String>>,
    /// What each host is busy with.
    pub(super) loads: Loads,
    /// What admission reserved for creates that have not been seen yet, oldest first.
    pub(super) pending: HashMap<Key, Vec<Pending>>,
    /// What was found for a resize and is not seen in the stores yet.
    pub(super) grants: HashMap<Uid, Grant>,
    /// What is held on the targets of Migrations.
    pub(super) migrations: HashMap<Key, Uid>,
    pub(super) open: bool,
}

/// What was last seen of an Instance, to tell what has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) uid: Uid,
    pub(super) generation: Option<i64>,
    pub(super) placed: bool,
    pub(super) build: Option<Build>,
}

/// A reservation for a create. The object has no UID yet when admission decides, so it is held under the review's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pending {
    pub(super) review: Uid,
    pub(super) host: String,
    pub(super) resources: Resources,
}

/// What came of asking for a host.
#[derive(Debug)]
pub enum Decision {
    /// This one. Unless it was a dry run, the room on it is reserved.
    Placed(Placement),
    /// None, with the reasons.
    Refused(Refusal),
    /// The Instance can't be placed whatever the hosts offer.
    Obstructed(Vec<Obstacle>),
    /// This process doesn't decide: it does not lead, or does not know enough yet.
    Closed,
}

impl Decision {
    fn label(&self) -> &'static str {
        match self {
            Self::Placed(_) => "placed",
            Self::Refused(_) => "refused",
            Self::Obstructed(_) => "obstructed",
            Self::Closed => "closed",
        }
    }
}

impl Scheduler {
    /// A scheduler that knows nothing yet, and does not decide.
    pub fn new(stores: Stores, clock: Arc<dyn Clock>, defaults: HostDefaults, registry: &mut Registry) -> Self {
        let settings = Settings {
            profile: profile::resolved(),
            reservation_ttl: RESERVATION_HOLDS,
            seed: fastrand::u64(..),
        };
        Self {
            state: Mutex::new(State {
                cluster: Cluster::new(settings),
                waiting: Waiting::new(Backoff::default()),
                beats: Heartbeats::default(),
                known: HashMap::new(),
                waiters: HashMap::new(),
                volumes: HashMap::new(),
                flavors: HashSet::new(),
                aggregates: Arc::default(),
                memberships: HashMap::new(),
                loads: Loads::default(),
                pending: HashMap::new(),
                grants: HashMap::new(),
                migrations: HashMap::new(),
                open: false,
            }),
            epoch: clock.instant(),
            stores,
            clock,
            defaults,
            woken: Notify::new(),
            metrics: Metrics::register(registry),
        }
    }

    /// Decides by this profile from now on. What is placed stays; what waits is tried again.
    pub fn set_profile(&self, profile: Profile) {
        self.state().cluster.set_profile(profile);
        self.woken.notify_one();
    }

    /// Where a create would go; unless it is a dry run, the room is reserved until the object is seen bound, or for
    /// [`RESERVATION_HOLDS`]. `review` is the admission review's UID.
    pub fn admit(&self, review: &str, instance: &Instance, dry_run: bool) -> Decision {
        let request = request::request(review, instance, &self.stores, self.clock.now());
        self.decide(request, |state, request, now| {
            if dry_run {
                return state.cluster.dry_run(request);
            }
            let placement = state.cluster.schedule(request, now);
            state.cluster.asked_by(&request.uid, Asker::Admission);
            let placement = placement?;
            let pending = Pending {
                review: request.uid.clone(),
                host: placement.host.clone(),
                resources: request.resources,
            };
            let list = state.pending.entry(pending_key(instance)).or_default();
            // The API server asks again with the same review when an answer got lost.
            list.retain(|known| known.review != pending.review);
            list.push(pending);
            if state.cluster.reservations() == 1 {
                // The queue sleeps while there is nothing that could expire.
                self.woken.notify_one();
            }
            Ok(placement)
        })
    }

    /// A host for an Instance that waits, reserved under its own UID.
    pub(super) fn place(&self, instance: &Instance) -> Decision {
        let uid = instance.uid().unwrap_or_default();
        let request = request::request(&uid, instance, &self.stores, self.clock.now());
        let asked = request.as_ref().ok().cloned();
        let decision = self.decide(request, |state, request, now| {
            let placement = state.cluster.schedule(request, now);
            state.cluster.asked_by(&request.uid, Asker::Queue);
            placement
        });
        let cause = match (&decision, asked) {
            (Decision::Refused(refusal), Some(asked)) => Cause::refused(&asked, refusal),
            (Decision::Obstructed(obstacles), _) => obstacles
                .first()
                .map_or(Cause::Transient, |first| Cause::Missing(first.waits_for.clone())),
            _ => Cause::Transient,
        };
        let uid = Uid::from(uid);
        let mut state = self.state();
        state.waiting.park(&uid, cause, self.now());
        decision
    }

    pub(super) fn decide(
        &self,
        request: Result<Request, Vec<Obstacle>>,
        ask: impl FnOnce(&mut State, &Request, Duration) -> Result<Placement, Refusal>,
    ) -> Decision {
        let began = std::time::Instant::now();
        let now = self.now();
        let mut state = self.state();
        if !state.open {
            return Decision::Closed;
        }
        let decision = match request {
            Err(obstacles) => Decision::Obstructed(obstacles),
            Ok(request) => match ask(&mut state, &request, now) {
                Ok(placement) => Decision::Placed(placement),
                Err(refusal) => Decision::Refused(refusal),
            },
        };
        self.spread(&mut state);
        drop(state);
        self.metrics.decided(decision.label(), began.elapsed());
        decision
    }

    /// The binding could not be written: the room is free again.
    pub(super) fn unreserve(&self, uid: &str) {
        let mut state = self.state();
        state.cluster.unreserve(&uid.into());
        self.spread(&mut state);
    }

    /// What was decided for an Instance that waits could not be written: it is tried again soon.
    pub(super) fn retry(&self, instance: &Instance) {
        let uid = Uid::from(instance.uid().unwrap_or_default());
        self.state().waiting.park(&uid, Cause::Transient, self.now());
    }

    /// Ends the reservations that nobody confirmed. Returns how many there were.
    pub fn expire(&self) -> usize {
        let now = self.now();
        let mut state = self.state();
        let expired = state.cluster.expire(now);
        if !expired.is_empty() {
            for list in state.pending.values_mut() {
                list.retain(|pending| !expired.contains(&pending.review));
            }
            state.pending.retain(|_, list| !list.is_empty());
        }
        self.spread(&mut state);
        expired.len()
    }

    /// Those that are worth another try, each handed out once, and when to ask again.
    pub(super) fn due(&self, limit: usize) -> (Vec<Key>, Option<Duration>) {
        let now = self.now();
        let mut state = self.state();
        if !state.open {
            return (Vec::new(), None);
        }
        let due = state.waiting.due(now, limit);
        let mut keys = Vec::with_capacity(due.len());
        for uid in due {
            match state.waiters.get(&uid) {
                Some(key) => keys.push(key.clone()),
                // It was bound or deleted while it was being tried.
                None => state.waiting.remove(&uid),
            }
        }
        let next = state.waiting.next_due().map(|at| at.saturating_sub(now));
        (keys, next)
    }

    /// This process decides from now on. Only [`super::takeover`] knows when.
    pub(super) fn open(&self) {
        self.state().open = true;
        self.woken.notify_one();
    }

    /// This process decides no more.
    pub fn close(&self) {
        self.state().open = false;
    }

    /// Whether this process decides.
    pub fn is_open(&self) -> bool {
        self.state().open
    }

    /// How long the agent of this node has been silent, by this process's own clock; `None` if it was never heard of.
    /// It is lost after [`virga_core::hypervisor::HEARTBEAT_LIMIT`].
    pub fn silence(&self, node: &str) -> Option<Duration> {
        self.state()
            .beats
            .silence(&format!("{LEASE_PREFIX}{node}"), self.clock.instant())
    }

    /// What is promised on a host.
    pub fn usage(&self, host: &str) -> virga_scheduler::Usage {
        self.state().cluster.usage(host)
    }

    /// How many reservations have not been confirmed yet.
    pub fn reservations(&self) -> usize {
        self.state().cluster.reservations()
    }

    pub(super) fn now(&self) -> Duration {
        self.clock.instant().saturating_duration_since(self.epoch)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // A panic in a decision leaves the index as it was before or after one step of it; the slow resync mends it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells those that wait what has happened.
    pub(super) fn spread(&self, state: &mut State) {
        let events = state.cluster.take_events();
        for event in &events {
            state.waiting.wake(event);
        }
        self.metrics.now(state.waiting.len(), state.cluster.reservations());
        if !events.is_empty() {
            self.woken.notify_one();
        }
    }
}
