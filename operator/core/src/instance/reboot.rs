//! Is a reboot asked for, and is it time for it?

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use virga_crds::{Instance, RebootStatus, RebootType};

use super::seen::PowerRecord;

/// How far ahead a reboot may be asked for: what is further away is more likely a slip than a plan.
const FURTHEST: SignedDuration = SignedDuration::from_hours(366 * 24);
/// How long to wait for it at a time: clocks are set.
const LONGEST_WAIT: Duration = Duration::from_hours(1);

/// How a reboot stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// None is asked for, or it is done.
    Nothing,
    /// It is to be done later: look again then.
    Later(Duration),
    /// It is asked for so far ahead that it is not waited for.
    TooFar,
    /// It is to be done now, or is under way.
    Due(Due),
}

/// A reboot that is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub at: Timestamp,
    pub hard: bool,
    /// The record has it already.
    pub begun: bool,
}

/// How the reboot that spec asks for stands. What was done is in the record beside the disks. Should that be lost, a
/// reboot that was told of as finished is not done again.
pub(super) fn asked(instance: &Instance, record: PowerRecord, now: Timestamp) -> Asked {
    let Some(reboot) = &instance.spec.reboot else {
        return Asked::Nothing;
    };
    let at = reboot.at.0;
    let told = instance.status.as_ref().and_then(|status| status.reboot.as_ref());
    let created = instance.metadata.creation_timestamp.as_ref();
    let done = created.is_some_and(|created| at < created.0)
        || record
            .reboot
            .is_some_and(|r| r.at > at || r.at == at && r.finished.is_some())
        || told.is_some_and(|told| told.finished_at.is_some() && told.at.0 >= at);
    if done {
        return Asked::Nothing;
    }
    match when(at, now) {
        When::TooFar => Asked::TooFar,
        When::Later(wait) => Asked::Later(wait),
        When::Now => Asked::Due(Due {
            at,
            hard: reboot.type_ == RebootType::Hard,
            begun: record.reboot.is_some_and(|r| r.at == at),
        }),
    }
}

/// How far ahead a time is that something is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// It has come.
    Now,
    /// Look again then.
    Later(Duration),
    /// It is not waited for.
    TooFar,
}

/// How far ahead this time is.
pub(super) fn when(at: Timestamp, now: Timestamp) -> When {
    let ahead = at.duration_since(now);
    match Duration::try_from(ahead) {
        Ok(_) if ahead > FURTHEST => When::TooFar,
        Ok(wait) if !wait.is_zero() => When::Later(wait.min(LONGEST_WAIT)),
        _ => When::Now,
    }
}

/// What is told of the last reboot.
pub(super) fn told(record: PowerRecord) -> Option<RebootStatus> {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    // Whole seconds: what the API keeps.
    let time = |at: Timestamp| Time(Timestamp::from_second(at.as_second()).unwrap_or(at));
    record.reboot.map(|reboot| RebootStatus {
        at: time(reboot.at),
        finished_at: reboot.finished.map(time),
    })
}
