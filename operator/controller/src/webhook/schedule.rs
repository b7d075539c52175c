//! Where will a new Instance run? The leader decides while it is created, so that most Instances need no second write.
//!
//! This webhook never refuses: what can't be placed is admitted unbound, with a warning, and the queue goes on with it.

use json_patch::{AddOperation, PatchOperation, jsonptr::PointerBuf};
use kube::core::admission::Operation;
use serde_json::json;
use virga_crds::{Instance, InstanceScheduling, finalizers, labels};
use virga_scheduler::Placement;

use super::{
    Webhooks,
    review::{Answer, Request, objects},
};
use crate::scheduling::{Decision, bind};

pub(super) fn review(hooks: &Webhooks, request: &Request) -> Answer {
    if request.operation != Operation::Create || request.kind.kind != "Instance" {
        return Answer::allow();
    }
    // One that can't be read is refused by /validate.
    let Ok(Some(mut instance)) = objects::<Instance>(request).map(|objects| objects.new) else {
        return Answer::allow();
    };
    if instance.spec.node_name.is_some() {
        return Answer::allow();
    }
    if instance.metadata.namespace.is_none() {
        instance.metadata.namespace.clone_from(&request.namespace);
    }
    match hooks.scheduler.admit(&request.uid, &instance, request.dry_run) {
        Decision::Placed(placement) => {
            // A dry run leaves nothing to be read later.
            let scheduling = (!request.dry_run)
                .then(|| hooks.scheduler.scheduling(&request.uid))
                .flatten();
            placed(&instance, &placement, scheduling.as_ref(), request.dry_run)
        }
        Decision::Refused(refusal) => Answer::allow().warn(format!("virga: no host yet: {refusal}; it waits")),
        // What is missing, /validate warns of: it is asked of every replica.
        Decision::Obstructed(_) | Decision::Closed => Answer::allow(),
    }
}

fn placed(
    instance: &Instance,
    placement: &Placement,
    scheduling: Option<&InstanceScheduling>,
    dry_run: bool,
) -> Answer {
    let add = |path: &[&str], value| {
        PatchOperation::Add(AddOperation {
            path: PointerBuf::from_tokens(path.iter().copied()),
            value,
        })
    };
    let mut answer = Answer::allow();
    answer.patch.push(add(&["spec", "nodeName"], json!(placement.host)));
    let present = instance.metadata.finalizers.as_deref().unwrap_or_default();
    if present.is_empty() {
        answer
            .patch
            .push(add(&["metadata", "finalizers"], json!([finalizers::AGENT])));
    } else if !present.iter().any(|finalizer| finalizer == finalizers::AGENT) {
        answer
            .patch
            .push(add(&["metadata", "finalizers", "-"], json!(finalizers::AGENT)));
    }
    if let Some(text) = scheduling.and_then(bind::annotation) {
        answer.patch.push(match &instance.metadata.annotations {
            None => add(&["metadata", "annotations"], json!({labels::SCHEDULING: text})),
            Some(_) => add(&["metadata", "annotations", labels::SCHEDULING], json!(text)),
        });
    }
    if dry_run {
        let Placement {
            host, hosts, survivors, ..
        } = placement;
        answer = answer.warn(format!(
            "virga: would be placed on {host} ({survivors} of {hosts} hosts fit)"
        ));
    }
    answer
}
