//! Is a rebuild asked for, and what is its next step?

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use virga_crds::{Instance, RebuildStatus, conditions::Reason};

use super::{
    effect::Effect,
    needs::{self, Aspect},
    power::Wish,
    reboot::{When, when},
    root::{RebuildRecord, RebuildStage, RootRecord, Work, allows, down, unmet},
    seen::{Domain, Image, Power, Seen},
};
use crate::problem::Problems;

const TASK: &str = "rebuilding";

/// The next step of a rebuild. What is new is made beside what is there while the guest runs; then it is shut down, and
/// only then the new disk takes the old one's place.
pub(super) fn work(instance: &Instance, seen: &Seen, wish: &Wish, power: Option<Power>, now: Timestamp) -> Work {
    let record = &seen.root.record;
    // A later one takes the place of one whose new disk makes no domain.
    let asked_again = |begun: RebuildRecord| {
        let at = instance.spec.rebuild.as_ref().map(|rebuild| rebuild.at.0);
        !seen.root.next && at.is_some_and(|at| at > begun.at && at <= now)
    };
    let exchanging = |begun: &RebuildRecord| begun.stage == RebuildStage::Exchanging && !asked_again(*begun);
    if let Some(begun) = record.rebuild.filter(exchanging) {
        return match down(TASK, wish, power, seen, now) {
            Some(step) => Work::Now(step),
            None => Work::now(TASK, exchange(seen, begun, now)),
        };
    }
    let at = match asked(instance, record, now) {
        Asked::Nothing => return abandoned(seen),
        Asked::Later(wait) => return Work::later(wait),
        Asked::TooFar => {
            let why = "spec.rebuild.at: it is more than a year ahead, and not waited for: give an earlier time";
            return Work::waits(Aspect::stuck(Reason::StateForbids, why));
        }
        Asked::Due(at) => at,
    };
    if let Some(why) = refused(instance, seen, wish) {
        return Work::waits(Aspect::stuck(Reason::StateForbids, why));
    }
    let begun = record
        .rebuild
        .filter(|begun| begun.at == at && begun.stage == RebuildStage::Preparing);
    match begun {
        Some(begun) if seen.root.next => {
            if let Some(why) = unmet(instance, seen) {
                return Work::waits(why);
            }
            if let Some(step) = down(TASK, wish, power, seen, now) {
                return Work::Now(step);
            }
            let exchanging = RebuildRecord {
                stage: RebuildStage::Exchanging,
                ..begun
            };
            let noted = RootRecord {
                image: instance.spec.image.clone(),
                rebuild: Some(exchanging),
                ..record.clone()
            };
            let mut effects = vec![Effect::RecordRoot(Box::new(noted.clone()))];
            let mut then = seen.clone();
            then.root.record = noted;
            effects.extend(exchange(&then, exchanging, now));
            Work::now(TASK, effects)
        }
        _ => prepare(instance, seen, at, begun.is_some()),
    }
}

/// The steps from a domain that is off to one that has the new root disk.
fn exchange(seen: &Seen, begun: RebuildRecord, now: Timestamp) -> Vec<Effect> {
    let done = RootRecord {
        rebuild: Some(RebuildRecord {
            stage: RebuildStage::Done,
            finished: Some(now),
            ..begun
        }),
        ..seen.root.record.clone()
    };
    let mut effects = vec![Effect::ExchangeRoot];
    if matches!(seen.domain, Domain::Defined(_)) {
        // With it goes what libvirt keeps for the old system: its firmware's variables.
        effects.push(Effect::Undefine);
    }
    effects.extend([
        Effect::Define,
        Effect::RecordPower(seen.power.cleared()),
        Effect::RecordRoot(Box::new(done)),
    ]);
    effects
}

/// Makes the new root disk and the new seed beside the old ones.
fn prepare(instance: &Instance, seen: &Seen, at: Timestamp, begun: bool) -> Work {
    let Some(flavor) = &seen.flavor else {
        return Work::Nothing;
    };
    let (uid, size) = match &seen.image {
        None => return Work::Nothing,
        Some(Image::NotFound(message)) => return Work::waits(Aspect::waits(Reason::ImageNotFound, message)),
        Some(Image::Known {
            uid,
            min_disk,
            min_memory,
            cache,
        }) => {
            let need = needs::from_image(uid, cache, flavor, *min_disk, *min_memory);
            match need.effects.first() {
                Some(Effect::CreateRootDisk { uid, size }) => (uid.clone(), *size),
                _ => {
                    return Work::Waits {
                        why: Some(need.aspect),
                        effects: need.effects,
                        again: None,
                    };
                }
            }
        }
    };
    if let Some(misfit) = &seen.root.misfit {
        return Work::waits(Aspect::stuck(Reason::ImageDoesNotFit, misfit));
    }
    if let Some(why) = unmet(instance, seen) {
        return Work::waits(why);
    }
    let mut effects = Vec::new();
    if !begun {
        let noted = RootRecord {
            rebuild: Some(RebuildRecord {
                at,
                stage: RebuildStage::Preparing,
                finished: None,
            }),
            ..seen.root.record.clone()
        };
        // What an earlier one left behind may be of another image.
        effects.extend([Effect::DropNextRoot, Effect::RecordRoot(Box::new(noted))]);
    }
    effects.extend([Effect::CreateNextRoot { uid, size }, Effect::WriteNextSeed]);
    Work::Waits {
        why: Some(Aspect::waits(Reason::Building, "the new root disk is being made")),
        effects,
        again: None,
    }
}

/// A rebuild that was begun and taken back before the old root disk was let go of leaves the machine as it is.
fn abandoned(seen: &Seen) -> Work {
    let record = &seen.root.record;
    let preparing = record.rebuild.is_some_and(|r| r.stage == RebuildStage::Preparing);
    if !preparing {
        return Work::Nothing;
    }
    let noted = RootRecord {
        rebuild: None,
        ..record.clone()
    };
    Work::Waits {
        why: None,
        effects: vec![Effect::DropNextRoot, Effect::RecordRoot(Box::new(noted))],
        again: None,
    }
}

/// Why a rebuild that is due is not done in the state that the Instance is in.
fn refused(instance: &Instance, seen: &Seen, wish: &Wish) -> Option<&'static str> {
    if instance.spec.boot_volume.is_some() {
        return Some("spec.rebuild: what boots from a volume is not rebuilt: take the rebuild out");
    }
    if seen.root.record.rescue.is_some() || instance.spec.rescue.is_some() {
        return Some("spec.rebuild: what is rescued is not rebuilt: take spec.rescue out first");
    }
    (!allows(wish)).then_some(
        "spec.rebuild: only what should run or be stopped is rebuilt: set spec.powerState to Running or Stopped, or take \
         the rebuild out",
    )
}

/// How a rebuild stands.
enum Asked {
    Nothing,
    Later(std::time::Duration),
    TooFar,
    Due(Timestamp),
}

/// What was done is in the record beside the disks. Should that be lost, a rebuild that was told of as finished is not
/// done again.
fn asked(instance: &Instance, record: &RootRecord, now: Timestamp) -> Asked {
    let Some(rebuild) = &instance.spec.rebuild else {
        return Asked::Nothing;
    };
    let at = rebuild.at.0;
    let told = instance.status.as_ref().and_then(|status| status.rebuild.as_ref());
    let created = instance.metadata.creation_timestamp.as_ref();
    let done = created.is_some_and(|created| at < created.0)
        || record
            .rebuild
            .is_some_and(|r| r.at > at || r.at == at && r.stage == RebuildStage::Done)
        || told.is_some_and(|told| told.finished_at.is_some() && told.at.0 >= at);
    if done {
        return Asked::Nothing;
    }
    match when(at, now) {
        When::Now => Asked::Due(at),
        When::Later(wait) => Asked::Later(wait),
        When::TooFar => Asked::TooFar,
    }
}

/// What is wrong with a change of what is asked for: a new time from before the Instance was is no rebuild, and what came
/// with it would never be.
pub fn rebuild_in_time(old: &Instance, new: &Instance) -> Problems {
    let mut problems = Problems::default();
    let at = |instance: &Instance| instance.spec.rebuild.as_ref().map(|rebuild| rebuild.at.0);
    let created = new.metadata.creation_timestamp.as_ref().map(|time| time.0);
    if let (Some(at), Some(created)) = (at(new).filter(|new| at(old) != Some(*new)), created)
        && at < created
    {
        let message = format!("{at:.0} is before the Instance was created, which is no rebuild: give the present time");
        problems.add("spec.rebuild.at", message);
    }
    problems
}

/// What is told of the last rebuild.
pub(super) fn told(record: &RootRecord) -> Option<RebuildStatus> {
    // Whole seconds: what the API keeps.
    let time = |at: Timestamp| Time(Timestamp::from_second(at.as_second()).unwrap_or(at));
    record.rebuild.map(|rebuild| RebuildStatus {
        at: time(rebuild.at),
        finished_at: rebuild.finished.map(time),
    })
}
