//! What is there of the Image that a shelved Instance's root disk is in, and how is its host freed?

use std::{fs::File, io};

use jiff::Timestamp;
use kube::ResourceExt;
use uuid::Uuid;
use virga_core::instance::{DiskMark, PowerRecord, ShelveSeen, ShelvedImage, shelved_image_name};
use virga_crds::{Bytes, ImageRef, Instance, PowerState, Scheduling};

use super::{boot_image::BootImage, machine, power_record, root_disk::blocking};
use crate::{
    effect::Error,
    host::Host,
    layout::InstanceFiles,
    removal::{remove_directory, remove_file},
};

/// Looks. Only one that is to be shelved, or was told to be, has an Image.
pub(super) async fn seen(host: &Host, instance: &Instance, files: &InstanceFiles) -> ShelveSeen {
    let asked = instance.spec.power_state == PowerState::Shelved;
    let told = instance.status.as_ref().is_some_and(|status| status.shelve.is_some());
    if !asked && !told {
        return ShelveSeen::default();
    }
    let own = instance.namespace().unwrap_or_default();
    let named = ImageRef {
        name: shelved_image_name(instance),
        namespace: None,
    };
    let image = host.stores.named_image(&own, &named);
    ShelveSeen {
        image: image.map(|image| ShelvedImage::of(&image, instance, host.images.state(&image))),
        holds: asked.then(|| holds(host, instance)).flatten(),
        disk: mark(files).await.ok().flatten(),
        maintenance: is_in_maintenance(host),
    }
}

/// What tells whether the root disk is written to. Nothing: there is none. A guest that runs changes it with each write, so
/// what was read before it ended is never taken for the disk that it left.
async fn mark(files: &InstanceFiles) -> io::Result<Option<DiskMark>> {
    let metadata = match tokio::fs::symlink_metadata(files.root_disk()).await {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let written = Timestamp::try_from(metadata.modified()?).map_err(io::Error::other)?;
    let bytes = Bytes(metadata.len());
    Ok(Some(DiskMark { written, bytes }))
}

fn is_in_maintenance(host: &Host) -> bool {
    let own = host.stores.hypervisor.find(|found| found.name_any() == host.node);
    own.is_some_and(|own| own.spec.scheduling == Scheduling::Maintenance)
}

/// What of the machine is on its host only, and is no disk.
fn holds(host: &Host, instance: &Instance) -> Option<String> {
    let flavor = host.stores.flavor_of(instance)?;
    let image = BootImage::of(host, instance).known();
    let machine = machine::asked(host, &flavor, image.as_deref()).ok()?;
    machine.tpm.map(|_| {
        "spec.shelve: the Instance has a TPM, whose secrets are on its host only and would be lost: set \
         spec.shelve.offloadAfter to Never, or spec.powerState to Stopped"
            .into()
    })
}

/// Removes all that is here. The root disk goes first, and durably: what lies beside it tells that it may go. It stays when
/// somebody has started or written to it since it was looked at.
pub(super) async fn offload(host: &Host, uid: Uuid, files: &InstanceFiles) -> Result<(), Error> {
    match host.read(uid, move |hypervisor| hypervisor.domain(uid)).await {
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error.into()),
        Ok(_) => {
            return Err(Error::Gone(
                "its host can't be freed: somebody has defined its domain anew".into(),
            ));
        }
    }
    let PowerRecord { shelved_disk, .. } = power_record::read(files).await;
    let disk = mark(files).await.map_err(Error::io("looking at the root disk"))?;
    if disk.is_some() && disk != shelved_disk {
        return Err(Error::Gone(
            "its host can't be freed: its root disk was written to since it was copied".into(),
        ));
    }
    remove_file(&files.root_disk()).await?;
    let directory = files.directory().to_owned();
    blocking("removing the root disk", move || match File::open(directory) {
        Ok(directory) => directory.sync_all(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    })
    .await?;
    remove_directory(files.directory()).await
}
