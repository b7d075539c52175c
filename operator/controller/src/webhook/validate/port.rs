//! May a Port be as it is written? Those that go with their holder are the controller's; of one that a user makes, what can be
//! told before it is given its addresses.

use kube::ResourceExt as _;
use virga_core::network::{
    Backend, as_interface, is_given, is_users, validate, validate_addresses, validate_port, wanted,
};
use virga_crds::Port;

use super::{Findings, Webhooks, check, instance::holder_of};
use crate::{
    network::named,
    security_group,
    stores::Stores,
    webhook::review::{Answer, Request},
};

pub(super) fn review(hooks: &Webhooks, request: &Request) -> Answer {
    if request.user_info.username.as_deref() == Some(&hooks.identities.controller) {
        return Answer::allow();
    }
    let mut of_another = false;
    let answer = check::<Port>(request, |new, old| {
        of_another = !is_users(&new.spec) || old.is_some_and(|old| !is_users(&old.spec));
        users(new, old, &hooks.stores, hooks.backend)
    });
    if of_another {
        return Answer::forbid(
            "",
            "this Port is made and changed with its Instance, Router, FloatingIP or LoadBalancer: write spec.interfaces there, or \
             make a Port of your own and name it there",
        );
    }
    answer
}

/// What is wrong with a Port that a user writes. Addresses that it has been given stay, whatever the others have become.
fn users(new: &Port, old: Option<&Port>, stores: &Stores, backend: Backend) -> Findings {
    let mut findings = Findings {
        problems: validate_port(&new.spec, backend),
        ..Findings::default()
    };
    let own = new.namespace().unwrap_or_default();
    let network = match named(stores, &own, new.spec.network_in(&own), &new.spec.network) {
        Ok(network) => network,
        Err(message) => {
            findings.warn("spec.network", &message);
            return findings;
        }
    };
    let interface = as_interface(&new.spec);
    let before = old.is_some_and(|old| as_interface(&old.spec) == interface);
    if let Some(wrong) = security_group::wrong(stores, backend, &own, &network, &interface).filter(|_| !before) {
        let field = format!("spec.{}", wrong.field);
        if wrong.may_come() {
            findings.warn(&field, &wrong.message);
        } else {
            findings.problems.add(field, wrong.message);
        }
    }
    if old.is_some_and(|old| is_given(&old.spec)) {
        return findings;
    }
    // A Network that is wrong by itself says so in its own status.
    if let Ok(valid) = validate(&network.spec) {
        findings.problems.extend(validate_addresses(&new.spec, &valid));
    }
    for ip in wanted(&new.spec) {
        let same = |port: &Port| port.spec.addresses.iter().any(|held| held.ip.parse() == Ok(ip));
        if let Some(holder) = holder_of(new, stores, same) {
            // It may come free until the Port is given its own: it waits, as one that finds nothing free does.
            findings.warn("spec.addresses", &format!("{ip} belongs to {holder}: it waits"));
        }
    }
    let mac = &new.spec.mac;
    if !mac.is_empty()
        && let Some(holder) = holder_of(new, stores, |port| port.spec.mac == *mac)
    {
        findings.warn("spec.mac", &format!("{mac} belongs to {holder}: it waits"));
    }
    findings
}
