//! Can an image be used with a flavor?

use kube::ResourceExt;
use virga_core::{flavor::ExtraSpecs, image};
use virga_crds::{Bytes, Flavor, Image, conditions::Reason};

use super::{missing::key, obstacle::Obstacle};

/// All that keeps an image from being used with a flavor that asks for `extra`.
pub(super) fn misfits(flavor: &Flavor, extra: &ExtraSpecs, image: &Image) -> Vec<Obstacle> {
    let mut obstacles = does_not_fit(flavor, image);
    obstacles.extend(contradiction(flavor, extra, image));
    obstacles.extend(misshapen(flavor, extra, image));
    obstacles
}

/// Why an image can't be used with a flavor, as far as that is known (Glance's `min_disk` and `min_ram`, and Nova's
/// `FlavorDiskSmallerThanImage`).
fn does_not_fit(flavor: &Flavor, image: &Image) -> Vec<Obstacle> {
    let obstacle = |message: String| Obstacle {
        reason: Reason::ImageDoesNotFit,
        field: "spec.flavor".into(),
        message,
        waits_for: key("Image", &image.namespace().unwrap_or_default(), &image.name_any()),
        stuck: true,
    };
    let (name, flavor_name) = (image.name_any(), flavor.name_any());
    let virtual_size = image
        .status
        .as_ref()
        .and_then(|status| status.virtual_size)
        .unwrap_or_default();
    let needed = virtual_size.max(image.spec.min_disk);
    let (disk, memory) = (flavor.spec.disk, flavor.spec.memory);
    let mut obstacles = Vec::new();
    if disk != Bytes::ZERO && needed > disk {
        obstacles.push(obstacle(format!(
            "the Image {name:?} needs a root disk of {needed}, and Flavor {flavor_name:?} has {disk}: name a larger Flavor"
        )));
    }
    if image.spec.min_memory > memory {
        obstacles.push(obstacle(format!(
            "the Image {name:?} needs {} of memory, and Flavor {flavor_name:?} has {memory}: name a larger Flavor",
            image.spec.min_memory
        )));
    }
    obstacles
}

/// What of a host an image requires and a flavor forbids.
fn contradiction(flavor: &Flavor, extra: &ExtraSpecs, image: &Image) -> Option<Obstacle> {
    let both: Vec<String> = image::contradictions(&image.spec.properties, extra)
        .into_iter()
        .collect();
    let name = image.name_any();
    (!both.is_empty()).then(|| Obstacle {
        reason: Reason::ImageDoesNotFit,
        field: "spec.flavor".into(),
        message: format!(
            "the Image {name:?} requires trait {}, and Flavor {:?} forbids it: name another Flavor or Image",
            both.join(" and "),
            flavor.name_any()
        ),
        waits_for: key("Image", &image.namespace().unwrap_or_default(), &name),
        stuck: true,
    })
}

/// What an image asks of CPUs, cells and its machine that its flavor doesn't let it have.
fn misshapen(flavor: &Flavor, extra: &ExtraSpecs, image: &Image) -> Option<Obstacle> {
    let size = virga_crds::Resources {
        vcpus: flavor.spec.vcpus.into(),
        memory: flavor.spec.memory,
        disk: flavor.spec.disk,
    };
    let properties = Some(&image.spec.properties);
    let mut problems = extra.shape(size, properties).err().unwrap_or_default();
    problems.extend(extra.machine(size.vcpus, properties).err().unwrap_or_default());
    if problems.is_empty() {
        return None;
    }
    let name = image.name_any();
    Some(Obstacle {
        reason: Reason::ImageDoesNotFit,
        field: "spec.image".into(),
        message: format!(
            "the Image {name:?} can't be used with Flavor {:?}: {problems}",
            flavor.name_any()
        ),
        waits_for: key("Image", &image.namespace().unwrap_or_default(), &name),
        stuck: true,
    })
}
