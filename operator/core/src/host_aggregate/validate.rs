use virga_crds::HostAggregateSpec;

use crate::{hypervisor::check_trait, nearest::did_you_mean, problem::Problems};

/// The keys by which an aggregate's hosts are weighed otherwise (Nova's `*_weight_multiplier`).
pub const WEIGHT_MULTIPLIERS: [&str; 13] = [
    "build_failure_weight_multiplier",
    "cpu_weight_multiplier",
    "cross_cell_move_weight_multiplier",
    "disk_weight_multiplier",
    "hypervisor_version_weight_multiplier",
    "image_props_weight_multiplier",
    "io_ops_weight_multiplier",
    "metrics_weight_multiplier",
    "num_instances_weight_multiplier",
    "pci_weight_multiplier",
    "ram_weight_multiplier",
    "soft_affinity_weight_multiplier",
    "soft_anti_affinity_weight_multiplier",
];

/// Keys by which older Novas change a host's ratios.
const RATIOS: [&str; 3] = ["cpu_allocation_ratio", "ram_allocation_ratio", "disk_allocation_ratio"];
/// Beyond this a sum of weights would lose the small ones.
const MOST_MULTIPLIER: f64 = 1e9;
/// The largest allocation ratio: more is a slip of the hand.
const MOST_RATIO: f64 = 10_000.0;

/// What is wrong with an aggregate by itself: values of the keys that mean something, and names that nearly do.
pub fn validate(spec: &HostAggregateSpec) -> Problems {
    let mut problems = Problems::default();
    if spec.hypervisors.is_some() == spec.selector.is_some() {
        problems.add("spec", "exactly one of hypervisors and selector must be given");
    }
    for (key, value) in &spec.metadata {
        if let Err(message) = check(key, value) {
            problems.add(format!("spec.metadata[{key}]"), message);
        }
    }
    problems
}

fn check(key: &str, value: &str) -> Result<(), String> {
    match key {
        "availability_zone" => Err("is a field of its own here: write spec.availabilityZone".into()),
        "max_instances_per_host" | "max_io_ops_per_host" => match value.parse::<u32>() {
            Ok(_) => Ok(()),
            Err(_) => Err(format!("{value:?} is no whole number")),
        },
        "instance_type" => names(value, "Flavors"),
        _ if key.starts_with("filter_tenant_id") => names(value, "Projects"),
        _ if RATIOS.contains(&key) => match decimal(value) {
            Some(ratio) if ratio > 0.0 && ratio <= MOST_RATIO => Ok(()),
            Some(_) => Err(format!("{value:?} must be above 0 and at most {MOST_RATIO}")),
            None => Err(format!("{value:?} is no decimal number such as 1.5")),
        },
        _ if WEIGHT_MULTIPLIERS.contains(&key) => match value.parse::<f64>() {
            Ok(multiplier) if multiplier.abs() <= MOST_MULTIPLIER => Ok(()),
            _ => Err(format!("{value:?} is no number from -1e9 to 1e9")),
        },
        _ if key.ends_with("_weight_multiplier") => Err(format!(
            "no weigher has this multiplier{}",
            did_you_mean(key, WEIGHT_MULTIPLIERS)
        )),
        _ => match key.strip_prefix("trait:") {
            Some(_) if value != "required" => Err(format!("{value:?} is not known: write required")),
            Some(name) => check_trait(name),
            None => Ok(()),
        },
    }
}

/// Names with commas between them.
fn names(value: &str, of: &str) -> Result<(), String> {
    if value.split(',').all(|name| !name.trim().is_empty()) {
        Ok(())
    } else {
        Err(format!(
            "{value:?} is no list of {of}: write their names with commas between them"
        ))
    }
}

/// Digits with at most one point between them, and six decimals.
fn decimal(value: &str) -> Option<f64> {
    let (whole, decimals) = value.split_once('.').unwrap_or((value, "0"));
    let digits = |part: &str, most: usize| {
        !part.is_empty() && part.len() <= most && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    (digits(whole, 9) && digits(decimals, 6))
        .then(|| value.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(metadata: &[(&str, &str)]) -> Vec<String> {
        let metadata = metadata
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let spec = HostAggregateSpec {
            hypervisors: Some(Vec::new()),
            metadata: metadata.collect(),
            ..HostAggregateSpec::default()
        };
        validate(&spec).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn nova_s_keys_are_taken_and_free_ones_too() {
        let right = [
            ("filter_tenant_id", "shop,blog"),
            ("filter_tenant_id2", "team"),
            ("instance_type", "m1.small, m1.large"),
            ("max_instances_per_host", "10"),
            ("max_io_ops_per_host", "0"),
            ("cpu_allocation_ratio", "16.0"),
            ("ram_allocation_ratio", "0.5"),
            ("cpu_weight_multiplier", "-1.5"),
            ("build_failure_weight_multiplier", "1000000"),
            ("trait:CUSTOM_LICENCE", "required"),
            ("hw_firmware_type", "uefi"),
            ("disk", "ssd"),
        ];
        assert!(problems(&right).is_empty(), "{:?}", problems(&right));
    }

    #[test]
    fn values_of_the_wrong_type_are_told_all_at_once() {
        let wrong = [
            ("availability_zone", "az1"),
            ("cpu_allocation_ratio", "0"),
            ("disk_allocation_ratio", "1e3"),
            ("ram_allocation_ratio", "-1"),
            ("cpu_weight_multiplier", "much"),
            ("ram_weight_multiplier", "NaN"),
            ("memory_weight_multiplier", "1"),
            ("filter_tenant_id", "shop,"),
            ("max_instances_per_host", "-1"),
            ("trait:CUSTOM_A", "forbidden"),
            ("trait:a", "required"),
        ];
        let said = problems(&wrong);
        assert_eq!(said.len(), wrong.len(), "{said:#?}");
        assert!(
            said[0].starts_with("spec.metadata[availability_zone]: is a field of its own"),
            "{said:?}"
        );
        let of = |key: &str| said.iter().find(|said| said.contains(key)).cloned().unwrap_or_default();
        assert!(of("cpu_allocation_ratio").contains("above 0"));
        assert!(of("memory_weight_multiplier").contains("no weigher has this multiplier"));
    }

    #[test]
    fn an_aggregate_says_in_exactly_one_way_who_is_in_it() {
        assert!(!validate(&HostAggregateSpec::default()).is_empty());
    }
}
