//! What does the user of an Instance that has no host hear? Pure.

use jiff::Timestamp;
use virga_core::{
    condition::{Conditions, Progress},
    instance::is_shelved_away,
};
use virga_crds::{
    Instance, InstanceScheduling, InstanceState, InstanceStatus,
    conditions::{Reason, types},
};
use virga_scheduler::Refusal;

use super::obstacle::Obstacle;

/// Why an Instance waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The condition's and the event's reason.
    pub reason: Reason,
    /// For the owner: no word of operators' notes.
    pub message: String,
    /// Whether only the user can help.
    pub stuck: bool,
    /// The decision, if there was one. It is told with the message, and changes nothing by itself: the same words again
    /// are no news, whenever they were found.
    pub scheduling: Option<InstanceScheduling>,
}

/// No host passed the filters.
pub fn refused(refusal: &Refusal, scheduling: Option<InstanceScheduling>) -> Explanation {
    Explanation {
        reason: Reason::NoValidHost,
        message: refusal.to_string(),
        stuck: false,
        scheduling,
    }
}

/// Something is missing, or can't be right. All of it is said, under the first one's reason.
pub fn obstructed(obstacles: &[Obstacle]) -> Explanation {
    let messages: Vec<String> = obstacles
        .iter()
        .map(|o| format!("{}: {}", o.field, o.message))
        .collect();
    Explanation {
        reason: obstacles.first().map_or(Reason::NoValidHost, |first| first.reason),
        message: messages.join("; "),
        stuck: obstacles.iter().any(|obstacle| obstacle.stuck),
        scheduling: None,
    }
}

impl Explanation {
    /// Whether the Instance's status says this already.
    pub fn is_told(&self, instance: &Instance) -> bool {
        let told = instance.status.iter().flat_map(|status| &status.conditions);
        told.into_iter()
            .any(|c| c.type_ == types::SCHEDULED && c.reason == self.reason.as_str() && c.message == self.message)
    }

    /// The status of an Instance that waits.
    pub fn status(&self, instance: &Instance, now: Timestamp) -> InstanceStatus {
        let old = instance.status.as_ref().map_or(&[][..], |status| &status.conditions);
        let mut conditions = Conditions::new(old, instance.metadata.generation, now);
        conditions.set(types::SCHEDULED, false, self.reason, &self.message);
        let progress = if self.stuck { Progress::Stuck } else { Progress::Working };
        conditions.set_ready(progress, self.reason, &self.message);
        let shelved = is_shelved_away(instance);
        if shelved {
            // What this writer said of them before is half a condition when it leaves them out.
            conditions.keep_others();
        }
        InstanceStatus {
            observed_generation: instance.metadata.generation,
            state: Some(if shelved {
                InstanceState::Shelved
            } else {
                InstanceState::Building
            }),
            scheduling: self.scheduling.clone(),
            conditions: conditions.into_vec(),
            ..InstanceStatus::default()
        }
    }
}
