//! What does it mean for an Instance that an image is being made of its root disk?

use std::time::Duration;

use super::effect::{Effect, Plan};

/// How soon to look again at one that is to be started and is being copied, should the word of its end get lost.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// What is under way, in Nova's word for users.
const TASK: &str = "snapshotting";

/// Whether an image is being made of an Instance's root disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Snapshotting {
    /// No.
    #[default]
    No,
    /// Of a guest that runs, by QEMU: the guest goes on, and may be stopped, too.
    Live,
    /// Of one that is off, from its file: it can't be started meanwhile.
    Copying,
}

impl Snapshotting {
    /// What may be done of a plan meanwhile, with the word for users.
    pub(super) fn keeps(self, mut plan: Plan) -> Plan {
        if self == Self::No {
            return plan;
        }
        let starts = |effect: &Effect| matches!(effect, Effect::Start | Effect::Restore);
        if self == Self::Copying && plan.effects.iter().any(starts) {
            let first = plan
                .effects
                .iter()
                .position(|effect| starts(effect) || matches!(effect, Effect::RecordPower(_)));
            plan.effects.truncate(first.unwrap_or(0));
            plan.again = Some(plan.again.map_or(LOOK_AGAIN, |again| again.min(LOOK_AGAIN)));
            if let Some(status) = &mut plan.status {
                status.task = Some(TASK.into());
            }
        }
        if let Some(status) = &mut plan.status {
            status.task.get_or_insert_with(|| TASK.into());
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use virga_crds::InstanceStatus;

    use super::*;
    use crate::instance::PowerRecord;

    fn plan(effects: Vec<Effect>, task: Option<&str>) -> Plan {
        Plan {
            effects,
            status: Some(InstanceStatus {
                task: task.map(str::to_owned),
                ..InstanceStatus::default()
            }),
            again: None,
        }
    }

    fn task(plan: &Plan) -> Option<&str> {
        plan.status.as_ref()?.task.as_deref()
    }

    #[test]
    fn what_is_off_is_not_started_while_it_is_copied_and_anything_else_goes_on() {
        let record = PowerRecord::default().with_start(Timestamp::UNIX_EPOCH);
        let start = vec![Effect::Define, Effect::RecordPower(record), Effect::Start];
        let held = Snapshotting::Copying.keeps(plan(start.clone(), Some("starting")));
        assert_eq!(
            (held.effects.clone(), task(&held)),
            (vec![Effect::Define], Some("snapshotting"))
        );
        assert_eq!(held.again, Some(LOOK_AGAIN));
        for (how, effects) in [
            (Snapshotting::No, start.clone()),
            (Snapshotting::Live, start),
            (Snapshotting::Copying, vec![Effect::Undefine, Effect::RemoveFiles]),
        ] {
            let free = how.keeps(plan(effects.clone(), Some("working")));
            assert_eq!((free.effects.clone(), task(&free)), (effects, Some("working")));
        }
    }

    #[test]
    fn a_guest_that_is_as_asked_is_told_to_be_snapshotted() {
        assert_eq!(
            task(&Snapshotting::Live.keeps(plan(Vec::new(), None))),
            Some("snapshotting")
        );
        assert_eq!(task(&Snapshotting::No.keeps(plan(Vec::new(), None))), None);
    }
}
