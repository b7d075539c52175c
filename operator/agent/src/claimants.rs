//! Which Instances on this node name a volume or have it, and which of them is it?

use std::path::Path;

use kube::ResourceExt;
use uuid::Uuid;
use virga_core::volume::{Claimant, volume_names};
use virga_crds::Instance;
use virga_hypervisor::Kind;

use crate::{host::Host, plugged::has_file};

/// The Instances on this node that name a volume, or whose domain has its file though they name it no more. `but` is left
/// out.
pub async fn claimants(host: &Host, namespace: &str, volume: &str, file: &Path, but: Option<Uuid>) -> Vec<Claimant> {
    let instances = host.stores.instances.state();
    let near = instances
        .into_iter()
        .filter(|instance| instance.namespace().as_deref() == Some(namespace));
    let mut claimants = Vec::new();
    for instance in near {
        let Some(uid) = instance.uid().and_then(|uid| uid.parse::<Uuid>().ok()) else {
            continue;
        };
        if Some(uid) == but {
            continue;
        }
        let names = volume_names(&instance).any(|name| name == volume);
        let has = has(host, &instance, uid, volume, file, names).await;
        if names || has {
            claimants.push(Claimant {
                without_it: !has,
                created: instance.metadata.creation_timestamp.as_ref().map(|time| time.0),
                uid: uid.to_string(),
                name: instance.name_any(),
            });
        }
    }
    claimants
}

/// Whether an Instance's domain has a file. One that can't be looked at has what it had; of one that never could be, what
/// is known from the API is believed: nobody takes it away.
async fn has(host: &Host, instance: &Instance, uid: Uuid, volume: &str, file: &Path, names: bool) -> bool {
    match host.plugged.of(host, uid).await {
        Ok(devices) => has_file(&devices, file),
        Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Foreign) => false,
        Err(_) => host.plugged.last(uid).map_or_else(
            || names || is_told_of(host, instance, volume),
            |devices| has_file(&devices, file),
        ),
    }
}

fn is_told_of(host: &Host, instance: &Instance, volume: &str) -> bool {
    let known = host.stores.volume(&instance.namespace().unwrap_or_default(), volume);
    let status = known.as_ref().and_then(|volume| volume.status.as_ref());
    let mut attachments = status.into_iter().flat_map(|status| &status.attachments);
    attachments.any(|attachment| attachment.instance == instance.name_any())
}
