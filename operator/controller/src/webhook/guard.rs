//! Who may bind? Only the controller: `spec.nodeName` decides on which host a guest runs and whose agent may read its
//! secrets. Nor may anybody else write the annotation that says how it was decided.
//!
//! A user who writes the object back without the field (a `kubectl replace` of a file from Git) does not mean to unbind
//! it: the field is put back, as Kubernetes does with a Service's `clusterIP`.

use json_patch::{AddOperation, PatchOperation, RemoveOperation, jsonptr::PointerBuf};
use kube::{
    ResourceExt,
    core::{DynamicObject, admission::Operation},
};
use serde_json::{Value, json};
use virga_crds::labels;

use super::{
    Webhooks,
    review::{Answer, Request},
};

const FIELD: &str = "spec.nodeName";

pub(super) fn review(hooks: &Webhooks, request: &Request) -> Answer {
    let user = request.user_info.username.as_deref().unwrap_or_default();
    if user == hooks.identities.controller {
        return Answer::allow();
    }
    let mut answer = binding(request);
    if answer.refusal.is_none() {
        answer
            .patch
            .extend(explanation(request.object.as_ref(), request.old_object.as_ref()));
    }
    answer
}

fn binding(request: &Request) -> Answer {
    let (new, old) = (
        node_name(request.object.as_ref()),
        node_name(request.old_object.as_ref()),
    );
    match (&request.operation, new, old) {
        (Operation::Create, Some(_), _) => Answer::forbid(
            FIELD,
            "is set by the scheduler only: leave it out; to choose where it runs, use spec.placement",
        ),
        (Operation::Update, new, old) if new == old => Answer::allow(),
        (Operation::Update, None, Some(old)) => Answer {
            patch: vec![PatchOperation::Add(AddOperation {
                path: PointerBuf::from_tokens(["spec", "nodeName"]),
                value: old.into(),
            })],
            ..Answer::allow()
        },
        (Operation::Update, Some(new), old) => {
            let now = old.map_or_else(|| "it is not bound".to_owned(), |old| format!("it is bound to {old}"));
            Answer::forbid(
                FIELD,
                format!("{new:?}: is set by the scheduler only, and {now}: leave it out"),
            )
        }
        _ => Answer::allow(),
    }
}

/// What makes the annotation as it was: none on a create.
fn explanation(new: Option<&DynamicObject>, old: Option<&DynamicObject>) -> Option<PatchOperation> {
    let said = |object: Option<&DynamicObject>| object?.annotations().get(labels::SCHEDULING).cloned();
    let path = |tokens: &[&str]| PointerBuf::from_tokens(tokens.iter().copied());
    let own = ["metadata", "annotations", labels::SCHEDULING];
    match (said(new), said(old)) {
        (now, before) if now == before => None,
        (_, None) => Some(PatchOperation::Remove(RemoveOperation { path: path(&own) })),
        (_, Some(before)) if new.is_some_and(|new| new.metadata.annotations.is_some()) => {
            Some(PatchOperation::Add(AddOperation {
                path: path(&own),
                value: before.into(),
            }))
        }
        (_, Some(before)) => Some(PatchOperation::Add(AddOperation {
            path: path(&own[..2]),
            value: json!({labels::SCHEDULING: before}),
        })),
    }
}

fn node_name(object: Option<&DynamicObject>) -> Option<&str> {
    object?
        .data
        .pointer("/spec/nodeName")
        .and_then(Value::as_str)
        .filter(|name| !name.is_empty())
}
