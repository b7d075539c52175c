//! Is the root disk of a shelved Instance in its Image, and may it go?

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use virga_crds::{Bytes, Instance, ShelveStatus, conditions::Reason};

use super::image::{ShelvedImage, shelved_image_name};
use crate::instance::{
    needs::Aspect,
    seen::{Cache, Seen},
};

/// What tells whether a disk was written to: each write changes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskMark {
    /// When its file was last written to, as its file system says.
    pub written: Timestamp,
    /// How long its file is.
    pub bytes: Bytes,
}

/// How its Image stands towards this shelving.
pub(super) enum Stands<'a> {
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

pub(super) fn stands(seen: &Seen, round: Timestamp) -> Stands<'_> {
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

/// Whether the root disk may go: it is a Volume, or this node has a verified copy of the very Image that was told of, and
/// nobody has written to the disk since it was copied.
pub(super) fn is_safe(instance: &Instance, seen: &Seen, told: &ShelveStatus) -> bool {
    let copied =
        || matches!(stands(seen, told.stopped_at.0), Stands::Whole(digest) if told.digest.as_deref() == Some(digest));
    instance.spec.boot_volume.is_some() || copied() && !is_written(seen)
}

/// Whether somebody has written to the root disk since it was noted that it is off for being shelved. A guest that somebody
/// started by hand and that ended while no agent looked leaves no other trace.
pub(super) fn is_written(seen: &Seen) -> bool {
    seen.root_disk && seen.power.shelved_disk != seen.shelve.disk
}

/// What is said while the Image is not whole.
pub(super) fn waits_for_image(instance: &Instance, seen: &Seen, round: Timestamp) -> Aspect {
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
