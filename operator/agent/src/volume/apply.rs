//! Carrying effects out.

use kube::ResourceExt;
use uuid::Uuid;
use virga_core::volume::Effect;
use virga_crds::{Volume, finalizers};
use virga_images::Format;

use crate::{
    effect::Error,
    host::Host,
    removal::{remove_file, retain},
};

/// Carries one effect out.
pub(super) async fn carry_out(host: &Host, volume: &Volume, uid: Uuid, effect: &Effect) -> Result<(), Error> {
    host.carry_out(effect.name(), act(host, volume, uid, effect)).await
}

async fn act(host: &Host, volume: &Volume, uid: Uuid, effect: &Effect) -> Result<(), Error> {
    let path = host.layout.volume(uid);
    match effect {
        Effect::PullImage { uid } => {
            let image = host.stores.image(uid);
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
        Effect::RemoveFile => remove_file(&path).await?,
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
