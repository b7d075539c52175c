//! Which conditions can't be given up yet, because another writer owns a part of each and not the rest?
//!
//! Who says a condition over its owner takes from it what differs, and leaves it the type and what is the same. Given up
//! then, the API server keeps the other's part alone and refuses that, with the whole write: a condition must have a
//! message. It can be given up when its owner has said it anew.

use serde_json::{Map, Value};

/// What a condition can't be without.
const PARTS: [&str; 5] = ["type", "status", "reason", "message", "lastTransitionTime"];

/// Adds to `wanted`, what `manager` is to say of the status, its own part of each such condition as it is in `live`, which has
/// all `managedFields`. Returns whether there was any.
pub(super) fn keep(wanted: &mut Value, live: &Value, manager: &str) -> bool {
    let entries = live.pointer("/metadata/managedFields").and_then(Value::as_array);
    let of = |entry: &Value| {
        entry
            .pointer("/fieldsV1/f:status/f:conditions")
            .and_then(Value::as_object)
            .cloned()
    };
    let is_mine = |entry: &&Value| {
        let text = |field: &str| entry.get(field).and_then(Value::as_str);
        text("manager") == Some(manager) && text("operation") == Some("Apply") && text("subresource") == Some("status")
    };
    let (mine, others): (Vec<&Value>, Vec<&Value>) = entries.into_iter().flatten().partition(is_mine);
    let mine: Map<String, Value> = mine.into_iter().filter_map(of).flatten().collect();
    let others: Vec<Map<String, Value>> = others.into_iter().filter_map(of).collect();
    let conditions = live.pointer("/status/conditions").and_then(Value::as_array);
    let mut kept = Vec::new();
    for condition in conditions.into_iter().flatten() {
        let Some(kind) = condition.get("type").and_then(Value::as_str) else {
            continue;
        };
        let key = format!("k:{}", serde_json::json!({ "type": kind }));
        let Some(own) = mine.get(&key).filter(|_| !says(wanted, kind)) else {
            continue;
        };
        let theirs: Vec<&Value> = others.iter().filter_map(|fields| fields.get(&key)).collect();
        let has = |owned: &Value, part: &str| owned.get(format!("f:{part}")).is_some();
        let is_whole = PARTS
            .iter()
            .all(|part| !has(own, part) || theirs.iter().any(|owned| has(owned, part)));
        if !theirs.is_empty() && !is_whole {
            let parts = condition.as_object().into_iter().flatten();
            let parts = parts.filter(|(part, _)| *part == "type" || has(own, part));
            kept.push(Value::Object(
                parts.map(|(part, value)| (part.clone(), value.clone())).collect(),
            ));
        }
    }
    if kept.is_empty() {
        return false;
    }
    let status = wanted
        .as_object_mut()
        .map(|wanted| wanted.entry("status").or_insert_with(|| Value::Object(Map::new())));
    let conditions = status.and_then(|status| {
        let fields = status.as_object_mut()?;
        fields
            .entry("conditions")
            .or_insert_with(|| Value::Array(Vec::new()))
            .as_array_mut()
    });
    if let Some(conditions) = conditions {
        conditions.append(&mut kept);
    }
    true
}

fn says(wanted: &Value, kind: &str) -> bool {
    let conditions = wanted.pointer("/status/conditions").and_then(Value::as_array);
    conditions.is_some_and(|all| {
        all.iter()
            .any(|one| one.get("type").and_then(Value::as_str) == Some(kind))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const KEY: &str = r#"k:{"type":"Ready"}"#;

    fn condition() -> Value {
        json!({
            "type": "Ready", "status": "Unknown", "reason": "NodeLost", "message": "it is lost",
            "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1,
        })
    }

    /// An object with a condition of which both own these parts.
    fn live(mine: &[&str], theirs: Option<&[&str]>) -> Value {
        let entry = |manager: &str, parts: &[&str]| {
            let mut owned = Map::from_iter([(".".to_owned(), json!({}))]);
            owned.extend(parts.iter().map(|part| (format!("f:{part}"), json!({}))));
            json!({
                "manager": manager, "operation": "Apply", "subresource": "status",
                "fieldsV1": {"f:status": {"f:conditions": {KEY: owned}}},
            })
        };
        let entries = [("controller", Some(mine)), ("agent", theirs)];
        let entries: Vec<Value> = entries
            .into_iter()
            .filter_map(|(manager, parts)| Some(entry(manager, parts?)))
            .collect();
        json!({"metadata": {"managedFields": entries}, "status": {"conditions": [condition()]}})
    }

    #[test]
    fn what_another_owns_half_of_is_kept_as_far_as_it_is_ours() {
        let live = live(
            &["type", "status", "message"],
            Some(&["type", "reason", "lastTransitionTime"]),
        );
        let mut wanted = json!({"kind": "Instance"});
        assert!(keep(&mut wanted, &live, "controller"));
        let kept = json!([{"type": "Ready", "status": "Unknown", "message": "it is lost"}]);
        assert_eq!(wanted, json!({"kind": "Instance", "status": {"conditions": kept}}));
        // What is said of it is said.
        let mut said = json!({"status": {"conditions": [condition()]}});
        assert!(!keep(&mut said, &live, "controller"));
        assert!(!keep(&mut json!({}), &live, "somebody"));
    }

    #[test]
    fn what_nobody_else_owns_or_another_has_said_whole_is_let_go() {
        for theirs in [None, Some(&PARTS[..])] {
            let live = live(&PARTS, theirs);
            let mut wanted = json!({});
            assert!(!keep(&mut wanted, &live, "controller"), "{theirs:?}");
            assert_eq!(wanted, json!({}));
        }
    }
}
