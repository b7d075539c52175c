//! What the leading controller does about one Instance, by its rules, where there is no controller.

use kube::ResourceExt as _;
use serde_json::json;
use virga_core::instance::{granted, is_shelved_away, shelved_image_name, shelving};
use virga_crds::{CachedImageState, Hypervisor, Image, ImageState, Instance, Port, PowerState, ResizeVerdict, labels};

use crate::world::{NODE, SHOP, World};

const NAME: &str = "web-1";

fn instance(world: &World) -> Instance {
    world.read(NAME).unwrap()
}

/// Says whether there is room for the size that is asked for now.
pub fn answer(world: &World, refused: Option<&str>) {
    answer_of(world, NODE, refused);
}

/// The same of another host.
pub fn answer_of(world: &World, host: &str, refused: Option<&str>) {
    let instance = instance(world);
    let verdict = ResizeVerdict {
        flavor: instance.spec.flavor.clone(),
        generation: instance.metadata.generation.unwrap(),
        host: host.into(),
        refused: refused.map(str::to_owned),
        migration: None,
        cancelled: false,
    };
    let text = serde_json::to_string(&verdict).unwrap();
    let annotations = json!({"metadata": {"annotations": {labels::RESIZE: text}}});
    world.api.merge::<Instance>(Some(SHOP), NAME, annotations);
}

/// Grants each size that is asked for. Returns whether that was news.
pub fn grant(world: &World) -> bool {
    let instance = instance(world);
    let built = instance.status.as_ref().and_then(|status| status.flavor.as_ref());
    let asks = instance.spec.node_name.is_some() && built.is_some_and(|built| built.name != instance.spec.flavor);
    let news = asks && granted(&instance).is_none();
    if news {
        answer(world, None);
    }
    news
}

/// What it does about one that is shelved or comes back: the Image, its status, the binding. `home` is where it places what
/// comes back. Returns whether there was something to do.
pub fn lead(world: &World, home: &str, holder: &str) -> bool {
    let (api, instance) = (&world.api, instance(world));
    let name = shelved_image_name(&instance);
    let image: Option<Image> = world.read(&name);
    let next = shelving(&instance, image.as_ref(), api.clock().now());
    let mut changed = false;
    if let Some(image) = next.create {
        api.create(image.as_ref());
        let from = json!({"instanceUid": instance.uid().unwrap(), "minDisk": "64Mi"});
        let status = json!({"state": "Importing", "importer": NODE, "snapshot": from});
        api.merge_status::<Image>(Some(SHOP), &name, status);
        changed = true;
    }
    if next.delete {
        api.delete::<Image>(Some(SHOP), &name);
        return true;
    }
    if next.unbind {
        bind(world, None);
        return true;
    }
    if let Some(status) = next.status
        && serde_json::to_value(&status.conditions).unwrap()
            != serde_json::to_value(&instance.status.as_ref().unwrap().conditions).unwrap()
    {
        let status = json!({
            "state": status.state, "conditions": status.conditions, "observedGeneration": status.observed_generation,
        });
        api.merge_status::<Instance>(Some(SHOP), NAME, status);
        changed = true;
    }
    if is_shelved_away(&instance) && instance.spec.power_state != PowerState::Shelved {
        bind(world, Some(home));
        changed = true;
    }
    let made = image.filter(|image| image.status.as_ref().is_some_and(|status| status.digest.is_none()));
    let host: Option<Hypervisor> = api.read(None, NODE);
    let lines = host
        .and_then(|host| host.status)
        .map(|status| status.images)
        .unwrap_or_default();
    if let Some(image) = made
        && let Some(line) = lines.iter().find(|line| Some(&line.uid) == image.metadata.uid.as_ref())
        && line.state == CachedImageState::Cached
    {
        let holders = json!([{"node": NODE, "address": holder}]);
        let status = json!({
            "state": ImageState::Active, "digest": line.digest, "importer": null, "keeper": NODE, "holders": holders,
            "virtualSize": line.virtual_size, "nodes": {"cached": 1, "pulling": 0},
        });
        api.merge_status::<Image>(Some(SHOP), &name, status);
        changed = true;
    }
    changed
}

fn bind(world: &World, node: Option<&str>) {
    let bound = json!({"spec": {"nodeName": node}});
    world.api.merge::<Instance>(Some(SHOP), NAME, bound.clone());
    for port in world.api.list::<Port>() {
        world.api.merge::<Port>(Some(SHOP), &port.name_any(), bound.clone());
    }
}

/// Lets go of what is deleted while it is on no host.
pub fn release(world: &World) {
    if instance(world).spec.node_name.is_none() {
        world
            .api
            .merge::<Instance>(Some(SHOP), NAME, json!({"metadata": {"finalizers": null}}));
    }
}
