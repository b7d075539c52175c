use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Condition, ForwardedProtocol, LabelSelector, schema};

/// An address that shares connections out among guests: Octavia's load balancer with OVN's provider.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "virga.dev",
    version = "v1alpha1",
    kind = "LoadBalancer",
    plural = "loadbalancers",
    singular = "loadbalancer",
    shortname = "lb",
    category = "virga",
    namespaced,
    doc = "An address of a Network that shares connections out among guests.",
    status = "LoadBalancerStatus",
    derive = "PartialEq",
    printcolumn(name = "Address", type_ = "string", json_path = ".status.addresses[*]"),
    printcolumn(name = "Listeners", type_ = "string", json_path = ".spec.listeners[*].port"),
    printcolumn(name = "Online", type_ = "integer", json_path = ".status.online"),
    printcolumn(name = "Members", type_ = "integer", json_path = ".status.total"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = kube::core::Rule::new("size(self.metadata.name) <= 63").message("metadata.name: at most 63 characters")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = kube::core::Rule::new("!has(self.healthCheck) || self.listeners.exists(listener, listener.protocol != 'SCTP')").message("healthCheck is for listeners of TCP and UDP: OVN can't ask by SCTP; leave it out"),
)]
pub struct LoadBalancerSpec {
    /// The address that clients ask.
    pub vip: LoadBalancerVip,
    /// What it listens to.
    #[schemars(length(min = 1, max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["protocol", "port"]))]
    pub listeners: Vec<Listener>,
    /// Who answers.
    pub members: LoadBalancerMembers,
    /// How members are asked whether they answer; without one each counts as if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
    /// How long a client that comes again is sent to the same member, since its last connection: a number and `s`, `m` or
    /// `h`, at most 18h. When absent each connection may go to another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 6), regex(pattern = r"^[1-9][0-9]{0,4}[smh]$"))]
    #[x_kube(validation = kube::core::Rule::new("duration(self) <= duration('18h')").message("affinityTimeout: at most 18h"))]
    pub affinity_timeout: Option<String>,
}

/// The address of a LoadBalancer, for its life.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = kube::core::Rule::new("has(self.address) == has(oldSelf.address) && (!has(self.address) || self.address == oldSelf.address)").message("address is immutable: it is for the life of the LoadBalancer; create another one"),
)]
pub struct LoadBalancerVip {
    /// The Network that it is an address of, of this namespace. Its type must be Overlay.
    #[schemars(schema_with = "schema::name")]
    #[x_kube(validation = kube::core::Rule::new("self == oldSelf").message("network is immutable: create another LoadBalancer"))]
    pub network: String,
    /// The address; a free one when absent. The Network's other family gets a free one too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::address")]
    pub address: Option<String>,
}

/// A port that a LoadBalancer listens to.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listener {
    /// The protocol.
    pub protocol: ForwardedProtocol,
    /// The port that clients ask.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// The members' port; the same one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub member_port: Option<u16>,
}

/// Who answers for a LoadBalancer.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = kube::core::Rule::new("has(self.selector) || (has(self.addresses) && size(self.addresses) > 0)").message("members: give a selector, or addresses"),
)]
pub struct LoadBalancerMembers {
    /// The Instances of this namespace with these labels, while they run. An empty one takes all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// The Network of the Instances' addresses that are asked; the VIP's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::name")]
    pub network: Option<String>,
    /// Others, by address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 2, max = 45)), extend("x-kubernetes-list-type" = "set"))]
    #[x_kube(validation = kube::core::Rule::new("self.all(address, isIP(address))").message("addresses must be addresses"))]
    pub addresses: Vec<String>,
}

/// How members are asked whether they answer: by a connection (TCP), or by a datagram that nobody objects to (UDP).
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthCheck {
    /// How often: a number and `s`, `m` or `h`.
    #[serde(default = "five_seconds")]
    #[schemars(length(min = 2, max = 6), regex(pattern = r"^[1-9][0-9]{0,4}[smh]$"), extend("default" = "5s"))]
    #[x_kube(validation = kube::core::Rule::new("duration(self) <= duration('1h')").message("interval: at most 1h"))]
    pub interval: String,
    /// How long an answer may take, likewise.
    #[serde(default = "five_seconds")]
    #[schemars(length(min = 2, max = 6), regex(pattern = r"^[1-9][0-9]{0,4}[smh]$"), extend("default" = "5s"))]
    #[x_kube(validation = kube::core::Rule::new("duration(self) <= duration('1h')").message("timeout: at most 1h"))]
    pub timeout: String,
    /// How many answers in a row make a member Online.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 10), extend("default" = 3))]
    pub success_count: u16,
    /// How many missing ones in a row make it Offline.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 10), extend("default" = 3))]
    pub failure_count: u16,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            interval: five_seconds(),
            timeout: five_seconds(),
            success_count: three(),
            failure_count: three(),
        }
    }
}

fn five_seconds() -> String {
    "5s".into()
}

fn three() -> u16 {
    3
}

/// What became of a LoadBalancer.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancerStatus {
    /// The generation that this status was computed for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// Its addresses, one of each family that its Network has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2), inner(length(min = 2, max = 45)), extend("x-kubernetes-list-type" = "atomic"))]
    pub addresses: Vec<String>,
    /// How many members are sent connections.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub online: i32,
    /// How many members there are.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub total: i32,
    /// The members, by address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024), extend("x-kubernetes-list-type" = "atomic"))]
    pub members: Vec<MemberStatus>,
    /// Ready, Reconciling, Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// What became of a member.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberStatus {
    /// Its address.
    #[schemars(length(min = 2, max = 45))]
    pub address: String,
    /// The Instance, when that is how it was chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub instance: Option<String>,
    /// How it is.
    pub state: MemberState,
}

/// How a member is.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberState {
    /// It answers on all ports.
    Online,
    /// It answers on some ports, and is sent what is for those.
    Degraded,
    /// It doesn't answer, and is sent nothing.
    Offline,
    /// Its host has not said yet whether it answers; it is sent connections.
    Unknown,
    /// Nobody asks; it is sent connections.
    NoHealthCheck,
    /// Its Instance doesn't run, and it is sent nothing.
    Stopped,
    /// No way leads there, and it is sent nothing.
    Unreachable,
}
