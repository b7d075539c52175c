//! Is it alive and ready? Small HTTP servers that only read memory, and so never block.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    future::Future,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::net::TcpListener;

use crate::metrics::{self, SharedRegistry};

/// The named checks of a process. A check starts as not ready, so that a process is ready only when every part has said
/// so.
#[derive(Debug, Clone, Default)]
pub struct Health {
    readiness: Checks,
    liveness: Checks,
}

type Checks = Arc<Mutex<BTreeMap<&'static str, Option<String>>>>;

/// One part's say in whether the process is ready (or alive).
#[derive(Debug, Clone)]
pub struct Check {
    name: &'static str,
    checks: Checks,
}

impl Health {
    /// No checks yet: alive and ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a part that must be ready before the process is. It starts as not ready.
    pub fn readiness(&self, name: &'static str) -> Check {
        let check = Check {
            name,
            checks: self.readiness.clone(),
        };
        check.fail("starting");
        check
    }

    /// Adds a part whose failure means that only a restart helps. It starts as alive.
    pub fn liveness(&self, name: &'static str) -> Check {
        let check = Check {
            name,
            checks: self.liveness.clone(),
        };
        check.pass();
        check
    }

    /// Whether every readiness check passes.
    pub fn is_ready(&self) -> bool {
        report(&self.readiness).0
    }

    /// Serves `/healthz` and `/readyz`: 200 when every check passes, else 503; one line per check either way.
    pub fn router(&self) -> Router {
        Router::new()
            .route(
                "/healthz",
                get(async |State(health): State<Self>| answer(&health.liveness)),
            )
            .route(
                "/readyz",
                get(async |State(health): State<Self>| answer(&health.readiness)),
            )
            .with_state(self.clone())
    }
}

impl Check {
    /// This part is well.
    pub fn pass(&self) {
        self.set(None);
    }

    /// This part is not well, and why: one line that anyone who can reach the port may read.
    pub fn fail(&self, why: impl Into<String>) {
        self.set(Some(why.into()));
    }

    fn set(&self, state: Option<String>) {
        self.checks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(self.name, state);
    }
}

fn report(checks: &Checks) -> (bool, String) {
    let checks = checks.lock().unwrap_or_else(PoisonError::into_inner);
    let mut text = String::new();
    for (name, state) in &*checks {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name}: {}", state.as_deref().unwrap_or("ok"));
    }
    if text.is_empty() {
        text.push_str("ok\n");
    }
    (checks.values().all(Option::is_none), text)
}

fn answer(checks: &Checks) -> Response {
    let (ok, text) = report(checks);
    let code = if ok {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (code, text).into_response()
}

/// Serves `/metrics` in the OpenMetrics text format.
pub fn metrics_router(registry: SharedRegistry) -> Router {
    let show = async |State(registry): State<SharedRegistry>| match metrics::encode(&registry) {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    };
    Router::new().route("/metrics", get(show)).with_state(registry)
}

/// Serves plain HTTP on an address until `stop` ends, then finishes the requests under way.
pub async fn serve(
    address: SocketAddr,
    router: Router,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    axum::serve(listener, router).with_graceful_shutdown(stop).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use http::Request;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    async fn ask(router: Router, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router.oneshot(request).await.unwrap();
        let code = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (code, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn it_is_ready_when_every_part_has_said_so() {
        let health = Health::new();
        let cache = health.readiness("cache");
        let libvirt = health.readiness("libvirt");
        cache.pass();
        let (code, text) = ask(health.router(), "/readyz").await;
        assert_eq!(
            (code, text.as_str()),
            (StatusCode::SERVICE_UNAVAILABLE, "cache: ok\nlibvirt: starting\n")
        );

        libvirt.pass();
        assert_eq!(ask(health.router(), "/readyz").await.0, StatusCode::OK);
        libvirt.fail("no connection");
        assert!(!health.is_ready());
    }

    #[tokio::test]
    async fn it_is_alive_until_a_part_says_otherwise() {
        let health = Health::new();
        let part = health.liveness("loop");
        health.readiness("cache");
        assert_eq!(ask(health.router(), "/healthz").await.0, StatusCode::OK);
        part.fail("stuck");
        assert_eq!(
            ask(health.router(), "/healthz").await,
            (StatusCode::SERVICE_UNAVAILABLE, "loop: stuck\n".into())
        );
    }

    #[tokio::test]
    async fn metrics_are_served_as_open_metrics() {
        let router = metrics_router(Arc::new(metrics::registry()));
        let (code, text) = ask(router, "/metrics").await;
        assert_eq!((code, text.as_str()), (StatusCode::OK, "# EOF\n"));
    }
}
