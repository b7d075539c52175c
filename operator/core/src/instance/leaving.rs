//! What is done about a guest that is on its way to another host? It is off, and stays so here, until the offer is taken
//! back. What lies here is not touched: it may be the target's by now.

use std::time::Duration;

use jiff::Timestamp;
use virga_crds::{Instance, conditions::Reason};

use super::{
    effect::Plan,
    needs::Aspect,
    plan::old_conditions,
    power::{self, Wish},
    seen::{Domain, Power, Seen},
    status::{Story, tell},
};

/// Should the news of the migration get lost.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// A guest that is on its way to another host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaving {
    /// Where to, if it is known.
    pub target: Option<String>,
    /// How much of its disk is there, in percent.
    pub percent: Option<i32>,
    /// Whether its disk was offered: then nothing of it may be taken away, whatever is asked.
    pub offered: bool,
}

/// What to do next about one.
pub(super) fn plan(instance: &Instance, seen: &Seen, leaving: &Leaving, now: Timestamp) -> Plan {
    let mut effects = Vec::new();
    let mut again = LOOK_AGAIN;
    let mut task = "migrating";
    let running = match &seen.domain {
        Domain::Unreachable(why) => Aspect::unknown(Reason::LibvirtUnavailable, why),
        Domain::Foreign(why) => Aspect::waits(Reason::HypervisorError, why),
        Domain::Absent => Aspect::waits(Reason::Migrating, "the domain is gone"),
        Domain::Defined(power) => {
            // Once it is offered, what is noted beside the disk goes with it and does not change any more.
            if !(leaving.offered && matches!(power, Power::Off(_))) {
                let step = power::step(&Wish::OFF, *power, seen.power, now);
                again = step.again.unwrap_or(LOOK_AGAIN);
                if !step.task.is_empty() {
                    task = step.task;
                }
                effects = step.effects;
            }
            power::running(&Wish::OFF, *power, seen.power, old_conditions(instance))
        }
    };
    let story = Story {
        running,
        held: Some(Aspect::waits(Reason::Migrating, leaving.message())),
        task,
        deleting: instance.metadata.deletion_timestamp.is_some(),
        ..Story::assumed(instance)
    };
    Plan {
        status: Some(tell(instance, seen, story, now)),
        effects,
        again: Some(again),
    }
}

impl Leaving {
    fn message(&self) -> String {
        let target = self.target.as_deref().unwrap_or("another host");
        match self.percent {
            Some(percent) => format!("migrating to {target}, {percent} %"),
            None => format!("migrating to {target}"),
        }
    }
}
