//! Which kinds have a say in placement, and is an object a right one of its kind?

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::Namespace, apimachinery::pkg::apis::meta::v1::Time};
use kube::{Resource, ResourceExt, core::ObjectMeta};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use virga_core::{flavor, host_aggregate, image, instance, problem::Problems};
use virga_crds::{
    Condition, ConditionStatus, Flavor, GROUP, HostAggregate, Hypervisor, Image, Project, ServerGroup, VERSION, Volume,
    conditions::types, definitions, labels,
};

use super::{
    Manifests,
    schema::{Schema, Wrong},
};

/// The kinds that are read. All others are skipped.
const READ: [&str; 8] = [
    "Flavor",
    "HostAggregate",
    "Hypervisor",
    "Image",
    "Instance",
    "Project",
    "ServerGroup",
    "Volume",
];

/// The kinds that are read, with their schemas.
pub(super) struct Kinds(Vec<Kind>);

/// One of them.
pub(super) struct Kind {
    pub(super) name: &'static str,
    is_namespaced: bool,
    schema: Schema,
    metadata: Schema,
}

/// An object that is as its schema says.
pub(super) struct Checked {
    kind: &'static str,
    /// Empty for a kind of the cluster.
    pub(super) namespace: String,
    pub(super) name: String,
    value: Value,
}

impl Kinds {
    pub(super) fn new() -> Self {
        let read = |definition| {
            let definition: Value = serde_json::to_value(definition).ok()?;
            let name = definition.pointer("/spec/names/kind")?.as_str()?;
            let name = READ.into_iter().find(|known| *known == name)?;
            Some(Kind {
                name,
                is_namespaced: definition.pointer("/spec/scope")? == "Namespaced",
                schema: Schema::read(definition.pointer("/spec/versions/0/schema/openAPIV3Schema")?),
                metadata: metadata(),
            })
        };
        Self(definitions::all().into_iter().filter_map(read).collect())
    }

    /// The kind of this name, if it is read.
    pub(super) fn find(&self, group: &str, kind: &str) -> Option<&Kind> {
        self.0.iter().find(|known| group == GROUP && known.name == kind)
    }
}

/// What of an object's metadata matters here.
fn metadata() -> Schema {
    let name = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
    let namespace = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
    let map = json!({"type": "object", "additionalProperties": {"type": "string"}});
    Schema::read(&json!({
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": {"type": "string", "minLength": 1, "maxLength": 253, "pattern": name},
            "namespace": {"type": "string", "minLength": 1, "maxLength": 63, "pattern": namespace},
            "labels": map,
            "annotations": map,
            "uid": {"type": "string", "maxLength": 128, "pattern": "^[A-Za-z0-9-]+$"},
        },
    }))
}

/// The version of the API that is read.
pub(super) fn api_version() -> String {
    format!("{GROUP}/{VERSION}")
}

impl Kind {
    /// The object with what it lacks filled in, or all that is wrong.
    pub(super) fn check(&self, mut object: Map<String, Value>, namespace: &str) -> Result<Checked, Vec<Wrong>> {
        let mut wrong = Vec::new();
        let metadata = object.entry("metadata").or_insert_with(|| json!({}));
        self.metadata.check("metadata", metadata, false, &mut wrong);
        let name = metadata
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        if name.len() > 63 && self.name != "Hypervisor" {
            wrong.push(("metadata.name".into(), "at most 63 characters".into()));
        }
        let given = metadata.get("namespace").and_then(Value::as_str);
        let namespace = match given {
            _ if !self.is_namespaced => String::new(),
            Some(given) => given.to_owned(),
            None => namespace.to_owned(),
        };
        if let Value::Object(metadata) = metadata {
            metadata.remove("managedFields");
            if self.is_namespaced {
                metadata.insert("namespace".into(), namespace.clone().into());
            } else {
                metadata.remove("namespace");
            }
        }
        for (field, value) in &object {
            match field.as_str() {
                "apiVersion" | "kind" | "metadata" => {}
                "spec" | "status" => {
                    let Some(schema) = self.schema.field(field) else {
                        continue;
                    };
                    // What a newer agent reports is no slip of the hand.
                    schema.check(field, value, field == "spec", &mut wrong);
                }
                _ => wrong.push((field.clone(), "there is no such field".into())),
            }
        }
        if !object.contains_key("spec") {
            object.insert("spec".into(), json!({}));
            let absent = Value::Object(Map::new());
            if let Some(schema) = self.schema.field("spec") {
                schema.check("spec", &absent, true, &mut wrong);
            }
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        Ok(Checked {
            kind: self.name,
            namespace,
            name,
            value: Value::Object(object),
        })
    }
}

impl Checked {
    /// Puts the object to the others, unless something is wrong with it that a schema can't say.
    pub(super) fn take(self, manifests: &mut Manifests) -> Vec<Wrong> {
        let kind = self.kind;
        let taken = match kind {
            "Flavor" => self
                .object(|flavor: &Flavor| flavor::extra_specs(&flavor.spec).err().unwrap_or_default())
                .map(|object| manifests.objects.flavors.push(object)),
            "HostAggregate" => self
                .object(|object: &HostAggregate| host_aggregate::validate(&object.spec))
                .map(|object| manifests.objects.host_aggregates.push(object)),
            "Hypervisor" => self
                .object(|_: &Hypervisor| Problems::default())
                .map(|object| manifests.objects.hypervisors.push(assumed_ready(object))),
            "Image" => self
                .object(|object: &Image| image::validate_properties(&object.spec.properties))
                .map(|object| manifests.objects.images.push(object)),
            "Instance" => self
                .object(instance::validate)
                .map(|object| manifests.objects.instances.push(object)),
            "Project" => self
                .object(|_: &Project| Problems::default())
                .map(|project| manifests.objects.namespaces.push(namespace_of(&project))),
            "ServerGroup" => self
                .object(|_: &ServerGroup| Problems::default())
                .map(|object| manifests.objects.server_groups.push(object)),
            _ => self
                .object(|_: &Volume| Problems::default())
                .map(|object| manifests.objects.volumes.push(object)),
        };
        taken.err().unwrap_or_default()
    }

    fn object<K: Resource + DeserializeOwned>(self, validate: impl Fn(&K) -> Problems) -> Result<K, Vec<Wrong>> {
        let Self {
            kind,
            namespace,
            name,
            value,
        } = self;
        let mut object: K = serde_json::from_value(value).map_err(|error| vec![(String::new(), error.to_string())])?;
        let problems = validate(&object);
        if !problems.is_empty() {
            let wrong = problems
                .iter()
                .map(|problem| (problem.field.clone(), problem.message.clone()));
            return Err(wrong.collect());
        }
        let meta = object.meta_mut();
        // What decides among equals must not depend on where the manifests come from. Only Images are named by their UIDs,
        // in profiles.
        if kind != "Image" || meta.uid.is_none() {
            meta.uid = Some(format!("{kind}/{namespace}/{name}"));
        }
        Ok(object)
    }
}

/// A host of which nobody says whether it is ready is: hosts that are only planned have no agent that would say so.
fn assumed_ready(mut hypervisor: Hypervisor) -> Hypervisor {
    let conditions = &mut hypervisor.status.get_or_insert_default().conditions;
    if !conditions.iter().any(|condition| condition.type_ == types::READY) {
        conditions.push(Condition {
            type_: types::READY.into(),
            status: ConditionStatus::True.as_str().into(),
            reason: "Assumed".into(),
            message: String::new(),
            last_transition_time: Time(jiff::Timestamp::UNIX_EPOCH),
            observed_generation: None,
        });
    }
    hypervisor
}

/// The namespace that the controller makes for a Project.
fn namespace_of(project: &Project) -> Namespace {
    let name = project.name_any();
    let label = (labels::PROJECT.to_owned(), name.clone());
    Namespace {
        metadata: ObjectMeta {
            name: Some(project.spec.namespace.clone().unwrap_or(name)),
            labels: Some(BTreeMap::from([label])),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    }
}
