//! Who is woken by what, and when.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::{Aspects, Resources};

const LATER: Duration = Duration::from_secs(1000);

fn asking(vcpus: u32, reads: Aspects) -> Cause {
    Cause::Refused {
        reads,
        resources: Resources {
            vcpus,
            ..Resources::default()
        },
        group: None,
        instances: BTreeSet::new(),
    }
}

fn freed(vcpus: u32) -> Event {
    Event::HostFreed {
        room: Resources {
            vcpus,
            ..Resources::default()
        },
    }
}

fn parked(causes: &[(&str, Cause)]) -> Waiting {
    let mut waiting = Waiting::default();
    for (uid, cause) in causes {
        waiting.park(&Uid::from(*uid), cause.clone(), Duration::ZERO);
    }
    waiting
}

fn due(waiting: &mut Waiting, now: Duration) -> Vec<String> {
    waiting.due(now, 100).iter().map(Uid::to_string).collect()
}

#[test]
fn freed_room_wakes_those_that_lacked_room_and_fit_into_it() {
    let mut waiting = parked(&[
        ("small", asking(1, Aspects::CAPACITY)),
        ("large", asking(8, Aspects::CAPACITY | Aspects::ZONE)),
        ("elsewhere", asking(1, Aspects::ZONE)),
    ]);
    assert!(due(&mut waiting, LATER).is_empty());
    waiting.wake(&freed(4));
    assert_eq!(due(&mut waiting, LATER), ["small"]);
    waiting.wake(&freed(8));
    assert_eq!(due(&mut waiting, LATER), ["large"]);
    assert_eq!(waiting.len(), 3);
}

#[test]
fn a_changed_host_wakes_those_that_a_filter_refused_which_reads_the_change() {
    let causes = [
        ("zone", asking(1, Aspects::ZONE)),
        ("alive", asking(1, Aspects::LIVENESS | Aspects::CAPACITY)),
    ];
    let mut waiting = parked(&causes);
    waiting.wake(&Event::HostChanged(Aspects::LIVENESS));
    assert_eq!(due(&mut waiting, LATER), ["alive"]);
    waiting.wake(&Event::HostChanged(Aspects::ZONE | Aspects::LABELS));
    assert_eq!(due(&mut waiting, LATER), ["zone"]);
    let mut waiting = parked(&causes);
    waiting.wake(&Event::HostAdded);
    assert_eq!(due(&mut waiting, LATER), ["zone", "alive"]);
}

#[test]
fn a_changed_group_wakes_its_own_members_only() {
    let of = |group: &str| Cause::Refused {
        reads: Aspects::GROUP,
        resources: Resources::default(),
        group: Some(Uid::from(group)),
        instances: BTreeSet::new(),
    };
    let mut waiting = parked(&[("web-1", of("web")), ("db-1", of("db"))]);
    waiting.wake(&Event::GroupChanged(Uid::from("db")));
    assert_eq!(due(&mut waiting, LATER), ["db-1"]);
}

#[test]
fn a_moved_instance_wakes_those_whose_hints_name_it_and_those_who_read_everything() {
    let of = |reads, instances: &[&str]| Cause::Refused {
        reads,
        resources: Resources::default(),
        group: None,
        instances: instances.iter().map(|uid| Uid::from(*uid)).collect(),
    };
    let mut waiting = parked(&[
        ("beside-db", of(Aspects::INSTANCES, &["db"])),
        ("beside-web", of(Aspects::INSTANCES, &["web"])),
        ("query", of(Aspects::ALL, &[])),
    ]);
    waiting.wake(&Event::InstanceMoved(Uid::from("db")));
    assert_eq!(due(&mut waiting, LATER), ["beside-db", "query"]);
}

#[test]
fn who_was_refused_for_what_is_used_is_woken_by_anything_that_leaves() {
    let mut waiting = parked(&[("a", asking(8, Aspects::USAGE))]);
    waiting.wake(&freed(0));
    assert_eq!(due(&mut waiting, LATER), ["a"]);
}

#[test]
fn what_was_missing_wakes_those_that_named_it() {
    let missing = |what: &str| Cause::Missing(what.to_owned());
    let mut waiting = parked(&[("a", missing("Flavor/m1.small")), ("b", missing("Image/shop/debian"))]);
    waiting.wake(&Event::HostAdded);
    waiting.wake(&Event::Appeared("Flavor/m1.small".to_owned()));
    assert_eq!(due(&mut waiting, LATER), ["a"]);
    waiting.wake(&Event::Resync);
    assert_eq!(due(&mut waiting, LATER), ["b"]);
}

#[test]
fn an_event_during_the_rest_is_not_lost() {
    let mut waiting = parked(&[("a", asking(1, Aspects::CAPACITY))]);
    waiting.wake(&freed(1));
    assert_eq!(waiting.next_due(), Some(Duration::from_secs(1)));
    assert!(due(&mut waiting, Duration::from_millis(999)).is_empty());
    assert_eq!(due(&mut waiting, Duration::from_secs(1)), ["a"]);
    assert!(due(&mut waiting, LATER).is_empty(), "handed out once");
}

#[test]
fn an_event_before_the_refusal_does_not_count() {
    let mut waiting = parked(&[("a", asking(1, Aspects::CAPACITY))]);
    waiting.wake(&freed(1));
    assert_eq!(due(&mut waiting, LATER), ["a"]);
    waiting.park(&Uid::from("a"), asking(1, Aspects::CAPACITY), LATER);
    assert!(due(&mut waiting, LATER * 2).is_empty());
}

#[test]
fn the_rest_doubles_up_to_the_longest_and_starts_anew_after_a_nudge() {
    let uid = Uid::from("a");
    let mut waiting = Waiting::default();
    let mut rests = Vec::new();
    for _ in 0..40 {
        waiting.park(&uid, Cause::Transient, Duration::ZERO);
        rests.push(waiting.next_due().unwrap().as_secs());
    }
    assert_eq!(rests[..8], [1, 2, 4, 8, 16, 32, 60, 60]);
    assert_eq!(rests[39], 60);
    waiting.nudge(&uid);
    assert_eq!(due(&mut waiting, Duration::ZERO), ["a"]);
    waiting.park(&uid, Cause::Transient, Duration::ZERO);
    assert_eq!(waiting.next_due(), Some(Duration::from_secs(1)));
}

#[test]
fn who_waits_longest_is_tried_first_and_no_more_than_asked_for() {
    let mut waiting = parked(&[
        ("a", asking(1, Aspects::CAPACITY)),
        ("b", Cause::Transient),
        ("c", asking(2, Aspects::CAPACITY)),
        ("d", asking(1, Aspects::CAPACITY)),
    ]);
    waiting.wake(&freed(2));
    let first: Vec<_> = waiting.due(LATER, 3).iter().map(Uid::to_string).collect();
    assert_eq!(first, ["a", "b", "c"]);
    assert_eq!(due(&mut waiting, LATER), ["d"]);
}

#[test]
fn nothing_is_left_of_what_was_removed_at_any_stage() {
    let mut waiting = parked(&[("rests", Cause::Transient), ("queued", asking(1, Aspects::ZONE))]);
    waiting.nudge(&Uid::from("tried"));
    assert_eq!(due(&mut waiting, Duration::ZERO), ["tried"]);
    waiting.end_rests(LATER);
    waiting.park(&Uid::from("rests"), Cause::Transient, LATER);
    for uid in ["rests", "queued", "tried", "unknown"] {
        waiting.remove(&Uid::from(uid));
    }
    assert!(waiting.is_empty() && waiting.classes.is_empty() && waiting.resting.is_empty());
    waiting.wake(&Event::Resync);
    assert!(due(&mut waiting, LATER * 2).is_empty());
}
