//! Where is a field? Paths through an object that survive reordering, as structured-merge-diff has them.

use std::{collections::BTreeSet, fmt};

use serde_json::{Map, Value};

use crate::schema::{ListType, Schema};

/// One step into an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// A member of a map.
    Field(String),
    /// An item of a list-map, by its keys as JSON.
    Key(String),
    /// An item of a set, as JSON.
    Item(String),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Key(key) => write!(f, "[{key}]"),
            Self::Item(item) => write!(f, "[={item}]"),
        }
    }
}

pub(crate) type Path = Vec<Step>;
pub(crate) type Paths = BTreeSet<Path>;

pub(crate) fn show(path: &[Step]) -> String {
    path.iter().map(Step::to_string).collect()
}

/// The step to an item of a list of this type; `None` in an atomic list.
pub(crate) fn step_to(item: &Value, list: &ListType) -> Option<Step> {
    match list {
        ListType::Atomic => None,
        ListType::Set => Some(Step::Item(item.to_string())),
        ListType::Map(keys) => {
            let key: Map<String, Value> = keys
                .iter()
                .filter_map(|key| Some((key.clone(), item.get(key)?.clone())))
                .collect();
            Some(Step::Key(Value::Object(key).to_string()))
        }
    }
}

/// Whether this list item is the one that the step names.
fn is_item(item: &Value, step: &Step) -> bool {
    match step {
        Step::Field(_) => false,
        Step::Item(json) => serde_json::from_str::<Value>(json).is_ok_and(|wanted| wanted == *item),
        Step::Key(json) => {
            let key: Map<String, Value> = serde_json::from_str(json).unwrap_or_default();
            key.iter().all(|(field, value)| item.get(field) == Some(value))
        }
    }
}

/// What is at a path.
pub(crate) fn get<'a>(value: &'a Value, path: &[Step]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, step| match step {
        Step::Field(name) => value.get(name),
        _ => value.as_array()?.iter().find(|item| is_item(item, step)),
    })
}

/// Takes away what is at a path, and each map or list that this leaves empty.
pub(crate) fn remove(value: &mut Value, path: &[Step]) {
    let Some((step, rest)) = path.split_first() else { return };
    match (step, value) {
        (Step::Field(name), Value::Object(map)) => {
            let Some(child) = map.get_mut(name) else { return };
            if !rest.is_empty() {
                remove(child, rest);
            }
            if rest.is_empty() || is_empty(child) {
                map.remove(name);
            }
        }
        (step, Value::Array(items)) => {
            let Some(index) = items.iter().position(|item| is_item(item, step)) else {
                return;
            };
            if rest.is_empty() {
                items.remove(index);
            } else {
                remove(&mut items[index], rest);
            }
        }
        _ => {}
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// The paths that an object with these values has: each leaf, and each item of a list-map or set. Atomic and empty lists
/// and maps are leaves.
pub(crate) fn leaves(value: &Value, schema: &Schema) -> Paths {
    let mut paths = Paths::new();
    collect(value, schema, &mut Vec::new(), &mut paths);
    paths
}

fn collect(value: &Value, schema: &Schema, at: &mut Path, paths: &mut Paths) {
    match value {
        Value::Object(map) if !map.is_empty() && !schema.is_atomic_map(at) => {
            for (name, child) in map {
                at.push(Step::Field(name.clone()));
                collect(child, schema, at, paths);
                at.pop();
            }
        }
        Value::Array(items) if !items.is_empty() => {
            let list = schema.list_type(at);
            for item in items {
                let Some(step) = step_to(item, &list) else { break };
                at.push(step);
                paths.insert(at.clone());
                if matches!(list, ListType::Map(_)) {
                    collect(item, schema, at, paths);
                }
                at.pop();
            }
            if list == ListType::Atomic {
                paths.insert(at.clone());
            }
        }
        _ => {
            if !at.is_empty() {
                paths.insert(at.clone());
            }
        }
    }
}

/// Lays an apply configuration over an object.
pub(crate) fn merge(live: &mut Value, over: &Value, schema: &Schema) {
    merge_at(live, over, schema, &mut Vec::new());
}

fn merge_at(live: &mut Value, over: &Value, schema: &Schema, at: &mut Path) {
    match (live, over) {
        (Value::Object(live), Value::Object(over)) if !schema.is_atomic_map(at) => {
            for (name, value) in over {
                at.push(Step::Field(name.clone()));
                merge_at(live.entry(name.clone()).or_insert(Value::Null), value, schema, at);
                at.pop();
            }
        }
        (Value::Array(live), Value::Array(over)) if schema.list_type(at) != ListType::Atomic => {
            let list = schema.list_type(at);
            for item in over {
                let Some(step) = step_to(item, &list) else { continue };
                let Some(present) = live.iter_mut().find(|present| is_item(present, &step)) else {
                    live.push(item.clone());
                    continue;
                };
                at.push(step);
                merge_at(present, item, schema, at);
                at.pop();
            }
        }
        (live, over) => *live = over.clone(),
    }
}

/// `fieldsV1` of a set of paths.
pub(crate) fn to_fields(paths: &Paths) -> Value {
    let mut root = Map::new();
    for path in paths {
        let mut node = &mut root;
        for step in path {
            let name = match step {
                Step::Field(name) => format!("f:{name}"),
                Step::Key(key) => format!("k:{key}"),
                Step::Item(item) => format!("v:{item}"),
            };
            let child = node.entry(name).or_insert_with(|| Value::Object(Map::new()));
            node = child.as_object_mut().expect("every node was made as a map");
        }
        if matches!(path.last(), Some(Step::Key(_))) {
            node.insert(".".into(), Value::Object(Map::new()));
        }
    }
    Value::Object(root)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> Schema {
        Schema::untyped().with_list("status.tags", ListType::Set)
    }

    #[test]
    fn paths_name_list_items_by_key_and_become_fields() {
        let object = json!({
            "spec": {"size": 1, "none": {}},
            "status": {"conditions": [{"type": "Ready", "status": "True"}], "tags": ["a"], "list": [1, 2]},
        });
        let fields = to_fields(&leaves(&object, &schema()));
        assert_eq!(
            fields,
            json!({
                "f:spec": {"f:size": {}, "f:none": {}},
                "f:status": {
                    "f:conditions": {"k:{\"type\":\"Ready\"}": {".": {}, "f:type": {}, "f:status": {}}},
                    "f:tags": {"v:\"a\"": {}},
                    "f:list": {},
                },
            })
        );
    }

    #[test]
    fn merging_adds_to_list_maps_and_replaces_atomic_lists() {
        let mut live = json!({"status": {"conditions": [{"type": "A", "status": "True"}], "list": [1]}});
        let over = json!({"status": {"conditions": [{"type": "B"}, {"type": "A", "status": "False"}], "list": [2]}});
        merge(&mut live, &over, &schema());
        assert_eq!(
            live,
            json!({"status": {"conditions": [{"type": "A", "status": "False"}, {"type": "B"}], "list": [2]}})
        );
    }

    #[test]
    fn removing_takes_empty_parents_along() {
        let mut object = json!({"spec": {"a": {"b": 1}}, "status": {"conditions": [{"type": "A", "status": "True"}]}});
        remove(
            &mut object,
            &[
                Step::Field("spec".into()),
                Step::Field("a".into()),
                Step::Field("b".into()),
            ],
        );
        let item = [
            Step::Field("status".into()),
            Step::Field("conditions".into()),
            Step::Key(r#"{"type":"A"}"#.into()),
        ];
        remove(&mut object, &item);
        assert_eq!(object, json!({}));
    }
}
