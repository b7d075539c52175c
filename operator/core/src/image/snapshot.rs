//! Which host makes an image from an Instance's disk, and which keeps it?

use virga_crds::{CachedImageState, Image, ImageStatus, Instance, SnapshotStatus, conditions::Reason};

use super::plan::Report;
use crate::{
    condition::{Conditions, Progress},
    instance::is_shelved_away,
};

/// Who makes an image.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Maker {
    /// This node, with what the image has from the Instance.
    Node { node: String, from: SnapshotStatus },
    /// Nobody, now or for ever.
    Nobody {
        progress: Progress,
        reason: Reason,
        message: String,
    },
}

fn waits(reason: Reason, message: String) -> Maker {
    let progress = Progress::Working;
    Maker::Nobody {
        progress,
        reason,
        message,
    }
}

fn refused(reason: Reason, message: String) -> Maker {
    let progress = Progress::Stuck;
    Maker::Nobody {
        progress,
        reason,
        message,
    }
}

/// Who makes an image of this Instance's disk: the host that has the disk. `base` is the Image that the Instance was made
/// from, if that is there still.
pub(super) fn maker(
    image: &Image,
    instance: Option<&Instance>,
    base: Option<&Image>,
    alive: impl Fn(&str) -> bool,
) -> Maker {
    let name = image.spec.source.instance.as_ref().map_or("", |source| &source.name);
    let before = image.status.as_ref().and_then(|status| status.snapshot.as_ref());
    let same =
        |instance: &&Instance| before.is_none_or(|before| Some(&before.instance_uid) == instance.metadata.uid.as_ref());
    let Some(instance) = instance.filter(same) else {
        return if before.is_some() {
            let message = format!("the Instance {name} was deleted before its disk was copied: delete this Image");
            refused(Reason::InstanceNotFound, message)
        } else {
            let message = format!("spec.source.instance: there is no Instance {name:?} in this namespace: create it");
            waits(Reason::InstanceNotFound, message)
        };
    };
    if let Some(volume) = &instance.spec.boot_volume {
        let message = format!(
            "spec.source.instance: {name} boots from Volume {volume}, and volumes can't be copied yet: name an Instance \
             whose root disk was made from an Image"
        );
        return refused(Reason::Invalid, message);
    }
    if is_shelved_away(instance) {
        let message =
            format!("spec.source.instance: {name} is shelved, and its disk on no host: it is copied when it is back");
        return waits(Reason::StateForbids, message);
    }
    let status = instance.status.as_ref();
    let (Some(node), Some(flavor)) = (
        &instance.spec.node_name,
        status.and_then(|status| status.flavor.as_ref()),
    ) else {
        let message = format!("spec.source.instance: {name} is not built yet: its disk is copied when it is");
        return waits(Reason::StateForbids, message);
    };
    if instance.metadata.deletion_timestamp.is_some() && before.is_none() {
        let message = format!("spec.source.instance: {name} is being deleted: name another Instance");
        return waits(Reason::StateForbids, message);
    }
    if !alive(node) {
        let message = format!("the disk of {name} is on {node}, which is not Ready: it is copied when that is back");
        return waits(Reason::NodeLost, message);
    }
    let from = before.cloned().unwrap_or_else(|| SnapshotStatus {
        instance_uid: instance.metadata.uid.clone().unwrap_or_default(),
        min_disk: flavor.disk,
        min_memory: base.map(|base| base.spec.min_memory).unwrap_or_default(),
        properties: base.map(|base| base.spec.properties.clone()).unwrap_or_default(),
    });
    Maker::Node {
        node: node.clone(),
        from,
    }
}

/// An image that was made, with the host that keeps its copy: the one that has it so far, or another that has it when
/// that one is away. With `conditions` begun from the old ones.
pub(super) fn kept(status: ImageStatus, reports: &[Report<'_>], mut conditions: Conditions) -> ImageStatus {
    let mut holders: Vec<&str> = reports
        .iter()
        .filter(|report| report.image.state == CachedImageState::Cached)
        .map(|report| report.node)
        .collect();
    holders.sort_unstable();
    let before = status.keeper.clone();
    if holders.is_empty() {
        let place = before.as_deref().map_or_else(
            || "it is nowhere".to_owned(),
            |node| format!("it was last seen on {node}"),
        );
        let message = format!(
            "no Ready host has its only copy: {place}: bring that host back; Instances that run from it there go on"
        );
        conditions.set_ready(Progress::Working, Reason::OnlyCopyAway, message);
        return ImageStatus {
            conditions: conditions.into_vec(),
            ..status
        };
    }
    let stays = before.filter(|node| holders.contains(&node.as_str()));
    ImageStatus {
        keeper: stays.or_else(|| holders.first().map(|node| (*node).to_owned())),
        ..status
    }
}

/// Whether a node has to keep its copy of an image, because it may be the only one.
pub fn must_keep(image: &Image, node: &str) -> bool {
    let status = image.status.as_ref();
    let keeper = status.and_then(|status| status.keeper.as_deref());
    let others = status.and_then(|status| status.nodes).map_or(0, |nodes| nodes.cached);
    // A new keeper is believed only when its copy is counted too.
    image.spec.source.instance.is_some() && (keeper.is_none_or(|keeper| keeper == node) || others < 2)
}

#[cfg(test)]
mod tests;
