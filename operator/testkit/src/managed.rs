//! Who owns which field? Server-side apply over JSON, after structured-merge-diff.

use serde_json::{Value, json};

use crate::{
    path::{Path, Paths, Step, get, leaves, merge, remove, show, to_fields},
    schema::Schema,
};

/// How a manager wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Apply,
    Update,
}

/// Who writes, and by which door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Who {
    pub manager: String,
    pub operation: Operation,
    pub subresource: Option<String>,
}

/// A manager and what it owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    pub who: Who,
    pub time: String,
    pub fields: Paths,
}

/// A field that the applier wants and another manager owns with another value.
#[derive(Debug)]
pub(crate) struct Conflict {
    pub manager: String,
    pub field: String,
}

impl Owner {
    /// The entry in `metadata.managedFields`.
    pub(crate) fn entry(&self, api_version: &str) -> Value {
        let operation = match self.who.operation {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        };
        let mut entry = json!({
            "manager": self.who.manager, "operation": operation, "apiVersion": api_version, "time": self.time,
            "fieldsType": "FieldsV1", "fieldsV1": to_fields(&self.fields),
        });
        if let Some(subresource) = &self.who.subresource {
            entry["subresource"] = subresource.clone().into();
        }
        entry
    }
}

/// Whether two owners' sets are the same, whenever they were written.
pub(crate) fn same_owners(a: &[Owner], b: &[Owner]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.who == b.who && a.fields == b.fields)
}

/// The paths of an object that can be owned.
fn ownable(object: &Value, schema: &Schema) -> Paths {
    let mut paths = leaves(object, schema);
    paths.retain(|path| match path.as_slice() {
        [Step::Field(field)] => !matches!(field.as_str(), "apiVersion" | "kind" | "metadata"),
        [Step::Field(first), Step::Field(second), ..] if first == "metadata" => {
            matches!(
                second.as_str(),
                "labels" | "annotations" | "finalizers" | "ownerReferences"
            )
        }
        _ => true,
    });
    paths
}

fn is_empty(value: Option<&Value>) -> bool {
    match value {
        Some(Value::Object(map)) => map.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        _ => false,
    }
}

fn touches(owned: &Path, path: &Path) -> bool {
    let item = |path: &Path| matches!(path.last(), Some(Step::Key(_)));
    owned == path || (path.starts_with(owned) && !item(owned)) || (owned.starts_with(path) && !item(path))
}

/// What an update (create, replace, patch) does to the owners: its manager owns what it added or changed, nobody owns
/// what is gone.
pub(crate) fn after_update(
    before: Option<&Value>,
    after: &Value,
    owners: &[Owner],
    who: &Who,
    now: &str,
    schema: &Schema,
) -> Vec<Owner> {
    let old = before.map(|before| ownable(before, schema)).unwrap_or_default();
    let new = ownable(after, schema);
    let is_item = |path: &Path| matches!(path.last(), Some(Step::Key(_)));
    let changed: Paths = new
        .iter()
        .filter(|path| {
            !old.contains(*path) || (!is_item(path) && before.and_then(|before| get(before, path)) != get(after, path))
        })
        .cloned()
        .collect();
    let mut owners = owners.to_vec();
    for owner in &mut owners {
        owner.fields.retain(|path| new.contains(path));
        if owner.who != *who {
            owner.fields.retain(|path| is_item(path) || !changed.contains(path));
        }
    }
    if !changed.is_empty() {
        match owners.iter_mut().find(|owner| owner.who == *who) {
            Some(owner) => {
                owner.fields.extend(changed);
                now.clone_into(&mut owner.time);
            }
            None => owners.push(Owner {
                who: who.clone(),
                time: now.to_owned(),
                fields: changed,
            }),
        }
    }
    owners.retain(|owner| !owner.fields.is_empty());
    owners
}

/// Server-side apply: the object and its owners afterwards, or the conflicts.
pub(crate) fn apply(
    live: &Value,
    owners: &[Owner],
    wanted: &Value,
    who: &Who,
    force: bool,
    now: &str,
    schema: &Schema,
) -> Result<(Value, Vec<Owner>), Vec<Conflict>> {
    let fields = ownable(wanted, schema);
    let is_item = |path: &Path| matches!(path.last(), Some(Step::Key(_)));
    // An empty map or list, laid over what is there, takes nothing away.
    let adds_nothing = |path: &Path| is_empty(get(wanted, path)) && get(live, path).is_some_and(|live| !live.is_null());
    let changed: Vec<&Path> = fields
        .iter()
        .filter(|path| !is_item(path) && !adds_nothing(path) && get(live, path) != get(wanted, path))
        .collect();

    let mut others: Vec<Owner> = owners.iter().filter(|owner| owner.who != *who).cloned().collect();
    let mut conflicts = Vec::new();
    for owner in &mut others {
        let taken: Paths = owner
            .fields
            .iter()
            .filter(|owned| {
                changed
                    .iter()
                    .any(|path| touches(owned, path) && get(live, owned).is_some())
            })
            .cloned()
            .collect();
        conflicts.extend(taken.iter().map(|path| Conflict {
            manager: owner.who.manager.clone(),
            field: show(path),
        }));
        owner.fields.retain(|path| !taken.contains(path));
    }
    if !conflicts.is_empty() && !force {
        return Err(conflicts);
    }

    let mut object = live.clone();
    merge(&mut object, wanted, schema);
    let former = owners.iter().find(|owner| owner.who == *who);
    let dropped: Paths = former
        .into_iter()
        .flat_map(|owner| &owner.fields)
        .filter(|path| !fields.contains(*path))
        .cloned()
        .collect();
    for path in &dropped {
        let owned_by = |owner: &Owner| {
            owner
                .fields
                .iter()
                .any(|owned| owned == path || (is_item(path) && owned.starts_with(path)))
        };
        // The keys of a list-map's item go with the item only.
        let is_key = matches!(path.as_slice(), [.., Step::Key(key), Step::Field(field)]
            if serde_json::from_str::<Value>(key).is_ok_and(|key| key.get(field).is_some()));
        if !is_key && !others.iter().any(owned_by) && !fields.iter().any(|field| field.starts_with(path)) {
            remove(&mut object, path);
        }
    }

    let time = match former {
        Some(owner) if owner.fields == fields && object == *live => owner.time.clone(),
        _ => now.to_owned(),
    };
    let mine = Owner {
        who: who.clone(),
        time,
        fields,
    };
    // Where it stood, so that nothing changes when nothing changes.
    let mut after = others;
    let at = owners.iter().position(|owner| owner.who == *who).unwrap_or(after.len());
    after.insert(at.min(after.len()), mine);
    after.retain(|owner| !owner.fields.is_empty());
    Ok((object, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(manager: &str, operation: Operation) -> Who {
        Who {
            manager: manager.into(),
            operation,
            subresource: None,
        }
    }

    fn applied(
        live: &Value,
        owners: &[Owner],
        wanted: &Value,
        manager: &str,
        force: bool,
    ) -> Result<(Value, Vec<Owner>), Vec<Conflict>> {
        apply(
            live,
            owners,
            wanted,
            &who(manager, Operation::Apply),
            force,
            "now",
            &Schema::untyped(),
        )
    }

    #[test]
    fn a_field_that_is_no_longer_sent_goes_unless_somebody_else_owns_it() {
        let both = json!({"spec": {"a": 1, "b": 2, "c": 3}});
        let (live, owners) = applied(&json!({}), &[], &both, "one", false).unwrap();
        let (live, owners) = applied(&live, &owners, &json!({"spec": {"b": 2}}), "two", false).unwrap();
        let (live, owners) = applied(&live, &owners, &json!({"spec": {"a": 1}}), "one", false).unwrap();
        assert_eq!(live, json!({"spec": {"a": 1, "b": 2}}));
        assert_eq!(owners.len(), 2);
    }

    #[test]
    fn another_value_for_an_owned_field_is_a_conflict_until_forced() {
        let (live, owners) = applied(&json!({}), &[], &json!({"spec": {"a": 1}}), "one", false).unwrap();
        let conflicts = applied(&live, &owners, &json!({"spec": {"a": 2}}), "two", false).unwrap_err();
        assert_eq!(
            (conflicts[0].manager.as_str(), conflicts[0].field.as_str()),
            ("one", ".spec.a")
        );
        let (live, owners) = applied(&live, &owners, &json!({"spec": {"a": 2}}), "two", true).unwrap();
        assert_eq!(live, json!({"spec": {"a": 2}}));
        assert_eq!(owners.len(), 1, "one owns nothing any more");
    }

    #[test]
    fn conditions_of_two_managers_live_side_by_side() {
        let one = json!({"status": {"conditions": [{"type": "Scheduled", "status": "True"}]}});
        let two = json!({"status": {"conditions": [{"type": "Running", "status": "True"}]}});
        let (live, owners) = applied(&json!({}), &[], &one, "one", false).unwrap();
        let (live, owners) = applied(&live, &owners, &two, "two", false).unwrap();
        assert_eq!(live["status"]["conditions"].as_array().unwrap().len(), 2);
        let (live, _) = applied(&live, &owners, &json!({}), "two", false).unwrap();
        assert_eq!(live, one);
    }

    #[test]
    fn an_update_takes_what_it_changes() {
        let schema = Schema::untyped();
        let (live, owners) = applied(&json!({}), &[], &json!({"spec": {"a": 1, "b": 1}}), "one", false).unwrap();
        let after = json!({"spec": {"a": 2, "b": 1}});
        let owners = after_update(
            Some(&live),
            &after,
            &owners,
            &who("kubectl", Operation::Update),
            "now",
            &schema,
        );
        let fields = |manager: &str| {
            owners
                .iter()
                .find(|owner| owner.who.manager == manager)
                .map(|owner| to_fields(&owner.fields))
                .unwrap()
        };
        assert_eq!(fields("one"), json!({"f:spec": {"f:b": {}}}));
        assert_eq!(fields("kubectl"), json!({"f:spec": {"f:a": {}}}));
    }
}
