//! What is done to a guest that runs, once for each time that is asked for: an interrupt, a password.
//!
//! An interrupt is noted right before: a guest that dumps its memory must not be interrupted again, so an agent that is
//! killed in that moment leaves it out, and says that nobody knows. A password is noted right after: set twice, it is the
//! same.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};
use virga_crds::{Begun, Instance, conditions::Reason};

use super::{
    effect::Effect,
    needs::Aspect,
    seen::{Power, Seen},
};

/// How long to wait for a time at a time: clocks are set.
const LONGEST_WAIT: Duration = Duration::from_hours(1);
/// How often a guest without an agent is looked at, should the event of its agent get lost.
const AGENT_AGAIN: Duration = Duration::from_mins(1);

/// What was done, as noted beside the disks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deeds {
    /// The last interrupt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crash_dump: Option<Deed>,
    /// The last password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin_password: Option<Deed>,
}

/// Something that was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deed {
    /// The `at` that asked for it.
    pub at: Timestamp,
    /// When it was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<Timestamp>,
}

/// What is to be done to a guest that is as asked otherwise.
#[derive(Debug, Default)]
pub(super) struct Next {
    pub effects: Vec<Effect>,
    pub held: Option<Aspect>,
    pub again: Option<Duration>,
}

enum Due {
    No,
    Later(Duration),
    Now,
}

/// One `at` is one deed. Should the note be lost, one that was told of is not done again.
fn due(at: Timestamp, noted: Option<Deed>, told: Option<&Begun>, now: Timestamp) -> Due {
    if noted.is_some_and(|deed| deed.at >= at) || told.is_some_and(|told| told.at.0 >= at) {
        return Due::No;
    }
    match Duration::try_from(at.duration_since(now)) {
        Ok(wait) if !wait.is_zero() => Due::Later(wait.min(LONGEST_WAIT)),
        _ => Due::Now,
    }
}

fn crash_dump(instance: &Instance, deeds: Deeds, now: Timestamp) -> (Due, Timestamp) {
    let Some(asked) = &instance.spec.crash_dump else {
        return (Due::No, now);
    };
    let created = instance.metadata.creation_timestamp.as_ref();
    // So that a manifest can be used again.
    if created.is_some_and(|created| asked.at.0 < created.0) {
        return (Due::No, now);
    }
    let told = instance.status.as_ref().and_then(|status| status.crash_dump.as_ref());
    (due(asked.at.0, deeds.crash_dump, told, now), asked.at.0)
}

fn password(instance: &Instance, deeds: Deeds, now: Timestamp) -> (Due, Timestamp) {
    let Some(asked) = &instance.spec.admin_password else {
        return (Due::No, now);
    };
    let told = instance
        .status
        .as_ref()
        .and_then(|status| status.admin_password.as_ref());
    (due(asked.at.0, deeds.admin_password, told, now), asked.at.0)
}

/// Whether the guest's agent is needed now: then it is looked for.
pub fn wants_guest_agent(instance: &Instance, deeds: Deeds, now: Timestamp) -> bool {
    matches!(password(instance, deeds, now).0, Due::Now)
}

/// What to do next. One that can't be done keeps the other from nothing.
pub(super) fn next(instance: &Instance, seen: &Seen, power: Power, now: Timestamp) -> Next {
    let mut next = Next::default();
    let mut later = |wait: Duration| next.again = Some(next.again.map_or(wait, |again| again.min(wait)));
    let runs = power == Power::Running;
    match crash_dump(instance, seen.deeds, now) {
        (Due::Later(wait), _) => later(wait),
        (Due::Now, at) if runs => {
            let note = |finished| {
                let crash_dump = Some(Deed { at, finished });
                Effect::RecordDeeds(Deeds {
                    crash_dump,
                    ..seen.deeds
                })
            };
            next.effects = vec![note(None), Effect::InjectNmi, note(Some(now))];
            // The other one on the next look.
            return next;
        }
        (Due::Now, _) => {
            let why = "spec.crashDump: only a guest that runs can be interrupted: set spec.powerState to Running, or take \
                       spec.crashDump out";
            next.held = Some(Aspect::waits(Reason::StateForbids, why));
        }
        (Due::No, _) => {}
    }
    match password(instance, seen.deeds, now) {
        (Due::Later(wait), _) => later(wait),
        (Due::Now, at) if runs && seen.guest_agent => {
            let admin_password = Some(Deed {
                at,
                finished: Some(now),
            });
            let note = Effect::RecordDeeds(Deeds {
                admin_password,
                ..seen.deeds
            });
            next.effects = vec![Effect::SetPassword, note];
        }
        (Due::Now, _) if runs => {
            later(AGENT_AGAIN);
            let why = "spec.adminPassword: no agent in the guest answers: install and start qemu-guest-agent there; the \
                       password is set when it is connected";
            next.held = next
                .held
                .or_else(|| Some(Aspect::waits(Reason::GuestAgentMissing, why)));
        }
        // It is set when the guest runs.
        (Due::Now | Due::No, _) => {}
    }
    next
}

/// What is told of the last one.
pub(super) fn told(deed: Option<Deed>) -> Option<Begun> {
    let time = |at: Timestamp| Time(Timestamp::from_second(at.as_second()).unwrap_or(at));
    deed.map(|deed| Begun {
        at: time(deed.at),
        finished_at: deed.finished.map(time),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn deed(second: i64) -> Deed {
        Deed {
            at: at(second),
            finished: None,
        }
    }

    #[test]
    fn each_time_is_one_deed_and_one_that_was_begun_is_not_done_again() {
        let is_now = |asked: i64, noted: Option<Deed>, told: Option<&Begun>| {
            matches!(due(at(asked), noted, told, at(100)), Due::Now)
        };
        assert!(is_now(50, None, None));
        assert!(is_now(50, Some(deed(40)), None));
        assert!(!is_now(50, Some(deed(50)), None), "whether it was done nobody knows");
        assert!(!is_now(50, Some(deed(60)), None));
        let told = self::told(Some(deed(50))).unwrap();
        assert!(!is_now(50, None, Some(&told)), "the note was lost");
        assert!(is_now(51, None, Some(&told)));
        assert!(matches!(due(at(200), None, None, at(100)), Due::Later(wait) if wait == Duration::from_secs(100)));
    }
}
