//! May it be deleted? What is in use stays until it is not: its finalizer sees to that, and the user is told. Before the
//! controller has set the finalizer, the delete is refused.

use std::collections::BTreeSet;

use kube::{Resource, ResourceExt, core::DynamicObject};
use virga_core::{
    network::is_users,
    protection,
    uses::{Names, Target, TargetKind, User},
};
use virga_crds::{PortSpec, finalizers};

use super::super::review::{Answer, Request};
use crate::stores::Stores;

pub(super) fn review(stores: &Stores, request: &Request) -> Answer {
    let Some(old) = &request.old_object else {
        return Answer::allow();
    };
    let namespace = old
        .namespace()
        .or_else(|| request.namespace.clone())
        .unwrap_or_default();
    let name = old.name_any();
    if request.kind.kind == "Port" {
        return port(old);
    }
    let target = match request.kind.kind.as_str() {
        "AddressGroup" => Target::within(TargetKind::AddressGroup, &namespace, &name),
        "Flavor" => Target::flavor(&name),
        "Image" => Target::within(TargetKind::Image, &namespace, &name),
        "Network" => Target::within(TargetKind::Network, &namespace, &name),
        "SecurityGroup" => Target::within(TargetKind::SecurityGroup, &namespace, &name),
        "ServerGroup" => Target::within(TargetKind::ServerGroup, &namespace, &name),
        "Volume" => Target::within(TargetKind::Volume, &namespace, &name),
        _ => return Answer::allow(),
    };
    let users = users(&target, stores);
    let Some(in_use) = protection::in_use(&target.namespace, users.iter()) else {
        return Answer::allow();
    };
    // A Volume that is bound is held by its node's agent, until no Instance there uses it.
    let holders = [finalizers::CONTROLLER, finalizers::AGENT];
    if old
        .finalizers()
        .iter()
        .any(|finalizer| holders.contains(&finalizer.as_str()))
    {
        return Answer::allow().warn(format!(
            "{} {name} is {in_use}: it goes when they are gone",
            request.kind.kind
        ));
    }
    Answer::forbid(
        "",
        format!("{} {name:?} is {in_use}: delete those first", request.kind.kind),
    )
}

/// A Port that a user made waits for the Instance that has it; the others go with their holder.
fn port(old: &DynamicObject) -> Answer {
    let spec = old.data.get("spec").cloned().unwrap_or_default();
    let Ok(spec) = serde_json::from_value::<PortSpec>(spec) else {
        return Answer::allow();
    };
    if !is_users(&spec) || spec.instance.is_empty() {
        return Answer::allow();
    }
    Answer::allow().warn(format!(
        "Port {} is in use by Instance {}: it goes when that lets go of it",
        old.name_any(),
        spec.instance
    ))
}

/// Who names this and is there to stay.
fn users(target: &Target, stores: &Stores) -> BTreeSet<User> {
    fn of<K: Names + Resource>(objects: Vec<std::sync::Arc<K>>, target: &Target) -> impl Iterator<Item = User> {
        objects.into_iter().filter_map(move |object| {
            let stays = object.meta().deletion_timestamp.is_none();
            (stays && object.names().contains(target)).then(|| object.user())
        })
    }
    let instances = of(stores.instances.state(), target);
    instances
        .chain(of(stores.volumes.state(), target))
        .chain(of(stores.ports.state(), target))
        .chain(of(stores.routers.state(), target))
        .chain(of(stores.floating_ips.state(), target))
        .chain(of(stores.security_groups.state(), target))
        .chain(of(stores.load_balancers.state(), target))
        .collect()
}
