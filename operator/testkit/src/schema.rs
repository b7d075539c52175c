//! What shape does a kind have? List types for field ownership; pruning and defaults as the API server does them.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Map, Value};

use crate::path::Step;

/// How the items of a list are told apart (`x-kubernetes-list-type`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ListType {
    /// The list is one value.
    Atomic,
    /// Items are scalars, each one once.
    Set,
    /// Items are maps, told apart by these keys.
    Map(Vec<String>),
}

/// A kind's structural schema, if it has one, and what is known without.
#[derive(Debug, Clone, Default)]
pub(crate) struct Schema {
    /// `openAPIV3Schema` of a CRD version.
    structural: Option<Arc<Value>>,
    /// By dotted path, for kinds without a schema.
    lists: BTreeMap<String, ListType>,
}

impl Schema {
    /// Nothing known: every list is atomic, but for what every kind has.
    pub(crate) fn untyped() -> Self {
        Self::default()
    }

    /// The schema of a CRD version.
    pub(crate) fn structural(schema: Value) -> Self {
        Self {
            structural: Some(Arc::new(schema)),
            lists: BTreeMap::new(),
        }
    }

    pub(crate) fn with_list(mut self, path: &str, list: ListType) -> Self {
        self.lists.insert(path.to_owned(), list);
        self
    }

    pub(crate) fn list_type(&self, at: &[Step]) -> ListType {
        match at {
            [Step::Field(a), Step::Field(b)] if a == "metadata" && b == "finalizers" => return ListType::Set,
            [Step::Field(a), Step::Field(b)] if a == "metadata" && b == "ownerReferences" => {
                return ListType::Map(vec!["uid".into()]);
            }
            _ => {}
        }
        if let Some(node) = self.node(at) {
            return match node.get("x-kubernetes-list-type").and_then(Value::as_str) {
                Some("set") => ListType::Set,
                Some("map") => {
                    let keys = node.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
                    let keys = keys.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
                    ListType::Map(keys.collect())
                }
                _ => ListType::Atomic,
            };
        }
        let names: Vec<&str> = at
            .iter()
            .map(|step| match step {
                Step::Field(name) => name.as_str(),
                Step::Key(_) | Step::Item(_) => "*",
            })
            .collect();
        match (self.lists.get(&names.join(".")), names.last()) {
            (Some(list), _) => list.clone(),
            (None, Some(&"conditions")) if self.structural.is_none() => ListType::Map(vec!["type".into()]),
            _ => ListType::Atomic,
        }
    }

    pub(crate) fn is_atomic_map(&self, at: &[Step]) -> bool {
        let kind = self
            .node(at)
            .and_then(|node| node.get("x-kubernetes-map-type"))
            .and_then(Value::as_str);
        kind == Some("atomic")
    }

    fn node(&self, at: &[Step]) -> Option<&Value> {
        at.iter()
            .try_fold(self.structural.as_deref()?, |node, step| match step {
                Step::Field(name) => {
                    let property = node.get("properties").and_then(|properties| properties.get(name));
                    property.or_else(|| node.get("additionalProperties").filter(|more| more.is_object()))
                }
                Step::Key(_) | Step::Item(_) => node.get("items"),
            })
    }

    /// Drops what the schema does not know and nulls, and fills in defaults.
    pub(crate) fn prune_and_default(&self, object: &mut Value) {
        drop_nulls(object);
        let Some(schema) = self.structural.as_deref() else {
            return;
        };
        let Some(map) = object.as_object_mut() else { return };
        let mut kept: Map<String, Value> = Map::new();
        for name in ["apiVersion", "kind", "metadata"] {
            if let Some(value) = map.remove(name) {
                kept.insert(name.to_owned(), value);
            }
        }
        walk(object, schema);
        if let Some(map) = object.as_object_mut() {
            map.extend(kept);
        }
    }

    /// The first field that the schema requires and the object lacks.
    pub(crate) fn missing(&self, object: &Value) -> Option<String> {
        missing(object, self.structural.as_deref()?, "")
    }
}

fn missing(value: &Value, schema: &Value, at: &str) -> Option<String> {
    match value {
        Value::Object(map) => {
            let required = schema.get("required").and_then(Value::as_array);
            let mut required = required.into_iter().flatten().filter_map(Value::as_str);
            if let Some(name) = required.find(|name| !map.contains_key(*name)) {
                return Some(format!("{at}.{name}"));
            }
            map.iter().find_map(|(name, child)| {
                let known = schema.get("properties").and_then(|properties| properties.get(name));
                let more = schema.get("additionalProperties").filter(|more| more.is_object());
                missing(child, known.or(more)?, &format!("{at}.{name}"))
            })
        }
        Value::Array(items) => {
            let schema = schema.get("items")?;
            let mut items = items.iter().enumerate();
            items.find_map(|(index, item)| missing(item, schema, &format!("{at}[{index}]")))
        }
        _ => None,
    }
}

fn walk(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(map) => {
            let properties = schema.get("properties").and_then(Value::as_object);
            let more = schema.get("additionalProperties");
            let keep = schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
            if let (Some(properties), None, false) = (properties, more, keep) {
                map.retain(|name, _| properties.contains_key(name));
            }
            for (name, property) in properties.into_iter().flatten() {
                if let Some(default) = property.get("default")
                    && !map.contains_key(name)
                {
                    map.insert(name.clone(), default.clone());
                }
            }
            for (name, child) in map {
                let known = properties.and_then(|properties| properties.get(name));
                if let Some(schema) = known.or(more.filter(|more| more.is_object())) {
                    walk(child, schema);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                for item in items {
                    walk(item, schema);
                }
            }
        }
        _ => {}
    }
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> Schema {
        Schema::structural(json!({"properties": {
            "spec": {"properties": {
                "size": {"default": 1},
                "labels": {"additionalProperties": {"type": "string"}},
                "nics": {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                         "items": {"properties": {"name": {}, "mtu": {"default": 1500}}}},
            }},
        }}))
    }

    #[test]
    fn unknown_fields_go_and_defaults_come() {
        let mut object = json!({
            "apiVersion": "v1", "metadata": {"name": "a"}, "other": 1,
            "spec": {"typo": true, "size": null, "labels": {"a": "b"}, "nics": [{"name": "eth0"}]},
        });
        schema().prune_and_default(&mut object);
        assert_eq!(
            object,
            json!({
                "apiVersion": "v1", "metadata": {"name": "a"},
                "spec": {"size": 1, "labels": {"a": "b"}, "nics": [{"name": "eth0", "mtu": 1500}]},
            })
        );
    }

    #[test]
    fn what_is_required_is_missed_wherever_it_is() {
        let schema = Schema::structural(json!({"required": ["spec"], "properties": {
            "spec": {"properties": {"nics": {"items": {"required": ["name"]}}}},
        }}));
        assert_eq!(schema.missing(&json!({})).as_deref(), Some(".spec"));
        let nics = json!({"spec": {"nics": [{"name": "eth0"}, {"mtu": 1500}]}});
        assert_eq!(schema.missing(&nics).as_deref(), Some(".spec.nics[1].name"));
        assert_eq!(schema.missing(&json!({"spec": {"nics": []}})), None);
        assert_eq!(Schema::untyped().missing(&json!({})), None);
    }

    #[test]
    fn list_types_come_from_the_schema() {
        let field = |name: &str| Step::Field(name.into());
        assert_eq!(
            schema().list_type(&[field("spec"), field("nics")]),
            ListType::Map(vec!["name".into()])
        );
        assert_eq!(schema().list_type(&[field("spec"), field("labels")]), ListType::Atomic);
        assert_eq!(
            schema().list_type(&[field("metadata"), field("finalizers")]),
            ListType::Set
        );
        let untyped = Schema::untyped();
        assert_eq!(
            untyped.list_type(&[field("status"), field("conditions")]),
            ListType::Map(vec!["type".into()])
        );
    }
}
