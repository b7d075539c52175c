//! What does a Flavor ask for beyond its size? Its extra specs, read by Nova's rules.
//!
//! Source of the rules: Nova's extra spec validators (`nova/api/validation/extra_specs`), its reading of `resources` and
//! `trait` (`nova/scheduler/utils.py`), and its operators (`nova/scheduler/filters/extra_specs_ops.py`).

mod hardware;
mod known;
mod operator;

use std::collections::{BTreeMap, BTreeSet};

use virga_crds::{Bytes, FlavorSpec, Resources};

pub use hardware::{BY_NODE, CpuPolicy, Hardware, Mask, OF_IMAGES, number, set};
pub(crate) use known::image_refusal;

use super::machine::{self, Asked, Machine, image_asked};
use super::shape::{Shape, Size, image_hardware, placement_native, shape};
use crate::{
    hypervisor::{check_resource_class, check_trait},
    nearest::{did_you_mean, nearest},
    problem::Problems,
};

/// The classes that a Flavor's own fields fill, and that extra specs may fill otherwise.
const VCPU: &str = "VCPU";
/// See [`VCPU`].
const MEMORY_MB: &str = "MEMORY_MB";
/// See [`VCPU`].
const DISK_GB: &str = "DISK_GB";
/// The class of CPUs that are given to one guest each.
pub const PCPU: &str = "PCPU";

/// Placement's largest amount.
const MOST: u32 = 2_147_483_647;
/// The longest suffix of a group (Nova's `[a-zA-Z0-9_-]{1,64}`).
const LONGEST_SUFFIX: usize = 64;

/// What a Flavor asks for beyond its size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtraSpecs {
    /// Amounts by class. Those of VCPU, MEMORY_MB and DISK_GB stand for what the Flavor's own fields say; 0: none is
    /// counted. See [`counted`](Self::counted) and [`units`](Self::units).
    pub resources: BTreeMap<String, u32>,
    /// Traits that the host must have.
    pub required: BTreeSet<String>,
    /// Of each of these sets the host must have one.
    pub any_of: BTreeSet<BTreeSet<String>>,
    /// Traits that the host must not have.
    pub forbidden: BTreeSet<String>,
    /// What the metadata of the host's aggregates must say: key, and operator with value.
    pub aggregate: BTreeMap<String, String>,
    /// What must hold of the host itself: path, and operator with value.
    pub capabilities: BTreeMap<String, String>,
    /// NUMA nodes, CPUs of its own, pages and devices.
    pub hardware: Hardware,
    /// The guest's machine, and how much of its host it may use.
    pub machine: Asked,
}

impl ExtraSpecs {
    /// The machine that a guest with so many virtual CPUs sees with an image that has these properties, or what the
    /// image contradicts. Without properties there is no image, and will be none.
    pub fn machine(&self, vcpus: u32, image: Option<&BTreeMap<String, String>>) -> Result<Machine, Problems> {
        let image = image.map(image_asked).unwrap_or_default();
        machine::machine(vcpus, &self.machine, Some(&image))
    }

    /// The traits that a host needs for that machine.
    pub fn machine_traits(&self, image: Option<&BTreeMap<String, String>>) -> BTreeSet<String> {
        machine::required(&self.machine, image.map(image_asked).as_ref())
    }

    /// What a guest of this size asks of CPUs, cells and devices with an image that has these properties, or what the
    /// image contradicts.
    pub fn shape(&self, size: Resources, image: Option<&BTreeMap<String, String>>) -> Result<Shape, Problems> {
        let size = Size {
            vcpus: size.vcpus,
            memory_bytes: size.memory.0,
        };
        shape(size, &self.hardware, &image.map(image_hardware).unwrap_or_default())
    }

    /// What is counted for an Instance of this shape whose Flavor by itself gives `own`: by the scheduler, and by the
    /// host's agent. CPUs of its own are counted apart, see [`units`](Self::units).
    pub fn counted(&self, own: Resources, shape: &Shape) -> Resources {
        let said = |class: &str| self.resources.get(class).copied();
        Resources {
            vcpus: said(VCPU).unwrap_or_else(|| shape.vcpus(own.vcpus)),
            memory: said(MEMORY_MB).map_or(own.memory, |mib| Bytes::mib(mib.into())),
            disk: said(DISK_GB).map_or(own.disk, |gib| Bytes::gib(gib.into())),
        }
    }

    /// Units of the operators' own classes and of `PCPU`, none of 0.
    pub fn units(&self, shape: &Shape) -> BTreeMap<String, u64> {
        let apart = |class: &str| [VCPU, MEMORY_MB, DISK_GB].contains(&class);
        let units = self.resources.iter().filter(|(class, _)| !apart(class));
        let units = units.map(|(class, amount)| (class.clone(), u64::from(*amount)));
        let pinned = (PCPU.to_owned(), u64::from(shape.pcpus()));
        units.chain([pinned]).filter(|(_, amount)| *amount > 0).collect()
    }
}

/// What a Flavor's extra specs ask for, or all that is wrong with them.
pub fn extra_specs(spec: &FlavorSpec) -> Result<ExtraSpecs, Problems> {
    let mut read = Reader::default();
    for (key, value) in &spec.extra_specs {
        if let Err(message) = read.one(key, value) {
            read.problems.add(field(key), message);
        }
    }
    read.contradictions();
    read.shape(spec);
    let Reader { found, problems, .. } = read;
    problems.or(|| found)
}

fn field(key: &str) -> String {
    format!("spec.extraSpecs[{key}]")
}

#[derive(Default)]
struct Reader {
    found: ExtraSpecs,
    isolate: bool,
    /// The suffixes of groups.
    groups: BTreeSet<String>,
    problems: Problems,
}

impl Reader {
    fn one(&mut self, key: &str, value: &str) -> Result<(), String> {
        if let Some(why) = known::refusal(key) {
            return Err(format!(
                "is known to Nova, but not carried out here: {why}; leave it out"
            ));
        }
        if let Some(read) = self.found.machine.read_spec(key, value) {
            return read;
        }
        if key == "group_policy" {
            self.isolate = match value {
                "none" => false,
                "isolate" => true,
                _ => return Err(format!("{value:?} is no policy: write none or isolate")),
            };
            return Ok(());
        }
        let Some((scope, name)) = key.split_once(':') else {
            return Err(unscoped(key));
        };
        if let Some(suffix) = suffix_of(scope, "resources") {
            self.group(suffix)?;
            return self.resource(name, value);
        }
        if let Some(suffix) = suffix_of(scope, "trait") {
            self.group(suffix)?;
            return self.one_trait(name, value);
        }
        if key == "pci_passthrough:alias" {
            return self.found.hardware.aliases(value);
        }
        if scope == "hw"
            && let Some(read) = self.found.hardware.read(name, value)
        {
            return read;
        }
        let into = match scope {
            "aggregate_instance_extra_specs" => &mut self.found.aggregate,
            "capabilities" => &mut self.found.capabilities,
            _ => return Err(unknown(scope, name, key)),
        };
        if name.split(':').any(str::is_empty) {
            return Err(format!("a name must follow {scope}:"));
        }
        operator::check(value)?;
        into.insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    fn group(&mut self, suffix: &str) -> Result<(), String> {
        let may_be = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if suffix.len() > LONGEST_SUFFIX || !suffix.chars().all(may_be) {
            return Err(format!(
                "{suffix:?} is no suffix of a group: at most {LONGEST_SUFFIX} letters, digits, '_' and '-'"
            ));
        }
        if !suffix.is_empty() {
            self.groups.insert(suffix.to_owned());
        }
        Ok(())
    }

    /// A host is one provider with all that it has, so what is asked for in groups adds up.
    fn resource(&mut self, class: &str, value: &str) -> Result<(), String> {
        if ![VCPU, PCPU, MEMORY_MB, DISK_GB].contains(&class) {
            if known::STANDARD_CLASSES.contains(&class) {
                return Err("Virga's hosts have no inventory of this class yet: leave it out".into());
            }
            check_resource_class(class).map_err(|message| {
                let known = [VCPU, PCPU, MEMORY_MB, DISK_GB]
                    .into_iter()
                    .chain(known::STANDARD_CLASSES);
                format!("{message}{}", did_you_mean(class, known))
            })?;
        }
        let amount = value
            .parse()
            .ok()
            .filter(|amount| *amount <= MOST)
            .ok_or_else(|| format!("{value:?} is no amount: write a whole number from 0 to {MOST}"))?;
        let sum = self.found.resources.entry(class.to_owned()).or_default();
        *sum = sum.saturating_add(amount).min(MOST);
        Ok(())
    }

    fn one_trait(&mut self, name: &str, value: &str) -> Result<(), String> {
        if let Some(list) = name.strip_prefix("in:") {
            let names: BTreeSet<String> = list.split(',').map(str::to_owned).collect();
            names.iter().try_for_each(|name| check_trait(name))?;
            if value != "required" {
                return Err(format!(
                    "{value:?} is not known: any of several traits can be required only"
                ));
            }
            self.found.any_of.insert(names);
            return Ok(());
        }
        check_trait(name)?;
        match value {
            "required" => self.found.required.insert(name.to_owned()),
            "forbidden" => self.found.forbidden.insert(name.to_owned()),
            _ => return Err(format!("{value:?} is not known: write required or forbidden")),
        };
        Ok(())
    }

    /// Whether what is said of nodes, CPUs and pages can be of a guest of this size.
    fn shape(&mut self, spec: &FlavorSpec) {
        let vcpus = u32::from(spec.vcpus);
        let native = placement_native(&mut self.found.resources, vcpus, &mut self.found.hardware);
        if let Err(message) = native {
            self.problems.add(field(&format!("resources:{PCPU}")), message);
        }
        let size = Size {
            vcpus,
            memory_bytes: spec.memory.0,
        };
        if let Err(problems) = shape(size, &self.found.hardware, &Hardware::default()) {
            self.problems.extend(problems);
        }
        if let Err(problems) = machine::machine(vcpus, &self.found.machine, None) {
            self.problems.extend(problems);
        }
        // Nova's `LockMemoryForbidden`: only pages of a known size are counted before they are locked.
        if self.found.machine.locked_memory == Some(true) && self.found.hardware.page_size.is_none() {
            let message = "needs hw:mem_page_size, so that its memory is counted by cell: write that as well";
            self.problems.add(field("hw:locked_memory"), message);
        }
    }

    fn contradictions(&mut self) {
        let ExtraSpecs {
            required,
            any_of,
            forbidden,
            ..
        } = &self.found;
        for both in required.intersection(forbidden) {
            let message = "is required and forbidden: no host can be both; leave one out";
            self.problems.add(field(&format!("trait:{both}")), message);
        }
        for set in any_of.iter().filter(|set| set.is_subset(forbidden)) {
            let names: Vec<&str> = set.iter().map(String::as_str).collect();
            let message = "all of these traits are forbidden: no host can have one; leave one of the two out";
            self.problems
                .add(field(&format!("trait:in:{}", names.join(","))), message);
        }
        if self.isolate && self.groups.len() > 1 {
            let message = "a host is one provider, so two groups can never be isolated from each other: write none";
            self.problems.add(field("group_policy"), message);
        }
    }
}

/// What follows the word in the scope of a group, such as `_NET1` of `resources_NET1`; nothing for the word alone.
fn suffix_of<'a>(scope: &'a str, word: &str) -> Option<&'a str> {
    // `traits` is a slip of the hand and not the group `s`.
    scope.strip_prefix(word).filter(|suffix| *suffix != "s")
}

/// Nova would match a key without a scope with the host's own properties and with those of its aggregates: so a slip of
/// the hand is a demand that no host fulfils. Here it is refused.
fn unscoped(key: &str) -> String {
    let meant = nearest(key, known::all());
    match meant {
        Some(meant) => format!("is not known; did you mean {meant}?"),
        None => format!(
            "is not known: a key needs a scope, such as aggregate_instance_extra_specs:{key} or capabilities:{key}"
        ),
    }
}

fn unknown(scope: &str, name: &str, key: &str) -> String {
    if let Some(meant) = nearest(key, known::all()) {
        return format!("is not known; did you mean {meant}?");
    }
    match nearest(scope, known::SCOPES) {
        Some(meant) if meant != scope => format!("is not known; did you mean {meant}:{name}?"),
        Some(_) => "is not known to Nova under this scope: leave it out".into(),
        None => format!("is not known: scopes are {}", known::SCOPES.join(", ")),
    }
}

#[cfg(test)]
mod tests;
