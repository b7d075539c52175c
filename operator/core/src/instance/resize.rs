//! Is another size asked for, and what is its next step?
//!
//! The leading controller finds room first, and keeps it for the larger of both sizes until the resize is final. The root
//! disk grows only then: what has grown can't shrink, so until then the old size can be had back with nothing lost.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};
use virga_crds::{BuiltFlavor, Bytes, Instance, ResizePolicy, ResizeStatus, ResizeVerdict, conditions::Reason, labels};

use super::{
    effect::Effect,
    needs::Aspect,
    power::Wish,
    root::{RootRecord, Work, allows, down, unmet},
    seen::{Power, Seen},
    snapshotting::Snapshotting,
};

const TASK: &str = "resizing";
const BACK: &str = "reverting the resize";
/// How soon to look again at a root disk that can't grow just now.
const GROW_AGAIN: Duration = Duration::from_secs(10);

/// A resize that was begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResizeRecord {
    /// The size that it had.
    pub from: BuiltFlavor,
    /// The size that it was to get.
    pub to: BuiltFlavor,
    /// When it was begun.
    pub at: Timestamp,
    /// How far it is.
    pub stage: ResizeStage,
    /// When the machine had its new size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<Timestamp>,
    /// When it became final, or the machine had its old size again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
}

/// How far a resize is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResizeStage {
    /// The domain is off, and is defined with the new size.
    Changing,
    /// It is defined with the new size, and can go back.
    Changed,
    /// The domain is off, and is defined with the old size.
    Reverting,
    /// It is about to be final: the root disk grows. From here on it only goes forward.
    Confirming,
    /// It is final.
    Confirmed,
    /// It is defined with the old size again.
    Reverted,
}

impl ResizeRecord {
    /// The size that the domain is to be defined with.
    pub fn size(&self) -> &BuiltFlavor {
        match self.stage {
            ResizeStage::Changing | ResizeStage::Changed | ResizeStage::Confirming | ResizeStage::Confirmed => &self.to,
            ResizeStage::Reverting | ResizeStage::Reverted => &self.from,
        }
    }

    /// Whether the definition is to be changed before anything else is done.
    pub fn is_half_done(&self) -> bool {
        matches!(self.stage, ResizeStage::Changing | ResizeStage::Reverting)
    }

    /// Whether it is neither final nor taken back.
    pub fn is_open(&self) -> bool {
        !matches!(self.stage, ResizeStage::Confirmed | ResizeStage::Reverted)
    }
}

/// What there is for a machine to be resized. Looked at only when that is asked for, or under way.
#[derive(Clone, Debug, Default)]
pub struct ResizeSeen {
    /// The size that spec asks for; absent when its Flavor doesn't exist.
    pub wanted: Option<BuiltFlavor>,
    /// How large the root disk is; absent with a boot volume, and when it can't be told.
    pub root_size: Option<Bytes>,
    /// Why no machine can be made of the Flavor that spec names, or not from this one.
    pub misfit: Option<String>,
}

/// The next step of a resize, of its confirmation, or back.
pub(super) fn work(instance: &Instance, seen: &Seen, wish: &Wish, power: Option<Power>, now: Timestamp) -> Work {
    let asked = instance.spec.flavor.as_str();
    let Some(resize) = seen.root.record.resize.as_ref().filter(|resize| resize.is_open()) else {
        return wanted(instance, seen, wish, power, now);
    };
    let back = asked == resize.from.name;
    match resize.stage {
        ResizeStage::Changing if back => change(seen, wish, power, now, &resize.at_stage(ResizeStage::Reverting)),
        ResizeStage::Changing | ResizeStage::Reverting => change(seen, wish, power, now, resize),
        ResizeStage::Confirming => confirm(seen, resize, power, now),
        _ if back => match held(instance, seen, wish).or_else(|| unmet(instance, seen)) {
            Some(why) => Work::waits(why),
            None => change(seen, wish, power, now, &resize.at_stage(ResizeStage::Reverting)),
        },
        _ if instance.spec.resize_policy == ResizePolicy::Auto
            || instance.spec.confirm_resize.as_ref() == Some(&resize.to.name) =>
        {
            confirm(seen, resize, power, now)
        }
        _ if asked == resize.to.name => Work::Nothing,
        _ => Work::waits(unconfirmed(resize)),
    }
}

/// A resize that is not begun.
fn wanted(instance: &Instance, seen: &Seen, wish: &Wish, power: Option<Power>, now: Timestamp) -> Work {
    let asked = &instance.spec.flavor;
    let Some(built) = seen.flavor.as_ref().filter(|built| built.name != *asked) else {
        return Work::Nothing;
    };
    if let Some(why) = held(instance, seen, wish) {
        return Work::waits(why);
    }
    let Some(wanted) = &seen.root.resize.wanted else {
        return Work::waits(Aspect::waits(
            Reason::FlavorNotFound,
            format!(
                "spec.flavor: there is no Flavor {asked:?}: create it, or set spec.flavor back to {}",
                built.name
            ),
        ));
    };
    if let Some(why) = refused(instance, seen, built, wanted) {
        return Work::waits(Aspect::stuck(Reason::ResizeRefused, why));
    }
    if let Some(why) = unsaid(instance, &seen.node) {
        return Work::waits(why);
    }
    if let Some(why) = unmet(instance, seen) {
        return Work::waits(why);
    }
    change(
        seen,
        wish,
        power,
        now,
        &ResizeRecord {
            from: built.clone(),
            to: wanted.clone(),
            at: now,
            stage: ResizeStage::Changing,
            finished: None,
            ended: None,
        },
    )
}

impl ResizeRecord {
    fn at_stage(&self, stage: ResizeStage) -> Self {
        Self { stage, ..self.clone() }
    }
}

/// Shuts the guest down, notes what is about to be done, and defines it with the other size.
fn change(seen: &Seen, wish: &Wish, power: Option<Power>, now: Timestamp, resize: &ResizeRecord) -> Work {
    let forth = resize.stage == ResizeStage::Changing;
    let task = if forth { TASK } else { BACK };
    if let Some(step) = down(task, wish, power, seen, now) {
        return Work::Now(step);
    }
    let mut effects = Vec::new();
    if seen.root.record.resize.as_ref() != Some(resize) {
        effects.push(note(seen, resize.clone()));
    }
    let defined = if forth {
        ResizeRecord {
            finished: Some(now),
            ..resize.at_stage(ResizeStage::Changed)
        }
    } else {
        ResizeRecord {
            ended: Some(now),
            ..resize.at_stage(ResizeStage::Reverted)
        }
    };
    effects.extend([
        Effect::Define,
        Effect::RecordPower(seen.power.cleared()),
        note(seen, defined),
    ]);
    Work::now(task, effects)
}

/// Makes the resize final.
fn confirm(seen: &Seen, resize: &ResizeRecord, power: Option<Power>, now: Timestamp) -> Work {
    let mut effects = Vec::new();
    let grows = seen.root.resize.root_size.is_some_and(|size| size < resize.to.disk);
    if grows {
        let live = match power {
            None | Some(Power::Off(_)) => Some(false),
            Some(Power::Running | Power::Paused) => Some(true),
            // What was saved, or goes, has the disk as it is.
            Some(_) => None,
        };
        let Some(live) = live.filter(|_| seen.snapshotting == Snapshotting::No) else {
            let why = "the resize is final when its root disk has grown, which it can while the guest runs or is off, and \
                       no image is made of it";
            return Work::Waits {
                why: Some(Aspect::waits(Reason::StateForbids, why)),
                effects,
                again: Some(GROW_AGAIN),
            };
        };
        if resize.stage != ResizeStage::Confirming {
            effects.push(note(seen, resize.at_stage(ResizeStage::Confirming)));
        }
        effects.push(Effect::GrowRoot {
            size: resize.to.disk,
            live,
        });
    }
    effects.push(note(
        seen,
        ResizeRecord {
            ended: Some(now),
            ..resize.at_stage(ResizeStage::Confirmed)
        },
    ));
    Work::Waits {
        why: Some(Aspect::waits(Reason::Building, "the resize is being confirmed")),
        effects,
        again: None,
    }
}

fn note(seen: &Seen, resize: ResizeRecord) -> Effect {
    Effect::RecordRoot(Box::new(RootRecord {
        resize: Some(resize),
        ..seen.root.record.clone()
    }))
}

/// Why nothing is resized in the state that the Instance is in.
fn held(instance: &Instance, seen: &Seen, wish: &Wish) -> Option<Aspect> {
    let spec = &instance.spec;
    let why = if spec.soft_delete.is_some() {
        "spec.flavor: what is soft-deleted is not resized: take spec.softDelete out first"
    } else if seen.root.record.rescue.is_some() || spec.rescue.is_some() {
        "spec.flavor: what is rescued is not resized: take spec.rescue out first"
    } else if !allows(wish) {
        "spec.flavor: only what should run or be stopped is resized: set spec.powerState to Running or Stopped, or set \
         spec.flavor back"
    } else {
        return None;
    };
    Some(Aspect::stuck(Reason::StateForbids, why))
}

/// Why this size can't be had, whatever the host has.
fn refused(instance: &Instance, seen: &Seen, built: &BuiltFlavor, wanted: &BuiltFlavor) -> Option<String> {
    let resize = &seen.root.resize;
    if let Some(misfit) = &resize.misfit {
        return Some(misfit.clone());
    }
    if instance.spec.boot_volume.is_some() {
        return None;
    }
    let name = &wanted.name;
    if wanted.disk == Bytes::ZERO {
        // Nova: "Resize to zero disk flavor is not allowed".
        return (built.disk != Bytes::ZERO).then(|| {
            format!(
                "spec.flavor: {name} has no disk of its own, and the root disk keeps its size: name a Flavor with a disk, or \
                 set spec.flavor back"
            )
        });
    }
    let root = resize.root_size.filter(|root| *root > wanted.disk)?;
    Some(format!(
        "spec.flavor: the root disk has {root}, more than the {} of {name}, and can't shrink: name a Flavor with as much, or \
         set spec.flavor back",
        wanted.disk
    ))
}

/// What is told while the leading controller has not found room.
fn unsaid(instance: &Instance, host: &str) -> Option<Aspect> {
    let flavor = &instance.spec.flavor;
    match verdict(instance, host) {
        Some(ResizeVerdict { refused: None, .. }) => None,
        Some(ResizeVerdict {
            refused: Some(why),
            migration,
            cancelled,
            ..
        }) => {
            let cure = match migration.filter(|_| !cancelled) {
                Some(name) => format!("the Migration {name} moves it to a host that has, and says how far it is"),
                None => "name a smaller Flavor, or set spec.flavor back".into(),
            };
            let message = format!("spec.flavor: {host} has no room for {flavor}: {why}; {cure}");
            Some(Aspect::waits(Reason::ResizeRefused, message))
        }
        None => Some(Aspect::waits(
            Reason::WaitingForLeader,
            format!("spec.flavor: room for {flavor} is being looked for on {host}"),
        )),
    }
}

/// What the leading controller says of what spec asks for now, of this host.
fn verdict(instance: &Instance, host: &str) -> Option<ResizeVerdict> {
    let text = instance.metadata.annotations.as_ref()?.get(labels::RESIZE)?;
    let said: ResizeVerdict = serde_json::from_str(text).ok()?;
    let current = Some(said.generation) == instance.metadata.generation;
    (current && said.host == host && said.flavor == instance.spec.flavor).then_some(said)
}

/// The name of the Flavor whose room its host keeps for it beside the size that it has, because it may be resized to it.
pub fn granted(instance: &Instance) -> Option<&str> {
    let asked = instance.spec.flavor.as_str();
    let built = instance.status.as_ref()?.flavor.as_ref()?;
    let host = instance.spec.node_name.as_deref()?;
    let said = verdict(instance, host).filter(|_| built.name != asked)?;
    said.refused.is_none().then_some(asked)
}

/// What counts of an Instance on its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The sizes that it has or may have again. Absent: it is not built yet.
    pub built: Vec<BuiltFlavor>,
    /// The Flavor that it may be resized to.
    pub granted: Option<String>,
}

/// The sizes that count of an Instance on its host: of each amount the largest.
pub fn counted(instance: &Instance) -> Counted {
    let status = instance.status.as_ref();
    let mut built: Vec<BuiltFlavor> = status.and_then(|status| status.flavor.clone()).into_iter().collect();
    let resize = status.and_then(|status| status.resize.as_ref());
    if let Some(resize) = resize.filter(|resize| resize.is_open()) {
        for size in [&resize.from, &resize.to] {
            if !built.contains(size) {
                built.push(size.clone());
            }
        }
    }
    Counted {
        built,
        granted: granted(instance).map(str::to_owned),
    }
}

/// The Flavor that a machine is built by: the one that it was built with, as long as another is only asked for.
pub fn flavor_name(instance: &Instance) -> &str {
    let built = instance.status.as_ref().and_then(|status| status.flavor.as_ref());
    built.map_or(&instance.spec.flavor, |built| &built.name)
}

/// What the machine has, as far as it was ever resized.
pub(super) fn built(record: &RootRecord) -> Option<BuiltFlavor> {
    let resize = record.resize.as_ref()?;
    Some(match resize.stage {
        ResizeStage::Changing | ResizeStage::Reverted => resize.from.clone(),
        ResizeStage::Changed | ResizeStage::Reverting | ResizeStage::Confirming | ResizeStage::Confirmed => {
            resize.to.clone()
        }
    })
}

/// What is told of the last resize.
pub(super) fn told(record: &RootRecord) -> Option<Box<ResizeStatus>> {
    // Whole seconds: what the API keeps.
    let time = |at: Timestamp| Time(Timestamp::from_second(at.as_second()).unwrap_or(at));
    let resize = record.resize.as_ref()?;
    let ended = |stage| resize.ended.filter(|_| resize.stage == stage).map(time);
    Some(Box::new(ResizeStatus {
        from: resize.from.clone(),
        to: resize.to.clone(),
        at: time(resize.at),
        finished_at: resize.finished.map(time),
        confirmed_at: ended(ResizeStage::Confirmed),
        reverted_at: ended(ResizeStage::Reverted),
    }))
}

/// Whether it has its new size, and its user is to say whether that is final.
pub(super) fn awaits_confirmation(instance: &Instance, seen: &Seen) -> bool {
    let resize = seen.root.record.resize.as_ref();
    instance.spec.resize_policy == ResizePolicy::Confirm
        && resize.is_some_and(|resize| matches!(resize.stage, ResizeStage::Changed | ResizeStage::Reverting))
}

/// What is told of what a resize that is not final forbids.
pub(super) fn unconfirmed(resize: &ResizeRecord) -> Aspect {
    Aspect::stuck(
        Reason::StateForbids,
        format!(
            "the resize to {to} is not confirmed: set spec.flavor and spec.confirmResize to {to}, or spec.flavor back to {}, \
             first",
            resize.from.name,
            to = resize.to.name
        ),
    )
}

/// Why a guest is off that should run, while its root disk or its size is worked on.
pub(super) fn off_because(task: &str) -> &'static str {
    match task {
        TASK | BACK => "the guest is off while its size is changed",
        _ => "the guest is off while its root disk is exchanged",
    }
}
