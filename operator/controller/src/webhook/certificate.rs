//! Which node's key is signed? The key of the agent that asks, with the name of the node that its token names.
//!
//! The agent sends a certificate signing request, PEM, and gets a certificate with which it serves files to other agents
//! and fetches theirs. The name in the request is not looked at.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde_json::json;
use virga_runtime::class::chain;
use virga_transfer::InvalidName;

use super::{Webhooks, caller};
use crate::certs::{SignError, Signed};

/// Why nothing was signed. What it says goes to the agent's log.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Caller(#[from] caller::Error),
    #[error("the node can have no certificate")]
    Node(#[from] InvalidName),
    #[error(transparent)]
    Sign(#[from] SignError),
}

impl Error {
    fn code(&self) -> StatusCode {
        match self {
            Self::Caller(error) => error.code(),
            Self::Node(_) | Self::Sign(SignError::Request(_)) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Sign(SignError::NotYet) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Sign(SignError::Authority(_)) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

pub(super) async fn sign(State(hooks): State<Webhooks>, headers: HeaderMap, request: String) -> Response {
    match signed(&hooks, &headers, &request).await {
        Ok((
            node,
            Signed {
                certificate,
                authorities,
            },
        )) => {
            tracing::info!(node, "signed a node's certificate");
            Json(json!({"certificate": certificate, "authorities": authorities})).into_response()
        }
        Err(error) => {
            tracing::info!(error = chain(&error), "no certificate");
            // Without the sources: what the API server said is not for others.
            (error.code(), error.to_string()).into_response()
        }
    }
}

async fn signed(hooks: &Webhooks, headers: &HeaderMap, request: &str) -> Result<(String, Signed), Error> {
    let node = caller::node(hooks, headers).await?;
    let signed = hooks.signer.sign(request, &node.parse()?)?;
    Ok((node, signed))
}
