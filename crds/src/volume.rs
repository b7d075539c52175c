use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Bytes, Condition, ImageRef, schema};

/// A disk that outlives the Instance it is attached to: Cinder's volume.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "virga.dev",
    version = "v1alpha1",
    kind = "Volume",
    plural = "volumes",
    singular = "volume",
    shortname = "vol",
    category = "virga",
    namespaced,
    doc = "A disk that outlives the Instance it is attached to.",
    status = "VolumeStatus",
    derive = "PartialEq",
    selectable = ".spec.nodeName",
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "Size", type_ = "string", json_path = ".spec.size"),
    printcolumn(name = "Node", type_ = "string", json_path = ".spec.nodeName"),
    printcolumn(name = "Instance", type_ = "string", json_path = ".status.attachments[0].instance"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = kube::core::Rule::new("size(self.metadata.name) <= 63").message("metadata.name: at most 63 characters")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = kube::core::Rule::new("quantity(string(self.size)).compareTo(quantity(string(oldSelf.size))) >= 0").message("size may only grow: create another Volume and copy the data"),
    validation = kube::core::Rule::new("has(self.source) == has(oldSelf.source) && (!has(self.source) || self.source == oldSelf.source)").message("source is immutable: create another Volume"),
)]
pub struct VolumeSpec {
    /// How large it is; may grow. 1Mi to 64Ti.
    #[x_kube(
        validation = kube::core::Rule::new("quantity(string(self)).compareTo(quantity('1Mi')) >= 0").message("size must be at least 1Mi"),
        validation = kube::core::Rule::new("quantity(string(self)).compareTo(quantity('64Ti')) <= 0").message("size must be at most 64Ti")
    )]
    pub size: Bytes,
    /// What it is filled with; blank when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<VolumeSource>,
    /// What happens to the data when the Volume is deleted.
    #[serde(default)]
    #[schemars(extend("default" = "Delete"))]
    pub deletion_policy: VolumeDeletionPolicy,
    /// The node that holds it. Set when the first Instance that names it is placed, never by users.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::dotted_name")]
    pub node_name: Option<String>,
}

/// What a Volume is filled with.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeSource {
    /// An Image: the Volume can then be an Instance's bootVolume.
    pub image: ImageRef,
}

/// What happens to the data when the Volume is deleted.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum VolumeDeletionPolicy {
    /// It is deleted as well.
    #[default]
    Delete,
    /// The file stays on the node, under `/var/lib/virga/retained`.
    Retain,
}

/// What became of a Volume.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeStatus {
    /// The generation that this status was computed for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// Where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<VolumeState>,
    /// How large it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Bytes>,
    /// The Instances that use it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["instance"]))]
    pub attachments: Vec<VolumeAttachmentStatus>,
    /// Ready, Reconciling, Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// Where a Volume stands: Cinder's words.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VolumeState {
    /// Its file is being made.
    Creating,
    /// It can be attached.
    Available,
    /// An Instance uses it.
    InUse,
    /// It is being made larger.
    Extending,
    /// It can't be made or used; the conditions say why.
    Error,
    /// It is being deleted.
    Deleting,
}

/// One use of a Volume.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeAttachmentStatus {
    /// The Instance.
    #[schemars(schema_with = "schema::dotted_name")]
    pub instance: String,
    /// The node.
    #[schemars(schema_with = "schema::dotted_name")]
    pub node: String,
    /// How the guest sees it: vda, vdb, …
    #[schemars(length(max = 63))]
    pub device: String,
}
