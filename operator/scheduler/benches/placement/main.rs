//! How long one decision takes: filter, weigh, pick, reserve and explain, then give the room back.
//!
//! The worlds are those of the benchmark that Nova's own scheduler was measured with: hosts of 32 to 128 threads in three
//! zones that aggregates make, 0 to 70 % used by ten Instances each, ssd or not, some for one project only, some with
//! limits of their own; 1 % disabled, 2 % of another architecture, 2 % with a failed build. Each request is for 4
//! processors, 8 GiB and 40 GiB in one zone or any, with an image, and for a group with anti-affinity.
//!
//! Where cells matter, each host has two of them with 12 to 60 dedicated processors, of which some are taken, in pairs of
//! threads, and every fifth has four GPUs; the request is for two nodes with two processors of their own and 4 GiB each,
//! and a GPU.

#![allow(clippy::unwrap_used, reason = "what can't be set up has failed")]
#![allow(clippy::print_stdout, reason = "it reports")]

mod cells;

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use virga_scheduler::topology::GuestTopology;
use virga_scheduler::{
    Aggregate, Cluster, Cpu, Demands, Group, Hints, Host, ImageFacts, Platform, Policy, Profile, ProfileSpec, Query,
    Request, Resources, Scheduling, Settings, Supported, Uid, filters,
};

use cells::{add_cells, first_times, many_cells, pinned};

const GIB: u64 = 1 << 30;

/// Nova's filters and those of older clouds.
fn wide() -> Profile {
    let mut spec = ProfileSpec {
        filters: filters::all()
            .filter(|filter| filter.stands_in_for().is_none())
            .map(|filter| filter.name().to_owned())
            .collect(),
        ..ProfileSpec::default()
    };
    spec.options.metrics.weights.insert("cpu.percent".to_owned(), -1.0);
    spec.options.metrics.required = false;
    Profile::resolve(&spec).unwrap()
}

fn settings(profile: Profile) -> Settings {
    Settings {
        profile,
        reservation_ttl: Duration::from_secs(30),
        seed: 1,
    }
}

fn platform(architecture: &str, version: u32) -> Arc<Platform> {
    let supported = |hypervisor: &str| Supported {
        architecture: architecture.to_owned(),
        hypervisor: hypervisor.to_owned(),
        mode: "hvm".to_owned(),
    };
    Arc::new(Platform {
        hypervisor_type: "QEMU".to_owned(),
        hypervisor_version: version,
        supported: BTreeSet::from([supported("kvm"), supported("qemu")]),
        cpu: Cpu {
            architecture: architecture.to_owned(),
            model: "EPYC-Milan".to_owned(),
            vendor: "AMD".to_owned(),
            features: ["avx", "avx2", "sse4.2", "aes", "pcid"].map(str::to_owned).into(),
            ..Cpu::default()
        },
    })
}

fn cloud(hosts: u32, profile: Profile) -> Cluster {
    let mut cluster = Cluster::new(settings(profile));
    let aggregate = |name: &str, metadata: &[(&str, &str)], of: &dyn Fn(u32) -> bool| Aggregate {
        name: name.to_owned(),
        hosts: (0..hosts).filter(|&n| of(n)).map(|n| format!("node-{n}")).collect(),
        zone: None,
        metadata: metadata
            .iter()
            .map(|&(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
    };
    for zone in 0..3 {
        let name = format!("az{zone}");
        cluster.upsert_aggregate(aggregate(&name, &[("availability_zone", &name)], &|n| n % 3 == zone));
    }
    cluster.upsert_aggregate(aggregate(
        "ssd",
        &[("ssd", "true"), ("cpu_weight_multiplier", "2.0")],
        &|n| n % 2 == 1,
    ));
    cluster.upsert_aggregate(aggregate("hdd", &[("ssd", "false")], &|n| n % 2 == 0));
    cluster.upsert_aggregate(aggregate("tenant", &[("filter_tenant_id", "other")], &|n| n % 10 == 1));
    let limits = [("max_instances_per_host", "80"), ("max_io_ops_per_host", "64")];
    cluster.upsert_aggregate(aggregate("limits", &limits, &|n| n % 4 == 1));
    for n in 0..hosts {
        let name = format!("node-{n}");
        let scale = 1 + n % 4;
        let capacity = Resources {
            vcpus: 32 * scale,
            memory_bytes: 128 * GIB * u64::from(scale),
            disk_bytes: 1024 * GIB * u64::from(scale),
        };
        let architecture = if n % 50 == 11 { "aarch64" } else { "x86_64" };
        let mut host = Host::new(&name, "nova", architecture, capacity);
        host.platform = platform(architecture, [8_002_000, 9_001_000, 10_000_000][n as usize % 7 % 3]);
        host.address = Some(std::net::Ipv4Addr::from_bits(0x0a00_0000 + n).into());
        host.metrics = BTreeMap::from([
            ("cpu.percent".to_owned(), f64::from(n * 13 % 100)),
            ("cpu.frequency".to_owned(), 2600.0),
        ]);
        host.io_ops = n * 7 % 4;
        host.failed_builds = u32::from(n % 50 == 7);
        if n % 100 == 3 {
            host.scheduling = Scheduling::Cordoned {
                reason: "new disks".to_owned(),
            };
        }
        cluster.upsert_host(host);
        // No two hosts are used alike.
        let part = u64::from(n * 7919 % 70_000);
        let each = Resources {
            vcpus: capacity.vcpus * 4 * u32::try_from(part).unwrap() / 1_000_000,
            memory_bytes: capacity.memory_bytes / 1_000_000 * part,
            disk_bytes: capacity.disk_bytes / 1_000_000 * part,
        };
        for i in 0..10 {
            cluster.place(&Uid::from(format!("{name}/{i}")), &name, &each, None);
        }
    }
    cluster.take_events();
    cluster
}

/// Hosts that are all the same and empty: every one of them is as good as any other.
fn equal(hosts: u32) -> Cluster {
    let mut cluster = Cluster::new(settings(Profile::default()));
    let capacity = Resources {
        vcpus: 64,
        memory_bytes: 256 * GIB,
        disk_bytes: 2048 * GIB,
    };
    for n in 0..hosts {
        let mut host = Host::new(format!("node-{n}"), "nova", "x86_64", capacity);
        host.platform = platform("x86_64", 10_000_000);
        cluster.upsert_host(host);
    }
    cluster.take_events();
    cluster
}

fn large(uid: &str) -> Request {
    let resources = Resources {
        vcpus: 4,
        memory_bytes: 8 * GIB,
        disk_bytes: 40 * GIB,
    };
    let properties = [
        ("hw_architecture", "x86_64"),
        ("img_hv_type", "kvm"),
        ("hw_vm_mode", "hvm"),
        ("hw_disk_bus", "virtio"),
        ("os_distro", "debian"),
    ];
    let image = ImageFacts {
        uid: "debian".to_owned(),
        properties: properties.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
    };
    let mut request = Request {
        architecture: Some("x86_64".to_owned()),
        project: "shop".to_owned(),
        flavor: "m1.large".to_owned(),
        image: Some(Arc::new(image)),
        ..Request::new(uid, "shop/web-1", resources)
    };
    let specs = [("capabilities:hypervisor_type".to_owned(), "s== QEMU".to_owned())];
    assert!(request.add_extra_specs(&specs.into()).is_empty());
    request
}

/// As Nova's benchmark asks of all filters.
fn wide_request(uid: &str) -> Request {
    let mut request = large(uid);
    let specs = [
        ("aggregate_instance_extra_specs:ssd", "true"),
        ("capabilities:vcpus_total", ">= 16"),
        ("quota:disk_total_iops_sec", "2000"),
    ];
    let specs = specs.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert!(request.add_extra_specs(&specs.into()).is_empty());
    let query = r#"["and", [">=", "$free_ram_mb", 1024], [">=", "$free_disk_mb", 10240]]"#;
    let demands: &mut Demands = request.demands_mut();
    demands.hints = Hints {
        query: Some(Query::parse(query).unwrap()),
        ..Hints::default()
    };
    request
}

/// A group with members on so many hosts.
fn group(cluster: &mut Cluster, name: &str, members: u32, apart: u32) -> Group {
    let uid = Uid::from(name);
    for n in 0..members {
        let host = format!("node-{}", n * apart);
        cluster.place(
            &Uid::from(format!("{name}-{n}")),
            &host,
            &Resources::default(),
            Some(&uid),
        );
    }
    Group {
        uid,
        policy: Policy::ANTI_AFFINITY,
    }
}

fn decide_and_give_back(cluster: &mut Cluster, request: &Request) {
    let answer = cluster.schedule(black_box(request), Duration::ZERO);
    cluster.forget(&request.uid);
    cluster.take_events();
    let _ = black_box(answer);
}

/// How long this process has been on a processor, where the system tells.
fn on_processor() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// What criterion doesn't give: percentiles, each decision timed by itself and for a request of its own, and the time on
/// the processor, which says more where other work goes on beside.
fn percentiles(name: &str, cluster: &mut Cluster, request: &Request) {
    let before = on_processor();
    let mut times: Vec<Duration> = (0..3000)
        .map(|n| {
            let request = Request {
                uid: Uid::from(format!("{name}-{n}")),
                ..request.clone()
            };
            let began = Instant::now();
            decide_and_give_back(cluster, &request);
            began.elapsed()
        })
        .collect();
    let spent = on_processor()
        .zip(before)
        .map(|(after, before)| after.saturating_sub(before) / 3000);
    times.sort_unstable();
    let at = |part: usize| times[times.len() * part / 1000];
    println!(
        "{name}: p10 {:?}, p50 {:?}, p90 {:?}, p99 {:?}, on the processor {:?} each",
        at(100),
        at(500),
        at(900),
        at(990),
        spent.unwrap_or_default()
    );
}

fn placement(criterion: &mut Criterion) {
    let mut bench = criterion.benchmark_group("placement");
    bench
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    let mut run = |name: &str, hosts: u32, cluster: &mut Cluster, request: &Request| {
        bench.bench_with_input(BenchmarkId::new(name, hosts), request, |bench, request| {
            bench.iter(|| decide_and_give_back(cluster, request));
        });
        percentiles(&format!("{name}/{hosts}"), cluster, request);
    };
    for hosts in [100, 1_000, 5_000, 10_000] {
        let mut cluster = cloud(hosts, Profile::default());
        let group = group(&mut cluster, "web", 8, hosts / 8);
        let any_zone = Request {
            group: Some(group),
            ..large("request")
        };
        run("default", hosts, &mut cluster, &any_zone);
        if hosts < 10_000 {
            continue;
        }
        let one_zone = Request {
            zone: Some("az1".to_owned()),
            ..any_zone.clone()
        };
        run("default, one zone", hosts, &mut cluster, &one_zone);
        let too_large = Request {
            resources: Resources {
                vcpus: 129,
                ..any_zone.resources
            },
            ..any_zone
        };
        run("default, refused", hosts, &mut cluster, &too_large);
    }
    let hosts = 10_000;
    let mut cluster = cloud(hosts, wide());
    let eight = group(&mut cluster, "web", 8, hosts / 8);
    let request = Request {
        group: Some(eight),
        ..wide_request("request")
    };
    run("all filters", hosts, &mut cluster, &request);
    let mut cluster = cloud(hosts, Profile::default());
    let thousand = group(&mut cluster, "big", 1_000, 10);
    let request = Request {
        group: Some(thousand),
        ..large("request")
    };
    run("group of 1000", hosts, &mut cluster, &request);
    let mut cells = cloud(hosts, Profile::default());
    add_cells(&mut cells, hosts);
    let request = pinned(large("request"), 4 * GIB);
    run("cells, default", hosts, &mut cells, &request);
    first_times("cells, never asked before", &mut cells, &large("request"));
    run("cells, plain request", hosts, &mut cells, &large("request"));
    let mut too_many = request.clone();
    too_many.demands_mut().topology = Some(GuestTopology::dedicated(2, 61, GIB));
    run("cells, refused", hosts, &mut cells, &too_many);
    let mut cells = cloud(hosts, wide());
    add_cells(&mut cells, hosts);
    run(
        "cells, all filters",
        hosts,
        &mut cells,
        &pinned(wide_request("request"), 4 * GIB),
    );
    let mut cells = cloud(1_000, wide());
    add_cells(&mut cells, 1_000);
    run(
        "cells, all filters",
        1_000,
        &mut cells,
        &pinned(wide_request("request"), 4 * GIB),
    );
    many_cells();
    run("equal hosts", hosts, &mut equal(hosts), &large("request"));
    bench.finish();
}

criterion_group!(benches, placement);
criterion_main!(benches);
