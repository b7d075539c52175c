//! What of a SecurityGroup, and of an interface that names some, can only be told by looking at the others?

use kube::ResourceExt as _;
use virga_core::{
    instance::plugs,
    network::Backend,
    security_group::{Remote, missing_remotes},
};
use virga_crds::{Instance, SecurityGroup};

use super::Findings;
use crate::{
    network::of_interface,
    security_group::{is_there, wrong},
    stores::Stores,
};

/// A group whose rules name others that are not there waits for them.
pub(super) fn group(new: &SecurityGroup, stores: &Stores) -> Findings {
    let mut findings = Findings::default();
    let (namespace, itself) = (new.namespace().unwrap_or_default(), new.name_any());
    let is_there = |remote: Remote<'_>| remote == Remote::Group(&itself) || is_there(stores, &namespace, remote);
    for (rule, remote) in missing_remotes(new, is_there) {
        let (kind, namespace, name) = remote.place(&namespace);
        let message =
            format!("there is no {kind} {name:?} in namespace {namespace}: until there is, the rule lets nothing pass");
        findings.warn(&format!("spec.rules[{rule}].remote.{}", remote.field()), &message);
    }
    findings
}

/// What is wrong with the groups and address pairs that an Instance asks for anew.
pub(super) fn interfaces(
    new: &Instance,
    old: Option<&Instance>,
    stores: &Stores,
    backend: Backend,
    findings: &mut Findings,
) {
    let namespace = new.namespace().unwrap_or_default();
    for plug in plugs(&new.spec) {
        let interface = plug.interface.as_ref();
        let before = old.is_some_and(|old| plugs(&old.spec).any(|before| before.interface == plug.interface));
        let network = of_interface(stores, &namespace, interface);
        let Some(network) = network.ok().filter(|_| !before) else {
            continue;
        };
        let Some(found) = wrong(stores, backend, &namespace, &network, interface) else {
            continue;
        };
        let field = format!("{}.{}", plug.field(), found.field);
        if found.may_come() {
            findings.warn(&field, &found.message);
        } else {
            findings.problems.add(field, found.message);
        }
    }
}
