//! What does a Hypervisor offer? The resource, as the scheduler reads it.

use std::{collections::BTreeMap, sync::Arc};

use kube::ResourceExt;
use virga_core::{condition, flavor::PCPU, hypervisor};
use virga_crds::{Bytes, HostAggregate, Hypervisor, Scheduling, conditions::types};
use virga_scheduler::{Cpu, Host, Inventory, Platform, Ratio, Ratios, Resources};

use super::load::Load;

/// The zone of hosts that name none, as in OpenStack (Nova's `default_availability_zone`).
pub const DEFAULT_ZONE: &str = "nova";
/// Nova's `reserved_host_memory_mb`.
const RESERVED_MEMORY: Bytes = Bytes::mib(512);

/// What holds for hosts whose Hypervisor says nothing else.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostDefaults {
    /// How many times over each resource is promised.
    pub ratios: Ratios,
}

/// What is known of a host beside its Hypervisor.
#[derive(Debug, Clone, Copy, Default)]
pub struct Around<'a> {
    /// Whether its agent's Lease is fresh.
    pub heard_of: bool,
    /// The zone that it is in by an aggregate.
    pub zone: Option<&'a str>,
    /// What it is busy with.
    pub load: Load,
    /// The lowest ratios that its aggregates name.
    pub lowest: Lowest,
}

/// The lowest allocation ratios that a host's aggregates name.
///
/// In Nova an aggregate's ratio stands for the host's own. Here it can only be lower: the agent takes Instances in by its
/// own Hypervisor's ratios and knows of no aggregate, so what was promised beyond those would be rejected.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lowest {
    /// `cpu_allocation_ratio`.
    pub vcpus: Option<Ratio>,
    /// `ram_allocation_ratio`.
    pub memory: Option<Ratio>,
    /// `disk_allocation_ratio`.
    pub disk: Option<Ratio>,
}

impl Lowest {
    /// Of these aggregates. A ratio that is none is as if it were not given.
    pub fn of<'a>(aggregates: impl Iterator<Item = &'a Arc<HostAggregate>>) -> Self {
        let mut lowest = Self::default();
        for aggregate in aggregates {
            let metadata = &aggregate.spec.metadata;
            let named = |key: &str| metadata.get(key).and_then(|text| text.parse::<Ratio>().ok());
            for (least, key) in [
                (&mut lowest.vcpus, "cpu_allocation_ratio"),
                (&mut lowest.memory, "ram_allocation_ratio"),
                (&mut lowest.disk, "disk_allocation_ratio"),
            ] {
                *least = least.iter().copied().chain(named(key)).min();
            }
        }
        lowest
    }

    fn under(self, own: Ratios) -> Ratios {
        let lower = |own: Ratio, lowest: Option<Ratio>| lowest.map_or(own, |lowest| lowest.min(own));
        Ratios {
            vcpus: lower(own.vcpus, self.vcpus),
            memory: lower(own.memory, self.memory),
            disk: lower(own.disk, self.disk),
        }
    }
}

/// The host that a Hypervisor describes.
pub fn host(hypervisor: &Hypervisor, around: Around<'_>, defaults: &HostDefaults) -> Host {
    let spec = &hypervisor.spec;
    let status = hypervisor.status.as_ref();
    let capacity = status.and_then(|status| status.capacity).unwrap_or_default();
    let ready = status.is_some_and(|status| condition::is_true(&status.conditions, types::READY));
    let partition = hypervisor::partition(spec).unwrap_or_default();
    let mut host = Host::new(
        hypervisor.name_any(),
        around.zone.unwrap_or(DEFAULT_ZONE),
        status
            .and_then(|status| status.cpu.as_ref())
            .map_or("", |cpu| cpu.architecture.as_str()),
        Resources {
            vcpus: partition.shared_count(capacity.vcpus),
            memory_bytes: capacity.memory.0,
            disk_bytes: capacity.disk.0,
        },
    );
    host.alive = ready && around.heard_of;
    host.scheduling = match spec.scheduling {
        Scheduling::Cordoned | Scheduling::Maintenance => virga_scheduler::Scheduling::Cordoned {
            reason: spec.reason.clone().unwrap_or_default(),
        },
        // What is on its way out takes nobody in.
        Scheduling::Enabled if hypervisor.metadata.deletion_timestamp.is_some() => {
            virga_scheduler::Scheduling::Cordoned {
                reason: "the Hypervisor is being deleted".into(),
            }
        }
        Scheduling::Enabled => virga_scheduler::Scheduling::Enabled,
    };
    let reserved = spec.reserved.clone().unwrap_or_default();
    host.reserved = Resources {
        vcpus: reserved.vcpus,
        memory_bytes: reserved.memory.unwrap_or(RESERVED_MEMORY).0,
        disk_bytes: reserved.disk.0,
    };
    host.ratios = around.lowest.under(ratios(hypervisor, defaults));
    if let Some(capabilities) = status.and_then(|status| status.capabilities.as_ref()) {
        host.domain_types = capabilities.domain_types.iter().cloned().collect();
    }
    let found = status.map_or(&[][..], |status| &status.traits);
    host.traits = spec.traits.iter().chain(found).cloned().collect();
    host.labels = hypervisor.labels().clone();
    host.inventories = inventories(hypervisor);
    host.topology = status
        .and_then(|status| hypervisor::topology(spec, status))
        .map(Arc::new);
    if let Some(topology) = &host.topology {
        let dedicated = topology.cells.iter().map(|cell| cell.dedicated.len() as u64).sum();
        host.inventories.insert(PCPU.to_owned(), Inventory::new(dedicated));
    }
    host.address = status
        .and_then(|status| status.addresses.first())
        .and_then(|address| address.address.parse().ok());
    host.platform = Arc::new(platform(hypervisor));
    let metrics = status.map_or(&[][..], |status| &status.metrics);
    let metrics = metrics
        .iter()
        .filter_map(|metric| Some((metric.name.clone(), metric.value.parse().ok()?)));
    host.metrics = metrics.collect();
    host.io_ops = around.load.io_ops;
    host.failed_builds = around.load.failed_builds;
    host
}

/// What operators count by names of their own.
fn inventories(hypervisor: &Hypervisor) -> BTreeMap<String, Inventory> {
    let inventory = |given: &virga_crds::Inventory| Inventory {
        total: given.total.into(),
        reserved: given.reserved.into(),
        min_unit: given.min_unit.into(),
        max_unit: given.max_unit.unwrap_or(given.total).into(),
        step_size: given.step_size.into(),
        ratio: read_ratio(
            hypervisor,
            "inventories.allocationRatio",
            given.allocation_ratio.as_ref(),
            Ratio::ONE,
        ),
    };
    let given = hypervisor.spec.inventories.iter();
    given
        .map(|given| (given.resource_class.clone(), inventory(given)))
        .collect()
}

/// What the host is built of. libvirt runs KVM and QEMU, and Nova calls both `QEMU`.
fn platform(hypervisor: &Hypervisor) -> Platform {
    let status = hypervisor.status.as_ref();
    let version = status.and_then(|status| status.versions.as_ref());
    let cpu = status.and_then(|status| status.cpu.as_ref());
    Platform {
        hypervisor_type: "QEMU".into(),
        hypervisor_version: version.map_or(0, |versions| packed(&versions.qemu)),
        cpu: cpu.map_or_else(Cpu::default, |cpu| Cpu {
            architecture: cpu.architecture.clone(),
            model: cpu.model.clone(),
            vendor: cpu.vendor.clone(),
            features: cpu.features.iter().cloned().collect(),
            ..Cpu::default()
        }),
        ..Platform::default()
    }
}

/// `8.2.0` as Nova packs it: 8 002 000. 0 for what is no version.
fn packed(version: &str) -> u32 {
    let mut parts = version
        .split('.')
        .map(|part| part.parse::<u32>().ok().filter(|part| *part < 1000));
    let mut next = || parts.next().unwrap_or(Some(0));
    match (next(), next(), next()) {
        (Some(major), Some(minor), Some(micro)) => major * 1_000_000 + minor * 1_000 + micro,
        _ => 0,
    }
}

fn ratios(hypervisor: &Hypervisor, defaults: &HostDefaults) -> Ratios {
    let Some(given) = &hypervisor.spec.allocation_ratios else {
        return defaults.ratios;
    };
    let read = |field, text: Option<&String>, default| read_ratio(hypervisor, field, text, default);
    Ratios {
        vcpus: read("vcpus", given.vcpus.as_ref(), defaults.ratios.vcpus),
        memory: read("memory", given.memory.as_ref(), defaults.ratios.memory),
        disk: read("disk", given.disk.as_ref(), defaults.ratios.disk),
    }
}

fn read_ratio(hypervisor: &Hypervisor, field: &str, text: Option<&String>, default: Ratio) -> Ratio {
    let Some(text) = text else { return default };
    text.parse().unwrap_or_else(|error| {
        // The webhook refuses these, so this is a resource from before, or from a time without webhooks.
        let name = hypervisor.name_any();
        tracing::warn!(kind = "Hypervisor", name, field, %error, "using the default allocation ratio");
        default
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;
    use virga_crds::{
        AllocationRatios, Cpu as CpuStatus, CpuPartition, HostMetric, HypervisorAddress, Inventory as Given, NumaCell,
        Reserved, Versions,
    };

    const HEARD: Around<'static> = Around {
        heard_of: true,
        zone: None,
        load: Load {
            io_ops: 0,
            failed_builds: 0,
        },
        lowest: Lowest {
            vcpus: None,
            memory: None,
            disk: None,
        },
    };

    #[test]
    fn what_is_not_said_is_as_in_nova() {
        let host = host(&fixtures::hypervisor("node-1"), HEARD, &HostDefaults::default());
        assert_eq!((host.zone.as_str(), host.architecture.as_str()), ("nova", "x86_64"));
        assert_eq!(host.ratios, Ratios::default());
        assert_eq!(
            host.reserved,
            Resources {
                memory_bytes: 512 << 20,
                ..Resources::default()
            }
        );
        assert!(host.alive);
    }

    #[test]
    fn what_the_operator_says_holds() {
        let mut hypervisor = fixtures::hypervisor("node-1");
        hypervisor.spec.scheduling = Scheduling::Cordoned;
        hypervisor.spec.reason = Some("new disks".into());
        hypervisor.spec.reserved = Some(Reserved {
            vcpus: 2,
            memory: Some(Bytes::ZERO),
            disk: Bytes::gib(5),
            pages: Vec::new(),
        });
        hypervisor.spec.allocation_ratios = Some(AllocationRatios {
            vcpus: Some("1.5".into()),
            memory: Some("0".into()),
            disk: None,
        });
        let around = Around {
            zone: Some("az1"),
            ..HEARD
        };
        let host = host(&hypervisor, around, &HostDefaults::default());
        assert_eq!(host.zone, "az1");
        assert_eq!(
            host.scheduling,
            virga_scheduler::Scheduling::Cordoned {
                reason: "new disks".into()
            }
        );
        assert_eq!(
            host.reserved,
            Resources {
                vcpus: 2,
                memory_bytes: 0,
                disk_bytes: 5 << 30
            }
        );
        assert_eq!(host.ratios.vcpus, "1.5".parse().unwrap());
        assert_eq!(
            host.ratios.memory,
            Ratio::ONE,
            "a ratio that is none is as if it were not given"
        );
    }

    #[test]
    fn a_host_lives_only_while_it_is_ready_and_heard_of() {
        let ready = fixtures::hypervisor("node-1");
        assert!(!host(&ready, Around::default(), &HostDefaults::default()).alive);
        let new = Hypervisor::new("node-1", virga_crds::HypervisorSpec::default());
        assert!(!host(&new, HEARD, &HostDefaults::default()).alive);
    }

    #[test]
    fn an_aggregate_lowers_a_ratio_and_never_raises_it() {
        let aggregate = |ratio: &str| {
            let metadata = [("cpu_allocation_ratio".to_owned(), ratio.to_owned())].into();
            let spec = virga_crds::HostAggregateSpec {
                metadata,
                ..virga_crds::HostAggregateSpec::default()
            };
            Arc::new(HostAggregate::new("some", spec))
        };
        let with = |ratios: &[&str]| {
            let aggregates: Vec<_> = ratios.iter().map(|ratio| aggregate(ratio)).collect();
            let around = Around {
                lowest: Lowest::of(aggregates.iter()),
                ..HEARD
            };
            host(&fixtures::hypervisor("node-1"), around, &HostDefaults::default()).ratios
        };
        assert_eq!(with(&["2", "1.5"]).vcpus, "1.5".parse().unwrap());
        assert_eq!(with(&["16"]), Ratios::default(), "the agent knows of no aggregate");
        assert_eq!(with(&["much"]), Ratios::default());
    }

    #[test]
    fn what_is_said_and_what_was_found_are_both_traits() {
        let mut hypervisor = fixtures::hypervisor("node-1");
        hypervisor.spec.traits = vec!["CUSTOM_SSD".into()];
        hypervisor.status.get_or_insert_default().traits = vec!["HW_ARCH_X86_64".into()];
        let traits = host(&hypervisor, HEARD, &HostDefaults::default()).traits;
        assert_eq!(traits.into_iter().collect::<Vec<_>>(), ["CUSTOM_SSD", "HW_ARCH_X86_64"]);
    }

    #[test]
    fn an_inventory_gives_out_no_more_than_there_is_unless_told() {
        let mut hypervisor = fixtures::hypervisor("node-1");
        hypervisor.spec.inventories = vec![Given {
            resource_class: "CUSTOM_LICENCE".into(),
            total: 8,
            reserved: 2,
            min_unit: 1,
            max_unit: None,
            step_size: 2,
            allocation_ratio: Some("1.5".into()),
        }];
        let inventories = host(&hypervisor, HEARD, &HostDefaults::default()).inventories;
        let inventory = &inventories["CUSTOM_LICENCE"];
        assert_eq!((inventory.limit(), inventory.max_unit, inventory.step_size), (9, 8, 2));
    }

    #[test]
    fn dedicated_cpus_are_no_shared_ones() {
        let mut hypervisor = fixtures::hypervisor("node-1");
        hypervisor.spec.cpus = Some(CpuPartition {
            shared: Some("0-1".into()),
            dedicated: Some("2-3".into()),
        });
        hypervisor.status.get_or_insert_default().cells = vec![NumaCell {
            cpus: "0-3".into(),
            ..NumaCell::default()
        }];
        let host = host(&hypervisor, HEARD, &HostDefaults::default());
        assert_eq!((host.capacity.vcpus, host.inventories[PCPU].total), (2, 2));
        assert_eq!(host.topology.unwrap().cells[0].dedicated.to_string(), "2,3");
    }

    #[test]
    fn address_processor_version_and_metrics_are_what_the_agent_found() {
        let mut hypervisor = fixtures::hypervisor("node-1");
        let status = hypervisor.status.get_or_insert_default();
        status.addresses = vec![HypervisorAddress {
            kind: "InternalIP".into(),
            address: "10.0.0.7".into(),
        }];
        status.versions = Some(Versions {
            qemu: "10.0.2".into(),
            ..Versions::default()
        });
        status.cpu = Some(CpuStatus {
            features: vec!["aes".into()],
            ..CpuStatus::default()
        });
        status.metrics = vec![HostMetric {
            name: "cpu.percent".into(),
            value: "12.5".into(),
        }];
        let host = host(&hypervisor, HEARD, &HostDefaults::default());
        assert!((host.metrics["cpu.percent"] - 12.5).abs() < f64::EPSILON);
        assert_eq!(host.address, Some([10, 0, 0, 7].into()));
        assert_eq!(host.platform.hypervisor_version, 10_000_002);
        assert!(host.platform.cpu.features.contains("aes"));
        assert_eq!(
            (packed("9.1"), packed("unknown"), packed("1.2000.3")),
            (9_001_000, 0, 0)
        );
    }
}
