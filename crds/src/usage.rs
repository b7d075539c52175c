use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::Bytes;

/// What an Instance used over the last minutes. Told anew when it has changed much, every five minutes at most: the agent's
/// metrics are for more.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceUsage {
    /// When it was measured.
    pub at: Time,
    /// The host's processors, in thousandths of one, such as `250m`.
    #[schemars(length(min = 2, max = 16), regex(pattern = "^[0-9]+m$"))]
    pub cpu: String,
    /// The memory that the guest uses, but for caches, by its own account. Absent without a balloon driver in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// The memory of the host that it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resident: Option<Bytes>,
    /// The space that its disks take on the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Bytes>,
    /// Read from its disks, in a second.
    pub disk_read: Bytes,
    /// Written to its disks, in a second.
    pub disk_written: Bytes,
    /// Received by its interfaces, in a second.
    pub network_received: Bytes,
    /// Sent by its interfaces, in a second.
    pub network_sent: Bytes,
}

/// What the guest's agent said last: the guest's own words, which nothing is decided by.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuestStatus {
    /// When it was asked.
    pub at: Time,
    /// Its host name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub hostname: Option<String>,
    /// Its operating system, as for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub os: Option<String>,
    /// The operating system's short name.
    #[serde(default, rename = "osID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub os_id: Option<String>,
    /// The operating system's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub os_version: Option<String>,
    /// The kernel's release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub kernel: Option<String>,
    /// Its interfaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub interfaces: Vec<GuestInterface>,
    /// Its mounted file systems.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub filesystems: Vec<GuestFilesystem>,
}

/// An interface in the guest.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuestInterface {
    /// Its name in the guest.
    #[schemars(length(max = 255))]
    pub name: String,
    /// Its MAC address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 17))]
    pub mac: Option<String>,
    /// Its addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 2, max = 45)), extend("x-kubernetes-list-type" = "atomic"))]
    pub addresses: Vec<String>,
}

/// A file system in the guest.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuestFilesystem {
    /// Where it is mounted.
    #[schemars(length(max = 255))]
    pub mountpoint: String,
    /// Its type.
    #[serde(rename = "type")]
    #[schemars(length(max = 255))]
    pub type_: String,
    /// How large it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Bytes>,
    /// How much of it is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<Bytes>,
}
