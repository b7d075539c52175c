//! What is there for an Instance's root disk to be exchanged?

use kube::ResourceExt;
use uuid::Uuid;
use virga_core::{
    flavor::Shape,
    instance::{ResizeRecord, ResizeSeen, RootRecord, RootSeen, flavor_name, root_image},
};
use virga_crds::{BuiltFlavor, ImageRef, Instance};
use virga_runtime::class::chain;

use super::{
    apply,
    fetch::exists,
    machine, root_disk,
    root_record::{self, Error},
};
use crate::{host::Host, layout::InstanceFiles, topology};

/// Looks at the note and the files beside the root disk.
pub(super) async fn seen(
    host: &Host,
    instance: &Instance,
    uid: Uuid,
    files: &InstanceFiles,
) -> Result<RootSeen, Error> {
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
        resize: resize(host, instance, uid, files, &record).await,
        misfit: next.and_then(|next| misfit(host, instance, &record, next)),
        rescue_misfit: rescue.and_then(|image| no_machine(host, instance, &record, image, "spec.rescue.image")),
        next: disk && seed,
        rescue_disk,
        rescue_image: rescue.map(|image| host.images.seen(&own, image)),
        record,
    })
}

/// The size that its domain is to be defined with: as it was resized last, else as it was built or is to be built.
pub(super) fn built(host: &Host, instance: &Instance, record: &RootRecord) -> Option<BuiltFlavor> {
    let resized = record.resize.as_ref().map(|resize| resize.size().clone());
    resized.or_else(|| host.stores.flavor_of(instance))
}

/// What there is for it to be resized, if that is asked for or under way.
async fn resize(host: &Host, instance: &Instance, uid: Uuid, files: &InstanceFiles, record: &RootRecord) -> ResizeSeen {
    let Some(built) = built(host, instance, record) else {
        return ResizeSeen::default();
    };
    let asked = built.name != instance.spec.flavor;
    if !asked && !record.resize.as_ref().is_some_and(ResizeRecord::is_open) {
        return ResizeSeen::default();
    }
    let wanted = host.stores.flavor_named(&instance.spec.flavor).filter(|_| asked);
    let misfit = match &wanted {
        Some(wanted) => no_size(host, instance, uid, record, wanted).await,
        None => None,
    };
    ResizeSeen {
        misfit,
        wanted,
        root_size: match instance.spec.image {
            Some(_) => root_disk::size(host, files).await,
            None => None,
        },
    }
}

/// Why it can't get this size. Found out while it runs.
async fn no_size(
    host: &Host,
    instance: &Instance,
    uid: Uuid,
    record: &RootRecord,
    wanted: &BuiltFlavor,
) -> Option<String> {
    let image = apply::machines_image(host, instance, record);
    if let Err(problems) = machine::asked(host, wanted, image.as_deref()) {
        return Some(format!("spec.flavor: {problems}"));
    }
    let shape = match topology::shape_of(host, &wanted.name, image.as_deref()) {
        Err(problems) => return Some(format!("spec.flavor: {problems}")),
        Ok(shape) if shape == Shape::default() => return None,
        Ok(shape) => shape,
    };
    let room = topology::has_room(host, uid, &wanted.name, shape).await;
    room.err().map(|error| {
        format!(
            "spec.flavor: {} can't give it what {} asks for: {}; name another Flavor, or set spec.flavor back",
            host.node,
            wanted.name,
            chain(&error)
        )
    })
}

/// Why no machine can be made of its Flavor and this image. Found out before anything is changed.
fn no_machine(host: &Host, instance: &Instance, record: &RootRecord, image: &ImageRef, field: &str) -> Option<String> {
    let own = instance.namespace().unwrap_or_default();
    let image = host.stores.named_image(&own, image)?;
    let asked = machine::asked(host, &built(host, instance, record)?, Some(&image));
    asked.err().map(|problems| format!("{field}: {problems}"))
}

/// Why an Instance that was made from another image can't be rebuilt from this one. What it has of the host's CPUs, pages
/// and devices stays as it is (Nova refuses a change of NUMA topology too).
fn misfit(host: &Host, instance: &Instance, record: &RootRecord, next: &ImageRef) -> Option<String> {
    let own = instance.namespace().unwrap_or_default();
    let image = host.stores.named_image(&own, next)?;
    let (old, new) = (
        topology::shape(host, instance),
        topology::shape_of(host, flavor_name(instance), Some(&image)),
    );
    if let Some(why) = no_machine(host, instance, record, next, "spec.image") {
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
