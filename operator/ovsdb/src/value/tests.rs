use proptest::prelude::*;

use super::*;
use crate::table::{Column, Ref, Scalar};

fn base(atom: AtomType) -> BaseType {
    BaseType { atom, reference: None }
}

fn kind(key: AtomType, value: Option<AtomType>, min: usize, max: usize) -> ColumnType {
    ColumnType {
        key: base(key),
        value: value.map(base),
        min,
        max,
    }
}

fn any_type() -> impl Strategy<Value = AtomType> {
    prop_oneof![
        Just(AtomType::Integer),
        Just(AtomType::Real),
        Just(AtomType::Boolean),
        Just(AtomType::String),
        Just(AtomType::Uuid),
    ]
}

fn any_atom(atom: AtomType) -> BoxedStrategy<Atom> {
    match atom {
        AtomType::Integer => any::<i64>().prop_map(Atom::Integer).boxed(),
        // Short ones: neither OVSDB nor the parser keeps the last bit of a long one.
        AtomType::Real => any::<i32>()
            .prop_map(|number| Atom::Real(Real::new(f64::from(number) / 8.0)))
            .boxed(),
        AtomType::Boolean => any::<bool>().prop_map(Atom::Boolean).boxed(),
        AtomType::String => ".{0,12}".prop_map(|text| Atom::String(text.into())).boxed(),
        AtomType::Uuid => any::<u128>()
            .prop_map(|number| Atom::Uuid(Uuid::from_u128(number)))
            .boxed(),
    }
}

/// A type and two values of it.
fn any_values() -> impl Strategy<Value = (ColumnType, Value, Value)> {
    let scalar = any_type().prop_flat_map(|atom| {
        let value = || any_atom(atom).prop_map(Value::Atom);
        (Just(kind(atom, None, 1, 1)), value(), value())
    });
    let set = (any_type(), prop_oneof![Just(1), Just(usize::MAX)]).prop_flat_map(|(atom, max)| {
        let most = max.min(5);
        let value = move || {
            proptest::collection::vec(any_atom(atom), 0..=most)
                .prop_map(|atoms| Value::Set(atoms.into_iter().collect()))
        };
        (Just(kind(atom, None, 0, max)), value(), value())
    });
    let map = (any_type(), any_type()).prop_flat_map(|(key, value)| {
        let pairs = move || {
            proptest::collection::vec((any_atom(key), any_atom(value)), 0..5)
                .prop_map(|pairs| Value::Map(pairs.into_iter().collect()))
        };
        (Just(kind(key, Some(value), 0, usize::MAX)), pairs(), pairs())
    });
    prop_oneof![scalar, set, map]
}

/// What a server sends of a change from one value to another (ovsdb-server(7), 4.1.14).
fn difference(kind: &ColumnType, old: &Value, new: &Value) -> Value {
    match (old, new) {
        (Value::Set(old), Value::Set(new)) if kind.max > 1 => Value::Set(old.symmetric_difference(new)),
        (Value::Map(old), Value::Map(new)) => {
            let changed = new.iter().filter(|(key, value)| old.get(key) != Some(value));
            let gone = old.iter().filter(|(key, _)| new.get(key).is_none());
            Value::Map(changed.chain(gone).cloned().collect())
        }
        _ => new.clone(),
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_as_the_same((kind, value, _) in any_values()) {
        // Through text, as on the wire.
        let text = value.to_json().to_string();
        let read = Value::decode(&serde_json::from_str(&text).unwrap(), &kind);
        prop_assert_eq!(read, Ok(value));
    }

    #[test]
    fn a_difference_leads_from_the_old_value_to_the_new((kind, old, new) in any_values()) {
        let sent = difference(&kind, &old, &new).to_json();
        let change = Value::decode_change(&sent, &kind).unwrap();
        prop_assert_eq!(old.with_difference(change, &kind), new);
    }

    #[test]
    fn no_json_makes_reading_panic(text in "[\\[\\]\",a-z0-9]{0,30}", (kind, _, _) in any_values()) {
        if let Ok(json) = serde_json::from_str::<Json>(&text) {
            let _ = Value::decode(&json, &kind);
        }
    }

    #[test]
    fn rust_types_come_back_as_they_went(
        texts in proptest::collection::btree_set(".{0,6}", 0..5),
        pairs in proptest::collection::btree_map(".{0,6}", any::<i64>(), 0..5),
        flag in any::<Option<bool>>(),
        number in any::<i64>(),
        uuid in any::<u128>(),
    ) {
        fn back<T: Column>(value: &T) -> Option<T> {
            T::from_value(&value.to_value()?)
        }
        prop_assert_eq!(back(&texts), Some(texts));
        prop_assert_eq!(back(&pairs), Some(pairs));
        prop_assert_eq!(back(&flag), Some(flag));
        prop_assert_eq!(back(&number), Some(number));
        let row: Ref<()> = Ref::Uuid(Uuid::from_u128(uuid));
        prop_assert_eq!(Ref::from_atom(&row.to_atom()), Some(row));
    }
}

#[test]
fn a_set_of_one_is_the_bare_atom_and_may_be_written_out() {
    let many = kind(AtomType::String, None, 0, usize::MAX);
    let one = Value::Set(["a".into()].into_iter().collect());
    assert_eq!(one.to_json(), json!("a"));
    assert_eq!(Value::decode(&json!("a"), &many), Ok(one.clone()));
    assert_eq!(Value::decode(&json!(["set", ["a"]]), &many), Ok(one));
    assert_eq!(Value::Set(Set::default()).to_json(), json!(["set", []]));
    let scalar = kind(AtomType::Integer, None, 1, 1);
    assert_eq!(
        Value::decode(&json!(["set", [3]]), &scalar),
        Ok(Value::Atom(Atom::Integer(3)))
    );
}

#[test]
fn numbers_stay_within_their_type() {
    let integer = kind(AtomType::Integer, None, 1, 1);
    for wrong in [
        json!(1.5),
        json!(u64::MAX),
        json!("1"),
        json!(true),
        json!(["set", []]),
        json!(["set", [1, 2]]),
    ] {
        assert!(Value::decode(&wrong, &integer).is_err(), "{wrong}");
    }
    let real = kind(AtomType::Real, None, 1, 1);
    assert_eq!(
        Value::decode(&json!(-0.0), &real),
        Ok(Value::Atom(Atom::Real(Real::new(0.0))))
    );
}

#[test]
fn more_or_fewer_elements_than_the_type_allows_are_refused() {
    let optional = kind(AtomType::String, None, 0, 1);
    let two = json!(["set", ["a", "b"]]);
    assert!(matches!(
        Value::decode(&two, &optional),
        Err(Error::Count { count: 2, .. })
    ));
    let some = kind(AtomType::String, None, 1, usize::MAX);
    assert!(matches!(
        Value::decode(&json!(["set", []]), &some),
        Err(Error::Count { count: 0, .. })
    ));
    let many = kind(AtomType::String, None, 0, usize::MAX);
    assert!(matches!(
        Value::decode(&json!(["set", ["a", "a"]]), &many),
        Err(Error::Twice(_))
    ));
}

#[test]
fn uuids_have_one_form_only() {
    let uuid = kind(AtomType::Uuid, None, 1, 1);
    let text = "36bef046-7da7-43a5-905a-c17899216fcb";
    assert!(Value::decode(&json!(["uuid", text]), &uuid).is_ok());
    for wrong in [text.replace('-', ""), format!("{{{text}}}"), "36bef046".to_owned()] {
        assert!(Value::decode(&json!(["uuid", wrong]), &uuid).is_err());
    }
    assert!(Value::decode(&json!(["named-uuid", "a"]), &uuid).is_err());
}

#[test]
fn a_message_never_shows_more_than_a_start() {
    let long = json!("x".repeat(100_000));
    assert!(start_of(&long).len() < 200);
    assert_eq!(start_of(&Json::Array(vec![json!(1); 10_000])), "an array of 10000");
}

#[test]
fn the_last_of_equal_keys_stays() {
    let map: Map = [("k".into(), "1".into()), ("k".into(), "2".into())]
        .into_iter()
        .collect();
    assert_eq!((map.len(), map.text("k")), (1, Some("2")));
}
