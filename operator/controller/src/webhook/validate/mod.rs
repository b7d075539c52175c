//! What may be created, changed and deleted? The rules of `virga-core`, and what only the other objects can tell.
//!
//! Everything that is wrong is said at once. What is only missing is a warning: a Git repository applies in any order.

mod deletion;
mod hosts;
mod instance;
mod load_balancer;
mod migration;
mod port;
mod router;
mod security_group;

use kube::{ResourceExt, core::admission::Operation};
use serde::de::DeserializeOwned;
use virga_core::{flavor, image, network, problem::Problems};
use virga_crds::{
    AddressGroup, Flavor, Image, Instance, Network, Project, SYSTEM_NAMESPACE, SecurityGroup, ServerGroup, Volume,
};

use virga_scheduler::Attribute;

use super::{
    Webhooks,
    review::{Answer, Objects, Request, objects},
};
use crate::stores::Stores;

/// What was found.
#[derive(Debug, Default)]
struct Findings {
    problems: Problems,
    warnings: Vec<String>,
}

impl Findings {
    fn warn(&mut self, field: &str, message: &str) {
        self.warnings.push(format!("{field}: {message}"));
    }
}

pub(super) fn review(hooks: &Webhooks, request: &Request) -> Answer {
    if request.sub_resource.as_deref().is_some_and(|name| !name.is_empty()) {
        return Answer::allow();
    }
    let stores = &hooks.stores;
    match (request.kind.kind.as_str(), &request.operation) {
        (_, Operation::Delete) => deletion::review(stores, request),
        ("AddressGroup", _) => check::<AddressGroup>(request, |_, _| Findings::default()),
        ("Flavor", _) => check(request, |new, _| flavor(new)),
        ("FloatingIP", _) => check(request, |new, _| router::floating_ip(new, stores)),
        ("HostAggregate", _) => check(request, |new, _| hosts::host_aggregate(new, stores)),
        ("Hypervisor", _) => check(request, |new, _| hosts::hypervisor(new, stores)),
        ("Image", _) => check(request, |new, _| image(new)),
        ("Instance", _) => check(request, |new: &Instance, old| {
            let mut findings = match request.operation {
                Operation::Update => instance::validate_change(new, old, stores),
                _ => instance::validate_new(new, stores),
            };
            security_group::interfaces(new, old, stores, hooks.backend, &mut findings);
            findings
        }),
        ("LoadBalancer", _) => check(request, |new, _| load_balancer::load_balancer(new, stores)),
        ("Migration", Operation::Create) => check(request, |new, _| migration::new(new, stores)),
        ("Network", _) => check(request, |new: &Network, _| Findings {
            problems: network::validate(&new.spec)
                .and_then(|valid| hooks.backend.check(&valid))
                .err()
                .unwrap_or_default(),
            ..Findings::default()
        }),
        ("Port", _) => port::review(hooks, request),
        // What the others say counts once: what it is about is immutable, and a Project, Volume or Instance that is there
        // must stay changeable whatever the others have become.
        ("Migration" | "Project" | "Volume", Operation::Update) => Answer::allow(),
        ("Project", _) => check(request, |new, _| project(new, stores)),
        ("Router", _) => check(request, |new, _| router::router(new, stores)),
        ("SecurityGroup", _) => check(request, |new: &SecurityGroup, _| security_group::group(new, stores)),
        ("ServerGroup", _) => check::<ServerGroup>(request, |_, _| Findings::default()),
        ("Volume", _) => check(request, |new, _| volume(new, stores)),
        // The chart sends our kinds only.
        _ => Answer::allow(),
    }
}

/// Runs the rules of a kind on a create, and on an update that changes the spec.
///
/// An update of something else is always let through, and so is any of an object on its way out: rules that have become
/// stricter must not keep a finalizer or a label from being changed.
fn check<K>(request: &Request, rules: impl FnOnce(&K, Option<&K>) -> Findings) -> Answer
where
    K: kube::Resource + Clone + DeserializeOwned,
{
    // A binding is not the user's: whether an Instance may be bound was decided when it was created.
    let spec = |object: &Option<kube::core::DynamicObject>| {
        let mut spec = object.as_ref()?.data.get("spec").cloned()?;
        if request.kind.kind != "Port" {
            spec.as_object_mut().map(|fields| fields.remove("nodeName"));
        }
        Some(spec)
    };
    let on_its_way = request
        .object
        .as_ref()
        .is_some_and(|object| object.metadata.deletion_timestamp.is_some());
    let unchanged = request.operation == Operation::Update && spec(&request.object) == spec(&request.old_object);
    if on_its_way || unchanged {
        return Answer::allow();
    }
    let Objects { new, old } = match objects::<K>(request) {
        Ok(objects) => objects,
        Err(problems) => return Answer::of(problems),
    };
    let Some(mut new) = new else { return Answer::allow() };
    if new.meta().namespace.is_none() {
        new.meta_mut().namespace.clone_from(&request.namespace);
    }
    let Findings { problems, warnings } = rules(&new, old.as_ref());
    Answer {
        warnings,
        ..Answer::of(problems)
    }
}

fn flavor(new: &Flavor) -> Findings {
    let mut findings = Findings::default();
    match flavor::extra_specs(&new.spec) {
        Err(problems) => findings.problems = problems,
        // What hosts can be asked about is the scheduler's to say.
        Ok(extra) => {
            for path in extra.capabilities.keys() {
                let parts: Vec<&str> = path.split(':').collect();
                if Attribute::find(&parts).is_none() {
                    let message = "a host has no such capability: see docs/scheduling.md for those that it has";
                    findings
                        .problems
                        .add(format!("spec.extraSpecs[capabilities:{path}]"), message);
                }
            }
        }
    }
    findings
}

fn image(new: &Image) -> Findings {
    Findings {
        problems: image::validate_properties(&new.spec.properties),
        warnings: Vec::new(),
    }
}

fn project(new: &Project, stores: &Stores) -> Findings {
    let mut findings = Findings::default();
    let name = new.name_any();
    let namespace = namespace_of(new);
    let field = if new.spec.namespace.is_some() {
        "spec.namespace"
    } else {
        "metadata.name"
    };
    if namespace == "default" || namespace.starts_with("kube-") || namespace == SYSTEM_NAMESPACE {
        findings.problems.add(
            field,
            format!("namespace {namespace} is the cluster's own: choose another"),
        );
    }
    let others = stores.projects.state();
    let owner = others.iter().find(|other| {
        other.name_any() != name && other.metadata.deletion_timestamp.is_none() && namespace_of(other) == namespace
    });
    if let Some(owner) = owner {
        let message = format!(
            "namespace {namespace} belongs to Project {}: choose another",
            owner.name_any()
        );
        findings.problems.add(field, message);
    }
    findings
}

fn namespace_of(project: &Project) -> String {
    project.spec.namespace.clone().unwrap_or_else(|| project.name_any())
}

fn volume(new: &Volume, stores: &Stores) -> Findings {
    let mut findings = Findings::default();
    let Some(source) = &new.spec.source else {
        return findings;
    };
    let namespace = new.namespace().unwrap_or_default();
    match instance::visible_image(&source.image, &namespace, stores) {
        None => {
            let message = format!(
                "there is no Image {:?} that it can be filled with yet: it waits",
                source.image.name
            );
            findings.warn("spec.source.image", &message);
        }
        Some(image) => {
            let needed = image
                .status
                .as_ref()
                .and_then(|status| status.virtual_size)
                .unwrap_or_default();
            let needed = needed.max(image.spec.min_disk);
            if needed > new.spec.size {
                let message = format!(
                    "{} is less than the {needed} that Image {:?} needs",
                    new.spec.size,
                    image.name_any()
                );
                findings.problems.add("spec.size", message);
            }
        }
    }
    findings
}
