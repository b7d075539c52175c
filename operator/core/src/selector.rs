//! Which objects does a label selector choose?

use std::collections::BTreeMap;

use virga_crds::{LabelOperator, LabelRequirement, LabelSelector};

/// Kubernetes' rule: all that is said must hold, so an empty selector takes everything.
pub fn selects(selector: &LabelSelector, labels: Option<&BTreeMap<String, String>>) -> bool {
    let value = |key: &str| labels.and_then(|labels| labels.get(key));
    selector
        .match_labels
        .iter()
        .all(|(key, wanted)| value(key) == Some(wanted))
        && selector
            .match_expressions
            .iter()
            .all(|requirement| holds(requirement, value(&requirement.key)))
}

fn holds(requirement: &LabelRequirement, value: Option<&String>) -> bool {
    match requirement.operator {
        LabelOperator::In => value.is_some_and(|value| requirement.values.contains(value)),
        LabelOperator::NotIn => value.is_none_or(|value| !requirement.values.contains(value)),
        LabelOperator::Exists => value.is_some(),
        LabelOperator::DoesNotExist => value.is_none(),
    }
}
