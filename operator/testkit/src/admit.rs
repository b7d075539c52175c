//! What do webhooks say to a write?

use std::{future::Future, pin::Pin, sync::Arc};

use json_patch::Patch as JsonPatch;
use serde_json::{Value, json};

use crate::{
    api::Shared,
    resource::Served,
    respond::Failure,
    write::{Action, Write, Written},
};

/// A webhook: an AdmissionReview with a request in, one with a response out.
pub(crate) type Hook = Arc<dyn Fn(Value) -> Pin<Box<dyn Future<Output = Value> + Send>> + Send + Sync>;

impl Shared {
    /// Asks the webhooks, if any, and writes.
    pub(crate) async fn write(&self, served: &Served, mut write: Write, user: &str) -> Result<Written, Failure> {
        if write.subresource.is_none() {
            let hooks = self
                .hooks
                .lock()
                .map(|hooks| hooks.get(&served.plural).cloned().unwrap_or_default());
            for hook in hooks.unwrap_or_default() {
                // What would be stored is what the webhook sees; nobody else writes while it thinks, in these tests.
                let draft = self.lock().write(
                    served,
                    Write {
                        dry_run: true,
                        ..write.clone()
                    },
                )?;
                let review = review(served, &write, &draft, user);
                let answer = hook(review).await;
                if let Some(patch) = verdict(&answer)? {
                    let mut all = write.mutation.take().unwrap_or_default();
                    all.0.extend(patch.0);
                    write.mutation = Some(all);
                }
            }
        }
        let written = self.lock().write(served, write);
        self.touch();
        written
    }
}

fn review(served: &Served, write: &Write, draft: &Written, user: &str) -> Value {
    let operation = match (write.action, &draft.before) {
        (Action::Delete, _) => "DELETE",
        (_, None) => "CREATE",
        (_, Some(_)) => "UPDATE",
    };
    let gvk = json!({"group": served.group, "version": served.version, "kind": served.kind});
    let gvr = json!({"group": served.group, "version": served.version, "resource": served.plural});
    let object = if operation == "DELETE" {
        Value::Null
    } else {
        draft.object.clone()
    };
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "00000000-0000-4000-9000-000000000000",
            "kind": gvk, "resource": gvr, "requestKind": gvk, "requestResource": gvr,
            "name": object.pointer("/metadata/name").cloned().unwrap_or_else(|| write.key.name.clone().into()),
            "namespace": write.key.namespace,
            "operation": operation,
            "userInfo": {"username": user, "groups": []},
            "object": object,
            "oldObject": draft.before,
            "dryRun": write.dry_run,
            "options": {},
        },
    })
}

/// The patch of an answer that allows; the failure of one that denies.
fn verdict(answer: &Value) -> Result<Option<JsonPatch>, Failure> {
    let response = &answer["response"];
    if response["allowed"] != true {
        let code = response["status"]["code"]
            .as_u64()
            .and_then(|code| u16::try_from(code).ok())
            .filter(|code| *code >= 400);
        let message = response["status"]["message"].as_str().unwrap_or("without explanation");
        return Err(Failure::new(
            code.unwrap_or(403),
            format!("admission webhook denied the request: {message}"),
        ));
    }
    let Some(encoded) = response["patch"].as_str() else {
        return Ok(None);
    };
    // The wire form is base64 of the patch's JSON, which the protocol's bytes are as k8s-openapi reads them.
    let bytes: k8s_openapi::ByteString = serde_json::from_value(encoded.into())
        .map_err(|error| Failure::new(500, format!("reading the webhook's patch: {error}")))?;
    let patch = serde_json::from_slice(&bytes.0);
    patch
        .map(Some)
        .map_err(|error| Failure::new(500, format!("reading the webhook's patch: {error}")))
}
