//! A host as the scheduler sees it: the Hypervisor resource, parsed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::topology::HostTopology;
use crate::{Aspects, Inventory, Platform, Ratio, Resources};

/// One hypervisor host.
#[derive(Debug, Clone, PartialEq)]
pub struct Host {
    /// The name of the Hypervisor and of the Node.
    pub name: String,
    /// The availability zone, unless an aggregate puts the host into another one.
    pub zone: String,
    /// The processor architecture, such as `x86_64`.
    pub architecture: String,
    /// The host's physical size. No single Instance may be larger, whatever the ratios (Placement's `max_unit`).
    pub capacity: Resources,
    /// What is kept back for the host itself (Nova's `reserved_host_cpus`, `_memory_mb`, `_disk_mb`).
    pub reserved: Resources,
    /// How many times over the rest is given out.
    pub ratios: Ratios,
    /// Whether operators let new Instances onto it.
    pub scheduling: Scheduling,
    /// Whether the agent has been heard from lately.
    pub alive: bool,
    /// Labels of the Node.
    pub labels: BTreeMap<String, String>,
    /// Traits, such as `HW_CPU_X86_AVX2` or `CUSTOM_SSD`.
    pub traits: BTreeSet<String>,
    /// The libvirt domain types that it can run, such as `kvm` and `qemu`.
    pub domain_types: BTreeSet<String>,
    /// Hypervisor and processor.
    pub platform: Arc<Platform>,
    /// Its address (Nova's `host_ip`).
    pub address: Option<IpAddr>,
    /// Inventories of resource classes other than VCPU, MEMORY_MB and DISK_GB.
    pub inventories: BTreeMap<String, Inventory>,
    /// Measured values by name, such as `cpu.percent`. Values that are not finite are taken for missing.
    pub metrics: BTreeMap<String, f64>,
    /// Instances that the host builds, resizes, snapshots or moves right now (Nova's `num_io_ops`). What is reserved and
    /// not seen there yet is added by the cluster.
    pub io_ops: u32,
    /// Builds that failed in a row.
    pub failed_builds: u32,
    /// Cells and devices, where the host tells of them.
    pub topology: Option<Arc<HostTopology>>,
}

/// Allocation ratios.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ratios {
    /// Of virtual processors.
    pub vcpus: Ratio,
    /// Of memory.
    pub memory: Ratio,
    /// Of local disk.
    pub disk: Ratio,
}

impl Default for Ratios {
    /// Nova's initial ratios: 4, 1 and 1.
    fn default() -> Self {
        Self {
            vcpus: Ratio::FOUR,
            memory: Ratio::ONE,
            disk: Ratio::ONE,
        }
    }
}

/// Whether a host takes new Instances.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Scheduling {
    /// It does.
    #[default]
    Enabled,
    /// An operator has closed it; what runs there stays. Nova calls such a compute service disabled.
    Cordoned {
        /// The operator's words, may be empty. Not shown to tenants.
        reason: String,
    },
}

impl Host {
    /// A host that is alive and enabled, reserves nothing, has Nova's initial ratios and no labels.
    pub fn new(
        name: impl Into<String>,
        zone: impl Into<String>,
        architecture: impl Into<String>,
        capacity: Resources,
    ) -> Self {
        Self {
            name: name.into(),
            zone: zone.into(),
            architecture: architecture.into(),
            capacity,
            reserved: Resources::default(),
            ratios: Ratios::default(),
            scheduling: Scheduling::Enabled,
            alive: true,
            labels: BTreeMap::new(),
            traits: BTreeSet::new(),
            domain_types: BTreeSet::new(),
            platform: Arc::default(),
            address: None,
            inventories: BTreeMap::new(),
            metrics: BTreeMap::new(),
            io_ops: 0,
            failed_builds: 0,
            topology: None,
        }
    }

    /// What may be given out in all: `(capacity − reserved) × ratio` (Placement's capacity of an inventory).
    pub(crate) fn limit(&self) -> Limit {
        let left = |capacity: u64, reserved: u64| capacity.saturating_sub(reserved);
        Limit {
            vcpus: self
                .ratios
                .vcpus
                .of(left(self.capacity.vcpus.into(), self.reserved.vcpus.into())),
            memory_bytes: self
                .ratios
                .memory
                .of(left(self.capacity.memory_bytes, self.reserved.memory_bytes)),
            disk_bytes: self
                .ratios
                .disk
                .of(left(self.capacity.disk_bytes, self.reserved.disk_bytes)),
        }
    }

    /// What differs between two states of a host, in the terms of what filters read.
    pub(crate) fn changes_to(&self, new: &Self) -> Aspects {
        let mut changes = Aspects::NONE;
        let mut note = |changed: bool, aspect: Aspects| {
            if changed {
                changes = changes | aspect;
            }
        };
        note(
            self.alive != new.alive || self.scheduling != new.scheduling,
            Aspects::LIVENESS,
        );
        note(self.zone != new.zone, Aspects::ZONE);
        note(
            self.architecture != new.architecture
                || self.platform != new.platform
                || self.domain_types != new.domain_types
                || self.address != new.address,
            Aspects::PLATFORM,
        );
        note(
            self.capacity != new.capacity
                || self.reserved != new.reserved
                || self.ratios != new.ratios
                || self.inventories != new.inventories
                || self.topology != new.topology,
            Aspects::CAPACITY,
        );
        note(self.labels != new.labels || self.traits != new.traits, Aspects::LABELS);
        note(
            self.metrics != new.metrics || self.io_ops != new.io_ops || self.failed_builds != new.failed_builds,
            Aspects::LOAD,
        );
        changes
    }
}

/// What a host may give out in all: `(capacity − reserved) × ratio`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limit {
    /// Virtual processors.
    pub vcpus: u64,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Local disk, in bytes.
    pub disk_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::host;

    #[test]
    fn every_field_that_a_filter_may_read_shows_in_the_changes() {
        let other = Resources {
            vcpus: 1,
            memory_bytes: 1,
            disk_bytes: 1,
        };
        let ratios = Ratios {
            disk: Ratio::FOUR,
            ..Ratios::default()
        };
        let cordoned = Scheduling::Cordoned { reason: String::new() };
        let one = || BTreeSet::from(["one".to_owned()]);
        let labels = BTreeMap::from([("disk".to_owned(), "ssd".to_owned())]);
        for (changed, aspects) in [
            (host(), Aspects::NONE),
            (Host { alive: false, ..host() }, Aspects::LIVENESS),
            (
                Host {
                    scheduling: cordoned,
                    ..host()
                },
                Aspects::LIVENESS,
            ),
            (
                Host {
                    zone: "az2".to_owned(),
                    ..host()
                },
                Aspects::ZONE,
            ),
            (
                Host {
                    architecture: "aarch64".to_owned(),
                    ..host()
                },
                Aspects::PLATFORM,
            ),
            (
                Host {
                    capacity: other,
                    ..host()
                },
                Aspects::CAPACITY,
            ),
            (
                Host {
                    reserved: other,
                    ..host()
                },
                Aspects::CAPACITY,
            ),
            (Host { ratios, ..host() }, Aspects::CAPACITY),
            (Host { labels, ..host() }, Aspects::LABELS),
            (
                Host {
                    traits: one(),
                    ..host()
                },
                Aspects::LABELS,
            ),
            (
                Host {
                    domain_types: one(),
                    ..host()
                },
                Aspects::PLATFORM,
            ),
            (
                Host {
                    platform: Arc::new(Platform {
                        hypervisor_version: 8_002_000,
                        ..Platform::default()
                    }),
                    ..host()
                },
                Aspects::PLATFORM,
            ),
            (
                Host {
                    address: Some(IpAddr::from([10, 0, 0, 1])),
                    ..host()
                },
                Aspects::PLATFORM,
            ),
            (
                Host {
                    inventories: BTreeMap::from([("CUSTOM_LICENCE".to_owned(), Inventory::new(1))]),
                    ..host()
                },
                Aspects::CAPACITY,
            ),
            (
                Host {
                    metrics: BTreeMap::from([("cpu.percent".to_owned(), 7.0)]),
                    ..host()
                },
                Aspects::LOAD,
            ),
            (Host { io_ops: 1, ..host() }, Aspects::LOAD),
            (
                Host {
                    failed_builds: 1,
                    ..host()
                },
                Aspects::LOAD,
            ),
            (
                Host {
                    scheduling: Scheduling::Cordoned { reason: String::new() },
                    ..host()
                },
                Aspects::LIVENESS,
            ),
        ] {
            assert_eq!(host().changes_to(&changed), aspects, "{changed:?}");
        }
    }
}
