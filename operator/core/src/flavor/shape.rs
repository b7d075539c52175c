//! What does a guest ask of its host's CPUs, cells and devices? A Flavor and an image together, by Nova's rules.
//!
//! Nova: `numa_get_constraints` (nova/virt/hardware.py) and `get_pci_requests_from_flavor` (nova/pci/request.py). The
//! Flavor sets the bounds, and the image chooses within them.

use std::collections::BTreeMap;

use virga_scheduler::topology::{
    CpuSet, EmulatorThreads, GuestCell, GuestTopology, PageSize, PciAffinity, PciRequest, ThreadPolicy,
};

use super::extra_specs::{CpuPolicy, Hardware, Mask, PCPU};
use crate::problem::Problems;

const MIB: u64 = 1 << 20;

/// What a guest asks of its host's CPUs, cells and devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// NUMA nodes, CPUs of its own and pages; absent when it asks for none of these.
    pub topology: Option<GuestTopology>,
    /// Devices.
    pub devices: Vec<PciRequest>,
}

impl Shape {
    /// How many CPUs of the host's it has to itself, with the one of QEMU's threads: units of Placement's class `PCPU`.
    pub fn pcpus(&self) -> u32 {
        let Some(topology) = &self.topology else { return 0 };
        let own: usize = topology.cells.iter().map(|cell| cell.dedicated.len()).sum();
        let emulator = u32::from(topology.emulator_threads == EmulatorThreads::Isolate);
        u32::try_from(own).unwrap_or(u32::MAX).saturating_add(emulator)
    }

    /// How many of its virtual CPUs, of which there are `all`, share the host's.
    pub fn vcpus(&self, all: u32) -> u32 {
        let cells = self.topology.iter().flat_map(|topology| &topology.cells);
        let own: usize = cells.map(|cell| cell.dedicated.len()).sum();
        all.saturating_sub(u32::try_from(own).unwrap_or(u32::MAX))
    }
}

/// The amounts that are cut into NUMA nodes.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory in bytes.
    pub memory_bytes: u64,
}

/// The shape of a guest of this size, whose Flavor says `flavor` and whose image says `image`; or all that is wrong with
/// them. The fields are those of the Flavor, unless only the image can be wrong.
pub fn shape(size: Size, flavor: &Hardware, image: &Hardware) -> Result<Shape, Problems> {
    let mut problems = Problems::default();
    let cells = Cells::of(size, flavor, image, &mut problems);
    let affinity = affinity(flavor, image, &mut problems);
    problems.or(|| Shape {
        topology: cells,
        devices: flavor
            .devices
            .iter()
            .map(|(alias, count)| PciRequest {
                alias: alias.clone(),
                count: *count,
                affinity,
            })
            .collect(),
    })
}

fn key(name: &str) -> String {
    format!("spec.extraSpecs[hw:{name}]")
}

fn property(name: &str) -> String {
    format!("spec.properties[hw_{name}]")
}

struct Cells;

impl Cells {
    fn of(size: Size, flavor: &Hardware, image: &Hardware, problems: &mut Problems) -> Option<GuestTopology> {
        let policy = cpu_policy(flavor, image, problems);
        let thread_policy = thread_policy(policy, flavor, image, problems);
        let page_size = page_size(flavor, image, problems);
        let dedicated = dedicated(size.vcpus, policy, flavor, problems);
        let emulator_threads = emulator_threads(policy, flavor, problems);
        let cells = nodes(size, flavor, image, problems);
        let nothing = cells.is_none() && policy == CpuPolicy::Shared && page_size.is_none();
        if nothing || !problems.is_empty() {
            return None;
        }
        let one = || vec![(all(size.vcpus), size.memory_bytes)];
        let cells = cells
            .unwrap_or_else(one)
            .into_iter()
            .map(|(vcpus, memory_bytes)| GuestCell {
                dedicated: vcpus.intersection(&dedicated),
                vcpus,
                memory_bytes,
            });
        Some(GuestTopology {
            cells: cells.collect(),
            page_size,
            thread_policy,
            emulator_threads,
        })
    }
}

fn all(vcpus: u32) -> CpuSet {
    (0..vcpus).collect()
}

fn cpu_policy(flavor: &Hardware, image: &Hardware, problems: &mut Problems) -> CpuPolicy {
    let forbidden = match (flavor.cpu_policy, image.cpu_policy) {
        (Some(CpuPolicy::Mixed), Some(CpuPolicy::Dedicated)) => Some("mixed"),
        (Some(CpuPolicy::Shared), Some(CpuPolicy::Dedicated | CpuPolicy::Mixed)) => Some("shared"),
        _ => None,
    };
    if let Some(word) = forbidden {
        let message = format!(
            "asks for more CPUs of its own than the Flavor lets it have, whose hw:cpu_policy is {word}: name another Flavor or Image"
        );
        problems.add(property("cpu_policy"), message);
    }
    flavor.cpu_policy.or(image.cpu_policy).unwrap_or(CpuPolicy::Shared)
}

fn thread_policy(policy: CpuPolicy, flavor: &Hardware, image: &Hardware, problems: &mut Problems) -> ThreadPolicy {
    if policy == CpuPolicy::Shared {
        let message = "is for CPUs of its own: set hw:cpu_policy to dedicated or mixed, or leave it out";
        if flavor.thread_policy.is_some() {
            problems.add(key("cpu_thread_policy"), message);
        } else if image.thread_policy.is_some() {
            problems.add(property("cpu_thread_policy"), message);
        }
    }
    match (flavor.thread_policy, image.thread_policy) {
        (None | Some(ThreadPolicy::Prefer), of_image) => flavor.thread_policy.or(of_image).unwrap_or_default(),
        (Some(of_flavor), Some(of_image)) if of_flavor != of_image => {
            let message = "is not that of the Flavor's hw:cpu_thread_policy: name another Flavor or Image";
            problems.add(property("cpu_thread_policy"), message);
            of_flavor
        }
        (Some(of_flavor), _) => of_flavor,
    }
}

fn page_size(flavor: &Hardware, image: &Hardware, problems: &mut Problems) -> Option<PageSize> {
    match (flavor.page_size, image.page_size) {
        (of_flavor, None) => of_flavor,
        (Some(PageSize::Any | PageSize::Large), of_image) => of_image,
        (_, Some(_)) => {
            let message = "may be chosen by an image only where the Flavor's hw:mem_page_size is any or large: name another Flavor or Image";
            problems.add(property("mem_page_size"), message);
            None
        }
    }
}

/// Those of the virtual CPUs that have a CPU of the host's to themselves.
fn dedicated(vcpus: u32, policy: CpuPolicy, flavor: &Hardware, problems: &mut Problems) -> CpuSet {
    let all = all(vcpus);
    match (policy, &flavor.dedicated_mask) {
        (CpuPolicy::Shared, None) => CpuSet::new(),
        (CpuPolicy::Dedicated, None) => all,
        (CpuPolicy::Mixed, None) => {
            let message = "names which CPUs are dedicated when hw:cpu_policy is mixed: write it, such as 2-3";
            problems.add(key("cpu_dedicated_mask"), message);
            CpuSet::new()
        }
        (CpuPolicy::Mixed, Some(mask)) => {
            let (Mask::Of(named) | Mask::AllBut(named)) = mask;
            let dedicated = match mask {
                Mask::Of(named) => all.intersection(named),
                Mask::AllBut(named) => all.difference(named),
            };
            if !named.is_subset(&all) {
                let message = format!(
                    "names CPUs that the guest doesn't have: it has 0-{}",
                    vcpus.saturating_sub(1)
                );
                problems.add(key("cpu_dedicated_mask"), message);
            } else if dedicated.is_empty() || dedicated == all {
                let message = "leaves all CPUs or none dedicated: set hw:cpu_policy to dedicated or shared instead";
                problems.add(key("cpu_dedicated_mask"), message);
            }
            dedicated
        }
        (_, Some(_)) => {
            problems.add(
                key("cpu_dedicated_mask"),
                "is for hw:cpu_policy mixed: set that, or leave it out",
            );
            CpuSet::new()
        }
    }
}

fn emulator_threads(policy: CpuPolicy, flavor: &Hardware, problems: &mut Problems) -> EmulatorThreads {
    if policy == CpuPolicy::Shared && flavor.emulator_threads == Some(EmulatorThreads::Isolate) {
        let message = "can be isolate only where CPUs are dedicated: set hw:cpu_policy to dedicated or mixed";
        problems.add(key("emulator_threads_policy"), message);
    }
    flavor.emulator_threads.unwrap_or_default()
}

fn affinity(flavor: &Hardware, image: &Hardware, problems: &mut Problems) -> PciAffinity {
    if let (Some(of_flavor), Some(of_image)) = (flavor.pci_affinity, image.pci_affinity)
        && of_flavor != of_image
    {
        let message = "is not that of the Flavor's hw:pci_numa_affinity_policy: name another Flavor or Image";
        problems.add(property("pci_numa_affinity_policy"), message);
    }
    flavor.pci_affinity.or(image.pci_affinity).unwrap_or_default()
}

/// CPUs and bytes of memory of each NUMA node, when NUMA nodes are asked for.
fn nodes(size: Size, flavor: &Hardware, image: &Hardware, problems: &mut Problems) -> Option<Vec<(CpuSet, u64)>> {
    let told = |hardware: &Hardware| {
        hardware.nodes.is_some() || !hardware.cpus_of.is_empty() || !hardware.memory_of.is_empty()
    };
    if told(flavor) && told(image) {
        let message = "can't be said by an image when the Flavor says it: name another Flavor or Image";
        problems.add(property("numa_nodes"), message);
        return None;
    }
    let (by, field): (_, fn(&str) -> String) = if told(image) { (image, property) } else { (flavor, key) };
    let count = by.nodes.unwrap_or(1);
    let by_hand = !by.cpus_of.is_empty() || !by.memory_of.is_empty();
    if by_hand {
        return by_node(size, count, by, field, problems);
    }
    by.nodes?;
    let (cpus_each, memory_each) = (size.vcpus / count, size.memory_bytes / u64::from(count));
    let even = size.vcpus.is_multiple_of(count) && size.memory_bytes.is_multiple_of(u64::from(count) * MIB);
    if !even || cpus_each == 0 {
        let message = format!(
            "can't cut {} CPUs and {} MiB of memory into {count} equal nodes: write numa_cpus.N and numa_mem.N for each",
            size.vcpus,
            size.memory_bytes / MIB
        );
        problems.add(field("numa_nodes"), message);
        return None;
    }
    let cpus = |node: u32| (node * cpus_each..(node + 1) * cpus_each).collect();
    Some((0..count).map(|node| (cpus(node), memory_each)).collect())
}

/// Nodes that are cut by hand: each must be told, and together they are all that there is.
fn by_node(
    size: Size,
    count: u32,
    by: &Hardware,
    field: fn(&str) -> String,
    problems: &mut Problems,
) -> Option<Vec<(CpuSet, u64)>> {
    let before = problems.iter().count();
    let beyond = by.cpus_of.keys().map(|node| ("numa_cpus", node));
    let beyond = beyond.chain(by.memory_of.keys().map(|node| ("numa_mem", node)));
    for (name, node) in beyond.filter(|(_, node)| **node >= count) {
        let message = format!("is of a node beyond the last: there are {count}, counted from 0; set numa_nodes");
        problems.add(field(&format!("{name}.{node}")), message);
    }
    let (mut nodes, mut taken, mut memory) = (Vec::new(), CpuSet::new(), 0_u64);
    for node in 0..count {
        let (Some(cpus), Some(mib)) = (by.cpus_of.get(&node), by.memory_of.get(&node)) else {
            let name = if by.cpus_of.contains_key(&node) {
                "numa_mem"
            } else {
                "numa_cpus"
            };
            let message = "is missing: a guest that is cut by hand needs numa_cpus.N and numa_mem.N of each node";
            problems.add(field(&format!("{name}.{node}")), message);
            continue;
        };
        if !cpus.is_subset(&all(size.vcpus)) {
            let message = format!(
                "names CPUs that the guest doesn't have: it has 0-{}",
                size.vcpus.saturating_sub(1)
            );
            problems.add(field(&format!("numa_cpus.{node}")), message);
        }
        let twice = cpus.intersection(&taken);
        if !twice.is_empty() {
            let message = format!("names the CPUs {twice}, which another node has: a CPU is in one node");
            problems.add(field(&format!("numa_cpus.{node}")), message);
        }
        taken = taken.union(cpus);
        memory = memory.saturating_add(mib * MIB);
        nodes.push((cpus.clone(), mib * MIB));
    }
    if problems.iter().count() > before {
        return None;
    }
    let left = all(size.vcpus).difference(&taken);
    if !left.is_empty() {
        problems.add(
            field("numa_cpus.0"),
            format!("leaves out the CPUs {left}: put each into one node"),
        );
    }
    if memory != size.memory_bytes {
        let message = format!(
            "is {} MiB in all nodes together, and the Flavor has {}: make them equal",
            memory / MIB,
            size.memory_bytes / MIB
        );
        problems.add(field("numa_mem.0"), message);
    }
    (problems.iter().count() == before).then_some(nodes)
}

/// What an image says; what can't be read is as if it were not said, for an Image is checked when it is written.
pub fn image_hardware(properties: &BTreeMap<String, String>) -> Hardware {
    let mut hardware = Hardware::default();
    for (name, value) in properties {
        if let Some(key) = image_key(name) {
            // A property that is wrong leaves nothing behind.
            let _ = hardware.read(key, value);
        }
    }
    hardware
}

/// The Flavor's key, without `hw:`, that a property of an image stands for.
pub fn image_key(property: &str) -> Option<&str> {
    use super::extra_specs::{BY_NODE, OF_IMAGES};
    let key = property.strip_prefix("hw_")?;
    (OF_IMAGES.contains(&key) || BY_NODE.iter().any(|prefix| key.starts_with(prefix))).then_some(key)
}

/// The Flavor that writes `resources:PCPU` asks for dedicated CPUs as one with `hw:cpu_policy` does.
pub(super) fn placement_native(
    resources: &mut BTreeMap<String, u32>,
    vcpus: u32,
    hardware: &mut Hardware,
) -> Result<(), String> {
    let Some(pcpus) = resources.remove(PCPU) else {
        return Ok(());
    };
    if hardware.cpu_policy.is_some() {
        return Err("says the same as hw:cpu_policy: leave one of the two out".into());
    }
    if pcpus != vcpus {
        return Err(format!(
            "must be the Flavor's vcpus, {vcpus}, or not be there: for some dedicated CPUs write hw:cpu_policy mixed"
        ));
    }
    hardware.cpu_policy = Some(CpuPolicy::Dedicated);
    Ok(())
}

#[cfg(test)]
mod tests;
