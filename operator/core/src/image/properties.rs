//! Which of an image's properties mean something here, and what may each be?
//!
//! Names and values are Glance's (`nova/objects/image_meta.py`). Other properties are kept for people.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    flavor::{Asked, ExtraSpecs, Hardware, check_image, image_key, image_refusal},
    hypervisor::check_trait,
    problem::Problems,
};

/// Properties with the values that are carried out.
const VALUES: [(&str, &[&str]); 3] = [
    ("hw_architecture", &["x86_64", "aarch64"]),
    ("hw_vm_mode", &["hvm"]),
    ("img_hv_type", &["kvm", "qemu"]),
];

/// What the version of the hypervisor must be: `op version`, with commas between several.
const VERSION: &str = "img_hv_requested_version";
/// The comparisons of [`VERSION`] (oslo.utils' `VersionPredicate`), the longer ones first.
const COMPARISONS: [&str; 6] = ["<=", ">=", "==", "!=", "<", ">"];
/// The least parts that a version has, and the most.
const PARTS: std::ops::RangeInclusive<usize> = 1..=4;

const TRAIT: &str = "trait:";

/// What is wrong with the properties that mean something here.
pub fn validate_properties(properties: &BTreeMap<String, String>) -> Problems {
    let mut problems = Problems::default();
    let mut machine = Asked::default();
    for (name, value) in properties {
        if let Err(message) = check(name, value, &mut machine) {
            problems.add(format!("spec.properties[{name}]"), message);
        }
    }
    check_image(&machine, &mut problems);
    problems
}

fn check(name: &str, value: &str, machine: &mut Asked) -> Result<(), String> {
    if let Some(why) = image_refusal(name) {
        return Err(format!(
            "is known to Nova, but not carried out here: {why}; leave it out"
        ));
    }
    if let Some(read) = machine.read_property(name, value) {
        return read;
    }
    if let Some((_, values)) = VALUES.iter().find(|(known, _)| *known == name) {
        return if values.contains(&value) {
            Ok(())
        } else {
            Err(format!("{value:?} is not known: write {}", values.join(" or ")))
        };
    }
    if let Some(read) = image_key(name).and_then(|key| Hardware::default().read(key, value)) {
        return read;
    }
    if name == VERSION {
        return value.split(',').try_for_each(version);
    }
    match name.strip_prefix(TRAIT) {
        Some(name) if value == "required" => check_trait(name),
        Some(_) => Err(format!(
            "{value:?} is not known: an image can require a trait only, write required"
        )),
        None => Ok(()),
    }
}

fn version(predicate: &str) -> Result<(), String> {
    let text = predicate.trim();
    let version = COMPARISONS.iter().find_map(|comparison| text.strip_prefix(comparison));
    let parts: Vec<&str> = version.unwrap_or_default().trim().split('.').collect();
    if PARTS.contains(&parts.len()) && parts.iter().all(|part| part.parse::<u16>().is_ok()) {
        return Ok(());
    }
    Err(format!(
        "{text:?} compares no versions: write one of {} and a version, such as >=7.2, with commas between several",
        COMPARISONS.join(" ")
    ))
}

/// The traits that an image requires of its host.
pub fn required_traits(properties: &BTreeMap<String, String>) -> BTreeSet<String> {
    let required = properties.iter().filter(|(_, value)| *value == "required");
    let traits = required.filter_map(|(name, _)| name.strip_prefix(TRAIT));
    traits.map(str::to_owned).collect()
}

/// The traits that an image requires and a Flavor forbids: no host can have both.
pub fn contradictions(properties: &BTreeMap<String, String>, flavor: &ExtraSpecs) -> BTreeSet<String> {
    let required = required_traits(properties);
    required.intersection(&flavor.forbidden).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let pairs = pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        pairs.collect()
    }

    #[test]
    fn what_scheduling_reads_is_checked_and_the_rest_is_free() {
        let right = properties(&[
            ("hw_architecture", "aarch64"),
            ("hw_vm_mode", "hvm"),
            ("img_hv_type", "qemu"),
            ("hw_disk_bus", "sata"),
            ("os_type", "linux"),
            ("hw_mem_page_size", "1GB"),
            ("img_hv_requested_version", ">=7.2, !=8.0.1,<11"),
            ("trait:CUSTOM_SSD", "required"),
            ("os_distro", "anything at all"),
        ]);
        assert!(validate_properties(&right).is_empty());
        assert_eq!(required_traits(&right), BTreeSet::from(["CUSTOM_SSD".to_owned()]));
    }

    #[test]
    fn each_wrong_value_is_told_with_what_it_may_be() {
        let wrong = [
            ("hw_architecture", "sparc", "write x86_64 or aarch64"),
            ("hw_vm_mode", "xen", "write hvm"),
            ("img_hv_requested_version", "7.2", "such as >=7.2"),
            ("img_hv_requested_version", ">= seven", "such as >=7.2"),
            ("img_hv_requested_version", ">=7.2,", "such as >=7.2"),
            ("img_hv_requested_version", "=>7", "such as >=7.2"),
            ("img_hv_type", "xen", "write kvm or qemu"),
            ("hw_disk_bus", "fdc", "write virtio or scsi or sata or ide or usb"),
            ("hw_disk_bus", "ide", "is of the machine pc alone"),
            ("hw_vif_model", "e1000x", "did you mean e1000"),
            ("hw_qemu_guest_agent", "maybe", "write true or false"),
            ("hw_serial_port_count", "5", "write a whole number from 1 to 4"),
            (
                "hw_locked_memory",
                "true",
                "it costs the host, so a Flavor says it; leave it out",
            ),
            ("hw_sound_model", "ich9", "no console carries sound"),
            ("os_secure_boot", "required", "needs UEFI"),
            ("hw_cpu_policy", "exclusive", "write shared or dedicated or mixed"),
            ("hw_numa_mem.1", "much", "write a whole number"),
            ("trait:CUSTOM_SSD", "forbidden", "an image can require a trait only"),
            ("trait:ssd", "required", "CUSTOM_"),
        ];
        for (name, value, words) in wrong {
            let said = validate_properties(&properties(&[(name, value)])).to_string();
            assert!(
                said.starts_with(&format!("spec.properties[{name}]: ")),
                "{name}={value}: {said}"
            );
            assert!(said.contains(words), "{name}={value}: {said}");
        }
    }

    #[test]
    fn a_trait_that_the_image_requires_and_the_flavor_forbids_is_a_contradiction() {
        let image = properties(&[("trait:CUSTOM_A", "required"), ("trait:CUSTOM_B", "required")]);
        let flavor = ExtraSpecs {
            forbidden: BTreeSet::from(["CUSTOM_B".to_owned(), "CUSTOM_C".to_owned()]),
            ..ExtraSpecs::default()
        };
        assert_eq!(contradictions(&image, &flavor), BTreeSet::from(["CUSTOM_B".to_owned()]));
    }
}
