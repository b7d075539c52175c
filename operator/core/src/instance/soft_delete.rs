//! Is an Instance soft-deleted, and until when can it be restored? Nova's soft delete and its reclaim interval.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use virga_crds::{Instance, InstanceStatus, PowerState, SoftDeleteStatus};

use super::seen::{Domain, Power, Seen};
use crate::duration;

/// What holds when the text can't be read, which the schema sees to: Nova's operators choose; a day is long enough to
/// notice.
const A_DAY: Duration = Duration::from_hours(24);

/// How long after it was soft-deleted an Instance is deleted.
fn window(text: &str) -> Duration {
    duration::read(text).unwrap_or(A_DAY)
}

/// The power state that is asked for: what is soft-deleted is off, and memory that is saved stays so.
pub(super) fn power(instance: &Instance, seen: &Seen) -> PowerState {
    match (&instance.spec.soft_delete, &seen.domain) {
        (None, _) => instance.spec.power_state,
        (Some(_), Domain::Defined(Power::Saved | Power::Saving)) => PowerState::Suspended,
        (Some(_), _) => PowerState::Stopped,
    }
}

/// What is told of it: since when it is off for being soft-deleted, and when it is deleted. The window begins when the
/// guest is off, so that nobody loses a part of it to a guest that is slow.
pub(super) fn told(
    instance: &Instance,
    settled: bool,
    old: &InstanceStatus,
    now: Timestamp,
) -> Option<SoftDeleteStatus> {
    let asked = instance.spec.soft_delete.as_ref()?;
    let since = match &old.soft_delete {
        Some(told) => told.since.0,
        None if settled => Timestamp::from_second(now.as_second()).unwrap_or(now),
        None => return None,
    };
    let window = SignedDuration::try_from(window(&asked.reclaim_after)).unwrap_or(SignedDuration::MAX);
    Some(SoftDeleteStatus {
        since: Time(since),
        reclaim_at: Time(since.checked_add(window).unwrap_or(Timestamp::MAX)),
    })
}

/// How long until a soft-deleted Instance is to be deleted: zero when its time has come. Only what its agent has told of
/// counts, and only while spec still asks for it.
pub fn reclaimed_in(instance: &Instance, now: Timestamp) -> Option<Duration> {
    let asked = instance.spec.soft_delete.as_ref()?;
    let told = instance.status.as_ref()?.soft_delete.as_ref()?;
    // A window that was changed since counts, whatever the agent has made of it yet.
    let window = SignedDuration::try_from(window(&asked.reclaim_after)).ok()?;
    let at = told.since.0.checked_add(window).ok()?;
    Some(Duration::try_from(at.duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use virga_crds::{InstanceSpec, SoftDelete};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn instance(after: &str) -> Instance {
        let spec = InstanceSpec {
            soft_delete: Some(SoftDelete {
                reclaim_after: after.into(),
            }),
            ..InstanceSpec::default()
        };
        Instance::new("web", spec)
    }

    #[test]
    fn the_window_begins_when_the_guest_is_off_and_ends_when_spec_takes_it_back() {
        let mut web = instance("2h");
        assert_eq!(told(&web, false, &InstanceStatus::default(), at(0)), None);
        let first = told(&web, true, &InstanceStatus::default(), at(0));
        assert_eq!(first.as_ref().unwrap().reclaim_at.0, at(7200));
        assert_eq!(reclaimed_in(&web, at(0)), None, "the agent has not told yet");
        web.status = Some(InstanceStatus {
            soft_delete: first.clone(),
            ..InstanceStatus::default()
        });
        assert_eq!(
            told(&web, false, web.status.as_ref().unwrap(), at(50)),
            first,
            "it stays"
        );
        assert_eq!(reclaimed_in(&web, at(7100)), Some(Duration::from_secs(100)));
        assert_eq!(reclaimed_in(&web, at(9000)), Some(Duration::ZERO));
        web.spec.soft_delete.as_mut().unwrap().reclaim_after = "3h".into();
        assert_eq!(reclaimed_in(&web, at(9000)), Some(Duration::from_mins(30)));
        web.spec.soft_delete = None;
        assert_eq!(reclaimed_in(&web, at(99_000)), None);
        assert_eq!(told(&web, true, web.status.as_ref().unwrap(), at(99_000)), None);
    }

    #[test]
    fn windows_are_read_by_their_unit() {
        for (text, seconds) in [
            ("1s", 1),
            ("90m", 5400),
            ("24h", 86_400),
            ("99999h", 359_996_400),
            ("", 86_400),
            ("5", 86_400),
        ] {
            assert_eq!(window(text), Duration::from_secs(seconds), "{text}");
        }
    }
}
