//! A cloud on paper, the same for both schedulers: made once, by a fixed seed, and handed to them as JSON.
//!
//! Hosts of 32 to 128 threads are used up to 70 % by ten Instances each. Some are disabled, of another architecture, or
//! have had a failed build. Aggregates make zones, name kinds of disks, keep hosts for one project, and set limits.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use fastrand::Rng;
use serde::Serialize;

const SEED: u64 = 34;
/// Members that the request's anti-affinity group has already.
const MEMBERS: usize = 8;
/// Requests that both schedulers are asked, so that their answers can be compared.
const REQUESTS: usize = 6;

/// The filters that Nova 34 enables unless told.
const DEFAULT_FILTERS: [&str; 5] = [
    "ComputeFilter",
    "ComputeCapabilitiesFilter",
    "ImagePropertiesFilter",
    "ServerGroupAntiAffinityFilter",
    "ServerGroupAffinityFilter",
];

/// All others that Nova 34 has, but for AggregateImagePropertiesIsolation: it writes a warning for each host and each key of
/// an aggregate that is no image property, and the log would be most of what is measured.
const FURTHER_FILTERS: [&str; 16] = [
    "AllHostsFilter",
    "AggregateInstanceExtraSpecsFilter",
    "AggregateMultiTenancyIsolation",
    "AggregateTypeAffinityFilter",
    "IoOpsFilter",
    "AggregateIoOpsFilter",
    "NumInstancesFilter",
    "AggregateNumInstancesFilter",
    "IsolatedHostsFilter",
    "JsonFilter",
    "MetricsFilter",
    "DifferentHostFilter",
    "SameHostFilter",
    "SimpleCIDRAffinityFilter",
    "PciPassthroughFilter",
    "NUMATopologyFilter",
];

/// Hosts, and what is asked of them under each profile.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct World {
    hosts: Vec<Host>,
    aggregates: Vec<Aggregate>,
    /// The hosts on which the group's members are: the first Instance of each.
    group: Vec<usize>,
    profiles: BTreeMap<&'static str, Profile>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Host {
    name: String,
    vcpus: u32,
    memory_mb: u32,
    disk_gb: u32,
    used_vcpus: u32,
    used_memory_mb: u32,
    used_disk_gb: u32,
    instances: u32,
    architecture: &'static str,
    hypervisor_version: u32,
    address: Ipv4Addr,
    cpu_percent: u32,
    io_ops: u32,
    failed_builds: u32,
    disabled: bool,
}

#[derive(Serialize)]
struct Aggregate {
    name: String,
    metadata: BTreeMap<&'static str, String>,
    /// By their place in the list of hosts.
    hosts: Vec<usize>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    filters: Vec<&'static str>,
    /// What each metric counts.
    metrics: BTreeMap<&'static str, f64>,
    requests: Vec<Request>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    vcpus: u32,
    memory_mb: u32,
    disk_gb: u32,
    extra_specs: BTreeMap<&'static str, String>,
    image: BTreeMap<&'static str, &'static str>,
    query: Option<String>,
}

impl World {
    /// With so many hosts.
    pub fn of(hosts: usize) -> Self {
        let mut rng = Rng::with_seed(SEED);
        let named = |name: &str, metadata: &[(&'static str, &str)], of: &dyn Fn(usize) -> bool| Aggregate {
            name: name.to_owned(),
            metadata: metadata.iter().map(|&(key, value)| (key, value.to_owned())).collect(),
            hosts: (0..hosts).filter(|&n| of(n)).collect(),
        };
        let mut aggregates: Vec<Aggregate> = ["az0", "az1", "az2"]
            .into_iter()
            .enumerate()
            .map(|(zone, name)| named(name, &[("availability_zone", name)], &|n| n % 3 == zone))
            .collect();
        let limits = [("max_instances_per_host", "80"), ("max_io_ops_per_host", "64")];
        aggregates.extend([
            named("ssd", &[("ssd", "true"), ("cpu_weight_multiplier", "2.0")], &|n| {
                n % 2 == 1
            }),
            named("hdd", &[("ssd", "false")], &|n| n % 2 == 0),
            named("tenant", &[("filter_tenant_id", "other")], &|n| n % 10 == 1),
            named("limits", &limits, &|n| n % 4 == 1),
        ]);
        Self {
            hosts: (0..hosts).map(|n| Host::any(n, &mut rng)).collect(),
            aggregates,
            group: (0..MEMBERS).map(|n| n * hosts / MEMBERS).collect(),
            profiles: BTreeMap::from([("default", Profile::default_filters()), ("wide", Profile::wide())]),
        }
    }
}

impl Host {
    fn any(n: usize, rng: &mut Rng) -> Self {
        let pick = |rng: &mut Rng, of: &[u32]| rng.choice(of.iter().copied()).unwrap_or_default();
        let vcpus = pick(rng, &[32, 48, 64, 96, 128]);
        let memory_mb = vcpus * pick(rng, &[4096, 8192]);
        let disk_gb = pick(rng, &[1000, 2000, 4000, 8000]);
        let used = |all: u32, permille: u32| u32::try_from(u64::from(all) * u64::from(permille) / 1000).unwrap_or(all);
        let permille = rng.u32(..=700);
        Self {
            name: format!("node-{n:05}"),
            vcpus,
            memory_mb,
            disk_gb,
            used_vcpus: used(vcpus, permille),
            used_memory_mb: used(memory_mb, permille),
            used_disk_gb: used(disk_gb, permille),
            instances: 10,
            architecture: if n % 50 == 11 { "aarch64" } else { "x86_64" },
            hypervisor_version: pick(rng, &[8_002_000, 9_001_000, 10_000_000]),
            address: Ipv4Addr::from_bits(0x0a00_0000 + u32::try_from(n).unwrap_or_default()),
            cpu_percent: rng.u32(..=100),
            io_ops: rng.u32(..4),
            failed_builds: u32::from(n % 50 == 7),
            disabled: n % 100 == 3,
        }
    }
}

impl Profile {
    fn default_filters() -> Self {
        Self {
            filters: DEFAULT_FILTERS.into(),
            metrics: BTreeMap::new(),
            requests: (0..REQUESTS).map(|_| Request::plain()).collect(),
        }
    }

    fn wide() -> Self {
        // Each asks for a little more, so that not all answers are the same.
        let request = |n: usize| {
            let more = [
                ("aggregate_instance_extra_specs:ssd", "true".to_owned()),
                ("capabilities:vcpus_total", format!(">= {}", 16 * (n + 1))),
                ("quota:disk_total_iops_sec", "2000".to_owned()),
            ];
            let mut request = Request::plain();
            request.extra_specs.extend(more);
            let memory = 4096 << n;
            request.query = Some(format!(
                r#"["and", [">=", "$free_ram_mb", {memory}], [">=", "$free_disk_mb", 10240]]"#
            ));
            request
        };
        Self {
            filters: DEFAULT_FILTERS.into_iter().chain(FURTHER_FILTERS).collect(),
            metrics: BTreeMap::from([("cpu.percent", -1.0)]),
            requests: (0..REQUESTS).map(request).collect(),
        }
    }
}

impl Request {
    fn plain() -> Self {
        Self {
            vcpus: 4,
            memory_mb: 8192,
            disk_gb: 40,
            extra_specs: BTreeMap::from([("capabilities:hypervisor_type", "s== QEMU".to_owned())]),
            image: BTreeMap::from([
                ("hw_architecture", "x86_64"),
                ("img_hv_type", "kvm"),
                ("hw_vm_mode", "hvm"),
                ("hw_disk_bus", "virtio"),
                ("os_distro", "debian"),
            ]),
            query: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_world_is_the_same_each_time() {
        let text = || serde_json::to_string(&World::of(200)).expect("it is plain data");
        assert_eq!(text(), text());
    }

    #[test]
    fn members_of_the_group_are_on_hosts_of_their_own() {
        let mut hosts = World::of(100).group;
        hosts.dedup();
        assert_eq!(hosts.len(), MEMBERS);
        assert!(hosts.iter().all(|&host| host < 100));
    }
}
