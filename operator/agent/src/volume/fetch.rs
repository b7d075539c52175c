//! What is there of a Volume, and who has it?

use std::io;

use kube::ResourceExt;
use uuid::Uuid;
use virga_core::{
    instance::{Domain, Power},
    volume::{Attached, Seen, Use, device_of},
};
use virga_crds::{Bytes, Volume};
use virga_hypervisor::Side;
use virga_images::Format;

use crate::{claimants::claimants, domain, effect, host::Host, instance::read_root_record};

/// Looks.
pub(super) async fn seen(host: &Host, volume: &Volume, uid: Uuid) -> Result<Seen, effect::Error> {
    let namespace = volume.namespace().unwrap_or_default();
    let path = host.layout.volume(uid);
    let file = match tokio::fs::symlink_metadata(&path).await {
        Ok(_) => Some(Bytes(host.disks.info(&path, Format::Qcow2).await?.virtual_size)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(source) => {
            let doing = format!("looking for {}", path.display());
            return Err(effect::Error::Io { doing, source });
        }
    };
    let source = volume.spec.source.as_ref();
    Ok(Seen {
        node: host.node.clone(),
        file,
        image: source.map(|source| host.images.seen(&namespace, &source.image)),
        attached: attached(host, volume, uid, &namespace).await,
    })
}

/// The Instance whose domain has the volume, or that was promised it.
async fn attached(host: &Host, volume: &Volume, uid: Uuid, namespace: &str) -> Option<Attached> {
    let all = claimants(host, namespace, &volume.name_any(), &host.layout.volume(uid), None).await;
    let holder = all
        .iter()
        .find(|claimant| !claimant.without_it)
        .cloned()
        .or_else(|| host.claims.claimed_by(uid, &all));
    let holder = match holder {
        None if volume.metadata.deletion_timestamp.is_some() => host.claims.delete(uid, &all).err(),
        holder => holder,
    }?;
    let instance = host.stores.instance(&holder.uid)?;
    let domain: Uuid = holder.uid.parse().ok()?;
    let plugged = host
        .plugged
        .of(host, domain)
        .await
        .ok()
        .or_else(|| host.plugged.last(domain));
    let file = host.layout.volume(uid);
    let on = |side: Side| plugged.as_ref()?.on(side)?.disk(&file);
    let device = on(Side::Defined).or_else(|| on(Side::Running));
    let record = read_root_record(&host.layout.instance(domain)).await;
    let rescued = record.as_ref().is_ok_and(|record| record.rescued_with().is_some());
    Some(Attached {
        instance: holder.name,
        device: device.map_or_else(
            || device_of(&instance, &volume.name_any(), rescued),
            |disk| disk.target.clone(),
        ),
        use_: match domain::look(host, domain).await {
            // Which of its disks the volume is can't be told.
            _ if record.is_err() => Use::Unknown,
            Domain::Defined(Power::Off(_)) | Domain::Absent | Domain::Foreign(_) => Use::Closed,
            Domain::Defined(power) if is_open(power, on(Side::Running).is_some()) => Use::Open,
            Domain::Defined(_) => Use::Closed,
            Domain::Unreachable(_) => Use::Unknown,
        },
        uid: holder.uid,
    })
}

/// Saved memory goes on with what it was saved with.
fn is_open(power: Power, running: bool) -> bool {
    running || matches!(power, Power::Saved | Power::BrokenSave | Power::Saving)
}
