use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Bytes, Condition, schema};

/// A disk image that Instances boot from: Glance's image.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "virga.dev",
    version = "v1alpha1",
    kind = "Image",
    plural = "images",
    singular = "image",
    shortname = "img",
    category = "virga",
    namespaced,
    doc = "A disk image that Instances boot from.",
    status = "ImageStatus",
    derive = "PartialEq",
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "Progress", type_ = "integer", json_path = ".status.progress", priority = 1),
    printcolumn(name = "Format", type_ = "string", json_path = ".status.diskFormat"),
    printcolumn(name = "Size", type_ = "string", json_path = ".status.size"),
    printcolumn(name = "Virtual", type_ = "string", json_path = ".status.virtualSize"),
    printcolumn(name = "Cached", type_ = "integer", json_path = ".status.nodes.cached"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = kube::core::Rule::new("size(self.metadata.name) <= 63").message("metadata.name: at most 63 characters")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = kube::core::Rule::new("self.source == oldSelf.source").message("source is immutable: create another Image"),
    validation = kube::core::Rule::new("!has(self.source.instance) || !has(self.diskFormat) || self.diskFormat == 'QCOW2'").message("diskFormat: what is made of an Instance is QCOW2"),
    validation = kube::core::Rule::new("has(self.diskFormat) == has(oldSelf.diskFormat) && (!has(self.diskFormat) || self.diskFormat == oldSelf.diskFormat)").message("diskFormat is immutable: create another Image"),
)]
pub struct ImageSpec {
    /// Where the bytes come from: exactly one of its fields.
    pub source: ImageSource,
    /// The format that the bytes must have; when absent, what inspection finds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_format: Option<DiskFormat>,
    /// Who may boot from it.
    #[serde(default)]
    #[schemars(extend("default" = "Private"))]
    pub visibility: ImageVisibility,
    /// The smallest root disk that it may be used with.
    #[serde(default)]
    #[schemars(extend("default" = 0))]
    pub min_disk: Bytes,
    /// The least memory that it may be used with.
    #[serde(default)]
    #[schemars(extend("default" = 0))]
    pub min_memory: Bytes,
    /// Glance's image properties. `hw_machine_type`, `hw_firmware_type`, `hw_disk_bus`, `hw_vif_model` and others shape
    /// the machine; `hw_architecture` (x86_64, aarch64), `img_hv_type` (kvm, qemu), `hw_vm_mode` (hvm),
    /// `img_hv_requested_version` (such as `>=7.2, <11`) and `trait:NAME` (required) choose the host; names that mean
    /// nothing here are kept for people.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::string_map")]
    pub properties: BTreeMap<String, String>,
}

/// Where an image's bytes come from.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::Rule::new("(has(self.http) ? 1 : 0) + (has(self.path) ? 1 : 0) + (has(self.instance) ? 1 : 0) == 1").message("exactly one of http, path and instance must be given"))]
pub struct ImageSource {
    /// A file that a web server has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpSource>,
    /// A file under the store directory of every node (`/var/lib/virga/store`), such as a shared mount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 1024),
        regex(pattern = r"^[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*$")
    )]
    pub path: Option<String>,
    /// The root disk of an Instance of this namespace, as it is when the image is made: a snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceSource>,
}

/// The root disk of an Instance.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceSource {
    /// The Instance's name.
    #[schemars(schema_with = "schema::dotted_name")]
    pub name: String,
    /// Whether its file systems are made to stand still while the copy begins.
    #[serde(default)]
    #[schemars(extend("default" = "WhenPossible"))]
    pub quiesce: Quiesce,
}

/// Whether a guest's file systems are written out and halted, by the guest agent, for the moment that is copied. Without
/// it a running guest's copy is as its disk would be after a power cut.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Quiesce {
    /// The guest is not asked.
    Never,
    /// If its agent answers.
    #[default]
    WhenPossible,
    /// Always: there is no copy of a running guest whose agent doesn't answer.
    Required,
}

/// A file that a web server has.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpSource {
    /// Its address.
    #[schemars(length(min = 8, max = 2048), regex(pattern = r"^https?://[^\s]+$"))]
    pub url: String,
    /// What the bytes must hash to.
    pub checksum: Checksum,
}

/// A hash of a file's bytes, as its publisher gives it.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Checksum {
    /// How it was computed.
    pub algorithm: ChecksumAlgorithm,
    /// The hash, in lower-case hexadecimal digits.
    #[schemars(length(min = 64, max = 64), regex(pattern = r"^[0-9a-f]{64}$"))]
    pub value: String,
}

/// The hash functions that are strong enough.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChecksumAlgorithm {
    /// SHA-2 with 256 bits (FIPS 180-4).
    #[serde(rename = "SHA256")]
    Sha256,
}

/// The formats that Instances boot from.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiskFormat {
    /// QEMU's copy-on-write format, version 2 or 3, with no backing file.
    #[serde(rename = "QCOW2")]
    Qcow2,
    /// The plain bytes of a disk.
    #[serde(rename = "RAW")]
    Raw,
}

impl DiskFormat {
    /// As QEMU calls it.
    pub const fn as_qemu(self) -> &'static str {
        match self {
            Self::Qcow2 => "qcow2",
            Self::Raw => "raw",
        }
    }
}

/// Who may boot from an image.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImageVisibility {
    /// Instances of its own namespace.
    #[default]
    Private,
    /// Instances of every namespace.
    Public,
}

/// What became of an Image.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageStatus {
    /// The generation that this status was computed for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// Where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<ImageState>,
    /// The Hypervisor that fetches and inspects it first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::dotted_name")]
    pub importer: Option<String>,
    /// How much of the import is done, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub progress: Option<i32>,
    /// The hash of the bytes that were verified: `sha256:` and 64 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 80))]
    pub digest: Option<String>,
    /// How large the file is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Bytes>,
    /// How large the disk in it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_size: Option<Bytes>,
    /// What inspection found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_format: Option<DiskFormat>,
    /// On how many nodes it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<ImageNodes>,
    /// Some of the nodes that have it, for the agents of others to fetch it from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["node"]))]
    pub holders: Vec<ImageHolder>,
    /// Of an image that was made from an Instance: the Hypervisor whose copy is never evicted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::dotted_name")]
    pub keeper: Option<String>,
    /// Of an image that is made from an Instance: what it has from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotStatus>,
    /// Ready, Reconciling, Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// What an image has from the Instance that it is made of. What its own spec says comes first.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotStatus {
    /// The Instance's uid: another one of the same name is another one.
    #[schemars(length(min = 1, max = 63))]
    pub instance_uid: String,
    /// The smallest root disk: that of the Instance's Flavor.
    #[serde(default)]
    pub min_disk: Bytes,
    /// The least memory: as the Instance's own Image asks.
    #[serde(default)]
    pub min_memory: Bytes,
    /// The properties of the Instance's own Image.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::string_map")]
    pub properties: BTreeMap<String, String>,
}

/// Where an Image stands.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImageState {
    /// It waits for a node that can import it.
    Queued,
    /// A node fetches, verifies and inspects it.
    Importing,
    /// Instances can boot from it.
    Active,
    /// Its bytes can't be used or had.
    Error,
    /// It is being deleted.
    Deleting,
}

/// On how many nodes an image is.
#[derive(KubeSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageNodes {
    /// Nodes that have it.
    #[schemars(range(min = 0))]
    pub cached: i32,
    /// Nodes that are fetching it.
    #[schemars(range(min = 0))]
    pub pulling: i32,
}

/// A node that has an image.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageHolder {
    /// The node.
    #[schemars(schema_with = "schema::dotted_name")]
    pub node: String,
    /// The address and port of its agent.
    #[schemars(length(min = 1, max = 80))]
    pub address: String,
}
