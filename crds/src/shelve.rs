//! What may be asked for of an Instance that is shelved, and what is told of it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// How an Instance is shelved.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Shelve {
    /// How long it stays on its host after it is shelved: a number and `s`, `m` or `h`; `0s`: not at all; `Never`: until it
    /// is unshelved.
    #[serde(default = "at_once")]
    #[schemars(length(min = 2, max = 6), regex(pattern = r"^(Never|0s|[1-9][0-9]{0,4}[smh])$"), extend("default" = "0s"))]
    pub offload_after: String,
}

fn at_once() -> String {
    "0s".into()
}

/// How far the shelving of an Instance is.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShelveStatus {
    /// Since when it is off for it. Each shelving has a time of its own.
    pub stopped_at: Time,
    /// The Image that its root disk is in. Absent while there is none, and of what boots from a volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::dotted_name")]
    pub image: Option<String>,
    /// What the bytes of that Image hash to: `sha256:` and 64 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 80))]
    pub digest: Option<String>,
    /// Since when it is shelved: off, and its root disk whole in the Image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shelved_at: Option<Time>,
    /// Since when nothing of it is on a host. Absent while it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offloaded_at: Option<Time>,
}
