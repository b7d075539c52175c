//! What is there of a Volume, and who has it?

use std::io;

use kube::ResourceExt;
use uuid::Uuid;
use virga_core::{
    instance::{Domain, Power},
    volume::{Attached, Claimant, Seen, Use, device},
};
use virga_crds::{Bytes, Instance, Volume};
use virga_images::Format;

use crate::{
    host::Host,
    instance::{EffectError, find_image, look_at_domain, volume_names},
};

/// Looks.
pub(super) async fn seen(host: &Host, volume: &Volume, uid: Uuid) -> Result<Seen, EffectError> {
    let namespace = volume.namespace().unwrap_or_default();
    let path = host.layout.volume(uid);
    let file = match tokio::fs::symlink_metadata(&path).await {
        Ok(_) => Some(Bytes(host.disks.info(&path, Format::Qcow2).await?.virtual_size)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(source) => {
            let doing = format!("looking for {}", path.display());
            return Err(EffectError::Io { doing, source });
        }
    };
    let source = volume.spec.source.as_ref();
    Ok(Seen {
        node: host.node.clone(),
        file,
        image: source.map(|source| find_image(host, &namespace, &source.image)),
        attached: attached(host, volume, uid, &namespace).await,
    })
}

/// The Instance whose domain has the volume, or that was promised it.
async fn attached(host: &Host, volume: &Volume, uid: Uuid, namespace: &str) -> Option<Attached> {
    let all = claimants(host, namespace, &volume.name_any(), None).await;
    let holder = all
        .iter()
        .find(|claimant| !claimant.without_domain)
        .cloned()
        .or_else(|| host.claims.claimed_by(uid, &all));
    let holder = match holder {
        None if volume.metadata.deletion_timestamp.is_some() => host.claims.delete(uid, &all).err(),
        holder => holder,
    }?;
    let instance = host
        .stores
        .instances
        .find(|instance| instance.metadata.uid.as_deref() == Some(&holder.uid))?;
    let domain = look_at_domain(host, holder.uid.parse().ok()?).await;
    Some(Attached {
        instance: holder.name,
        device: place(&instance, &volume.name_any()),
        use_: match domain {
            Domain::Defined(Power::Off(_)) | Domain::Absent | Domain::Foreign(_) => Use::Closed,
            Domain::Defined(_) => Use::Open,
            Domain::Unreachable(_) => Use::Unknown,
        },
        uid: holder.uid,
    })
}

fn place(instance: &Instance, volume: &str) -> String {
    let place = volume_names(instance)
        .position(|name| name == volume)
        .unwrap_or_default();
    // With an image, the root disk comes before all volumes.
    device(place + usize::from(instance.spec.image.is_some()))
}

/// The Instances on this node that name a volume, and whether they have it already. `but` is left out.
pub async fn claimants(host: &Host, namespace: &str, volume: &str, but: Option<Uuid>) -> Vec<Claimant> {
    let instances = host.stores.instances.state();
    let naming = instances
        .into_iter()
        .filter(|instance| instance.namespace().as_deref() == Some(namespace))
        .filter(|instance| volume_names(instance).any(|name| name == volume));
    let mut claimants = Vec::new();
    for instance in naming {
        let Some(uid) = instance.uid().and_then(|uid| uid.parse::<Uuid>().ok()) else {
            continue;
        };
        if Some(uid) == but {
            continue;
        }
        let domain = look_at_domain(host, uid).await;
        claimants.push(Claimant {
            // One that can't be looked at may have it: nobody takes it away.
            without_domain: matches!(domain, Domain::Absent | Domain::Foreign(_)),
            created: instance.metadata.creation_timestamp.as_ref().map(|time| time.0),
            uid: uid.to_string(),
            name: instance.name_any(),
        });
    }
    claimants
}
