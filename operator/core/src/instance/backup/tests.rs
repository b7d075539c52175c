use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;
use virga_crds::{BuiltFlavor, ImageStatus, InstanceSpec, InstanceStatus, Quiesce};

use super::*;

/// Noon of a day, so that hours can be told apart.
const CREATED: i64 = 1_795_348_800;
const HOUR: i64 = 3600;

fn at(hours: i64) -> Timestamp {
    Timestamp::from_second(CREATED + hours * HOUR).unwrap()
}

/// One that is built, with a backup each four hours of which two are kept.
fn instance() -> Instance {
    let mut instance = Instance::new("web-1", InstanceSpec::default());
    instance.metadata.uid = Some("0a000001-0000".into());
    instance.metadata.namespace = Some("shop".into());
    instance.metadata.creation_timestamp = Some(Time(at(0)));
    instance.spec.backup = Some(BackupSchedule {
        every: "4h".into(),
        starting_at: None,
        rotation: 2,
        quiesce: Quiesce::Required,
    });
    instance.status = Some(InstanceStatus {
        flavor: Some(BuiltFlavor::default()),
        ..InstanceStatus::default()
    });
    instance
}

fn stored(mut image: Image, state: ImageState) -> Image {
    image.metadata.uid = image.metadata.name.clone();
    image.status = Some(ImageStatus {
        state: Some(state),
        ..ImageStatus::default()
    });
    image
}

fn backup(hours: i64, state: ImageState) -> Image {
    let instance = instance();
    let schedule = instance.spec.backup.clone().unwrap();
    stored(image(&instance, &schedule, at(hours)), state)
}

fn name(backups: &Backups) -> Option<&str> {
    backups.create.as_ref()?.metadata.name.as_deref()
}

#[test]
fn the_first_is_due_a_period_after_the_creation_and_names_its_time() {
    let young = backups(&instance(), [].iter(), at(3));
    assert_eq!((name(&young), young.again), (None, Some(Duration::from_hours(1))));
    let due = backups(&instance(), [].iter(), at(5));
    assert_eq!(name(&due), Some("web-1-backup-20261122t160000z"));
    let made = due.create.unwrap();
    assert_eq!(made.spec.source.instance.unwrap().quiesce, Quiesce::Required);
    assert_eq!(made.metadata.owner_references, None);
    let labels = made.metadata.labels.unwrap();
    assert_eq!(
        (
            labels["virga.dev/instance"].as_str(),
            labels["virga.dev/backup-at"].as_str()
        ),
        ("web-1", "20261122T160000Z")
    );
    assert_eq!(due.again, Some(LONGEST_WAIT));
}

#[test]
fn a_first_time_that_is_given_is_kept_to() {
    let mut night = instance();
    night.spec.backup.as_mut().unwrap().starting_at = Some(Time(at(15)));
    assert_eq!(name(&backups(&night, [].iter(), at(14))), None);
    assert_eq!(
        name(&backups(&night, [].iter(), at(16))),
        Some("web-1-backup-20261123t030000z")
    );
}

#[test]
fn nothing_is_made_of_what_is_not_built_is_deleted_or_was_not_asked_for() {
    let unbuilt = Instance {
        status: None,
        ..instance()
    };
    let mut leaving = instance();
    leaving.metadata.deletion_timestamp = Some(Time(at(1)));
    let mut without = instance();
    without.spec.backup = None;
    let old: Vec<Image> = (1..5).map(|n| backup(n * 4, ImageState::Active)).collect();
    for instance in [unbuilt, leaving.clone(), without.clone()] {
        assert_eq!(backups(&instance, [].iter(), at(20)).create, None);
    }
    for instance in [leaving, without] {
        assert_eq!(
            backups(&instance, old.iter(), at(20)),
            Backups::default(),
            "what was made stays"
        );
    }
}

#[test]
fn one_is_made_after_the_other_and_the_oldest_goes_when_the_newest_is_whole() {
    let whole = [backup(4, ImageState::Active), backup(8, ImageState::Active)];
    let due = backups(&instance(), whole.iter(), at(13));
    assert_eq!(
        (name(&due), due.delete.len()),
        (Some("web-1-backup-20261123t000000z"), 0)
    );
    let mut all = whole.to_vec();
    all.push(backup(12, ImageState::Importing));
    for now in [13, 17, 21] {
        let waits = backups(&instance(), all.iter(), at(now));
        assert_eq!(
            (name(&waits), waits.delete.len()),
            (None, 0),
            "while one is made no other is"
        );
    }
    all[2] = backup(12, ImageState::Active);
    let whole = backups(&instance(), all.iter(), at(13));
    assert_eq!(
        (name(&whole), whole.delete.clone()),
        (None, vec!["web-1-backup-20261122t160000z".to_owned()])
    );
}

#[test]
fn of_those_that_failed_the_newest_stays_and_none_counts() {
    let all = [
        backup(4, ImageState::Active),
        backup(8, ImageState::Error),
        backup(12, ImageState::Error),
    ];
    let next = backups(&instance(), all.iter(), at(17));
    assert_eq!(name(&next), Some("web-1-backup-20261123t040000z"));
    assert_eq!(next.delete, ["web-1-backup-20261122t200000z"]);
}

#[test]
fn what_is_of_a_time_to_come_is_the_first_to_go_and_holds_nothing_up() {
    // The clock was a month ahead.
    let all = [
        backup(4, ImageState::Active),
        backup(720, ImageState::Active),
        backup(724, ImageState::Active),
    ];
    let back = backups(&instance(), all.iter(), at(9));
    assert_eq!(name(&back), Some("web-1-backup-20261122t200000z"));
    assert_eq!(back.delete, all[1].metadata.uid.clone().into_iter().collect::<Vec<_>>());
}

#[test]
fn images_of_others_are_left_alone() {
    let mut other = backup(4, ImageState::Active);
    let label = other.metadata.labels.as_mut().unwrap();
    label.insert(labels::BACKUP_OF.into(), "another".into());
    let mut odd = backup(4, ImageState::Active);
    let label = odd.metadata.labels.as_mut().unwrap();
    label.insert(labels::BACKUP_AT.into(), "yesterday".into());
    let all = [other, odd];
    let due = backups(&instance(), all.iter(), at(5));
    assert!(due.create.is_some() && due.delete.is_empty());
}

#[test]
fn a_long_name_is_cut_and_stays_its_own() {
    let long = "a".repeat(41) + "-" + &"b".repeat(21);
    let name = image_name(&long, "0a000001-0000", at(4));
    assert!(name.len() <= MAX_NAME, "{name}");
    assert!(name.ends_with("-0a000001-backup-20261122t160000z"), "{name}");
    assert_eq!(image_name(&"a".repeat(39), "u", at(4)).len(), MAX_NAME);
}

proptest! {
    /// Whatever the clock does and however images fare: one at a time, one a period, and never fewer that are whole than
    /// the rotation, once there were that many.
    #[test]
    fn however_time_goes_one_is_made_a_period_and_enough_are_kept(
        steps in proptest::collection::vec((-30..90_i64, 0..3_u8), 1..80),
    ) {
        let (instance, mut images, mut hour) = (instance(), Vec::<Image>::new(), 0_i64);
        let mut most = 0;
        for (hours, fate) in steps {
            hour = (hour + hours).max(0);
            for image in &mut images {
                let state = &mut image.status.as_mut().unwrap().state;
                if *state == Some(ImageState::Importing) {
                    *state = match fate { 0 => Some(ImageState::Active), 1 => Some(ImageState::Error), _ => *state };
                }
            }
            for _ in 0..3 {
                let plan = backups(&instance, images.iter(), at(hour));
                prop_assert!(plan.again.is_some_and(|again| again <= LONGEST_WAIT));
                images.retain(|image| !plan.delete.contains(image.metadata.uid.as_ref().unwrap()));
                if let Some(new) = plan.create {
                    prop_assert!(images.iter().all(|image| image.metadata.name != new.metadata.name));
                    images.push(stored(new, ImageState::Importing));
                }
            }
            let count = |state| images.iter().filter(|image| image.status.as_ref().unwrap().state == Some(state)).count();
            most = most.max(count(ImageState::Active)).min(2);
            prop_assert!(count(ImageState::Importing) <= 1);
            prop_assert!((most..=2).contains(&count(ImageState::Active)));
            prop_assert!(count(ImageState::Error) <= 1);
            let settled = backups(&instance, images.iter(), at(hour));
            prop_assert!(settled.create.is_none() && settled.delete.is_empty());
        }
    }
}
