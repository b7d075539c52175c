//! What of a Port may its author write? All but whose it is, and what it was given: a file from Git doesn't have these, and to
//! write it back is not to take them away.

use json_patch::{AddOperation, PatchOperation, jsonptr::PointerBuf};
use kube::core::{DynamicObject, admission::Operation};
use serde_json::Value;
use virga_core::network::is_users;
use virga_crds::PortSpec;

use super::super::review::{Answer, Request};

/// What only the controller writes.
const OURS: [&str; 10] = [
    "allocation",
    "instance",
    "instanceUID",
    "router",
    "floatingIP",
    "loadBalancer",
    "healthCheck",
    "hostname",
    "nodeName",
    "trunk",
];

pub(super) fn review(request: &Request) -> Answer {
    let (new, old) = (request.object.as_ref(), request.old_object.as_ref());
    if request.operation == Operation::Create {
        let set = OURS.into_iter().find(|field| get(new, field).is_some());
        return set.map_or_else(Answer::allow, |field| {
            let cure = "is set by the controller only: leave it out; an Instance that names the Port gets it";
            Answer::forbid(format!("spec.{field}"), cure)
        });
    }
    let is_kept = old
        .and_then(|old| old.data.get("spec"))
        .and_then(|spec| serde_json::from_value::<PortSpec>(spec.clone()).ok())
        .is_some_and(|spec| is_users(&spec));
    if request.operation != Operation::Update || !is_kept {
        // Others are all the controller's: /validate says so.
        return Answer::allow();
    }
    let mut answer = Answer::allow();
    for field in OURS {
        match (get(new, field), get(old, field)) {
            (new, old) if new == old => {}
            (None, Some(old)) => answer.patch.push(put(field, old.clone())),
            _ => {
                let cure = "is set by the controller only, and says who has the Port: leave it out";
                return Answer::forbid(format!("spec.{field}"), cure);
            }
        }
    }
    if get(old, "allocation").is_some() {
        if let (None, Some(mac)) = (get(new, "mac"), get(old, "mac")) {
            answer.patch.push(put("mac", mac.clone()));
        }
        if let Some(whole) = get(old, "addresses").filter(|whole| is_part(get(new, "addresses"), whole)) {
            answer.patch.push(put("addresses", whole.clone()));
        }
    }
    answer
}

/// Whether a list names less of what was given, and nothing else.
fn is_part(new: Option<&Value>, whole: &Value) -> bool {
    let (some, all) = (new.and_then(Value::as_array), whole.as_array());
    let (some, all) = (some.map_or(&[][..], Vec::as_slice), all.map_or(&[][..], Vec::as_slice));
    some.len() < all.len() && some.iter().all(|address| all.contains(address))
}

fn get<'a>(object: Option<&'a DynamicObject>, field: &str) -> Option<&'a Value> {
    let value = object?.data.get("spec")?.get(field)?;
    (!value.is_null() && value.as_str() != Some("")).then_some(value)
}

fn put(field: &str, value: Value) -> PatchOperation {
    PatchOperation::Add(AddOperation {
        path: PointerBuf::from_tokens(["spec", field]),
        value,
    })
}
