//! Does an object already say what we want it to say? The question before every write: pure, over JSON.
//!
//! Comparing values is not enough. A field that we wrote once and no longer want must go, and only the object's
//! `managedFields` tell it from a field of somebody else. So the answer is yes only when the API server's record of what
//! our field manager applied covers exactly what we want now, and every value is the same.

use serde_json::{Map, Value};

/// Copies `lastTransitionTime` from the live conditions to those of the same type and status, so that the time moves
/// only when the status does (Kubernetes API conventions, "Typical status properties").
pub(crate) fn keep_transition_times(status: &mut Value, live: Option<&Value>) {
    let Some(live) = live
        .and_then(|status| status.get("conditions"))
        .and_then(Value::as_array)
    else {
        return;
    };
    let Some(wanted) = status.get_mut("conditions").and_then(Value::as_array_mut) else {
        return;
    };
    for condition in wanted {
        let same =
            |old: &&Value| old.get("type") == condition.get("type") && old.get("status") == condition.get("status");
        let time = live
            .iter()
            .find(same)
            .and_then(|old| old.get("lastTransitionTime"))
            .cloned();
        if let (Some(time), Some(condition)) = (time, condition.as_object_mut()) {
            condition.insert("lastTransitionTime".into(), time);
        }
    }
}

/// Removes every member that is null: to server-side apply, null and absent are the same wish.
pub(crate) fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .filter(|(_, v)| !v.is_null())
            .map(|(k, v)| (k, without_nulls(v)))
            .collect(),
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

/// Whether `live` already is as `wanted` says, with every wanted field, and no other, applied by `manager`.
///
/// `wanted` is an apply configuration: the names in its metadata are not compared.
pub(crate) fn is_current(live: &Value, wanted: &Value, manager: &str, subresource: Option<&str>) -> bool {
    let Some(entries) = live.pointer("/metadata/managedFields").and_then(Value::as_array) else {
        // A cache that strips managedFields: only a status of which we are the one writer can be compared.
        return subresource == Some("status") && live.get("status") == wanted.get("status");
    };
    let ours = |entry: &&Value| {
        entry.get("manager").and_then(Value::as_str) == Some(manager)
            && entry.get("operation").and_then(Value::as_str) == Some("Apply")
            && entry.get("subresource").and_then(Value::as_str) == subresource
    };
    let owned = entries.iter().find(ours).and_then(|entry| entry.get("fieldsV1"));
    let wanted = comparable(wanted);
    match owned {
        Some(owned) => members_match(&wanted, live, owned),
        None => wanted.is_empty(),
    }
}

/// The parts of an apply configuration that a manager owns.
fn comparable(wanted: &Value) -> Map<String, Value> {
    let mut map = wanted.as_object().cloned().unwrap_or_default();
    map.remove("apiVersion");
    map.remove("kind");
    if let Some(metadata) = map.get_mut("metadata").and_then(Value::as_object_mut) {
        for name in ["name", "namespace", "uid", "resourceVersion"] {
            metadata.remove(name);
        }
        if metadata.is_empty() {
            map.remove("metadata");
        }
    }
    map
}

fn members_match(wanted: &Map<String, Value>, live: &Value, owned: &Value) -> bool {
    let Some(owned) = owned.as_object() else { return false };
    let fields = owned.keys().filter_map(|key| key.strip_prefix("f:"));
    fields.clone().all(|field| wanted.contains_key(field))
        && wanted.iter().all(|(field, value)| {
            let owned = owned.get(&format!("f:{field}"));
            owned.is_some_and(|owned| matches(value, live.get(field), owned))
        })
}

fn matches(wanted: &Value, live: Option<&Value>, owned: &Value) -> bool {
    let Some(live) = live else { return false };
    // A leaf: a scalar, an empty or an atomic list or map. It is owned whole.
    let parts = owned
        .as_object()
        .map_or(0, |parts| parts.keys().filter(|key| *key != ".").count());
    if parts == 0 {
        return wanted == live;
    }
    match wanted {
        Value::Object(map) => members_match(map, live, owned),
        Value::Array(items) => items_match(items, live, owned),
        _ => false,
    }
}

fn items_match(wanted: &[Value], live: &Value, owned: &Value) -> bool {
    let (Some(live), Some(owned)) = (live.as_array(), owned.as_object()) else {
        return false;
    };
    let items: Vec<(&String, &Value)> = owned.iter().filter(|(key, _)| *key != ".").collect();
    items.len() == wanted.len()
        && items.into_iter().all(|(key, owned)| {
            if let Some(value) = key
                .strip_prefix("v:")
                .and_then(|json| serde_json::from_str::<Value>(json).ok())
            {
                return wanted.contains(&value) && live.contains(&value);
            }
            let Some(Value::Object(key)) = key.strip_prefix("k:").and_then(|json| serde_json::from_str(json).ok())
            else {
                return false;
            };
            let has_key = |item: &&Value| key.iter().all(|(field, value)| item.get(field) == Some(value));
            match (wanted.iter().find(has_key), live.iter().find(has_key)) {
                (Some(Value::Object(wanted)), Some(live)) => members_match(wanted, live, owned),
                _ => false,
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn live(fields: &Value, status: &Value) -> Value {
        json!({
            "metadata": {"name": "web", "managedFields": [
                {"manager": "virga-agent", "operation": "Apply", "subresource": "status", "fieldsV1": {"f:status": fields}},
                {"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:spec": {"f:size": {}}}},
            ]},
            "spec": {"size": 1},
            "status": status,
        })
    }

    fn current(live: &Value, status: &Value) -> bool {
        let wanted = json!({"apiVersion": "v1", "kind": "X", "metadata": {"name": "web"}, "status": status});
        is_current(live, &wanted, "virga-agent", Some("status"))
    }

    #[test]
    fn the_same_values_of_ours_need_no_write() {
        let fields = json!({"f:state": {}, "f:conditions": {".": {}, "k:{\"type\":\"Ready\"}": {".": {}, "f:type": {}, "f:status": {}}}});
        let status = json!({"state": "Active", "conditions": [{"type": "Ready", "status": "True"}]});
        let mut seen = status.clone();
        // Somebody else's condition does not matter.
        seen["conditions"]
            .as_array_mut()
            .unwrap()
            .insert(0, json!({"type": "Scheduled", "status": "True"}));
        let live = live(&fields, &seen);
        assert!(current(&live, &status));
        assert!(
            !current(&live, &json!({"state": "Stopped", "conditions": status["conditions"]})),
            "a changed value"
        );
        assert!(
            !current(&live, &json!({"state": "Active"})),
            "a condition of ours that must go"
        );
        let mut more = status.clone();
        more["task"] = json!("Starting");
        assert!(!current(&live, &more), "a field that is new");
    }

    #[test]
    fn a_value_that_somebody_else_wrote_must_become_ours() {
        let live = live(&json!({"f:state": {}}), &json!({"state": "Active", "host": "n1"}));
        assert!(!current(&live, &json!({"state": "Active", "host": "n1"})));
    }

    #[test]
    fn atomic_lists_and_sets_compare_whole() {
        let fields = json!({"f:addresses": {}, "f:tags": {"v:\"a\"": {}, "v:\"b\"": {}}});
        let live = live(
            &fields,
            &json!({"addresses": ["10.0.0.1"], "tags": ["b", "a", "theirs"]}),
        );
        assert!(current(&live, &json!({"addresses": ["10.0.0.1"], "tags": ["a", "b"]})));
        assert!(!current(&live, &json!({"addresses": ["10.0.0.2"], "tags": ["a", "b"]})));
        assert!(!current(&live, &json!({"addresses": ["10.0.0.1"], "tags": ["a"]})));
    }

    #[test]
    fn without_managed_fields_the_whole_status_is_compared() {
        let live = json!({"metadata": {}, "status": {"state": "Active"}});
        assert!(current(&live, &json!({"state": "Active"})));
        assert!(!current(&live, &json!({})));
    }

    #[test]
    fn a_transition_time_moves_only_with_the_status() {
        let live = json!({"conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": "then"},
            {"type": "Running", "status": "False", "lastTransitionTime": "then"},
        ]});
        let mut status = json!({"conditions": [
            {"type": "Ready", "status": "True", "reason": "Other", "lastTransitionTime": "now"},
            {"type": "Running", "status": "True", "lastTransitionTime": "now"},
            {"type": "New", "status": "True", "lastTransitionTime": "now"},
        ]});
        keep_transition_times(&mut status, Some(&live));
        let times: Vec<_> = status["conditions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| &c["lastTransitionTime"])
            .collect();
        assert_eq!(times, ["then", "now", "now"]);
    }
}
