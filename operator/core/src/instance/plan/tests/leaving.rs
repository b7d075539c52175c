//! Guests that are on their way to another host.

use super::*;
use crate::instance::Leaving;

fn planned(offered: bool, domain: Domain, deleting: bool) -> Plan {
    let mut world = World::new(PowerState::Running);
    world.seen.domain = domain;
    world.seen.leaving = Some(Leaving {
        target: Some("node-2".into()),
        percent: offered.then_some(43),
        offered,
    });
    if deleting {
        world.instance.metadata.deletion_timestamp = Some(Time(world.now));
    }
    plan(&world.instance, &world.seen, world.now)
}

fn off() -> Domain {
    Domain::Defined(Power::Off(WentOff::ByGuest))
}

#[test]
fn a_guest_that_leaves_is_asked_to_shut_down_and_then_nothing_starts_it() {
    let stops = planned(false, Domain::Defined(Power::Running), false);
    assert!(stops.effects.contains(&Effect::Shutdown), "{:?}", stops.effects);
    for offered in [false, true] {
        assert!(!planned(offered, off(), false).effects.contains(&Effect::Start));
        assert_eq!(planned(offered, Domain::Absent, false).effects, []);
    }
    let noted = planned(true, off(), false);
    assert_eq!(noted.effects, [], "what was offered does not change");
}

#[test]
fn what_was_offered_is_not_taken_away_with_its_instance() {
    let kept = planned(true, off(), true);
    assert_eq!(kept.effects, []);
    let removed = planned(false, off(), true);
    assert!(removed.effects.contains(&Effect::RemoveFiles), "{:?}", removed.effects);
}

#[test]
fn the_user_hears_where_a_guest_goes_and_how_far_it_is() {
    let status = planned(true, off(), false).status.unwrap();
    let ready = status.conditions.iter().find(|c| c.type_ == types::READY).unwrap();
    assert_eq!(
        (ready.reason.as_str(), ready.message.as_str()),
        ("Migrating", "migrating to node-2, 43 %")
    );
    assert_eq!(status.task.as_deref(), Some("migrating"));
}
