//! Which agent may read which user data? The one on the node that the Instance is bound to, and no other.
//!
//! Agents can't read Secrets: a stolen node's token must not open every project's. An agent asks here, and [`caller`]
//! tells which node it is on.

use axum::{
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use virga_core::instance::USER_DATA_BYTES;
use virga_crds::{Instance, SecretKeyRef};
use virga_runtime::class::chain;

use super::{
    Webhooks,
    caller::{self, ApiError, within},
};

/// Why there is no answer. What it says goes to the agent, and so into the Instance's condition.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Caller(#[from] caller::Error),
    #[error("Instance {namespace}/{name} is not bound to node {node}")]
    NotYours {
        namespace: String,
        name: String,
        node: String,
    },
    #[error("Instance {namespace}/{name} names no Secret for its user data")]
    NoReference { namespace: String, name: String },
    #[error("spec.userData.secretRef: there is no Secret {0:?}: create it")]
    NoSecret(String),
    #[error("spec.userData.secretRef: the Secret {secret:?} has no key {key:?}: add it, or name another")]
    NoKey { secret: String, key: String },
    #[error("spec.userData.secretRef: the Secret {secret:?} has more than 64 KiB under {key:?}: make it smaller")]
    TooLarge { secret: String, key: String },
    #[error(transparent)]
    Api(#[from] ApiError),
}

impl Error {
    fn code(&self) -> StatusCode {
        match self {
            Self::Caller(error) => error.code(),
            Self::NotYours { .. } => StatusCode::FORBIDDEN,
            Self::NoReference { .. } | Self::NoSecret(_) | Self::NoKey { .. } => StatusCode::NOT_FOUND,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Api(_) => StatusCode::BAD_GATEWAY,
        }
    }
}

pub(super) async fn get(
    State(hooks): State<Webhooks>,
    Path((namespace, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    match user_data(&hooks, &namespace, &name, &headers).await {
        Ok(bytes) => {
            tracing::info!(kind = "Instance", namespace, name, "handed out user data");
            (
                [
                    (header::CONTENT_TYPE, "application/octet-stream"),
                    (header::CACHE_CONTROL, "no-store"),
                ],
                bytes,
            )
                .into_response()
        }
        Err(error) => {
            tracing::info!(
                kind = "Instance",
                namespace,
                name,
                error = chain(&error),
                "no user data"
            );
            // Without the sources: what the API server said is not for others.
            (error.code(), error.to_string()).into_response()
        }
    }
}

async fn user_data(hooks: &Webhooks, namespace: &str, name: &str, headers: &HeaderMap) -> Result<Vec<u8>, Error> {
    let node = caller::node(hooks, headers).await?;
    let instance = bound_instance(hooks, namespace, name, &node).await?;
    let reference = instance
        .spec
        .user_data
        .as_ref()
        .and_then(|data| data.secret_ref.as_ref());
    let Some(SecretKeyRef { name: secret, key }) = reference else {
        return Err(Error::NoReference {
            namespace: namespace.into(),
            name: name.into(),
        });
    };
    let api = Api::<Secret>::namespaced(hooks.client.clone(), namespace);
    let found = within("reading the Secret", api.get_opt(secret))
        .await?
        .ok_or_else(|| Error::NoSecret(secret.clone()))?;
    let bytes = found.data.and_then(|mut data| data.remove(key));
    let bytes = bytes
        .ok_or_else(|| Error::NoKey {
            secret: secret.clone(),
            key: key.clone(),
        })?
        .0;
    if bytes.len() > USER_DATA_BYTES {
        return Err(Error::TooLarge {
            secret: secret.clone(),
            key: key.clone(),
        });
    }
    Ok(bytes)
}

/// The Instance, if it is bound to this node: by what the watch saw last, or, since an agent may have seen a binding
/// before us, by what the API server says.
async fn bound_instance(hooks: &Webhooks, namespace: &str, name: &str, node: &str) -> Result<Instance, Error> {
    let is_bound = |instance: &Instance| instance.spec.node_name.as_deref() == Some(node);
    if let Some(instance) = hooks
        .stores
        .instance(namespace, name)
        .filter(|instance| is_bound(instance))
    {
        return Ok(Instance::clone(&instance));
    }
    let api = Api::<Instance>::namespaced(hooks.client.clone(), namespace);
    let found = within("reading the Instance", api.get_opt(name))
        .await?
        .filter(is_bound);
    found.ok_or_else(|| Error::NotYours {
        namespace: namespace.into(),
        name: name.into(),
        node: node.into(),
    })
}
