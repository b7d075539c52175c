//! How long one decision takes: filter, weigh, pick and reserve, then give the room back.

#![allow(clippy::unwrap_used, reason = "what can't be set up has failed")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use virga_scheduler::{Cluster, Group, Host, Policy, Profile, Request, Resources, Scheduling, Settings, Uid};

const GIB: u64 = 1 << 30;

/// Hosts of 32 to 128 threads in three zones, 0 to 70 % used by ten Instances each; 1 % disabled, 2 % of another
/// architecture.
fn cloud(hosts: u32) -> Cluster {
    let settings = Settings {
        profile: Profile::default(),
        reservation_ttl: Duration::from_secs(30),
        seed: 1,
    };
    let mut cluster = Cluster::new(settings);
    for n in 0..hosts {
        let name = format!("node-{n}");
        let scale = 1 + n % 4;
        let capacity = Resources {
            vcpus: 32 * scale,
            memory_bytes: 128 * GIB * u64::from(scale),
            disk_bytes: 1024 * GIB * u64::from(scale),
        };
        let architecture = if n % 50 == 7 { "aarch64" } else { "x86_64" };
        let mut host = Host::new(&name, format!("az{}", n % 3), architecture, capacity);
        if n % 100 == 3 {
            host.scheduling = Scheduling::Cordoned {
                reason: "new disks".to_owned(),
            };
        }
        cluster.upsert_host(host);
        let part = u64::from(n * 37 % 70);
        let each = Resources {
            vcpus: capacity.vcpus * 4 * u32::try_from(part).unwrap() / 1000,
            memory_bytes: capacity.memory_bytes / 1000 * part,
            disk_bytes: capacity.disk_bytes / 1000 * part,
        };
        for i in 0..10 {
            cluster.place(&Uid::from(format!("{name}/{i}")), &name, &each, None);
        }
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
    Request {
        architecture: Some("x86_64".to_owned()),
        ..Request::new(uid, "shop/web-1", resources)
    }
}

fn decide_and_give_back(cluster: &mut Cluster, request: &Request) {
    let answer = cluster.schedule(black_box(request), Duration::ZERO);
    cluster.forget(&request.uid);
    cluster.take_events();
    let _ = black_box(answer);
}

fn placement(criterion: &mut Criterion) {
    let mut bench = criterion.benchmark_group("placement");
    bench
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    for hosts in [1_000, 10_000] {
        let mut cluster = cloud(hosts);
        // As Nova's benchmark asks: a member of a group with eight members on eight hosts.
        let group = Uid::from("web");
        for n in 0..8 {
            let host = format!("node-{}", n * 100);
            cluster.place(
                &Uid::from(format!("web-{n}")),
                &host,
                &Resources::default(),
                Some(&group),
            );
        }
        let any_zone = Request {
            group: Some(Group {
                uid: group,
                policy: Policy::ANTI_AFFINITY,
            }),
            ..large("request")
        };
        let one_zone = Request {
            zone: Some("az1".to_owned()),
            ..any_zone.clone()
        };
        let too_large = Request {
            resources: Resources {
                vcpus: 129,
                ..large("request").resources
            },
            ..any_zone.clone()
        };
        for (name, request) in [
            ("any zone", &any_zone),
            ("one zone", &one_zone),
            ("refused", &too_large),
        ] {
            bench.bench_with_input(BenchmarkId::new(name, hosts), request, |bench, request| {
                bench.iter(|| decide_and_give_back(&mut cluster, request));
            });
        }
    }
    bench.finish();
}

criterion_group!(benches, placement);
criterion_main!(benches);
