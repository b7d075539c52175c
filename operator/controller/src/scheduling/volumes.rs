//! Which volumes does an Instance name, and which host has them?

use std::{collections::BTreeSet, sync::Arc};

use kube::ResourceExt;
use virga_crds::{Instance, Volume, conditions::Reason};
use virga_scheduler::OnlyHosts;

use super::{
    missing::{Named, key, missing},
    obstacle::Obstacle,
};
use crate::stores::Stores;

/// The volumes that it names, each with its field; its boot volume first.
pub(crate) fn named(instance: &Instance) -> impl Iterator<Item = (String, &str)> {
    let boot = instance.spec.boot_volume.iter();
    let boot = boot.map(|name| ("spec.bootVolume".to_owned(), name.as_str()));
    let others = instance.spec.volumes.iter();
    boot.chain(others.map(|volume| (format!("spec.volumes[{}]", volume.name), volume.name.as_str())))
}

/// The volumes that it names and that exist, its boot volume first.
pub(super) fn volumes(
    instance: &Instance,
    namespace: &str,
    stores: &Stores,
    obstacles: &mut Vec<Obstacle>,
) -> Vec<Arc<Volume>> {
    let mut found = Vec::new();
    for (field, name) in named(instance) {
        match stores.volume(namespace, name) {
            Some(volume) if volume.metadata.deletion_timestamp.is_none() => found.push(volume),
            Some(_) => obstacles.push(Obstacle {
                reason: Reason::VolumeNotFound,
                field,
                message: format!("the Volume {name:?} is being deleted: wait until it is gone and create it anew"),
                waits_for: key("Volume", namespace, name),
                stuck: false,
            }),
            None => {
                let known = stores.volumes.state();
                let here = |volume: &&Arc<Volume>| volume.namespace().as_deref() == Some(namespace);
                let known = known.iter().filter(here).map(|volume| volume.name_any());
                obstacles.push(missing(
                    Named::Volume,
                    &field,
                    Some((namespace, namespace)),
                    name,
                    known,
                ));
            }
        }
    }
    found
}

/// The one host that holds its volumes, if any does.
pub(super) fn holders(volumes: &[Arc<Volume>], obstacles: &mut Vec<Obstacle>) -> Option<OnlyHosts> {
    let mut bound = volumes
        .iter()
        .filter_map(|volume| Some((volume, volume.spec.node_name.as_deref()?)));
    let (first, host) = bound.next()?;
    let namespace = first.namespace().unwrap_or_default();
    if let Some((other, elsewhere)) = bound.find(|(_, node)| *node != host) {
        obstacles.push(Obstacle {
            reason: Reason::VolumeAttachedElsewhere,
            field: "spec.volumes".into(),
            message: format!(
                "the Volume {:?} is on {host} and {:?} on {elsewhere}: no host has both; copy one of them",
                first.name_any(),
                other.name_any()
            ),
            waits_for: key("Volume", &namespace, &other.name_any()),
            stuck: true,
        });
    }
    let reason = format!("volume {namespace}/{} is on {host}", first.name_any());
    Some(OnlyHosts {
        hosts: BTreeSet::from([host.to_owned()]),
        reason,
    })
}
