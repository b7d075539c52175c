//! What is there for an Instance's root disk to be exchanged?

use kube::ResourceExt;
use virga_core::instance::{RootSeen, root_image};
use virga_crds::{ImageRef, Instance};

use super::{
    fetch::exists,
    machine,
    root_record::{self, Error},
};
use crate::{host::Host, layout::InstanceFiles, topology};

/// Looks at the note and the files beside the root disk.
pub(super) async fn seen(host: &Host, instance: &Instance, files: &InstanceFiles) -> Result<RootSeen, Error> {
    let record = root_record::read(files).await?;
    let (disk, seed, rescue_disk) = tokio::join!(
        exists(files.next_root_disk()),
        exists(files.next_seed()),
        exists(files.rescue_disk())
    );
    let own = instance.namespace().unwrap_or_default();
    let root = root_image(instance, &record);
    let rescue = instance.spec.rescue.as_ref();
    let rescue = rescue.and_then(|rescue| rescue.image.as_ref().or(root));
    let next = instance.spec.image.as_ref().filter(|next| Some(*next) != root);
    Ok(RootSeen {
        misfit: next.and_then(|next| misfit(host, instance, next)),
        rescue_misfit: rescue.and_then(|image| no_machine(host, instance, image, "spec.rescue.image")),
        next: disk && seed,
        rescue_disk,
        rescue_image: rescue.map(|image| host.images.seen(&own, image)),
        record,
    })
}

/// Why no machine can be made of its Flavor and this image. Found out before anything is changed.
fn no_machine(host: &Host, instance: &Instance, image: &ImageRef, field: &str) -> Option<String> {
    let own = instance.namespace().unwrap_or_default();
    let image = host.stores.named_image(&own, image)?;
    let flavor = host.stores.flavor_of(instance)?;
    let asked = machine::asked(host, instance, Some(&image), flavor.vcpus.into());
    asked.err().map(|problems| format!("{field}: {problems}"))
}

/// Why an Instance that was made from another image can't be rebuilt from this one. What it has of the host's CPUs, pages
/// and devices stays as it is (Nova refuses a change of NUMA topology too).
fn misfit(host: &Host, instance: &Instance, next: &ImageRef) -> Option<String> {
    let own = instance.namespace().unwrap_or_default();
    let image = host.stores.named_image(&own, next)?;
    let (old, new) = (
        topology::shape(host, instance),
        topology::shape_of(host, instance, Some(&image)),
    );
    if let Some(why) = no_machine(host, instance, next, "spec.image") {
        return Some(why);
    }
    match (old, new) {
        (_, Err(problems)) => Some(format!("spec.image: {problems}")),
        (Ok(old), Ok(new)) if old != new => Some(format!(
            "spec.image: the Image {} asks for other CPUs, pages or devices than the Instance has: create a new Instance \
             with it, or name another",
            next.name
        )),
        _ => None,
    }
}
