use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Condition, Qos, schema};

/// A network with its subnets: Neutron's.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "virga.dev",
    version = "v1alpha1",
    kind = "Network",
    plural = "networks",
    singular = "network",
    shortname = "vnet",
    category = "virga",
    namespaced,
    doc = "A network with its subnets, that Instances are plugged into.",
    status = "NetworkStatus",
    derive = "PartialEq",
    printcolumn(name = "Subnets", type_ = "string", json_path = ".spec.subnets[*].cidr"),
    printcolumn(name = "Used", type_ = "string", json_path = ".status.subnets[*].used"),
    printcolumn(name = "Backend", type_ = "string", json_path = ".status.backend"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = kube::core::Rule::new("size(self.metadata.name) <= 63").message("metadata.name: at most 63 characters")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = kube::core::Rule::new("self.type == 'Overlay' ? !has(self.physicalNetwork) : has(self.physicalNetwork)").message("physicalNetwork is for the types Flat and VLAN, which need it: name the one that the hosts are mapped to"),
    validation = kube::core::Rule::new("(self.type == 'VLAN') == has(self.segmentID)").message("segmentID is for the type VLAN, which needs it: its tag, from 1 to 4094"),
    validation = kube::core::Rule::new("self.scope == 'Internal' || self.type != 'Overlay'").message("scope External is for the types Flat and VLAN: tunnels between the hosts lead nowhere else"),
    validation = kube::core::Rule::new("oldSelf.subnets.all(old, self.subnets.exists(new, new.name == old.name && new.cidr == old.cidr))").message("subnets can be added, but their name and cidr can't change, and none can be taken away: create another Network"),
)]
pub struct NetworkSpec {
    /// How frames get from host to host.
    #[serde(default, rename = "type")]
    #[schemars(extend("default" = "Overlay"))]
    #[x_kube(validation = kube::core::Rule::new("self == oldSelf").message("type is immutable: create another Network"))]
    pub type_: NetworkType,
    /// The physical network that frames go out to: a name that the hosts' bridge mappings have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::name")]
    #[x_kube(validation = kube::core::Rule::new("self == oldSelf").message("physicalNetwork is immutable: create another Network"))]
    pub physical_network: Option<String>,
    /// The VLAN's tag in the physical network.
    #[serde(default, rename = "segmentID", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4094))]
    #[x_kube(validation = kube::core::Rule::new("self == oldSelf").message("segmentID is immutable: create another Network"))]
    pub segment_id: Option<u16>,
    /// Who may go out through it: its own Instances, or the Routers of every Project.
    #[serde(default)]
    #[schemars(extend("default" = "Internal"))]
    pub scope: NetworkScope,
    /// The namespaces whose Instances may be plugged in too; `*`: those of all. What is plugged in stays when it is taken
    /// back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 63), regex(pattern = r"^(\*|[a-z0-9]([-a-z0-9]*[a-z0-9])?)$")), extend("x-kubernetes-list-type" = "set"))]
    pub shared_with: Vec<String>,
    /// Of each Port in it that has none of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qos: Option<Qos>,
    /// Whether guests may send from their Ports' addresses only.
    #[serde(default)]
    #[schemars(extend("default" = "Enabled"))]
    pub port_security: PortSecurity,
    /// The largest packet, in bytes; 0: what the back end can carry.
    #[serde(default)]
    #[schemars(range(min = 0, max = 9216), extend("default" = 0))]
    #[x_kube(validation = kube::core::Rule::new("self == 0 || self >= 576").message("mtu must be 0 or at least 576 (RFC 791)"))]
    pub mtu: u16,
    /// The domain that the Instances' names are resolved in, besides their bare names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::dotted_name")]
    pub dns_domain: Option<String>,
    /// The subnets.
    #[schemars(length(min = 1, max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub subnets: Vec<Subnet>,
}

impl NetworkSpec {
    /// Whether Instances of another namespace may be plugged in.
    pub fn is_shared_with(&self, namespace: &str) -> bool {
        self.shared_with.iter().any(|with| with == "*" || with == namespace)
    }
}

/// How frames get from host to host.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkType {
    /// In tunnels between the hosts.
    #[default]
    Overlay,
    /// As they are, in a physical network.
    Flat,
    /// With a tag, in a physical network.
    #[serde(rename = "VLAN")]
    Vlan,
}

/// Who may go out through a Network.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkScope {
    /// Its own Instances.
    #[default]
    Internal,
    /// Routers of every Project too: it is the outside, and they take addresses of it.
    External,
}

/// Whether guests may send from their Ports' addresses only.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PortSecurity {
    /// From their MAC and IP addresses only.
    #[default]
    Enabled,
    /// From any, and they are sent what is for addresses that nobody is known to have: for routers and firewalls.
    Disabled,
}

/// A Network, of this namespace or another.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkRef {
    /// Its name.
    #[schemars(schema_with = "schema::name")]
    pub name: String,
    /// Its namespace, when it is another Project's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::name")]
    pub namespace: Option<String>,
}

/// One range of addresses in a Network.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = kube::core::Rule::new("!has(self.ipv6Mode) || self.cidr.contains(':')").message("ipv6Mode is for IPv6: leave it out"),
    validation = kube::core::Rule::new("!has(self.ipv6Mode) || self.ipv6Mode == 'DHCPv6Stateful' || self.cidr.endsWith('/64')").message("guests make addresses of their own in a /64 only (RFC 4862): take one, or the ipv6Mode DHCPv6Stateful"),
    validation = kube::core::Rule::new("has(self.ipv6Mode) == has(oldSelf.ipv6Mode) && (!has(self.ipv6Mode) || self.ipv6Mode == oldSelf.ipv6Mode)").message("ipv6Mode is immutable, as guests' addresses follow from it: create another Network"),
)]
pub struct Subnet {
    /// Its name in the Network.
    #[schemars(schema_with = "schema::name")]
    pub name: String,
    /// The range, such as 10.0.0.0/24. IPv4 from /8 to /30, IPv6 from /48 to /120.
    #[schemars(schema_with = "schema::cidr")]
    pub cidr: String,
    /// The gateway: the first address of the range when absent; `None`: no gateway, the network is isolated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 45))]
    #[x_kube(validation = kube::core::Rule::new("self == 'None' || isIP(self)").message("gateway must be an address, or None"))]
    pub gateway: Option<String>,
    /// The ranges that addresses are chosen from; all that is free when absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub allocation_pools: Vec<AllocationPool>,
    /// Whether guests get their address by DHCP.
    #[serde(default)]
    #[schemars(extend("default" = "Enabled"))]
    pub dhcp: Dhcp,
    /// How guests come by their IPv6 address where `dhcp` is `Enabled`; `DHCPv6Stateful` when absent.
    #[serde(default, rename = "ipv6Mode", skip_serializing_if = "Option::is_none")]
    pub ipv6_mode: Option<Ipv6Mode>,
    /// The name servers that guests are told; the network's own when absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4), inner(length(min = 2, max = 45)), extend("x-kubernetes-list-type" = "atomic"))]
    #[x_kube(validation = kube::core::Rule::new("self.all(address, isIP(address))").message("dnsServers must be addresses"))]
    pub dns_servers: Vec<String>,
    /// Routes that guests are told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["destination"]))]
    pub host_routes: Vec<HostRoute>,
}

/// A range that addresses are chosen from, both ends included.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AllocationPool {
    /// The first address.
    #[schemars(schema_with = "schema::address")]
    pub start: String,
    /// The last address.
    #[schemars(schema_with = "schema::address")]
    pub end: String,
}

/// A route that guests are told.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostRoute {
    /// Where to.
    #[schemars(schema_with = "schema::cidr")]
    pub destination: String,
    /// Through which address.
    #[schemars(schema_with = "schema::address")]
    pub next_hop: String,
}

/// Whether guests get their address by DHCP.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Dhcp {
    /// By DHCP.
    #[default]
    Enabled,
    /// By cloud-init only.
    Disabled,
}

/// How guests come by their IPv6 address.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ipv6Mode {
    /// A DHCPv6 server tells it.
    #[default]
    #[serde(rename = "DHCPv6Stateful")]
    Stateful,
    /// They make it of what routers advertise and their MAC address; a DHCPv6 server tells name servers.
    #[serde(rename = "DHCPv6Stateless")]
    Stateless,
    /// They make it of what routers advertise and their MAC address; routers tell the name server too.
    #[serde(rename = "SLAAC")]
    Slaac,
}

impl Ipv6Mode {
    /// Whether the address follows from the MAC address.
    pub fn is_derived(self) -> bool {
        self != Self::Stateful
    }
}

/// What became of a Network.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkStatus {
    /// The generation that this status was computed for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// What carries the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub backend: Option<String>,
    /// The largest packet, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 65535))]
    pub mtu: Option<u16>,
    /// How much of each subnet is used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub subnets: Vec<SubnetUsage>,
    /// Ready, Reconciling, Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// How much of a subnet is used.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SubnetUsage {
    /// The subnet.
    #[schemars(schema_with = "schema::name")]
    pub name: String,
    /// How many addresses its pools have; at most 2^53.
    #[schemars(range(min = 0))]
    pub total: i64,
    /// How many of them are taken.
    #[schemars(range(min = 0))]
    pub used: i64,
}
