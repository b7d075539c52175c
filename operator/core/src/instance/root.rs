//! Which root disk does the machine have, and what is to be done about that before its power state?
//!
//! A rebuild exchanges the root disk, a rescue puts another one before it. Both make what is new beside what is there
//! while the guest runs, and stop it only then. What is under way is noted beside the disks before it begins, so an agent
//! that was killed in the middle goes on with it; each step may be done twice.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use virga_crds::{ImageRef, Instance, PowerState};

use super::{
    effect::Effect,
    needs::{self, Aspect},
    power::{self, Step, Wish},
    rebuild, rescue,
    resize::{self, ResizeRecord, ResizeSeen},
    seen::{Domain, Image, Power, Seen},
};

/// What is noted beside the disks of what was made of them since they were made first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RootRecord {
    /// The image of the last rebuild.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageRef>,
    /// The last rebuild that was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebuild: Option<RebuildRecord>,
    /// The rescue that it is in, or on the way to or from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rescue: Option<RescueRecord>,
    /// The last resize that was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resize: Option<ResizeRecord>,
}

/// A rebuild that was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RebuildRecord {
    /// The `at` that asked for it.
    pub at: Timestamp,
    /// How far it is.
    pub stage: RebuildStage,
    /// When the machine had its new root disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<Timestamp>,
}

/// How far a rebuild is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RebuildStage {
    /// The new root disk and seed are being made beside the old ones.
    Preparing,
    /// They are there, the domain is off, and they take the place of the old ones. From here on it only goes forward.
    Exchanging,
    /// The domain is defined over them.
    Done,
}

/// A rescue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RescueRecord {
    /// The image that the rescue disk is made from.
    pub image: ImageRef,
    /// How far it is.
    pub stage: RescueStage,
}

/// How far a rescue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RescueStage {
    /// The rescue disk is being made; the guest is as it was.
    Preparing,
    /// The domain is off, and is defined with the rescue disk.
    Entering,
    /// The domain is defined with the rescue disk.
    Entered,
    /// The domain is off, and is defined without the rescue disk.
    Leaving,
}

impl RootRecord {
    /// The image that the machine boots from a rescue disk of, if it does.
    pub fn rescued_with(&self) -> Option<&ImageRef> {
        let rescue = self.rescue.as_ref()?;
        matches!(rescue.stage, RescueStage::Entering | RescueStage::Entered).then_some(&rescue.image)
    }
}

/// The image that an Instance's root disk was made from, or is to be made from when there is none yet.
pub fn root_image<'a>(instance: &'a Instance, record: &'a RootRecord) -> Option<&'a ImageRef> {
    let told = instance.status.as_ref().and_then(|status| status.image.as_ref());
    record.image.as_ref().or(told).or(instance.spec.image.as_ref())
}

/// What there is for a root disk to be exchanged, beside the root disk itself.
#[derive(Clone, Debug, Default)]
pub struct RootSeen {
    /// What is noted.
    pub record: RootRecord,
    /// Whether the next root disk and the next seed are there.
    pub next: bool,
    /// Why the image that spec names can't be rebuilt from, beyond its size.
    pub misfit: Option<String>,
    /// Why the rescue image makes no machine.
    pub rescue_misfit: Option<String>,
    /// Whether the rescue disk is there.
    pub rescue_disk: bool,
    /// The image that it is to be rescued with; absent when that isn't asked for.
    pub rescue_image: Option<Image>,
    /// What there is for a machine to be resized.
    pub resize: ResizeSeen,
}

/// What is to be done about the root disk now.
#[derive(Debug)]
pub(super) enum Work {
    /// Nothing.
    Nothing,
    /// Something that has to wait, and why. Its effects bring it nearer, and leave the machine alone.
    Waits {
        why: Option<Aspect>,
        effects: Vec<Effect>,
        again: Option<Duration>,
    },
    /// This, instead of what the power state asks for.
    Now(Step),
}

impl Work {
    pub fn waits(why: Aspect) -> Self {
        Self::Waits {
            why: Some(why),
            effects: Vec::new(),
            again: None,
        }
    }

    pub fn later(again: Duration) -> Self {
        Self::Waits {
            why: None,
            effects: Vec::new(),
            again: Some(again),
        }
    }

    /// Whether it asks for nothing but to be looked at again.
    fn is_idle(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Waits { why, effects, .. } => why.is_none() && effects.is_empty(),
            Self::Now(_) => false,
        }
    }

    fn again(&self) -> Option<Duration> {
        match self {
            Self::Waits { again, .. } => *again,
            Self::Nothing | Self::Now(_) => None,
        }
    }

    pub fn now(task: &'static str, effects: Vec<Effect>) -> Self {
        Self::Now(Step::act(task, effects))
    }
}

/// What is to be done about the root disk now. `power` is the domain's; absent when there is no domain.
pub(super) fn work(instance: &Instance, seen: &Seen, wish: &Wish, power: Option<Power>, now: Timestamp) -> Work {
    // What is half done is ended before anything else begins.
    let exchanging = seen
        .root
        .record
        .rebuild
        .is_some_and(|r| r.stage == RebuildStage::Exchanging);
    if exchanging {
        return rebuild::work(instance, seen, wish, power, now);
    }
    let exchange = exchange(instance, seen, wish, power, now);
    let open = seen.root.record.resize.as_ref().filter(|resize| resize.is_open());
    if open.is_none() && !exchange.is_idle() {
        return exchange;
    }
    match (resize::work(instance, seen, wish, power, now), open) {
        (Work::Nothing, Some(resize)) if !exchange.is_idle() => Work::waits(resize::unconfirmed(resize)),
        (Work::Nothing, _) => exchange,
        (Work::Waits { why, effects, again }, _) => Work::Waits {
            why,
            effects,
            again: again.into_iter().chain(exchange.again()).min(),
        },
        (work @ Work::Now(_), _) => work,
    }
}

fn exchange(instance: &Instance, seen: &Seen, wish: &Wish, power: Option<Power>, now: Timestamp) -> Work {
    match rescue::work(instance, seen, wish, power, now) {
        Work::Nothing => rebuild::work(instance, seen, wish, power, now),
        work => work,
    }
}

/// What a domain is asked to do before its disks can be exchanged; `None` once it is off.
pub(super) fn down(task: &'static str, wish: &Wish, power: Option<Power>, seen: &Seen, now: Timestamp) -> Option<Step> {
    let step = match power? {
        Power::Off(_) => return None,
        Power::Running | Power::ShuttingDown => power::stop(seen.power, now, power::STOP_GRACE),
        // None of these hears the power button.
        Power::Crashed | Power::IoError | Power::Sleeping => Step::act(task, vec![Effect::Destroy]),
        Power::BrokenSave => Step::act(task, vec![Effect::DiscardSaved]),
        // It is to hear the power button first.
        Power::Paused | Power::Saved | Power::Saving => return Some(power::step(wish, power?, seen.power, now)),
    };
    Some(Step { task, ..step })
}

/// Whether the power state that is asked for is one that the root disk can be exchanged in: Nova's active and stopped.
/// Nova's error is either, here.
pub(super) fn allows(wish: &Wish) -> bool {
    matches!(wish.power, PowerState::Running | PowerState::Stopped)
}

/// What a machine can't be defined without, beside its root disk.
pub(super) fn unmet(instance: &Instance, seen: &Seen) -> Option<Aspect> {
    let network = needs::network(instance, seen);
    needs::volumes(seen).or_else(|| (!network.met).then_some(network.aspect))
}

/// Whether the machine is set up to boot from a rescue disk.
pub(super) fn is_rescued(seen: &Seen) -> bool {
    matches!(seen.domain, Domain::Defined(_)) && seen.root.record.rescued_with().is_some()
}
