//! Shelving, with agents that are killed between any two steps, statuses that are lost, and wishes that change at any time.

use virga_crds::{
    Image as ImageObject, ImageState, ImageStatus, Rebuild, ResizePolicy, Shelve, ShelveStatus, SnapshotStatus,
};

use super::*;
use crate::instance::{
    DiskMark, ResizeRecord, ResizeStage, ShelvedImage, Shelving, is_shelved_away, shelved_image_name, shelving,
};

/// The uid of the Image that the root disk is in.
const SHELVED: &str = "shelved-uid";

impl World {
    pub(super) fn shelved_image_is_here(&self) -> bool {
        let image = self.seen.shelve.image.as_ref();
        self.instance.spec.boot_volume.is_some()
            || image.is_some_and(|image| image.digest.is_some() && matches!(image.cache, Cache::Cached { .. }))
    }
}

/// A node, the leader, and the disk that both are about: each time the guest runs, it writes.
struct Cloud {
    world: World,
    /// What is on the root disk.
    disk: Option<u32>,
    /// The Image, and what is in it.
    image: Option<(ImageObject, u32)>,
    cache: Cache,
    written: u32,
}

impl Cloud {
    fn new(wanted: PowerState) -> Self {
        let mut world = World::new(wanted);
        world.instance.metadata.uid = Some("5d1c0b0a-0000-4000-8000-000000000001".into());
        Self {
            world,
            disk: None,
            image: None,
            cache: Cache::Absent,
            written: 0,
        }
    }

    fn wishes(&mut self, power: PowerState) {
        self.world.instance.spec.power_state = power;
        self.world.instance.metadata.generation = self.world.instance.metadata.generation.map(|g| g + 1);
    }

    fn offload_after(&mut self, text: &str) {
        self.world.instance.spec.shelve = Some(Shelve {
            offload_after: text.into(),
        });
    }

    fn shelve(&self) -> Option<&ShelveStatus> {
        self.world.instance.status.as_ref()?.shelve.as_ref()
    }

    fn status(&self) -> virga_crds::InstanceStatus {
        self.world.instance.status.clone().unwrap()
    }

    fn state(&self) -> Option<InstanceState> {
        self.world.instance.status.as_ref()?.state
    }

    fn look(&mut self) {
        let instance = &self.world.instance;
        let image = self.image.as_ref();
        self.world.seen.shelve.image = image.map(|(image, _)| ShelvedImage::of(image, instance, self.cache.clone()));
        self.world.seen.shelve.disk = self.disk.filter(|_| self.world.seen.root_disk).map(|content| DiskMark {
            written: Timestamp::from_second(content.into()).unwrap(),
            bytes: Bytes::mib(1),
        });
    }

    /// One pass of the agent, which is killed after so many effects; what it tells may get lost with it. Returns whether
    /// there was anything to do.
    fn agent(&mut self, budget: usize, told: bool) -> bool {
        if self.world.instance.spec.node_name.is_none() {
            return false;
        }
        self.look();
        let Plan { effects, status, again } = self.world.plan();
        let quiet = effects.is_empty();
        let news = status.is_some() && status != self.world.instance.status;
        for effect in effects.iter().take(budget) {
            self.carry_out(effect);
        }
        if told && let Some(status) = status {
            self.world.instance.status = Some(status);
        }
        if quiet && let Some(again) = again {
            self.world.pass_time(again.min(Duration::from_secs(30)));
        }
        !quiet || news || again.is_some()
    }

    fn carry_out(&mut self, effect: &Effect) {
        match effect {
            Effect::PullImage { uid } if uid == SHELVED => {
                self.cache = cached();
                return;
            }
            Effect::CreateRootDisk { uid, .. } if uid == SHELVED => {
                self.disk = self.image.as_ref().map(|(_, content)| *content);
                assert!(self.disk.is_some(), "made of an Image that is gone");
            }
            Effect::CreateRootDisk { .. } => {
                assert_eq!(self.written, 0, "a disk with data was made anew");
                self.disk = Some(0);
            }
            Effect::Offload => {
                let in_image = self.image.as_ref().map(|(_, content)| *content);
                if self.world.seen.root_disk {
                    assert_eq!(in_image, self.disk, "what was removed is not in the Image");
                }
                self.disk = None;
            }
            Effect::RecordPower(_) if self.world.instance.metadata.deletion_timestamp.is_some() => return,
            _ => {}
        }
        self.world.apply(effect);
        if *effect == Effect::Start {
            assert_eq!(self.disk, Some(self.written), "it was started with an old disk");
            self.written += 1;
            self.disk = Some(self.written);
        }
    }

    /// One pass of the leader, and of its queue.
    fn leader(&mut self) -> bool {
        let image = self.image.as_ref().map(|(image, _)| image);
        let Shelving {
            create,
            delete,
            unbind,
            status,
        } = shelving(&self.world.instance, image, self.world.now);
        let acts = create.is_some() || delete || unbind;
        if let Some(image) = create {
            self.image = Some((*image, 0));
        } else if delete {
            assert_eq!(self.disk, Some(self.written), "the only copy was deleted");
            self.image = None;
        } else if unbind {
            let seen = &self.world.seen;
            assert!(
                seen.domain == Domain::Absent && !seen.root_disk && !seen.seed,
                "unbound although something is there"
            );
            self.world.instance.spec.node_name = None;
            self.cache = Cache::Absent;
        } else if let Some(told) = status {
            let status = self.world.instance.status.as_mut().unwrap();
            status.state = told.state;
            status.conditions = told.conditions;
        } else if is_shelved_away(&self.world.instance) && self.world.instance.spec.power_state != PowerState::Shelved {
            self.world.instance.spec.node_name = Some(NODE.into());
            return true;
        }
        acts
    }

    /// The agent copies the disk, whatever the guest does meanwhile.
    fn copy(&mut self) -> bool {
        let (Some((image, content)), Some(disk)) = (&mut self.image, self.disk) else {
            return false;
        };
        if image.status.is_some() || self.world.instance.spec.node_name.is_none() {
            return false;
        }
        *content = disk;
        image.metadata.uid = Some(SHELVED.into());
        image.status = Some(ImageStatus {
            state: Some(ImageState::Active),
            digest: Some(format!("sha256:{disk}-{}", self.world.now)),
            snapshot: Some(SnapshotStatus {
                instance_uid: self.world.instance.metadata.uid.clone().unwrap(),
                ..SnapshotStatus::default()
            }),
            ..ImageStatus::default()
        });
        self.cache = cached();
        true
    }

    /// Somebody starts the guest by hand, and it ends again, while no agent looks.
    fn by_hand(&mut self) {
        if self.world.seen.domain == Domain::Defined(Power::Off(WentOff::ByGuest)) {
            self.written += 1;
            self.disk = Some(self.written);
        }
    }

    fn rest(&mut self) {
        for _ in 0..200 {
            let agent = self.agent(usize::MAX, true);
            let leader = self.leader();
            let copied = self.copy();
            if !(agent || leader || copied) {
                return;
            }
        }
        panic!("no rest: {:#?}\n{:#?}", self.world.instance.status, self.world.seen);
    }

    fn ready(&self) -> (String, String) {
        let conditions = &self.world.instance.status.as_ref().unwrap().conditions;
        let ready = conditions.iter().find(|c| c.type_ == types::READY).unwrap();
        (format!("{}/{}", ready.status, ready.reason), ready.message.clone())
    }
}

#[test]
fn what_is_shelved_leaves_its_host_when_its_disk_is_in_an_image_and_comes_back_with_it() {
    let mut cloud = Cloud::new(PowerState::Running);
    cloud.rest();
    assert_eq!((cloud.written, cloud.state()), (1, Some(InstanceState::Active)));
    let addresses = cloud.status().addresses;
    cloud.wishes(PowerState::Shelved);
    cloud.rest();
    let shelve = cloud.shelve().unwrap().clone();
    assert!(shelve.offloaded_at.is_some() && shelve.digest.is_some());
    assert_eq!(shelve.image, Some(shelved_image_name(&cloud.world.instance)));
    let status = cloud.status();
    assert_eq!(
        (
            status.state,
            status.host.as_deref(),
            status.power_state,
            &status.addresses
        ),
        (Some(InstanceState::Shelved), None, None, &addresses)
    );
    assert_eq!(cloud.world.instance.spec.node_name, None);
    assert_eq!(cloud.ready().0, "True/AsSpecified");
    let scheduled = status.conditions.iter().find(|c| c.type_ == types::SCHEDULED).unwrap();
    assert_eq!(
        (scheduled.status.as_str(), scheduled.reason.as_str()),
        ("False", "Offloaded")
    );
    let labels = cloud.image.as_ref().unwrap().0.metadata.labels.clone().unwrap();
    assert_eq!(labels["virga.dev/instance"], "web-1");

    cloud.wishes(PowerState::Running);
    cloud.rest();
    assert_eq!((cloud.written, cloud.state()), (2, Some(InstanceState::Active)));
    assert!(
        cloud.shelve().is_none() && cloud.image.is_none(),
        "nothing of it is left"
    );
    assert_eq!(cloud.status().addresses, addresses);
    let rows: Vec<_> = cloud
        .status()
        .actions
        .iter()
        .rev()
        .map(|row| row.action.as_str())
        .collect();
    assert_eq!(rows, ["Create", "Shelve", "Unshelve"]);
}

#[test]
fn a_host_is_freed_when_its_time_has_come_or_never() {
    for (after, freed) in [("0s", true), ("10m", true), ("Never", false)] {
        let mut cloud = Cloud::new(PowerState::Running);
        cloud.offload_after(after);
        cloud.rest();
        cloud.wishes(PowerState::Shelved);
        let began = cloud.world.now;
        for _ in 0..100 {
            cloud.agent(usize::MAX, true);
            cloud.leader();
            cloud.copy();
        }
        let shelve = cloud.shelve().unwrap();
        assert_eq!(cloud.state(), Some(InstanceState::Shelved), "{after}");
        assert_eq!(cloud.ready().0, "True/AsSpecified", "{after}");
        assert_eq!(shelve.offloaded_at.is_some(), freed, "{after}");
        if after == "10m" {
            let at = shelve.offloaded_at.as_ref().unwrap().0;
            assert!(at.duration_since(began).as_secs() >= 600, "{at}");
        }
        if !freed {
            assert_eq!(cloud.disk, Some(1), "its disk stays");
            cloud.wishes(PowerState::Stopped);
            cloud.rest();
            assert!(cloud.shelve().is_none() && cloud.image.is_none());
            assert_eq!(cloud.state(), Some(InstanceState::Stopped));
        }
    }
}

#[test]
fn what_boots_from_a_volume_is_shelved_without_an_image() {
    let mut cloud = Cloud::new(PowerState::Running);
    let spec = &mut cloud.world.instance.spec;
    (spec.image, spec.boot_volume) = (None, Some("data".into()));
    spec.volumes.clear();
    cloud.world.seen.root_disk = false;
    cloud.world.seen.image = None;
    cloud.world.instance.status = None;
    // The disk is the Volume: nothing of it is made here.
    cloud.world.seen.domain = Domain::Defined(Power::Off(WentOff::ByGuest));
    cloud.world.seen.seed = true;
    cloud.wishes(PowerState::Shelved);
    for _ in 0..20 {
        cloud.agent(usize::MAX, true);
        cloud.leader();
    }
    assert!(cloud.image.is_none());
    let shelve = cloud.shelve().unwrap();
    assert!(shelve.image.is_none() && shelve.offloaded_at.is_some());
    assert_eq!(cloud.world.instance.spec.node_name, None);
}

#[test]
fn an_image_of_another_shelving_or_of_somebody_else_is_never_believed() {
    let mut cloud = Cloud::new(PowerState::Running);
    cloud.rest();
    cloud.wishes(PowerState::Shelved);
    cloud.offload_after("Never");
    cloud.rest();
    let old = cloud.image.clone().unwrap();
    cloud.wishes(PowerState::Running);
    cloud.rest();
    cloud.wishes(PowerState::Shelved);
    cloud.offload_after("0s");
    // The leader is away, and the old Image, too, is there again.
    cloud.image = Some(old.clone());
    for _ in 0..30 {
        cloud.agent(usize::MAX, true);
    }
    assert_eq!(cloud.disk, Some(2), "the disk stays");
    assert!(
        cloud.ready().1.contains("of an earlier shelving"),
        "{:?}",
        cloud.ready()
    );
    let mut foreign = old;
    foreign.0.metadata.labels = None;
    cloud.image = Some(foreign);
    cloud.agent(usize::MAX, true);
    let (reason, message) = cloud.ready();
    assert_eq!(reason, "False/Shelving");
    assert!(message.contains("is in the way"), "{message}");
    assert!(
        !cloud.leader() && cloud.image.is_some(),
        "what is somebody else's is not deleted"
    );
    cloud.image = None;
    cloud.rest();
    assert!(cloud.shelve().unwrap().offloaded_at.is_some());
}

#[test]
fn an_image_that_somebody_takes_away_while_the_disk_is_here_is_made_again() {
    let mut cloud = Cloud::new(PowerState::Running);
    cloud.rest();
    cloud.offload_after("Never");
    cloud.wishes(PowerState::Shelved);
    cloud.rest();
    assert_eq!(cloud.ready().0, "True/AsSpecified");
    cloud.image = None;
    cloud.agent(usize::MAX, true);
    assert_eq!(
        (cloud.ready().0.as_str(), cloud.state()),
        ("False/Shelving", Some(InstanceState::Stopped))
    );
    cloud.rest();
    assert!(cloud.image.is_some());
    assert_eq!(
        (cloud.ready().0.as_str(), cloud.state()),
        ("True/AsSpecified", Some(InstanceState::Shelved))
    );
}

#[test]
fn what_a_guest_wrote_that_somebody_started_by_hand_meanwhile_is_in_its_image_when_its_disk_goes() {
    // After how many passes that happens.
    let mut copied_anew = 0;
    for at in 0..12 {
        let mut cloud = Cloud::new(PowerState::Running);
        cloud.rest();
        cloud.wishes(PowerState::Shelved);
        for _ in 0..at {
            cloud.agent(usize::MAX, true);
            cloud.leader();
            cloud.copy();
        }
        let copied = cloud.image.as_ref().is_some_and(|(image, _)| image.status.is_some());
        let before = cloud.written;
        cloud.by_hand();
        copied_anew += usize::from(copied && cloud.written > before);
        cloud.rest();
        assert!(cloud.shelve().unwrap().offloaded_at.is_some());
        assert_eq!(cloud.image.as_ref().unwrap().1, cloud.written, "at {at}");
        cloud.wishes(PowerState::Running);
        cloud.rest();
        assert_eq!(cloud.state(), Some(InstanceState::Active));
    }
    assert!(copied_anew > 0, "the copy is never older than the disk");
}

#[test]
fn a_note_of_an_agent_that_knew_of_no_marks_is_not_believed() {
    let mut cloud = Cloud::new(PowerState::Running);
    cloud.rest();
    cloud.offload_after("Never");
    cloud.wishes(PowerState::Shelved);
    cloud.rest();
    let round = cloud.world.seen.power.shelved.unwrap();
    cloud.world.seen.power.shelved_disk = None;
    cloud.offload_after("0s");
    cloud.rest();
    assert!(cloud.shelve().unwrap().offloaded_at.is_some());
    assert!(cloud.shelve().unwrap().stopped_at.0 > round);
}

#[test]
fn a_host_in_maintenance_is_freed_whatever_the_instance_asks() {
    for after in ["Never", "10m"] {
        let mut cloud = Cloud::new(PowerState::Running);
        cloud.rest();
        cloud.offload_after(after);
        cloud.wishes(PowerState::Shelved);
        for _ in 0..8 {
            cloud.agent(usize::MAX, true);
            cloud.leader();
            cloud.copy();
        }
        assert!(cloud.disk.is_some(), "{after}");
        cloud.world.seen.shelve.maintenance = true;
        cloud.rest();
        assert_eq!(cloud.disk, None, "{after}");
        assert!(cloud.shelve().unwrap().offloaded_at.is_some(), "{after}");
    }
}

#[test]
fn a_reboot_that_waits_does_not_hold_shelving_and_is_done_by_the_start_that_brings_it_back() {
    let mut cloud = Cloud::new(PowerState::Stopped);
    cloud.rest();
    cloud.world.instance.spec.reboot = Some(Reboot {
        at: Time(cloud.world.now),
        type_: RebootType::Hard,
    });
    cloud.rest();
    assert_eq!(cloud.ready().0, "False/StateForbids");
    cloud.wishes(PowerState::Shelved);
    cloud.rest();
    assert!(cloud.shelve().unwrap().offloaded_at.is_some());
    cloud.wishes(PowerState::Running);
    cloud.rest();
    assert_eq!((cloud.ready().0.as_str(), cloud.written), ("True/AsSpecified", 1));
    assert!(cloud.status().reboot.unwrap().finished_at.is_some());
}

#[test]
fn what_holds_shelving_says_that_it_does() {
    let mut cloud = Cloud::new(PowerState::Running);
    cloud.rest();
    cloud.world.instance.spec.rebuild = Some(Rebuild {
        at: Time(cloud.world.now),
    });
    cloud.wishes(PowerState::Shelved);
    for _ in 0..10 {
        cloud.agent(usize::MAX, true);
        cloud.leader();
        cloud.copy();
    }
    let (reason, message) = cloud.ready();
    assert_eq!(reason, "False/StateForbids");
    assert!(message.ends_with("; until then it is not shelved"), "{message}");
}

#[test]
fn what_was_resized_is_shelved_when_that_is_final() {
    let mut cloud = Cloud::new(PowerState::Running);
    cloud.rest();
    let large = BuiltFlavor {
        name: "m1.large".into(),
        ..flavor()
    };
    cloud.world.seen.root.record.resize = Some(ResizeRecord {
        from: flavor(),
        to: large.clone(),
        at: cloud.world.now,
        stage: ResizeStage::Changed,
        finished: Some(cloud.world.now),
        ended: None,
    });
    cloud.world.seen.flavor = Some(large);
    cloud.world.instance.spec.flavor = "m1.large".into();
    cloud.world.instance.spec.resize_policy = ResizePolicy::Confirm;
    cloud.wishes(PowerState::Shelved);
    for _ in 0..50 {
        cloud.agent(usize::MAX, true);
        cloud.leader();
        cloud.copy();
    }
    let (reason, message) = cloud.ready();
    assert_eq!(reason, "False/StateForbids");
    assert!(message.contains("confirm the resize"), "{message}");
    assert!(cloud.image.is_none() && cloud.disk == Some(1));
    cloud.world.instance.spec.confirm_resize = Some("m1.large".into());
    cloud.rest();
    assert!(cloud.shelve().unwrap().offloaded_at.is_some());
    assert_eq!(cloud.status().flavor.unwrap().name, "m1.large");
}

#[test]
fn what_holds_it_on_its_host_is_said_and_it_stays() {
    let mut cloud = Cloud::new(PowerState::Running);
    cloud.rest();
    cloud.world.seen.shelve.holds = Some("spec.shelve: it has a TPM".into());
    cloud.wishes(PowerState::Shelved);
    for _ in 0..50 {
        cloud.agent(usize::MAX, true);
        cloud.leader();
        cloud.copy();
    }
    assert_eq!(
        cloud.ready(),
        ("False/StateForbids".into(), "spec.shelve: it has a TPM".into())
    );
    assert_eq!((cloud.disk, cloud.state()), (Some(1), Some(InstanceState::Shelved)));
}

#[test]
fn an_image_whose_host_is_away_or_that_is_gone_is_told_of() {
    let mut cloud = Cloud::new(PowerState::Running);
    cloud.rest();
    cloud.wishes(PowerState::Shelved);
    cloud.rest();
    let mut away = crate::condition::Conditions::new(&[], None, cloud.world.now);
    away.set_ready(
        crate::condition::Progress::Working,
        Reason::OnlyCopyAway,
        "last seen on node-1",
    );
    let status = cloud.image.as_mut().unwrap().0.status.as_mut().unwrap();
    status.conditions = away.into_vec();
    cloud.leader();
    let (reason, message) = cloud.ready();
    assert_eq!(reason, "False/OnlyCopyAway");
    assert!(message.contains("last seen on node-1"), "{message}");
    cloud.image = None;
    cloud.leader();
    assert_eq!(cloud.ready().0, "False/ImageNotFound");
    cloud.wishes(PowerState::Running);
    for _ in 0..5 {
        cloud.leader();
        cloud.agent(usize::MAX, true);
    }
    let (reason, message) = cloud.ready();
    assert_eq!(reason, "False/ImageNotFound");
    assert!(message.contains("is gone: ask for a rebuild"), "{message}");
}

#[test]
fn a_host_without_room_refuses_what_comes_back_and_makes_nothing() {
    let mut cloud = Cloud::new(PowerState::Running);
    cloud.rest();
    cloud.wishes(PowerState::Shelved);
    cloud.rest();
    cloud.wishes(PowerState::Running);
    cloud.world.seen.room = Room::Short("1Gi of memory is free".into());
    cloud.leader();
    assert_eq!(cloud.world.instance.spec.node_name.as_deref(), Some(NODE));
    cloud.agent(usize::MAX, true);
    let status = cloud.status();
    assert_eq!(
        (status.rejected_by.as_slice(), status.host),
        (&[NODE.to_owned()][..], None)
    );
    assert!(cloud.shelve().unwrap().offloaded_at.is_some(), "it is nowhere still");
    assert!(cloud.disk.is_none());
}

proptest! {
    /// Whatever is wished for, whenever agents are killed and statuses are lost: what the guest wrote last is there, once.
    #[test]
    fn nothing_that_a_guest_wrote_is_lost(steps in proptest::collection::vec((0_u8..9, 0_usize..5, any::<bool>()), 1..60)) {
        let mut cloud = Cloud::new(PowerState::Running);
        for (step, budget, told) in steps {
            match step {
                0 => cloud.wishes(PowerState::Running),
                1 => cloud.wishes(PowerState::Stopped),
                2 | 3 => cloud.wishes(PowerState::Shelved),
                4 => { cloud.leader(); }
                5 => { cloud.copy(); }
                6 => cloud.by_hand(),
                _ => { cloud.agent(budget, told); }
            }
        }
        cloud.wishes(PowerState::Shelved);
        cloud.rest();
        prop_assert_eq!(cloud.state(), Some(InstanceState::Shelved));
        prop_assert!(cloud.disk.is_none() && cloud.world.instance.spec.node_name.is_none());
        prop_assert_eq!(cloud.image.as_ref().map(|(_, content)| *content), Some(cloud.written));
        cloud.wishes(PowerState::Running);
        cloud.rest();
        prop_assert_eq!(cloud.state(), Some(InstanceState::Active));
        prop_assert_eq!(cloud.disk, Some(cloud.written));
        prop_assert!(cloud.image.is_none() && cloud.shelve().is_none());
    }
}
