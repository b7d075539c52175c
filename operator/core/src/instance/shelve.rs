//! What is done about an Instance that is to be shelved, and about one that comes back? Nova's shelve, shelve offload and
//! unshelve.
//!
//! A guest that is off for it is noted as such beside its disks, with the time: that time names this shelving. Its root
//! disk is copied into an Image that has the same time, and nothing else is believed to be this disk. The note goes with
//! the next start, so an Image of an earlier shelving is never taken for the present disk.
//!
//! What is on the host is removed only when all that can bring it back has been told: the Image, its digest, the time. From
//! then on the status is the record, until an agent says that the machine is on its host.

mod image;
mod leader;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use virga_crds::{Bytes, Instance, InstanceStatus, PowerState, ShelveStatus, conditions::Reason};

pub use image::{ShelvedImage, shelved_image_name};
pub use leader::{Shelving, is_shelved_away, shelving};

use super::{
    effect::{Effect, Plan},
    needs::{self, Aspect, Need},
    power::Step,
    resize::ResizeRecord,
    root::is_rescued,
    seen::{Cache, Domain, Power, PowerRecord, Seen},
    snapshotting::Snapshotting,
    status::{Story, tell},
};

/// How soon to look again, should the word of an Image get lost.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// How soon to look again once the Instance is told to be shelved.
const SOON: Duration = Duration::from_secs(1);
/// How long to wait for a time at a time: clocks are set.
const LONGEST_WAIT: Duration = Duration::from_hours(1);
/// What is under way, in Nova's words for users.
const SHELVING: &str = "shelving";
const OFFLOADING: &str = "offloading";
const UNSHELVING: &str = "unshelving";

/// What there is for an Instance to be shelved or unshelved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShelveSeen {
    /// The Image of the name that its root disk's has.
    pub image: Option<ShelvedImage>,
    /// Why its host can't be freed; nothing: it can.
    pub holds: Option<String>,
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

/// How long until its host is freed, once it is shelved: nothing means never.
fn offloaded_in(instance: &Instance, told: &ShelveStatus, now: Timestamp) -> Option<Duration> {
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

/// How its Image stands towards this shelving.
enum Stands<'a> {
    /// There is none that could be it.
    Missing,
    /// One of an earlier shelving, or one that is being deleted.
    Old,
    /// Somebody else's.
    Foreign,
    /// It is on its way.
    Coming(&'a ShelvedImage),
    /// It is whole, and this node has a verified copy; its digest.
    Whole(&'a str),
    /// It is whole, and not here.
    Elsewhere,
}

fn stands(seen: &Seen, round: Timestamp) -> Stands<'_> {
    let Some(image) = &seen.shelve.image else {
        return Stands::Missing;
    };
    match image.round {
        None => Stands::Foreign,
        Some(other) if other != round || image.deleting => Stands::Old,
        Some(_) => match (&image.digest, &image.cache) {
            (None, _) => Stands::Coming(image),
            (Some(digest), Cache::Cached { .. }) => Stands::Whole(digest),
            (Some(_), _) => Stands::Elsewhere,
        },
    }
}

/// How far shelving is, for one with a domain. `settled`: it is as its spec asks.
pub(super) fn told(instance: &Instance, seen: &Seen, settled: bool, now: Timestamp) -> Option<ShelveStatus> {
    let before = known(instance);
    if !is_asked(instance) {
        // Its Image is kept until it is as asked again.
        return before.filter(|_| !settled).cloned();
    }
    let round = seen.power.shelved.filter(|_| is_off(seen))?;
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
    if !is_asked(instance) || !is_off(seen) || !step.settled {
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
    match offloaded_in(instance, told, now) {
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

/// Whether the root disk may go: it is a Volume, or this node has a verified copy of the very Image that was told of.
fn is_safe(instance: &Instance, seen: &Seen, told: &ShelveStatus) -> bool {
    instance.spec.boot_volume.is_some()
        || matches!(stands(seen, told.stopped_at.0), Stands::Whole(digest) if told.digest.as_deref() == Some(digest))
}

fn removal(instance: &Instance) -> Vec<Effect> {
    let ports = (!instance.spec.interfaces.is_empty()).then_some(Effect::ReleasePorts);
    ports.into_iter().chain([Effect::Offload]).collect()
}

fn waits_for_image(instance: &Instance, seen: &Seen, round: Timestamp) -> Aspect {
    let name = shelved_image_name(instance);
    match stands(seen, round) {
        Stands::Missing => Aspect::waits(
            Reason::Shelving,
            format!("waiting for the Image {name} to be made of its disk"),
        ),
        Stands::Old => Aspect::waits(
            Reason::Shelving,
            format!("waiting for the Image {name} of an earlier shelving to be gone"),
        ),
        Stands::Foreign => Aspect::stuck(
            Reason::Shelving,
            format!("the Image {name} is in the way: it is not of this Instance: delete it"),
        ),
        Stands::Coming(image) if image.failed => Aspect::stuck(
            Reason::Shelving,
            format!("the Image {name} can't be made of its disk: {}", image.message),
        ),
        Stands::Coming(image) => Aspect::waits(
            Reason::Shelving,
            format!("its disk is being copied into the Image {name}: {}", image.message),
        ),
        Stands::Whole(_) | Stands::Elsewhere => Aspect::waits(
            Reason::OnlyCopyAway,
            format!(
                "the Image {name} is whole, and {} has no copy of it: the root disk stays here",
                seen.node
            ),
        ),
    }
}

/// What is done about one that was shelved and has no domain. Nothing: it is built as any other.
pub(super) fn absent(instance: &Instance, seen: &Seen, now: Timestamp) -> Option<Plan> {
    let told = shelved(instance)?;
    if !is_asked(instance) {
        return claimed(instance, seen, told, now);
    }
    let due = offloaded_in(instance, told, now).is_some_and(|wait| wait.is_zero());
    let goes = if seen.root_disk {
        // The domain went a moment ago, to be followed by its disk.
        due && seen.power.shelved == Some(told.stopped_at.0)
            && seen.shelve.holds.is_none()
            && is_safe(instance, seen, told)
    } else {
        // Its disk is in its Image only, or in a Volume.
        due || told.image.is_some()
    };
    if !goes {
        return None;
    }
    if seen.root_disk || seen.seed {
        let story = Story {
            held: Some(Aspect::waits(Reason::Shelving, "its host is being freed")),
            task: OFFLOADING,
            ..Story::assumed(instance)
        };
        return Some(Plan {
            status: Some(tell(instance, seen, story, now)),
            effects: removal(instance),
            again: None,
        });
    }
    Some(Plan {
        status: Some(offloaded(instance, seen, told, now)),
        ..Plan::default()
    })
}

/// The last word of the host that it was on. With it the leader takes the binding away.
fn offloaded(instance: &Instance, seen: &Seen, told: &ShelveStatus, now: Timestamp) -> InstanceStatus {
    let off = |reason, message: &str| Aspect::waits(reason, message);
    let story = Story {
        scheduled: Some(off(Reason::Offloaded, NO_HOST)),
        storage: Aspect::holds(Reason::DisksCreated, where_it_is(told)),
        network: off(Reason::Offloaded, "its ports are kept, and plugged in nowhere"),
        running: off(Reason::Stopped, "the guest is off: it is shelved"),
        drifted: None,
        settled: true,
        ..Story::assumed(instance)
    };
    let at = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let mut status = tell(instance, seen, story, now);
    // It may come back to any host, and to this one.
    status.rejected_by.clear();
    status.topology = None;
    status.shelve = Some(ShelveStatus {
        offloaded_at: Some(told.offloaded_at.clone().unwrap_or(Time(at))),
        ..told.clone()
    });
    status
}

/// What `Scheduled` says of one that is shelved and on no host.
const NO_HOST: &str = "it is shelved, and on no host: to have it back, set spec.powerState to Running or Stopped";

fn where_it_is(told: &ShelveStatus) -> String {
    match &told.image {
        Some(image) => format!("the root disk is in the Image {image}"),
        None => "the root disk is a Volume".into(),
    }
}

/// An Instance that comes back is said to be this host's before anything of it is made: what is said to be on no host may
/// be unbound at any time.
fn claimed(instance: &Instance, seen: &Seen, told: &ShelveStatus, now: Timestamp) -> Option<Plan> {
    told.offloaded_at.as_ref()?;
    let story = Story {
        running: Aspect::waits(Reason::Starting, "it is being unshelved"),
        network: Aspect::waits(Reason::Building, "its ports are plugged in when it has its disk"),
        storage: Aspect::waits(
            Reason::Building,
            format!("{}: it is made anew from it", where_it_is(told)),
        ),
        task: UNSHELVING,
        ..Story::assumed(instance)
    };
    let mut status = tell(instance, seen, story, now);
    status.shelve = Some(ShelveStatus {
        offloaded_at: None,
        ..told.clone()
    });
    Some(Plan {
        status: Some(status),
        effects: Vec::new(),
        again: Some(SOON),
    })
}

/// Whether it was shelved and is to be on a host again: one that has nothing of it yet may refuse it.
pub(super) fn comes_back(instance: &Instance) -> bool {
    shelved(instance).is_some() && !is_asked(instance)
}

/// The root disk of one that was shelved, from its Image. Nothing: it was not, or is on a host.
pub(super) fn root_disk(instance: &Instance, seen: &Seen) -> Option<Need> {
    let told = shelved(instance).filter(|_| seen.domain == Domain::Absent)?;
    let (name, flavor) = (told.image.as_ref()?, seen.flavor.as_ref()?);
    let lost = |why: &str| {
        let message = format!(
            "the Image {name}, which has the root disk, {why}: ask for a rebuild, or delete the Instance and create it anew"
        );
        Some(Need::unmet(Aspect::stuck(Reason::ImageNotFound, message)))
    };
    let Some(image) = &seen.shelve.image else {
        return lost("is gone");
    };
    if image.digest.is_none() || image.digest != told.digest {
        return lost("is another one");
    }
    let mut need = needs::from_image(&image.uid, &image.cache, flavor, Bytes::ZERO, Bytes::ZERO);
    if let Cache::Unreachable(why) = &image.cache {
        need.aspect.message = format!("the Image {name}, which has the root disk, can't be fetched: {why}");
    }
    Some(need)
}

/// Whether this is the state that users see.
pub(super) fn is_told(instance: &Instance, seen: &Seen, shelve: Option<&ShelveStatus>) -> bool {
    let away = is_asked(instance) || seen.domain == Domain::Absent && !seen.root_disk;
    away && shelve.is_some_and(|told| told.shelved_at.is_some())
}
