use kube::{CustomResource, KubeSchema};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::{Condition, schema};

/// Addresses by a name that rules of SecurityGroups use: Neutron's address group.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "virga.dev",
    version = "v1alpha1",
    kind = "AddressGroup",
    plural = "addressgroups",
    singular = "addressgroup",
    shortname = "addrgroup",
    category = "virga",
    namespaced,
    doc = "Addresses and ranges by one name, that rules of SecurityGroups use.",
    status = "AddressGroupStatus",
    derive = "PartialEq",
    printcolumn(name = "Addresses", type_ = "integer", json_path = ".status.addresses"),
    printcolumn(name = "Groups", type_ = "integer", json_path = ".status.securityGroups"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = kube::core::Rule::new("size(self.metadata.name) <= 63").message("metadata.name: at most 63 characters")
)]
#[serde(rename_all = "camelCase")]
pub struct AddressGroupSpec {
    /// Whose addresses they are.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub description: String,
    /// Addresses and ranges of both families, at most 1,024. A rule goes by those of its own family.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "addresses")]
    pub addresses: Vec<String>,
}

/// What became of an AddressGroup.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AddressGroupStatus {
    /// The generation that this status was computed for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// How many addresses and ranges it has.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub addresses: i64,
    /// How many SecurityGroups have rules that name it.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub security_groups: i64,
    /// Ready, Reconciling, Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

fn addresses(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 1024,
        "x-kubernetes-list-type": "set",
        "items": {
            "type": "string", "minLength": 2, "maxLength": 49,
            "x-kubernetes-validations": [{
                "rule": "isIP(self) || (isCIDR(self) && cidr(self) == cidr(self).masked())",
                "message": "neither an address nor a network in CIDR notation, whose host bits are zero",
            }],
        },
    })
}
