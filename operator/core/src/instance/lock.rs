//! What may be changed of an Instance that is locked? Nova: a locked server takes no action but unlock.

use serde_json::{Map, Value, json};
use virga_crds::Instance;

use crate::problem::Problems;

/// What a lock does not hold: the lock itself, and the binding, which is ours.
const FREE: [&str; 2] = ["locked", "nodeName"];

/// Every field that differs although both are locked. A lock that is taken out holds nothing, whatever else changes with it.
pub fn kept_by_lock(old: &Instance, new: &Instance) -> Problems {
    let mut problems = Problems::default();
    let (Some(lock), Some(_)) = (&old.spec.locked, &new.spec.locked) else {
        return problems;
    };
    let fields = |instance: &Instance| match json!(instance.spec) {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    let (old, new) = (fields(old), fields(new));
    let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let reason = match lock.reason.as_str() {
        "" => String::new(),
        reason => format!(" ({reason})"),
    };
    for name in names.into_iter().filter(|name| !FREE.contains(&name.as_str())) {
        if old.get(name) != new.get(name) {
            let message = format!("the Instance is locked{reason}: take spec.locked out first");
            problems.add(format!("spec.{name}"), message);
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use virga_crds::{InstanceSpec, Lock, PowerState};

    use super::*;

    fn instance(locked: bool, power_state: PowerState, tier: Option<&str>) -> Instance {
        let spec = InstanceSpec {
            locked: locked.then(|| Lock {
                reason: "an audit".into(),
            }),
            power_state,
            metadata: tier
                .map(|tier| ("tier".to_owned(), tier.to_owned()))
                .into_iter()
                .collect(),
            ..InstanceSpec::default()
        };
        Instance::new("web", spec)
    }

    #[test]
    fn each_field_that_a_lock_keeps_is_told_with_the_reason() {
        let old = instance(true, PowerState::Running, None);
        let said = kept_by_lock(&old, &instance(true, PowerState::Stopped, Some("db")));
        let fields: Vec<_> = said.iter().map(|problem| problem.field.as_str()).collect();
        assert_eq!(fields, ["spec.metadata", "spec.powerState"]);
        assert!(
            said.to_string()
                .contains("locked (an audit): take spec.locked out first"),
            "{said}"
        );
    }

    #[test]
    fn a_lock_may_come_go_and_change_its_reason() {
        let (locked, free) = (
            instance(true, PowerState::Running, None),
            instance(false, PowerState::Stopped, Some("db")),
        );
        assert!(kept_by_lock(&locked, &free).is_empty(), "unlocked with what it kept");
        assert!(kept_by_lock(&free, &locked).is_empty(), "locked with a last change");
        let mut why = locked.clone();
        why.spec.locked = Some(Lock::default());
        why.spec.node_name = Some("node-1".into());
        assert!(kept_by_lock(&locked, &why).is_empty());
    }
}
