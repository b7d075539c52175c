//! The Hypervisor's status, from facts. Pure.

use jiff::Timestamp;
use virga_core::{condition::Conditions, flavor::DeviceFacts, hypervisor};
use virga_crds::{
    Bytes, CachedImage, Capabilities, Condition, Cpu, HostMetric, Hypervisor, HypervisorAddress, HypervisorStatus,
    InstanceTopology, Resources, Versions,
    conditions::{Reason, types},
};
use virga_hypervisor::{DomainType, Firmware, HostFacts};

use crate::{
    capacity::{Disk, capacity},
    topology::{cells, devices, missing},
};

/// What is told of a node.
pub(super) struct Told<'a> {
    /// libvirt's facts, if they were ever had.
    pub facts: Option<&'a HostFacts>,
    /// How guests are run here: the only domain type that the agent will use.
    pub domain_type: Option<&'static str>,
    /// Why libvirt can't be reached; absent when it can.
    pub unreachable: Option<&'a str>,
    /// The data directory's file system.
    pub disk: Disk,
    /// Below this much free space the disk is under pressure.
    pub min_free: Bytes,
    /// What Instances were promised.
    pub promised: Resources,
    /// How many there are.
    pub instances: usize,
    /// What each of them has of the host's CPUs, pages and devices, by name.
    pub held: Vec<(String, InstanceTopology)>,
    /// What is measured.
    pub metrics: Vec<HostMetric>,
    /// The image cache.
    pub images: Vec<CachedImage>,
    /// How the host is reached.
    pub addresses: Vec<HypervisorAddress>,
    /// The port at which other agents fetch from this one, when it serves.
    pub transfer_port: Option<u16>,
    /// The agent's version.
    pub version: &'a str,
}

/// The status. What was known of the host stays while libvirt can't be asked.
pub(super) fn status(hypervisor: &Hypervisor, told: Told<'_>, now: Timestamp) -> HypervisorStatus {
    let old = hypervisor.status.clone().unwrap_or_default();
    let mut conditions = Conditions::new(&old.conditions, hypervisor.metadata.generation, now);
    match told.unreachable {
        None => {
            conditions.set(
                types::LIBVIRT_CONNECTED,
                true,
                Reason::LibvirtAvailable,
                "libvirt answers",
            );
            conditions.set(
                types::READY,
                true,
                Reason::HeartbeatSeen,
                "the agent runs and libvirt answers",
            );
        }
        Some(why) => {
            conditions.set(types::LIBVIRT_CONNECTED, false, Reason::LibvirtUnavailable, why);
            conditions.set(types::READY, false, Reason::LibvirtUnavailable, why);
        }
    }
    if told.disk.free < told.min_free {
        let message = format!("less than {} of the data directory's disk is free", told.min_free);
        conditions.set(types::DISK_PRESSURE, true, Reason::LowSpace, message);
    } else {
        let message = format!("{} or more of the data directory's disk is free", told.min_free);
        conditions.set(types::DISK_PRESSURE, false, Reason::EnoughSpace, message);
    }
    let mut conditions = conditions.into_vec();
    conditions.extend(topology_valid(hypervisor, &old, &told, now));
    HypervisorStatus {
        observed_generation: hypervisor.metadata.generation,
        addresses: if told.addresses.is_empty() {
            old.addresses
        } else {
            told.addresses
        },
        capacity: told
            .facts
            .map_or(old.capacity, |facts| Some(capacity(facts, told.disk))),
        allocated: Some(told.promised),
        instances: i32::try_from(told.instances).unwrap_or(i32::MAX),
        cpu: told.facts.map_or(old.cpu, |facts| Some(cpu(facts))),
        versions: told.facts.map_or(old.versions, |facts| {
            Some(Versions {
                agent: told.version.into(),
                libvirt: facts.libvirt_version.clone(),
                qemu: facts.hypervisor_version.clone(),
            })
        }),
        capabilities: told
            .facts
            .map_or(old.capabilities, |facts| Some(capabilities(facts, told.domain_type))),
        traits: told.facts.map_or(old.traits, |facts| traits(facts, told.domain_type)),
        metrics: told.metrics,
        cells: told.facts.map_or(old.cells, cells),
        pci_devices: told
            .facts
            .map_or(old.pci_devices, |facts| devices(facts, &hypervisor.spec.pci_devices)),
        images: told.images,
        transfer_port: told.transfer_port,
        conditions,
    }
}

/// Whether the host has what operators say of it. What was told of it stays while libvirt can't be asked.
fn topology_valid(
    hypervisor: &Hypervisor,
    old: &HypervisorStatus,
    told: &Told<'_>,
    now: Timestamp,
) -> Option<Condition> {
    let Some(facts) = told.facts else {
        let is_it = |condition: &&Condition| condition.type_ == types::TOPOLOGY_VALID;
        return old.conditions.iter().find(is_it).cloned();
    };
    let mut conditions = Conditions::new(&old.conditions, hypervisor.metadata.generation, now);
    let missing = missing(&hypervisor.spec, facts, &told.held);
    if missing.is_empty() {
        let message = "the host has the CPUs, pages and devices that its spec names";
        conditions.set(types::TOPOLOGY_VALID, true, Reason::AsSpecified, message);
    } else {
        let kind = types::TOPOLOGY_VALID;
        conditions.set(kind, false, Reason::HardwareMissing, missing.to_string());
    }
    conditions.into_vec().pop()
}

fn cpu(facts: &HostFacts) -> Cpu {
    Cpu {
        architecture: facts.cpu.architecture.clone(),
        model: facts.cpu.model.clone(),
        vendor: facts.cpu.vendor.clone(),
        features: unique(facts.cpu.features.iter().cloned(), 512),
    }
}

fn capabilities(facts: &HostFacts, domain_type: Option<&'static str>) -> Capabilities {
    let firmware = facts.firmware.iter().map(|firmware| match firmware {
        Firmware::Bios => "BIOS".to_owned(),
        Firmware::Uefi { .. } => "UEFI".to_owned(),
    });
    Capabilities {
        domain_types: domain_type.map(str::to_owned).into_iter().collect(),
        machine_types: unique(facts.machines.iter().cloned(), 256),
        firmware: unique(firmware, 8),
    }
}

fn traits(facts: &HostFacts, domain_type: Option<&'static str>) -> Vec<String> {
    hypervisor::traits(hypervisor::TraitFacts {
        architecture: &facts.cpu.architecture,
        features: &facts.cpu.features,
        native: domain_type == Some(DomainType::Kvm.as_str()),
        devices: DeviceFacts {
            qemu: [DomainType::Kvm, DomainType::Qemu]
                .iter()
                .any(|kind| domain_type == Some(kind.as_str())),
            uefi: facts.firmware.contains(&Firmware::Uefi { secure_boot: false }),
            secure_boot: facts.firmware.contains(&Firmware::Uefi { secure_boot: true }),
            disk_buses: &facts.devices.disk_buses,
            video_models: &facts.devices.video_models,
            tpm_models: &facts.devices.tpm_models,
            tpm_versions: &facts.devices.tpm_versions,
        },
    })
}

/// Each once, in the order in which they came, and no more than the schema takes.
fn unique(names: impl Iterator<Item = String>, most: usize) -> Vec<String> {
    let mut unique = Vec::new();
    for name in names {
        if unique.len() < most && !name.is_empty() && name.len() <= 63 && !unique.contains(&name) {
            unique.push(name);
        }
    }
    unique
}

#[cfg(test)]
mod tests {
    use virga_core::condition::is_true;
    use virga_crds::HypervisorSpec;
    use virga_hypervisor::{Fake, Hypervisor as _};

    use super::*;

    fn told<'a>(facts: Option<&'a HostFacts>, unreachable: Option<&'a str>) -> Told<'a> {
        Told {
            facts,
            domain_type: Some("qemu"),
            unreachable,
            disk: Disk {
                total: Bytes::gib(100),
                free: Bytes::gib(1),
            },
            min_free: Bytes::gib(2),
            promised: Resources::default(),
            instances: 3,
            held: Vec::new(),
            metrics: Vec::new(),
            images: Vec::new(),
            addresses: Vec::new(),
            transfer_port: None,
            version: "0.1.0",
        }
    }

    #[test]
    fn what_is_known_of_a_host_stays_while_libvirt_is_away() {
        let facts = Fake::new().facts().unwrap();
        let now: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        let mut hypervisor = Hypervisor::new("node-1", HypervisorSpec::default());
        let first = status(&hypervisor, told(Some(&facts), None), now);
        assert!(is_true(&first.conditions, types::READY) && is_true(&first.conditions, types::DISK_PRESSURE));
        assert_eq!(
            first.capabilities.as_ref().map(|c| c.domain_types.clone()),
            Some(vec!["qemu".into()])
        );
        let of_cpu = first.traits.iter().filter(|name| name.starts_with("HW_"));
        assert_eq!(
            of_cpu.collect::<Vec<_>>(),
            ["HW_ARCH_X86_64"],
            "an emulated processor has features of its own"
        );
        assert!(first.traits.iter().any(|name| name == "COMPUTE_NET_VIF_MODEL_E1000E"));
        assert!(!first.traits.iter().any(|name| name.starts_with("COMPUTE_SECURITY_TPM")));
        hypervisor.status = Some(first.clone());
        let then = status(&hypervisor, told(None, Some("no socket")), now);
        assert_eq!((&then.capacity, &then.versions), (&first.capacity, &first.versions));
        assert_eq!(then.traits, first.traits);
        assert!(!is_true(&then.conditions, types::READY) && !is_true(&then.conditions, types::LIBVIRT_CONNECTED));
    }
}
