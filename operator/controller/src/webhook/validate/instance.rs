//! What of an Instance can only be told by looking at the others?

use std::{net::IpAddr, sync::Arc};

use jiff::Timestamp;
use kube::{ResourceExt, runtime::reflector::ObjectRef};
use virga_core::{
    instance::{self, Plug, plugs},
    network::{self, Purpose, is_given, is_port_of},
};
use virga_crds::{Image, ImageRef, ImageVisibility, Instance, Interface, Port, Scheduling, Volume};

use super::Findings;
use crate::{
    instance::kept_port,
    network::of_interface,
    scheduling::{request, volumes},
    stores::Stores,
};

/// What is wrong with an Instance by itself.
fn validate(new: &Instance) -> Findings {
    Findings {
        problems: instance::validate(new),
        warnings: Vec::new(),
    }
}

/// What is wrong with a change of an Instance: the change itself, and what it adds beside the others. What was there before
/// stays whatever the others have become.
pub(super) fn validate_change(new: &Instance, old: Option<&Instance>, stores: &Stores) -> Findings {
    let mut findings = validate(new);
    let Some(old) = old else { return findings };
    findings.problems.extend(instance::kept_by_lock(old, new));
    findings.problems.extend(instance::rebuild_in_time(old, new));
    for plug in plugs(&new.spec) {
        if !plugs(&old.spec).any(|before| before.interface.network == plug.interface.network) {
            validate_interface(new, &plug, stores, &mut findings);
            if let Some(message) = instance::no_such_card(&plug.interface) {
                findings.warn(&format!("{}.vnicType", plug.field()), &message);
            }
        }
    }
    for (field, volume) in volumes::named(new) {
        if volumes::named(old).all(|(_, before)| before != volume) {
            validate_holder(new, &field, volume, stores, &mut findings);
            warn_of_distance(new, &field, volume, stores, &mut findings);
        }
    }
    findings
}

/// A volume that is added to an Instance which has a host already must be there too.
fn warn_of_distance(new: &Instance, field: &str, volume: &str, stores: &Stores, findings: &mut Findings) {
    let namespace = new.namespace().unwrap_or_default();
    let found = stores.volumes.get(&ObjectRef::<Volume>::new(volume).within(&namespace));
    let Some(found) = found else {
        let message = format!("there is no Volume {volume:?} in namespace {namespace}: create it");
        findings.warn(field, &message);
        return;
    };
    if let (Some(there), Some(here)) = (&found.spec.node_name, &new.spec.node_name)
        && there != here
    {
        let message =
            format!("the Volume {volume:?} is on another host: it can't be attached to an Instance on this one");
        findings.warn(field, &message);
    }
}

/// A volume is one Instance's at a time.
fn validate_holder(new: &Instance, field: &str, volume: &str, stores: &Stores, findings: &mut Findings) {
    let holder = other_instances(new, stores).find(|other| volumes::named(other).any(|(_, name)| name == volume));
    if let Some(holder) = holder {
        let message = format!(
            "the Volume {volume:?} belongs to Instance {:?}: take it out of that one, or name another volume",
            holder.name_any()
        );
        findings.problems.add(field, message);
    }
}

/// What is wrong with an Instance that is being created, by itself and beside the others.
pub(super) fn validate_new(new: &Instance, stores: &Stores) -> Findings {
    let mut findings = validate(new);
    // The time is for hosts that rejected it: a new one has none.
    if let Err(obstacles) = request::request("", new, stores, Timestamp::MIN) {
        for obstacle in obstacles {
            if obstacle.stuck {
                findings.problems.add(obstacle.field, obstacle.message);
            } else {
                findings.warn(&obstacle.field, &obstacle.message);
            }
        }
    }
    for plug in plugs(&new.spec) {
        validate_interface(new, &plug, stores, &mut findings);
    }
    warn_of_cordon(new, stores, &mut findings);
    if let Some(circle) = circle(new, stores) {
        let message = format!("none of these would ever be placed, for each waits for the next: {circle}");
        findings.problems.add("spec.placement.hints.sameHost", message);
    }
    for (field, volume) in volumes::named(new) {
        validate_holder(new, &field, volume, stores, &mut findings);
    }
    findings
}

/// An operator may name a cordoned host, and lift the cordon afterwards; until then the Instance waits.
fn warn_of_cordon(new: &Instance, stores: &Stores, findings: &mut Findings) {
    let host = new
        .spec
        .placement
        .as_ref()
        .and_then(|placement| placement.host.as_ref());
    let Some(host) = host else { return };
    let found = stores.hypervisors.get(&ObjectRef::new(host));
    if found.is_some_and(|found| found.spec.scheduling != Scheduling::Enabled) {
        let message =
            format!("the host {host:?} is cordoned: the Instance waits until it is not; or name another host");
        findings.warn("spec.placement.host", &message);
    }
}

/// How many Instances a chain of hints is followed through.
const LONGEST_CHAIN: usize = 64;

/// A chain of Instances that have no host, each to be placed beside the next one only, that ends where it began.
fn circle(new: &Instance, stores: &Stores) -> Option<String> {
    let (namespace, itself) = (new.namespace()?, new.metadata.name.clone()?);
    let next = |instance: &Instance| {
        let hints = instance.spec.placement.as_ref()?.hints.as_ref()?;
        match hints.same_host.as_slice() {
            [only] if instance.spec.node_name.is_none() => Some(only.clone()),
            _ => None,
        }
    };
    let mut chain = vec![itself.clone()];
    let mut at = next(new)?;
    while chain.len() < LONGEST_CHAIN {
        chain.push(at.clone());
        if at == itself {
            // An Instance that names itself is told so where it is looked at by itself.
            return (chain.len() > 2).then(|| chain.join(", "));
        }
        at = next(stores.instance(&namespace, &at)?.as_ref())?;
    }
    None
}

/// A Port that is named may come, and be let go of by who has it.
fn validate_named_port(new: &Instance, plug: &Plug<'_>, stores: &Stores, findings: &mut Findings) {
    let namespace = new.namespace().unwrap_or_default();
    let Some(name) = &plug.interface.port else { return };
    let field = format!("{}.port", plug.field());
    let Some(port) = stores.port(&namespace, name) else {
        let message = format!("there is no Port {name:?} in namespace {namespace}: create it; until then it waits");
        return findings.warn(&field, &message);
    };
    if let Some(message) = kept_port::mismatch(&port, plug, &namespace) {
        findings.problems.add(field, message);
    } else if !port.spec.instance.is_empty() && !is_port_of(&port, new) {
        let holder = &port.spec.instance;
        let message = format!("Port {name:?} is Instance {holder:?}'s: it waits until that lets go of it");
        findings.warn(&field, &message);
    }
}

fn validate_interface(new: &Instance, plug: &Plug<'_>, stores: &Stores, findings: &mut Findings) {
    let namespace = new.namespace().unwrap_or_default();
    validate_named_port(new, plug, stores, findings);
    let (field, interface) = (plug.field(), plug.interface.as_ref());
    let network = match of_interface(stores, &namespace, interface) {
        Ok(network) => network,
        Err(message) => return findings.warn(&field, &message),
    };
    let ip = interface
        .address
        .as_deref()
        .and_then(|text| text.parse::<IpAddr>().ok());
    if let Some(ip) = ip {
        let field = format!("{field}.address");
        // A Network that is wrong by itself says so in its own status.
        if let Ok(valid) = network::validate(&network.spec) {
            findings.problems.extend(instance::validate_address(&field, ip, &valid));
        }
        if let Some(owner) = owner_of(new, interface, stores, |address, _| address.parse() == Ok(ip)) {
            let message = format!("{ip} belongs to {owner}: choose another, or leave the address out");
            findings.problems.add(field, message);
        }
    }
    if let Some(mac) = &interface.mac
        && let Some(owner) = owner_of(new, interface, stores, |_, theirs| theirs == mac)
    {
        let message = format!("{mac} belongs to {owner}: choose another, or leave the mac out");
        findings.problems.add(format!("{field}.mac"), message);
    }
}

/// Who else has, or asks for, an interface like this in the same network.
fn owner_of(
    new: &Instance,
    interface: &Interface,
    stores: &Stores,
    same: impl Fn(&str, &str) -> bool,
) -> Option<String> {
    let (namespace, name) = (new.namespace().unwrap_or_default(), new.metadata.name.as_deref());
    let from = interface.network_in(&namespace);
    let has = has(stores, &interface.network, from, |port| {
        let theirs = port.namespace().unwrap_or_default();
        (theirs != namespace || Some(port.spec.instance.as_str()) != name)
            && (same("", &port.spec.mac) || port.spec.addresses.iter().any(|address| same(&address.ip, "")))
    });
    if let Some(port) = has {
        return Some(whose(&port, &namespace));
    }
    let asks = other_instances(new, stores).find(|other| {
        plugs(&other.spec).any(|theirs| {
            let theirs = theirs.interface;
            let (address, mac) = (
                theirs.address.as_deref().unwrap_or(""),
                theirs.mac.as_deref().unwrap_or(""),
            );
            theirs.network == interface.network && theirs.network_in(&namespace) == from && same(address, mac)
        })
    });
    asks.map(|other| format!("Instance {:?}", other.name_any()))
}

/// A Port of a Network that has what it was given.
fn has(stores: &Stores, network: &str, from: &str, same: impl Fn(&Port) -> bool) -> Option<Arc<Port>> {
    stores.ports.find(|port| {
        let theirs = port.namespace().unwrap_or_default();
        port.spec.network == network && port.spec.network_in(&theirs) == from && is_given(&port.spec) && same(port)
    })
}

/// Who else has what a Port asks for.
pub(super) fn holder_of(new: &Port, stores: &Stores, same: impl Fn(&Port) -> bool) -> Option<String> {
    let own = new.namespace().unwrap_or_default();
    let itself = |port: &Port| (port.namespace(), port.name_any()) == (new.namespace(), new.name_any());
    let found = has(stores, &new.spec.network, new.spec.network_in(&own), |port| {
        !itself(port) && same(port)
    });
    found.map(|port| whose(&port, &own))
}

/// Whose a Port is, for somebody of this namespace.
fn whose(port: &Port, namespace: &str) -> String {
    match Purpose::of(port) {
        Some((purpose, holder)) => format!("{} {:?}", purpose.kind(), holder.name),
        None if port.namespace().as_deref() != Some(namespace) => "somebody of another namespace".to_owned(),
        None if port.spec.instance.is_empty() => format!("Port {:?}", port.name_any()),
        None => format!("Instance {:?}", port.spec.instance),
    }
}

/// The Instances of the same namespace that are there to stay.
fn other_instances(new: &Instance, stores: &Stores) -> impl Iterator<Item = Arc<Instance>> {
    let (namespace, name) = (new.namespace(), new.metadata.name.clone());
    stores.instances.state().into_iter().filter(move |other| {
        other.namespace() == namespace && other.metadata.name != name && other.metadata.deletion_timestamp.is_none()
    })
}

/// An Image that this namespace may use.
pub(super) fn visible_image(image: &ImageRef, namespace: &str, stores: &Stores) -> Option<Arc<Image>> {
    let owner = image.namespace.as_deref().unwrap_or(namespace);
    let visible = |image: &Arc<Image>| owner == namespace || image.spec.visibility == ImageVisibility::Public;
    stores.image(owner, &image.name).filter(visible)
}
