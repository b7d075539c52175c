use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::{Bytes, Condition, schema};

/// A size that Instances come in: Nova's flavor. Immutable but for its description.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "virga.dev",
    version = "v1alpha1",
    kind = "Flavor",
    plural = "flavors",
    singular = "flavor",
    shortname = "flv",
    category = "virga",
    doc = "A size that Instances come in. Immutable but for its description.",
    status = "FlavorStatus",
    derive = "PartialEq",
    printcolumn(name = "VCPUs", type_ = "integer", json_path = ".spec.vcpus"),
    printcolumn(name = "Memory", type_ = "string", json_path = ".spec.memory"),
    printcolumn(name = "Disk", type_ = "string", json_path = ".spec.disk"),
    printcolumn(name = "Instances", type_ = "integer", json_path = ".status.instances"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = kube::core::Rule::new("size(self.metadata.name) <= 63").message("metadata.name: at most 63 characters")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = kube::core::Rule::new("self.vcpus == oldSelf.vcpus && self.memory == oldSelf.memory && self.disk == oldSelf.disk").message("vcpus, memory and disk are immutable: create another Flavor"),
    validation = kube::core::Rule::new("has(self.extraSpecs) == has(oldSelf.extraSpecs) && (!has(self.extraSpecs) || self.extraSpecs == oldSelf.extraSpecs)").message("extraSpecs is immutable: create another Flavor"),
)]
pub struct FlavorSpec {
    /// What the flavor is for: the only field that may change.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub description: String,
    /// Virtual CPUs.
    #[schemars(range(min = 1, max = 512))]
    pub vcpus: u16,
    /// Memory: 32Mi to 16Ti.
    #[x_kube(
        validation = kube::core::Rule::new("quantity(string(self)).compareTo(quantity('32Mi')) >= 0").message("memory must be at least 32Mi"),
        validation = kube::core::Rule::new("quantity(string(self)).compareTo(quantity('16Ti')) <= 0").message("memory must be at most 16Ti")
    )]
    pub memory: Bytes,
    /// The root disk; 0: as large as the image.
    #[serde(default)]
    #[x_kube(
        validation = kube::core::Rule::new("quantity(string(self)).compareTo(quantity('64Ti')) <= 0").message("disk must be at most 64Ti")
    )]
    #[schemars(extend("default" = 0))]
    pub disk: Bytes,
    /// What else its Instances need, by Nova's keys: `resources:CLASS`, `trait:NAME`, `capabilities:KEY`,
    /// `aggregate_instance_extra_specs:KEY`, `hw:KEY` and its like for their machine, and `quota:KEY`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::string_map")]
    pub extra_specs: BTreeMap<String, String>,
}

/// How much a Flavor is used.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlavorStatus {
    /// The generation that this status was computed for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// How many Instances have this flavor.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub instances: i32,
    /// Ready, Reconciling, Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}
