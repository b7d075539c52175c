//! Guests that move between two hosts: two agents with real files and the real transfer between them, and the rules of
//! the controller in between.

use std::{
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use serde_json::json;
use virga_agent::host::Moment;
use virga_core::migration::{self, Act, Facts, Next};
use virga_crds::{
    Instance, Migration, MigrationPhase, MigrationSpec, MigrationType, Port, conditions::types, finalizers,
};
use virga_hypervisor::{DomainState, Hypervisor as _};
use virga_scheduler::Ratios;

use crate::{
    crashes::{Trap, trap},
    leader::answer_of,
    peers::served,
    resizes::larger,
    signer::Signer,
    world::{NODE, SHOP, World},
};

const OTHER: &str = "node-2";

/// Two hosts with a running guest on the first.
struct Pair {
    source: World,
    target: World,
    signer: Signer,
    instance: Instance,
    /// Where the source is said to be reached.
    address: String,
}

impl Pair {
    fn new() -> Self {
        let mut source = World::new();
        let signer = Signer::start(&source);
        let target = source.beside(OTHER);
        signer.start_agent(&mut source);
        let address = served(&source);
        let instance = source.guest("web-1", "10.0.0.5");
        source.await_ready("web-1");
        Self {
            source,
            target,
            signer,
            instance,
            address,
        }
    }

    /// With an agent on the second host, too.
    fn started() -> Self {
        let mut pair = Self::new();
        pair.signer.start_agent(&mut pair.target);
        pair
    }

    fn migrate(&self) {
        let spec = MigrationSpec {
            instance: "web-1".into(),
            kind: MigrationType::Cold,
            target: None,
        };
        let mut migration = Migration::new("move", spec);
        migration.metadata.namespace = Some(SHOP.into());
        migration.metadata.finalizers = Some(vec![finalizers::CONTROLLER.into()]);
        self.source.api.create(&migration);
    }

    fn migration(&self) -> Migration {
        self.source.read("move").unwrap()
    }

    fn phase(&self) -> MigrationPhase {
        self.migration()
            .status
            .and_then(|status| status.phase)
            .unwrap_or_default()
    }

    /// One pass of the controller, as its rules say.
    fn pass(&self) {
        let (api, migration) = (&self.source.api, self.migration());
        let instance: Option<Instance> = self.source.read("web-1");
        let facts = Facts {
            instance: instance.as_ref(),
            other: None,
            source_address: Some(&self.address),
            target_lost: false,
            tpm: false,
        };
        let now = api.clock().now();
        let Next { act, mut status } = migration::plan(&migration, facts, now);
        match (act, &instance) {
            (Act::Place, Some(instance)) => {
                status = migration::placed(&migration, instance, &self.address, OTHER, now);
            }
            (Act::Bind, Some(_)) => {
                let bound = json!({"spec": {"nodeName": OTHER}});
                api.merge::<Instance>(Some(SHOP), "web-1", bound.clone());
                api.merge::<Port>(Some(SHOP), "web-1-front", bound);
            }
            _ => {}
        }
        let mut status = serde_json::to_value(status).unwrap();
        let told = serde_json::to_value(migration.status.unwrap_or_default()).unwrap();
        // Times of transition are the writer's business.
        let strip = |mut value: serde_json::Value| {
            value
                .as_object_mut()
                .unwrap()
                .retain(|key, _| !["outgoing", "incoming"].contains(&key.as_str()));
            value
        };
        status = strip(status);
        if status != strip(told) {
            api.merge_status::<Migration>(Some(SHOP), "move", status);
        }
        self.assert_one_owner();
    }

    fn runs(world: &World, instance: &Instance) -> bool {
        world
            .domain(instance)
            .is_some_and(|domain| domain.state == DomainState::Running)
    }

    fn assert_one_owner(&self) {
        let (here, there) = (
            Self::runs(&self.source, &self.instance),
            Self::runs(&self.target, &self.instance),
        );
        assert!(!(here && there), "it runs on both hosts");
    }

    /// Passes until the Migration is over.
    fn await_phase(&self, phase: MigrationPhase) {
        self.source.eventually(
            &format!("the migration is {phase:?}: {:#?}", self.migration().status),
            || {
                self.pass();
                self.phase() == phase
            },
        );
    }

    fn disk(world: &World, instance: &Instance) -> PathBuf {
        world.files(instance).join("root.qcow2")
    }

    fn message(&self) -> String {
        let conditions = self.migration().status.unwrap().conditions;
        let ready = conditions.into_iter().find(|c| c.type_ == types::READY).unwrap();
        ready.message
    }

    /// The guest runs on the second host, and nothing of it is on the first.
    fn assert_moved(&self, disk: &[u8]) {
        self.target.await_ready("web-1");
        assert!(Self::runs(&self.target, &self.instance));
        assert_eq!(std::fs::read(Self::disk(&self.target, &self.instance)).unwrap(), disk);
        let base = std::fs::read_link(self.target.files(&self.instance).join("base")).unwrap();
        assert!(
            base.starts_with(self.target.path()) && base.exists(),
            "{}",
            base.display()
        );
        self.source.eventually("nothing is left at the source", || {
            self.source.host.domains().unwrap().is_empty()
                && entries(&self.source.path().join("instances")).is_empty()
                && entries(&self.source.path().join("offers")).is_empty()
        });
        self.target.eventually("nothing waits at the target", || {
            entries(&self.target.path().join("incoming")).is_empty()
        });
        let instance: Instance = self.source.read("web-1").unwrap();
        let status = instance.status.unwrap();
        assert_eq!(status.host.as_deref(), Some(OTHER));
        assert_eq!(status.addresses[0].ip, "10.0.0.5");
    }

    /// The guest runs on the first host, and nothing of it is on the second.
    fn assert_stayed(&self) {
        self.source
            .eventually("it runs where it was", || Self::runs(&self.source, &self.instance));
        self.source.await_ready("web-1");
        self.source.eventually("no offer is left", || {
            entries(&self.source.path().join("offers")).is_empty()
        });
        self.target.eventually("nothing is left at the target", || {
            entries(&self.target.path().join("incoming")).is_empty()
                && self.target.host.domains().unwrap().is_empty()
                && entries(&self.target.path().join("instances")).is_empty()
        });
    }
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_guest_that_waits_to_be_resized_arrives_with_its_size_and_is_resized_there() {
    let pair = Pair::started();
    larger(&pair.source, "m1.large", virga_crds::Bytes::mib(96));
    pair.source.edit("web-1", &json!({"flavor": "m1.large"}));
    pair.source.await_reason("web-1", types::READY, "WaitingForLeader");
    pair.migrate();
    pair.await_phase(MigrationPhase::Completed);
    let cpus = || {
        let spec = pair.target.host.spec(crate::world::uid(&pair.instance));
        spec.map(|spec| spec.topology.vcpus())
    };
    pair.target
        .eventually("it runs there", || Pair::runs(&pair.target, &pair.instance));
    assert_eq!(cpus(), Some(1));
    // What was said of its old host is none of this one's.
    answer_of(&pair.target, NODE, None);
    pair.target.await_reason("web-1", types::READY, "WaitingForLeader");
    answer_of(&pair.target, OTHER, None);
    pair.target.await_ready("web-1");
    assert_eq!(cpus(), Some(2));
}

#[test]
fn a_guest_moves_with_its_disk_and_its_address_and_leaves_nothing_behind() {
    let pair = Pair::started();
    let disk = std::fs::read(Pair::disk(&pair.source, &pair.instance)).unwrap();
    pair.migrate();
    pair.await_phase(MigrationPhase::Completed);
    pair.assert_moved(&disk);
    let status = pair.migration().status.unwrap();
    assert_eq!(status.incoming.unwrap().progress, Some(100));
    assert_eq!(
        (status.source.as_deref(), status.target.as_deref()),
        (Some(NODE), Some(OTHER))
    );
}

#[test]
fn a_stopped_guest_moves_and_stays_stopped() {
    let pair = Pair::started();
    pair.source.edit("web-1", &json!({"powerState": "Stopped"}));
    pair.source.await_ready("web-1");
    pair.migrate();
    pair.await_phase(MigrationPhase::Completed);
    pair.target.await_ready("web-1");
    assert_eq!(pair.target.domain(&pair.instance).unwrap().state, DomainState::ShutOff);
}

#[test]
fn whichever_agent_is_killed_at_whichever_step_the_guest_ends_up_on_the_target_alone() {
    for (at_source, effect) in [
        (true, "OfferGuest"),
        (true, "RemoveGuest"),
        (false, "ReceiveGuest"),
        (false, "TakeOver"),
        (false, "Define"),
    ] {
        for moment in [Moment::Before, Moment::After] {
            let mut pair = Pair::new();
            let Trap { reached, checkpoint } = trap(moment, effect);
            let disk = std::fs::read(Pair::disk(&pair.source, &pair.instance)).unwrap();
            if at_source {
                pair.source.kill();
                let (signer, source) = (&pair.signer, &mut pair.source);
                signer.start_agent_with(source, |options| options.checkpoint = Some(checkpoint));
                pair.address = served_anew(&pair.source, &pair.address);
                pair.signer.start_agent(&mut pair.target);
            } else {
                pair.signer
                    .start_agent_with(&mut pair.target, |options| options.checkpoint = Some(checkpoint));
            }
            pair.migrate();
            let point = format!("{moment:?} {effect}");
            pair.source.eventually(&point, || {
                pair.pass();
                reached.load(Ordering::SeqCst)
            });
            let (signer, killed) = if at_source {
                (&pair.signer, &mut pair.source)
            } else {
                (&pair.signer, &mut pair.target)
            };
            killed.kill();
            killed.api.clock().jump(jiff::SignedDuration::from_secs(10));
            signer.start_agent(killed);
            if at_source {
                pair.address = served_anew(&pair.source, &pair.address);
                // The port is another one in a test only.
                let address = json!({"sourceAddress": pair.address});
                pair.source.api.merge_status::<Migration>(Some(SHOP), "move", address);
            }
            pair.await_phase(MigrationPhase::Completed);
            pair.assert_moved(&disk);
        }
    }
}

/// Where an agent that was started anew serves.
fn served_anew(world: &World, before: &str) -> String {
    world.eventually("it serves anew", || served(world) != before);
    served(world)
}

#[test]
fn a_guest_that_the_target_has_no_room_for_runs_on_where_it_was() {
    let mut pair = Pair::new();
    pair.signer.start_agent_with(&mut pair.target, |options| {
        options.ratios = Ratios {
            memory: "0.0001".parse().unwrap(),
            ..Ratios::default()
        };
    });
    pair.migrate();
    pair.await_phase(MigrationPhase::Failed);
    assert!(pair.message().starts_with("node-2: "), "{}", pair.message());
    pair.assert_stayed();
}

#[test]
fn a_source_that_can_not_be_reached_keeps_its_guest() {
    let mut pair = Pair::started();
    // A port that nobody listens at.
    pair.address = "127.0.0.1:1".into();
    pair.migrate();
    pair.await_phase(MigrationPhase::Failed);
    assert!(pair.message().contains("could not be reached"), "{}", pair.message());
    pair.assert_stayed();
}

#[test]
fn a_migration_that_is_deleted_while_its_target_is_away_gives_the_guest_back() {
    let mut pair = Pair::new();
    pair.migrate();
    pair.await_phase(MigrationPhase::Transferring);
    let told = pair.source.await_reason("web-1", types::READY, "Migrating");
    assert_eq!(told.message, "migrating to node-2");
    assert!(!Pair::runs(&pair.source, &pair.instance));
    pair.source.api.delete::<Migration>(Some(SHOP), "move");
    pair.await_phase(MigrationPhase::Failed);
    let (signer, target) = (&pair.signer, &mut pair.target);
    signer.start_agent(target);
    pair.assert_stayed();
}

#[test]
fn an_instance_that_is_deleted_on_its_way_is_deleted_at_the_source() {
    let pair = Pair::new();
    pair.migrate();
    pair.await_phase(MigrationPhase::Transferring);
    pair.source.delete("web-1");
    pair.await_phase(MigrationPhase::Failed);
    pair.source.await_gone::<Instance>("web-1");
    assert!(pair.source.host.domains().unwrap().is_empty());
    assert!(entries(&pair.source.path().join("instances")).is_empty());
}

#[test]
fn a_target_that_died_before_it_heard_that_the_source_let_go_asks_again() {
    let mut pair = Pair::new();
    let disk = std::fs::read(Pair::disk(&pair.source, &pair.instance)).unwrap();
    let Trap { reached, checkpoint } = trap(Moment::Before, "TakeOver");
    pair.signer
        .start_agent_with(&mut pair.target, |options| options.checkpoint = Some(checkpoint));
    pair.migrate();
    pair.source.eventually("it is verified", || {
        pair.pass();
        reached.load(Ordering::SeqCst)
    });
    pair.target.kill();
    pair.source.kill();
    // What the source writes before it answers.
    let offers = entries(&pair.source.path().join("offers"));
    let root = offers.iter().min_by_key(|path| path.as_os_str().len()).unwrap();
    let mut record: serde_json::Value = serde_json::from_slice(&std::fs::read(root).unwrap()).unwrap();
    record["source"] = json!({"state": "LetGo", "digest": virga_images::Digest::of(&disk)});
    std::fs::write(root, record.to_string()).unwrap();

    pair.signer.start_agent(&mut pair.source);
    pair.address = served_anew(&pair.source, &pair.address);
    let address = json!({"sourceAddress": pair.address});
    pair.source.api.merge_status::<Migration>(Some(SHOP), "move", address);
    // The binding switches while the target is away.
    pair.await_phase(MigrationPhase::Switching);
    assert!(!Pair::runs(&pair.source, &pair.instance));
    pair.signer.start_agent(&mut pair.target);
    pair.await_phase(MigrationPhase::Completed);
    pair.assert_moved(&disk);
}
