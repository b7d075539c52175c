//! Is that node alive? Its agent renews a Lease of its own; whoever reads it judges by its own clock.

use std::{collections::HashMap, sync::Arc, time::Duration};

use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::{class, clock::Clock, lease::micros};

/// Which Lease an agent renews, and how often.
#[derive(Debug, Clone)]
pub struct Options {
    /// The Lease's namespace.
    pub namespace: String,
    /// The Lease's name.
    pub name: String,
    /// The holder: the node's name.
    pub holder: String,
    /// The field manager of the writes.
    pub manager: String,
    /// How often it is renewed.
    pub interval: Duration,
    /// `leaseDurationSeconds`: after this much silence a reader takes the node for lost.
    pub duration: Duration,
}

impl Options {
    /// Renewed every 10 s, lost after 40 s, as the kubelet's.
    pub fn new(
        namespace: impl Into<String>,
        name: impl Into<String>,
        holder: impl Into<String>,
        manager: impl Into<String>,
    ) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            holder: holder.into(),
            manager: manager.into(),
            interval: Duration::from_secs(10),
            duration: Duration::from_secs(40),
        }
    }
}

/// Renews the Lease until `stop` is cancelled. A failure is logged when it begins and when it ends, and tried again at
/// the next interval.
pub async fn run(client: Client, clock: Arc<dyn Clock>, options: Options, stop: CancellationToken) {
    let api = Api::<Lease>::namespaced(client, &options.namespace);
    let params = PatchParams::apply(&options.manager).force();
    let mut ticks = interval(options.interval);
    // After a pause (a suspended host) one renewal is enough.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let patch = Patch::Apply(lease(&options, clock.as_ref()));
        let result = match timeout(options.interval, api.patch(&options.name, &params, &patch)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(class::chain(&error)),
            Err(_) => Err("no answer".to_owned()),
        };
        match &result {
            Err(error) if !failing => tracing::warn!(name = options.name, error, "renewing the heartbeat"),
            Ok(()) if failing => tracing::info!(name = options.name, "the heartbeat is renewed again"),
            _ => {}
        }
        failing = result.is_err();
    }
}

fn lease(options: &Options, clock: &dyn Clock) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"namespace": options.namespace, "name": options.name},
        "spec": {
            "holderIdentity": options.holder,
            "leaseDurationSeconds": options.duration.as_secs(),
            // Six digits, always: the API server's MicroTime takes nothing else.
            "renewTime": format!("{:.6}", micros(clock.now())),
        },
    })
}

/// The reader's side: when did each node's Lease last change, by this process's own monotonic clock?
///
/// Feed it every Lease seen (from a watch, or a list). The times inside a Lease are never compared with ours, so hosts
/// whose clocks differ do no harm. After a start, every node counts as alive until a full duration has passed.
#[derive(Debug, Clone, Default)]
pub struct Heartbeats {
    seen: HashMap<String, Beat>,
}

#[derive(Debug, Clone)]
struct Beat {
    mark: Mark,
    at: Instant,
}

/// What changes when a holder renews, and only then: labels of a Lease may change without a heartbeat.
#[derive(Debug, Clone, PartialEq)]
struct Mark {
    uid: Option<String>,
    holder: Option<String>,
    renewed: Option<jiff::Timestamp>,
}

impl Heartbeats {
    /// Notes a Lease as it is now.
    pub fn observe(&mut self, lease: &Lease, now: Instant) {
        let Some(name) = lease.metadata.name.clone() else {
            return;
        };
        let spec = lease.spec.as_ref();
        let mark = Mark {
            uid: lease.metadata.uid.clone(),
            holder: spec.and_then(|spec| spec.holder_identity.clone()),
            renewed: spec.and_then(|spec| spec.renew_time.as_ref()).map(|time| time.0),
        };
        match self.seen.get_mut(&name) {
            Some(beat) if beat.mark == mark => {}
            _ => {
                self.seen.insert(name, Beat { mark, at: now });
            }
        }
    }

    /// Forgets a Lease that is gone.
    pub fn forget(&mut self, name: &str) {
        self.seen.remove(name);
    }

    /// How long the Lease of this name has not changed; `None` if it was never seen.
    pub fn silence(&self, name: &str, now: Instant) -> Option<Duration> {
        self.seen.get(name).map(|beat| now.duration_since(beat.at))
    }

    /// Whether the Lease of this name was seen and has changed within `limit`.
    pub fn is_fresh(&self, name: &str, now: Instant, limit: Duration) -> bool {
        self.silence(name, now).is_some_and(|silence| silence < limit)
    }

    /// When the next of these Leases will have been silent for `limit`, if none changes: the time to look again.
    pub fn next_expiry(&self, now: Instant, limit: Duration) -> Option<Instant> {
        self.seen
            .values()
            .map(|beat| beat.at + limit)
            .filter(|at| *at > now)
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use virga_testkit::{FakeApi, Fault};

    const LIMIT: Duration = Duration::from_secs(40);

    fn options() -> Options {
        Options::new("virga-system", "n1", "n1", "virga-agent")
    }

    fn start(api: &FakeApi) -> CancellationToken {
        let stop = CancellationToken::new();
        tokio::spawn(run(
            api.client_as("n1"),
            Arc::new(api.clock().reader()),
            options(),
            stop.clone(),
        ));
        stop
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_writes_its_lease_once_per_interval() {
        let api = FakeApi::new();
        start(&api);
        tokio::time::sleep(Duration::from_secs(35)).await;
        assert_eq!(api.writes_to("leases", Some("virga-system"), "n1").len(), 4);
        let lease: Lease = api.read(Some("virga-system"), "n1").unwrap();
        assert_eq!(lease.spec.unwrap().lease_duration_seconds, Some(40));
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_api_server_does_not_end_the_heartbeat() {
        let api = FakeApi::new();
        start(&api);
        api.inject(Fault::status(500).resource("leases").times(2));
        api.inject(Fault::hang().resource("leases").times(1));
        tokio::time::sleep(Duration::from_secs(61)).await;
        let written = api
            .writes_to("leases", Some("virga-system"), "n1")
            .iter()
            .filter(|r| r.code < 300)
            .count();
        assert!(written >= 3, "{written}");
    }

    #[tokio::test(start_paused = true)]
    async fn it_stops_when_asked() {
        let api = FakeApi::new();
        start(&api).cancel();
        tokio::time::sleep(Duration::from_mins(1)).await;
        assert!(api.log().len() <= 1);
    }

    #[tokio::test(start_paused = true)]
    async fn freshness_is_judged_by_the_readers_own_clock() {
        let api = FakeApi::new();
        let stop = start(&api);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut beats = Heartbeats::default();
        let mut lease: Lease = api.read(Some("virga-system"), "n1").unwrap();
        // The agent's clock is an hour behind: nobody cares.
        lease.spec.as_mut().unwrap().renew_time.as_mut().unwrap().0 -= jiff::SignedDuration::from_hours(1);
        beats.observe(&lease, Instant::now());
        stop.cancel();

        tokio::time::sleep(Duration::from_secs(39)).await;
        beats.observe(&lease, Instant::now());
        assert!(beats.is_fresh("n1", Instant::now(), LIMIT));
        assert_eq!(
            beats.next_expiry(Instant::now(), LIMIT),
            Some(Instant::now() + Duration::from_secs(1))
        );

        tokio::time::sleep(Duration::from_secs(1)).await;
        beats.observe(&lease, Instant::now());
        assert!(
            !beats.is_fresh("n1", Instant::now(), LIMIT),
            "the same Lease seen again is not a heartbeat"
        );

        lease.spec.as_mut().unwrap().renew_time.as_mut().unwrap().0 += jiff::SignedDuration::from_secs(10);
        beats.observe(&lease, Instant::now());
        assert!(beats.is_fresh("n1", Instant::now(), LIMIT));
        beats.forget("n1");
        assert_eq!(beats.silence("n1", Instant::now()), None);
    }
}
