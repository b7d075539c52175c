//! Who may bind? Only the controller: `spec.nodeName` decides on which host a guest runs and whose agent may read its
//! secrets. Nor may anybody else write the annotations that say how it was decided and whether it can be resized, and nobody at all the one that says who
//! asked for what: that is written here, from what the API server knows of the user.
//!
//! Whose a Port is, and what it was given, is the controller's to say too: see [`ports`].
//!
//! A user who writes the object back without the field (a `kubectl replace` of a file from Git) does not mean to unbind
//! it: the field is put back, as Kubernetes does with a Service's `clusterIP`.

mod ports;

use json_patch::{AddOperation, PatchOperation, RemoveOperation, jsonptr::PointerBuf};
use kube::{
    Resource as _, ResourceExt,
    core::{DynamicObject, admission::Operation},
};
use serde_json::Value;
use virga_core::instance::requesters;
use virga_crds::{Instance, Port, labels};

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
    if request.kind.kind == Port::kind(&()) {
        return ports::review(request);
    }
    let mut answer = binding(request);
    if answer.refusal.is_none() {
        answer.patch.extend(annotations(request, user));
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

/// What makes the annotations that others can't write as they should be: how it was scheduled and what was said of
/// a resize, as they were (nothing, on a create); who asked for what, from the user of this request.
fn annotations(request: &Request, user: &str) -> Vec<PatchOperation> {
    let Some(new) = request.object.as_ref() else {
        return Vec::new();
    };
    let old = request.old_object.as_ref();
    let said = |object: Option<&DynamicObject>, key: &str| object?.annotations().get(key).cloned();
    let mut wanted: Vec<_> = [labels::SCHEDULING, labels::RESIZE]
        .map(|key| (key, said(old, key)))
        .into();
    if request.kind.kind == Instance::kind(&()) {
        let spec = |object: &DynamicObject| object.data.get("spec").cloned().unwrap_or_default();
        let noted = said(old, labels::REQUESTED_BY);
        let before = old.map(|old| (spec(old), noted.as_deref()));
        let before = before.as_ref().map(|(spec, noted)| (spec, *noted));
        wanted.push((labels::REQUESTED_BY, Some(requesters(before, &spec(new), user))));
    }
    let path = |tokens: &[&str]| PointerBuf::from_tokens(tokens.iter().copied());
    let differ: Vec<_> = wanted
        .into_iter()
        .filter(|(key, wanted)| said(Some(new), key) != *wanted)
        .collect();
    if new.metadata.annotations.is_none() {
        let all: serde_json::Map<String, Value> = differ
            .into_iter()
            .filter_map(|(key, wanted)| Some((key.to_owned(), wanted?.into())))
            .collect();
        let add = AddOperation {
            path: path(&["metadata", "annotations"]),
            value: all.clone().into(),
        };
        return if all.is_empty() {
            Vec::new()
        } else {
            vec![PatchOperation::Add(add)]
        };
    }
    let one = |(key, wanted): (&str, Option<String>)| {
        let path = path(&["metadata", "annotations", key]);
        match wanted {
            Some(value) => PatchOperation::Add(AddOperation {
                path,
                value: value.into(),
            }),
            None => PatchOperation::Remove(RemoveOperation { path }),
        }
    };
    differ.into_iter().map(one).collect()
}

fn node_name(object: Option<&DynamicObject>) -> Option<&str> {
    object?
        .data
        .pointer("/spec/nodeName")
        .and_then(Value::as_str)
        .filter(|name| !name.is_empty())
}
