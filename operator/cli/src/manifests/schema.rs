//! Is an object as its kind's schema says? The definitions that a cluster is given, so that what is simulated is what a
//! cluster would take.
//!
//! Types, required and unknown fields, bounds and patterns are checked. The rules in CEL are not: those that matter to
//! placement are checked by the same code as in admission.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;
use virga_core::nearest::did_you_mean;

/// What a value must be.
#[derive(Debug, Default)]
pub(super) struct Schema {
    kind: Kind,
    required: Vec<String>,
    one_of: Vec<Value>,
    pattern: Option<Regex>,
    /// Of a text the characters, of a list the items, of a map the keys, of a number itself.
    least: Option<f64>,
    most: Option<f64>,
}

#[derive(Debug, Default)]
enum Kind {
    #[default]
    Anything,
    Text,
    Whole,
    Number,
    Truth,
    WholeOrText,
    List(Box<Schema>),
    Object(BTreeMap<String, Schema>),
    Map(Box<Schema>),
}

/// What is wrong: the field's path and why.
pub(super) type Wrong = (String, String);

impl Schema {
    /// Of an `openAPIV3Schema`.
    pub(super) fn read(schema: &Value) -> Self {
        let text = |key: &str| schema.get(key).and_then(Value::as_str);
        let kind = match text("type") {
            _ if schema.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) => Kind::WholeOrText,
            Some("string") => Kind::Text,
            Some("integer") => Kind::Whole,
            Some("number") => Kind::Number,
            Some("boolean") => Kind::Truth,
            Some("array") => Kind::List(Box::new(schema.get("items").map(Self::read).unwrap_or_default())),
            Some("object") => match (schema.get("properties"), schema.get("additionalProperties")) {
                (Some(Value::Object(fields)), _) => {
                    let fields = fields.iter();
                    Kind::Object(fields.map(|(name, field)| (name.clone(), Self::read(field))).collect())
                }
                (_, Some(value)) => Kind::Map(Box::new(Self::read(value))),
                _ => Kind::Anything,
            },
            _ => Kind::Anything,
        };
        let (least, most) = match kind {
            Kind::Text | Kind::WholeOrText => ("minLength", "maxLength"),
            Kind::List(_) => ("minItems", "maxItems"),
            Kind::Object(_) | Kind::Map(_) => ("minProperties", "maxProperties"),
            _ => ("minimum", "maximum"),
        };
        let list = |key: &str| schema.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
        let required = list("required");
        Self {
            kind,
            required: required.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            one_of: list("enum"),
            // A pattern that can't be read is none: the definitions are ours, and a test reads all of them.
            pattern: text("pattern").and_then(|pattern| Regex::new(pattern).ok()),
            least: schema.get(least).and_then(Value::as_f64),
            most: schema.get(most).and_then(Value::as_f64),
        }
    }

    /// One of its fields.
    pub(super) fn field(&self, name: &str) -> Option<&Self> {
        match &self.kind {
            Kind::Object(fields) => fields.get(name),
            _ => None,
        }
    }

    /// All that is wrong with a value. `strict`: fields that the schema doesn't know are.
    pub(super) fn check(&self, path: &str, value: &Value, strict: bool, wrong: &mut Vec<Wrong>) {
        let mut add = |message: String| wrong.push((path.to_owned(), message));
        if !self.one_of.is_empty() && !self.one_of.contains(value) {
            let known: Vec<&str> = self.one_of.iter().filter_map(Value::as_str).collect();
            return add(format!("{value} is none of {}", known.join(", ")));
        }
        match (&self.kind, value) {
            (Kind::Anything, _) | (Kind::Truth, Value::Bool(_)) => {}
            (Kind::Text | Kind::WholeOrText, Value::String(text)) => self.check_text(text, &mut add),
            (Kind::WholeOrText, Value::Number(number)) if number.is_u64() => {}
            (Kind::Number, Value::Number(number)) => self.check_size("it", number.as_f64(), &mut add),
            (Kind::Whole, Value::Number(number)) if !number.is_f64() => {
                self.check_size("it", number.as_f64(), &mut add);
            }
            (Kind::List(item), Value::Array(items)) => {
                self.check_size("the number of its items", count(items.len()), &mut add);
                for (at, value) in items.iter().enumerate() {
                    item.check(&format!("{path}[{at}]"), value, strict, wrong);
                }
            }
            (Kind::Map(each), Value::Object(entries)) => {
                self.check_size("the number of its keys", count(entries.len()), &mut add);
                for (key, value) in entries {
                    each.check(&format!("{path}[{key}]"), value, strict, wrong);
                }
            }
            (Kind::Object(fields), Value::Object(entries)) => {
                for name in self.required.iter().filter(|name| !entries.contains_key(*name)) {
                    wrong.push((format!("{path}.{name}"), "is missing".to_owned()));
                }
                for (key, value) in entries {
                    match fields.get(key) {
                        Some(field) => field.check(&format!("{path}.{key}"), value, strict, wrong),
                        None if strict => {
                            let meant = did_you_mean(key, fields.keys().map(String::as_str));
                            wrong.push((format!("{path}.{key}"), format!("there is no such field{meant}")));
                        }
                        None => {}
                    }
                }
            }
            (kind, _) => add(format!("must be {}", kind.name())),
        }
    }

    fn check_text(&self, text: &str, add: &mut impl FnMut(String)) {
        self.check_size("the number of its characters", count(text.chars().count()), add);
        if let Some(pattern) = self.pattern.as_ref().filter(|pattern| !pattern.is_match(text)) {
            add(format!("{} does not match {pattern}", shown(text)));
        }
    }

    fn check_size(&self, what: &str, size: Option<f64>, add: &mut impl FnMut(String)) {
        let Some(size) = size else { return };
        match (self.least, self.most) {
            (Some(least), _) if size < least => add(format!("{what} must be at least {least}, and is {size}")),
            (_, Some(most)) if size > most => add(format!("{what} must be at most {most}, and is {size}")),
            _ => {}
        }
    }
}

impl Kind {
    fn name(&self) -> &'static str {
        match self {
            Self::Anything => "a value",
            Self::Text => "a text",
            Self::Whole => "a whole number",
            Self::Number => "a number",
            Self::Truth => "true or false",
            Self::WholeOrText => "a quantity such as 2Gi",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
            Self::Map(_) => "a map",
        }
    }
}

/// The longest text that is repeated in an error.
const SHOWN: usize = 80;

fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

fn count(n: usize) -> Option<f64> {
    u32::try_from(n).ok().map(f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn wrong(schema: &Value, value: &Value) -> Vec<String> {
        let mut wrong = Vec::new();
        Schema::read(schema).check("spec", value, true, &mut wrong);
        wrong
            .into_iter()
            .map(|(field, message)| format!("{field}: {message}"))
            .collect()
    }

    #[test]
    fn all_that_is_wrong_is_told_with_its_path() {
        let schema = json!({
            "type": "object",
            "required": ["flavor", "vcpus"],
            "properties": {
                "flavor": {"type": "string", "maxLength": 4, "pattern": "^[a-z]+$"},
                "vcpus": {"type": "integer", "minimum": 1, "maximum": 8},
                "policy": {"type": "string", "enum": ["A", "B"]},
                "memory": {"x-kubernetes-int-or-string": true, "pattern": "^[0-9]+(Gi)?$"},
                "names": {"type": "array", "maxItems": 1, "items": {"type": "string"}},
                "map": {"type": "object", "maxProperties": 1, "additionalProperties": {"type": "string"}},
            },
        });
        assert!(
            wrong(
                &schema,
                &json!({"flavor": "a", "vcpus": 8, "memory": 3, "map": {"a": "b"}})
            )
            .is_empty()
        );
        let value = json!({
            "flavour": "x", "flavor": "\u{1b}[31m", "vcpus": 9, "policy": "C", "memory": "much",
            "names": ["a", 1], "map": {"a": 1, "b": "c"},
        });
        insta::assert_snapshot!(wrong(&schema, &value).join("\n"));
        assert_eq!(wrong(&schema, &json!([])), ["spec: must be an object"]);
        assert_eq!(
            wrong(&schema, &json!({"flavor": "a", "vcpus": 1.5})),
            ["spec.vcpus: must be a whole number"]
        );
    }

    #[test]
    fn every_pattern_of_the_definitions_can_be_read() {
        fn patterns(value: &Value, found: &mut Vec<String>) {
            match value {
                Value::Object(map) => {
                    found.extend(map.get("pattern").and_then(Value::as_str).map(str::to_owned));
                    map.values().for_each(|value| patterns(value, found));
                }
                Value::Array(items) => items.iter().for_each(|value| patterns(value, found)),
                _ => {}
            }
        }
        let mut found = Vec::new();
        for definition in virga_crds::definitions::all() {
            patterns(&serde_json::to_value(definition).unwrap(), &mut found);
        }
        assert!(!found.is_empty());
        for pattern in found {
            assert!(Regex::new(&pattern).is_ok(), "{pattern}");
        }
    }
}
