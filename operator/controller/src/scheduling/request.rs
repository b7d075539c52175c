//! What does an Instance ask for? Pure over what the stores hold.

use std::{collections::BTreeSet, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use kube::{ResourceExt, runtime::reflector::ObjectRef};
use virga_core::{
    flavor::{self, ExtraSpecs},
    image,
};
use virga_crds::{
    Bytes, Flavor, Image, ImageRef, ImageVisibility, Instance, ServerGroupPolicy, Volume,
    conditions::{Reason, types},
    labels,
};
use virga_scheduler::{Demands, Group, ImageFacts, OnlyHosts, Policy, Request};

use super::{
    missing::{Named, flavor_key, key, missing},
    takes::{self, Taken},
    wishes,
};
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
    let forced_host = wishes::forced_host(instance, stores, &mut obstacles);
    let extra = flavor.as_ref().map(|flavor| extra_specs(flavor, &mut obstacles));
    let extra = extra.unwrap_or_default();
    if let (Some(flavor), Some(image)) = (&flavor, &image) {
        obstacles.extend(contradiction(flavor, &extra, image));
    }
    let demands = wishes::demands(instance, &extra, image.as_deref(), stores, &mut obstacles);
    let Some(flavor) = flavor.filter(|_| obstacles.is_empty()) else {
        return Err(obstacles);
    };

    let name = format!("{namespace}/{}", shown_name(instance));
    let Taken { resources, units } = takes::of_flavor(instance, &flavor, &extra, image.as_deref(), &volumes);
    let mut request = Request::new(uid, name, resources);
    let demands = Demands {
        resources: units,
        ..demands
    };
    request.demands = (!demands.is_empty()).then(|| Box::new(demands));
    request.forced_host = forced_host;
    request.project = project(&namespace, stores);
    request.flavor = flavor.name_any();
    request.zone = spec
        .placement
        .as_ref()
        .and_then(|placement| placement.availability_zone.clone());
    request.architecture = image
        .as_ref()
        .and_then(|image| image.spec.properties.get("hw_architecture").cloned());
    request.image = image.as_ref().map(|image| {
        Arc::new(ImageFacts {
            uid: image.uid().unwrap_or_default(),
            properties: image.spec.properties.clone(),
        })
    });
    request.group = group;
    request.only_hosts = only_hosts;
    request.excluded_hosts = rejecting_hosts(instance, now);
    Ok(request)
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

/// What its Flavor asks for beyond its size. The webhook refuses what is wrong with that, so what is wrong is from
/// before, or from a time without webhooks.
fn extra_specs(flavor: &Flavor, obstacles: &mut Vec<Obstacle>) -> ExtraSpecs {
    flavor::extra_specs(&flavor.spec).unwrap_or_else(|problems| {
        let name = flavor.name_any();
        obstacles.push(Obstacle {
            reason: Reason::Invalid,
            field: "spec.flavor".into(),
            message: format!("the Flavor {name:?} can't be used: {problems}"),
            waits_for: flavor_key(&name),
            stuck: true,
        });
        ExtraSpecs::default()
    })
}

/// The Project of a namespace; the namespace itself when it belongs to none.
fn project(namespace: &str, stores: &Stores) -> String {
    let found = stores.namespaces.get(&ObjectRef::new(namespace));
    let project = found.and_then(|found| found.labels().get(labels::PROJECT).cloned());
    project.unwrap_or_else(|| namespace.to_owned())
}

fn shown_name(instance: &Instance) -> String {
    let generated = || format!("{}…", instance.metadata.generate_name.as_deref().unwrap_or_default());
    instance.metadata.name.clone().unwrap_or_else(generated)
}

fn find_image(image: &ImageRef, namespace: &str, stores: &Stores, obstacles: &mut Vec<Obstacle>) -> Option<Arc<Image>> {
    let owner = image.namespace.as_deref().unwrap_or(namespace);
    match stores.image(owner, &image.name) {
        Some(found) if owner == namespace || found.spec.visibility == ImageVisibility::Public => Some(found),
        // A private image of somebody else looks as if it were not there: its name is not for others.
        _ => {
            let known = stores.images.state();
            let visible = |image: &&Arc<Image>| {
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
pub(super) fn volumes(
    instance: &Instance,
    namespace: &str,
    stores: &Stores,
    obstacles: &mut Vec<Obstacle>,
) -> Vec<Arc<Volume>> {
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
                let here = |volume: &&Arc<Volume>| volume.namespace().as_deref() == Some(namespace);
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
fn holders(volumes: &[Arc<Volume>], obstacles: &mut Vec<Obstacle>) -> Option<OnlyHosts> {
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
