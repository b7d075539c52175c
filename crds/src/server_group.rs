use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Condition, schema};

/// Instances that must, or should, run together or apart: Nova's server group.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "virga.dev",
    version = "v1alpha1",
    kind = "ServerGroup",
    plural = "servergroups",
    singular = "servergroup",
    shortname = "sg",
    category = "virga",
    namespaced,
    doc = "Instances that must, or should, run together or apart.",
    status = "ServerGroupStatus",
    derive = "PartialEq",
    printcolumn(name = "Policy", type_ = "string", json_path = ".spec.policy"),
    printcolumn(name = "Members", type_ = "string", json_path = ".status.members"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = kube::core::Rule::new("size(self.metadata.name) <= 63").message("metadata.name: at most 63 characters")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = kube::core::Rule::new("self == oldSelf").message("policy and rules are immutable: create another ServerGroup"),
    validation = kube::core::Rule::new("!has(self.rules) || self.policy == 'AntiAffinity'").message("rules.maxServerPerHost is for policy AntiAffinity only"),
)]
pub struct ServerGroupSpec {
    /// Together or apart, as a must or as a wish.
    pub policy: ServerGroupPolicy,
    /// Details of the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<ServerGroupRules>,
}

/// Nova's four policies.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServerGroupPolicy {
    /// All on one host.
    Affinity,
    /// Each on a host of its own.
    AntiAffinity,
    /// Together where possible.
    SoftAffinity,
    /// Apart where possible.
    SoftAntiAffinity,
}

/// Details of a policy.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerGroupRules {
    /// How many members a host may have (Nova, since microversion 2.64).
    #[schemars(range(min = 1, max = 1000))]
    pub max_server_per_host: u16,
}

/// Who is in a ServerGroup.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerGroupStatus {
    /// The generation that this status was computed for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// The Instances, by name; the first 1,000.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(min = 1, max = 253)), extend("x-kubernetes-list-type" = "set"))]
    pub members: Vec<String>,
    /// Ready, Reconciling, Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}
