//! What does an Instance ask for? Pure over what the stores hold.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use virga_crds::{
    Bytes, Flavor, Image, ImageRef, ImageVisibility, Instance, ServerGroupPolicy, Volume,
    conditions::{Reason, types},
};
use virga_scheduler::{Group, OnlyHosts, Policy, Request, Resources};

use super::missing::{Named, key, missing};
use crate::stores::Stores;

/// A host that rejected an Instance is not tried again for this long: what it lacked may be there by then.
pub const REJECTION_HOLDS: SignedDuration = SignedDuration::from_mins(10);

/// Something that keeps an Instance from being placed, whatever the hosts offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// The condition's reason.
    pub reason: Reason,
    /// The path of the field.
    pub field: String,
    /// What is wrong, and the cure.
    pub message: String,
    /// The object whose change may help, as in [`virga_scheduler::Event::Appeared`].
    pub waits_for: String,
    /// Whether it can never be right as long as the objects are as they are.
    pub stuck: bool,
}

/// The scheduler's request for an Instance, or all that stands in the way, in the order of the fields.
///
/// `uid` is what a reservation is held under. An Image that is not Ready yet does not stand in the way: its node waits
/// for it.
pub fn request(uid: &str, instance: &Instance, stores: &Stores, now: Timestamp) -> Result<Request, Vec<Obstacle>> {
    let namespace = instance.namespace().unwrap_or_default();
    let spec = &instance.spec;
    let mut obstacles = Vec::new();
    let flavor = stores.flavor(&spec.flavor);
    if flavor.is_none() {
        let known = stores.flavors.state();
        let known = known.iter().map(|flavor| flavor.name_any());
        obstacles.push(missing(Named::Flavor, "spec.flavor", None, &spec.flavor, known));
    }
    let image = spec
        .image
        .as_ref()
        .and_then(|image| find_image(image, &namespace, stores, &mut obstacles));
    if let (Some(flavor), Some(image)) = (&flavor, &image) {
        obstacles.extend(does_not_fit(flavor, image));
    }
    let volumes = volumes(instance, &namespace, stores, &mut obstacles);
    let only_hosts = holders(&volumes, &mut obstacles);
    let group = spec
        .server_group
        .as_ref()
        .and_then(|name| find_group(name, &namespace, stores, &mut obstacles));
    let Some(flavor) = flavor.filter(|_| obstacles.is_empty()) else {
        return Err(obstacles);
    };

    let name = format!("{namespace}/{}", shown_name(instance));
    let mut request = Request::new(uid, name, resources_of(instance, &flavor, image.as_deref(), &volumes));
    request.zone = spec
        .placement
        .as_ref()
        .and_then(|placement| placement.availability_zone.clone());
    request.architecture = image
        .as_ref()
        .and_then(|image| image.spec.properties.get("hw_architecture").cloned());
    request.group = group;
    request.only_hosts = only_hosts;
    request.excluded_hosts = rejecting_hosts(instance, now);
    Ok(request)
}

/// What an Instance takes of the host that it is bound to: as built, else as its Flavor says.
///
/// Volumes that are not bound to a node yet count with the Instance; afterwards they count by themselves, because they
/// stay when the Instance goes.
pub fn taken(instance: &Instance, stores: &Stores) -> Resources {
    let namespace = instance.namespace().unwrap_or_default();
    let built = instance.status.as_ref().and_then(|status| status.flavor.as_ref());
    let volumes = volumes(instance, &namespace, stores, &mut Vec::new());
    if let Some(built) = built {
        return sum(
            u32::from(built.vcpus),
            built.memory,
            root_disk(instance, built.disk, None),
            &volumes,
        );
    }
    let Some(flavor) = stores.flavor(&instance.spec.flavor) else {
        // Its finalizer keeps a used Flavor, so this is a cluster that was restored without it.
        return Resources::default();
    };
    let image = instance
        .spec
        .image
        .as_ref()
        .and_then(|image| stores.image(image.namespace.as_deref().unwrap_or(&namespace), &image.name));
    resources_of(instance, &flavor, image.as_deref(), &volumes)
}

/// A bound Volume's share of its node's disk.
pub fn volume_takes(volume: &Volume) -> Resources {
    Resources {
        disk_bytes: volume.spec.size.0,
        ..Resources::default()
    }
}

/// Whether the node that the Instance is bound to has said that it can't take it.
pub fn is_rejected(instance: &Instance) -> bool {
    let (Some(node), Some(status)) = (&instance.spec.node_name, &instance.status) else {
        return false;
    };
    let rejected = |c: &virga_crds::Condition| {
        c.type_ == types::SCHEDULED && c.status == "False" && c.reason == Reason::HostRejected.as_str()
    };
    status.rejected_by.contains(node) && status.conditions.iter().any(rejected)
}

fn rejecting_hosts(instance: &Instance, now: Timestamp) -> BTreeSet<String> {
    let Some(status) = &instance.status else {
        return BTreeSet::new();
    };
    let scheduled = status
        .conditions
        .iter()
        .find(|c| c.type_ == types::SCHEDULED && c.status == "False");
    let holds = scheduled.is_some_and(|c| now.duration_since(c.last_transition_time.0) < REJECTION_HOLDS);
    // The one that has just rejected it is bound still; whatever the clocks say, it must not be chosen again at once.
    let just_now = instance
        .spec
        .node_name
        .iter()
        .filter(|_| is_rejected(instance))
        .cloned();
    status
        .rejected_by
        .iter()
        .filter(|_| holds)
        .cloned()
        .chain(just_now)
        .collect()
}

fn shown_name(instance: &Instance) -> String {
    let generated = || format!("{}…", instance.metadata.generate_name.as_deref().unwrap_or_default());
    instance.metadata.name.clone().unwrap_or_else(generated)
}

fn resources_of(
    instance: &Instance,
    flavor: &Flavor,
    image: Option<&Image>,
    volumes: &[std::sync::Arc<Volume>],
) -> Resources {
    let spec = &flavor.spec;
    sum(
        u32::from(spec.vcpus),
        spec.memory,
        root_disk(instance, spec.disk, image),
        volumes,
    )
}

/// A boot volume is the root disk, so the Instance itself takes none (Nova counts 0 as well).
fn root_disk(instance: &Instance, disk: Bytes, image: Option<&Image>) -> Bytes {
    if instance.spec.boot_volume.is_some() {
        return Bytes::ZERO;
    }
    let of_image = || image.and_then(|image| image.status.as_ref()?.virtual_size);
    if disk == Bytes::ZERO {
        of_image().unwrap_or_default()
    } else {
        disk
    }
}

fn sum(vcpus: u32, memory: Bytes, disk: Bytes, volumes: &[std::sync::Arc<Volume>]) -> Resources {
    let unbound = volumes.iter().filter(|volume| volume.spec.node_name.is_none());
    let volumes: u64 = unbound.map(|volume| volume.spec.size.0).fold(0, u64::saturating_add);
    Resources {
        vcpus,
        memory_bytes: memory.0,
        disk_bytes: disk.0.saturating_add(volumes),
    }
}

fn find_image(
    image: &ImageRef,
    namespace: &str,
    stores: &Stores,
    obstacles: &mut Vec<Obstacle>,
) -> Option<std::sync::Arc<Image>> {
    let owner = image.namespace.as_deref().unwrap_or(namespace);
    match stores.image(owner, &image.name) {
        Some(found) if owner == namespace || found.spec.visibility == ImageVisibility::Public => Some(found),
        // A private image of somebody else looks as if it were not there: its name is not for others.
        _ => {
            let known = stores.images.state();
            let visible = |image: &&std::sync::Arc<Image>| {
                image.namespace().as_deref() == Some(owner)
                    && (owner == namespace || image.spec.visibility == ImageVisibility::Public)
            };
            let known = known.iter().filter(visible).map(|image| image.name_any());
            obstacles.push(missing(
                Named::Image,
                "spec.image",
                Some((namespace, owner)),
                &image.name,
                known,
            ));
            None
        }
    }
}

/// The volumes that it names and that exist, its boot volume first.
fn volumes(
    instance: &Instance,
    namespace: &str,
    stores: &Stores,
    obstacles: &mut Vec<Obstacle>,
) -> Vec<std::sync::Arc<Volume>> {
    let boot = instance
        .spec
        .boot_volume
        .iter()
        .map(|name| ("spec.bootVolume".to_owned(), name.as_str()));
    let others = instance.spec.volumes.iter();
    let others = others.map(|volume| (format!("spec.volumes[{}]", volume.name), volume.name.as_str()));
    let mut found = Vec::new();
    for (field, name) in boot.chain(others) {
        match stores.volume(namespace, name) {
            Some(volume) if volume.metadata.deletion_timestamp.is_none() => found.push(volume),
            Some(_) => obstacles.push(Obstacle {
                reason: Reason::VolumeNotFound,
                field,
                message: format!("the Volume {name:?} is being deleted: wait until it is gone and create it anew"),
                waits_for: key("Volume", namespace, name),
                stuck: false,
            }),
            None => {
                let known = stores.volumes.state();
                let here = |volume: &&std::sync::Arc<Volume>| volume.namespace().as_deref() == Some(namespace);
                let known = known.iter().filter(here).map(|volume| volume.name_any());
                obstacles.push(missing(
                    Named::Volume,
                    &field,
                    Some((namespace, namespace)),
                    name,
                    known,
                ));
            }
        }
    }
    found
}

/// The one host that holds its volumes, if any does.
fn holders(volumes: &[std::sync::Arc<Volume>], obstacles: &mut Vec<Obstacle>) -> Option<OnlyHosts> {
    let mut bound = volumes
        .iter()
        .filter_map(|volume| Some((volume, volume.spec.node_name.as_deref()?)));
    let (first, host) = bound.next()?;
    let namespace = first.namespace().unwrap_or_default();
    if let Some((other, elsewhere)) = bound.find(|(_, node)| *node != host) {
        obstacles.push(Obstacle {
            reason: Reason::VolumeAttachedElsewhere,
            field: "spec.volumes".into(),
            message: format!(
                "the Volume {:?} is on {host} and {:?} on {elsewhere}: no host has both; copy one of them",
                first.name_any(),
                other.name_any()
            ),
            waits_for: key("Volume", &namespace, &other.name_any()),
            stuck: true,
        });
    }
    let reason = format!("volume {namespace}/{} is on {host}", first.name_any());
    Some(OnlyHosts {
        hosts: BTreeSet::from([host.to_owned()]),
        reason,
    })
}

fn find_group(name: &str, namespace: &str, stores: &Stores, obstacles: &mut Vec<Obstacle>) -> Option<Group> {
    let Some(group) = stores.server_group(namespace, name) else {
        let known = stores.server_groups.state();
        let known = known
            .iter()
            .filter(|group| group.namespace().as_deref() == Some(namespace));
        let known = known.map(|group| group.name_any());
        let here = Some((namespace, namespace));
        obstacles.push(missing(Named::ServerGroup, "spec.serverGroup", here, name, known));
        return None;
    };
    let policy = match group.spec.policy {
        ServerGroupPolicy::Affinity => Policy::Affinity,
        ServerGroupPolicy::AntiAffinity => {
            let most = group.spec.rules.as_ref().map_or(1, |rules| rules.max_server_per_host);
            Policy::AntiAffinity {
                max_per_host: std::num::NonZeroU32::new(u32::from(most)).unwrap_or(std::num::NonZeroU32::MIN),
            }
        }
        ServerGroupPolicy::SoftAffinity => Policy::SoftAffinity,
        ServerGroupPolicy::SoftAntiAffinity => Policy::SoftAntiAffinity,
    };
    Some(Group {
        uid: group.uid().unwrap_or_default().into(),
        policy,
    })
}

/// Why an image can't be used with a flavor, as far as that is known (Glance's `min_disk` and `min_ram`, and Nova's
/// `FlavorDiskSmallerThanImage`).
pub fn does_not_fit(flavor: &Flavor, image: &Image) -> Vec<Obstacle> {
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
