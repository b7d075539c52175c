use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Condition, network::NetworkRef, schema};

/// What joins Networks with each other and with the outside: Neutron's router.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "virga.dev",
    version = "v1alpha1",
    kind = "Router",
    plural = "routers",
    singular = "router",
    shortname = "vrouter",
    category = "virga",
    namespaced,
    doc = "What joins Networks with each other, and with the outside.",
    status = "RouterStatus",
    derive = "PartialEq",
    printcolumn(name = "Networks", type_ = "string", json_path = ".spec.networks[*].network"),
    printcolumn(name = "External", type_ = "string", json_path = ".status.externalAddresses[*]"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = kube::core::Rule::new("size(self.metadata.name) <= 63").message("metadata.name: at most 63 characters")
)]
#[serde(rename_all = "camelCase")]
pub struct RouterSpec {
    /// The Networks that it joins, of its own namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["network"]))]
    pub networks: Vec<RouterNetwork>,
    /// The way to the outside; without one there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_gateway: Option<ExternalGateway>,
    /// Routes beside those to its Networks and to the outside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 30), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["destination", "nextHop"]))]
    pub routes: Vec<RouterRoute>,
    /// Where the packets of FloatingIPs change their addresses.
    #[serde(default)]
    #[schemars(extend("default" = "Centralized"))]
    pub distribution: Distribution,
}

/// A Network that a Router joins.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouterNetwork {
    /// The Network.
    #[schemars(schema_with = "schema::name")]
    pub network: String,
    /// The one subnet of it; all that have a gateway when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::name")]
    pub subnet: Option<String>,
    /// The Router's address there; each subnet's gateway when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::address")]
    pub address: Option<String>,
}

/// A Router's way to the outside.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExternalGateway {
    /// The Network, of this namespace or another. Its scope must be External.
    pub network: NetworkRef,
    /// The Router's address there, for the life of the gateway; a free one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::address")]
    pub address: Option<String>,
    /// Whether guests go out with the Router's IPv4 address. IPv6 goes out as it is.
    #[serde(default)]
    #[schemars(extend("default" = "Enabled"))]
    pub snat: Snat,
}

/// Whether guests go out with their Router's address.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Snat {
    /// With the Router's.
    #[default]
    Enabled,
    /// With their own: the outside has to have a route back.
    Disabled,
}

/// A route of a Router.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouterRoute {
    /// Where to. The same one by several ways shares the flows among them.
    #[schemars(schema_with = "schema::cidr")]
    pub destination: String,
    /// Through which address, of one of the Router's Networks.
    #[schemars(schema_with = "schema::address")]
    pub next_hop: String,
}

/// Where the packets of FloatingIPs change their addresses.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Distribution {
    /// On the Router's gateway host.
    #[default]
    Centralized,
    /// On each guest's own host, which needs the physical network too.
    Distributed,
}

/// What became of a Router.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouterStatus {
    /// The generation that this status was computed for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// Its addresses in the external Network: at most one of each family.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2), inner(length(min = 2, max = 45)), extend("x-kubernetes-list-type" = "atomic"))]
    pub external_addresses: Vec<String>,
    /// OVN's names of the hosts that can be its gateway. The first that lives is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5), inner(length(min = 1, max = 253)), extend("x-kubernetes-list-type" = "atomic"))]
    pub gateway_chassis: Vec<String>,
    /// The Networks that it has joined, with its addresses there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["network"]))]
    pub networks: Vec<JoinedNetwork>,
    /// Ready, Reconciling, Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// A Network that a Router has joined.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinedNetwork {
    /// The Network.
    #[schemars(schema_with = "schema::name")]
    pub network: String,
    /// The Router's addresses there.
    #[schemars(length(max = 8), inner(length(min = 2, max = 45)), extend("x-kubernetes-list-type" = "atomic"))]
    pub addresses: Vec<String>,
}
