//! May an Instance be moved? What is under way, and what is wrong for ever, is refused; what may change is waited for.

use kube::ResourceExt;
use virga_crds::{Migration, MigrationPhase};

use super::Findings;
use crate::stores::Stores;

/// A new Migration.
pub(super) fn new(new: &Migration, stores: &Stores) -> Findings {
    let mut findings = Findings::default();
    let namespace = new.namespace().unwrap_or_default();
    let name = &new.spec.instance;
    let under_way = stores.migrations.state().into_iter().find(|other| {
        let phase = other.status.as_ref().and_then(|status| status.phase);
        other.namespace().as_ref() == Some(&namespace)
            && &other.spec.instance == name
            && !phase.is_some_and(MigrationPhase::is_over)
    });
    if let Some(other) = under_way {
        let message = format!(
            "Migration {} of {name} is under way: wait for its end, or delete it",
            other.name_any()
        );
        findings.problems.add("spec.instance", message);
    }
    let instance = stores.instance(&namespace, name);
    if instance.is_none() {
        findings.warn("spec.instance", &format!("there is no Instance {name:?} yet: it waits"));
    }
    let source = instance.and_then(|instance| instance.spec.node_name.clone());
    if new.spec.target.is_some() && new.spec.target == source {
        findings.problems.add(
            "spec.target",
            format!("{name} is on this host already: name another, or none"),
        );
    }
    findings
}
