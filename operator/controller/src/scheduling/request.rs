//! What does an Instance ask for? Pure over what the stores hold.

use std::sync::Arc;

use jiff::Timestamp;
use kube::{ResourceExt, runtime::reflector::ObjectRef};
use virga_core::{
    flavor::{self, ExtraSpecs},
    instance::{is_shelved_away, without_card},
};
use virga_crds::{
    Flavor, Image, ImageRef, ImageVisibility, Instance, ServerGroupPolicy, Volume, conditions::Reason, labels,
};
use virga_scheduler::{Demands, Group, Policy, Request};

use super::{
    image_fit,
    missing::{Named, flavor_key, key, missing},
    obstacle::Obstacle,
    rejection::rejecting_hosts,
    takes::{self, Taken},
    volumes::{holders, volumes},
    wishes,
};
use crate::stores::Stores;

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
    let volumes = volumes(instance, &namespace, stores, &mut obstacles);
    let only_hosts = holders(&volumes, &mut obstacles);
    let group = spec
        .server_group
        .as_ref()
        .and_then(|name| find_group(name, &namespace, stores, &mut obstacles));
    if let Some((field, message)) = without_card(instance) {
        obstacles.push(Obstacle {
            reason: Reason::NoValidHost,
            field,
            message,
            // Its own change: nothing else helps.
            waits_for: key("Instance", &namespace, &shown_name(instance)),
            stuck: false,
        });
    }
    let forced_host = wishes::forced_host(instance, stores, &mut obstacles);
    let extra = flavor.as_ref().map(|flavor| extra_specs(flavor, &mut obstacles));
    let extra = extra.unwrap_or_default();
    if let (Some(flavor), Some(image)) = (&flavor, &image) {
        obstacles.extend(image_fit::misfits(flavor, &extra, image));
    }
    let boot = image
        .clone()
        .or_else(|| image_of_boot_volume(instance, &namespace, &volumes, stores));
    let demands = wishes::demands(instance, &extra, boot.as_deref(), stores, &mut obstacles);
    let Some(flavor) = flavor.filter(|_| obstacles.is_empty()) else {
        return Err(obstacles);
    };

    let name = format!("{namespace}/{}", shown_name(instance));
    let asked = takes::of_flavor(instance, &flavor, &extra, image.as_deref(), &volumes);
    let taken = if is_shelved_away(instance) {
        // It comes back with the size that it has, and may be asked to get another.
        takes::largest(asked, takes::taken(instance, stores))
    } else {
        asked
    };
    let Taken {
        resources,
        units,
        shape,
    } = taken;
    let mut request = Request::new(uid, name, resources);
    let demands = Demands {
        resources: units,
        topology: shape.topology,
        devices: shape.devices,
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
    request.image = image.as_deref().map(takes::facts);
    request.group = group;
    request.only_hosts = only_hosts;
    request.excluded_hosts = rejecting_hosts(instance, now);
    Ok(request)
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

/// The Image that the boot volume was made from: its properties shape the machine, too (Nova's `volume_image_metadata`).
fn image_of_boot_volume(
    instance: &Instance,
    namespace: &str,
    volumes: &[Arc<Volume>],
    stores: &Stores,
) -> Option<Arc<Image>> {
    let name = instance.spec.boot_volume.as_ref()?;
    let volume = volumes.iter().find(|volume| volume.name_any() == *name)?;
    let image = &volume.spec.source.as_ref()?.image;
    stores.image(image.namespace.as_deref().unwrap_or(namespace), &image.name)
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
