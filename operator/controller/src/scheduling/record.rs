//! What is kept of a decision, and in which forms is it told?
//!
//! The scheduler keeps the last few thousand decisions in memory, with every host's name and operators' words: those are
//! for whoever may reach into the leader's Pod (see [`crate::debug`]). What everybody reads who may read the Instance is
//! the compact form, which names no host.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};
use virga_crds::{DecidedBy, FilterRejections, InstanceScheduling};
use virga_scheduler::{Asker, Explanation};

use super::state::Scheduler;

/// One decision, for operators.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Recorded {
    /// The Instance's namespace.
    pub namespace: String,
    /// Its name; of one that is not created yet, its `generateName`.
    pub name: String,
    /// Its UID; of one that is not created yet, the admission review's.
    pub uid: String,
    /// When it was decided.
    pub decided_at: Time,
    /// Who asked.
    pub decided_by: DecidedBy,
    /// The chosen host; absent when none passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// How many hosts were looked at.
    pub hosts: u32,
    /// How many of them passed every filter.
    pub survivors: u32,
    /// Which filters rejected the others, in the order in which they ran.
    pub rejections: Vec<Rejected>,
    /// The best three, best first.
    pub best: Vec<Weighed>,
    /// What became of the room; absent when there was none to reserve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation: Option<Reservation>,
}

/// The hosts that one filter rejected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rejected {
    /// The filter.
    pub filter: String,
    /// How many.
    pub count: u32,
    /// Why, where there is more to say; of refusals only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<Detail>,
}

/// Why a filter rejected some hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Detail {
    /// Words for everybody.
    pub text: String,
    /// Words for operators; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// How many hosts this is true of.
    pub count: u32,
}

/// One of the best hosts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Weighed {
    /// The host.
    pub host: String,
    /// The sum of multiplier × normalised measure.
    pub weight: f64,
    /// What each weigher gave; those that told no hosts apart are left out.
    pub parts: Vec<Part>,
}

/// What one weigher gave one host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Part {
    /// The weigher.
    pub weigher: String,
    /// What it measured, in its own unit.
    pub measure: f64,
    /// The measure's place among those of the hosts that passed, from 0 to 1.
    pub normalised: f64,
    /// What that was multiplied with.
    pub multiplier: f64,
}

/// What became of the room that a decision reserved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reservation {
    /// Whether it is held still.
    pub state: ReservationState,
    /// How old it is, or was when the Instance was seen bound; absent when it has ended without that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_milliseconds: Option<u64>,
}

/// Whether a reservation is held still.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReservationState {
    /// The Instance has not been seen bound yet.
    Held,
    /// The Instance was seen bound, and counts by itself.
    Bound,
    /// Nobody confirmed it, or the binding could not be written.
    Ended,
}

impl Scheduler {
    /// The last decision that was asked for under a UID, as an Instance's status has it; `None` when it is not kept.
    pub fn scheduling(&self, uid: &str) -> Option<InstanceScheduling> {
        let (now, wall) = (self.now(), self.clock.now());
        let state = self.state();
        let kept = state.cluster.explanation(&uid.into())?;
        Some(compact(kept, now, wall))
    }

    /// The decisions that are kept, newest first: all, or those for one `namespace/name`.
    pub fn decisions(&self, of: Option<&str>, limit: usize) -> Vec<Recorded> {
        let (now, wall) = (self.now(), self.clock.now());
        let state = self.state();
        let kept = state.cluster.explanations();
        let wanted = kept.filter(|kept| of.is_none_or(|name| kept.name == name));
        let held = |kept: &Explanation| {
            let binding = state.cluster.binding(&kept.uid);
            binding.is_some_and(|binding| binding.reserved_until.is_some())
        };
        wanted
            .take(limit)
            .map(|kept| recorded(kept, now, wall, held(kept)))
            .collect()
    }
}

fn decided_at(kept: &Explanation, now: Duration, wall: Timestamp) -> Time {
    let age = SignedDuration::try_from(kept.age(now)).unwrap_or_default();
    Time(wall.checked_sub(age).unwrap_or(wall))
}

fn decided_by(kept: &Explanation) -> DecidedBy {
    match kept.asked_by {
        Some(Asker::Admission) => DecidedBy::Admission,
        Some(Asker::Queue) | None => DecidedBy::Queue,
    }
}

fn milliseconds(age: Duration) -> u64 {
    u64::try_from(age.as_millis()).unwrap_or(u64::MAX)
}

fn compact(kept: &Explanation, now: Duration, wall: Timestamp) -> InstanceScheduling {
    let whole = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
    let decided_by = decided_by(kept);
    let reserved = kept.host.is_some() && decided_by == DecidedBy::Queue;
    let rank = kept.best.iter().position(|best| Some(&best.host) == kept.host.as_ref());
    InstanceScheduling {
        decided_at: decided_at(kept, now, wall),
        decided_by,
        hosts: whole(kept.hosts),
        survivors: whole(kept.survivors),
        rejections: kept
            .rejections
            .iter()
            .map(|rejection| FilterRejections {
                filter: rejection.filter.to_owned(),
                hosts: whole(rejection.count),
            })
            .collect(),
        weights: kept.best.iter().map(|best| decimal(best.weight)).collect(),
        rank: rank.and_then(|rank| i32::try_from(rank + 1).ok()),
        reservation_age_milliseconds: reserved.then(|| {
            i64::try_from(milliseconds(kept.bound_after.unwrap_or_else(|| kept.age(now)))).unwrap_or(i64::MAX)
        }),
    }
}

/// Four decimals, without those at the end that say nothing; what no schema would take is 0.
fn decimal(weight: f64) -> String {
    if !weight.is_finite() || weight.abs() > 1e18 {
        return "0".into();
    }
    let text = format!("{weight:.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".into() } else { text.into() }
}

fn recorded(kept: &Explanation, now: Duration, wall: Timestamp, held: bool) -> Recorded {
    let (namespace, name) = kept.name.split_once('/').unwrap_or(("", &kept.name));
    let reservation = || match (kept.bound_after, held) {
        (Some(age), _) => (ReservationState::Bound, Some(age)),
        (None, true) => (ReservationState::Held, Some(kept.age(now))),
        (None, false) => (ReservationState::Ended, None),
    };
    Recorded {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        uid: kept.uid.to_string(),
        decided_at: decided_at(kept, now, wall),
        decided_by: decided_by(kept),
        host: kept.host.clone(),
        hosts: kept.hosts,
        survivors: kept.survivors,
        rejections: kept.rejections.iter().map(rejected).collect(),
        best: kept.best.iter().map(weighed).collect(),
        reservation: kept.host.as_ref().map(|_| {
            let (state, age) = reservation();
            Reservation {
                state,
                age_milliseconds: age.map(milliseconds),
            }
        }),
    }
}

fn rejected(rejection: &virga_scheduler::Rejection) -> Rejected {
    let detail = |detail: &virga_scheduler::Detail| Detail {
        text: detail.text.clone(),
        note: detail.note.clone(),
        count: detail.count,
    };
    Rejected {
        filter: rejection.filter.to_owned(),
        count: rejection.count,
        details: rejection.details.iter().map(detail).collect(),
    }
}

fn weighed(best: &virga_scheduler::Scored) -> Weighed {
    let part = |part: &virga_scheduler::Part| Part {
        weigher: part.weigher.to_owned(),
        measure: part.measure,
        normalised: part.normalised,
        multiplier: part.multiplier,
    };
    Weighed {
        host: best.host.clone(),
        weight: best.weight,
        parts: best.parts.iter().map(part).collect(),
    }
}

#[cfg(test)]
mod tests {
    use virga_scheduler::{Rejection, Scored};

    use super::*;

    fn kept() -> Explanation {
        let best = |host: &str, weight| Scored {
            host: host.into(),
            weight,
            parts: Vec::new(),
        };
        Explanation {
            uid: "u-1".into(),
            name: "shop/web".into(),
            decided_at: Duration::from_secs(100),
            host: Some("node-2".into()),
            hosts: 7,
            survivors: 3,
            rejections: vec![Rejection {
                filter: "RamFilter",
                count: 4,
                details: Vec::new(),
            }],
            best: vec![best("node-1", 2.5), best("node-2", 1.0 / 3.0), best("node-3", -1e6)],
            asked_by: Some(Asker::Queue),
            bound_after: None,
        }
    }

    #[test]
    fn the_compact_form_has_counts_weights_and_ages_and_names_no_host() {
        let wall: Timestamp = "2026-11-22T15:00:10Z".parse().unwrap();
        let told = compact(&kept(), Duration::from_millis(110_250), wall);
        let json = serde_json::to_value(&told).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "decidedAt": "2026-11-22T14:59:59Z", "decidedBy": "Queue", "hosts": 7, "survivors": 3,
                "rejections": [{"filter": "RamFilter", "hosts": 4}],
                "weights": ["2.5", "0.3333", "-1000000"], "rank": 2, "reservationAgeMilliseconds": 10_250,
            })
        );
        assert!(!json.to_string().contains("node-"), "{json}");
    }

    #[test]
    fn a_create_has_no_reservation_before_it_and_a_refusal_none_at_all() {
        let mut created = kept();
        created.asked_by = Some(Asker::Admission);
        let now = Duration::from_secs(101);
        let told = compact(&created, now, Timestamp::UNIX_EPOCH);
        assert_eq!(
            (told.decided_by, told.reservation_age_milliseconds),
            (DecidedBy::Admission, None)
        );
        let refused = Explanation {
            host: None,
            best: Vec::new(),
            ..kept()
        };
        let told = compact(&refused, now, Timestamp::UNIX_EPOCH);
        assert_eq!((told.rank, told.reservation_age_milliseconds), (None, None));
        assert_eq!(recorded(&refused, now, Timestamp::UNIX_EPOCH, false).reservation, None);
    }

    #[test]
    fn a_reservation_is_held_then_bound_or_ended() {
        let now = Duration::from_secs(103);
        let of = |kept: &Explanation, held| {
            let told = recorded(kept, now, Timestamp::UNIX_EPOCH, held).reservation.unwrap();
            (told.state, told.age_milliseconds)
        };
        let mut kept = kept();
        assert_eq!(of(&kept, true), (ReservationState::Held, Some(3000)));
        assert_eq!(of(&kept, false), (ReservationState::Ended, None));
        kept.bound_after = Some(Duration::from_millis(20));
        assert_eq!(of(&kept, false), (ReservationState::Bound, Some(20)));
    }

    #[test]
    fn a_weight_is_a_decimal_number_whatever_it_is() {
        for (weight, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (-0.000_01, "0"),
            (10.0, "10"),
            (-2.25, "-2.25"),
            (f64::NAN, "0"),
            (f64::INFINITY, "0"),
            (1e300, "0"),
        ] {
            assert_eq!(decimal(weight), text);
        }
        assert!(decimal(-999_999_999_999_999_999.0).len() <= 32);
    }
}
