//! Which agent may read which user data, and which password? The one on the node that the Instance is bound to, and no other.
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
use virga_crds::Instance;
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
    #[error("Instance {namespace}/{name} names no Secret for this")]
    NoReference { namespace: String, name: String },
    #[error("there is no Secret {0:?}: create it")]
    NoSecret(String),
    #[error("the Secret {secret:?} has no key {key:?}: add it, or name another")]
    NoKey { secret: String, key: String },
    #[error("the Secret {secret:?} has more than {most} bytes under {key:?}: make it smaller")]
    TooLarge { secret: String, key: String, most: usize },
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

/// What is handed out.
#[derive(Clone, Copy)]
struct Matter {
    /// Its name in the log.
    what: &'static str,
    /// How much of it there may be, in bytes.
    most: usize,
    /// The Secret and its key.
    reference: fn(&Instance) -> Option<(&str, &str)>,
}

const USER_DATA: Matter = Matter {
    what: "user data",
    most: USER_DATA_BYTES,
    reference: |instance| {
        let reference = instance.spec.user_data.as_ref()?.secret_ref.as_ref()?;
        Some((&reference.name, &reference.key))
    },
};

const ADMIN_PASSWORD: Matter = Matter {
    what: "a password",
    most: 1024,
    reference: |instance| {
        let reference = &instance.spec.admin_password.as_ref()?.secret_ref;
        Some((&reference.name, &reference.key))
    },
};

pub(super) async fn get(
    State(hooks): State<Webhooks>,
    Path((namespace, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    answer(&hooks, &namespace, &name, &headers, USER_DATA).await
}

pub(super) async fn admin_password(
    State(hooks): State<Webhooks>,
    Path((namespace, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    answer(&hooks, &namespace, &name, &headers, ADMIN_PASSWORD).await
}

async fn answer(hooks: &Webhooks, namespace: &str, name: &str, headers: &HeaderMap, matter: Matter) -> Response {
    match secret(hooks, namespace, name, headers, matter).await {
        Ok(bytes) => {
            tracing::info!(kind = "Instance", namespace, name, "handed out {}", matter.what);
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
                "did not hand out {}",
                matter.what
            );
            // Without the sources: what the API server said is not for others.
            (error.code(), error.to_string()).into_response()
        }
    }
}

async fn secret(
    hooks: &Webhooks,
    namespace: &str,
    name: &str,
    headers: &HeaderMap,
    matter: Matter,
) -> Result<Vec<u8>, Error> {
    let node = caller::node(hooks, headers).await?;
    let instance = bound_instance(hooks, namespace, name, &node).await?;
    let Some((secret, key)) = (matter.reference)(&instance) else {
        return Err(Error::NoReference {
            namespace: namespace.into(),
            name: name.into(),
        });
    };
    let api = Api::<Secret>::namespaced(hooks.client.clone(), namespace);
    let found = within("reading the Secret", api.get_opt(secret))
        .await?
        .ok_or_else(|| Error::NoSecret(secret.into()))?;
    let bytes = found.data.and_then(|mut data| data.remove(key));
    let bytes = bytes
        .ok_or_else(|| Error::NoKey {
            secret: secret.into(),
            key: key.into(),
        })?
        .0;
    if bytes.len() > matter.most {
        return Err(Error::TooLarge {
            secret: secret.into(),
            key: key.into(),
            most: matter.most,
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
