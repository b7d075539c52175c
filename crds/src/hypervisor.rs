use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Bytes, Condition, CpuPartition, DiskFormat, NumaCell, PciDevice, PciDeviceSelector, ReservedPages, schema,
};

/// A host that runs Instances: Nova's compute service and compute node. Made by the host's agent, with the Node's name.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "virga.dev",
    version = "v1alpha1",
    kind = "Hypervisor",
    plural = "hypervisors",
    singular = "hypervisor",
    shortname = "hv",
    category = "virga",
    doc = "A host that runs Instances. Made by the host's agent, with the Node's name; its spec is for operators.",
    status = "HypervisorStatus",
    derive = "PartialEq",
    printcolumn(name = "Scheduling", type_ = "string", json_path = ".spec.scheduling"),
    printcolumn(name = "Zone", type_ = "string", json_path = ".spec.availabilityZone"),
    printcolumn(name = "VCPUs", type_ = "integer", json_path = ".status.capacity.vcpus"),
    printcolumn(name = "Memory", type_ = "string", json_path = ".status.capacity.memory"),
    printcolumn(name = "Disk", type_ = "string", json_path = ".status.capacity.disk", priority = 1),
    printcolumn(name = "Instances", type_ = "integer", json_path = ".status.instances"),
    printcolumn(
        name = "Libvirt",
        type_ = "string",
        json_path = ".status.versions.libvirt",
        priority = 1
    ),
    printcolumn(name = "QEMU", type_ = "string", json_path = ".status.versions.qemu", priority = 1),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].reason",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::Rule::new("!has(self.reason) || self.scheduling != 'Enabled'").message("reason is for scheduling: Cordoned or Maintenance"))]
pub struct HypervisorSpec {
    /// Whether new Instances may be placed here.
    #[serde(default)]
    #[schemars(extend("default" = "Enabled"))]
    pub scheduling: Scheduling,
    /// Why it is cordoned or in maintenance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub reason: Option<String>,
    /// The availability zone; `nova`, as in OpenStack, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::name")]
    pub availability_zone: Option<String>,
    /// How far each resource may be promised more than once; the controller's defaults when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocation_ratios: Option<AllocationRatios>,
    /// What is kept for the host itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved: Option<Reserved>,
    /// What operators say of the host: names of their own, which begin with `CUSTOM_`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 8, max = 255), regex(pattern = r"^CUSTOM_[A-Z0-9_]+$")), extend("x-kubernetes-list-type" = "set"))]
    pub traits: Vec<String>,
    /// What the host has beyond CPUs, memory and disk, to be counted by name: Placement's inventories.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["resourceClass"]))]
    pub inventories: Vec<Inventory>,
    /// Which CPUs guests share and which are given to one guest each; all are shared when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<CpuPartition>,
    /// Devices that guests may have, by the name that a Flavor asks for them with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    pub pci_devices: Vec<PciDeviceSelector>,
}

/// How much a host has of a resource of the operators' own, and in which amounts it is given out (Placement's inventory).
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = kube::core::Rule::new("!has(self.reserved) || self.reserved <= self.total").message("reserved must be at most total"),
    validation = kube::core::Rule::new("!has(self.maxUnit) || !has(self.minUnit) || self.minUnit <= self.maxUnit").message("minUnit must be at most maxUnit"),
)]
pub struct Inventory {
    /// What it is: a name of the operators' own, which begins with `CUSTOM_`.
    #[schemars(length(min = 8, max = 255), regex(pattern = r"^CUSTOM_[A-Z0-9_]+$"))]
    pub resource_class: String,
    /// How much the host has.
    #[schemars(range(min = 0, max = 2_147_483_647))]
    pub total: u32,
    /// How much of it is kept back.
    #[serde(default)]
    #[schemars(range(min = 0, max = 2_147_483_647), extend("default" = 0))]
    pub reserved: u32,
    /// The least that an Instance may ask for.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 2_147_483_647), extend("default" = 1))]
    pub min_unit: u32,
    /// The most that an Instance may ask for; `total` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub max_unit: Option<u32>,
    /// What an Instance asks for must be a multiple of this.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 2_147_483_647), extend("default" = 1))]
    pub step_size: u32,
    /// How far it may be promised more than once, such as "1.5"; 1 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8), regex(pattern = r"^[0-9]{1,4}(\.[0-9]{1,3})?$"))]
    pub allocation_ratio: Option<String>,
}

fn one() -> u32 {
    1
}

/// Whether new Instances may be placed on a host.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scheduling {
    /// They may.
    #[default]
    Enabled,
    /// They may not; those that are there stay.
    Cordoned,
    /// They may not; those that are there are moved to other hosts, some at a time. Their guests are shut down for that.
    Maintenance,
}

/// How far each resource may be promised more than once (Placement's `allocation_ratio`).
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AllocationRatios {
    /// Of CPUs, such as "4" or "1.5".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8), regex(pattern = r"^[0-9]{1,4}(\.[0-9]{1,3})?$"))]
    pub vcpus: Option<String>,
    /// Of memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8), regex(pattern = r"^[0-9]{1,4}(\.[0-9]{1,3})?$"))]
    pub memory: Option<String>,
    /// Of disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8), regex(pattern = r"^[0-9]{1,4}(\.[0-9]{1,3})?$"))]
    pub disk: Option<String>,
}

/// What is kept for the host itself.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reserved {
    /// CPUs.
    #[serde(default)]
    #[schemars(range(min = 0, max = 4096), extend("default" = 0))]
    pub vcpus: u32,
    /// Memory; 512Mi when absent, as Nova keeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// Disk.
    #[serde(default)]
    #[schemars(extend("default" = 0))]
    pub disk: Bytes,
    /// Huge pages, for others than guests (Nova's `reserved_huge_pages`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["cell", "size"]))]
    pub pages: Vec<ReservedPages>,
}

/// What a Hypervisor's agent reports.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HypervisorStatus {
    /// The generation that this status was computed for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// How the host is reached.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub addresses: Vec<HypervisorAddress>,
    /// The port at which other hosts' agents fetch images and disks from this one; absent while it serves none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub transfer_port: Option<u16>,
    /// What the host has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Resources>,
    /// What its Instances were promised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocated: Option<Resources>,
    /// How many Instances it has.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub instances: i32,
    /// Its processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// What runs there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub versions: Option<Versions>,
    /// What its guests can have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    /// What its processor, firmware and guests' devices can do, by the names of OpenStack's os-traits, such as
    /// `HW_CPU_X86_AVX2` and `COMPUTE_SECURITY_TPM_2_0`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 255)), extend("x-kubernetes-list-type" = "set"))]
    pub traits: Vec<String>,
    /// Its NUMA cells.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["id"]))]
    pub cells: Vec<NumaCell>,
    /// Those of its PCI devices that guests may have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["address"]))]
    pub pci_devices: Vec<PciDevice>,
    /// What its agent measures, by name, such as `cpu.percent`; absent unless it is told to measure.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub metrics: Vec<HostMetric>,
    /// The images in its cache, and those on the way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 512), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["uid"]))]
    pub images: Vec<CachedImage>,
    /// Ready, LibvirtConnected, DiskPressure, TopologyValid.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// How a host is reached.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HypervisorAddress {
    /// InternalIP, as in a Node.
    #[serde(rename = "type")]
    #[schemars(length(max = 63))]
    pub kind: String,
    /// The address.
    #[schemars(length(max = 253))]
    pub address: String,
}

/// An amount of each resource.
#[derive(KubeSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// CPUs.
    #[schemars(range(min = 0))]
    pub vcpus: u32,
    /// Memory.
    pub memory: Bytes,
    /// Disk, in the agent's data directory.
    pub disk: Bytes,
}

/// A host's processor.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cpu {
    /// As libvirt calls it: x86_64, aarch64.
    #[schemars(length(max = 63))]
    pub architecture: String,
    /// libvirt's name of the model that fits best.
    #[schemars(length(max = 255))]
    pub model: String,
    /// Its maker.
    #[schemars(length(max = 255))]
    pub vendor: String,
    /// What it can do, by libvirt's names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 512), inner(length(min = 1, max = 63)), extend("x-kubernetes-list-type" = "set"))]
    pub features: Vec<String>,
}

/// What runs on a host.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Versions {
    /// Our agent.
    #[schemars(length(max = 63))]
    pub agent: String,
    /// libvirt.
    #[schemars(length(max = 63))]
    pub libvirt: String,
    /// QEMU.
    #[schemars(length(max = 63))]
    pub qemu: String,
}

/// What a host's guests can have.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Capabilities {
    /// kvm, qemu.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 63)), extend("x-kubernetes-list-type" = "set"))]
    pub domain_types: Vec<String>,
    /// q35, pc, …
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 63)), extend("x-kubernetes-list-type" = "set"))]
    pub machine_types: Vec<String>,
    /// BIOS, UEFI.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 63)), extend("x-kubernetes-list-type" = "set"))]
    pub firmware: Vec<String>,
}

/// A measured value of a host, for MetricsFilter and MetricsWeigher (Nova's compute monitors).
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostMetric {
    /// Nova's name of it.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z][a-z0-9._]*$"))]
    pub name: String,
    /// Its value, a decimal number.
    #[schemars(length(min = 1, max = 24), regex(pattern = r"^-?[0-9]+(\.[0-9]+)?$"))]
    pub value: String,
}

/// One image in a host's cache.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CachedImage {
    /// The Image's uid.
    #[schemars(length(min = 1, max = 63))]
    pub uid: String,
    /// Where it stands.
    pub state: CachedImageState,
    /// How much of it was fetched, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub progress: Option<i32>,
    /// The hash of its bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 80))]
    pub digest: Option<String>,
    /// How large the file is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Bytes>,
    /// How large the disk in it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_size: Option<Bytes>,
    /// What inspection found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<DiskFormat>,
    /// Why it could not be had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
}

/// Where a cached image stands.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CachedImageState {
    /// It is being fetched, verified and inspected.
    Pulling,
    /// It is there and was verified.
    Cached,
    /// Its bytes are no usable image; trying again is no use.
    Invalid,
    /// It could not be fetched; it is tried again.
    Unreachable,
}
