//! What does a file say? YAML or JSON as plain values, within bounds.

use std::{cell::Cell, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// The documents of a YAML file, each with its number from 1. Empty ones are left out. The text after a document that
/// can't be read is not looked at: where the next one begins can't be told.
pub(super) fn of_yaml(text: &str) -> Vec<(usize, Result<Value, String>)> {
    let left = budget(text);
    let mut found = Vec::new();
    for (at, document) in serde_yaml::Deserializer::from_str(text).enumerate() {
        let value = Plain { left: &left }
            .deserialize(document)
            .map_err(|error| error.to_string());
        let failed = value.is_err();
        if !matches!(value, Ok(Value::Null)) {
            found.push((at + 1, value));
        }
        if failed {
            break;
        }
    }
    found
}

/// The same of a JSON file.
pub(super) fn of_json(text: &str) -> Vec<(usize, Result<Value, String>)> {
    let left = budget(text);
    let mut found = Vec::new();
    let mut documents = serde_json::Deserializer::from_str(text);
    while documents.end().is_err() {
        let value = Plain { left: &left }
            .deserialize(&mut documents)
            .map_err(|error| error.to_string());
        let failed = value.is_err();
        found.push((found.len() + 1, value));
        if failed {
            break;
        }
    }
    found
}

/// Without anchors that are named again and again, a text says about as much as it is long.
fn budget(text: &str) -> Cell<usize> {
    Cell::new(text.len().saturating_mul(2).saturating_add(1024))
}

/// Reads a value as plain as JSON: no key twice, and no more of it than the budget allows. A key without a value is as
/// if it were not there, as the API server takes it.
#[derive(Clone, Copy)]
struct Plain<'a> {
    left: &'a Cell<usize>,
}

impl Plain<'_> {
    fn spend<E: serde::de::Error>(self, much: usize) -> Result<(), E> {
        match self.left.get().checked_sub(much.saturating_add(1)) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => Err(E::custom(
                "it says more than the file is long: write out what its anchors stand for",
            )),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Plain<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Plain<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that JSON has too")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        self.spend(0).map(|()| Value::Null)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Value, E> {
        self.spend(0).map(|()| Value::Bool(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        self.spend(0).map(|()| value.into())
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        self.spend(0).map(|()| value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        self.spend(0)?;
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("it holds a number that is none in JSON"))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.spend(value.len()).map(|()| value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        self.spend(0)?;
        let mut all = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            all.push(item);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        self.spend(0)?;
        let mut all = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            self.spend(key.len())?;
            let value = entries.next_value_seed(self)?;
            if all.contains_key(&key) {
                return Err(A::Error::custom(format!("the key {key:?} is there twice")));
            }
            if !value.is_null() {
                all.insert(key, value);
            }
        }
        Ok(Value::Object(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn documents_are_counted_and_empty_ones_left_out() {
        let found = of_yaml("---\na: 1\n---\n# nothing\n---\nb: [x, 2.5, true]\nc:\n");
        let found: Vec<_> = found.into_iter().map(|(n, value)| (n, value.unwrap())).collect();
        assert_eq!(found, [(1, json!({"a": 1})), (3, json!({"b": ["x", 2.5, true]}))]);
        let found = of_json(" {\"a\": 1}\n{\"b\": null} ");
        let found: Vec<_> = found.into_iter().map(|(n, value)| (n, value.unwrap())).collect();
        assert_eq!(found, [(1, json!({"a": 1})), (2, json!({}))]);
    }

    #[test]
    fn what_cannot_be_read_is_told_and_ends_the_file() {
        for text in ["a: 1\n---\nb: [\n---\nc: 1\n", "a: 1\n---\nb: 1\nb: 2\n---\nc: 1\n"] {
            let found = of_yaml(text);
            assert_eq!(found.len(), 2, "{found:?}");
            assert!(found[1].1.is_err(), "{found:?}");
        }
        assert!(of_yaml("a: .nan").pop().unwrap().1.is_err());
        assert!(of_yaml("a: !Secret b").pop().unwrap().1.is_err());
        assert!(of_json("{\"a\": 1} x").pop().unwrap().1.is_err());
        let deep = "[".repeat(100_000);
        assert!(of_yaml(&deep).pop().unwrap().1.is_err());
        assert!(of_json(&deep).pop().unwrap().1.is_err());
    }

    #[test]
    fn anchors_may_be_used_but_not_to_blow_up() {
        let found = of_yaml("a: &a {b: 1}\nc: *a\n").pop().unwrap().1.unwrap();
        assert_eq!(found, json!({"a": {"b": 1}, "c": {"b": 1}}));
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..9 {
            let before = format!("*a{}", n - 1);
            let tenfold = [before.as_str(); 10].join(", ");
            bomb += &["a", &n.to_string(), ": &a", &n.to_string(), " [", &tenfold, "]\n"].concat();
        }
        let error = of_yaml(&bomb).pop().unwrap().1.unwrap_err();
        assert!(error.contains("anchors") || error.contains("repetition"), "{error}");
    }
}
