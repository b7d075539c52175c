//! Our half of the comparison with Nova's scheduler, for `cargo xtask bench --only nova`, which makes the worlds:
//! `cargo bench --package virga-scheduler --bench against_nova -- WORLD.json ...` prints one JSON object a line, for each
//! world and each of its profiles.
//!
//! First each request of the world is asked once, for the hosts that pass and the best weight. Then decisions are timed:
//! filter, weigh, choose, reserve and explain. To give back what was reserved is counted in the processor's time, not in
//! the 99th percentile.

#![allow(clippy::unwrap_used, reason = "what can't be read has failed")]
#![allow(clippy::print_stdout, reason = "it reports")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;
use virga_scheduler::{
    Aggregate, Claim, Cluster, Cpu, Group, Host, ImageFacts, Platform, Policy, Profile, ProfileSpec, Query, Request,
    Resources, Scheduling, Settings, Supported, Uid, Verdict, filters,
};

const WARM_UP: u32 = 300;
const DECISIONS: u32 = 3_000;
const GROUP: &str = "web";

#[derive(Deserialize)]
struct World {
    hosts: Vec<GivenHost>,
    aggregates: Vec<GivenAggregate>,
    group: BTreeSet<usize>,
    profiles: BTreeMap<String, GivenProfile>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GivenHost {
    name: String,
    vcpus: u32,
    memory_mb: u64,
    disk_gb: u64,
    used_vcpus: u32,
    used_memory_mb: u64,
    used_disk_gb: u64,
    instances: u32,
    architecture: String,
    hypervisor_version: u32,
    address: IpAddr,
    cpu_percent: f64,
    io_ops: u32,
    failed_builds: u32,
    disabled: bool,
}

#[derive(Deserialize)]
struct GivenAggregate {
    name: String,
    metadata: BTreeMap<String, String>,
    hosts: Vec<usize>,
}

#[derive(Deserialize)]
struct GivenProfile {
    filters: Vec<String>,
    metrics: BTreeMap<String, f64>,
    requests: Vec<GivenRequest>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GivenRequest {
    vcpus: u32,
    memory_mb: u64,
    disk_gb: u64,
    extra_specs: BTreeMap<String, String>,
    image: BTreeMap<String, String>,
    query: Option<String>,
}

fn size(vcpus: u32, memory_mb: u64, disk_gb: u64) -> Resources {
    Resources {
        vcpus,
        memory_bytes: memory_mb << 20,
        disk_bytes: disk_gb << 30,
    }
}

/// The profile, and those of its filters that are not here.
fn profile(given: &GivenProfile) -> (Profile, Vec<&str>) {
    let (known, unknown): (Vec<&String>, _) = given.filters.iter().partition(|name| filters::find(name).is_some());
    let mut spec = ProfileSpec {
        filters: known.into_iter().cloned().collect(),
        ..ProfileSpec::default()
    };
    spec.options.metrics.weights.clone_from(&given.metrics);
    spec.options.metrics.required = false;
    let unknown = unknown.into_iter().map(String::as_str).collect();
    (Profile::resolve(&spec).unwrap(), unknown)
}

fn host(given: &GivenHost) -> Host {
    let supported = |hypervisor: &str| Supported {
        architecture: given.architecture.clone(),
        hypervisor: hypervisor.to_owned(),
        mode: "hvm".to_owned(),
    };
    let platform = Platform {
        hypervisor_type: "QEMU".to_owned(),
        hypervisor_version: given.hypervisor_version,
        supported: ["kvm", "qemu"].map(supported).into(),
        cpu: Cpu {
            architecture: given.architecture.clone(),
            vendor: "AMD".to_owned(),
            threads: 2,
            ..Cpu::default()
        },
    };
    let capacity = size(given.vcpus, given.memory_mb, given.disk_gb);
    Host {
        platform: Arc::new(platform),
        address: Some(given.address),
        metrics: BTreeMap::from([("cpu.percent".to_owned(), given.cpu_percent)]),
        io_ops: given.io_ops,
        failed_builds: given.failed_builds,
        scheduling: if given.disabled {
            Scheduling::Cordoned { reason: String::new() }
        } else {
            Scheduling::Enabled
        },
        ..Host::new(&given.name, "nova", &given.architecture, capacity)
    }
}

fn cluster(world: &World, profile: Profile) -> Cluster {
    let mut cluster = Cluster::new(Settings {
        profile,
        reservation_ttl: Duration::from_secs(30),
        seed: 1,
    });
    let group = Uid::from(GROUP);
    for (at, given) in world.hosts.iter().enumerate() {
        cluster.upsert_host(host(given));
        let used = size(given.used_vcpus, given.used_memory_mb, given.used_disk_gb);
        cluster.place_claim(&Uid::from(&given.name), &Claim::volume(&given.name, &used));
        for n in 0..given.instances {
            let group = (n == 0 && world.group.contains(&at)).then_some(&group);
            let uid = Uid::from(format!("{}/{n}", given.name));
            cluster.place(&uid, &given.name, &Resources::default(), group);
        }
    }
    for GivenAggregate { name, metadata, hosts } in &world.aggregates {
        cluster.upsert_aggregate(Aggregate {
            name: name.clone(),
            hosts: hosts.iter().map(|&at| world.hosts[at].name.clone()).collect(),
            zone: None,
            metadata: metadata.clone(),
        });
    }
    cluster.take_events();
    cluster
}

fn request(given: &GivenRequest) -> Request {
    let image = ImageFacts {
        uid: "debian".to_owned(),
        properties: given.image.clone(),
    };
    let mut request = Request {
        project: "shop".to_owned(),
        flavor: "m1.large".to_owned(),
        image: Some(Arc::new(image)),
        group: Some(Group {
            uid: Uid::from(GROUP),
            policy: Policy::ANTI_AFFINITY,
        }),
        ..Request::new(
            "request",
            "shop/web-1",
            size(given.vcpus, given.memory_mb, given.disk_gb),
        )
    };
    assert_eq!(request.add_extra_specs(&given.extra_specs), []);
    request.demands_mut().hints.query = given.query.as_deref().map(|text| Query::parse(text).unwrap());
    request
}

/// How many hosts pass, and the best weight.
fn answer(cluster: &mut Cluster, request: &Request) -> serde_json::Value {
    let table = cluster.explain(request);
    let weights: Vec<f64> = table
        .hosts
        .iter()
        .filter_map(|host| match &host.verdict {
            Verdict::Passed { weight, .. } => Some(*weight),
            Verdict::Rejected { .. } => None,
        })
        .collect();
    let best = weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    json!({"survivors": weights.len(), "best": best})
}

/// How long this process has been on a processor.
fn on_processor() -> Duration {
    let text = fs::read_to_string("/proc/self/schedstat").unwrap();
    Duration::from_nanos(text.split_whitespace().next().unwrap().parse().unwrap())
}

fn timed(cluster: &mut Cluster, request: &Request) -> (Duration, Duration) {
    let mut before = Duration::ZERO;
    let mut times = Vec::new();
    for n in 0..WARM_UP + DECISIONS {
        if n == WARM_UP {
            before = on_processor();
            times.clear();
        }
        let asked = Request {
            uid: Uid::from(format!("request-{n}")),
            ..request.clone()
        };
        let began = Instant::now();
        let placement = cluster.schedule(black_box(&asked), Duration::ZERO);
        times.push(began.elapsed());
        black_box(placement).unwrap();
        cluster.forget(&asked.uid);
        cluster.take_events();
    }
    let spent = on_processor().saturating_sub(before);
    times.sort_unstable();
    (spent, times[times.len() * 99 / 100])
}

fn main() {
    // Cargo adds flags of its own.
    for path in std::env::args().skip(1).filter(|argument| !argument.starts_with('-')) {
        let world: World = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        for (name, given) in &world.profiles {
            let (profile, lacking) = profile(given);
            let mut cluster = cluster(&world, profile);
            let requests: Vec<Request> = given.requests.iter().map(request).collect();
            let answers: Vec<_> = requests.iter().map(|request| answer(&mut cluster, request)).collect();
            let (spent, p99) = timed(&mut cluster, &requests[0]);
            println!(
                "{}",
                json!({
                    "hosts": world.hosts.len(),
                    "profile": name,
                    "lacking": lacking,
                    "answers": answers,
                    "decisions": DECISIONS,
                    "cpuSeconds": spent.as_secs_f64(),
                    "p99Seconds": p99.as_secs_f64(),
                })
            );
        }
    }
}
