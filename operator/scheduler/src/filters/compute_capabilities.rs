//! ComputeCapabilitiesFilter: what the host is satisfies the flavor's extra specs `capabilities:PATH`.
//!
//! Nova: `nova/scheduler/filters/compute_capabilities_filter.py`. An extra spec without a scope counts too when a host has an
//! attribute of that name. A host that does not say is rejected. See [`Attribute`](crate::Attribute) for the paths.

use super::{Filter, Why};
use crate::bits::Bits;
use crate::hosts::Hosts;
use crate::requirement::matches;
use crate::{Ask, Aspects, Candidate};

/// See the module.
#[derive(Debug)]
pub(super) struct ComputeCapabilitiesFilter;

impl Filter for ComputeCapabilitiesFilter {
    fn name(&self) -> &'static str {
        "ComputeCapabilitiesFilter"
    }

    fn reads(&self, ask: &Ask<'_>) -> Aspects {
        if ask
            .capabilities
            .iter()
            .all(|capability| capability.attribute.is_fixed())
        {
            Aspects::PLATFORM | Aspects::CAPACITY | Aspects::LABELS
        } else {
            Aspects::ALL
        }
    }

    fn applies(&self, ask: &Ask<'_>) -> bool {
        !ask.capabilities.is_empty()
    }

    fn check<'a>(&self, host: Candidate<'a>, ask: &Ask<'a>) -> Result<(), Why<'a>> {
        for capability in &ask.capabilities {
            let value = capability.attribute.of(host);
            if !value.is_some_and(|value| matches(&value.printed(), capability.requirement)) {
                return Err(Why::because(capability.path));
            }
        }
        Ok(())
    }

    fn sweep(&self, hosts: &Hosts, ask: &Ask<'_>, left: &mut Bits) {
        for capability in &ask.capabilities {
            match &capability.bound {
                Some(bound) => bound.keep(hosts, left),
                None if capability.attribute.is_of_platform() => {
                    hosts.platforms().keep(left, |platform| {
                        let value = capability.attribute.of_platform(platform);
                        value.is_some_and(|value| matches(&value.printed(), capability.requirement))
                    });
                }
                None => left.retain(|slot| {
                    let value = capability.attribute.of(hosts.candidate(slot));
                    value.is_some_and(|value| matches(&value.printed(), capability.requirement))
                }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use crate::fixtures::{demanding, host, verdict};
    use crate::{Cpu, Demands, Host, Platform, Request};

    const NAME: &str = "ComputeCapabilitiesFilter";

    fn milan() -> Host {
        let cpu = Cpu {
            architecture: "x86_64".to_owned(),
            model: "EPYC-Milan".to_owned(),
            vendor: "AMD".to_owned(),
            features: BTreeSet::from(["aes", "avx2"].map(str::to_owned)),
            cells: 2,
            maxphysaddr_bits: 48,
            ..Cpu::default()
        };
        let platform = Platform {
            hypervisor_type: "QEMU".to_owned(),
            hypervisor_version: 8_002_000,
            cpu,
            ..Platform::default()
        };
        Host {
            platform: Arc::new(platform),
            ..host()
        }
    }

    fn asking(path: &str, requirement: &str) -> Request {
        let mut demands = Demands::default();
        demands.capabilities.insert(path.to_owned(), requirement.to_owned());
        demanding(demands)
    }

    #[test]
    fn each_capability_satisfies_its_operator() {
        for (path, requirement, passes) in [
            ("hypervisor_type", "s== QEMU", true),
            ("hypervisor_type", "QEMU", true),
            ("hypervisor_type", "s== Xen", false),
            ("hypervisor_version", ">= 8002000", true),
            ("hypervisor_version", ">= 8002001", false),
            ("vcpus_total", ">= 8", true),
            ("vcpus_total", "= 8", true),
            ("vcpus_total", ">= 9", false),
            ("vcpus_total", "== 8", true),
            ("vcpus_total", "!= 8", false),
            ("vcpus_total", "<= 7", false),
            ("free_ram_mb", ">= 16384", true),
            ("free_ram_mb", ">= 16385", false),
            ("total_usable_disk_gb", "<or> 100 <or> 200", true),
            ("cpu_info:features", "<in> avx2", true),
            ("cpu_info:features", "<all-in> aes avx2", true),
            ("cpu_info:features", "<in> avx512f", false),
            ("cpu_info:topology:cells", "2", true),
            ("cpu_info:topology:cores", "2", false),
            ("cpu_info:maxphysaddr:bits", ">= 46", true),
            ("no_such_thing", "1", false),
        ] {
            let verdict = verdict(NAME, milan(), &asking(path, requirement));
            assert_eq!(verdict.is_ok(), passes, "{path} {requirement}: {verdict:?}");
        }
    }

    #[test]
    fn a_host_that_does_not_say_is_rejected() {
        assert_eq!(
            verdict(NAME, host(), &asking("hypervisor_type", "s== QEMU")),
            Err(format!("0/1 hosts: 1 {NAME} (hypervisor_type)"))
        );
    }

    #[test]
    fn without_a_scope_only_a_name_that_hosts_know_counts() {
        let unscoped = |key: &str, value: &str| {
            let mut demands = Demands::default();
            demands.unscoped.insert(key.to_owned(), value.to_owned());
            demanding(demands)
        };
        assert_eq!(verdict(NAME, milan(), &unscoped("hypervisor_type", "QEMU")), Ok(()));
        assert!(verdict(NAME, milan(), &unscoped("hypervisor_type", "Xen")).is_err());
        assert_eq!(verdict(NAME, milan(), &unscoped("ssd", "true")), Ok(()));
    }
}
