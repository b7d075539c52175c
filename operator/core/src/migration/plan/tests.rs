use virga_crds::{Incoming, InstanceSpec, InstanceStatus, MigrationSpec, MigrationType, Outgoing, VolumeAttachment};

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn instance() -> Instance {
    let spec = InstanceSpec {
        flavor: "m1.small".into(),
        node_name: Some("a".into()),
        ..InstanceSpec::default()
    };
    let mut instance = Instance::new("web", spec);
    instance.metadata.uid = Some("i-1".into());
    instance.status = Some(InstanceStatus {
        state: Some(InstanceState::Active),
        ..InstanceStatus::default()
    });
    instance
}

fn migration(target: Option<&str>) -> Migration {
    let spec = MigrationSpec {
        instance: "web".into(),
        kind: MigrationType::Cold,
        target: target.map(str::to_owned),
    };
    Migration::new("move", spec)
}

/// A Migration and its Instance, on which what is planned takes place.
struct World {
    migration: Migration,
    instance: Option<Instance>,
    lost: bool,
    tpm: bool,
}

impl World {
    fn new() -> Self {
        Self {
            migration: migration(None),
            instance: Some(instance()),
            lost: false,
            tpm: false,
        }
    }

    fn next(&self) -> Next {
        let facts = Facts {
            instance: self.instance.as_ref(),
            other: None,
            source_address: Some("172.31.0.1:9192"),
            target_lost: self.lost,
            tpm: self.tpm,
        };
        plan(&self.migration, facts, at(0))
    }

    /// One pass of the controller.
    fn pass(&mut self) -> MigrationPhase {
        let Next { act, mut status } = self.next();
        match act {
            Act::Place => {
                let instance = self.instance.as_ref().unwrap();
                status = placed(&self.migration, instance, "172.31.0.1:9192", "b", at(0));
            }
            Act::Bind => self.instance.as_mut().unwrap().spec.node_name = Some("b".into()),
            Act::Nothing | Act::Delete => {}
        }
        let old = self.migration.status.take().unwrap_or_default();
        self.migration.status = Some(MigrationStatus {
            outgoing: old.outgoing,
            incoming: old.incoming,
            ..status
        });
        phase(&self.migration)
    }

    /// Passes until nothing changes.
    fn settle(&mut self) -> MigrationPhase {
        for _ in 0..8 {
            let before = (self.migration.clone(), self.instance.clone());
            self.pass();
            if before == (self.migration.clone(), self.instance.clone()) {
                return phase(&self.migration);
            }
        }
        panic!("it never rests: {:?}", self.migration.status);
    }

    fn source(&mut self, state: OutgoingState) {
        self.migration.status.as_mut().unwrap().outgoing = Some(Outgoing {
            state,
            files: Vec::new(),
            base: None,
            message: Some("there is a fifo".into()),
        });
    }

    fn target(&mut self, state: IncomingState) {
        self.migration.status.as_mut().unwrap().incoming = Some(Incoming {
            state,
            progress: None,
            transferred: None,
            message: Some("no room".into()),
        });
    }

    fn node(&self) -> &str {
        self.instance.as_ref().unwrap().spec.node_name.as_deref().unwrap()
    }

    fn message(&self) -> String {
        let status = self.migration.status.as_ref().unwrap();
        let ready = status.conditions.iter().find(|c| c.type_ == types::READY).unwrap();
        format!("{}: {}", ready.reason, ready.message)
    }
}

#[test]
fn a_migration_goes_from_host_to_host_and_the_binding_switches_only_after_the_source_let_go() {
    let mut world = World::new();
    assert_eq!(world.settle(), MigrationPhase::Preparing);
    world.source(OutgoingState::Offered);
    assert_eq!(world.settle(), MigrationPhase::Transferring);
    world.target(IncomingState::Receiving);
    assert_eq!((world.settle(), world.node()), (MigrationPhase::Transferring, "a"));
    world.target(IncomingState::Owned);
    assert_eq!((world.settle(), world.node()), (MigrationPhase::Switching, "b"));
    world.target(IncomingState::Landed);
    assert_eq!(world.settle(), MigrationPhase::Completed);
    assert_eq!(world.message(), "Migrated: the Instance is on b");
    assert_eq!(plan(&world.migration, Facts::default(), at(86_400)).act, Act::Delete);
}

#[test]
fn what_the_target_rejects_stays_where_it_is_once_the_source_has_taken_its_offer_back() {
    let mut world = World::new();
    world.settle();
    world.source(OutgoingState::Offered);
    world.target(IncomingState::Rejected);
    assert_eq!(world.settle(), MigrationPhase::Aborting);
    world.source(OutgoingState::Revoked);
    assert_eq!((world.settle(), world.node()), (MigrationPhase::Failed, "a"));
    assert_eq!(world.message(), "MigrationFailed: b: no room");
}

#[test]
fn it_is_too_late_to_abort_once_the_source_has_let_go() {
    for lost in [true, false] {
        let mut world = World::new();
        world.settle();
        world.source(OutgoingState::Offered);
        world.settle();
        world.lost = lost;
        if !lost {
            world.migration.metadata.deletion_timestamp = Some(Time(at(0)));
        }
        assert_eq!(world.settle(), MigrationPhase::Aborting);
        world.source(OutgoingState::LetGo);
        assert_eq!((world.settle(), world.node()), (MigrationPhase::Switching, "b"));
    }
}

#[test]
fn every_state_of_both_agents_leaves_the_binding_where_the_disk_is() {
    use IncomingState::{Landed, Owned, Receiving, Rejected};
    use OutgoingState::{LetGo, Offered, Refused, Removed, Revoked};
    for lost in [false, true] {
        for source in [Offered, Refused, Revoked, LetGo, Removed] {
            for target in [None, Some(Receiving), Some(Rejected), Some(Owned), Some(Landed)] {
                let owned = matches!(target, Some(Owned | Landed));
                if owned && !matches!(source, LetGo | Removed | Offered) {
                    // The source has not let go, so the target can't own it.
                    continue;
                }
                let mut world = World::new();
                world.settle();
                world.lost = lost;
                world.source(source);
                if let Some(target) = target {
                    world.target(target);
                }
                let phase = world.settle();
                let moved = owned || matches!(source, LetGo | Removed);
                let case = format!("{lost} {source:?} {target:?} {phase:?}");
                assert_eq!(world.node(), if moved { "b" } else { "a" }, "{case}");
                assert_eq!(phase == MigrationPhase::Failed, !moved && phase.is_over(), "{case}");
            }
        }
    }
}

#[test]
fn what_can_not_be_moved_yet_waits_and_says_why() {
    type Change = fn(&mut Instance);
    let table: [(Change, &str); 5] = [
        (|i| i.spec.node_name = None, "StateForbids: web is on no host yet"),
        (
            |i| i.spec.volumes = vec![VolumeAttachment { name: "data".into() }],
            "StateForbids: web has volumes (data), which are on its host and do not move with it: take them out of its spec first",
        ),
        (
            |i| i.spec.power_state = PowerState::Paused,
            "StateForbids: web is Active and its powerState Paused: it is moved when it is Active or Stopped",
        ),
        (
            |i| i.status.as_mut().unwrap().state = Some(InstanceState::Suspended),
            "StateForbids: web is Suspended and its powerState Running: it is moved when it is Active or Stopped",
        ),
        (
            |i| i.status = None,
            "StateForbids: web is not built yet and its powerState Running: it is moved when it is Active or Stopped",
        ),
    ];
    for (change, message) in table {
        let mut world = World::new();
        change(world.instance.as_mut().unwrap());
        assert_eq!(
            (world.settle(), world.message()),
            (MigrationPhase::Pending, message.into())
        );
    }
    let mut world = World::new();
    world.instance = None;
    assert_eq!(world.settle(), MigrationPhase::Pending);
    assert!(world.message().starts_with("InstanceNotFound"), "{}", world.message());
}

#[test]
fn to_the_host_that_it_is_on_and_beside_another_it_does_not_begin() {
    let mut world = World::new();
    world.migration = migration(Some("a"));
    assert_eq!(world.settle(), MigrationPhase::Failed);
    assert!(world.message().contains("web is on a already"), "{}", world.message());
    let facts = Facts {
        other: Some("first"),
        ..Facts::default()
    };
    let second = plan(&migration(None), facts, at(0)).status;
    assert_eq!(second.phase, Some(MigrationPhase::Failed));
    assert_eq!(second.conditions[0].reason, "MigrationUnderWay");
}

#[test]
fn what_is_on_its_host_only_is_named_and_nothing_is_begun() {
    let mut world = World::new();
    world.tpm = true;
    let told = |world: &mut World| {
        assert_eq!(world.settle(), MigrationPhase::Pending);
        let conditions = world.migration.status.clone().unwrap().conditions;
        let ready = conditions
            .into_iter()
            .find(|condition| condition.type_ == types::READY)
            .unwrap();
        assert_eq!(ready.reason, "StateForbids");
        ready.message
    };
    assert!(told(&mut world).starts_with("web has a TPM, whose secrets are on its host only"));
    let volume = |name: &str| VolumeAttachment { name: name.into() };
    let spec = |world: &mut World, change: fn(&mut InstanceSpec)| change(&mut world.instance.as_mut().unwrap().spec);
    world.instance.as_mut().unwrap().spec.volumes = vec![volume("data"), volume("logs")];
    assert!(told(&mut world).starts_with("web has volumes (data, logs), which are on its host"));
    spec(&mut world, |spec| spec.boot_volume = Some("root".into()));
    assert!(told(&mut world).starts_with("web boots from the Volume root"));
    spec(&mut world, |spec| {
        spec.boot_volume = None;
        spec.volumes.clear();
    });
    world.tpm = false;
    assert_eq!(
        world.settle(),
        MigrationPhase::Preparing,
        "it begins when nothing is in the way"
    );
}
