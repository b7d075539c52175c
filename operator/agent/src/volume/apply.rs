//! Carrying effects out.

use std::{io, path::Path};

use kube::ResourceExt;
use tokio::time::Instant;
use uuid::Uuid;
use virga_core::volume::Effect;
use virga_crds::{Volume, finalizers};
use virga_images::Format;

use crate::{
    host::{Host, Moment},
    instance::EffectError as Error,
};

/// Carries one effect out, and counts it.
pub(super) async fn carry_out(host: &Host, volume: &Volume, uid: Uuid, effect: &Effect) -> Result<(), Error> {
    host.reach(Moment::Before, effect.name()).await;
    let began = Instant::now();
    let result = act(host, volume, uid, effect).await;
    host.metrics.effect(effect.name(), result.is_ok(), began.elapsed());
    if result.is_ok() {
        tracing::info!(effect = effect.name(), took_ms = began.elapsed().as_millis(), "done");
    }
    host.reach(Moment::After, effect.name()).await;
    result
}

async fn act(host: &Host, volume: &Volume, uid: Uuid, effect: &Effect) -> Result<(), Error> {
    let path = host.layout.volume(uid);
    match effect {
        Effect::PullImage { uid } => {
            let image = host.images.find(uid);
            host.images
                .pull(image.ok_or_else(|| Error::Gone("the Image is gone".into()))?);
        }
        Effect::CreateBlank { size } => {
            let size = size.0.next_multiple_of(512);
            host.disks.create_blank(&path, size, Format::Qcow2).await?;
        }
        Effect::CreateFromImage { uid, size } => {
            let entry = host.images.entry_of(uid);
            let entry = entry.ok_or_else(|| Error::Gone("the image is no longer in the cache".into()))?;
            let size = size.0.next_multiple_of(512);
            host.disks
                .create_copy(&entry.path, entry.inspection.format, &path, Format::Qcow2, size)
                .await?;
        }
        Effect::Extend { size } => {
            host.disks.resize(&path, Format::Qcow2, size.0).await?;
        }
        Effect::ExtendLive { instance, device, size } => {
            let domain: Uuid = instance
                .parse()
                .map_err(|_| Error::Gone(format!("the Instance with uid {instance} is gone")))?;
            let (device, bytes) = (device.clone(), size.0);
            host.change(domain, move |hypervisor| hypervisor.resize_disk(domain, &device, bytes))
                .await?;
        }
        Effect::RemoveFile => remove(&path).await?,
        Effect::RetainFile => {
            let kept = host
                .layout
                .retained_volume(&volume.namespace().unwrap_or_default(), &volume.name_any(), uid);
            retain(&path, &kept).await?;
        }
        Effect::RemoveFinalizer => {
            host.writer.remove_finalizer(volume, finalizers::AGENT).await?;
        }
    }
    Ok(())
}

async fn remove(path: &Path) -> Result<(), Error> {
    match tokio::fs::remove_file(path).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::Io {
            doing: format!("removing {}", path.display()),
            source: error,
        }),
        _ => Ok(()),
    }
}

/// Moves a volume's file to where it is kept; one that was moved already is kept.
pub(crate) async fn retain(path: &Path, kept: &Path) -> Result<(), Error> {
    match tokio::fs::rename(path, kept).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::Io {
            doing: format!("keeping {}", path.display()),
            source: error,
        }),
        _ => Ok(()),
    }
}
