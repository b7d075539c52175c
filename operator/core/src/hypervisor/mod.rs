//! Hypervisors: what to say of one whose agent is not heard of, and of what runs there.

use jiff::Timestamp;
use serde_json::{Value, json};
use virga_crds::{
    Condition, ConditionStatus, Hypervisor, Instance, Volume,
    conditions::{Reason, types},
};

use crate::condition::{Conditions, is_true};

/// How long an agent may be silent before its node counts as lost: the length of its Lease.
pub const SILENCE_S: u64 = 40;

/// Whether Instances can be placed there and images be imported by it.
pub fn is_ready(hypervisor: &Hypervisor) -> bool {
    hypervisor
        .status
        .as_ref()
        .is_some_and(|status| is_true(&status.conditions, types::READY))
}

/// The controller's own part of a Hypervisor's status: nothing while its agent is heard of.
pub fn status(hypervisor: &Hypervisor, lost: bool, now: Timestamp) -> Value {
    let conditions = hypervisor
        .status
        .as_ref()
        .map(|status| status.conditions.as_slice())
        .unwrap_or_default();
    let message = "its agent has not renewed its Lease: the node or its network is down, or the agent can't run";
    part(lost.then(|| {
        unknown(
            conditions,
            hypervisor.metadata.generation,
            &[types::READY],
            message,
            now,
        )
    }))
}

/// The controller's own part of the status of an Instance that is bound there: nothing while the agent is heard of.
pub fn instance_status(instance: &Instance, node: &str, lost: bool, now: Timestamp) -> Value {
    let conditions = instance
        .status
        .as_ref()
        .map(|status| status.conditions.as_slice())
        .unwrap_or_default();
    let message = format!("node {node} is lost: what the machine does is not known until its agent is back");
    let kinds = [types::READY, types::RUNNING];
    let mut part = part(lost.then(|| unknown(conditions, instance.metadata.generation, &kinds, &message, now)));
    if lost {
        part["powerState"] = json!("Unknown");
    }
    part
}

/// The same of a Volume that is held there.
pub fn volume_status(volume: &Volume, node: &str, lost: bool, now: Timestamp) -> Value {
    let conditions = volume
        .status
        .as_ref()
        .map(|status| status.conditions.as_slice())
        .unwrap_or_default();
    let message = format!("node {node}, which holds the data, is lost");
    part(lost.then(|| unknown(conditions, volume.metadata.generation, &[types::READY], &message, now)))
}

fn unknown(
    old: &[Condition],
    generation: Option<i64>,
    kinds: &[&str],
    message: &str,
    now: Timestamp,
) -> Vec<Condition> {
    let mut conditions = Conditions::new(old, generation, now);
    for kind in kinds {
        conditions.set(kind, ConditionStatus::Unknown, Reason::NodeLost, message);
    }
    conditions.into_vec()
}

fn part(conditions: Option<Vec<Condition>>) -> Value {
    match conditions {
        Some(conditions) => json!({ "conditions": conditions }),
        None => json!({}),
    }
}
