//! What is wrong with an [`Affinity`].

use std::collections::BTreeSet;

use super::{Affinity, GuestCell};
use crate::cpu_list::LARGEST_CPU;
use crate::error::Problems;
use crate::pci::PciAddress;

/// The most NUMA nodes that a guest has: more than any machine that is made.
const MAX_CELLS: usize = 64;
/// The largest number of a host's cell (Linux: `MAX_NUMNODES` is at most 1024).
const LARGEST_CELL: u32 = 1023;
/// The most devices that are passed through to one guest: more than a bus has slots for.
const MAX_DEVICES: usize = 64;

pub fn validate(problems: &mut Problems, affinity: &Affinity, vcpus: u32, memory_bytes: u64) {
    match affinity {
        Affinity::Any => {}
        Affinity::Cpus(cpus) => {
            problems.check(!cpus.is_empty(), "affinity.cpus", "must not be empty");
            check_cpus(problems, "affinity.cpus", cpus);
        }
        Affinity::Cells { cells, emulator } => {
            check_cpus(problems, "affinity.emulator", emulator);
            validate_cells(problems, cells, vcpus, memory_bytes);
        }
    }
}

fn validate_cells(problems: &mut Problems, cells: &[GuestCell], vcpus: u32, memory_bytes: u64) {
    let field = "affinity.cells";
    problems.check(
        (1..=MAX_CELLS).contains(&cells.len()),
        field,
        format!("must be 1 to {MAX_CELLS}"),
    );
    let mut seen = BTreeSet::new();
    let mut memory: u64 = 0;
    for (index, cell) in cells.iter().enumerate() {
        let field = |name: &str| format!("affinity.cells[{index}].{name}");
        problems.check(!cell.vcpus.is_empty(), field("vcpus"), "must not be empty");
        for (vcpu, cpus) in &cell.vcpus {
            let new = seen.insert(*vcpu);
            problems.check(new, field("vcpus"), format!("{vcpu} is in another cell too"));
            problems.check(!cpus.is_empty(), field("vcpus"), format!("{vcpu} has no CPU to run on"));
            check_cpus(problems, &field("vcpus"), cpus);
        }
        problems.check(
            cell.memory_bytes > 0 && cell.memory_bytes.is_multiple_of(1024),
            field("memoryBytes"),
            "must be a multiple of 1024 and not 0",
        );
        memory = memory.saturating_add(cell.memory_bytes);
        problems.check(
            cell.host_cell <= LARGEST_CELL,
            field("hostCell"),
            format!("{} is above {LARGEST_CELL}", cell.host_cell),
        );
        if let Some(size) = cell.huge_pages_kib {
            let whole = size.is_power_of_two() && (cell.memory_bytes / 1024).is_multiple_of(size);
            problems.check(
                whole,
                field("hugePagesKib"),
                format!("{size} must be a power of two, and the memory a multiple of it"),
            );
        }
    }
    problems.check(
        seen.len() == usize::try_from(vcpus).unwrap_or(usize::MAX) && seen.iter().all(|vcpu| *vcpu < vcpus),
        field,
        format!("must have each of the {vcpus} virtual CPUs in one cell"),
    );
    problems.check(
        memory == memory_bytes,
        field,
        format!("have {memory} bytes of memory together, and the domain has {memory_bytes}"),
    );
}

pub fn validate_devices(problems: &mut Problems, devices: &[PciAddress]) {
    let field = "pciDevices";
    problems.check(devices.len() <= MAX_DEVICES, field, format!("more than {MAX_DEVICES}"));
    let mut seen = BTreeSet::new();
    for device in devices {
        problems.check(seen.insert(device), field, format!("{device} is there twice"));
        // The fields are public: an address that nothing can have may have been made past the constructor.
        let PciAddress { slot, function, .. } = device;
        problems.check(
            *slot < 32 && *function < 8,
            field,
            format!("{device} can't be an address"),
        );
    }
}

fn check_cpus(problems: &mut Problems, field: &str, cpus: &BTreeSet<u32>) {
    let largest = cpus.last().copied().unwrap_or_default();
    problems.check(
        largest <= LARGEST_CPU,
        field,
        format!("{largest} is above {LARGEST_CPU}"),
    );
}
