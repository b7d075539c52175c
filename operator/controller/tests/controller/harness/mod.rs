//! Replicas of the controller over the in-process API, with nodes that beat and webhooks that are asked.

pub mod reviews;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use kube::{Api, Client, api::PostParams};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
pub use virga_controller::fixtures::{flavor, hypervisor, image, in_shop, instance, server_group};
use virga_controller::{
    Context,
    certs::Signer,
    controllers, fixtures,
    ovn::Carrier,
    process::{Identity, Parts},
    scheduling::{HostDefaults, Scheduler, feed, queue::Queue, takeover},
    webhook::{Identities, Webhooks},
};
use virga_crds::{
    Instance,
    conditions::{Reason, types},
};
use virga_runtime::{clock::Clock, heartbeat, lease::Leadership, metrics, telemetry};
use virga_scheduler::{Ratio, Ratios};
use virga_testkit::FakeApi;

pub const CONTROLLER: &str = "system:serviceaccount:virga-system:virga-controller";
pub const AGENT: &str = "system:serviceaccount:virga-system:virga-agent";

/// A server with all of our kinds.
pub fn api() -> FakeApi {
    // The first test of the process wins; the log is shown for tests that fail.
    let _ = telemetry::init(
        telemetry::Format::Text,
        &std::env::var("VIRGA_LOG_LEVEL").unwrap_or("warn".into()),
    );
    fixtures::api()
}

/// One process of the controller: its stores, its scheduler, its webhooks.
pub struct Replica {
    pub context: Arc<Context>,
    pub scheduler: Arc<Scheduler>,
    pub router: Router,
    pub signer: Signer,
    pub leadership: Leadership,
    stop: CancellationToken,
    stopped: CancellationToken,
}

impl Replica {
    /// A process whose stores are filled, and which stands for leadership.
    pub async fn start(api: &FakeApi, name: &str) -> Self {
        Self::start_with(api, api.client_as(CONTROLLER), name).await
    }

    pub async fn start_with(api: &FakeApi, client: Client, name: &str) -> Self {
        Self::start_parts(api, client, name, false).await
    }

    /// The same, with or without the loops over the kinds.
    async fn start_parts(api: &FakeApi, client: Client, name: &str, loops: bool) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(api.clock().reader());
        let mut registry = metrics::registry();
        let (stop, stopped) = (CancellationToken::new(), CancellationToken::new());
        // No processor is promised twice, so that the sums are easy.
        let ratios = Ratios {
            vcpus: Ratio::ONE,
            ..Ratios::default()
        };
        let identity = Identity {
            namespace: "virga-system",
            pod: name,
            holder: name,
        };
        let Parts {
            context,
            watches,
            sender,
            candidate,
        } = Parts::new(
            &client,
            &clock,
            identity,
            HostDefaults { ratios },
            Carrier::default(),
            &mut registry,
        );
        let identities = Identities {
            controller: CONTROLLER.into(),
            agent: AGENT.into(),
        };
        let signer = Signer::new(clock.clone());
        let router = Webhooks::new(&context, identities, signer.clone(), &mut registry).router();
        tokio::spawn(sender.run(stopped.clone()));
        tokio::spawn(feed::run(context.scheduler.clone(), &watches, stopped.clone()));
        let loops = loops.then(|| controllers(&context, &watches, &stopped));
        tokio::spawn(watches.run(stopped.clone()));
        tokio::spawn(candidate.run(stopped.clone()));
        assert!(context.stores.synced().await);
        for task in loops.into_iter().flatten() {
            tokio::spawn(task);
        }
        Self {
            scheduler: context.scheduler.clone(),
            leadership: context.leadership.clone(),
            context,
            router,
            signer,
            stop,
            stopped,
        }
    }

    /// Waits until it leads and decides, and starts its queue.
    pub async fn lead(&self) {
        self.leadership.acquired().await;
        takeover::open(&self.context.client, &self.scheduler).await;
        let Context {
            client,
            clock,
            events,
            leadership,
            ..
        } = self.context.as_ref().clone();
        let queue = Queue::new(client, clock, events, leadership, self.scheduler.clone());
        tokio::spawn(queue.run(self.stop.clone()));
    }

    /// Ends it, with the lease given back.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.scheduler.close();
        self.stopped.cancel();
        self.leadership.lost().await;
    }

    /// Asks a webhook.
    pub async fn ask(&self, path: &str, review: &Value) -> Value {
        let (code, body) = post(&self.router, path, review.to_string()).await;
        assert_eq!(code, StatusCode::OK, "{body}");
        serde_json::from_str(&body).unwrap()
    }
}

/// A process that leads and decides.
pub async fn leader(api: &FakeApi) -> Replica {
    let replica = Replica::start(api, "a").await;
    replica.lead().await;
    replica
}

/// The same, with the loops over the kinds.
pub async fn whole_leader(api: &FakeApi) -> Replica {
    let replica = Replica::start_parts(api, api.client_as(CONTROLLER), "a", true).await;
    replica.lead().await;
    replica
}

/// Sends a body to the router.
pub async fn post(router: &Router, path: &str, body: String) -> (StatusCode, String) {
    let request = Request::post(path)
        .header("content-type", "application/json")
        .body(Body::from(body))
        .unwrap();
    send(router, request).await
}

/// Sends a request to the router.
pub async fn send(router: &Router, request: Request<Body>) -> (StatusCode, String) {
    let response = router.clone().oneshot(request).await.unwrap();
    let code = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (code, String::from_utf8(bytes.to_vec()).unwrap())
}

/// Has the API server ask the webhooks of the chart about Instances: guard, schedule, validate. `scheduling` is the
/// replica that the leader's Service selects.
pub fn install_webhooks(api: &FakeApi, scheduling: &Arc<Mutex<Router>>) {
    static REVIEWS: AtomicU64 = AtomicU64::new(0);
    for path in ["/guard", "/schedule", "/validate"] {
        let router = scheduling.clone();
        api.on_admission("instances", move |mut review| {
            let router = router.lock().unwrap().clone();
            let request = &mut review["request"];
            request["uid"] = format!("review-{}", REVIEWS.fetch_add(1, Ordering::Relaxed)).into();
            // As the API server: an object that is being created has no UID before it has been mutated.
            if request["operation"] == "CREATE" && path != "/validate" {
                for field in ["uid", "creationTimestamp", "resourceVersion", "generation"] {
                    request["object"]["metadata"].as_object_mut().unwrap().remove(field);
                }
            }
            async move {
                let (code, body) = post(&router, path, review.to_string()).await;
                assert_eq!(code, StatusCode::OK, "{body}");
                serde_json::from_str(&body).unwrap()
            }
        });
    }
}

/// A node: its Hypervisor, and an agent that renews its Lease until the token is cancelled.
pub async fn node(api: &FakeApi, name: &str) -> CancellationToken {
    let stop = beat(api, name).await;
    api.create(&hypervisor(name));
    stop
}

/// An agent that renews its Lease until the token is cancelled.
pub async fn beat(api: &FakeApi, name: &str) -> CancellationToken {
    let stop = CancellationToken::new();
    let lease = format!("virga-{name}");
    let options = heartbeat::Options::new("virga-system", &lease, name, "virga-agent");
    tokio::spawn(heartbeat::run(
        api.client_as(AGENT),
        Arc::new(api.clock().reader()),
        options,
        stop.clone(),
    ));
    let there = |lease: Option<&k8s_openapi::api::coordination::v1::Lease>| lease.is_some();
    api.await_condition(Some("virga-system"), &lease, there).await;
    stop
}

/// The flavor and the image that [`instance`] names.
pub fn stock(api: &FakeApi) {
    api.create(&flavor("m1.small"));
    api.create(&image("debian"));
}

/// Creates an Instance as a user, through the webhooks.
pub async fn create(api: &FakeApi, instance: &Instance) -> kube::Result<Instance> {
    Api::namespaced(api.client_as("jane"), "shop")
        .create(&PostParams::default(), instance)
        .await
}

/// Waits until an Instance is bound, and returns to which node.
pub async fn bound(api: &FakeApi, name: &str) -> String {
    let is_bound = |instance: Option<&Instance>| instance.is_some_and(|i| i.spec.node_name.is_some());
    let found = api.await_condition::<Instance>(Some("shop"), name, is_bound).await;
    found.unwrap().spec.node_name.unwrap()
}

/// The reason and message of an Instance's `Scheduled` condition.
pub fn scheduled(instance: &Instance) -> Option<(String, String)> {
    let status = instance.status.as_ref()?;
    let condition = status.conditions.iter().find(|c| c.type_ == types::SCHEDULED)?;
    Some((condition.reason.clone(), condition.message.clone()))
}

/// Waits until an Instance says why it waits, and returns the message.
pub async fn waits_for(api: &FakeApi, name: &str, reason: Reason) -> String {
    let told = |instance: Option<&Instance>| {
        instance
            .and_then(scheduled)
            .is_some_and(|(told, _)| told == reason.as_str())
    };
    let found = api.await_condition::<Instance>(Some("shop"), name, told).await;
    scheduled(&found.unwrap()).unwrap().1
}

/// How many Instances are bound to each node.
pub fn spread(api: &FakeApi) -> BTreeMap<String, usize> {
    let mut spread = BTreeMap::new();
    for instance in api.list::<Instance>() {
        if let Some(node) = instance.spec.node_name {
            *spread.entry(node).or_default() += 1;
        }
    }
    spread
}

/// An admission review of an object.
#[allow(clippy::needless_pass_by_value, reason = "callers make them for this")]
pub fn review(operation: &str, user: &str, new: Option<Value>, old: Option<Value>) -> Value {
    let object = new.as_ref().or(old.as_ref()).unwrap();
    let kind = object["kind"].as_str().unwrap().to_owned();
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "r-1",
            "kind": {"group": "virga.dev", "version": "v1alpha1", "kind": kind},
            "resource": {"group": "virga.dev", "version": "v1alpha1", "resource": format!("{}s", kind.to_lowercase())},
            "name": object["metadata"]["name"],
            "namespace": object["metadata"]["namespace"],
            "operation": operation,
            "userInfo": {"username": user},
            "object": new,
            "oldObject": old,
        },
    })
}

/// An object as JSON, with its type.
pub fn json<K: kube::Resource<DynamicType = ()> + serde::Serialize>(object: &K) -> Value {
    let mut value = serde_json::to_value(object).unwrap();
    value["apiVersion"] = K::api_version(&()).into();
    value["kind"] = K::kind(&()).into();
    value
}

/// After some time to settle, only agents send anything for so long, but for leases.
pub async fn stays_quiet(api: &FakeApi, long: Duration) {
    tokio::time::sleep(Duration::from_mins(2)).await;
    let mark = api.mark();
    tokio::time::sleep(long).await;
    let sent = api.requests_since(mark).into_iter();
    let sent = sent.filter(|request| request.resource != "leases" && request.user != AGENT);
    assert_eq!(sent.map(|request| request.to_string()).collect::<Vec<_>>(), [""; 0]);
}

/// Lets what is under way come to rest.
pub async fn settle(api: &FakeApi) {
    let _ = api;
    // Leases are renewed every 2 s and 10 s, so "no request" never comes; all else ends within this.
    tokio::time::sleep(Duration::from_secs(1)).await;
}
