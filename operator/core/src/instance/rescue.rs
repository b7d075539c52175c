//! Is the machine to boot from a rescue disk, and what is the next step there or back?

use jiff::Timestamp;
use virga_crds::{BuiltFlavor, Bytes, ImageRef, Instance, conditions::Reason};

use super::{
    effect::Effect,
    needs::{self, Aspect},
    power::Wish,
    root::{RescueRecord, RescueStage, RootRecord, Work, allows, down, root_image, unmet},
    seen::{Image, Power, Seen},
};

const TASK: &str = "rescuing";
const BACK: &str = "leaving the rescue";

/// The next step into a rescue or out of it.
pub(super) fn work(instance: &Instance, seen: &Seen, wish: &Wish, power: Option<Power>, now: Timestamp) -> Work {
    let record = &seen.root.record;
    let wanted = instance.spec.rescue.is_some();
    match record.rescue.as_ref().map(|rescue| rescue.stage) {
        None | Some(RescueStage::Preparing) if wanted => enter(instance, seen, wish, power, now),
        // Taken back before anything of the machine was changed.
        Some(RescueStage::Preparing) => Work::Waits {
            why: None,
            effects: vec![Effect::RemoveRescueDisk, note(record, None)],
            again: None,
        },
        None => Work::Nothing,
        Some(RescueStage::Entered) if wanted => Work::Nothing,
        Some(RescueStage::Entering) => match down(TASK, wish, power, seen, now) {
            Some(step) => Work::Now(step),
            None => Work::now(TASK, entering(seen, record)),
        },
        Some(RescueStage::Entered | RescueStage::Leaving) => leave(instance, seen, wish, power, now),
    }
}

fn enter(instance: &Instance, seen: &Seen, wish: &Wish, power: Option<Power>, now: Timestamp) -> Work {
    if !allows(wish) {
        return Work::waits(Aspect::stuck(
            Reason::StateForbids,
            "spec.rescue: only what should run or be stopped is rescued: set spec.powerState to Running or Stopped, or \
             take the rescue out",
        ));
    }
    let Some(image) = wanted_image(instance, seen) else {
        return Work::waits(Aspect::stuck(
            Reason::Invalid,
            "spec.rescue.image must be given: what boots from a volume has no image of its own",
        ));
    };
    if let Some(why) = unmet(instance, seen) {
        return Work::waits(why);
    }
    let record = &seen.root.record;
    let rescue = |stage| RescueRecord {
        image: image.clone(),
        stage,
    };
    let preparing = record.rescue.as_ref() == Some(&rescue(RescueStage::Preparing));
    if !(preparing && seen.root.rescue_disk) {
        return prepare(seen, &rescue(RescueStage::Preparing), preparing);
    }
    if let Some(step) = down(TASK, wish, power, seen, now) {
        return Work::Now(step);
    }
    let entering_now = RootRecord {
        rescue: Some(rescue(RescueStage::Entering)),
        ..record.clone()
    };
    let mut effects = vec![Effect::RecordRoot(Box::new(entering_now.clone()))];
    effects.extend(entering(seen, &entering_now));
    Work::now(TASK, effects)
}

/// The steps from a domain that is off to one that boots from the rescue disk.
fn entering(seen: &Seen, record: &RootRecord) -> Vec<Effect> {
    vec![
        Effect::Define,
        Effect::RecordPower(seen.power.cleared()),
        note(record, Some(RescueStage::Entered)),
    ]
}

/// Makes the rescue disk while the guest runs.
fn prepare(seen: &Seen, rescue: &RescueRecord, noted: bool) -> Work {
    let Some(flavor) = &seen.flavor else {
        return Work::Nothing;
    };
    // The rescue disk is as large as its image: it is none of the Flavor's.
    let flavor = BuiltFlavor {
        disk: Bytes::ZERO,
        ..flavor.clone()
    };
    let need = match &seen.root.rescue_image {
        None => return Work::Nothing,
        Some(Image::NotFound(message)) => {
            return Work::waits(Aspect::waits(
                Reason::ImageNotFound,
                format!("spec.rescue.image: {message}"),
            ));
        }
        Some(Image::Known {
            uid, min_memory, cache, ..
        }) => needs::from_image(uid, cache, &flavor, Bytes::ZERO, *min_memory),
    };
    let [Effect::CreateRootDisk { uid, size }] = need.effects.as_slice() else {
        let why = Aspect {
            message: format!("spec.rescue.image: {}", need.aspect.message),
            ..need.aspect
        };
        return Work::Waits {
            why: Some(why),
            effects: need.effects,
            again: None,
        };
    };
    if let Some(misfit) = &seen.root.rescue_misfit {
        return Work::waits(Aspect::stuck(Reason::ImageDoesNotFit, misfit));
    }
    let mut effects = Vec::new();
    if !noted {
        let record = RootRecord {
            rescue: Some(rescue.clone()),
            ..seen.root.record.clone()
        };
        // What an earlier one left behind may be of another image.
        effects.extend([Effect::RemoveRescueDisk, Effect::RecordRoot(Box::new(record))]);
    }
    effects.push(Effect::CreateRescueDisk {
        uid: uid.clone(),
        size: *size,
    });
    Work::Waits {
        why: Some(Aspect::waits(Reason::Building, "the rescue disk is being made")),
        effects,
        again: None,
    }
}

fn leave(instance: &Instance, seen: &Seen, wish: &Wish, power: Option<Power>, now: Timestamp) -> Work {
    let record = &seen.root.record;
    let leaving = record.rescue.as_ref().map(|rescue| rescue.stage) == Some(RescueStage::Leaving);
    if !leaving && !allows(wish) {
        return Work::waits(Aspect::stuck(
            Reason::StateForbids,
            "spec.rescue: the rescue is left only when the Instance should run or be stopped: set spec.powerState to \
             Running or Stopped",
        ));
    }
    if let Some(why) = unmet(instance, seen) {
        return Work::waits(why);
    }
    if let Some(step) = down(BACK, wish, power, seen, now) {
        return Work::Now(step);
    }
    let mut effects = Vec::new();
    if !leaving {
        effects.push(note(record, Some(RescueStage::Leaving)));
    }
    effects.extend([
        Effect::Define,
        Effect::RemoveRescueDisk,
        Effect::RecordPower(seen.power.cleared()),
        note(record, None),
    ]);
    Work::now(BACK, effects)
}

/// Notes how far the rescue is; that there is none any more without a stage.
fn note(record: &RootRecord, stage: Option<RescueStage>) -> Effect {
    let rescue = record.rescue.clone().zip(stage);
    Effect::RecordRoot(Box::new(RootRecord {
        rescue: rescue.map(|(rescue, stage)| RescueRecord { stage, ..rescue }),
        ..record.clone()
    }))
}

/// The image that it is to be rescued with: its own when none is named.
fn wanted_image(instance: &Instance, seen: &Seen) -> Option<ImageRef> {
    let named = instance.spec.rescue.as_ref()?.image.as_ref();
    named.or_else(|| root_image(instance, &seen.root.record)).cloned()
}
