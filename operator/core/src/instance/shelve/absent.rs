//! What is done about an Instance that was shelved and has no domain? The rest of it is removed, or it is made anew from its
//! Image.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use virga_crds::{Bytes, Instance, InstanceStatus, ShelveStatus, conditions::Reason};

use super::{disk::is_safe, is_asked, offloaded_in, shelved};
use crate::instance::{
    effect::{Effect, Plan},
    needs::{self, Aspect, Need},
    seen::{Cache, Domain, Seen},
    status::{Story, tell},
};

/// How soon to look again once the Instance is told to be this host's.
const SOON: Duration = Duration::from_secs(1);
/// What is under way, in Nova's words for users.
pub(super) const OFFLOADING: &str = "offloading";
const UNSHELVING: &str = "unshelving";

/// What takes all of it away.
pub(super) fn removal(instance: &Instance) -> Vec<Effect> {
    let ports = (!instance.spec.interfaces.is_empty()).then_some(Effect::ReleasePorts);
    ports.into_iter().chain([Effect::Offload]).collect()
}

/// What is done about one that was shelved and has no domain. Nothing: it is built as any other.
pub(in crate::instance) fn absent(instance: &Instance, seen: &Seen, now: Timestamp) -> Option<Plan> {
    let told = shelved(instance)?;
    if !is_asked(instance) {
        return claimed(instance, seen, told, now);
    }
    let due = offloaded_in(instance, seen, told, now).is_some_and(|wait| wait.is_zero());
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
pub(super) const NO_HOST: &str =
    "it is shelved, and on no host: to have it back, set spec.powerState to Running or Stopped";

pub(super) fn where_it_is(told: &ShelveStatus) -> String {
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

/// The root disk of one that was shelved, from its Image. Nothing: it was not, or is on a host.
pub(in crate::instance) fn root_disk(instance: &Instance, seen: &Seen) -> Option<Need> {
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
