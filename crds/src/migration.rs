use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Bytes, Condition, DiskFormat, schema};

/// An Instance's move to another host: Nova's migration. It runs once, and keeps its story.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "virga.dev",
    version = "v1alpha1",
    kind = "Migration",
    plural = "migrations",
    singular = "migration",
    category = "virga",
    namespaced,
    doc = "An Instance's move to another host. It runs once, and keeps its story.",
    status = "MigrationStatus",
    derive = "PartialEq",
    selectable = ".status.source",
    selectable = ".status.target",
    printcolumn(name = "Instance", type_ = "string", json_path = ".spec.instance"),
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Source", type_ = "string", json_path = ".status.source"),
    printcolumn(name = "Target", type_ = "string", json_path = ".status.target"),
    printcolumn(name = "Progress", type_ = "integer", json_path = ".status.incoming.progress"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = kube::core::Rule::new("size(self.metadata.name) <= 63").message("metadata.name: at most 63 characters")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = kube::core::Rule::new("self == oldSelf").message("a Migration is immutable: create another one"),
)]
pub struct MigrationSpec {
    /// The Instance, in the same namespace.
    #[schemars(schema_with = "schema::dotted_name")]
    pub instance: String,
    /// How it moves.
    #[serde(rename = "type")]
    pub kind: MigrationType,
    /// The Hypervisor that it moves to; when absent, the scheduler chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::dotted_name")]
    pub target: Option<String>,
}

/// How an Instance moves.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MigrationType {
    /// The guest is shut down, its disk is moved, and it is started again if it should run.
    Cold,
}

/// What became of a Migration.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MigrationStatus {
    /// The generation that this status was computed for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// Where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<MigrationPhase>,
    /// The Instance's uid.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "instanceUID")]
    #[schemars(length(min = 1, max = 63))]
    pub instance_uid: Option<String>,
    /// The Hypervisor that the Instance is on at the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::dotted_name")]
    pub source: Option<String>,
    /// The Hypervisor that it moves to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::dotted_name")]
    pub target: Option<String>,
    /// The address and port of the source's agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 80))]
    pub source_address: Option<String>,
    /// When a target was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Time>,
    /// When it was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<Time>,
    /// What the source's agent says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outgoing: Option<Outgoing>,
    /// What the target's agent says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incoming: Option<Incoming>,
    /// Ready (the Instance has moved), Reconciling, Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// Where a Migration stands.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MigrationPhase {
    /// It waits: for the Instance to be in a state that allows it, or for a host.
    #[default]
    Pending,
    /// The guest is shut down and its files are offered to the target.
    Preparing,
    /// The target fetches and verifies them.
    Transferring,
    /// The target owns the guest; the Instance is bound to it.
    Switching,
    /// It can't go on; the source takes its offer back.
    Aborting,
    /// The Instance is on the target.
    Completed,
    /// The Instance is on the source.
    Failed,
}

impl MigrationPhase {
    /// Whether it is over.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Completed | Self::Failed)
    }
}

/// What the source's agent says of a Migration.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outgoing {
    /// Who owns the guest.
    pub state: OutgoingState,
    /// What the target is to fetch; the first is the root disk, with which the guest goes over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub files: Vec<OfferedFile>,
    /// The image that the root disk lies over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<OfferedBase>,
    /// Why it can't offer them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
}

/// Who owns the guest, as the source has written down.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutgoingState {
    /// The source does, and it is off; the files are offered to the target.
    Offered,
    /// The source does, and can't offer it.
    Refused,
    /// The source does, for good: the offer was taken back, or never made.
    Revoked,
    /// The target does.
    LetGo,
    /// The target does, and nothing of it is left at the source.
    Removed,
}

/// A file that is offered to the target.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OfferedFile {
    /// Its name in the Instance's directory.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"))]
    pub name: String,
    /// The offer's name.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))]
    pub offer: String,
    /// What the target shows with its certificate. Worth nothing to anybody else.
    #[schemars(length(min = 64, max = 64), regex(pattern = r"^[0-9a-f]{64}$"))]
    pub token: String,
}

/// The image that a root disk lies over.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OfferedBase {
    /// The hash of its bytes: `sha256:` and 64 hexadecimal digits.
    #[schemars(length(min = 1, max = 80))]
    pub digest: String,
    /// Its format.
    pub format: DiskFormat,
}

/// What the target's agent says of a Migration.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Incoming {
    /// How far it is.
    pub state: IncomingState,
    /// How much of the root disk's data is here, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub progress: Option<i32>,
    /// How much of the root disk's data is here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transferred: Option<Bytes>,
    /// Why it does not get on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
}

/// How far the target is, as it has written down.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IncomingState {
    /// Files are coming.
    Receiving,
    /// It can't take them, and has given up.
    Rejected,
    /// It has all of them, and the source has let go.
    Owned,
    /// The Instance is bound to it, and they are in their place.
    Landed,
    /// It has removed what came.
    Removed,
}
