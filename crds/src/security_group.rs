use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Condition, schema};

/// What may reach Ports, and what they may send: Neutron's security group. All else is dropped.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "virga.dev",
    version = "v1alpha1",
    kind = "SecurityGroup",
    plural = "securitygroups",
    singular = "securitygroup",
    shortname = "secgroup",
    category = "virga",
    namespaced,
    doc = "What may reach the Ports that name the group, and what they may send. All else is dropped.",
    status = "SecurityGroupStatus",
    derive = "PartialEq",
    printcolumn(name = "Rules", type_ = "integer", json_path = ".status.rules"),
    printcolumn(name = "Ports", type_ = "integer", json_path = ".status.ports"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = kube::core::Rule::new("size(self.metadata.name) <= 63").message("metadata.name: at most 63 characters")
)]
#[serde(rename_all = "camelCase")]
pub struct SecurityGroupSpec {
    /// What the group is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub description: String,
    /// Whether connections are tracked.
    #[serde(default)]
    #[schemars(extend("default" = "Stateful"))]
    pub mode: RuleMode,
    /// What may pass: what any rule of any of a Port's groups says. Their order does not matter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), extend("x-kubernetes-list-type" = "atomic"))]
    pub rules: Vec<SecurityGroupRule>,
}

/// Whether connections are tracked.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RuleMode {
    /// They are: answers to what a rule lets pass may pass too.
    #[default]
    Stateful,
    /// They are not, which costs less: both ways need rules.
    Stateless,
}

/// Something that may pass.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = kube::core::Rule::new("!has(self.ports) || (has(self.protocol) && self.protocol in ['tcp', 'udp', 'sctp', '6', '17', '132'])").message("ports are for the protocols tcp, udp and sctp: name one of them, or leave ports out"),
    validation = kube::core::Rule::new("!has(self.icmp) || (has(self.protocol) && self.protocol in (self.etherType == 'IPv4' ? ['icmp', '1'] : ['ipv6-icmp', '58']))").message("icmp is for the protocol icmp with IPv4, and ipv6-icmp with IPv6"),
    validation = kube::core::Rule::new("!has(self.protocol) || !(self.protocol in (self.etherType == 'IPv4' ? ['ipv6-icmp', '58'] : ['icmp', '1']))").message("IPv4 has the protocol icmp, and IPv6 has ipv6-icmp"),
    validation = kube::core::Rule::new("!has(self.remote) || !has(self.remote.cidr) || self.remote.cidr.contains(':') == (self.etherType == 'IPv6')").message("remote.cidr is of the other family: change it or etherType"),
)]
pub struct SecurityGroupRule {
    /// Which way, seen from the guest.
    pub direction: RuleDirection,
    /// The family.
    #[serde(default)]
    #[schemars(extend("default" = "IPv4"))]
    pub ether_type: EtherType,
    /// The protocol, by name or number; any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 16),
        regex(
            pattern = r"^(tcp|udp|sctp|icmp|ipv6-icmp|ah|dccp|egp|esp|gre|igmp|ipip|ipv6-encap|ipv6-frag|ipv6-nonxt|ipv6-opts|ipv6-route|ospf|pgm|rsvp|udplite|vrrp|[0-9]|[1-9][0-9]|1[0-9][0-9]|2[0-4][0-9]|25[0-5])$"
        )
    )]
    pub protocol: Option<String>,
    /// The ports that are spoken to; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<PortRange>,
    /// The kind of ICMP message; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp: Option<IcmpKind>,
    /// Whom it comes from, or goes to; anybody when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<RuleRemote>,
    /// What the rule is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 255))]
    pub description: String,
}

/// Which way, seen from the guest.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RuleDirection {
    /// To the guest.
    #[default]
    Ingress,
    /// From the guest.
    Egress,
}

/// The family of addresses.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum EtherType {
    /// IPv4.
    #[default]
    #[serde(rename = "IPv4")]
    V4,
    /// IPv6.
    #[serde(rename = "IPv6")]
    V6,
}

/// A range of ports, both ends included.
#[derive(KubeSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::Rule::new("!has(self.max) || self.min <= self.max").message("min must be at most max"))]
pub struct PortRange {
    /// The lowest.
    #[schemars(range(min = 1, max = 65535))]
    pub min: u16,
    /// The highest; `min` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub max: Option<u16>,
}

/// A kind of ICMP message.
#[derive(KubeSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IcmpKind {
    /// Its type, such as 8 for an echo request (128 with IPv6).
    #[serde(rename = "type")]
    #[schemars(range(min = 0, max = 255))]
    pub type_: u8,
    /// Its code; any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 255))]
    pub code: Option<u8>,
}

/// Whom something comes from, or goes to.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::Rule::new("[has(self.cidr), has(self.group), has(self.addressGroup)].filter(given, given).size() == 1").message("exactly one of cidr, group and addressGroup must be given"))]
pub struct RuleRemote {
    /// Addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::cidr")]
    pub cidr: Option<String>,
    /// The Ports of a SecurityGroup of the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::name")]
    pub group: Option<String>,
    /// The addresses of an AddressGroup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address_group: Option<AddressGroupRef>,
}

/// An AddressGroup of the same namespace.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AddressGroupRef {
    /// Its name.
    #[schemars(schema_with = "schema::name")]
    pub name: String,
}

/// Addresses that a guest may send from besides its Port's own, such as one that it shares with others.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AddressPair {
    /// An address or a range of addresses.
    #[schemars(length(min = 2, max = 49))]
    #[x_kube(validation = kube::core::Rule::new("isIP(self) || (isCIDR(self) && cidr(self) == cidr(self).masked())").message("address must be an address, or a network in CIDR notation whose host bits are zero"))]
    pub address: String,
    /// The MAC address that it is sent from; the Port's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::mac")]
    pub mac: Option<String>,
}

/// What became of a SecurityGroup.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecurityGroupStatus {
    /// The generation that this status was computed for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// How many rules it has.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub rules: i64,
    /// How many Ports are in it.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub ports: i64,
    /// Ready, Reconciling, Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}
