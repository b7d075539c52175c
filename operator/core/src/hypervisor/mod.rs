//! Hypervisors: what to say of one whose agent is not heard of, and of what runs there; the names of what a host can do.

pub mod drain;
mod topology;
mod traits;

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use jiff::Timestamp;
use serde_json::{Value, json};
use virga_crds::{
    Condition, ConditionStatus, Hypervisor, Instance, Volume,
    conditions::{Reason, types},
};

use crate::condition::{Conditions, is_true};

pub use topology::{Partition, partition, topology};
pub use traits::{TraitFacts, check_resource_class, check_trait, traits};

/// How long an agent may be silent before its node counts as lost: the length of its Lease, which is four heartbeats.
pub const HEARTBEAT_LIMIT: Duration = Duration::from_secs(40);

/// Whether Instances can be placed there and images be imported by it.
pub fn is_ready(hypervisor: &Hypervisor) -> bool {
    hypervisor
        .status
        .as_ref()
        .is_some_and(|status| is_true(&status.conditions, types::READY))
}

/// The address and port at which other hosts' agents reach its agent; `None` while it serves nothing.
pub fn transfer_address(hypervisor: &Hypervisor) -> Option<String> {
    let status = hypervisor.status.as_ref()?;
    let mut addresses = status.addresses.iter().filter(|address| address.kind == "InternalIP");
    // A name could lead anywhere.
    let ip = addresses.find_map(|address| address.address.parse::<IpAddr>().ok())?;
    Some(SocketAddr::new(ip, status.transfer_port?).to_string())
}

/// The controller's own part of a Hypervisor's status, see [`Part`].
pub fn status(hypervisor: &Hypervisor, lost: bool, now: Timestamp) -> Part {
    let conditions = hypervisor
        .status
        .as_ref()
        .map(|status| status.conditions.as_slice())
        .unwrap_or_default();
    let message = "its agent has not renewed its Lease: the node or its network is down, or the agent can't run";
    part(conditions, lost, now, || {
        unknown(
            conditions,
            hypervisor.metadata.generation,
            &[types::READY],
            message,
            now,
        )
    })
}

/// The controller's own part of the status of an Instance that is bound there, see [`Part`].
pub fn instance_status(instance: &Instance, node: &str, lost: bool, now: Timestamp) -> Part {
    let conditions = instance
        .status
        .as_ref()
        .map(|status| status.conditions.as_slice())
        .unwrap_or_default();
    // What was said while it was on no host stands until its new host's agent has said something.
    let unclaimed = instance
        .status
        .as_ref()
        .and_then(|status| status.shelve.as_ref()?.offloaded_at.as_ref());
    if unclaimed.is_some() && !lost {
        return Part::Leave;
    }
    part(conditions, lost, now, || {
        let message = format!("node {node} is lost: what the machine does is not known until its agent is back");
        let kinds = [types::READY, types::RUNNING];
        let mut status = unknown(conditions, instance.metadata.generation, &kinds, &message, now);
        status["powerState"] = json!("Unknown");
        status
    })
}

/// The same of a Volume that is held there.
pub fn volume_status(volume: &Volume, node: &str, lost: bool, now: Timestamp) -> Part {
    let conditions = volume
        .status
        .as_ref()
        .map(|status| status.conditions.as_slice())
        .unwrap_or_default();
    part(conditions, lost, now, || {
        let message = format!("node {node}, which holds the data, is lost");
        unknown(conditions, volume.metadata.generation, &[types::READY], &message, now)
    })
}

/// What the controller does about its own part of a status that is an agent's else.
///
/// While the node is lost it says so over the agent's words. From then on both own the condition, and neither can take it
/// away: the API server would keep its type, which the other owns too, without its status, and refuse that as invalid.
/// So the agent has the next word, and the controller gives up its part only then. Where that can't be told beforehand, the
/// writer keeps what can't be given up yet (`virga_runtime::apply`).
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// This is to be said, and nothing else; `{}` gives up all that was.
    Say(Value),
    /// Leave it as it is.
    Leave,
}

fn part(conditions: &[Condition], lost: bool, now: Timestamp, unknown: impl FnOnce() -> Value) -> Part {
    let ready = conditions.iter().find(|condition| condition.type_ == types::READY);
    let told = ready.is_some_and(|ready| ready.reason == Reason::NodeLost.as_str());
    match (lost, told) {
        // Its agent writes again, and its Lease will follow: two who overwrite each other would not end before that.
        (true, false) if ready.is_some_and(|ready| is_recent(ready, now)) => Part::Leave,
        (true, _) => Part::Say(unknown()),
        (false, true) => Part::Leave,
        (false, false) => Part::Say(json!({})),
    }
}

/// Whether a condition turned within the time after which a silent agent counts as lost, by its own clock.
fn is_recent(condition: &Condition, now: Timestamp) -> bool {
    let age = now.duration_since(condition.last_transition_time.0).as_secs();
    u64::try_from(age).is_ok_and(|age| age < HEARTBEAT_LIMIT.as_secs())
}

fn unknown(old: &[Condition], generation: Option<i64>, kinds: &[&str], message: &str, now: Timestamp) -> Value {
    let mut conditions = Conditions::new(old, generation, now);
    for kind in kinds {
        conditions.set(kind, ConditionStatus::Unknown, Reason::NodeLost, message);
    }
    json!({ "conditions": conditions.into_vec() })
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan as _;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use virga_crds::{HypervisorSpec, HypervisorStatus};

    use super::*;

    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

    /// A Hypervisor whose `Ready` turned so many seconds ago.
    fn host(reason: Reason, status: &str, age: i64) -> Hypervisor {
        let ready = Condition {
            type_: types::READY.into(),
            status: status.into(),
            reason: reason.as_str().into(),
            message: String::new(),
            last_transition_time: Time(NOW - age.seconds()),
            observed_generation: None,
        };
        let mut host = Hypervisor::new("a", HypervisorSpec::default());
        host.status = Some(HypervisorStatus {
            conditions: vec![ready],
            ..HypervisorStatus::default()
        });
        host
    }

    #[test]
    fn a_lost_node_is_told_of_until_its_agent_speaks_and_then_nothing_is_ours() {
        let heard = host(Reason::HeartbeatSeen, "True", 600);
        let Part::Say(said) = status(&heard, true, NOW) else {
            panic!("nothing is said of a lost node")
        };
        assert_eq!(said["conditions"][0]["reason"], "NodeLost");

        let told = host(Reason::NodeLost, "Unknown", 600);
        assert!(matches!(status(&told, true, NOW), Part::Say(_)));
        assert_eq!(status(&told, false, NOW), Part::Leave, "the agent has the next word");
        assert_eq!(status(&heard, false, NOW), Part::Say(json!({})));
    }

    #[test]
    fn an_agent_that_has_just_spoken_is_not_overruled_before_its_lease_can_follow() {
        let spoke = |age| host(Reason::HeartbeatSeen, "True", age);
        assert_eq!(status(&spoke(39), true, NOW), Part::Leave);
        assert!(matches!(status(&spoke(40), true, NOW), Part::Say(_)));
        assert!(
            matches!(status(&spoke(-3600), true, NOW), Part::Say(_)),
            "a clock that is ahead buys no time"
        );
    }
}
