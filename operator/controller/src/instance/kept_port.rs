//! May an Instance have the Port that its interface names, and how does it come by it and let go of it? By one write each, that
//! fails if somebody else has written since the Port was read.

use std::sync::Arc;

use kube::ResourceExt as _;
use serde_json::{Value, json};
use virga_core::{
    carried::Obstacle,
    instance::{Plug, hostname},
    network::{is_given, is_port_of, is_users},
};
use virga_crds::{
    Instance, Port, TrunkParent,
    conditions::{Reason, types},
};
use virga_runtime::apply::{self, Writer};

use crate::stores::Stores;

/// The Port, if the Instance has it or may have it.
pub(super) fn found(stores: &Stores, instance: &Instance, plug: &Plug<'_>, name: &str) -> Result<Arc<Port>, Obstacle> {
    let (field, own) = (plug.field(), instance.namespace().unwrap_or_default());
    let obstacle = |reason, message: String| Obstacle {
        reason,
        message: format!("{field}.port: {message}"),
    };
    let Some(live) = stores.port(&own, name) else {
        let message = format!("Port {own}/{name} doesn't exist: create it, or name another");
        return Err(obstacle(Reason::PortNotFound, message));
    };
    if let Some(message) = mismatch(&live, plug, &own) {
        return Err(obstacle(Reason::Invalid, message));
    }
    if is_port_of(&live, instance) {
        return Ok(live);
    }
    if live.metadata.deletion_timestamp.is_some() {
        let message = format!("Port {own}/{name} is being deleted: name another");
        return Err(obstacle(Reason::PortNotFound, message));
    }
    if !is_given(&live.spec) {
        let message = format!("Port {own}/{name} has no addresses yet{}", why(&live));
        return Err(obstacle(Reason::WaitingForAddress, message));
    }
    if !live.spec.instance.is_empty() {
        let holder = match live.spec.instance.as_str() {
            theirs if theirs == instance.name_any() => "a former Instance of this name".to_owned(),
            theirs => format!("Instance {theirs}"),
        };
        let message =
            format!("Port {own}/{name} is {holder}'s: it waits until that is deleted, or its interface taken out");
        return Err(obstacle(Reason::PortInUse, message));
    }
    Ok(live)
}

/// Why a Port is not what an interface of this namespace says of it.
pub fn mismatch(port: &Port, plug: &Plug<'_>, own: &str) -> Option<String> {
    let (name, spec) = (port.name_any(), &port.spec);
    if !is_users(spec) {
        return Some(format!(
            "Port {own}/{name} was made for something else, and goes with it: name one that you made"
        ));
    }
    let (from, interface) = (spec.network_in(own), plug.interface.as_ref());
    if (spec.network.as_str(), from) == (interface.network.as_str(), interface.network_in(own)) {
        return None;
    }
    let place = match &spec.network_namespace {
        Some(from) => format!("network {} and networkNamespace {from}", spec.network),
        None => format!("network {}", spec.network),
    };
    Some(format!(
        "Port {own}/{name} is in Network {from}/{}: write {place} here, or name another Port",
        spec.network
    ))
}

/// What the Port says itself.
fn why(port: &Port) -> String {
    let conditions = port.status.iter().flat_map(|status| &status.conditions);
    let ready = conditions.into_iter().find(|condition| condition.type_ == types::READY);
    ready.map_or_else(String::new, |ready| format!(": {}", ready.message))
}

/// Makes it the Instance's, on its node and in its trunk. Returns whether anything was written.
pub(super) async fn claim(
    writer: &Writer,
    live: &Port,
    instance: &Instance,
    trunk: Option<TrunkParent>,
) -> Result<bool, apply::Error> {
    let mut wanted = live.spec.clone();
    wanted.instance = instance.name_any();
    wanted.instance_uid = instance.uid();
    wanted.hostname = hostname(instance).to_owned();
    wanted.node_name.clone_from(&instance.spec.node_name);
    wanted.trunk = trunk;
    if wanted == live.spec {
        return Ok(false);
    }
    let fields = json!({"spec": {
        "instance": wanted.instance,
        "instanceUID": wanted.instance_uid,
        "hostname": wanted.hostname,
        "nodeName": wanted.node_name,
        "trunk": wanted.trunk,
    }});
    writer.merge_unchanged(live, "claiming", fields).await.map(|_| true)
}

/// It is nobody's again, with its addresses.
fn nobodys() -> Value {
    json!({"spec": {"instance": null, "instanceUID": null, "hostname": null, "nodeName": null, "trunk": null}})
}

/// Gives it back.
pub async fn let_go(writer: &Writer, live: &Port) -> Result<(), apply::Error> {
    match writer.merge_unchanged(live, "letting go of", nobodys()).await {
        Err(error) if error.is_not_found() => Ok(()),
        done => done.map(|_| ()),
    }
}

#[cfg(test)]
mod tests;
