//! Decisions of Nova itself, made again.
//!
//! `decisions.json` holds a made-up cloud of ninety hosts, eighty requests, and what Nova 34.0.0 makes of each: the hosts
//! that `HostManager.get_filtered_hosts` lets through and the weights that `get_weighed_hosts` gives them. Nova ran with 19
//! of its 22 filters (not NUMATopologyFilter and PciPassthroughFilter, for which see `cells.rs`, nor
//! AggregateImagePropertiesIsolation, of which it knows fewer properties), with ten of its weighers,
//! `num_instances_weight_multiplier` -0.5 and `weight_setting` cpu.percent=-1.0.

#![allow(clippy::unwrap_used, reason = "what can't be set up has failed")]

mod cells;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use virga_scheduler::{
    Aggregate, Claim, Cluster, Cpu, Group, Host, ImageFacts, Platform, Policy, Profile, ProfileSpec, Query, Request,
    Resources, Scheduling, Settings, Supported, Uid, Verdict, near,
};

#[derive(Deserialize)]
struct Recorded {
    hosts: Vec<RecordedHost>,
    aggregates: Vec<RecordedAggregate>,
    requests: Vec<RecordedRequest>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RecordedHost {
    name: String,
    vcpus: u32,
    memory_mb: u64,
    disk_gb: u64,
    used_vcpus: u32,
    used_memory_mb: u64,
    used_disk_gb: u64,
    hypervisor_type: String,
    hypervisor_version: u32,
    model: String,
    features: BTreeSet<String>,
    threads: u32,
    supported: Vec<[String; 3]>,
    address: String,
    metrics: BTreeMap<String, f64>,
    io_ops: u32,
    failed_builds: u32,
    disabled: bool,
    instances: Vec<String>,
}

#[derive(Deserialize)]
struct RecordedAggregate {
    name: String,
    hosts: BTreeSet<String>,
    metadata: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RecordedRequest {
    flavor: String,
    project: String,
    extra_specs: BTreeMap<String, String>,
    image: BTreeMap<String, String>,
    different_host: Vec<String>,
    same_host: Vec<String>,
    query: Option<String>,
    near_host: Option<String>,
    cidr: Option<String>,
    policy: Option<String>,
    members: BTreeSet<String>,
    weights: BTreeMap<String, f64>,
}

fn size(vcpus: u32, memory_mb: u64, disk_gb: u64) -> Resources {
    Resources {
        vcpus,
        memory_bytes: memory_mb << 20,
        disk_bytes: disk_gb << 30,
    }
}

fn profile() -> Profile {
    let mut spec = ProfileSpec {
        filters: [
            "ComputeFilter",
            "ComputeCapabilitiesFilter",
            "ImagePropertiesFilter",
            "ServerGroupAntiAffinityFilter",
            "ServerGroupAffinityFilter",
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
        ]
        .map(str::to_owned)
        .to_vec(),
        ..ProfileSpec::default()
    };
    for weigher in &mut spec.weighers {
        if weigher.name == "NumInstancesWeigher" {
            weigher.multiplier = -0.5;
        }
    }
    spec.options.metrics.weights.insert("cpu.percent".to_owned(), -1.0);
    spec.options.metrics.required = false;
    Profile::resolve(&spec).unwrap()
}

fn host(recorded: &RecordedHost) -> Host {
    let supported = recorded.supported.iter().cloned();
    let supported = supported.map(|[architecture, hypervisor, mode]| Supported {
        architecture,
        hypervisor,
        mode,
    });
    let platform = Platform {
        hypervisor_type: recorded.hypervisor_type.clone(),
        hypervisor_version: recorded.hypervisor_version,
        supported: supported.collect(),
        cpu: Cpu {
            model: recorded.model.clone(),
            features: recorded.features.clone(),
            threads: recorded.threads,
            ..Cpu::default()
        },
    };
    let capacity = size(recorded.vcpus, recorded.memory_mb, recorded.disk_gb);
    Host {
        platform: Arc::new(platform),
        address: Some(recorded.address.parse().unwrap()),
        metrics: recorded.metrics.clone(),
        io_ops: recorded.io_ops,
        failed_builds: recorded.failed_builds,
        scheduling: if recorded.disabled {
            Scheduling::Cordoned { reason: String::new() }
        } else {
            Scheduling::Enabled
        },
        ..Host::new(&recorded.name, "nova", "x86_64", capacity)
    }
}

/// The cloud, in which some Instances are members of the request's group.
fn cluster(recorded: &Recorded, members: &BTreeSet<String>) -> Cluster {
    let mut cluster = Cluster::new(Settings {
        profile: profile(),
        reservation_ttl: Duration::from_secs(30),
        seed: 1,
    });
    let group = Uid::from("group");
    for of in &recorded.hosts {
        cluster.upsert_host(host(of));
        let used = size(of.used_vcpus, of.used_memory_mb, of.used_disk_gb);
        cluster.place_claim(&Uid::from(&of.name), &Claim::volume(&of.name, &used));
        for instance in &of.instances {
            let group = members.contains(instance).then_some(&group);
            cluster.place(&Uid::from(instance), &of.name, &Resources::default(), group);
        }
    }
    for RecordedAggregate { name, hosts, metadata } in &recorded.aggregates {
        cluster.upsert_aggregate(Aggregate {
            name: name.clone(),
            hosts: hosts.clone(),
            zone: None,
            metadata: metadata.clone(),
        });
    }
    cluster
}

fn request(recorded: &RecordedRequest) -> Request {
    let image = ImageFacts {
        uid: "image".to_owned(),
        properties: recorded.image.clone(),
    };
    let group = recorded.policy.as_deref().map(|policy| Group {
        uid: Uid::from("group"),
        policy: match policy {
            "affinity" => Policy::Affinity,
            "anti-affinity" => Policy::ANTI_AFFINITY,
            "soft-affinity" => Policy::SoftAffinity,
            _ => Policy::SoftAntiAffinity,
        },
    });
    let mut request = Request {
        flavor: recorded.flavor.clone(),
        project: recorded.project.clone(),
        image: Some(Arc::new(image)),
        group,
        ..Request::new("request", "shop/web-1", size(4, 8192, 40))
    };
    assert_eq!(request.add_extra_specs(&recorded.extra_specs), []);
    let hints = &mut request.demands_mut().hints;
    hints.query = recorded.query.as_deref().map(|text| Query::parse(text).unwrap());
    hints.different_host = recorded.different_host.iter().map(Uid::from).collect();
    hints.same_host = recorded.same_host.iter().map(Uid::from).collect();
    let near_host = recorded.near_host.as_deref();
    hints.near = near_host.map(|address| near(address, recorded.cidr.as_deref()).unwrap());
    request
}

#[test]
fn the_same_hosts_pass_as_in_nova_and_have_the_same_weights() {
    let recorded: Recorded = serde_json::from_str(include_str!("decisions.json")).unwrap();
    let mut compared = 0;
    for (at, asked) in recorded.requests.iter().enumerate() {
        let table = cluster(&recorded, &asked.members).explain(&request(asked));
        let ours: BTreeMap<&str, f64> = table
            .hosts
            .iter()
            .filter_map(|host| match &host.verdict {
                Verdict::Passed { weight, .. } => Some((host.host.as_str(), *weight)),
                Verdict::Rejected { .. } => None,
            })
            .collect();
        let nova: BTreeMap<&str, f64> = asked
            .weights
            .iter()
            .map(|(name, &weight)| (name.as_str(), weight))
            .collect();
        assert!(
            ours.keys().eq(nova.keys()),
            "request {at}: {ours:?} passed, in Nova {nova:?}"
        );
        for (name, weight) in &ours {
            let expected = nova[name];
            let close = (weight - expected).abs() <= 1e-9 * expected.abs().max(1.0);
            assert!(close, "request {at}: {name} weighs {weight}, in Nova {expected}");
        }
        compared += ours.len();
    }
    assert!(compared > 200, "{compared} weights were compared");
}
