use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use virga_crds::{HypervisorSpec, HypervisorStatus, InstanceSpec, InstanceStatus, MigrationStatus, VolumeAttachment};

use super::*;

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

fn host(scheduling: Scheduling) -> Hypervisor {
    let spec = HypervisorSpec {
        scheduling,
        ..HypervisorSpec::default()
    };
    Hypervisor::new("node-1", spec)
}

fn instance(name: &str) -> Instance {
    let mut instance = Instance::new(name, InstanceSpec::default());
    instance.metadata.namespace = Some("shop".into());
    instance.metadata.uid = Some(format!("uid-of-{name}"));
    instance
}

fn with_volume(name: &str) -> Instance {
    let mut instance = instance(name);
    instance.spec.volumes = vec![VolumeAttachment { name: "data".into() }];
    instance
}

/// Ours, of that number, in that phase since then.
fn ours(instance: &Instance, number: u32, phase: Option<MigrationPhase>, age: SignedDuration) -> Migration {
    let guest = Guest {
        instance,
        migrations: Vec::new(),
        tpm: false,
    };
    let mut migration = departure(&guest);
    migration.metadata.name = Some(format!("drain-{}-{number}", instance.metadata.uid.as_ref().unwrap()));
    migration.status = Some(MigrationStatus {
        phase,
        finished: Some(Time(NOW - age)),
        ..MigrationStatus::default()
    });
    migration
}

fn guest<'a>(instance: &'a Instance, migrations: &[&'a Migration]) -> Guest<'a> {
    Guest {
        instance,
        migrations: migrations.to_vec(),
        tpm: false,
    }
}

fn names(migrations: &[Migration]) -> Vec<String> {
    migrations
        .iter()
        .map(|migration| name(&migration.metadata).to_owned())
        .collect()
}

fn told(drain: &Drain) -> (&str, &str, &str) {
    let condition = drain.condition.as_ref().expect("a condition");
    (&condition.status, &condition.reason, &condition.message)
}

#[test]
fn an_empty_host_is_drained() {
    let drained = drain(&host(Scheduling::Maintenance), &[], false, NOW);
    assert_eq!(told(&drained), ("True", "Drained", "no Instance is left here"));
    assert_eq!(drained.begin, []);
}

#[test]
fn two_leave_at_once_and_the_next_when_one_has_left() {
    let all = ["a", "b", "c"].map(instance);
    let guests: Vec<_> = all.iter().map(|instance| guest(instance, &[])).collect();
    let first = drain(&host(Scheduling::Maintenance), &guests, false, NOW);
    assert_eq!(names(&first.begin), ["drain-uid-of-a-1", "drain-uid-of-b-1"]);
    assert_eq!(told(&first).1, "Draining");
    assert_eq!(first.begin[0].spec.instance, "a");
    assert_eq!(first.begin[0].metadata.namespace.as_deref(), Some("shop"));

    // Nothing is made twice, whether they were seen yet or have begun.
    let fresh = first.begin.iter().zip(&all);
    let guests: Vec<_> = fresh
        .map(|(migration, instance)| guest(instance, &[migration]))
        .collect();
    let guests = [guests, vec![guest(&all[2], &[])]].concat();
    assert_eq!(drain(&host(Scheduling::Maintenance), &guests, false, NOW).begin, []);
    let moving = ours(&all[0], 1, Some(MigrationPhase::Transferring), SignedDuration::ZERO);
    let guests = [guest(&all[0], &[&moving]), guest(&all[2], &[])];
    let next = drain(&host(Scheduling::Maintenance), &guests, false, NOW);
    assert_eq!(names(&next.begin), ["drain-uid-of-c-1"]);
}

#[test]
fn what_can_t_move_is_told_and_holds_nobody_else() {
    let (held, free) = (with_volume("db"), instance("web"));
    let waiting = instance("big");
    let migration = ours(&waiting, 1, Some(MigrationPhase::Pending), SignedDuration::ZERO);
    let guests = [guest(&held, &[]), guest(&waiting, &[&migration]), guest(&free, &[])];
    let next = drain(&host(Scheduling::Maintenance), &guests, false, NOW);
    assert_eq!(names(&next.begin), ["drain-uid-of-web-1"]);
    let (status, reason, message) = told(&next);
    assert_eq!((status, reason), ("False", "Draining"));
    assert!(
        message.starts_with("3 Instances are left: 1 on the way or next, 2 not; in shop: db has volumes (data)"),
        "{message}"
    );
    assert!(message.contains("Migration drain-uid-of-big-1 waits"), "{message}");

    let stuck = drain(&host(Scheduling::Maintenance), &guests[..2], false, NOW);
    assert_eq!(told(&stuck).1, "DrainBlocked");
}

#[test]
fn what_is_shelved_leaves_by_that_and_is_not_moved() {
    let mut shelved = with_volume("db");
    shelved.spec.power_state = PowerState::Shelved;
    let next = drain(&host(Scheduling::Maintenance), &[guest(&shelved, &[])], false, NOW);
    assert_eq!(next.begin, []);
    let (status, reason, message) = told(&next);
    assert_eq!((status, reason), ("False", "Draining"));
    assert_eq!(message, "1 Instance is left: 1 on the way or next, 0 not");

    let mut conditions = Conditions::new(&[], None, NOW);
    conditions.set_ready(crate::condition::Progress::Stuck, Reason::StateForbids, "it has a TPM");
    shelved.status = Some(InstanceStatus {
        conditions: conditions.into_vec(),
        ..InstanceStatus::default()
    });
    let held = drain(&host(Scheduling::Maintenance), &[guest(&shelved, &[])], false, NOW);
    let (_, reason, message) = told(&held);
    assert_eq!(reason, "DrainBlocked");
    assert!(
        message.ends_with("db is to be shelved, and can't leave: it has a TPM"),
        "{message}"
    );
}

#[test]
fn one_that_failed_is_tried_again_after_a_while_under_another_name() {
    let web = instance("web");
    let failed = |age| ours(&web, 7, Some(MigrationPhase::Failed), age);
    let recent = failed(SignedDuration::from_mins(9));
    let waits = drain(&host(Scheduling::Maintenance), &[guest(&web, &[&recent])], false, NOW);
    assert_eq!(waits.begin, []);
    assert!(
        told(&waits)
            .2
            .contains("drain-uid-of-web-7 failed, another follows within 10 min")
    );
    let old = failed(SignedDuration::from_mins(10));
    let again = drain(&host(Scheduling::Maintenance), &[guest(&web, &[&old])], false, NOW);
    assert_eq!(names(&again.begin), ["drain-uid-of-web-8"]);
}

#[test]
fn a_migration_that_somebody_else_made_serves_as_well() {
    let web = instance("web");
    let mut theirs = ours(&web, 1, Some(MigrationPhase::Preparing), SignedDuration::ZERO);
    theirs.metadata.name = Some("web-away".into());
    theirs.metadata.labels = None;
    let next = drain(&host(Scheduling::Maintenance), &[guest(&web, &[&theirs])], false, NOW);
    assert_eq!(next.begin, []);
    assert_eq!(told(&next).1, "Draining");
    let over = drain(&host(Scheduling::Enabled), &[guest(&web, &[&theirs])], false, NOW);
    assert_eq!(over, Drain::default(), "it is not ours to delete");
}

#[test]
fn nothing_leaves_a_host_that_is_lost() {
    let web = instance("web");
    let lost = drain(&host(Scheduling::Maintenance), &[guest(&web, &[])], true, NOW);
    assert_eq!(lost.begin, []);
    let (_, reason, message) = told(&lost);
    assert_eq!(reason, "DrainBlocked");
    assert!(
        message.contains("none can leave while its agent is not heard of"),
        "{message}"
    );
}

#[test]
fn the_end_of_maintenance_stops_what_has_not_begun_and_nothing_else() {
    let (waiting, moving) = (instance("a"), instance("b"));
    let idle = ours(&waiting, 1, Some(MigrationPhase::Pending), SignedDuration::ZERO);
    let done = ours(&waiting, 0, Some(MigrationPhase::Failed), SignedDuration::ZERO);
    let busy = ours(&moving, 1, Some(MigrationPhase::Preparing), SignedDuration::ZERO);
    let guests = [guest(&waiting, &[&done, &idle]), guest(&moving, &[&busy])];
    let end = drain(&host(Scheduling::Cordoned), &guests, false, NOW);
    assert_eq!(names(&end.cancel), ["drain-uid-of-a-1"]);
    assert_eq!((end.begin.len(), end.condition), (0, None));
}

#[test]
fn a_host_concerns_us_in_maintenance_and_until_its_condition_is_gone() {
    let mut node = host(Scheduling::Maintenance);
    assert!(concerns(&node));
    let said = drain(&node, &[], false, NOW).condition;
    node.spec.scheduling = Scheduling::Enabled;
    assert!(!concerns(&node));
    node.status = Some(HypervisorStatus {
        conditions: said.into_iter().collect(),
        ..HypervisorStatus::default()
    });
    assert!(concerns(&node));
}

#[test]
fn the_condition_is_short_however_many_are_held() {
    let held: Vec<Instance> = (0..500).map(|number| with_volume(&format!("db-{number}"))).collect();
    let guests: Vec<_> = held.iter().map(|instance| guest(instance, &[])).collect();
    let next = drain(&host(Scheduling::Maintenance), &guests, false, NOW);
    let message = told(&next).2;
    assert!(message.len() < 1024 && message.ends_with("; and 497 more"), "{message}");
}
