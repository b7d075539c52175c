//! What is wrong with a Hypervisor's spec or with a HostAggregate, by itself and beside the others?

use std::sync::Arc;

use kube::ResourceExt;
use virga_core::{
    host_aggregate::{self, Aggregates, Source},
    hypervisor::{self, check_resource_class, check_trait},
};
use virga_crds::{HostAggregate, Hypervisor};
use virga_scheduler::Ratio;

use super::Findings;
use crate::stores::Stores;

/// How many conflicts are told.
const TOLD: usize = 5;

pub(super) fn hypervisor(new: &Hypervisor, stores: &Stores) -> Findings {
    let mut findings = Findings::default();
    ratios(new, &mut findings);
    reserved(new, &mut findings);
    cpus(new, &mut findings);
    for name in &new.spec.traits {
        if let Err(message) = check_trait(name) {
            findings.problems.add("spec.traits", message);
        }
    }
    for inventory in &new.spec.inventories {
        let field = format!("spec.inventories[{}]", inventory.resource_class);
        if let Err(message) = check_resource_class(&inventory.resource_class) {
            findings.problems.add(&field, message);
        }
        if let Some(Err(error)) = inventory.allocation_ratio.as_ref().map(|text| text.parse::<Ratio>()) {
            findings
                .problems
                .add(format!("{field}.allocationRatio"), error.to_string());
        }
    }
    zone(new, stores, &mut findings);
    findings
}

fn ratios(new: &Hypervisor, findings: &mut Findings) {
    let ratios = new.spec.allocation_ratios.clone().unwrap_or_default();
    for (field, text) in [
        ("vcpus", ratios.vcpus),
        ("memory", ratios.memory),
        ("disk", ratios.disk),
    ] {
        if let Some(Err(error)) = text.map(|text| text.parse::<Ratio>()) {
            findings
                .problems
                .add(format!("spec.allocationRatios.{field}"), error.to_string());
        }
    }
}

fn reserved(new: &Hypervisor, findings: &mut Findings) {
    let capacity = new.status.as_ref().and_then(|status| status.capacity);
    if let (Some(reserved), Some(capacity)) = (&new.spec.reserved, capacity) {
        let amounts = [
            ("vcpus", u64::from(reserved.vcpus), u64::from(capacity.vcpus)),
            ("memory", reserved.memory.unwrap_or_default().0, capacity.memory.0),
            ("disk", reserved.disk.0, capacity.disk.0),
        ];
        for (field, reserved, capacity) in amounts {
            if reserved > 0 && reserved >= capacity {
                findings.warn(
                    &format!("spec.reserved.{field}"),
                    "is all that the host has: nothing can be placed there",
                );
            }
        }
    }
}

/// How its CPUs are cut. CPUs that it doesn't have are told by its agent, for a host may be described before it is there.
fn cpus(new: &Hypervisor, findings: &mut Findings) {
    match hypervisor::partition(&new.spec) {
        Err(problems) => findings.problems.extend(problems),
        Ok(partition) if partition.shared_count(1) == 0 => findings.warn(
            "spec.cpus.shared",
            "names no CPU: Instances without dedicated CPUs can't be placed there",
        ),
        Ok(_) => {}
    }
}

/// A host's own zone must be that of its aggregates.
fn zone(new: &Hypervisor, stores: &Stores, findings: &mut Findings) {
    let Some(own) = &new.spec.availability_zone else {
        return;
    };
    let mut without = new.clone();
    without.spec.availability_zone = None;
    let all = Aggregates::new(stores.host_aggregates.state());
    if let Some(zone) = all.zone(&without).filter(|zone| zone.name != own)
        && let Source::Aggregate(by) = zone.source
    {
        let message = format!(
            "the host is in zone {} by HostAggregate {by}: leave this field out, or take the host out of there",
            zone.name
        );
        findings.problems.add("spec.availabilityZone", message);
    }
}

pub(super) fn host_aggregate(new: &HostAggregate, stores: &Stores) -> Findings {
    let mut findings = Findings {
        problems: host_aggregate::validate(&new.spec),
        warnings: Vec::new(),
    };
    let new = Arc::new(new.clone());
    let name = new.name_any();
    let others = stores.host_aggregates.state();
    let others = others.into_iter().filter(|other| other.name_any() != name);
    let all = Aggregates::new(others.chain([new.clone()]));
    let hosts = stores.hypervisors.state();
    for conflict in all.conflicts(&new, &hosts).into_iter().take(TOLD) {
        let message = format!("{conflict}: a host has one zone; take it out of one of them");
        findings.problems.add("spec.availabilityZone", message);
    }
    for missing in new.spec.hypervisors.iter().flatten() {
        if !hosts.iter().any(|host| host.name_any() == *missing) {
            let message = format!("there is no Hypervisor {missing:?} yet");
            findings.warn("spec.hypervisors", &message);
        }
    }
    findings
}
