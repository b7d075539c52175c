//! What queries and capabilities may ask about a host, under the names of Nova's `HostState`.

use std::borrow::Cow;

use crate::Candidate;
use crate::Platform;

/// One thing about a host.
///
/// | name | what |
/// |---|---|
/// | `free_ram_mb`, `free_disk_mb` | physical memory and disk that are neither reserved nor used, in MiB |
/// | `total_usable_ram_mb`, `total_usable_disk_gb` | the host's size in MiB and GiB |
/// | `disk_mb_used`, `vcpus_total`, `vcpus_used` | disk given out in MiB; processors; processors given out |
/// | `num_instances`, `num_io_ops`, `failed_builds` | counts |
/// | `cpu_allocation_ratio`, `ram_allocation_ratio`, `disk_allocation_ratio` | ratios |
/// | `host`, `nodename`, `hypervisor_hostname`, `host_ip` | the host's name and address |
/// | `hypervisor_type`, `hypervisor_version` | such as `QEMU`; `major × 1 000 000 + minor × 1 000 + micro` |
/// | `cpu_info`: `arch`, `model`, `vendor`, `features`, `topology` (`cells`, `sockets`, `cores`, `threads`), `maxphysaddr` (`bits`) | the processor |
/// | `metrics`: NAME | a measured value (Nova keeps these from queries) |
/// | `labels`: KEY, `stats`: KEY | a label of the Node (in place of Nova's `stats`) |
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Attribute {
    /// A number.
    Number(Number),
    /// The host's name.
    Name,
    /// The host's address.
    Address,
    /// Nova's `hypervisor_type`.
    HypervisorType,
    /// The processor's architecture.
    CpuArchitecture,
    /// The processor's model.
    CpuModel,
    /// The processor's vendor.
    CpuVendor,
    /// The processor's features, written as Nova's list is: `['aes', 'avx']`.
    CpuFeatures,
    /// A measured value.
    Metric(String),
    /// A label.
    Label(String),
}

/// A number about a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "named as Nova names them, see the table of `Attribute`")]
pub enum Number {
    FreeRamMb,
    FreeDiskMb,
    TotalUsableRamMb,
    TotalUsableDiskGb,
    DiskMbUsed,
    VcpusTotal,
    VcpusUsed,
    NumInstances,
    NumIoOps,
    FailedBuilds,
    HypervisorVersion,
    CpuRatio,
    RamRatio,
    DiskRatio,
    CpuCells,
    CpuSockets,
    CpuCores,
    CpuThreads,
    MaxPhysAddrBits,
}

/// A value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// A number.
    Number(f64),
    /// A text.
    Text(Cow<'a, str>),
    /// True or false.
    Truth(bool),
}

impl Attribute {
    /// The names for messages, without those of the processor's parts.
    pub(crate) const NAMES: [&'static str; 21] = [
        "free_ram_mb",
        "free_disk_mb",
        "total_usable_ram_mb",
        "total_usable_disk_gb",
        "disk_mb_used",
        "vcpus_total",
        "vcpus_used",
        "num_instances",
        "num_io_ops",
        "failed_builds",
        "host",
        "nodename",
        "host_ip",
        "hypervisor_hostname",
        "hypervisor_type",
        "hypervisor_version",
        "cpu_allocation_ratio",
        "ram_allocation_ratio",
        "disk_allocation_ratio",
        "cpu_info",
        "metrics",
    ];

    /// The attribute of a path, such as `["cpu_info", "topology", "cores"]`.
    pub fn find(path: &[&str]) -> Option<Self> {
        let number = |number| Some(Self::Number(number));
        match path {
            ["free_ram_mb"] => number(Number::FreeRamMb),
            ["free_disk_mb"] => number(Number::FreeDiskMb),
            ["total_usable_ram_mb"] => number(Number::TotalUsableRamMb),
            ["total_usable_disk_gb"] => number(Number::TotalUsableDiskGb),
            ["disk_mb_used"] => number(Number::DiskMbUsed),
            ["vcpus_total"] => number(Number::VcpusTotal),
            ["vcpus_used"] => number(Number::VcpusUsed),
            ["num_instances"] => number(Number::NumInstances),
            ["num_io_ops"] => number(Number::NumIoOps),
            ["failed_builds"] => number(Number::FailedBuilds),
            ["hypervisor_version"] => number(Number::HypervisorVersion),
            ["cpu_allocation_ratio"] => number(Number::CpuRatio),
            ["ram_allocation_ratio"] => number(Number::RamRatio),
            ["disk_allocation_ratio"] => number(Number::DiskRatio),
            ["host" | "nodename" | "hypervisor_hostname"] => Some(Self::Name),
            ["host_ip"] => Some(Self::Address),
            ["hypervisor_type"] => Some(Self::HypervisorType),
            ["cpu_info", "arch"] => Some(Self::CpuArchitecture),
            ["cpu_info", "model"] => Some(Self::CpuModel),
            ["cpu_info", "vendor"] => Some(Self::CpuVendor),
            ["cpu_info", "features"] => Some(Self::CpuFeatures),
            ["cpu_info", "topology", "cells"] => number(Number::CpuCells),
            ["cpu_info", "topology", "sockets"] => number(Number::CpuSockets),
            ["cpu_info", "topology", "cores"] => number(Number::CpuCores),
            ["cpu_info", "topology", "threads"] => number(Number::CpuThreads),
            ["cpu_info", "maxphysaddr", "bits"] => number(Number::MaxPhysAddrBits),
            // The names of metrics and labels may have dots in them.
            ["metrics", name @ ..] if !name.is_empty() => Some(Self::Metric(name.join("."))),
            ["labels" | "stats", key @ ..] if !key.is_empty() => Some(Self::Label(key.join("."))),
            _ => None,
        }
    }

    /// Its value for a host; `None` when the host does not say.
    pub(crate) fn of<'a>(&self, host: Candidate<'a>) -> Option<Value<'a>> {
        let facts = host.host()?;
        match self {
            Self::Number(number) => number.of(host).map(Value::Number),
            Self::Name => text(&facts.name),
            Self::Address => facts.address.map(|address| Value::Text(address.to_string().into())),
            Self::CpuArchitecture if facts.platform.cpu.architecture.is_empty() => text(&facts.architecture),
            Self::Metric(name) => facts.metrics.get(name).copied().map(Value::Number),
            Self::Label(key) => facts.labels.get(key).and_then(|label| text(label)),
            _ => self.of_platform(&facts.platform),
        }
    }

    /// Whether all hosts of one platform have the same.
    pub(crate) fn is_of_platform(&self) -> bool {
        matches!(
            self,
            Self::HypervisorType | Self::CpuModel | Self::CpuVendor | Self::CpuFeatures
        )
    }

    /// Its value for a platform; `None` when it is nothing about platforms.
    pub(crate) fn of_platform<'a>(&self, platform: &'a Platform) -> Option<Value<'a>> {
        let cpu = &platform.cpu;
        match self {
            Self::HypervisorType => text(&platform.hypervisor_type),
            Self::CpuArchitecture => text(&cpu.architecture),
            Self::CpuModel => text(&cpu.model),
            Self::CpuVendor => text(&cpu.vendor),
            Self::CpuFeatures => {
                let features: Vec<String> = cpu.features.iter().map(|feature| format!("'{feature}'")).collect();
                (!features.is_empty()).then(|| Value::Text(format!("[{}]", features.join(", ")).into()))
            }
            _ => None,
        }
    }

    /// Whether it stays as it is while Instances come and go.
    pub(crate) fn is_fixed(&self) -> bool {
        match self {
            Self::Number(number) => !matches!(
                number,
                Number::FreeRamMb
                    | Number::FreeDiskMb
                    | Number::DiskMbUsed
                    | Number::VcpusUsed
                    | Number::NumInstances
                    | Number::NumIoOps
                    | Number::FailedBuilds
            ),
            Self::Metric(_) => false,
            _ => true,
        }
    }
}

/// A text that says something.
fn text(text: &str) -> Option<Value<'_>> {
    (!text.is_empty()).then_some(Value::Text(Cow::Borrowed(text)))
}

impl Value<'_> {
    /// As Python would print it, which is what Nova compares capabilities with.
    pub(crate) fn printed(&self) -> Cow<'_, str> {
        match self {
            Self::Number(number) => number.to_string().into(),
            Self::Text(text) => Cow::Borrowed(text),
            Self::Truth(true) => "True".into(),
            Self::Truth(false) => "False".into(),
        }
    }
}
