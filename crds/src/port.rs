use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{AddressPair, Condition, DhcpOption, Qos, TrunkParent, schema};

/// An Instance's plug in a Network, or an address there of a Router, a FloatingIP or a LoadBalancer: Neutron's port. Made,
/// filled and deleted with its holder; or made by a user, filled in, and kept for the Instances that name it, one at a time.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "virga.dev",
    version = "v1alpha1",
    kind = "Port",
    plural = "ports",
    singular = "port",
    category = "virga",
    namespaced,
    doc = "An Instance's plug in a Network, or a Router's, FloatingIP's or LoadBalancer's address there. Made with its holder and deleted with it, or made by a user for Instances that name it.",
    status = "PortStatus",
    derive = "PartialEq",
    selectable = ".spec.nodeName",
    printcolumn(name = "Network", type_ = "string", json_path = ".spec.network"),
    printcolumn(name = "Instance", type_ = "string", json_path = ".spec.instance"),
    printcolumn(name = "Node", type_ = "string", json_path = ".spec.nodeName"),
    printcolumn(name = "IP", type_ = "string", json_path = ".spec.addresses[0].ip"),
    printcolumn(name = "MAC", type_ = "string", json_path = ".spec.mac"),
    printcolumn(name = "Parent", type_ = "string", json_path = ".spec.trunk.port", priority = 1),
    printcolumn(name = "Allocation", type_ = "string", json_path = ".spec.allocation", priority = 1),
    printcolumn(name = "VLAN", type_ = "integer", json_path = ".spec.trunk.segmentID", priority = 1),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = kube::core::Rule::new("[has(self.instance), has(self.router), has(self.floatingIP), has(self.loadBalancer), has(self.healthCheck)].filter(held, held).size() <= 1").message("a Port is at most one's: an Instance's, a Router's, a FloatingIP's or a LoadBalancer's"),
    validation = kube::core::Rule::new("has(self.mac) || (!has(self.allocation) && !has(self.instance) && !has(self.router) && !has(self.floatingIP) && !has(self.loadBalancer) && !has(self.healthCheck))").message("mac must be given: only a Port that waits for its addresses has none"),
    validation = kube::core::Rule::new("!has(self.instanceUID) || (has(self.allocation) && has(self.instance))").message("instanceUID is for a Port that a user made, has its addresses and is an Instance's"),
    validation = kube::core::Rule::new("!has(self.instanceUID) || !has(oldSelf.instanceUID) || self.instanceUID == oldSelf.instanceUID").message("one Instance lets go of a Port before another one has it"),
    validation = kube::core::Rule::new("!has(oldSelf.allocation) || has(self.allocation)").message("allocation stays: an address is for the life of its Port"),
    validation = kube::core::Rule::new("(!has(oldSelf.allocation) && !has(oldSelf.instance) && !has(oldSelf.router) && !has(oldSelf.floatingIP) && !has(oldSelf.loadBalancer) && !has(oldSelf.healthCheck)) || (self.network == oldSelf.network && has(self.mac) == has(oldSelf.mac) && (!has(self.mac) || self.mac == oldSelf.mac) && has(self.addresses) == has(oldSelf.addresses) && (!has(self.addresses) || self.addresses == oldSelf.addresses))").message("network, mac and addresses are immutable: an address is for the life of its Port"),
    validation = kube::core::Rule::new("(!has(oldSelf.allocation) && !has(oldSelf.instance) && !has(oldSelf.router) && !has(oldSelf.floatingIP) && !has(oldSelf.loadBalancer) && !has(oldSelf.healthCheck)) || (has(self.networkNamespace) == has(oldSelf.networkNamespace) && (!has(self.networkNamespace) || self.networkNamespace == oldSelf.networkNamespace))").message("networkNamespace is immutable: an address is for the life of its Port"),
)]
pub struct PortSpec {
    /// The Network.
    #[schemars(schema_with = "schema::name")]
    pub network: String,
    /// The Network's namespace, when it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::name")]
    pub network_namespace: Option<String>,
    /// The Instance whose plug it is; empty when it is nobody's. Set by the controller, as all that says whose it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(schema_with = "schema::dotted_name")]
    pub instance: String,
    /// The uid of the Instance that has a Port which a user made: another one may have the name by now.
    #[serde(default, rename = "instanceUID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub instance_uid: Option<String>,
    /// That a Port which a user made has its MAC address and addresses: filled in by the controller, and fixed from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocation: Option<Allocation>,
    /// The Router whose address it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router: Option<PortHolder>,
    /// The FloatingIP whose address it is.
    #[serde(default, rename = "floatingIP", skip_serializing_if = "Option::is_none")]
    pub floating_ip: Option<PortHolder>,
    /// The LoadBalancer whose address it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<PortHolder>,
    /// The LoadBalancer whose members are asked from this address whether they answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<PortHolder>,
    /// The guest's host name, that the network's DNS answers to.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(schema_with = "schema::name")]
    pub hostname: String,
    /// The node that plugs it: the Instance's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::dotted_name")]
    pub node_name: Option<String>,
    /// The MAC address; one is made when it is left out.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(schema_with = "schema::mac")]
    pub mac: String,
    /// At most one address of a subnet, and one at least of each family that the Network has: what is left out is chosen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["subnet"]))]
    pub addresses: Vec<PortAddress>,
    /// The SecurityGroups, all in the Port's namespace; `default` when there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::security_groups")]
    pub security_groups: Vec<String>,
    /// What the guest may send from besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), extend("x-kubernetes-list-type" = "atomic"))]
    pub allowed_address_pairs: Vec<AddressPair>,
    /// Instead of the Network's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qos: Option<Qos>,
    /// What DHCP tells the guest besides, or instead of what its subnet says. IPv4 only. With OVN.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub dhcp_options: Vec<DhcpOption>,
    /// For a sub-port: whose frames its own are among, and with which tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trunk: Option<TrunkParent>,
}

impl PortSpec {
    /// The namespace of the Network, for a Port of this namespace.
    pub fn network_in<'a>(&'a self, own: &'a str) -> &'a str {
        self.network_namespace.as_deref().unwrap_or(own)
    }
}

/// How far a Port that a user made is.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Allocation {
    /// It has its MAC address and its addresses, which are the Port's for life.
    Given,
}

/// Whose address a Port is, when that is in another namespace maybe.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortHolder {
    /// Its namespace.
    #[schemars(schema_with = "schema::name")]
    pub namespace: String,
    /// Its name.
    #[schemars(schema_with = "schema::name")]
    pub name: String,
    /// Its uid: another one may have the name by now.
    #[schemars(length(min = 1, max = 63))]
    pub uid: String,
}

/// An address of a Port.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortAddress {
    /// The subnet that it was taken from.
    #[schemars(schema_with = "schema::name")]
    pub subnet: String,
    /// The address.
    #[schemars(schema_with = "schema::address")]
    pub ip: String,
}

/// What became of a Port. Of one that a user made the controller tells; of others OVN does, and with libvirt's networks
/// nobody.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortStatus {
    /// The generation that this status was computed for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// Ready, Reconciling.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}
