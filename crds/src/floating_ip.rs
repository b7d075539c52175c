use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Condition, network::NetworkRef, schema};

/// An address outside that leads to a guest: Neutron's floating IP.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "virga.dev",
    version = "v1alpha1",
    kind = "FloatingIP",
    plural = "floatingips",
    singular = "floatingip",
    shortname = "fip",
    category = "virga",
    namespaced,
    doc = "An address outside that leads to a guest.",
    status = "FloatingIPStatus",
    derive = "PartialEq",
    printcolumn(name = "Address", type_ = "string", json_path = ".status.address"),
    printcolumn(name = "Fixed", type_ = "string", json_path = ".status.fixedAddress"),
    printcolumn(name = "Port", type_ = "string", json_path = ".status.port"),
    printcolumn(name = "Router", type_ = "string", json_path = ".status.router"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = kube::core::Rule::new("size(self.metadata.name) <= 63").message("metadata.name: at most 63 characters")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = kube::core::Rule::new("[has(self.port), has(self.instance), has(self.loadBalancer), has(self.portForwardings) && size(self.portForwardings) > 0].filter(given, given).size() <= 1").message("only one of port, instance, loadBalancer and portForwardings can be given: an address leads to one guest whole, to one LoadBalancer, or port by port"),
    validation = kube::core::Rule::new("has(self.address) == has(oldSelf.address) && (!has(self.address) || self.address == oldSelf.address)").message("address is immutable: it is for the life of the FloatingIP; create another one"),
)]
pub struct FloatingIPSpec {
    /// The Network that it is an address of, of this namespace or another. Its scope must be External.
    #[x_kube(validation = kube::core::Rule::new("self == oldSelf").message("network is immutable: create another FloatingIP"))]
    pub network: NetworkRef,
    /// The address; a free one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::address")]
    pub address: Option<String>,
    /// The Port that it leads to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::dotted_name")]
    pub port: Option<String>,
    /// The Instance that it leads to, by its first interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::dotted_name")]
    pub instance: Option<String>,
    /// The LoadBalancer that it leads to, with all its listeners.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::name")]
    pub load_balancer: Option<String>,
    /// Where single ports lead to, instead of the whole address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["protocol", "externalPort"]))]
    pub port_forwardings: Vec<PortForwarding>,
}

/// Where a port of an address outside leads to.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::Rule::new("has(self.port) != has(self.instance)").message("exactly one of port and instance must be given"))]
pub struct PortForwarding {
    /// The protocol.
    pub protocol: ForwardedProtocol,
    /// The port outside.
    #[schemars(range(min = 1, max = 65535))]
    pub external_port: u16,
    /// The Port that it leads to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::dotted_name")]
    pub port: Option<String>,
    /// The Instance that it leads to, by its first interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::dotted_name")]
    pub instance: Option<String>,
    /// The guest's port.
    #[schemars(range(min = 1, max = 65535))]
    pub internal_port: u16,
}

/// What can be forwarded port by port.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ForwardedProtocol {
    /// TCP.
    #[default]
    #[serde(rename = "TCP")]
    Tcp,
    /// UDP.
    #[serde(rename = "UDP")]
    Udp,
    /// SCTP.
    #[serde(rename = "SCTP")]
    Sctp,
}

/// What became of a FloatingIP.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FloatingIPStatus {
    /// The generation that this status was computed for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// The address, for the life of the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 45))]
    pub address: Option<String>,
    /// The guest's own address that it leads to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 45))]
    pub fixed_address: Option<String>,
    /// The Port that it leads to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub port: Option<String>,
    /// The Router that does it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub router: Option<String>,
    /// Ready, Reconciling, Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}
