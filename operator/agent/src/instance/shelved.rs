//! What is there of the Image that a shelved Instance's root disk is in, and how is its host freed?

use std::fs::File;

use kube::ResourceExt;
use virga_core::instance::{ShelveSeen, ShelvedImage, shelved_image_name};
use virga_crds::{ImageRef, Instance, PowerState};

use super::{boot_image::BootImage, machine, root_disk::blocking};
use crate::{
    effect::Error,
    host::Host,
    layout::InstanceFiles,
    removal::{remove_directory, remove_file},
};

/// Looks. Only one that is to be shelved, or was told to be, has an Image.
pub(super) fn seen(host: &Host, instance: &Instance) -> ShelveSeen {
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
    }
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

/// Removes all that is here. The root disk goes first, and durably: what lies beside it tells that it may go.
pub(super) async fn offload(files: &InstanceFiles) -> Result<(), Error> {
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
