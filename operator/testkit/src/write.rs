//! What does a write do? Create, replace, patch and delete by the API server's rules.

use json_patch::{Patch as JsonPatch, PatchOperation};
use serde_json::{Map, Value, json};

use crate::{
    check::{check_declared, check_finalizers, check_identity, check_required, title},
    managed::{Operation, Owner, Who, after_update, apply, same_owners},
    resource::Served,
    respond::Failure,
    store::{Key, State, Stored},
};

/// A write that is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Write {
    pub key: Key,
    pub subresource: Option<String>,
    pub manager: Option<String>,
    pub action: Action,
    pub body: Value,
    pub force: bool,
    pub dry_run: bool,
    /// What admission changes.
    pub mutation: Option<JsonPatch>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Create,
    Replace,
    JsonPatch,
    MergePatch,
    Apply,
    Delete,
}

/// A write that was done.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub code: u16,
    pub object: Value,
    pub before: Option<Value>,
    pub changed: bool,
}

type Outcome = Result<Written, Failure>;

impl State {
    pub(crate) fn write(&mut self, served: &Served, mut write: Write) -> Outcome {
        if let Some(subresource) = &write.subresource
            && (subresource != "status" || !served.status || matches!(write.action, Action::Create | Action::Delete))
        {
            return Err(Failure::new(
                404,
                format!("{} has no subresource {subresource}", served.plural),
            ));
        }
        if write.action == Action::Create && write.key.name.is_empty() {
            let prefix = write.body["metadata"]["generateName"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            if prefix.is_empty() {
                return Err(Failure::new(422, "metadata.name: name or generateName is required"));
            }
            write.key.name = format!("{prefix}{:05x}", self.next_number());
        }
        let before = self.objects.get(&write.key).cloned();
        match (write.action, before) {
            (Action::Create, None) => self.create(served, &write),
            (Action::Create, Some(_)) => Err(Failure::already_exists(format!(
                "{} already exists",
                title(served, &write.key)
            ))),
            (Action::Apply, None) if write.subresource.is_none() => self.apply(served, &write, None),
            (_, None) => Err(Failure::new(404, format!("{} not found", title(served, &write.key)))),
            (Action::Apply, before) => self.apply(served, &write, before.as_ref()),
            (Action::Delete, Some(before)) => self.delete(&write, &before),
            (_, Some(before)) => self.update(served, &write, &before),
        }
    }

    fn create(&mut self, served: &Served, write: &Write) -> Outcome {
        if write.body.pointer("/metadata/resourceVersion").is_some() {
            return Err(Failure::new(
                400,
                "resourceVersion should not be set on objects to be created",
            ));
        }
        let object = self.newborn(served, &write.key, write.body.clone())?;
        let who = who(write, Operation::Update);
        let owners = after_update(None, &object, &[], &who, &self.now(), &served.schema);
        self.commit(served, write, None, object, owners, 201)
    }

    /// An object that is about to be made, without what a client cannot say.
    fn newborn(&mut self, served: &Served, key: &Key, mut object: Value) -> Result<Value, Failure> {
        if served.namespaced && self.strict_namespaces {
            let namespace = Key {
                group: String::new(),
                plural: "namespaces".into(),
                namespace: String::new(),
                name: key.namespace.clone(),
            };
            if !self.objects.contains_key(&namespace) {
                return Err(Failure::new(404, format!("namespaces {:?} not found", key.namespace)));
            }
        }
        if served.status {
            object.as_object_mut().map(|object| object.remove("status"));
        }
        object["apiVersion"] = served.api_version().into();
        object["kind"] = served.kind.clone().into();
        let number = self.next_number();
        let mut metadata = object["metadata"].as_object().cloned().unwrap_or_default();
        for name in [
            "managedFields",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "selfLink",
        ] {
            metadata.remove(name);
        }
        metadata.insert("name".into(), key.name.clone().into());
        if served.namespaced {
            metadata.insert("namespace".into(), key.namespace.clone().into());
        }
        metadata.insert(
            "uid".into(),
            format!("{number:08x}-0000-4000-8000-{number:012x}").into(),
        );
        metadata.insert("creationTimestamp".into(), self.now().into());
        if served.generation {
            metadata.insert("generation".into(), 1.into());
        }
        object["metadata"] = metadata.into();
        served.schema.prune_and_default(&mut object);
        Ok(object)
    }

    fn update(&mut self, served: &Served, write: &Write, before: &Stored) -> Outcome {
        let body = match write.action {
            Action::Replace => {
                let version = write.body.pointer("/metadata/resourceVersion");
                if version.is_none() && !served.unconditional {
                    return Err(Failure::new(
                        422,
                        "metadata.resourceVersion: must be specified for an update",
                    ));
                }
                write.body.clone()
            }
            Action::JsonPatch => json_patched(before.object.clone(), &write.body)?,
            _ => {
                let mut body = before.object.clone();
                json_patch::merge(&mut body, &write.body);
                body
            }
        };
        check_identity(served, write, before, &body)?;
        let mut object = match write.subresource {
            Some(_) => with_status(before.object.clone(), body.get("status")),
            None if served.status => with_status(body, before.object.get("status")),
            None => body,
        };
        object["metadata"] = metadata_after(&before.object["metadata"], &object["metadata"]);
        served.schema.prune_and_default(&mut object);
        let who = who(write, Operation::Update);
        let owners = after_update(
            Some(&before.object),
            &object,
            &before.owners,
            &who,
            &self.now(),
            &served.schema,
        );
        self.commit(served, write, Some(before), object, owners, 200)
    }

    fn apply(&mut self, served: &Served, write: &Write, before: Option<&Stored>) -> Outcome {
        if write.manager.is_none() {
            return Err(Failure::new(400, "fieldManager is required for apply patch"));
        }
        if write.body.pointer("/metadata/managedFields").is_some() {
            return Err(Failure::new(400, "metadata.managedFields must be nil"));
        }
        let mut wanted = write.body.clone();
        let unwanted = if write.subresource.is_some() { "spec" } else { "status" };
        if served.status {
            wanted.as_object_mut().map(|wanted| wanted.remove(unwanted));
        }
        if write.subresource.is_some() {
            wanted["metadata"] = json!({});
        }
        check_declared(served, &wanted)?;
        let now = self.now();
        let who = who(write, Operation::Apply);
        let (live, owners) = if let Some(before) = before {
            // As the real one does: what an apply by another door says of metadata is not even compared.
            if write.subresource.is_none() {
                check_identity(served, write, before, &write.body)?;
            }
            (before.object.clone(), before.owners.clone())
        } else {
            let named = |field: &str| write.body["metadata"].get(field).is_some();
            if named("uid") || named("resourceVersion") {
                return Err(Failure::new(
                    409,
                    format!("{} is not there any more", title(served, &write.key)),
                ));
            }
            (self.newborn(served, &write.key, json!({}))?, Vec::new())
        };
        let (mut object, owners) =
            apply(&live, &owners, &wanted, &who, write.force, &now, &served.schema).map_err(|conflicts| {
                let list: Vec<String> = conflicts
                    .iter()
                    .map(|c| format!("conflict with {:?}: {}", c.manager, c.field))
                    .collect();
                Failure::new(
                    409,
                    format!("Apply failed with {} conflicts: {}", list.len(), list.join("; ")),
                )
            })?;
        object["metadata"] = metadata_after(&live["metadata"], &object["metadata"]);
        served.schema.prune_and_default(&mut object);
        let code = if before.is_some() { 200 } else { 201 };
        self.commit(served, write, before, object, owners, code)
    }

    fn delete(&mut self, write: &Write, before: &Stored) -> Outcome {
        for name in ["uid", "resourceVersion"] {
            let wanted = &write.body["preconditions"][name];
            if !wanted.is_null() && *wanted != before.object["metadata"][name] {
                return Err(Failure::new(
                    409,
                    format!("the {name} in the precondition is not the object's"),
                ));
            }
        }
        let rendered = Some(before.render());
        let status = json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Success"});
        if write.dry_run || !write.body["dryRun"].as_array().is_none_or(Vec::is_empty) {
            return Ok(Written {
                code: 200,
                object: status,
                before: rendered,
                changed: false,
            });
        }
        let version = self.version;
        let object = self.remove(&write.key).map_or(status, |left| left.render());
        Ok(Written {
            code: 200,
            object,
            before: rendered,
            changed: self.version != version,
        })
    }

    /// Stores the object if anything has changed.
    fn commit(
        &mut self,
        served: &Served,
        write: &Write,
        before: Option<&Stored>,
        mut object: Value,
        mut owners: Vec<Owner>,
        code: u16,
    ) -> Outcome {
        if let Some(mutation) = &write.mutation {
            let unchanged = object.clone();
            json_patch::patch(&mut object, mutation)
                .map_err(|error| Failure::new(500, format!("applying the patch of admission: {error}")))?;
            served.schema.prune_and_default(&mut object);
            let who = who(write, Operation::Update);
            owners = after_update(Some(&unchanged), &object, &owners, &who, &self.now(), &served.schema);
        }
        check_required(served, &object)?;
        let rendered = before.map(Stored::render);
        if let Some(before) = before {
            check_finalizers(&before.object["metadata"], &object["metadata"])?;
            if served.generation && desired(&before.object, served) != desired(&object, served) {
                let generation = before.object["metadata"]["generation"].as_i64().unwrap_or(0);
                object["metadata"]["generation"] = json!(generation + 1);
            }
            if before.object == object && same_owners(&before.owners, &owners) {
                return Ok(Written {
                    code,
                    object: before.render(),
                    before: rendered,
                    changed: false,
                });
            }
        }
        let metadata = &object["metadata"];
        let ends =
            metadata.get("deletionTimestamp").is_some() && metadata["finalizers"].as_array().is_none_or(Vec::is_empty);
        let stored = Stored {
            object,
            owners,
            api_version: served.api_version(),
        };
        if write.dry_run {
            return Ok(Written {
                code,
                object: stored.render(),
                before: rendered,
                changed: false,
            });
        }
        if ends {
            // The last look at it is what the last write made of it.
            self.objects.insert(write.key.clone(), stored.clone());
        }
        let stored = self.record(write.key.clone(), (!ends).then_some(&stored));
        Ok(Written {
            code,
            object: stored.render(),
            before: rendered,
            changed: true,
        })
    }
}

fn who(write: &Write, operation: Operation) -> Who {
    let manager = write.manager.clone().unwrap_or_else(|| "unknown".into());
    Who {
        manager,
        operation,
        subresource: write.subresource.clone(),
    }
}

fn with_status(mut object: Value, status: Option<&Value>) -> Value {
    if let Some(map) = object.as_object_mut() {
        match status {
            Some(status) => map.insert("status".into(), status.clone()),
            None => map.remove("status"),
        };
    }
    object
}

/// What `generation` counts: all but metadata and, where that has its own door, status.
fn desired(object: &Value, served: &Served) -> Map<String, Value> {
    let mut map = object.as_object().cloned().unwrap_or_default();
    map.remove("metadata");
    if served.status {
        map.remove("status");
    }
    map
}

/// The metadata that a client may change, over what only the server writes.
fn metadata_after(before: &Value, after: &Value) -> Value {
    let mut metadata = before.clone();
    for name in ["labels", "annotations", "finalizers", "ownerReferences"] {
        let Some(map) = metadata.as_object_mut() else { continue };
        match after.get(name) {
            Some(value) if *value != json!([]) && *value != json!({}) => map.insert(name.into(), value.clone()),
            _ => map.remove(name),
        };
    }
    metadata
}

fn json_patched(mut object: Value, body: &Value) -> Result<Value, Failure> {
    let patch: JsonPatch = serde_json::from_value(body.clone())
        .map_err(|error| Failure::new(400, format!("reading the patch: {error}")))?;
    for operation in patch.0 {
        // The API server's library finds null where there is nothing; kube's finalizer helper relies on it.
        if let PatchOperation::Test(test) = &operation
            && test.value.is_null()
            && object.pointer(test.path.as_str()).is_none()
        {
            continue;
        }
        json_patch::patch(&mut object, &[operation]).map_err(|error| Failure::new(422, error.to_string()))?;
    }
    Ok(object)
}
