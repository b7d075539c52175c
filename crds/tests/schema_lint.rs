//! The rules that every schema keeps: those of the Kubernetes API conventions, and our own that all is bounded.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use serde_json::{Map, Value};
use virga_crds::definitions;

/// What YAML 1.1 readers, such as older Helm, take for something else when it is not in quotes.
const YAML_1_1_WORDS: [&str; 11] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "~", "nan"];

struct Kind {
    name: String,
    definition: Value,
}

impl Kind {
    fn all() -> Vec<Self> {
        let definitions = definitions::all();
        definitions
            .iter()
            .map(|definition| Self {
                name: definition.spec.names.kind.clone(),
                definition: serde_yaml::from_str(&definitions::to_yaml(definition).unwrap()).unwrap(),
            })
            .collect()
    }

    fn version(&self) -> &Value {
        &self.definition["spec"]["versions"][0]
    }

    fn schema(&self) -> &Value {
        &self.version()["schema"]["openAPIV3Schema"]
    }

    /// Every schema below spec and status, with its path.
    fn nodes(&self) -> Vec<(String, &Map<String, Value>)> {
        let mut found = Vec::new();
        for part in ["spec", "status"] {
            if let Some(schema) = self.schema()["properties"].get(part) {
                collect(schema, format!("{}.{part}", self.name), &mut found);
            }
        }
        found
    }
}

fn collect<'a>(schema: &'a Value, path: String, found: &mut Vec<(String, &'a Map<String, Value>)>) {
    let node = schema.as_object().unwrap_or_else(|| panic!("{path} is no schema"));
    for (name, property) in node.get("properties").and_then(Value::as_object).into_iter().flatten() {
        collect(property, format!("{path}.{name}"), found);
    }
    for (key, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
        if let Some(inner) = node.get(key).filter(|inner| inner.is_object()) {
            collect(inner, format!("{path}{mark}"), found);
        }
    }
    found.push((path, node));
}

/// Fails with every place at once that breaks the rule.
fn no_node(breaks: &str, rule: impl Fn(&str, &Map<String, Value>) -> bool) {
    let kinds = Kind::all();
    let broken: Vec<String> = kinds
        .iter()
        .flat_map(Kind::nodes)
        .filter(|(path, node)| rule(path, node))
        .map(|(path, _)| path)
        .collect();
    assert!(broken.is_empty(), "{breaks}:\n{}", broken.join("\n"));
}

fn is_type(node: &Map<String, Value>, kind: &str) -> bool {
    node.get("type").is_some_and(|found| found == kind)
}

fn is_inner(path: &str) -> bool {
    path.ends_with("[]") || path.ends_with("{}")
}

#[test]
fn every_field_is_described() {
    no_node("without a description", |path, node| {
        !is_inner(path)
            && node
                .get("description")
                .and_then(Value::as_str)
                .is_none_or(str::is_empty)
    });
}

#[test]
fn every_text_is_bounded() {
    no_node("texts without maxLength, enum or format", |_, node| {
        is_type(node, "string")
            && !["maxLength", "enum"].iter().any(|bound| node.contains_key(*bound))
            && node.get("format").is_none_or(|format| format != "date-time")
    });
}

#[test]
fn every_quantity_is_bounded_and_has_a_pattern() {
    no_node("quantities without maxLength or pattern", |_, node| {
        node.contains_key("x-kubernetes-int-or-string")
            && !["maxLength", "pattern"].iter().all(|bound| node.contains_key(*bound))
    });
}

#[test]
fn every_list_is_bounded_and_says_what_kind_of_list_it_is() {
    no_node("lists without maxItems or x-kubernetes-list-type", |_, node| {
        is_type(node, "array")
            && !["maxItems", "x-kubernetes-list-type"]
                .iter()
                .all(|bound| node.contains_key(*bound))
    });
}

#[test]
fn the_keys_of_a_list_map_are_required_or_have_a_default() {
    no_node("list-maps with an optional key", |_, node| {
        let Some(keys) = node.get("x-kubernetes-list-map-keys").and_then(Value::as_array) else {
            return false;
        };
        let required = node["items"]["required"].as_array().cloned().unwrap_or_default();
        keys.iter().any(|key| {
            let property = &node["items"]["properties"][key.as_str().unwrap()];
            !required.contains(key) && property.get("default").is_none()
        })
    });
}

#[test]
fn every_map_is_bounded() {
    no_node("maps without maxProperties", |_, node| {
        node.contains_key("additionalProperties") && !node.contains_key("maxProperties")
    });
}

#[test]
fn every_integer_has_a_format_and_a_least_value() {
    no_node(
        "integers without format int32 or int64, or without minimum",
        |_, node| {
            let known = node
                .get("format")
                .is_some_and(|format| format == "int32" || format == "int64");
            is_type(node, "integer") && !(known && node.contains_key("minimum"))
        },
    );
}

#[test]
fn there_is_no_null_no_float_and_no_boolean() {
    no_node("nullable, number or boolean", |_, node| {
        node.contains_key("nullable") || is_type(node, "number") || is_type(node, "boolean")
    });
}

#[test]
fn what_has_a_default_is_not_required() {
    no_node("objects that require a field with a default", |_, node| {
        let required = node.get("required").and_then(Value::as_array);
        required.into_iter().flatten().any(|name| {
            let property = &node["properties"][name.as_str().unwrap()];
            property.get("default").is_some()
        })
    });
}

#[test]
fn every_rule_has_a_message() {
    for kind in Kind::all() {
        let mut places = kind.nodes();
        places.push((kind.name.clone(), kind.schema().as_object().unwrap()));
        for (path, node) in places {
            let rules = node.get("x-kubernetes-validations").and_then(Value::as_array);
            for rule in rules.into_iter().flatten() {
                let message = rule["message"].as_str().unwrap_or_default();
                assert!(!message.is_empty(), "{path}: {}", rule["rule"]);
            }
        }
    }
}

#[test]
fn an_unquoted_word_means_the_same_to_every_yaml_reader() {
    for definition in definitions::all() {
        for line in definitions::to_yaml(&definition).unwrap().lines() {
            let value = line.rsplit([' ']).next().unwrap_or_default();
            let only_value = line.trim_start().trim_start_matches("- ").trim_end_matches(value);
            let is_scalar = only_value.is_empty() || only_value.ends_with(": ");
            let is_boolean = value == "true" || value == "false";
            let ambiguous = YAML_1_1_WORDS.contains(&value.to_ascii_lowercase().as_str());
            assert!(
                !(is_scalar && ambiguous && !is_boolean),
                "{}: {line}",
                definition.spec.names.kind
            );
        }
    }
}

#[test]
fn enums_are_written_in_pascal_case() {
    // Keystone's roles and the values of a condition are written as their owners write them.
    no_node("values of enums that do not begin with a capital", |path, node| {
        let listed = node.get("enum").and_then(Value::as_array);
        path.rsplit('.').next() != Some("role")
            && listed.into_iter().flatten().any(|word| {
                word.as_str()
                    .is_none_or(|word| !word.starts_with(|first: char| first.is_ascii_uppercase()))
            })
    });
}

#[test]
fn every_kind_has_a_status_with_conditions_as_a_map_by_type() {
    for kind in Kind::all() {
        let has_status = kind.version()["subresources"].get("status").is_some();
        assert!(has_status, "{}", kind.name);
        let conditions = &kind.schema()["properties"]["status"]["properties"]["conditions"];
        assert_eq!(conditions["x-kubernetes-list-type"], "map", "{}", kind.name);
        assert_eq!(conditions["x-kubernetes-list-map-keys"][0], "type", "{}", kind.name);
        let generation = &kind.schema()["properties"]["status"]["properties"]["observedGeneration"];
        assert_eq!(generation["type"], "integer", "{}", kind.name);
    }
}

#[test]
fn every_kind_is_listed_by_kubectl_get_virga_and_shows_its_age() {
    for kind in Kind::all() {
        let spec = &kind.definition["spec"];
        assert_eq!(spec["group"], "virga.dev", "{}", kind.name);
        assert_eq!(spec["names"]["categories"][0], "virga", "{}", kind.name);
        let columns = kind.version()["additionalPrinterColumns"].as_array().unwrap();
        let names: Vec<&str> = columns.iter().map(|column| column["name"].as_str().unwrap()).collect();
        assert_eq!(names.last(), Some(&"Age"), "{}", kind.name);
        assert!(names.contains(&"Ready"), "{}", kind.name);
    }
}

#[test]
fn what_a_node_s_agent_watches_can_be_selected_by_node() {
    for kind in Kind::all() {
        let selectable = kind.version()["selectableFields"][0]["jsonPath"].as_str();
        let bound = kind.schema()["properties"]["spec"]["properties"]
            .get("nodeName")
            .is_some();
        assert_eq!(selectable == Some(".spec.nodeName"), bound, "{}", kind.name);
    }
}

#[test]
fn spec_is_required() {
    for kind in Kind::all() {
        let required = kind.schema()["required"].as_array().unwrap();
        assert!(required.contains(&"spec".into()), "{}", kind.name);
    }
}
