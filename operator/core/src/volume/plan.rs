use std::time::Duration;

use jiff::Timestamp;
use virga_crds::{
    Bytes, Volume, VolumeAttachmentStatus, VolumeDeletionPolicy, VolumeState, VolumeStatus, conditions::Reason,
    finalizers,
};

use super::seen::{Seen, Use};
use crate::{
    condition::{Conditions, Progress},
    instance::{Cache, Image},
};

/// How soon to look again for libvirt, should the event of its return get lost.
const LIBVIRT_AGAIN: Duration = Duration::from_secs(10);

/// One thing to do. Each is idempotent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Begin to fetch the image into the node's cache. Doesn't wait for it.
    PullImage {
        /// The Image's uid.
        uid: String,
    },
    /// Make an empty file.
    CreateBlank {
        /// How large.
        size: Bytes,
    },
    /// Make a file with the image's data.
    CreateFromImage {
        /// The Image's uid.
        uid: String,
        /// How large.
        size: Bytes,
    },
    /// Make the file larger, while no guest has it open.
    Extend {
        /// How large.
        size: Bytes,
    },
    /// Have QEMU make it larger, and tell the guest.
    ExtendLive {
        /// The Instance's uid.
        instance: String,
        /// The device.
        device: String,
        /// How large.
        size: Bytes,
    },
    /// Remove the file.
    RemoveFile,
    /// Move the file to where retained ones are.
    RetainFile,
    /// Let the Volume go.
    RemoveFinalizer,
}

impl Effect {
    /// The name of metrics and logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::PullImage { .. } => "PullImage",
            Self::CreateBlank { .. } => "CreateBlank",
            Self::CreateFromImage { .. } => "CreateFromImage",
            Self::Extend { .. } => "Extend",
            Self::ExtendLive { .. } => "ExtendLive",
            Self::RemoveFile => "RemoveFile",
            Self::RetainFile => "RetainFile",
            Self::RemoveFinalizer => "RemoveFinalizer",
        }
    }
}

/// What to do about a Volume, and what to tell its user meanwhile.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// To be carried out in this order, up to the first that fails.
    pub effects: Vec<Effect>,
    /// What to publish; absent when this agent has no say in it.
    pub status: Option<VolumeStatus>,
    /// When to look again, if nothing changes before.
    pub again: Option<Duration>,
}

/// How a volume stands, before it is put into the API's fields.
struct Story {
    state: VolumeState,
    progress: Progress,
    reason: Reason,
    message: String,
}

impl Story {
    fn working(state: VolumeState, reason: Reason, message: impl Into<String>) -> Self {
        Self {
            state,
            progress: Progress::Working,
            reason,
            message: message.into(),
        }
    }

    fn stuck(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            state: VolumeState::Error,
            progress: Progress::Stuck,
            reason,
            message: message.into(),
        }
    }
}

/// What an agent does about a Volume next. Pure and total.
pub fn plan(volume: &Volume, seen: &Seen, now: Timestamp) -> Plan {
    if volume.spec.node_name.as_deref() != Some(seen.node.as_str()) {
        return Plan::default();
    }
    let (effects, story, again) = if volume.metadata.deletion_timestamp.is_some() {
        delete(volume, seen)
    } else if let Some(size) = seen.file {
        keep(volume, seen, size)
    } else {
        let (effects, story) = create(volume, seen);
        (effects, story, None)
    };
    let goes = effects.contains(&Effect::RemoveFinalizer);
    Plan {
        // What is about to be gone is not reported on.
        status: story.filter(|_| !goes).map(|story| tell(volume, seen, story, now)),
        effects,
        again,
    }
}

type Decision = (Vec<Effect>, Option<Story>, Option<Duration>);

fn delete(volume: &Volume, seen: &Seen) -> Decision {
    let mut finalizers = volume.metadata.finalizers.iter().flatten();
    let ours = finalizers.any(|finalizer| finalizer == finalizers::AGENT);
    if let Some(attached) = &seen.attached {
        let story = Story::working(
            VolumeState::Deleting,
            Reason::InUse,
            format!("Instance {} uses it: it is deleted when that one is", attached.instance),
        );
        return (Vec::new(), Some(story), None);
    }
    let mut effects = Vec::new();
    if seen.file.is_some() {
        effects.push(match volume.spec.deletion_policy {
            VolumeDeletionPolicy::Delete => Effect::RemoveFile,
            VolumeDeletionPolicy::Retain => Effect::RetainFile,
        });
    }
    if ours {
        effects.push(Effect::RemoveFinalizer);
    }
    (effects, None, None)
}

fn create(volume: &Volume, seen: &Seen) -> (Vec<Effect>, Option<Story>) {
    let size = volume.spec.size;
    let making = |message: &str| Story::working(VolumeState::Creating, Reason::Building, message);
    if volume.status.as_ref().is_some_and(|status| status.size.is_some()) {
        let story = Story::stuck(
            Reason::HypervisorError,
            format!(
                "its file is gone from {}: restore it there, or delete the Volume",
                seen.node
            ),
        );
        return (Vec::new(), Some(story));
    }
    let Some(image) = &seen.image else {
        return (vec![Effect::CreateBlank { size }], Some(making("making the file")));
    };
    let pulling = |message: String| Story::working(VolumeState::Creating, Reason::ImagePulling, message);
    match image {
        Image::NotFound(message) => (
            Vec::new(),
            Some(Story::working(VolumeState::Creating, Reason::ImageNotFound, message)),
        ),
        Image::Known { uid, cache, .. } => match cache {
            Cache::Absent => (
                vec![Effect::PullImage { uid: uid.clone() }],
                Some(pulling("fetching the image".into())),
            ),
            Cache::Pulling(None) => (Vec::new(), Some(pulling("fetching the image".into()))),
            Cache::Pulling(Some(percent)) => (Vec::new(), Some(pulling(format!("fetching the image: {percent} %")))),
            Cache::Invalid(message) => (Vec::new(), Some(Story::stuck(Reason::ImageInvalid, message))),
            Cache::Unreachable(message) => (
                Vec::new(),
                Some(Story::working(VolumeState::Creating, Reason::ImageUnreachable, message)),
            ),
            Cache::Cached { virtual_size } if *virtual_size > size => (
                Vec::new(),
                Some(Story::stuck(
                    Reason::ImageDoesNotFit,
                    format!("the image's disk has {virtual_size}, and spec.size is {size}: make it larger"),
                )),
            ),
            Cache::Cached { .. } => (
                vec![Effect::CreateFromImage { uid: uid.clone(), size }],
                Some(making("copying the image")),
            ),
        },
    }
}

fn keep(volume: &Volume, seen: &Seen, size: Bytes) -> Decision {
    let wanted = sectors(volume.spec.size);
    if size > wanted {
        let message = format!("it has {size} and can't be made smaller: set spec.size to at least that");
        return (Vec::new(), Some(Story::stuck(Reason::ResizeFailed, message)), None);
    }
    if size == wanted {
        let story = match &seen.attached {
            Some(attached) => Story {
                state: VolumeState::InUse,
                progress: Progress::Done,
                reason: Reason::Attached,
                message: format!("Instance {} uses it", attached.instance),
            },
            None => Story {
                state: VolumeState::Available,
                progress: Progress::Done,
                reason: Reason::Available,
                message: "nothing uses it".into(),
            },
        };
        return (Vec::new(), Some(story), None);
    }
    let extending = |message: String| Some(Story::working(VolumeState::Extending, Reason::Building, message));
    let grow = format!("growing from {size} to {wanted}");
    match &seen.attached {
        None => (vec![Effect::Extend { size: wanted }], extending(grow), None),
        Some(attached) => match attached.use_ {
            Use::Closed => (vec![Effect::Extend { size: wanted }], extending(grow), None),
            Use::Open => {
                let effect = Effect::ExtendLive {
                    instance: attached.uid.clone(),
                    device: attached.device.clone(),
                    size: wanted,
                };
                (vec![effect], extending(grow), None)
            }
            Use::Unknown => {
                let message = format!("{grow} waits for libvirt: Instance {} uses it", attached.instance);
                (Vec::new(), extending(message), Some(LIBVIRT_AGAIN))
            }
        },
    }
}

/// Disks have whole sectors.
fn sectors(size: Bytes) -> Bytes {
    Bytes(size.0.next_multiple_of(512))
}

fn tell(volume: &Volume, seen: &Seen, story: Story, now: Timestamp) -> VolumeStatus {
    let old = volume.status.clone().unwrap_or_default();
    let mut conditions = Conditions::new(&old.conditions, volume.metadata.generation, now);
    conditions.set_ready(story.progress, story.reason, story.message);
    VolumeStatus {
        observed_generation: volume.metadata.generation,
        state: Some(story.state),
        size: seen.file.or(old.size),
        attachments: seen
            .attached
            .iter()
            .map(|attached| VolumeAttachmentStatus {
                instance: attached.instance.clone(),
                node: seen.node.clone(),
                device: attached.device.clone(),
            })
            .collect(),
        conditions: conditions.into_vec(),
    }
}

/// The status after an effect failed: the plan's own, with what went wrong.
pub fn after_failure(
    volume: &Volume,
    status: &VolumeStatus,
    reason: Reason,
    message: &str,
    now: Timestamp,
) -> VolumeStatus {
    let old = volume.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let mut conditions = Conditions::new(old, volume.metadata.generation, now);
    conditions.set_ready(Progress::Working, reason, message);
    VolumeStatus {
        conditions: conditions.into_vec(),
        ..status.clone()
    }
}

#[cfg(test)]
mod tests;
