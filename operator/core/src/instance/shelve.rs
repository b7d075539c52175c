//! What is done about an Instance that is to be shelved, and about one that comes back? Nova's shelve, shelve offload and
//! unshelve.
//!
//! A guest that is off for it is noted as such beside its disks, with the time: that time names this shelving. Its root
//! disk is copied into an Image that has the same time, and nothing else is believed to be this disk. The note goes with
//! the next start, so an Image of an earlier shelving is never taken for the present disk.
//!
//! What is on the host is removed only when all that can bring it back has been told: the Image, its digest, the time. From
//! then on the status is the record, until an agent says that the machine is on its host.

mod absent;
mod disk;
mod image;
mod leader;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use virga_crds::{Instance, PowerState, ShelveStatus, conditions::Reason};

use self::{
    absent::{NO_HOST, OFFLOADING, removal, where_it_is},
    disk::{Stands, is_safe, is_written, stands, waits_for_image},
};
pub(super) use absent::{absent, root_disk};
pub use disk::DiskMark;
pub use image::{ShelvedImage, shelved_image_name};
pub use leader::{Shelving, is_shelved_away, shelving};

use super::{
    effect::Effect,
    needs::Aspect,
    power::Step,
    resize::ResizeRecord,
    root::is_rescued,
    seen::{Domain, Power, PowerRecord, Seen},
    snapshotting::Snapshotting,
};

/// How soon to look again, should the word of an Image get lost.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// How soon to look again once the Instance is told to be shelved.
const SOON: Duration = Duration::from_secs(1);
/// How long to wait for a time at a time: clocks are set.
const LONGEST_WAIT: Duration = Duration::from_hours(1);
/// What is under way, in Nova's words for users.
const SHELVING: &str = "shelving";

/// What there is for an Instance to be shelved or unshelved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShelveSeen {
    /// The Image of the name that its root disk's has.
    pub image: Option<ShelvedImage>,
    /// Why its host can't be freed; nothing: it can.
    pub holds: Option<String>,
    /// How its root disk is, if it has one here.
    pub disk: Option<DiskMark>,
    /// Its host is in maintenance: it leaves it as soon as it can.
    pub maintenance: bool,
}

fn is_asked(instance: &Instance) -> bool {
    instance.spec.power_state == PowerState::Shelved
}

/// What was told of it.
fn known(instance: &Instance) -> Option<&ShelveStatus> {
    instance.status.as_ref()?.shelve.as_ref()
}

/// What was told of it, if it was shelved: all that can bring it back is there.
fn shelved(instance: &Instance) -> Option<&ShelveStatus> {
    known(instance).filter(|told| told.shelved_at.is_some())
}

/// Whether it is shelved and is to stay so: what is not on this host any more is not to be here again.
pub fn stays_shelved(instance: &Instance) -> bool {
    is_asked(instance) && shelved(instance).is_some()
}

/// How long until its host is freed, once it is shelved: nothing means never. A host in maintenance is to be empty, and what
/// is off and in an Image need not be moved for that.
fn offloaded_in(instance: &Instance, seen: &Seen, told: &ShelveStatus, now: Timestamp) -> Option<Duration> {
    if seen.shelve.maintenance {
        return Some(Duration::ZERO);
    }
    let asked = instance.spec.shelve.as_ref();
    let after = asked.map_or("0s", |shelve| shelve.offload_after.as_str());
    if after == "Never" {
        return None;
    }
    let (number, unit) = after.split_at(after.len().saturating_sub(1));
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        // The schema sees to it: what can't be read keeps its host.
        _ => return None,
    };
    let seconds: i64 = number.parse().ok()?;
    let at = told.shelved_at.as_ref()?.0;
    let at = at.checked_add(SignedDuration::from_secs(seconds * unit)).ok()?;
    Some(Duration::try_from(at.duration_since(now)).unwrap_or_default())
}

/// A time that no earlier shelving has, in whole seconds: what the API keeps.
fn new_round(instance: &Instance, record: PowerRecord, now: Timestamp) -> Timestamp {
    let before = known(instance).map(|told| told.stopped_at.0);
    let earliest = [before, record.started].into_iter().flatten().max();
    let after = earliest.map_or(i64::MIN, |earliest| earliest.as_second().saturating_add(1));
    Timestamp::from_second(now.as_second().max(after)).unwrap_or(now)
}

/// How far shelving is, for one with a domain. `settled`: it is as its spec asks.
pub(super) fn told(instance: &Instance, seen: &Seen, settled: bool, now: Timestamp) -> Option<ShelveStatus> {
    let before = known(instance);
    if !is_asked(instance) {
        // Its Image is kept until it is as asked again.
        return before.filter(|_| !settled).cloned();
    }
    // What was written to since is shelved anew.
    let round = seen.power.shelved.filter(|_| is_off(seen) && !is_written(seen))?;
    let fresh = ShelveStatus {
        stopped_at: Time(round),
        image: None,
        digest: None,
        shelved_at: None,
        offloaded_at: None,
    };
    let mut told = before
        .filter(|before| before.stopped_at.0 == round)
        .cloned()
        .unwrap_or_else(|| fresh.clone());
    told.offloaded_at = None;
    let at = || Time(Timestamp::from_second(now.as_second()).unwrap_or(now));
    if instance.spec.boot_volume.is_some() {
        told.shelved_at.get_or_insert_with(at);
    } else {
        match stands(seen, round) {
            Stands::Whole(digest) => {
                told.image = Some(shelved_image_name(instance));
                told.digest = Some(digest.to_owned());
                told.shelved_at.get_or_insert_with(at);
            }
            Stands::Coming(_) | Stands::Elsewhere => {}
            // Somebody took it away; the disk is here still, and is copied again.
            Stands::Missing | Stands::Old | Stands::Foreign => told = fresh,
        }
    }
    Some(told)
}

fn is_off(seen: &Seen) -> bool {
    matches!(seen.domain, Domain::Defined(Power::Off(_)))
}

/// What is done next about one whose domain is off and as asked otherwise. `told` is what this pass tells of it.
pub(super) fn go_on(instance: &Instance, seen: &Seen, told: Option<&ShelveStatus>, step: &mut Step, now: Timestamp) {
    if !is_asked(instance) || !is_off(seen) {
        return;
    }
    if !step.settled {
        if let Some(held) = &mut step.held {
            held.message.push_str("; until then it is not shelved");
        }
        return;
    }
    if is_rescued(seen) {
        // The schema refuses it; what it boots from is not its root disk.
        step.settled = false;
        let why = "spec.powerState: what is rescued is not shelved: take spec.rescue out first";
        step.held = Some(Aspect::stuck(Reason::StateForbids, why));
        return;
    }
    if seen.root.record.resize.as_ref().is_some_and(ResizeRecord::is_open) {
        step.settled = false;
        let why = "spec.powerState: what was resized is shelved when that is final: confirm the resize, or set spec.flavor back \
                   with spec.powerState Running or Stopped";
        step.held = Some(Aspect::stuck(Reason::StateForbids, why));
        return;
    }
    let Some(told) = told else {
        let shelved = Some(new_round(instance, seen.power, now));
        step.effects.push(Effect::RecordPower(PowerRecord {
            shelved,
            shelved_disk: seen.shelve.disk,
            ..seen.power.cleared()
        }));
        (step.settled, step.task) = (false, SHELVING);
        return;
    };
    if told.shelved_at.is_none() {
        step.settled = false;
        step.task = SHELVING;
        step.held = Some(waits_for_image(instance, seen, told.stopped_at.0));
        soon(step, LOOK_AGAIN);
        return;
    }
    // What is told and not written yet brings nothing back.
    if known(instance) != Some(told) {
        return soon(step, SOON);
    }
    match offloaded_in(instance, seen, told, now) {
        None => {}
        Some(wait) if !wait.is_zero() => soon(step, wait.min(LONGEST_WAIT)),
        Some(_) if seen.snapshotting != Snapshotting::No => soon(step, LOOK_AGAIN),
        Some(_) => match (&seen.shelve.holds, is_safe(instance, seen, told)) {
            (Some(why), _) => {
                step.settled = false;
                step.held = Some(Aspect::stuck(Reason::StateForbids, why));
            }
            (None, false) => {
                step.settled = false;
                let why = format!(
                    "{} has no copy of Image {} any more: the root disk stays here until it has",
                    seen.node,
                    shelved_image_name(instance)
                );
                step.held = Some(Aspect::waits(Reason::OnlyCopyAway, why));
                soon(step, LOOK_AGAIN);
            }
            (None, true) => {
                step.settled = false;
                step.task = OFFLOADING;
                step.effects.push(Effect::Undefine);
                step.effects.extend(removal(instance));
            }
        },
    }
}

fn soon(step: &mut Step, wait: Duration) {
    step.again = Some(step.again.map_or(wait, |again| again.min(wait)));
}

/// Whether it was shelved and is to be on a host again: one that has nothing of it yet may refuse it.
pub(super) fn comes_back(instance: &Instance) -> bool {
    shelved(instance).is_some() && !is_asked(instance)
}

/// Whether this is the state that users see.
pub(super) fn is_told(instance: &Instance, seen: &Seen, shelve: Option<&ShelveStatus>) -> bool {
    let away = is_asked(instance) || seen.domain == Domain::Absent && !seen.root_disk;
    away && shelve.is_some_and(|told| told.shelved_at.is_some())
}
