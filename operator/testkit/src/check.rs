//! What must hold before a write is done?

use serde_json::Value;

use crate::{
    resource::Served,
    respond::Failure,
    store::{Key, Stored},
    write::Write,
};

/// How an object is called in an answer.
pub(crate) fn title(served: &Served, key: &Key) -> String {
    format!("{}.{} {:?}", served.plural, served.group, key.name)
}

/// A write that names a version or UID must mean the object that is there.
pub(crate) fn check_identity(served: &Served, write: &Write, before: &Stored, body: &Value) -> Result<(), Failure> {
    for name in ["uid", "resourceVersion"] {
        let named = &body["metadata"][name];
        if !named.is_null() && *named != "" && *named != before.object["metadata"][name] {
            let title = title(served, &write.key);
            let message = format!("Operation cannot be fulfilled on {title}: the object has been modified ({name})");
            return Err(Failure::new(409, message));
        }
    }
    Ok(())
}

pub(crate) fn check_finalizers(before: &Value, after: &Value) -> Result<(), Failure> {
    let list = |metadata: &Value| metadata["finalizers"].as_array().cloned().unwrap_or_default();
    let old = list(before);
    if before.get("deletionTimestamp").is_some() && list(after).iter().any(|finalizer| !old.contains(finalizer)) {
        let message = "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted";
        return Err(Failure::new(422, message));
    }
    Ok(())
}

/// What the schema requires must be there after any write, also one that takes fields away.
pub(crate) fn check_required(served: &Served, object: &Value) -> Result<(), Failure> {
    match served.schema.missing(object) {
        Some(field) => Err(Failure::new(
            422,
            format!("{}: Required value", field.trim_start_matches('.')),
        )),
        None => Ok(()),
    }
}

/// Server-side apply refuses fields that the schema does not know, where other writes prune them.
pub(crate) fn check_declared(served: &Served, wanted: &Value) -> Result<(), Failure> {
    let mut known = wanted.clone();
    served.schema.prune_and_default(&mut known);
    match undeclared(wanted, &known, "") {
        Some(field) => Err(Failure::new(500, format!("{field}: field not declared in schema"))),
        None => Ok(()),
    }
}

fn undeclared(wanted: &Value, known: &Value, at: &str) -> Option<String> {
    match (wanted, known) {
        (Value::Object(wanted), Value::Object(known)) => {
            wanted
                .iter()
                .filter(|(_, value)| !value.is_null())
                .find_map(|(name, value)| {
                    let at = format!("{at}.{name}");
                    match known.get(name) {
                        Some(known) => undeclared(value, known, &at),
                        None => Some(at),
                    }
                })
        }
        (Value::Array(wanted), Value::Array(known)) => wanted
            .iter()
            .zip(known)
            .enumerate()
            .find_map(|(index, (wanted, known))| undeclared(wanted, known, &format!("{at}[{index}]"))),
        _ => None,
    }
}
