//! NUMA cells, CPUs of one's own, huge pages and PCI devices: what a host has of them, and what an Instance holds.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Bytes, schema};

/// Which CPUs of a host are for what (Nova's `cpu_shared_set` and `cpu_dedicated_set`).
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::Rule::new("has(self.shared) || has(self.dedicated)").message("name shared or dedicated CPUs, or leave cpus out"))]
pub struct CpuPartition {
    /// CPUs that guests without CPUs of their own share, such as "0-3"; none when only dedicated ones are named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::cpus")]
    pub shared: Option<String>,
    /// CPUs that are given to one guest each, such as "4-31,36-63".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::cpus")]
    pub dedicated: Option<String>,
}

/// Which PCI devices of a host guests may have (Nova's `device_spec` and `alias`). What it names must all hold.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::Rule::new("has(self.address) || has(self.vendorID)").message("name the devices by address, or by vendorID and productID"))]
#[x_kube(validation = kube::core::Rule::new("!has(self.productID) || has(self.vendorID)").message("productID needs vendorID beside it"))]
pub struct PciDeviceSelector {
    /// The name that a Flavor's `pci_passthrough:alias` asks for.
    #[schemars(schema_with = "schema::pci_alias")]
    pub alias: String,
    /// The one device at this address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::pci_address")]
    pub address: Option<String>,
    /// Devices of this vendor, such as "10de".
    #[serde(default, rename = "vendorID", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::pci_id")]
    pub vendor_id: Option<String>,
    /// And of this product.
    #[serde(default, rename = "productID", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::pci_id")]
    pub product_id: Option<String>,
}

/// Pages of one size that a cell keeps back.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReservedPages {
    /// The cell's number.
    #[schemars(range(min = 0, max = 1023))]
    pub cell: u32,
    /// How large each is, such as 2Mi.
    pub size: Bytes,
    /// How many.
    #[schemars(range(min = 0))]
    pub count: i64,
}

/// A NUMA cell of a host: CPUs and the memory that is near to them.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NumaCell {
    /// Its number, as the host's kernel counts.
    #[schemars(range(min = 0, max = 1023))]
    pub id: u32,
    /// The number of its socket.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1023), extend("default" = 0))]
    pub socket: u32,
    /// Its CPUs, such as "0-15,32-47".
    #[schemars(schema_with = "schema::cpus")]
    pub cpus: String,
    /// Threads of one core together, such as "0,32"; absent where each core has one thread.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 512), inner(length(min = 1, max = 63)), extend("x-kubernetes-list-type" = "set"))]
    pub siblings: Vec<String>,
    /// Its memory.
    pub memory: Bytes,
    /// Its pages, by size.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["size"]))]
    pub pages: Vec<MemoryPages>,
}

/// Pages of one size in a cell.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemoryPages {
    /// How large each is.
    pub size: Bytes,
    /// How many there are.
    #[schemars(range(min = 0))]
    pub total: i64,
}

/// A PCI device that guests may have.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PciDevice {
    /// Where it is.
    #[schemars(schema_with = "schema::pci_address")]
    pub address: String,
    /// What a Flavor asks for it by.
    #[schemars(schema_with = "schema::pci_alias")]
    pub alias: String,
    /// Its vendor.
    #[serde(rename = "vendorID")]
    #[schemars(schema_with = "schema::pci_id")]
    pub vendor_id: String,
    /// Its product.
    #[serde(rename = "productID")]
    #[schemars(schema_with = "schema::pci_id")]
    pub product_id: String,
    /// The NUMA cell that it is near to; absent when that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1023))]
    pub cell: Option<u32>,
}

/// Which CPUs, pages and devices of its host an Instance has.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceTopology {
    /// The guest's NUMA nodes, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub cells: Vec<InstanceCell>,
    /// The host's CPUs for QEMU's own threads; absent: where its virtual CPUs run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emulator: Option<EmulatorCpus>,
    /// Devices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["address"]))]
    pub pci_devices: Vec<InstancePciDevice>,
}

/// Where one NUMA node of a guest is.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceCell {
    /// The host's cell.
    #[schemars(range(min = 0, max = 1023))]
    pub host_cell: u32,
    /// Its memory.
    pub memory: Bytes,
    /// How large the pages are that back it; absent when it did not ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page_size: Option<Bytes>,
    /// Virtual CPUs with a CPU of the host's to themselves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 512), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["vcpu"]))]
    pub pins: Vec<CpuPin>,
    /// Virtual CPUs that share CPUs of the host's, such as "0-3".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::cpus")]
    pub floating: Option<String>,
    /// The host's CPUs that those share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::cpus")]
    pub shared: Option<String>,
    /// The host's CPUs that stay empty beside its own (`hw:cpu_thread_policy: isolate`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::cpus")]
    pub kept_empty: Option<String>,
}

/// A virtual CPU and the CPU of the host's that is its own.
#[derive(KubeSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CpuPin {
    /// The guest's, from 0.
    #[schemars(range(min = 0, max = 4095))]
    pub vcpu: u32,
    /// The host's.
    #[schemars(range(min = 0, max = 4095))]
    pub cpu: u32,
}

/// The host's CPUs for QEMU's own threads.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EmulatorCpus {
    /// Which.
    #[schemars(schema_with = "schema::cpus")]
    pub cpus: String,
    /// Whether anybody else may run there.
    #[serde(default)]
    #[schemars(extend("default" = "Shared"))]
    pub policy: EmulatorPolicy,
}

/// Whether others run where QEMU's own threads do.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum EmulatorPolicy {
    /// Others do.
    #[default]
    Shared,
    /// Nobody else does (`hw:emulator_threads_policy: isolate`).
    Isolated,
}

/// A device that an Instance has.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstancePciDevice {
    /// Where it is on the host.
    #[schemars(schema_with = "schema::pci_address")]
    pub address: String,
    /// What the Flavor asked for it by.
    #[schemars(schema_with = "schema::pci_alias")]
    pub alias: String,
}
