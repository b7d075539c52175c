//! What does a Hypervisor offer? The resource, as the scheduler reads it.

use kube::ResourceExt;
use virga_core::condition;
use virga_crds::{Bytes, Hypervisor, Scheduling, conditions::types};
use virga_scheduler::{Host, Ratio, Ratios, Resources};

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

/// The host that a Hypervisor describes. `heard_of` says whether its agent's Lease is fresh.
pub fn host(hypervisor: &Hypervisor, heard_of: bool, defaults: &HostDefaults) -> Host {
    let spec = &hypervisor.spec;
    let status = hypervisor.status.as_ref();
    let capacity = status.and_then(|status| status.capacity).unwrap_or_default();
    let ready = status.is_some_and(|status| condition::is_true(&status.conditions, types::READY));
    let mut host = Host::new(
        hypervisor.name_any(),
        spec.availability_zone.as_deref().unwrap_or(DEFAULT_ZONE),
        status
            .and_then(|status| status.cpu.as_ref())
            .map_or("", |cpu| cpu.architecture.as_str()),
        Resources {
            vcpus: capacity.vcpus,
            memory_bytes: capacity.memory.0,
            disk_bytes: capacity.disk.0,
        },
    );
    host.alive = ready && heard_of;
    host.scheduling = match spec.scheduling {
        Scheduling::Cordoned => virga_scheduler::Scheduling::Cordoned {
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
    host.ratios = ratios(hypervisor, defaults);
    if let Some(capabilities) = status.and_then(|status| status.capabilities.as_ref()) {
        host.domain_types = capabilities.domain_types.iter().cloned().collect();
    }
    host
}

fn ratios(hypervisor: &Hypervisor, defaults: &HostDefaults) -> Ratios {
    let Some(given) = &hypervisor.spec.allocation_ratios else {
        return defaults.ratios;
    };
    let read = |field: &str, text: Option<&String>, default: Ratio| {
        let Some(text) = text else { return default };
        text.parse().unwrap_or_else(|error| {
            // The webhook refuses these, so this is a resource from before, or from a time without webhooks.
            let name = hypervisor.name_any();
            tracing::warn!(kind = "Hypervisor", name, field, %error, "using the default allocation ratio");
            default
        })
    };
    Ratios {
        vcpus: read("vcpus", given.vcpus.as_ref(), defaults.ratios.vcpus),
        memory: read("memory", given.memory.as_ref(), defaults.ratios.memory),
        disk: read("disk", given.disk.as_ref(), defaults.ratios.disk),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;
    use virga_crds::{AllocationRatios, Reserved};

    #[test]
    fn what_is_not_said_is_as_in_nova() {
        let host = host(&fixtures::hypervisor("node-1"), true, &HostDefaults::default());
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
        hypervisor.spec.availability_zone = Some("az1".into());
        hypervisor.spec.scheduling = Scheduling::Cordoned;
        hypervisor.spec.reason = Some("new disks".into());
        hypervisor.spec.reserved = Some(Reserved {
            vcpus: 2,
            memory: Some(Bytes::ZERO),
            disk: Bytes::gib(5),
        });
        hypervisor.spec.allocation_ratios = Some(AllocationRatios {
            vcpus: Some("1.5".into()),
            memory: Some("0".into()),
            disk: None,
        });
        let host = host(&hypervisor, true, &HostDefaults::default());
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
        assert!(!host(&ready, false, &HostDefaults::default()).alive);
        let new = Hypervisor::new("node-1", virga_crds::HypervisorSpec::default());
        assert!(!host(&new, true, &HostDefaults::default()).alive);
    }
}
