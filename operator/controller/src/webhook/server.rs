//! How are the webhooks served? HTTP/1.1 over TLS, a connection a call, with a bound on everything.
//!
//! No keep-alive: the API server reuses a connection for as long as it lives, whatever the labels of the Pod at its other
//! end have become, and so would go on to ask a leader that is none any more.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Request as HttpRequest, State},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use kube::core::{DynamicObject, admission::AdmissionReview};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};
use tokio::{sync::Semaphore, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Webhooks, certificate, guard,
    review::{Answer, Refusal, Request},
    schedule, userdata, validate,
};
use crate::connections;

/// A review carries the object twice; one with 64 KiB of user data stays well below.
const BODY_LIMIT: usize = 1 << 20;
/// Reviews are answered from memory; this bounds slow senders, and the calls that user data takes: up to three of 3 s.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);
/// How many calls are answered at once. What comes on top is told to come again.
const CONCURRENCY: usize = 256;
const DRAIN: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
pub(super) struct Metrics {
    reviews: Family<ByPath, Counter>,
    seconds: Histogram,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByPath {
    webhook: &'static str,
    answer: &'static str,
}

impl Metrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            reviews: Family::default(),
            seconds: Histogram::new([0.000_2, 0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 8.0]),
        };
        registry.register(
            "admission_reviews",
            "Admission reviews, by webhook and answer",
            metrics.reviews.clone(),
        );
        registry.register("admission_seconds", "How long a review took", metrics.seconds.clone());
        metrics
    }

    fn count(&self, webhook: &'static str, answer: &Answer, took: Duration) {
        let answer = match &answer.refusal {
            None => "allowed",
            Some(Refusal::Invalid(_)) => "invalid",
            Some(Refusal::Forbidden { .. }) => "forbidden",
        };
        self.reviews.get_or_create(&ByPath { webhook, answer }).inc();
        self.seconds.observe(took.as_secs_f64());
    }
}

impl Webhooks {
    /// Everything that is served, without TLS.
    pub fn router(self) -> Router {
        let permits = Arc::new(Semaphore::new(CONCURRENCY));
        Router::new()
            .route(
                "/validate",
                post(async |State(hooks), body| answer(&hooks, "validate", &body, validate::review)),
            )
            .route(
                "/guard",
                post(async |State(hooks), body| answer(&hooks, "guard", &body, guard::review)),
            )
            .route(
                "/schedule",
                post(async |State(hooks), body| answer(&hooks, "schedule", &body, schedule::review)),
            )
            .route("/userdata/{namespace}/{name}", get(userdata::get))
            .route("/adminpassword/{namespace}/{name}", get(userdata::admin_password))
            .route("/certificate", post(certificate::sign))
            .layer(DefaultBodyLimit::max(BODY_LIMIT))
            .layer(middleware::from_fn(move |request: HttpRequest, next: Next| {
                let permits = permits.clone();
                async move {
                    let Ok(_permit) = permits.try_acquire() else {
                        return (StatusCode::SERVICE_UNAVAILABLE, "too many calls at once").into_response();
                    };
                    // It covers the reading of the body too: a client that sends a byte a second is cut off.
                    timeout(REQUEST_LIMIT, next.run(request))
                        .await
                        .unwrap_or_else(|_| (StatusCode::GATEWAY_TIMEOUT, "the call took too long").into_response())
                }
            }))
            .with_state(self)
    }
}

/// Reads a review, has it answered, and writes the answer.
fn answer(
    hooks: &Webhooks,
    webhook: &'static str,
    body: &Bytes,
    decide: fn(&Webhooks, &Request) -> Answer,
) -> Response {
    let began = std::time::Instant::now();
    let request = serde_json::from_slice::<AdmissionReview<DynamicObject>>(body)
        .map_err(|error| error.to_string())
        .and_then(|review| Request::try_from_review(review).ok_or_else(|| "it has no request".to_owned()));
    let request = match request {
        Ok(request) => request,
        Err(error) => {
            tracing::warn!(webhook, error, "reading an admission review");
            return (StatusCode::BAD_REQUEST, format!("reading the AdmissionReview: {error}")).into_response();
        }
    };
    let answer = decide(hooks, &request);
    hooks.metrics.count(webhook, &answer, began.elapsed());
    tracing::debug!(
        webhook,
        kind = request.kind.kind,
        namespace = request.namespace,
        name = request.name,
        operation = ?request.operation,
        allowed = answer.refusal.is_none(),
        "answered a review"
    );
    Json(answer.into_review(&request)).into_response()
}

trait FromReview: Sized {
    fn try_from_review(review: AdmissionReview<DynamicObject>) -> Option<Self>;
}

impl FromReview for Request {
    fn try_from_review(review: AdmissionReview<DynamicObject>) -> Option<Self> {
        review.try_into().ok()
    }
}

/// Serves until `stop` is cancelled, and then ends what is under way.
///
/// # Errors
/// When the address can't be listened on.
pub async fn serve(address: SocketAddr, tls: RustlsConfig, router: Router, stop: CancellationToken) -> io::Result<()> {
    let acceptor = RustlsAcceptor::new(tls).handshake_timeout(HANDSHAKE_LIMIT);
    connections::serve(axum_server::bind(address).acceptor(acceptor), router, DRAIN, stop).await
}
