use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::{AddressPair, Interface, Qos, VnicType, schema};

/// What comes through an interface in frames with VLAN tags: Neutron's trunk, of which the interface is the parent.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trunk {
    /// The sub-ports, each with a tag of its own. They can be added and taken out at any time.
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["segmentID"]))]
    pub sub_ports: Vec<SubPort>,
}

/// An interface that a guest has as a VLAN of another one.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = kube::core::Rule::new("self.network == oldSelf.network").message("network can't change while the sub-port is there: take the sub-port out, apply, and add it anew"),
    validation = kube::core::Rule::new("has(self.address) == has(oldSelf.address) && (!has(self.address) || self.address == oldSelf.address)").message("address can't change while the sub-port is there: take the sub-port out, apply, and add it anew with the other address"),
    validation = kube::core::Rule::new("has(self.mac) == has(oldSelf.mac) && (!has(self.mac) || self.mac == oldSelf.mac)").message("mac can't change while the sub-port is there: take the sub-port out, apply, and add it anew with the other mac"),
    validation = kube::core::Rule::new("!has(self.port) || (!has(self.address) && !has(self.mac) && !has(self.securityGroups) && !has(self.allowedAddressPairs) && !has(self.qos))").message("address, mac, securityGroups, allowedAddressPairs and qos are the Port's: write them there, or leave port out"),
    validation = kube::core::Rule::new("has(self.port) == has(oldSelf.port) && (!has(self.port) || self.port == oldSelf.port)").message("port can't change while the sub-port is there: take the sub-port out, apply, and add it anew"),
    validation = kube::core::Rule::new("has(self.networkNamespace) == has(oldSelf.networkNamespace) && (!has(self.networkNamespace) || self.networkNamespace == oldSelf.networkNamespace)").message("networkNamespace can't change while the sub-port is there: take the sub-port out, apply, and add it anew"),
)]
pub struct SubPort {
    /// The tag that the guest's frames have: its VLAN. Once a trunk.
    #[serde(rename = "segmentID")]
    #[schemars(range(min = 1, max = 4094))]
    pub segment_id: u16,
    /// The Network that it is plugged into; no other interface or sub-port of the Instance has it.
    #[schemars(schema_with = "schema::name")]
    pub network: String,
    /// The Network's namespace, when it is one that shares it with this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::name")]
    pub network_namespace: Option<String>,
    /// A Port that was made beforehand, of this namespace and in this Network, instead of one that is made for the sub-port. It
    /// stays when the sub-port goes. One Instance has it at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::dotted_name")]
    pub port: Option<String>,
    /// The address that it must get; one is chosen when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::address")]
    pub address: Option<String>,
    /// The MAC address that it must get; one is made when absent. The guest's VLAN interface has to have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::mac")]
    pub mac: Option<String>,
    /// Its SecurityGroups; `default` when there are none. They may change at any time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::security_groups")]
    pub security_groups: Vec<String>,
    /// What the guest may send from besides its own addresses. They may change at any time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), extend("x-kubernetes-list-type" = "atomic"))]
    pub allowed_address_pairs: Vec<AddressPair>,
    /// Instead of the Network's, as a whole; `{}`: no limits and no mark. It may change at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qos: Option<Qos>,
}

impl SubPort {
    /// What an interface of its own in the same Network would be.
    pub fn as_interface(&self) -> Interface {
        Interface {
            network: self.network.clone(),
            network_namespace: self.network_namespace.clone(),
            port: self.port.clone(),
            address: self.address.clone(),
            mac: self.mac.clone(),
            security_groups: self.security_groups.clone(),
            allowed_address_pairs: self.allowed_address_pairs.clone(),
            qos: self.qos,
            vnic_type: VnicType::Normal,
            trunk: None,
        }
    }
}

/// Of which Port a sub-port's frames are.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrunkParent {
    /// The parent's name, in the same namespace.
    #[schemars(schema_with = "schema::dotted_name")]
    pub port: String,
    /// Its uid: another one may have the name by now.
    #[schemars(length(min = 1, max = 63))]
    pub uid: String,
    /// The tag that the frames have.
    #[serde(rename = "segmentID")]
    #[schemars(range(min = 1, max = 4094))]
    pub segment_id: u16,
}
