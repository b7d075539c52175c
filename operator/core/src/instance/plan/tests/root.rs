//! Rebuilding and rescuing, with agents that are killed between any two steps.

use virga_crds::{Rebuild, Rescue};

use super::*;
use crate::instance::{RebuildStage, RescueRecord, RescueStage};

/// The disks of a machine, numbered in the order in which they were made.
#[derive(Clone, Debug, Default)]
pub(super) struct Disks {
    made: u32,
    root: u32,
    next: Option<u32>,
    next_seed: bool,
    /// Which root disk the domain is defined over, and whether with a rescue disk.
    defined: Option<(u32, bool)>,
    /// The Flavor that it is defined with.
    pub(super) size: Option<String>,
    /// How large the root disk has grown.
    pub(super) grown: Option<Bytes>,
}

impl Disks {
    pub(super) fn defined() -> Self {
        Self {
            defined: Some((0, false)),
            ..Self::default()
        }
    }

    pub(super) fn define(&mut self, seen: &Seen) {
        let rescued = seen.root.record.rescued_with().is_some();
        assert!(
            !rescued || seen.root.rescue_disk,
            "defined with a rescue disk that is not there"
        );
        self.defined = Some((self.root, rescued));
        self.size = seen.flavor.as_ref().map(|flavor| flavor.name.clone());
    }

    pub(super) fn assert_started_as_defined(&self, seen: &Seen) {
        let rescued = seen.root.record.rescued_with().is_some();
        assert_eq!(
            self.defined,
            Some((self.root, rescued)),
            "started over other disks than it has"
        );
        let exchanging = seen
            .root
            .record
            .rebuild
            .is_some_and(|r| r.stage == RebuildStage::Exchanging);
        assert!(!exchanging, "started in the middle of an exchange");
        let resizing = seen.root.record.resize.as_ref().filter(|resize| resize.is_half_done());
        assert_eq!(resizing, None, "started in the middle of a resize");
    }
}

impl World {
    /// Whether something is asked for, or under way, that its guest has to be stopped for.
    pub(super) fn exchanges_its_root_disk(&self) -> bool {
        let record = &self.seen.root.record;
        self.instance.spec.rebuild.is_some()
            || self.instance.spec.rescue.is_some()
            || record.rescue.is_some()
            || record.rebuild.is_some()
            || self.is_resized()
    }

    pub(super) fn apply_to_disks(&mut self, effect: &Effect) {
        let record = self.seen.root.record.clone();
        let stage = record.rebuild.map(|rebuild| rebuild.stage);
        let off = matches!(self.seen.domain, Domain::Absent | Domain::Defined(Power::Off(_)));
        match effect {
            Effect::RecordRoot(record) => self.seen.root.record = (**record).clone(),
            Effect::GrowRoot { size, live } => {
                assert_ne!(*live, off, "grown where the guest does not know, or there is none");
                assert!(self.disks.grown.is_none_or(|grown| grown <= *size), "shrunk");
                self.disks.grown = Some(*size);
            }
            Effect::CreateNextRoot { .. } => {
                assert_eq!(stage, Some(RebuildStage::Preparing));
                self.disks.made += 1;
                self.disks.next = Some(self.disks.made);
            }
            Effect::WriteNextSeed => self.disks.next_seed = true,
            Effect::DropNextRoot => {
                assert!(
                    stage != Some(RebuildStage::Exchanging) || self.disks.next.is_none(),
                    "the only root disk is dropped"
                );
                self.disks.next = None;
                self.disks.next_seed = false;
            }
            Effect::ExchangeRoot => {
                assert!(off, "exchanged under a guest");
                assert_eq!(stage, Some(RebuildStage::Exchanging));
                if let Some(next) = self.disks.next.take() {
                    self.disks.root = next;
                    self.seen.root_disk = true;
                }
                self.seen.seed = true;
                self.disks.next_seed = false;
            }
            Effect::CreateRescueDisk { .. } => self.seen.root.rescue_disk = true,
            Effect::RemoveRescueDisk => {
                assert_eq!(record.rescued_with(), None, "removed under a rescue");
                assert!(
                    self.disks.defined.is_none_or(|(_, rescued)| !rescued),
                    "removed under a domain that boots from it"
                );
                self.seen.root.rescue_disk = false;
            }
            _ => unreachable!(),
        }
        self.seen.root.next = self.disks.next.is_some() && self.disks.next_seed;
    }

    /// It was rescued before.
    pub(super) fn is_rescued(&mut self) {
        self.asks_for_rescue("rescue");
        let image = self
            .instance
            .spec
            .rescue
            .as_ref()
            .and_then(|rescue| rescue.image.clone());
        self.seen.root.record.rescue = Some(RescueRecord {
            image: image.unwrap(),
            stage: RescueStage::Entered,
        });
        self.seen.root.rescue_disk = true;
        self.disks.defined = Some((0, true));
    }

    pub(super) fn asks_for_rebuild(&mut self) {
        self.now = self.now.checked_add(Duration::from_secs(1)).unwrap();
        self.instance.spec.rebuild = Some(Rebuild { at: Time(self.now) });
    }

    pub(super) fn asks_for_rescue(&mut self, name: &str) {
        let image = ImageRef {
            name: name.into(),
            namespace: None,
        };
        self.instance.spec.rescue = Some(Rescue { image: Some(image) });
        self.seen.root.rescue_image = Some(image_of(cached()));
    }

    pub(super) fn leaves_rescue(&mut self) {
        self.instance.spec.rescue = None;
        self.seen.root.rescue_image = None;
    }

    fn told(&self) -> virga_crds::Condition {
        let mut conditions = self.status().conditions.into_iter();
        conditions.find(|c| c.type_ == types::READY).unwrap()
    }
}

fn image_of(cache: Cache) -> Image {
    Image::Known {
        uid: "rescue-uid".into(),
        min_disk: Bytes::gib(500),
        min_memory: Bytes::ZERO,
        cache,
    }
}

fn running() -> World {
    let mut world = World::new(PowerState::Running);
    world.run();
    world.story.clear();
    world
}

#[test]
fn a_rebuild_stops_the_guest_only_when_its_new_disk_is_there() {
    let mut world = running();
    world.asks_for_rebuild();
    world.seen.image = Some(image(Cache::Absent));
    world.run();
    assert_eq!(world.told().reason, "ImagePulling");
    assert_eq!(
        world.power(),
        Some(Power::Running),
        "it runs on until the image is there"
    );
    world.seen.image = Some(image(cached()));
    world.run();
    assert!(world.is_ready());
    assert_eq!((world.disks.root, world.starts), (1, 2));
    assert!(world.status().rebuild.unwrap().finished_at.is_some());
    insta::assert_snapshot!(world.story);
    world.run();
    assert_eq!(world.disks.made, 1, "done once");
}

#[test]
fn a_rebuild_killed_at_any_point_is_neither_repeated_nor_forgotten() {
    for (wanted, power) in [
        (PowerState::Running, Power::Running),
        (PowerState::Running, Power::IoError),
        (PowerState::Running, Power::Saved),
        (PowerState::Running, Power::BrokenSave),
        (PowerState::Stopped, Power::Off(WentOff::ByGuest)),
    ] {
        for kill in 0..24 {
            let mut world = World::with_domain(wanted, power);
            world.instance.status = Some(world.status());
            world.asks_for_rebuild();
            world.budget = Some(kill);
            world.run();
            let before = world.instance.status.clone();
            world.budget = None;
            // What was told of it last may be lost too.
            if kill % 2 == 0 {
                world.instance.status = before;
            }
            world.run();
            let point = format!("{wanted:?} {power:?} {kill}: {}", world.story);
            assert!(world.is_ready(), "{point}");
            assert!(world.disks.root > 0, "{point}");
            assert_eq!(world.disks.defined, Some((world.disks.root, false)), "{point}");
            let root = world.disks.root;
            world.run();
            assert_eq!(world.disks.root, root, "{point}");
            assert_eq!(world.disks.next, None, "{point}");
        }
    }
}

#[test]
fn a_rebuild_that_is_taken_back_in_time_leaves_the_machine_as_it_was() {
    let mut world = running();
    world.asks_for_rebuild();
    world.pass();
    assert!(world.disks.next.is_some());
    world.instance.spec.rebuild = None;
    world.run();
    assert!(world.is_ready());
    assert_eq!((world.disks.root, world.disks.next, world.starts), (0, None, 1));
    assert_eq!(world.seen.root.record.rebuild, None);
}

#[test]
fn a_later_rebuild_takes_the_place_of_one_that_is_under_way() {
    let mut world = running();
    world.asks_for_rebuild();
    world.pass();
    world.asks_for_rebuild();
    world.run();
    assert!(world.is_ready());
    assert_eq!((world.disks.root, world.starts), (2, 2));
}

#[test]
fn a_rebuild_is_the_cure_of_a_lost_root_disk() {
    for defined in [true, false] {
        let mut world = running();
        world.seen.root_disk = false;
        world.seen.domain = if defined {
            Domain::Defined(Power::Off(WentOff::Failed))
        } else {
            Domain::Absent
        };
        world.run();
        assert_eq!(world.status().state, Some(InstanceState::Error));
        assert!(
            world.told().message.contains("ask for a rebuild"),
            "{}",
            world.told().message
        );
        world.asks_for_rebuild();
        world.now = world.now.checked_add(Duration::from_mins(10)).unwrap();
        world.run();
        assert!(world.is_ready(), "{}", world.story);
    }
}

#[test]
fn a_rebuild_waits_where_its_state_forbids_it_and_says_so() {
    for wanted in [PowerState::Paused, PowerState::Suspended] {
        let mut world = running();
        world.instance.spec.power_state = wanted;
        world.asks_for_rebuild();
        world.run();
        assert_eq!(world.told().reason, "StateForbids", "{wanted:?}");
        assert_eq!(world.disks.made, 0);
        world.instance.spec.power_state = PowerState::Running;
        world.run();
        assert!(world.is_ready());
        assert_eq!(world.disks.root, 1);
    }
    let mut world = running();
    world.seen.root.misfit = Some("spec.image: it asks for other CPUs".into());
    world.asks_for_rebuild();
    world.run();
    assert_eq!(world.told().reason, "ImageDoesNotFit");
    assert_eq!((world.disks.made, world.power()), (0, Some(Power::Running)));
}

#[test]
fn a_rebuild_from_before_the_instance_or_told_of_as_done_is_not_done() {
    let mut world = running();
    world.asks_for_rebuild();
    world.instance.metadata.creation_timestamp = Some(Time(world.now.checked_add(Duration::from_secs(9)).unwrap()));
    world.run();
    assert_eq!(world.disks.made, 0);
    world.instance.metadata.creation_timestamp = None;
    world.run();
    assert_eq!(world.disks.root, 1);
    // The note beside the disks is lost.
    world.seen.root.record = crate::instance::RootRecord::default();
    world.run();
    assert_eq!(world.disks.made, 1);
}

#[test]
fn a_rescued_guest_boots_from_another_disk_and_then_from_its_own_again() {
    let mut world = running();
    world.asks_for_rescue("rescue");
    world.run();
    assert!(world.is_ready());
    assert_eq!(world.status().state, Some(InstanceState::Rescued));
    assert_eq!((world.disks.defined, world.starts), (Some((0, true)), 2));
    world.leaves_rescue();
    world.run();
    assert!(world.is_ready());
    assert_eq!(world.status().state, Some(InstanceState::Active));
    assert_eq!((world.disks.defined, world.starts), (Some((0, false)), 3));
    assert!(!world.seen.root.rescue_disk && world.seen.root.record.rescue.is_none());
    insta::assert_snapshot!(world.story);
}

#[test]
fn a_guest_whose_rescue_image_is_missing_runs_on_untouched() {
    let mut world = running();
    world.asks_for_rescue("rescue");
    world.seen.root.rescue_image = Some(Image::NotFound("there is no Image \"rescue\": create it".into()));
    world.run();
    let told = world.told();
    assert_eq!(told.reason, "ImageNotFound");
    assert!(
        told.message.contains("spec.rescue.image: there is no Image \"rescue\""),
        "{}",
        told.message
    );
    assert_eq!((world.power(), world.starts), (Some(Power::Running), 1));
    assert_eq!(world.status().state, Some(InstanceState::Active));
    world.leaves_rescue();
    assert!(world.is_ready());
}

#[test]
fn a_rescue_killed_at_any_point_ends_as_it_is_asked_for() {
    for wanted in [PowerState::Running, PowerState::Stopped] {
        for kill in 0..24 {
            let mut world = World::new(wanted);
            world.run();
            world.asks_for_rescue("rescue");
            world.budget = Some(kill);
            world.run();
            world.budget = None;
            // Another image, asked for while nobody looked.
            if kill % 3 == 0 {
                world.asks_for_rescue("another");
            }
            world.run();
            assert!(world.is_ready(), "{kill}: {}", world.story);
            assert_eq!(world.status().state, Some(InstanceState::Rescued), "{kill}");
            assert_eq!(world.disks.defined, Some((0, true)), "{kill}");
            world.leaves_rescue();
            world.budget = Some(kill);
            world.run();
            world.budget = None;
            world.run();
            assert!(world.is_ready(), "{kill}: {}", world.story);
            assert_eq!(world.disks.defined, Some((0, false)), "{kill}");
            assert!(!world.seen.root.rescue_disk && world.seen.root.record.rescue.is_none());
        }
    }
}

#[test]
fn a_rescue_that_is_taken_back_in_time_costs_no_boot() {
    let mut world = running();
    world.asks_for_rescue("rescue");
    world.pass();
    world.leaves_rescue();
    world.run();
    assert!(world.is_ready());
    assert_eq!((world.starts, world.seen.root.rescue_disk), (1, false));
}

#[test]
fn what_is_rescued_is_stopped_started_and_rebooted_as_any_other_and_rebuilt_only_afterwards() {
    let mut world = running();
    world.asks_for_rescue("rescue");
    world.run();
    world.asks_for_rebuild();
    world.run();
    assert_eq!(world.told().reason, "StateForbids");
    assert!(world.told().message.contains("take spec.rescue out first"));
    for wanted in [PowerState::Stopped, PowerState::Running] {
        world.instance.spec.power_state = wanted;
        world.run();
        assert_eq!(world.status().state, Some(InstanceState::Rescued));
    }
    world.instance.spec.reboot = Some(Reboot {
        at: Time(world.now),
        type_: RebootType::Hard,
    });
    world.run();
    assert!(world.status().reboot.unwrap().finished_at.is_some());
    assert_eq!((world.starts, world.disks.root), (4, 0));
    world.leaves_rescue();
    world.run();
    assert!(world.is_ready());
    assert_eq!(world.disks.root, 1);
    assert_eq!(
        world.seen.root.record.rescue.map(|rescue| rescue.stage),
        None::<RescueStage>
    );
}

#[test]
fn what_is_being_rebuilt_or_rescued_leaves_nothing_when_it_is_deleted() {
    for passes in 0..6 {
        let mut world = running();
        if passes % 2 == 0 {
            world.asks_for_rebuild();
        } else {
            world.asks_for_rescue("rescue");
        }
        for _ in 0..passes {
            world.pass();
        }
        let mut world = world.deleted();
        world.run();
        assert!(world.gone && world.seen.domain == Domain::Absent && !world.seen.root_disk);
    }
}

proptest! {
    /// Verbs about the root disk in any order, in any power state, with an agent that is killed again and again.
    #[test]
    fn the_last_wish_about_the_root_disk_wins(
        mut world in any_world(),
        wishes in proptest::collection::vec((0_u8..6, any_wanted(), 0_usize..5, 0_usize..9), 1..7),
    ) {
        for (wish, power, passes, budget) in wishes {
            match wish {
                0 => world.asks_for_rebuild(),
                1 => world.instance.spec.rebuild = None,
                2 => world.asks_for_rescue("one"),
                3 => world.asks_for_rescue("two"),
                4 => world.leaves_rescue(),
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
        if !world.gone {
            world.run();
        }
        let told = (!world.gone).then(|| world.told());
        let held = told.is_some_and(|told| told.reason == "StateForbids");
        prop_assert!(world.gone || world.waits_for_its_user() || world.is_ready() || held, "{}", world.story);
        if !world.gone && world.is_ready() && matches!(world.seen.domain, Domain::Defined(_)) {
            let rescued = world.instance.spec.rescue.is_some();
            prop_assert_eq!(world.disks.defined, Some((world.disks.root, rescued)));
        }
    }
}

#[test]
fn a_new_time_from_before_the_instance_is_refused_and_an_old_one_may_stay() {
    let mut old = instance(PowerState::Running);
    let at = |text: &str| Time(text.parse().unwrap());
    old.metadata.creation_timestamp = Some(at("2026-11-22T10:00:00Z"));
    let mut new = old.clone();
    new.spec.rebuild = Some(Rebuild {
        at: at("2026-11-22T09:00:00Z"),
    });
    let said = crate::instance::rebuild_in_time(&old, &new).to_string();
    assert!(
        said.contains("spec.rebuild.at: 2026-11-22T09:00:00Z is before the Instance was created"),
        "{said}"
    );
    assert!(crate::instance::rebuild_in_time(&new, &new).is_empty());
    new.spec.rebuild = Some(Rebuild {
        at: at("2026-11-22T10:00:00Z"),
    });
    assert!(crate::instance::rebuild_in_time(&old, &new).is_empty());
}

#[test]
fn a_rebuild_whose_disk_makes_no_domain_is_followed_by_a_later_one() {
    let mut world = running();
    world.asks_for_rebuild();
    // Killed, or refused by libvirt, right before the definition.
    world.budget = Some(9);
    for _ in 0..9 {
        if world.seen.domain != Domain::Absent {
            world.pass();
        }
    }
    assert_eq!(world.seen.domain, Domain::Absent, "{}", world.story);
    world.asks_for_rebuild();
    world.budget = None;
    world.pass();
    assert_eq!(world.disks.next, Some(2), "it is not tried once more: {}", world.story);
    world.run();
    assert!(world.is_ready());
    assert_eq!(world.disks.root, 2);
}
