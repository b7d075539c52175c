//! How is a decision written?
//!
//! Every write here is of the Instance exactly as it was seen: it carries its UID and its `resourceVersion`. So a second
//! leader, a create of the same name, or a change by the user makes the write fail instead of binding twice.

use std::time::Duration;

use json_patch::{Patch as JsonPatch, PatchOperation, RemoveOperation, TestOperation, jsonptr::PointerBuf};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::time::timeout;
use virga_crds::{Instance, InstanceScheduling, finalizers, labels, managers};

const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a binding was not written, or may not have been.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server said no, or could not be reached.
    #[error("{what} Instance {namespace}/{name}")]
    Api {
        /// What was being done.
        what: &'static str,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The answer.
        #[source]
        source: Box<kube::Error>,
    },
    /// The API server did not answer: nobody knows.
    #[error("{what} Instance {namespace}/{name}: no answer within {} s", CALL_TIMEOUT.as_secs())]
    TimedOut {
        /// What was being done.
        what: &'static str,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

impl Error {
    /// Whether the Instance had changed, or was gone: look again.
    pub fn is_stale(&self) -> bool {
        matches!(self, Self::Api { source, .. } if matches!(source.as_ref(), kube::Error::Api(s) if matches!(s.code, 404 | 409)))
    }

    /// Whether the write may have been carried out although there was an error.
    pub fn is_uncertain(&self) -> bool {
        match self {
            Self::TimedOut { .. } => true,
            Self::Api { source, .. } => !matches!(source.as_ref(), kube::Error::Api(s) if s.code < 500),
        }
    }
}

/// Binds an Instance to a node, with the finalizer that lets the node's agent clean up, and with the decision for the
/// agent to take over into the status: so it costs no write, and never belongs to another host.
///
/// The write is forced, for an Instance that is moved off a node that rejected it: the guard webhook lets nobody else
/// write the field, but the API server books what admission set to the user's field manager.
pub async fn bind(
    client: &Client,
    instance: &Instance,
    node: &str,
    scheduling: Option<&InstanceScheduling>,
) -> Result<Instance, Error> {
    let mut configuration = json!({
        "apiVersion": Instance::api_version(&()),
        "kind": Instance::kind(&()),
        "metadata": {
            "name": instance.name_any(),
            "namespace": instance.namespace(),
            "uid": instance.uid(),
            "resourceVersion": instance.resource_version(),
            "finalizers": [finalizers::AGENT],
        },
        "spec": {"nodeName": node},
    });
    if let Some(text) = scheduling.and_then(annotation) {
        configuration["metadata"]["annotations"] = json!({labels::SCHEDULING: text});
    }
    let params = PatchParams::apply(managers::SCHEDULER).force();
    send(client, instance, "binding", &params, &Patch::Apply(configuration)).await
}

/// What [`labels::SCHEDULING`] says.
pub fn annotation(scheduling: &InstanceScheduling) -> Option<String> {
    serde_json::to_string(scheduling).ok()
}

/// Takes the binding away, when the node rejected the Instance and no other will do.
pub async fn unbind(client: &Client, instance: &Instance) -> Result<Instance, Error> {
    let test = |path: [&str; 2], value: Option<String>| {
        PatchOperation::Test(TestOperation {
            path: PointerBuf::from_tokens(path),
            value: value.into(),
        })
    };
    let remove = |path: &[&str]| {
        PatchOperation::Remove(RemoveOperation {
            path: PointerBuf::from_tokens(path.iter().copied()),
        })
    };
    let mut patch = JsonPatch(vec![
        test(["metadata", "uid"], instance.uid()),
        test(["metadata", "resourceVersion"], instance.resource_version()),
        remove(&["spec", "nodeName"]),
    ]);
    if instance.annotations().contains_key(labels::SCHEDULING) {
        // It belongs to the host that did not take the Instance.
        patch.0.push(remove(&["metadata", "annotations", labels::SCHEDULING]));
    }
    let params = PatchParams {
        field_manager: Some(managers::SCHEDULER.into()),
        ..PatchParams::default()
    };
    send(client, instance, "unbinding", &params, &Patch::Json::<Value>(patch)).await
}

pub(super) async fn send(
    client: &Client,
    instance: &Instance,
    what: &'static str,
    params: &PatchParams,
    patch: &Patch<Value>,
) -> Result<Instance, Error> {
    let (namespace, name) = (instance.namespace().unwrap_or_default(), instance.name_any());
    let api = Api::<Instance>::namespaced(client.clone(), &namespace);
    match timeout(CALL_TIMEOUT, api.patch(&name, params, patch)).await {
        Ok(Ok(instance)) => Ok(instance),
        Ok(Err(source)) => Err(Error::Api {
            what,
            namespace,
            name,
            source: Box::new(source),
        }),
        Err(_) => Err(Error::TimedOut { what, namespace, name }),
    }
}
