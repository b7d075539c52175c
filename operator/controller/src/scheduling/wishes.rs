//! What does an Instance ask of its host beyond room? Its Flavor's extra specs, its image's traits, its hints. Pure over
//! what the stores hold.

use std::collections::BTreeSet;

use kube::{ResourceExt, runtime::reflector::ObjectRef};
use virga_core::{flavor::ExtraSpecs, hypervisor::check_trait, image, instance::is_shelved_away};
use virga_crds::{Image, Instance, SchedulerHints, conditions::Reason};
use virga_scheduler::{Demands, Hints, Query, Uid, near};

use super::{
    missing::{Named, key, missing},
    obstacle::Obstacle,
};
use crate::stores::Stores;

const TRAIT: &str = "trait:";

/// What is asked for, and what stands in the way is added to `obstacles`.
pub(super) fn demands(
    instance: &Instance,
    extra: &ExtraSpecs,
    image: Option<&Image>,
    stores: &Stores,
    obstacles: &mut Vec<Obstacle>,
) -> Demands {
    let mut required_traits = extra.required.clone();
    let properties = image.map(|image| &image.spec.properties);
    required_traits.extend(extra.machine_traits(properties));
    required_traits.extend(properties.map(image::required_traits).unwrap_or_default());
    let hints = instance.spec.placement.as_ref();
    let hints = hints.and_then(|placement| placement.hints.as_ref());
    Demands {
        not_member_of: reserved_aggregates(&required_traits, stores),
        required_traits,
        forbidden_traits: extra.forbidden.clone(),
        any_traits: extra.any_of.iter().cloned().collect(),
        aggregate_specs: extra.aggregate.clone(),
        capabilities: extra.capabilities.clone(),
        hints: hints.map_or_else(Hints::default, |hints| read(instance, hints, stores, obstacles)),
        ..Demands::default()
    }
}

/// Aggregates that are kept for those who require a trait that this one does not: their metadata says
/// `trait:NAME: required` (Nova's `isolate_aggregates`).
fn reserved_aggregates(required: &BTreeSet<String>, stores: &Stores) -> BTreeSet<String> {
    let kept = |(key, value): (&String, &String)| {
        let name = key.strip_prefix(TRAIT)?;
        let keeps = value == "required" && check_trait(name).is_ok();
        (keeps && !required.contains(name)).then_some(())
    };
    let aggregates = stores.host_aggregates.state();
    let reserved = aggregates
        .iter()
        .filter(|aggregate| aggregate.spec.metadata.iter().find_map(kept).is_some());
    reserved.map(|aggregate| aggregate.name_any()).collect()
}

fn read(instance: &Instance, hints: &SchedulerHints, stores: &Stores, obstacles: &mut Vec<Obstacle>) -> Hints {
    let mut named = |field, names| instances(instance, field, names, stores, obstacles);
    let different_host = named("spec.placement.hints.differentHost", &hints.different_host);
    let same_host = named("spec.placement.hints.sameHost", &hints.same_host);
    let mut wrong = |field: &str, message: String| {
        obstacles.push(Obstacle {
            reason: Reason::Invalid,
            field: field.into(),
            message,
            waits_for: String::new(),
            stuck: true,
        });
    };
    let query = hints.query.as_deref().and_then(|text| {
        Query::parse(text)
            .map_err(|error| wrong("spec.placement.hints.query", error.to_string()))
            .ok()
    });
    // An address or a prefix that is none is told where the Instance is looked at by itself.
    let near = hints
        .build_near_host_ip
        .as_deref()
        .and_then(|ip| near(ip, hints.cidr.as_deref()).ok());
    Hints {
        different_host,
        same_host,
        query,
        near,
    }
}

/// The Instances of its namespace that a hint names.
fn instances(
    instance: &Instance,
    field: &str,
    names: &[String],
    stores: &Stores,
    obstacles: &mut Vec<Obstacle>,
) -> BTreeSet<Uid> {
    let namespace = instance.namespace().unwrap_or_default();
    let mut found = BTreeSet::new();
    for name in names {
        if let Some(uid) = stores.instance(&namespace, name).and_then(|other| other.uid()) {
            found.insert(Uid::from(uid));
            continue;
        }
        // It is there itself by the time it waits, and is not what was meant.
        let itself = instance.metadata.name.clone();
        let known = stores.instances.state();
        let here = known
            .iter()
            .filter(|other| other.namespace().as_deref() == Some(&namespace));
        let known = here.map(|other| other.name_any());
        let known = known.filter(|name| Some(name) != itself.as_ref());
        let there = Some((namespace.as_str(), namespace.as_str()));
        obstacles.push(missing(Named::Instance, field, there, name, known));
    }
    found
}

/// The host that the Instance must go to, if it names one and the host is there. The names of others are not for everybody.
///
/// It is for when it is placed first: one that was on a host goes wherever it is moved or comes back to, as in Nova, which
/// forgets the host when a server is migrated, resized or unshelved (`reset_forced_destinations`).
pub(super) fn forced_host(instance: &Instance, stores: &Stores, obstacles: &mut Vec<Obstacle>) -> Option<String> {
    let host = instance.spec.placement.as_ref()?.host.as_ref()?;
    if instance.spec.node_name.is_some() || is_shelved_away(instance) {
        return None;
    }
    if stores.hypervisors.get(&ObjectRef::new(host)).is_none() {
        obstacles.push(Obstacle {
            reason: Reason::HypervisorNotFound,
            field: "spec.placement.host".into(),
            message: format!("there is no Hypervisor {host:?}: add the host, or name another"),
            waits_for: key("Hypervisor", "", host),
            stuck: false,
        });
    }
    Some(host.clone())
}
