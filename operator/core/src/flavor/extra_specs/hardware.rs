//! What do extra specs and image properties say of a guest's NUMA nodes, CPUs, pages and devices?
//!
//! Source of the rules: Nova's validators (`nova/api/validation/extra_specs/hw.py`, `pci.py`) and its reading of them
//! (`nova/virt/hardware.py`). An image's property has the name of the Flavor's key with `_` for `:`.

use std::{collections::BTreeMap, str::FromStr};

use virga_scheduler::topology::{CpuSet, EmulatorThreads, PageSize, PciAffinity, ThreadPolicy};

use crate::nearest::did_you_mean;

/// The most NUMA nodes of a guest.
const MOST_NODES: u32 = 16;
/// The most devices of one alias.
const MOST_DEVICES: u32 = 32;
/// The most aliases that one Flavor asks for.
const MOST_ALIASES: usize = 16;

/// Keys, without `hw:`, that an image may have as well.
pub const OF_IMAGES: [&str; 5] = [
    "cpu_policy",
    "cpu_thread_policy",
    "mem_page_size",
    "numa_nodes",
    "pci_numa_affinity_policy",
];
/// Keys that end in the number of a NUMA node, for both.
pub const BY_NODE: [&str; 2] = ["numa_cpus.", "numa_mem."];

/// What was said; nothing where it was not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hardware {
    /// `cpu_policy`.
    pub cpu_policy: Option<CpuPolicy>,
    /// `cpu_thread_policy`.
    pub thread_policy: Option<ThreadPolicy>,
    /// `cpu_dedicated_mask`.
    pub dedicated_mask: Option<Mask>,
    /// `emulator_threads_policy`.
    pub emulator_threads: Option<EmulatorThreads>,
    /// `mem_page_size`.
    pub page_size: Option<PageSize>,
    /// `numa_nodes`.
    pub nodes: Option<u32>,
    /// `numa_cpus.N`.
    pub cpus_of: BTreeMap<u32, CpuSet>,
    /// `numa_mem.N`, in MiB.
    pub memory_of: BTreeMap<u32, u64>,
    /// `pci_numa_affinity_policy`.
    pub pci_affinity: Option<PciAffinity>,
    /// `pci_passthrough:alias`: how many of each.
    pub devices: BTreeMap<String, u32>,
}

/// Whether virtual CPUs have CPUs of the host's to themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuPolicy {
    /// None has.
    Shared,
    /// All have.
    Dedicated,
    /// Those of the mask have.
    Mixed,
}

/// Which virtual CPUs have a CPU of their own under the policy `mixed`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mask {
    /// These.
    Of(CpuSet),
    /// All but these: the mask begins with `^`.
    AllBut(CpuSet),
}

impl Hardware {
    /// Reads a key, without `hw:`; `None` when it is none of these.
    pub fn read(&mut self, key: &str, value: &str) -> Option<Result<(), String>> {
        let by_node = BY_NODE.into_iter().find_map(|prefix| {
            let node = key.strip_prefix(prefix)?;
            let is_number = !node.is_empty() && node.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then_some((prefix, node))
        });
        if let Some((prefix, node)) = by_node {
            return Some(self.of_node(prefix, node, value));
        }
        Some(match key {
            "cpu_policy" => set(&mut self.cpu_policy, value, &CPU_POLICIES),
            "cpu_thread_policy" => set(&mut self.thread_policy, value, &THREAD_POLICIES),
            "cpu_dedicated_mask" => mask(value).map(|mask| self.dedicated_mask = Some(mask)),
            "emulator_threads_policy" => set(&mut self.emulator_threads, value, &EMULATOR_POLICIES),
            "mem_page_size" => page_size(value).map(|size| self.page_size = Some(size)),
            "numa_nodes" => number(value, 1, MOST_NODES).map(|nodes| self.nodes = Some(nodes)),
            "pci_numa_affinity_policy" => set(&mut self.pci_affinity, value, &AFFINITIES),
            _ => return None,
        })
    }

    /// `pci_passthrough:alias`: `name:count` with commas between several, as Nova writes it.
    pub(super) fn aliases(&mut self, value: &str) -> Result<(), String> {
        for part in value.split(',') {
            let (alias, count) = part
                .trim()
                .split_once(':')
                .ok_or_else(|| format!("{part:?} names no count: write ALIAS:COUNT, such as a100:2"))?;
            let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            let ends_well = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
            let named = ends_well(alias.chars().next()) && ends_well(alias.chars().last());
            if alias.len() > 63 || !named || !alias.chars().all(legal) {
                return Err(format!(
                    "{alias:?} is no alias of devices: letters and digits, with '.', '_' and '-' between them"
                ));
            }
            let asked = self.devices.entry(alias.to_owned()).or_default();
            *asked += number(count, 1, MOST_DEVICES)?;
            if *asked > MOST_DEVICES {
                return Err(format!(
                    "more than {MOST_DEVICES} of {alias} are asked for: ask for fewer"
                ));
            }
        }
        if self.devices.len() > MOST_ALIASES {
            return Err(format!("has more than {MOST_ALIASES} aliases: ask for fewer kinds"));
        }
        Ok(())
    }

    /// Whether nothing was said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn of_node(&mut self, prefix: &str, node: &str, value: &str) -> Result<(), String> {
        let node = number(node, 0, MOST_NODES - 1)?;
        if prefix == "numa_cpus." {
            let cpus = CpuSet::from_str(value).map_err(|error| error.to_string())?;
            if cpus.is_empty() {
                return Err("names no CPU: write the guest's CPUs of this node, such as 0-3".into());
            }
            self.cpus_of.insert(node, cpus);
        } else {
            let mib = number(value, 1, i32::MAX.unsigned_abs())?;
            self.memory_of.insert(node, mib.into());
        }
        Ok(())
    }
}

const CPU_POLICIES: [(&str, CpuPolicy); 3] = [
    ("shared", CpuPolicy::Shared),
    ("dedicated", CpuPolicy::Dedicated),
    ("mixed", CpuPolicy::Mixed),
];
const THREAD_POLICIES: [(&str, ThreadPolicy); 3] = [
    ("prefer", ThreadPolicy::Prefer),
    ("isolate", ThreadPolicy::Isolate),
    ("require", ThreadPolicy::Require),
];
const EMULATOR_POLICIES: [(&str, EmulatorThreads); 2] =
    [("share", EmulatorThreads::Share), ("isolate", EmulatorThreads::Isolate)];
const AFFINITIES: [(&str, PciAffinity); 4] = [
    ("required", PciAffinity::Required),
    ("legacy", PciAffinity::Legacy),
    ("preferred", PciAffinity::Preferred),
    ("socket", PciAffinity::Socket),
];
const PAGE_SIZES: [(&str, PageSize); 3] = [
    ("small", PageSize::Small),
    ("large", PageSize::Large),
    ("any", PageSize::Any),
];
/// Units of a page's size in KiB (oslo.utils' `string_to_bytes`, as Nova uses it); without one, it is KiB.
const UNITS: [(&str, u64); 8] = [
    ("KiB", 1),
    ("MiB", 1 << 10),
    ("GiB", 1 << 20),
    ("KB", 1),
    ("MB", 1 << 10),
    ("GB", 1 << 20),
    ("Mi", 1 << 10),
    ("Gi", 1 << 20),
];

/// Takes the value that a word stands for.
pub fn set<T: Copy>(into: &mut Option<T>, value: &str, words: &[(&str, T)]) -> Result<(), String> {
    let Some((_, found)) = words.iter().find(|(word, _)| *word == value) else {
        let known = words.iter().map(|(word, _)| *word);
        let listed: Vec<&str> = known.clone().collect();
        let meant = did_you_mean(value, known);
        return Err(format!("{value:?} is not known: write {}{meant}", listed.join(" or ")));
    };
    *into = Some(*found);
    Ok(())
}

/// A whole number within bounds.
pub fn number(text: &str, least: u32, most: u32) -> Result<u32, String> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text
        .parse()
        .ok()
        .filter(|number| plain && (least..=most).contains(number));
    number.ok_or_else(|| format!("{text:?} is not taken: write a whole number from {least} to {most}"))
}

fn mask(value: &str) -> Result<Mask, String> {
    let (all_but, text) = match value.strip_prefix('^') {
        // `^0-1,^3` leaves out both; `^` binds to one part in a set and to all here, as in Nova.
        Some(_) => (true, value.replace('^', "")),
        None => (false, value.to_owned()),
    };
    let cpus = CpuSet::from_str(&text).map_err(|error| error.to_string())?;
    if cpus.is_empty() {
        return Err(
            "names no CPU: write the guest's CPUs that are dedicated, such as 2-3, or those that are not, such as ^0"
                .into(),
        );
    }
    Ok(if all_but { Mask::AllBut(cpus) } else { Mask::Of(cpus) })
}

fn page_size(value: &str) -> Result<PageSize, String> {
    if let Some((_, size)) = PAGE_SIZES.iter().find(|(word, _)| *word == value) {
        return Ok(*size);
    }
    let (digits, unit) = UNITS
        .iter()
        .find_map(|(suffix, unit)| Some((value.strip_suffix(suffix)?, *unit)))
        .unwrap_or((value, 1));
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let kib = digits
        .parse::<u64>()
        .ok()
        .filter(|_| plain)
        .and_then(|n| n.checked_mul(unit));
    match kib {
        Some(kib) if kib.is_power_of_two() && (4..=16 << 20).contains(&kib) => Ok(PageSize::Kib(kib)),
        _ => Err(format!(
            "{value:?} is no size of pages: write small, large, any, or a size such as 2MB or 1GB"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(key: &str, value: &str) -> Result<Hardware, String> {
        let mut hardware = Hardware::default();
        hardware.read(key, value).unwrap().map(|()| hardware)
    }

    #[test]
    fn sizes_of_pages_are_read_with_and_without_a_unit() {
        for (text, size) in [
            ("small", PageSize::Small),
            ("2048", PageSize::Kib(2048)),
            ("2MB", PageSize::Kib(2048)),
            ("2Mi", PageSize::Kib(2048)),
            ("1GiB", PageSize::Kib(1 << 20)),
        ] {
            assert_eq!(page_size(text), Ok(size), "{text}");
        }
        for text in ["", "huge", "3MB", "-2MB", "2", "1TB", "99999999999999999999GB"] {
            assert!(page_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_mask_names_those_that_are_dedicated_or_those_that_are_not() {
        let cpus = |text: &str| CpuSet::from_str(text).unwrap();
        assert_eq!(mask("2-3"), Ok(Mask::Of(cpus("2,3"))));
        assert_eq!(mask("^0-1"), Ok(Mask::AllBut(cpus("0,1"))));
        assert_eq!(mask("^0,^1"), Ok(Mask::AllBut(cpus("0,1"))));
        assert!(mask("").is_err() && mask("^").is_err() && mask("x").is_err());
    }

    #[test]
    fn devices_are_counted_by_alias() {
        let mut hardware = Hardware::default();
        assert_eq!(hardware.aliases("a100:2, nic.fast:1,a100:1"), Ok(()));
        let devices = [("a100".to_owned(), 3), ("nic.fast".to_owned(), 1)];
        assert_eq!(hardware.devices, devices.into());
        for wrong in ["", "a100", "a100:0", "a100:x", ":1", "a 1:1", "a100:33", "-a:1"] {
            assert!(Hardware::default().aliases(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_a_node_has_is_read_by_its_number() {
        assert_eq!(read("numa_mem.1", "512").unwrap().memory_of, [(1, 512)].into());
        assert_eq!(read("numa_cpus.0", "0-1").unwrap().cpus_of.len(), 1);
        assert!(read("numa_cpus.16", "0").unwrap_err().contains("from 0 to 15"));
        assert!(read("numa_cpus.0", "").unwrap_err().contains("names no CPU"));
        assert!(Hardware::default().read("numa_cpus.x", "0").is_none());
        assert!(Hardware::default().read("cpu_sockets", "1").is_none());
    }

    #[test]
    fn a_word_that_is_none_is_told_with_those_that_are() {
        let said = read("cpu_policy", "dedicatd").unwrap_err();
        assert!(
            said.contains("write shared or dedicated or mixed; did you mean dedicated?"),
            "{said}"
        );
    }
}
