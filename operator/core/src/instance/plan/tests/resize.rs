//! Resizing, with agents that are killed between any two steps.

use virga_crds::{Rebuild, Rescue, ResizePolicy, ResizeVerdict, labels};

use super::*;
use crate::instance::{ResizeSeen, ResizeStage};

fn size(name: &str) -> Option<BuiltFlavor> {
    let (vcpus, disk) = match name {
        "m1.small" => return Some(flavor()),
        "large" => (4, 40),
        "wide" => (8, 40),
        "slim" => (1, 10),
        "diskless" => (2, 0),
        _ => return None,
    };
    Some(BuiltFlavor {
        name: name.into(),
        vcpus,
        memory: Bytes::gib(u64::from(vcpus)),
        disk: Bytes::gib(disk),
    })
}

impl World {
    pub(super) fn is_resized(&self) -> bool {
        let open = self.seen.root.record.resize.as_ref();
        self.instance.spec.flavor != "m1.small" || open.is_some()
    }

    /// What an agent sees of sizes.
    pub(super) fn as_seen(&self) -> Seen {
        let mut seen = self.seen.clone();
        if !self.is_resized() {
            return seen;
        }
        let status = self.instance.status.as_ref();
        let built = status.and_then(|status| status.flavor.clone());
        let resized = seen.root.record.resize.as_ref().map(|resize| resize.size().clone());
        seen.flavor = resized.or(built).or_else(|| size(&self.instance.spec.flavor));
        seen.root.resize = ResizeSeen {
            wanted: size(&self.instance.spec.flavor),
            root_size: Some(self.disks.grown.unwrap_or(Bytes::gib(20))),
            misfit: self.seen.root.resize.misfit.clone(),
        };
        seen
    }

    /// Asks for another size, which the leading controller answers.
    fn asks_for(&mut self, name: &str) {
        self.asks_without_answer(name);
        self.is_answered(None);
    }

    fn asks_without_answer(&mut self, name: &str) {
        self.instance.spec.flavor = name.into();
        let generation = self.instance.metadata.generation.unwrap();
        self.instance.metadata.generation = Some(generation + 1);
    }

    fn is_answered(&mut self, refused: Option<&str>) {
        let verdict = ResizeVerdict {
            flavor: self.instance.spec.flavor.clone(),
            generation: self.instance.metadata.generation.unwrap(),
            host: NODE.into(),
            refused: refused.map(str::to_owned),
            migration: refused.filter(|why| why.contains("moves")).map(|_| "resize-1".into()),
            cancelled: refused.is_some_and(|why| why.contains("deleted")),
        };
        let text = serde_json::to_string(&verdict).unwrap();
        let annotations = self.instance.metadata.annotations.get_or_insert_default();
        annotations.insert(labels::RESIZE.into(), text);
    }

    fn said(&self) -> (String, String) {
        let conditions = self.status().conditions;
        let ready = conditions.iter().find(|c| c.type_ == types::READY).unwrap();
        (ready.reason.clone(), ready.message.clone())
    }

    fn built_as(&self) -> String {
        self.status().flavor.unwrap().name
    }

    fn stage(&self) -> Option<ResizeStage> {
        self.seen.root.record.resize.as_ref().map(|resize| resize.stage)
    }
}

fn running() -> World {
    let mut world = World::new(PowerState::Running);
    world.run();
    world.story.clear();
    world
}

fn waiting_for_confirmation() -> World {
    let mut world = running();
    world.instance.spec.resize_policy = ResizePolicy::Confirm;
    world.asks_for("large");
    world.run();
    assert!(world.is_ready(), "{}", world.story);
    world
}

#[test]
fn a_resize_stops_the_guest_defines_it_anew_and_is_final_at_once() {
    let mut world = running();
    world.asks_for("large");
    world.run();
    assert!(world.is_ready());
    let status = world.status();
    assert_eq!((world.starts, status.state), (2, Some(InstanceState::Active)));
    assert_eq!(
        (world.built_as().as_str(), world.disks.size.as_deref()),
        ("large", Some("large"))
    );
    assert_eq!(world.disks.grown, Some(Bytes::gib(40)));
    let resize = status.resize.unwrap();
    assert_eq!(
        (resize.from.name.as_str(), resize.to.name.as_str()),
        ("m1.small", "large")
    );
    assert!(resize.finished_at.is_some() && resize.confirmed_at.is_some() && resize.reverted_at.is_none());
    assert!(!resize.is_open());
    insta::assert_snapshot!(world.story);
    let actions: Vec<_> = world.status().actions.iter().map(|row| row.action.as_str()).collect();
    assert_eq!(actions, ["Resize", "Create"]);
    world.run();
    assert_eq!(world.starts, 2, "done once");
}

#[test]
fn what_is_stopped_is_resized_and_stays_stopped() {
    let mut world = World::new(PowerState::Stopped);
    world.run();
    world.asks_for("large");
    world.run();
    assert!(world.is_ready());
    assert_eq!((world.starts, world.disks.size.as_deref()), (0, Some("large")));
    assert_eq!(world.disks.grown, Some(Bytes::gib(40)));
}

#[test]
fn a_resize_that_is_to_be_confirmed_can_be_taken_back_and_grows_no_disk_before() {
    let mut world = waiting_for_confirmation();
    let status = world.status();
    assert_eq!((status.state, world.disks.grown), (Some(InstanceState::Resized), None));
    assert!(status.resize.unwrap().is_open());
    // Its power is its user's as ever.
    for wanted in [PowerState::Stopped, PowerState::Running] {
        world.instance.spec.power_state = wanted;
        world.run();
        assert!(world.is_ready());
        assert_eq!(world.status().state, Some(InstanceState::Resized));
    }
    world.asks_without_answer("m1.small");
    world.run();
    assert!(world.is_ready(), "{}", world.story);
    let status = world.status();
    assert_eq!((status.state, world.disks.grown), (Some(InstanceState::Active), None));
    assert_eq!(
        (world.built_as().as_str(), world.disks.size.as_deref()),
        ("m1.small", Some("m1.small"))
    );
    assert!(status.resize.unwrap().reverted_at.is_some());
    // And asked for once more, which takes another answer.
    world.asks_without_answer("large");
    world.run();
    assert_eq!(world.said().0, "WaitingForLeader");
    assert_eq!(world.power(), Some(Power::Running));
    world.is_answered(None);
    world.run();
    assert_eq!(world.status().state, Some(InstanceState::Resized));
}

#[test]
fn a_confirmation_names_the_flavor_and_grows_the_disk_under_the_guest() {
    let mut world = waiting_for_confirmation();
    let starts = world.starts;
    world.instance.spec.confirm_resize = Some("another".into());
    world.run();
    assert_eq!(world.status().state, Some(InstanceState::Resized));
    world.instance.spec.confirm_resize = Some("large".into());
    world.run();
    assert!(world.is_ready());
    let status = world.status();
    assert_eq!((status.state, world.starts), (Some(InstanceState::Active), starts));
    assert_eq!(world.disks.grown, Some(Bytes::gib(40)));
    assert!(status.resize.unwrap().confirmed_at.is_some());
    assert_eq!(status.actions[0].action.as_str(), "ConfirmResize");
    // What has grown can't shrink.
    world.asks_for("m1.small");
    world.run();
    let (reason, message) = world.said();
    assert_eq!(reason, "ResizeRefused");
    assert!(
        message.contains("the root disk has 40Gi, more than the 20Gi of m1.small, and can't shrink"),
        "{message}"
    );
    assert_eq!((world.starts, world.built_as().as_str()), (starts, "large"));
}

#[test]
fn what_may_go_back_is_neither_rescued_nor_rebuilt_nor_resized_on() {
    let asks: [Case; 3] = [
        ("rescue", |world| world.asks_for_rescue("rescue")),
        ("rebuild", |world| {
            world.instance.spec.rebuild = Some(Rebuild { at: Time(world.now) });
        }),
        ("another size", |world| world.asks_for("wide")),
    ];
    for (name, ask) in asks {
        let mut world = waiting_for_confirmation();
        let starts = world.starts;
        ask(&mut world);
        world.run();
        let (reason, message) = world.said();
        assert_eq!(reason, "StateForbids", "{name}");
        assert!(
            message.contains("the resize to large is not confirmed"),
            "{name}: {message}"
        );
        assert_eq!(world.starts, starts, "{name}");
        world.instance.spec.confirm_resize = Some("large".into());
        world.run();
        assert!(world.is_ready(), "{name}: {}", world.story);
        assert_eq!(world.starts, starts + 1, "{name}");
    }
}

#[test]
fn a_resize_that_is_refused_leaves_the_guest_alone_and_says_why() {
    let asks: [(Case, &str, &str); 11] = [
        (
            ("no answer", |world| world.asks_without_answer("large")),
            "WaitingForLeader",
            "room for large is being looked for",
        ),
        (
            ("no room", |world| {
                world.asks_for("large");
                world.is_answered(Some("RamFilter"));
            }),
            "ResizeRefused",
            "node-1 has no room for large: RamFilter; name a smaller Flavor, or set spec.flavor back",
        ),
        (
            ("a move", |world| {
                world.asks_for("large");
                world.is_answered(Some("RamFilter (it moves)"));
            }),
            "ResizeRefused",
            "the Migration resize-1 moves it to a host that has",
        ),
        (
            ("a move that was cancelled", |world| {
                world.asks_for("large");
                world.is_answered(Some("RamFilter (what moves it was deleted)"));
            }),
            "ResizeRefused",
            "(what moves it was deleted); name a smaller Flavor, or set spec.flavor back",
        ),
        (
            ("no such flavor", |world| world.asks_for("nowhere")),
            "FlavorNotFound",
            "there is no Flavor \"nowhere\"",
        ),
        (
            ("a smaller disk", |world| world.asks_for("slim")),
            "ResizeRefused",
            "has 20Gi, more than the 10Gi of slim",
        ),
        (
            ("no disk", |world| world.asks_for("diskless")),
            "ResizeRefused",
            "diskless has no disk of its own",
        ),
        (
            ("a misfit", |world| {
                world.asks_for("large");
                world.seen.root.resize.misfit = Some("spec.flavor: CPUs of its own".into());
            }),
            "ResizeRefused",
            "spec.flavor: CPUs of its own",
        ),
        (
            ("an old answer", |world| {
                world.asks_for("large");
                world.instance.metadata.generation = Some(9);
            }),
            "WaitingForLeader",
            "is being looked for",
        ),
        (
            ("another host's answer", |world| {
                world.asks_for("large");
                let said = world.instance.metadata.annotations.as_mut().unwrap();
                let text = said.get_mut(labels::RESIZE).unwrap();
                *text = text.replace(NODE, "node-2");
            }),
            "WaitingForLeader",
            "is being looked for on node-1",
        ),
        (
            ("what is no answer", |world| {
                world.asks_for("large");
                let said = world.instance.metadata.annotations.as_mut().unwrap();
                said.insert(labels::RESIZE.into(), "{".into());
            }),
            "WaitingForLeader",
            "is being looked for",
        ),
    ];
    for ((name, ask), reason, words) in asks {
        let mut world = running();
        ask(&mut world);
        for _ in 0..20 {
            world.pass();
        }
        let (said, message) = world.said();
        assert_eq!(said, reason, "{name}: {message}");
        assert!(message.contains(words), "{name}: {message}");
        assert_eq!((world.starts, world.power()), (1, Some(Power::Running)), "{name}");
        assert_eq!((world.built_as().as_str(), world.stage()), ("m1.small", None), "{name}");
        // Taken back, nothing is left of it.
        world.seen.root.resize.misfit = None;
        world.asks_without_answer("m1.small");
        world.run();
        assert!(world.is_ready(), "{name}");
    }
}

#[test]
fn in_each_state_a_resize_is_done_or_waits_and_says_why() {
    let mut table = String::new();
    for wanted in [
        PowerState::Running,
        PowerState::Stopped,
        PowerState::Paused,
        PowerState::Suspended,
    ] {
        for power in [
            Power::Running,
            Power::Paused,
            Power::IoError,
            Power::Sleeping,
            Power::ShuttingDown,
            Power::Saving,
            Power::Saved,
            Power::BrokenSave,
            Power::Off(WentOff::Unknown),
            Power::Off(WentOff::ByGuest),
            Power::Crashed,
        ] {
            for (kind, change) in [
                ("", (|_| {}) as fn(&mut World)),
                (" rescue", |world| {
                    world.instance.spec.rescue = Some(Rescue { image: None });
                }),
                (" soft delete", |world| {
                    world.instance.spec.soft_delete = Some(virga_crds::SoftDelete {
                        reclaim_after: "24h".into(),
                    });
                }),
            ] {
                let mut world = World::with_domain(wanted, power);
                world.instance.status = Some(world.status());
                change(&mut world);
                world.asks_for("large");
                for _ in 0..60 {
                    world.pass();
                }
                let _ = writeln!(
                    table,
                    "{wanted:?}, {power:?}{kind}: {} ({})",
                    world.stage().map_or("-".into(), |stage| format!("{stage:?}")),
                    world.said().0
                );
            }
        }
    }
    insta::assert_snapshot!(table);
}

#[test]
fn a_disk_grows_neither_under_a_snapshot_nor_under_saved_memory() {
    let mut world = waiting_for_confirmation();
    world.instance.spec.confirm_resize = Some("large".into());
    world.seen.snapshotting = Snapshotting::Live;
    for _ in 0..5 {
        world.pass();
    }
    assert_eq!((world.disks.grown, world.said().0.as_str()), (None, "StateForbids"));
    world.seen.snapshotting = Snapshotting::No;
    world.run();
    assert!(world.is_ready());
    assert_eq!(world.disks.grown, Some(Bytes::gib(40)));

    let mut world = waiting_for_confirmation();
    world.instance.spec.power_state = PowerState::Suspended;
    world.run();
    world.instance.spec.confirm_resize = Some("large".into());
    for _ in 0..5 {
        world.pass();
    }
    assert_eq!((world.disks.grown, world.said().0.as_str()), (None, "StateForbids"));
    world.instance.spec.power_state = PowerState::Running;
    world.run();
    assert!(world.is_ready());
    assert_eq!(world.disks.grown, Some(Bytes::gib(40)));
}

#[test]
fn a_resize_killed_at_any_point_is_neither_repeated_nor_forgotten() {
    for wanted in [PowerState::Running, PowerState::Stopped] {
        for policy in [ResizePolicy::Auto, ResizePolicy::Confirm] {
            for kill in 0..24 {
                let mut world = World::new(wanted);
                world.run();
                let before = world.instance.status.clone();
                world.instance.spec.resize_policy = policy;
                world.asks_for("large");
                world.budget = Some(kill);
                world.run();
                world.budget = None;
                // What was told of it last may be lost too.
                if kill % 2 == 0 {
                    world.instance.status = before;
                }
                world.run();
                let point = format!("{wanted:?} {policy:?} {kill}: {}", world.story);
                assert!(world.is_ready(), "{point}");
                assert_eq!(world.disks.size.as_deref(), Some("large"), "{point}");
                let is_final = policy == ResizePolicy::Auto;
                assert_eq!(world.disks.grown.is_some(), is_final, "{point}");
                let starts = world.starts;
                world.run();
                assert_eq!(world.starts, starts, "{point}");
                if is_final {
                    continue;
                }
                world.asks_without_answer("m1.small");
                world.budget = Some(kill);
                world.run();
                world.budget = None;
                world.run();
                assert!(world.is_ready(), "{point}");
                assert_eq!(
                    (world.disks.size.as_deref(), world.disks.grown),
                    (Some("m1.small"), None),
                    "{point}"
                );
                assert_eq!(world.stage(), Some(ResizeStage::Reverted), "{point}");
            }
        }
    }
}

#[test]
fn a_resize_that_is_taken_back_while_it_is_half_done_goes_back() {
    for kill in 0..12 {
        let mut world = running();
        world.asks_for("large");
        world.budget = Some(kill);
        for _ in 0..4 {
            world.pass();
        }
        let is_final = matches!(world.stage(), Some(ResizeStage::Confirming | ResizeStage::Confirmed));
        world.budget = None;
        world.asks_without_answer("m1.small");
        world.run();
        if is_final {
            assert_eq!(world.said().0, "ResizeRefused", "{kill}: it has grown");
            assert_eq!(
                (world.stage(), world.built_as().as_str()),
                (Some(ResizeStage::Confirmed), "large")
            );
        } else {
            assert!(world.is_ready(), "{kill}: {}", world.story);
            assert_eq!(world.built_as(), "m1.small", "{kill}");
            assert_eq!(world.disks.grown, None, "{kill}");
        }
    }
}

#[test]
fn a_rebuild_that_is_yet_to_come_keeps_no_resize_back() {
    let mut world = running();
    let later = world.now.checked_add(Duration::from_hours(9)).unwrap();
    world.instance.spec.rebuild = Some(Rebuild { at: Time(later) });
    world.asks_for("large");
    while world.now < later && world.disks.size.as_deref() != Some("large") {
        world.pass();
    }
    assert!(world.now < later);
    assert_eq!(world.disks.size.as_deref(), Some("large"));
}

proptest! {
    /// Sizes, confirmations and verbs about the root disk in any order, with an agent that is killed again and again.
    #[test]
    fn the_last_wish_about_the_size_wins_or_says_what_it_waits_for(
        mut world in any_world(),
        wishes in proptest::collection::vec((0_u8..9, any_wanted(), 0_usize..5, 0_usize..9), 1..8),
    ) {
        for (wish, power, passes, budget) in wishes {
            match wish {
                0 => world.asks_for("m1.small"),
                1 => world.asks_for("large"),
                2 => world.asks_for("wide"),
                3 => world.instance.spec.resize_policy = ResizePolicy::Confirm,
                4 => world.instance.spec.resize_policy = ResizePolicy::Auto,
                5 => world.instance.spec.confirm_resize = Some("large".into()),
                6 => world.asks_for_rescue("one"),
                7 => world.leaves_rescue(),
                _ => world.instance.spec.power_state = power,
            }
            world.budget = Some(budget);
            for _ in 0..passes {
                if !world.gone {
                    world.pass();
                }
            }
            world.budget = None;
        }
        for _ in 0..100 {
            if !world.gone {
                world.pass();
            }
        }
        if !world.gone {
            let reason = world.said().0;
            let held = matches!(reason.as_str(), "StateForbids" | "ResizeRefused");
            prop_assert!(world.waits_for_its_user() || world.is_ready() || held, "{} {}", reason, world.story);
            if world.is_ready() && matches!(world.seen.domain, Domain::Defined(_)) && world.stage().is_some() {
                let asked = Some(world.instance.spec.flavor.as_str());
                prop_assert_eq!(world.disks.size.as_deref(), asked, "{}", world.story);
            }
        }
    }
}
