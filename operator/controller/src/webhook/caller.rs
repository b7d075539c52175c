//! Which node's agent is it that asks?
//!
//! An agent asks with the token of its own service account, which names the node that its Pod runs on
//! (`authentication.kubernetes.io/node-name`, stable since Kubernetes 1.33). So a stolen node's token opens what that node
//! has a right to, and no more.

use std::time::Duration;

use axum::http::{HeaderMap, StatusCode, header};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::{Api, api::PostParams};
use tokio::time::timeout;

use super::Webhooks;

const CALL_TIMEOUT: Duration = Duration::from_secs(3);
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
/// A service account's token has about 1 KiB.
const LONGEST_TOKEN: usize = 16 * 1024;

/// Why it is not known who asks. What it says goes to who asks.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("a bearer token is needed")]
    NoToken,
    #[error("the token is not valid")]
    BadToken,
    #[error("{0} is not an agent that runs on a node")]
    NotAnAgent(String),
    #[error(transparent)]
    Api(#[from] ApiError),
}

/// Why the API server could not be asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    #[error("{what}")]
    Refused {
        what: &'static str,
        source: Box<kube::Error>,
    },
    #[error("{what}: no answer")]
    TimedOut { what: &'static str },
}

impl Error {
    pub(super) fn code(&self) -> StatusCode {
        match self {
            Self::NoToken | Self::BadToken => StatusCode::UNAUTHORIZED,
            Self::NotAnAgent(_) => StatusCode::FORBIDDEN,
            Self::Api(_) => StatusCode::BAD_GATEWAY,
        }
    }
}

/// The node of the agent whose token comes with a request.
pub(super) async fn node(hooks: &Webhooks, headers: &HeaderMap) -> Result<String, Error> {
    let api = Api::<TokenReview>::all(hooks.client.clone());
    let review = TokenReview {
        spec: TokenReviewSpec {
            token: Some(token(headers)?.to_owned()),
            ..TokenReviewSpec::default()
        },
        ..TokenReview::default()
    };
    let review = within("reviewing the token", api.create(&PostParams::default(), &review)).await?;
    let status = review
        .status
        .filter(|status| status.authenticated == Some(true))
        .ok_or(Error::BadToken)?;
    let user = status.user.unwrap_or_default();
    let username = user.username.unwrap_or_default();
    let node = user
        .extra
        .and_then(|mut extra| extra.remove(NODE_NAME))
        .and_then(|mut names| names.pop());
    match node {
        Some(node) if username == hooks.identities.agent => Ok(node),
        _ => Err(Error::NotAnAgent(username)),
    }
}

fn token(headers: &HeaderMap) -> Result<&str, Error> {
    let value = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .ok_or(Error::NoToken)?;
    let token = value
        .strip_prefix("Bearer ")
        .map(str::trim)
        .filter(|token| !token.is_empty());
    token.filter(|token| token.len() <= LONGEST_TOKEN).ok_or(Error::NoToken)
}

/// Asks the API server, for no longer than an agent waits.
pub(super) async fn within<T>(what: &'static str, call: impl Future<Output = kube::Result<T>>) -> Result<T, ApiError> {
    match timeout(CALL_TIMEOUT, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => Err(ApiError::Refused {
            what,
            source: Box::new(source),
        }),
        Err(_) => Err(ApiError::TimedOut { what }),
    }
}
