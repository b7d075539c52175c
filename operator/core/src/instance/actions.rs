//! Who did what to an Instance, and when? Nova's instance actions, from the specs that were and the statuses that came of
//! them: an agent that is restarted goes on with the list that it finds.
//!
//! The newest row of a field says what it asked for last. When it asks for something else now, that is an action. So a
//! guest that crashes and is started again makes no row: nobody asked for that.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;
use virga_crds::{
    ActionName, ActionResult, Instance, InstanceAction, InstanceState, InstanceStatus, PowerState, ResizePolicy,
    conditions::Reason, labels,
};

use super::effect::Note;
use crate::condition::Progress;

/// How many rows are kept: as many as the schema takes. The newest of each field stays in any case.
const MOST: usize = 16;
/// The longest user's name that is noted, in characters.
const USER_CHARS: usize = 256;
/// The longest message, in characters: the schema's bound.
const MESSAGE_CHARS: usize = 1024;
/// The key of the one who created the Instance, among those who changed its fields.
const CREATED: &str = "create";
/// What stands for the field of a deletion, which no spec asks for.
const DELETION: &str = "metadata.deletionTimestamp";

/// A field of the spec whose changes are actions.
struct Verb {
    /// Its name in the spec.
    field: &'static str,
    /// What it asks for. The status is the new one, for what is asked by its time alone.
    asked: fn(&Instance, &InstanceStatus) -> Option<String>,
    /// What it asked for before the first row of it, as the old status shows.
    before: fn(&InstanceStatus) -> Option<String>,
    /// What a change from one to the other is called; nothing: no action.
    name: fn(Option<&str>, Option<&str>) -> Option<ActionName>,
}

/// Every verb. One more is a line here, and a name in [`ActionName`].
const VERBS: &[Verb] = &[
    Verb {
        field: "powerState",
        asked: |instance, _| Some(format!("{:?}", instance.spec.power_state)),
        before: |old| built_to_be(old).map(|power| format!("{power:?}")),
        name: power,
    },
    Verb {
        field: "reboot",
        asked: |_, new| new.reboot.as_ref().map(|reboot| reboot.at.0.to_string()),
        before: |old| old.reboot.as_ref().map(|reboot| reboot.at.0.to_string()),
        name: |_, to| to.map(|_| ActionName::Reboot),
    },
    Verb {
        field: "rebuild",
        asked: |_, new| new.rebuild.as_ref().map(|rebuild| rebuild.at.0.to_string()),
        before: |old| old.rebuild.as_ref().map(|rebuild| rebuild.at.0.to_string()),
        name: |_, to| to.map(|_| ActionName::Rebuild),
    },
    Verb {
        field: "flavor",
        asked: |instance, _| Some(instance.spec.flavor.clone()),
        before: |old| old.flavor.as_ref().map(|built| built.name.clone()),
        name: |from, _| from.map(|_| ActionName::Resize),
    },
    Verb {
        field: "confirmResize",
        asked: |instance, new| confirmed(new).filter(|_| instance.spec.resize_policy == ResizePolicy::Confirm),
        before: confirmed,
        name: |_, to| to.map(|_| ActionName::ConfirmResize),
    },
    Verb {
        field: "rescue",
        asked: |instance, _| {
            let rescue = instance.spec.rescue.as_ref()?;
            let image = rescue.image.as_ref().or(instance.spec.image.as_ref());
            Some(image.map_or_else(String::new, |image| image.name.clone()))
        },
        before: |_| None,
        name: |_, to| Some(to.map_or(ActionName::Unrescue, |_| ActionName::Rescue)),
    },
    Verb {
        field: "locked",
        asked: |instance, _| instance.spec.locked.as_ref().map(|_| "Locked".into()),
        before: |_| None,
        name: |_, to| Some(to.map_or(ActionName::Unlock, |_| ActionName::Lock)),
    },
    Verb {
        field: "crashDump",
        asked: |_, new| new.crash_dump.as_ref().map(|begun| begun.at.0.to_string()),
        before: |old| old.crash_dump.as_ref().map(|begun| begun.at.0.to_string()),
        name: |_, to| to.map(|_| ActionName::TriggerCrashDump),
    },
    Verb {
        field: "adminPassword",
        asked: |_, new| new.admin_password.as_ref().map(|begun| begun.at.0.to_string()),
        before: |old| old.admin_password.as_ref().map(|begun| begun.at.0.to_string()),
        name: |_, to| to.map(|_| ActionName::ChangePassword),
    },
    Verb {
        field: "softDelete",
        asked: |instance, _| instance.spec.soft_delete.as_ref().map(|_| "SoftDeleted".into()),
        before: |old| old.soft_delete.as_ref().map(|_| "SoftDeleted".into()),
        name: |_, to| Some(to.map_or(ActionName::Restore, |_| ActionName::SoftDelete)),
    },
];

fn confirmed(status: &InstanceStatus) -> Option<String> {
    let resize = status.resize.as_ref()?;
    resize.confirmed_at.as_ref().map(|at| at.0.to_string())
}

/// What an Instance that has no rows yet was asked to be, as far as it shows.
fn built_to_be(old: &InstanceStatus) -> Option<PowerState> {
    match old.state? {
        InstanceState::Active => Some(PowerState::Running),
        InstanceState::Stopped => Some(PowerState::Stopped),
        InstanceState::Paused => Some(PowerState::Paused),
        InstanceState::Suspended => Some(PowerState::Suspended),
        InstanceState::Shelved => Some(PowerState::Shelved),
        _ => None,
    }
}

fn power(from: Option<&str>, to: Option<&str>) -> Option<ActionName> {
    // Nothing known of before: not to be told as something that a user did.
    let from = from?;
    Some(match to? {
        "Shelved" => ActionName::Shelve,
        _ if from == "Shelved" => ActionName::Unshelve,
        "Running" if from == "Paused" => ActionName::Unpause,
        "Running" if from == "Suspended" => ActionName::Resume,
        "Running" => ActionName::Start,
        "Stopped" => ActionName::Stop,
        "Paused" => ActionName::Pause,
        "Suspended" => ActionName::Suspend,
        _ => return None,
    })
}

/// The rows after a pass that found this: those that began and ended with it. `new` is the status without them.
pub(super) fn told(
    instance: &Instance,
    new: &InstanceStatus,
    progress: Progress,
    message: &str,
    now: Timestamp,
) -> Vec<InstanceAction> {
    let fresh = InstanceStatus::default();
    let old = instance.status.as_ref().unwrap_or(&fresh);
    let now = whole_seconds(now);
    let mut rows = old.actions.clone();
    let begin = |rows: &mut Vec<InstanceAction>, action, field: &str, value: Option<String>, at: Time| {
        let open = rows.iter_mut().filter(|row| row.field == field && row.result.is_none());
        for row in open {
            end(row, ActionResult::Superseded, &now, "");
        }
        let row = InstanceAction {
            action,
            requested_by: match action {
                ActionName::Create => requester(instance, CREATED),
                // Admission can note nothing of a deletion: the API server's audit log has who asked.
                ActionName::Delete => None,
                _ => requester(instance, field),
            },
            field: field.into(),
            value: value.map(|value| cut(&value, 253)),
            started_at: at,
            finished_at: None,
            result: None,
            message: String::new(),
        };
        rows.insert(0, row);
    };
    if rows.is_empty() && old.flavor.is_none() {
        let at = instance
            .metadata
            .creation_timestamp
            .clone()
            .unwrap_or_else(|| now.clone());
        let value = Some(format!("{:?}", instance.spec.power_state));
        begin(&mut rows, ActionName::Create, "powerState", value, at);
    }
    if let Some(deleted) = &instance.metadata.deletion_timestamp {
        if newest(&rows, DELETION).is_none() {
            let value = Some(deleted.0.to_string());
            begin(&mut rows, ActionName::Delete, DELETION, value, deleted.clone());
        }
    } else {
        for verb in VERBS {
            let asked = (verb.asked)(instance, new).map(|value| cut(&value, 253));
            let last = newest(&rows, verb.field).map_or_else(|| (verb.before)(old), |row| row.value.clone());
            if asked != last
                && let Some(name) = (verb.name)(last.as_deref(), asked.as_deref())
            {
                begin(&mut rows, name, verb.field, asked, now.clone());
            }
        }
    }
    if progress == Progress::Done && new.crash_dump.as_ref().is_some_and(|begun| begun.finished_at.is_none()) {
        let interrupts = rows
            .iter_mut()
            .filter(|row| row.field == "crashDump" && row.result.is_none());
        for row in interrupts {
            let why = "the agent ended, or libvirt failed, in that moment: nobody knows whether the guest was interrupted; \
                       to interrupt it, give another time";
            end(row, ActionResult::Failed, &now, why);
        }
    }
    finish(&mut rows, progress, message, &now);
    bound(rows)
}

/// The rows after an effect failed.
pub(super) fn after_failure(
    rows: &[InstanceAction],
    stuck: bool,
    message: &str,
    now: Timestamp,
) -> Vec<InstanceAction> {
    let mut rows = rows.to_vec();
    let progress = if stuck { Progress::Stuck } else { Progress::Working };
    finish(&mut rows, progress, message, &whole_seconds(now));
    rows
}

/// The row of a deletion that is done, which no status has.
pub fn deleted(instance: &Instance, now: Timestamp) -> InstanceAction {
    let now = whole_seconds(now);
    let at = instance
        .metadata
        .deletion_timestamp
        .clone()
        .unwrap_or_else(|| now.clone());
    let mut row = InstanceAction {
        action: ActionName::Delete,
        field: DELETION.into(),
        value: Some(at.0.to_string()),
        // Admission can note nothing of a deletion: the API server's audit log has who asked.
        requested_by: None,
        started_at: at,
        finished_at: None,
        result: None,
        message: String::new(),
    };
    end(&mut row, ActionResult::Succeeded, &now, "");
    row
}

fn finish(rows: &mut [InstanceAction], progress: Progress, message: &str, now: &Time) {
    for place in 0..rows.len() {
        let last = rows.iter().position(|row| row.field == rows[place].field) == Some(place);
        let row = &mut rows[place];
        match (progress, row.result) {
            (Progress::Done, None) => end(row, ActionResult::Succeeded, now, ""),
            // Somebody helped, elsewhere than in this field.
            (Progress::Done, Some(ActionResult::Failed)) if last && row.field != "crashDump" => {
                end(row, ActionResult::Succeeded, now, "");
            }
            (Progress::Stuck, None) => end(row, ActionResult::Failed, now, message),
            _ => {}
        }
    }
}

fn end(row: &mut InstanceAction, result: ActionResult, now: &Time, message: &str) {
    row.result = Some(result);
    // The object's age is the API server's clock, ours may be behind.
    row.finished_at = Some(Time(now.0.max(row.started_at.0)));
    row.message = cut(message, MESSAGE_CHARS);
}

fn newest<'a>(rows: &'a [InstanceAction], field: &str) -> Option<&'a InstanceAction> {
    rows.iter().find(|row| row.field == field)
}

/// The newest rows, and the newest of each field: what it asked for last must be known.
fn bound(rows: Vec<InstanceAction>) -> Vec<InstanceAction> {
    let mut excess = rows.len().saturating_sub(MOST);
    let mut kept: Vec<InstanceAction> = Vec::new();
    let mut seen: Vec<String> = Vec::new();
    let needed: Vec<bool> = rows
        .iter()
        .map(|row| {
            let first = !seen.contains(&row.field);
            seen.push(row.field.clone());
            first
        })
        .collect();
    for (row, needed) in rows.into_iter().zip(needed).rev() {
        if excess > 0 && !needed {
            excess -= 1;
        } else {
            kept.push(row);
        }
    }
    kept.reverse();
    kept
}

/// Whole seconds: what the API keeps.
fn whole_seconds(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

fn cut(text: &str, chars: usize) -> String {
    let one_line = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    one_line.take(chars).collect()
}

/// Who changed a field last, as admission noted it.
fn requester(instance: &Instance, field: &str) -> Option<String> {
    let noted = instance.metadata.annotations.as_ref()?.get(labels::REQUESTED_BY)?;
    let users: BTreeMap<String, String> = serde_json::from_str(noted).ok()?;
    let user = users.get(field).or_else(|| users.get(CREATED))?;
    Some(cut(user, USER_CHARS)).filter(|user| !user.is_empty())
}

/// What admission notes of who asks for what: the annotation's new value. Made from the old object and the user of the
/// request only, so nothing that the request itself says of it counts.
pub fn requesters(old: Option<(&Value, Option<&str>)>, new: &Value, user: &str) -> String {
    let user = cut(user, USER_CHARS);
    let mut users = BTreeMap::new();
    match old {
        None => {
            users.insert(CREATED.to_owned(), user);
        }
        Some((before, noted)) => {
            let known: BTreeMap<String, String> = noted
                .and_then(|noted| serde_json::from_str(noted).ok())
                .unwrap_or_default();
            users.extend(known);
            for verb in VERBS {
                if before.get(verb.field) != new.get(verb.field) {
                    users.insert(verb.field.into(), user.clone());
                }
            }
        }
    }
    serde_json::to_string(&users).unwrap_or_default()
}

/// The actions that ended between two statuses.
pub fn ended<'a>(old: Option<&InstanceStatus>, new: &'a InstanceStatus) -> Vec<&'a InstanceAction> {
    let before = old.map_or(&[][..], |status| &status.actions);
    let known = |row: &&InstanceAction| {
        let same = |other: &InstanceAction| {
            (other.action, &other.field, &other.started_at) == (row.action, &row.field, &row.started_at)
        };
        before.iter().any(|other| same(other) && other.result == row.result)
    };
    let ended = new.actions.iter().filter(|row| row.result.is_some());
    ended.filter(|row| !known(row)).collect()
}

/// What a user should hear of actions that ended. A creation is told of when the guest starts, and what was superseded by
/// what came after it.
pub(super) fn notes(old: Option<&InstanceStatus>, new: &InstanceStatus) -> Vec<Note> {
    let told = ended(old, new).into_iter().rev().filter_map(|row| {
        let (reason, came_of_it) = match row.result? {
            ActionResult::Succeeded if row.action == ActionName::Create => return None,
            ActionResult::Succeeded => (Reason::ActionSucceeded, String::new()),
            ActionResult::Failed => (Reason::ActionFailed, format!(": {}", row.message)),
            ActionResult::Superseded => return None,
        };
        let by = row
            .requested_by
            .as_ref()
            .map_or_else(String::new, |user| format!(" by {user}"));
        let took = row
            .finished_at
            .as_ref()
            .map_or(0, |end| end.0.duration_since(row.started_at.0).as_secs());
        Some(Note {
            warning: reason == Reason::ActionFailed,
            reason,
            action: row.action.as_str(),
            message: format!("{}{by}, {took} s{came_of_it}", row.action.as_str()),
        })
    });
    told.collect()
}

#[cfg(test)]
mod tests;
