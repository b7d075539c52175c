//! Schemas and rows with one thing wrong, thousands of them.

use std::{fs, sync::Arc};

use serde_json::{Value as Json, json};
use virga_ovsdb::{
    monitor::Method,
    northbound::TABLES,
    reconcile::{Desired, plan},
    replica::Replica,
    schema::Schema,
};

use crate::{hostile::zero, server::SCHEMA};

/// All places in a JSON value, as the way to each.
fn places(json: &Json, way: &mut Vec<usize>, found: &mut Vec<Vec<usize>>) {
    found.push(way.clone());
    let inner: Vec<&Json> = match json {
        Json::Array(items) => items.iter().collect(),
        Json::Object(members) => members.values().collect(),
        _ => return,
    };
    for (at, json) in inner.into_iter().enumerate() {
        way.push(at);
        places(json, way, found);
        way.pop();
    }
}

/// The value with something else at one place, or with a key renamed.
fn spoiled(json: &Json, rng: &mut fastrand::Rng) -> Json {
    let mut found = Vec::new();
    places(json, &mut Vec::new(), &mut found);
    let way = rng.choice(found).unwrap();
    let mut copy = json.clone();
    let mut here = &mut copy;
    for at in way {
        here = match here {
            Json::Array(items) => &mut items[at],
            Json::Object(members) => members.values_mut().nth(at).unwrap(),
            _ => unreachable!("the way leads through arrays and objects"),
        };
    }
    match here {
        Json::Object(members) if rng.bool() => {
            if let Some(key) = members.keys().next().cloned() {
                let value = members.remove(&key).unwrap();
                members.insert(format!("{key}x"), value);
            }
        }
        _ => {
            let others = [
                json!(null),
                json!(true),
                json!(-1),
                json!(1e300),
                json!(u64::MAX),
                json!(""),
                json!([]),
                json!({}),
                json!(["set", []]),
                json!(["map", [[1, 2]]]),
                json!(["uuid", "x"]),
                json!([[[[[[]]]]]]),
            ];
            *here = rng.choice(others).unwrap();
        }
    }
    copy
}

#[test]
fn spoiled_schemas_and_rows_are_refused_or_read_and_nothing_else() {
    let rng = &mut fastrand::Rng::with_seed(7);
    let good: Json = serde_json::from_str(&fs::read_to_string(SCHEMA).unwrap()).unwrap();
    let schema = Arc::new(Schema::parse(&good).unwrap());
    for _ in 0..500 {
        if let Ok(schema) = Schema::parse(&spoiled(&good, rng)) {
            let _ = schema.check(&TABLES);
            // With whatever types it has now, a replica can be made for it.
            let _ = Replica::new(schema.into(), &TABLES).len();
        }
    }
    let uuid = "11111111-1111-4111-8111-111111111111";
    let row = json!({"name": "n", "ports": ["set", [["uuid", uuid]]], "external_ids": ["map", [["k", "v"]]]});
    let change = json!({"name": "m", "ports": ["uuid", uuid], "external_ids": ["map", [["k", "w"], ["l", "v"]]]});
    for method in [Method::Since, Method::Cond, Method::Plain] {
        let (first, next) = if method == Method::Plain {
            ("new", "new")
        } else {
            ("initial", "modify")
        };
        let rows = |kind: &str, row: &Json| json!({"Logical_Switch": {uuid: {kind: row}}});
        let (reply, news) = if method == Method::Since {
            (
                json!([false, zero(), rows(first, &row)]),
                json!(["virga", zero(), rows(next, &change)]),
            )
        } else {
            (rows(first, &row), json!(["virga", rows(next, &change)]))
        };
        let mut read = 0;
        for _ in 0..3000 {
            let mut replica = Replica::new(Arc::clone(&schema), &TABLES);
            let (reply, news) = if rng.bool() {
                (spoiled(&reply, rng), news.clone())
            } else {
                (reply.clone(), spoiled(&news, rng))
            };
            let Ok(initial) = method.initial(&reply) else {
                continue;
            };
            if replica.apply(initial.updates).is_ok()
                && let Ok(Some(news)) = method.news(&news)
                && replica.apply(news.updates).is_ok()
            {
                read += 1;
                // What was taken can be used.
                let _ = plan(&replica, &Desired::new("nobody"));
            }
        }
        assert!(read > 0, "{method:?}: nothing was ever read");
    }
}
