//! Suspending, rebooting, and what is done with guests that end by themselves.

use super::*;

/// The wanted power states, in Nova's words the actions that lead to them.
const WANTED: [PowerState; 5] = [
    PowerState::Running,
    PowerState::Stopped,
    PowerState::Paused,
    PowerState::Suspended,
    PowerState::Shelved,
];

impl World {
    fn asks_for_reboot(&mut self, seconds: i64, type_: RebootType) {
        let at = self.now.checked_add(Duration::from_secs(seconds.unsigned_abs()));
        let at = if seconds < 0 {
            self.now.checked_sub(Duration::from_secs(seconds.unsigned_abs()))
        } else {
            at
        };
        self.instance.spec.reboot = Some(Reboot {
            at: Time(at.unwrap()),
            type_,
        });
    }

    fn running(&self) -> virga_crds::Condition {
        let mut conditions = self.status().conditions.into_iter();
        conditions.find(|c| c.type_ == types::RUNNING).unwrap()
    }

    fn ready(&self) -> virga_crds::Condition {
        let mut conditions = self.status().conditions.into_iter();
        conditions.find(|c| c.type_ == types::READY).unwrap()
    }
}

/// Which first step follows from each wanted and each observed state: all of them, in one table.
#[test]
fn each_wish_in_each_state_has_its_first_step() {
    let observed = [
        Power::Running,
        Power::Paused,
        Power::IoError,
        Power::Sleeping,
        Power::ShuttingDown,
        Power::Saving,
        Power::Saved,
        Power::BrokenSave,
        Power::Crashed,
        Power::Off(WentOff::ByGuest),
    ];
    let mut table = String::new();
    for wanted in WANTED {
        for power in observed {
            let plan = World::with_domain(wanted, power).plan();
            let effects: Vec<&str> = plan.effects.iter().map(Effect::name).collect();
            let status = plan.status.unwrap();
            let ready = status.conditions.iter().find(|c| c.type_ == types::READY).unwrap();
            let state = status.state.unwrap();
            let effects = effects.join(", ");
            let _ = writeln!(table, "{wanted:?} ← {power:?}: {state:?}, {}; {effects}", ready.reason);
        }
    }
    insta::assert_snapshot!(table);
}

/// What is done first about each verb in each state: where Nova forbids it, it waits, and Ready says in which state it is
/// done.
#[test]
fn each_verb_in_each_state_has_its_first_step() {
    let verbs: [Case; 5] = [
        ("reboot Soft", |world| world.asks_for_reboot(0, RebootType::Soft)),
        ("reboot Hard", |world| world.asks_for_reboot(0, RebootType::Hard)),
        ("rebuild", World::asks_for_rebuild),
        ("rescue", |world| world.asks_for_rescue("rescue")),
        ("unrescue", |world| {
            world.is_rescued();
            world.leaves_rescue();
        }),
    ];
    let observed = [
        (PowerState::Running, Power::Running),
        (PowerState::Running, Power::IoError),
        (PowerState::Running, Power::Crashed),
        (PowerState::Running, Power::BrokenSave),
        (PowerState::Stopped, Power::Off(WentOff::ByGuest)),
        (PowerState::Paused, Power::Paused),
        (PowerState::Suspended, Power::Saved),
        (PowerState::Shelved, Power::Off(WentOff::ByGuest)),
    ];
    let mut table = String::new();
    for (verb, ask) in verbs {
        for rescued in [false, true] {
            for (wanted, power) in observed {
                let mut world = World::with_domain(wanted, power);
                if rescued {
                    world.is_rescued();
                }
                ask(&mut world);
                let plan = world.plan();
                let effects: Vec<&str> = plan.effects.iter().map(Effect::name).collect();
                let status = plan.status.unwrap();
                let ready = status.conditions.iter().find(|c| c.type_ == types::READY).unwrap();
                let state = status.state.unwrap();
                let place = if rescued { "rescued, " } else { "" };
                let effects = effects.join(", ");
                let _ = writeln!(
                    table,
                    "{verb} ← {place}{wanted:?}, {power:?}: {state:?}, {}; {effects}",
                    ready.reason
                );
            }
        }
    }
    insta::assert_snapshot!(table);
}

#[test]
fn a_suspended_guest_goes_on_where_it_was() {
    let mut world = World::new(PowerState::Running);
    world.run();
    world.instance.spec.power_state = PowerState::Suspended;
    world.run();
    assert!(world.is_ready());
    assert_eq!(world.status().state, Some(InstanceState::Suspended));
    assert_eq!(world.status().power_state, Some(ObservedPower::Suspended));
    world.instance.spec.power_state = PowerState::Running;
    world.run();
    assert!(world.is_ready());
    assert_eq!(world.starts, 1, "it was booted once");
    insta::assert_snapshot!(world.story);
}

#[test]
fn a_suspended_guest_that_is_stopped_loses_its_memory_and_one_that_is_deleted_leaves_nothing() {
    let mut world = World::with_domain(PowerState::Stopped, Power::Saved);
    assert_eq!(world.plan().effects, [Effect::DiscardSaved]);
    world.run();
    assert!(world.is_ready());
    let mut world = World::with_domain(PowerState::Suspended, Power::Saved).deleted();
    world.run();
    assert!(world.gone && world.seen.domain == Domain::Absent);
}

#[test]
fn a_guest_without_room_for_its_memory_runs_on_and_says_so() {
    let mut world = World::with_domain(PowerState::Suspended, Power::Running);
    world.seen.save_room = Room::Short("too little".into());
    let plan = world.plan();
    assert_eq!((plan.effects, plan.again.is_some()), (vec![], true));
    assert_eq!(plan.status.unwrap().state, Some(InstanceState::Active));
    let ready = world.ready();
    assert_eq!(
        (ready.reason.as_str(), ready.message.as_str()),
        ("PoolFull", "too little")
    );
    world.seen.save_room = Room::Enough;
    world.run();
    assert!(world.is_ready());
}

#[test]
fn damaged_memory_is_told_of_and_thrown_away_only_when_the_user_says_so() {
    let mut world = World::with_domain(PowerState::Running, Power::BrokenSave);
    world.run();
    let running = world.running();
    assert_eq!(running.reason, "SavedMemoryUnusable");
    assert!(
        running.message.contains("set spec.powerState to Stopped"),
        "{}",
        running.message
    );
    assert_eq!(world.status().state, Some(InstanceState::Error));
    world.instance.spec.power_state = PowerState::Stopped;
    world.run();
    world.instance.spec.power_state = PowerState::Running;
    world.run();
    assert!(world.is_ready());
}

#[test]
fn memory_that_can_not_be_loaded_is_tried_again_ever_more_slowly_and_the_way_out_is_told() {
    let mut world = World::with_domain(PowerState::Running, Power::Saved);
    let plan = world.plan();
    assert_eq!(plan.effects.last(), Some(&Effect::Restore));
    let failure = Failure {
        reason: Reason::HypervisorError,
        message: "no such machine".into(),
        stuck: false,
    };
    let status = after_failure(
        &world.instance,
        &plan.status.unwrap(),
        &Effect::Restore,
        &failure,
        world.now,
    );
    world.instance.status = Some(status);
    world.seen.power = PowerRecord::default().with_start(world.now);
    let plan = world.plan();
    assert_eq!((plan.effects, plan.again), (vec![], Some(Duration::from_secs(10))));
    let running = world.running();
    assert_eq!(running.reason, "SavedMemoryUnusable");
    assert!(running.message.starts_with("no such machine; it is tried again;"));
    assert!(running.message.contains("set spec.powerState to Stopped"));
}

#[test]
fn a_guest_whose_memory_could_not_be_saved_is_told_of_as_running() {
    let world = World::with_domain(PowerState::Suspended, Power::Running);
    let failure = Failure {
        reason: Reason::HypervisorError,
        message: "it has a device of the host".into(),
        stuck: false,
    };
    let status = after_failure(&world.instance, &world.status(), &Effect::Save, &failure, world.now);
    let of = |kind: &str| status.conditions.iter().find(|c| c.type_ == kind).unwrap();
    assert_eq!(of(types::RUNNING).status, "True");
    assert_eq!(of(types::READY).message, "it has a device of the host");
}

#[test]
fn what_was_never_started_is_made_and_has_nothing_to_suspend() {
    let mut world = World::new(PowerState::Suspended);
    world.run();
    assert_eq!(world.starts, 0);
    assert_eq!(world.ready().reason, "StateForbids");
    assert_eq!(world.status().state, Some(InstanceState::Stopped));
}

#[test]
fn a_soft_reboot_presses_the_button_and_starts_once() {
    let mut world = World::new(PowerState::Running);
    world.run();
    world.asks_for_reboot(0, RebootType::Soft);
    world.run();
    assert!(world.is_ready());
    assert_eq!(world.starts, 2);
    let told = world.status().reboot.unwrap();
    assert!(told.finished_at.is_some());
    insta::assert_snapshot!(world.story);
    // Done is done.
    world.run();
    assert_eq!(world.starts, 2);
}

#[test]
fn a_soft_reboot_of_a_guest_that_does_not_listen_ends_it_after_a_minute() {
    let mut world = World::new(PowerState::Running);
    world.run();
    world.deaf = 100;
    let asked = world.now;
    world.asks_for_reboot(0, RebootType::Soft);
    world.run();
    assert!(world.is_ready());
    assert_eq!(world.starts, 2);
    assert_eq!(world.now.duration_since(asked).as_secs(), 60);
}

#[test]
fn a_hard_reboot_repairs_whatever_there_is() {
    for power in [
        Power::Running,
        Power::Paused,
        Power::IoError,
        Power::Sleeping,
        Power::ShuttingDown,
        Power::Crashed,
        Power::Saved,
        Power::BrokenSave,
        Power::Off(WentOff::Crashed),
    ] {
        let mut world = World::with_domain(PowerState::Running, power);
        world.full = 100;
        world.asks_for_reboot(-1, RebootType::Hard);
        world.run();
        assert!(world.is_ready(), "{power:?}");
        assert_eq!(world.starts, 1, "{power:?}");
        assert!(world.status().reboot.unwrap().finished_at.is_some(), "{power:?}");
    }
}

#[test]
fn a_reboot_is_done_at_its_time_and_a_later_one_counts() {
    let mut world = World::new(PowerState::Running);
    world.run();
    world.asks_for_reboot(90, RebootType::Hard);
    assert_eq!(world.plan().again, Some(Duration::from_secs(90)));
    assert!(world.is_ready(), "until then all is as specified");
    world.asks_for_reboot(60, RebootType::Hard);
    world.run();
    assert_eq!(world.starts, 2);
    // What was asked for earlier than what is done is none.
    world.asks_for_reboot(-30, RebootType::Hard);
    world.run();
    assert_eq!(world.starts, 2);
}

#[test]
fn a_reboot_waits_where_its_state_forbids_it_and_says_so() {
    for wanted in [PowerState::Stopped, PowerState::Paused, PowerState::Suspended] {
        let mut world = World::with_domain(PowerState::Running, Power::Running);
        world.run();
        world.instance.spec.power_state = wanted;
        world.asks_for_reboot(0, RebootType::Hard);
        world.run();
        let ready = world.ready();
        assert_eq!(ready.reason, "StateForbids", "{wanted:?}: {}", world.story);
        assert_eq!(world.status().reboot, None);
        let starts = world.starts;
        world.instance.spec.power_state = PowerState::Running;
        world.run();
        assert!(world.is_ready());
        assert_eq!(world.starts, starts + 1, "{wanted:?}");
    }
    let mut world = World::with_domain(PowerState::Running, Power::Running);
    world.asks_for_reboot(400 * 86_400, RebootType::Soft);
    world.run();
    assert!(world.ready().message.contains("more than a year ahead"));
}

#[test]
fn a_reboot_from_before_the_instance_or_told_of_as_done_is_not_done() {
    let mut world = World::with_domain(PowerState::Running, Power::Running);
    world.asks_for_reboot(-10, RebootType::Hard);
    world.instance.metadata.creation_timestamp = Some(Time(world.now));
    world.run();
    assert!(world.is_ready() && world.status().reboot.is_none());
    let mut world = World::with_domain(PowerState::Running, Power::Running);
    world.asks_for_reboot(-10, RebootType::Hard);
    world.run();
    // The note beside the disks is lost.
    world.seen.power = PowerRecord::default();
    world.run();
    assert_eq!(world.starts, 1);
}

#[test]
fn under_on_failure_a_guest_that_shut_itself_down_stays_off_and_one_that_crashed_does_not() {
    let mut world = World::new(PowerState::Running);
    world.instance.spec.run_policy = RunPolicy::OnFailure;
    world.run();
    world.seen.domain = Domain::Defined(Power::Off(WentOff::Crashed));
    world.run();
    assert_eq!(world.starts, 2);
    world.seen.domain = Domain::Defined(Power::Off(WentOff::ByGuest));
    world.run();
    assert_eq!(world.starts, 2);
    assert_eq!(world.status().state, Some(InstanceState::Stopped));
    let running = world.running();
    assert!(
        running.message.starts_with("the guest shut itself down, and stays off"),
        "{}",
        running.message
    );
    // A restart of the host makes libvirt forget why it is off.
    world.seen.domain = Domain::Defined(Power::Off(WentOff::Unknown));
    world.run();
    assert_eq!(world.starts, 2);
    world.instance.spec.power_state = PowerState::Stopped;
    world.run();
    world.instance.spec.power_state = PowerState::Running;
    world.run();
    assert_eq!(world.starts, 3);
}

#[test]
fn under_manual_nothing_starts_by_itself_but_what_is_asked_for_does() {
    let mut world = World::new(PowerState::Running);
    world.instance.spec.run_policy = RunPolicy::Manual;
    world.run();
    assert_eq!(world.starts, 1, "the first start is asked for");
    for why in [WentOff::Crashed, WentOff::Unknown, WentOff::Destroyed, WentOff::ByGuest] {
        world.seen.domain = Domain::Defined(Power::Off(why));
        world.run();
        assert_eq!(world.starts, 1, "{why:?}");
        assert_eq!(world.status().state, Some(InstanceState::Stopped));
    }
    world.asks_for_reboot(1, RebootType::Soft);
    world.run();
    assert_eq!(world.starts, 2);
    // A start that failed is still to be done.
    world.seen.power = PowerRecord::default().with_start(world.now);
    world.seen.domain = Domain::Defined(Power::Off(WentOff::Failed));
    world.run();
    assert_eq!(world.starts, 3);
    // So is one that is asked for while the guest is still going down.
    world.instance.spec.power_state = PowerState::Stopped;
    world.pass();
    world.instance.spec.power_state = PowerState::Running;
    world.seen.domain = Domain::Defined(Power::Off(WentOff::ByGuest));
    world.run();
    assert_eq!(world.starts, 4);
}
