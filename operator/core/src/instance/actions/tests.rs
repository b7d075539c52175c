use k8s_openapi::jiff::SignedDuration;
use proptest::prelude::*;
use serde_json::json;
use virga_crds::{BuiltFlavor, InstanceSpec, Lock, RebootStatus};

use super::*;

fn at(second: i64) -> Timestamp {
    "2026-11-22T10:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_secs(second)
}

fn instance(power_state: PowerState) -> Instance {
    let mut instance = Instance::new(
        "web-1",
        InstanceSpec {
            power_state,
            ..InstanceSpec::default()
        },
    );
    instance.metadata.creation_timestamp = Some(Time(at(0)));
    instance
}

/// One pass, and what it wrote.
fn pass(instance: &mut Instance, progress: Progress, message: &str, second: i64) {
    let mut new = instance.status.clone().unwrap_or_default();
    new.flavor = Some(BuiltFlavor::default());
    new.actions = told(instance, &new, progress, message, at(second));
    instance.status = Some(new);
}

fn rows(instance: &Instance) -> Vec<String> {
    let row = |row: &InstanceAction| {
        format!(
            "{:?} {}={} by {}: {:?} {}",
            row.action,
            row.field,
            row.value.as_deref().unwrap_or("-"),
            row.requested_by.as_deref().unwrap_or("?"),
            row.result,
            row.message
        )
    };
    instance.status.as_ref().unwrap().actions.iter().map(row).collect()
}

#[test]
fn an_action_begins_when_its_field_changes_and_ends_when_all_is_as_asked() {
    let mut web = instance(PowerState::Running);
    web.metadata.annotations = Some([(labels::REQUESTED_BY.into(), r#"{"create":"alice"}"#.into())].into());
    pass(&mut web, Progress::Working, "", 1);
    assert_eq!(rows(&web), ["Create powerState=Running by alice: None "]);
    pass(&mut web, Progress::Done, "", 9);
    let created = web.status.as_ref().unwrap().actions[0].clone();
    assert_eq!((created.started_at.0, created.finished_at.unwrap().0), (at(0), at(9)));

    web.spec.power_state = PowerState::Stopped;
    let noted = r#"{"create":"alice","powerState":"bob"}"#;
    web.metadata.annotations = Some([(labels::REQUESTED_BY.into(), noted.into())].into());
    pass(&mut web, Progress::Working, "", 20);
    web.spec.power_state = PowerState::Running;
    pass(&mut web, Progress::Working, "", 25);
    pass(&mut web, Progress::Done, "", 30);
    assert_eq!(
        rows(&web),
        [
            "Start powerState=Running by bob: Some(Succeeded) ",
            "Stop powerState=Stopped by bob: Some(Superseded) ",
            "Create powerState=Running by alice: Some(Succeeded) ",
        ]
    );
}

#[test]
fn what_is_started_again_by_itself_is_no_action() {
    let mut web = instance(PowerState::Running);
    pass(&mut web, Progress::Done, "", 9);
    // The guest crashed, and the agent starts it.
    web.status.as_mut().unwrap().state = Some(InstanceState::Stopped);
    pass(&mut web, Progress::Working, "", 20);
    pass(&mut web, Progress::Done, "", 30);
    assert_eq!(rows(&web).len(), 1);
}

#[test]
fn an_instance_of_before_there_were_rows_begins_with_what_is_asked_next() {
    let mut web = instance(PowerState::Running);
    web.status = Some(InstanceStatus {
        flavor: Some(BuiltFlavor::default()),
        state: Some(InstanceState::Active),
        ..InstanceStatus::default()
    });
    pass(&mut web, Progress::Done, "", 9);
    assert_eq!(rows(&web), [""; 0]);
    web.spec.power_state = PowerState::Paused;
    pass(&mut web, Progress::Done, "", 10);
    assert_eq!(rows(&web), ["Pause powerState=Paused by ?: Some(Succeeded) "]);
}

#[test]
fn one_that_is_stuck_has_failed_until_somebody_helps() {
    let mut web = instance(PowerState::Running);
    pass(&mut web, Progress::Stuck, "the image\ncan't be used", 3);
    assert_eq!(
        rows(&web),
        ["Create powerState=Running by ?: Some(Failed) the image can't be used"]
    );
    pass(&mut web, Progress::Done, "", 9);
    assert_eq!(rows(&web), ["Create powerState=Running by ?: Some(Succeeded) "]);
}

#[test]
fn each_reboot_is_a_row_once_it_begins_and_a_lock_comes_and_goes() {
    let mut web = instance(PowerState::Running);
    pass(&mut web, Progress::Done, "", 9);
    for second in [20, 40] {
        let reboot = RebootStatus {
            at: Time(at(second)),
            finished_at: None,
        };
        let mut new = web.status.clone().unwrap();
        new.reboot = Some(reboot);
        new.actions = told(&web, &new, Progress::Done, "", at(second));
        web.status = Some(new);
    }
    web.spec.locked = Some(Lock::default());
    pass(&mut web, Progress::Done, "", 50);
    web.spec.locked = None;
    pass(&mut web, Progress::Done, "", 60);
    let names: Vec<ActionName> = web.status.unwrap().actions.iter().map(|row| row.action).collect();
    let told = names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" ");
    assert_eq!(told, "Unlock Lock Reboot Reboot Create");
}

#[test]
fn only_what_differs_between_the_objects_is_put_down_to_the_user() {
    let (one, two) = (json!({"powerState": "Running"}), json!({"powerState": "Stopped"}));
    assert_eq!(requesters(None, &one, "alice"), r#"{"create":"alice"}"#);
    let noted = r#"{"create":"alice"}"#;
    let said = requesters(Some((&one, Some(noted))), &two, "b\"o\nb");
    assert_eq!(said, r#"{"create":"alice","powerState":"b\"o b"}"#);
    assert_eq!(requesters(Some((&one, Some(noted))), &one, "eve"), noted);
    assert_eq!(requesters(Some((&one, Some("rubbish"))), &one, "eve"), "{}");
}

#[test]
fn an_action_is_told_of_once_with_who_and_how_long() {
    let mut web = instance(PowerState::Running);
    pass(&mut web, Progress::Done, "", 9);
    let before = web.status.clone();
    web.spec.power_state = PowerState::Stopped;
    pass(&mut web, Progress::Working, "", 20);
    let under_way = web.status.clone();
    assert_eq!(notes(before.as_ref(), under_way.as_ref().unwrap()), []);
    pass(&mut web, Progress::Done, "", 32);
    let told = notes(under_way.as_ref(), web.status.as_ref().unwrap());
    assert_eq!(told[0].message, "Stop, 12 s");
    assert_eq!((told.len(), told[0].reason), (1, Reason::ActionSucceeded));
    assert_eq!(notes(web.status.as_ref(), web.status.as_ref().unwrap()), []);
}

proptest! {
    #[test]
    fn however_specs_change_the_rows_are_bounded_and_a_pass_that_finds_nothing_new_changes_none(
        changes in proptest::collection::vec((0_u8..4, any::<bool>(), 0_u8..3, any::<bool>()), 1..60),
    ) {
        let mut web = instance(PowerState::Running);
        for (second, (power, locked, progress, reboot)) in (1..).zip(changes) {
            web.spec.power_state = [PowerState::Running, PowerState::Stopped, PowerState::Paused, PowerState::Suspended]
                [usize::from(power)];
            web.spec.locked = locked.then(Lock::default);
            let progress = [Progress::Done, Progress::Working, Progress::Stuck][usize::from(progress)];
            if reboot {
                let status = web.status.get_or_insert_default();
                status.reboot = Some(RebootStatus { at: Time(at(second)), finished_at: None });
            }
            pass(&mut web, progress, "why", second);
            let first = web.status.clone();
            pass(&mut web, progress, "why", second + 1);
            prop_assert_eq!(&first, &web.status);
            let rows = &web.status.as_ref().unwrap().actions;
            prop_assert!(rows.len() <= MOST);
            for verb in VERBS {
                let asked = (verb.asked)(&web, web.status.as_ref().unwrap());
                let last = newest(rows, verb.field).and_then(|row| row.value.clone());
                prop_assert!(last == asked || matches!(verb.field, "reboot" | "flavor"));
                let open = rows.iter().filter(|row| row.field == verb.field && row.result.is_none()).count();
                prop_assert!(open <= 1);
            }
            prop_assert!(rows.iter().all(|row| row.result.is_some() == row.finished_at.is_some()));
        }
    }
}
