//! What does this very process remember? JSON over plain HTTP, on a loopback address of the Pod only.
//!
//! | path | answer |
//! |---|---|
//! | `/decisions?limit=100` | the scheduler's last decisions, newest first |
//! | `/decisions/NAMESPACE/NAME?limit=100` | those for one Instance |
//!
//! Nobody is asked who he is: whoever gets here has come through the API server's port-forward, which asks for
//! `pods/portforward` in Virga's own namespace. Only the leader decides, so only the leader answers; another replica says
//! 503, and who leads.

use std::{io, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, Query, Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::{Deserialize, Serialize};
use tokio::{sync::Semaphore, time::timeout};
use tokio_util::sync::CancellationToken;
use virga_runtime::lease::Leadership;

use crate::{
    connections,
    flags::DebugAddress,
    scheduling::{Scheduler, record::Recorded},
};

/// The port that is used unless the flag says otherwise.
pub const PORT: u16 = 9091;
/// As many decisions are answered unless asked otherwise.
const LIMIT: usize = 100;
/// The most that are answered; they are copied under the scheduler's lock.
pub const MOST: usize = 1000;
/// Answers are made from memory; this bounds whoever reads slowly or never ends to ask.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);
const CONCURRENCY: usize = 8;
const DRAIN: Duration = Duration::from_secs(2);

/// What `/decisions` answers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Decisions {
    /// Newest first.
    pub decisions: Vec<Recorded>,
}

/// What is answered instead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// What is wrong.
    pub message: String,
    /// Who leads, as far as this process knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
}

#[derive(Clone)]
struct Memory {
    scheduler: Arc<Scheduler>,
    leadership: Leadership,
}

#[derive(Deserialize)]
struct Asked {
    limit: Option<usize>,
}

impl Asked {
    fn limit(&self) -> usize {
        self.limit.unwrap_or(LIMIT).min(MOST)
    }
}

/// Everything that is served.
pub fn router(scheduler: Arc<Scheduler>, leadership: Leadership) -> Router {
    let permits = Arc::new(Semaphore::new(CONCURRENCY));
    Router::new()
        .route("/decisions", get(all))
        .route("/decisions/{namespace}/{name}", get(of_one))
        .layer(middleware::from_fn(move |request: Request, next: Next| {
            let permits = permits.clone();
            async move {
                let Ok(_permit) = permits.try_acquire() else {
                    return trouble(StatusCode::SERVICE_UNAVAILABLE, "too many calls at once", None);
                };
                timeout(REQUEST_LIMIT, next.run(request))
                    .await
                    .unwrap_or_else(|_| trouble(StatusCode::GATEWAY_TIMEOUT, "the call took too long", None))
            }
        }))
        .with_state(Memory { scheduler, leadership })
}

async fn all(State(memory): State<Memory>, Query(asked): Query<Asked>) -> Response {
    memory.answer(|scheduler| scheduler.decisions(None, asked.limit()))
}

async fn of_one(
    State(memory): State<Memory>,
    Path((namespace, name)): Path<(String, String)>,
    Query(asked): Query<Asked>,
) -> Response {
    let of = format!("{namespace}/{name}");
    memory.answer(|scheduler| scheduler.decisions(Some(&of), asked.limit()))
}

impl Memory {
    fn answer(&self, decisions: impl FnOnce(&Scheduler) -> Vec<Recorded>) -> Response {
        if !self.leadership.is_leader() {
            let message = "this replica does not lead, and decides nothing";
            return trouble(StatusCode::SERVICE_UNAVAILABLE, message, self.leadership.holder());
        }
        let decisions = decisions(&self.scheduler);
        Json(Decisions { decisions }).into_response()
    }
}

fn trouble(code: StatusCode, message: &str, leader: Option<String>) -> Response {
    let message = message.to_owned();
    (code, Json(Trouble { message, leader })).into_response()
}

/// Serves until `stop`; nothing when it is turned off.
pub async fn serve(address: DebugAddress, router: Router, stop: CancellationToken) -> io::Result<()> {
    let Some(address) = address.0 else { return Ok(()) };
    connections::serve(axum_server::bind(address), router, DRAIN, stop).await
}
