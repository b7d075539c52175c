//! What is decided for all hosts at once is what each host says by itself.

use std::sync::Arc;

use virga_scheduler::topology::{GuestTopology, HostCell, HostTopology, PciAffinity, PciDevice, PciRequest};
use virga_scheduler::{
    Aggregate, Cluster, Group, Host, ImageFacts, Inventory, Platform, Policy, ProfileSpec, Query, Rejection, Request,
    Uid, Verdict, filters, near,
};

use crate::worlds::{START, cluster_with, host, request, size};

/// A number that looks random and is the same on every run.
fn throw(n: u64, sides: u64) -> u64 {
    let mixed = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33) % sides
}

fn every_filter() -> ProfileSpec {
    let mut spec = ProfileSpec {
        filters: filters::all().map(|filter| filter.name().to_owned()).collect(),
        ..ProfileSpec::default()
    };
    spec.options.max_instances_per_host = 4;
    spec.options.isolated_hosts = (0..9).map(|n| format!("node-{n}")).collect();
    spec.options.isolated_images = ["secret".to_owned()].into();
    spec.options.metrics.weights.insert("cpu".to_owned(), -1.0);
    spec
}

/// So many cells with so many dedicated CPUs each, and so many devices.
fn topology(cells: u32, dedicated: u32, devices: u32) -> Option<Arc<HostTopology>> {
    let cell = |id: u32| HostCell {
        id,
        socket: 0,
        shared: [id * 10].into_iter().collect(),
        dedicated: (id * 10 + 1..=id * 10 + dedicated).collect(),
        siblings: Vec::new(),
        memory_bytes: 1 << 30,
        pages: Vec::new(),
    };
    let device = |n: u32| PciDevice {
        address: n.to_string(),
        alias: "gpu".to_owned(),
        cell: Some(n),
    };
    (cells > 0).then(|| {
        Arc::new(HostTopology {
            cells: (0..cells).map(cell).collect(),
            devices: (0..devices).map(device).collect(),
        })
    })
}

/// Hosts of every kind, over several blocks of columns, some of them taken away again.
fn motley(spec: &ProfileSpec) -> Cluster {
    let mut cluster = cluster_with(spec);
    for n in 0..300u64 {
        let dice = |of: u64, sides: u64| throw(n * 31 + of, sides);
        let small = |of: u64, sides: u64| u32::try_from(dice(of, sides)).unwrap();
        let mut host = Host {
            traits: (0..3)
                .filter(|&t| dice(t, 3) > 0)
                .map(|t| format!("CUSTOM_{t}"))
                .collect(),
            address: Some(std::net::Ipv4Addr::from_bits(0x0a00_0000 + small(3, 1024)).into()),
            io_ops: small(4, 10),
            failed_builds: small(5, 9) / 8,
            alive: dice(6, 20) > 0,
            metrics: (dice(7, 10) > 0)
                .then(|| ("cpu".to_owned(), f64::from(small(8, 100))))
                .into_iter()
                .collect(),
            inventories: (dice(9, 2) > 0)
                .then(|| {
                    (
                        "CUSTOM_LICENCE".to_owned(),
                        Inventory {
                            step_size: 1 + dice(10, 2),
                            ..Inventory::new(dice(11, 6))
                        },
                    )
                })
                .into_iter()
                .collect(),
            ..host(&format!("node-{n}"))
        };
        host.platform = Arc::new(Platform {
            hypervisor_type: ["QEMU", "Other"][usize::from(dice(12, 9) == 0)].to_owned(),
            hypervisor_version: 8_000_000 + small(13, 3) * 1000,
            ..Platform::default()
        });
        host.topology = topology(small(31, 3), small(32, 7), small(33, 3));
        cluster.upsert_host(host);
        for i in 0..dice(14, 5) {
            let used = size(small(15 + i, 3), dice(20 + i, 4), dice(25 + i, 30));
            cluster.place(
                &Uid::from(format!("{n}/{i}")),
                &format!("node-{n}"),
                &used,
                Some(&Uid::from("web")),
            );
        }
    }
    for (at, (key, value)) in [
        ("availability_zone", "az2"),
        ("ssd", "true"),
        ("max_instances_per_host", "3"),
        ("max_io_ops_per_host", "5"),
        ("filter_tenant_id", "bank"),
        ("instance_type", "m1.small"),
        ("os_distro", "debian"),
        ("cpu_allocation_ratio", "2"),
        ("ram_weight_multiplier", "-0.5"),
    ]
    .into_iter()
    .enumerate()
    {
        cluster.upsert_aggregate(Aggregate {
            name: key.to_owned(),
            hosts: (0..300)
                .filter(|n| throw(n * 17 + at as u64, 3) > 0)
                .map(|n| format!("node-{n}"))
                .collect(),
            zone: None,
            metadata: [(key.to_owned(), value.to_owned())].into(),
        });
    }
    for n in (0..300).step_by(7) {
        cluster.remove_host(&format!("node-{n}"));
    }
    cluster.take_events();
    cluster
}

/// Requests that ask for now this, now that.
fn asking(n: u64) -> Request {
    let dice = |of: u64, sides: u64| throw(n * 57 + of, sides);
    let one_in = |of: u64, sides: u64| dice(of, sides) == 0;
    let mut request = Request {
        project: ["shop", "bank"][usize::from(one_in(0, 2))].to_owned(),
        flavor: ["m1.small", "m1.large"][usize::from(one_in(1, 3))].to_owned(),
        zone: one_in(2, 3).then(|| "az2".to_owned()),
        forced_host: one_in(3, 20).then(|| "node-101".to_owned()),
        image: (!one_in(4, 4)).then(|| {
            Arc::new(ImageFacts {
                uid: ["secret", "plain"][usize::from(!one_in(5, 6))].to_owned(),
                properties: [
                    ("hw_architecture".to_owned(), "x86_64".to_owned()),
                    ("img_hv_requested_version".to_owned(), ">=8.0.1".to_owned()),
                    (
                        "os_distro".to_owned(),
                        ["debian", "alpine"][usize::from(one_in(6, 8))].to_owned(),
                    ),
                ]
                .into(),
            })
        }),
        group: one_in(7, 4).then(|| Group {
            uid: Uid::from("web"),
            policy: [Policy::ANTI_AFFINITY, Policy::Affinity, Policy::SoftAntiAffinity]
                [usize::try_from(dice(8, 3)).unwrap()],
        }),
        ..request(&format!("asks-{n}"))
    };
    let specs = [
        ("resources:CUSTOM_LICENCE", "2", 9),
        ("trait:CUSTOM_0", "required", 10),
        ("trait:CUSTOM_1", "forbidden", 11),
        ("aggregate_instance_extra_specs:ssd", "true", 12),
        ("capabilities:hypervisor_type", "s== QEMU", 13),
        ("capabilities:free_ram_mb", ">= 6000", 14),
        ("capabilities:num_instances", "<or> 1 <or> 2", 15),
    ];
    let specs = specs.into_iter().filter(|&(_, _, of)| one_in(of, 4));
    let specs = specs
        .map(|(key, value, _)| (key.to_owned(), value.to_owned()))
        .collect();
    assert_eq!(request.add_extra_specs(&specs), []);
    let query = r#"["or", [">", "$free_disk_mb", 60000], ["not", ["<=", "$num_io_ops", 3]], ["=", "$host", "node-8"]]"#;
    let demands = request.demands_mut();
    demands.hints.query = one_in(16, 4).then(|| Query::parse(query).unwrap());
    demands.hints.near = one_in(17, 5).then(|| near("10.0.1.1", Some("/23")).unwrap());
    demands.hints.different_host = (0..dice(18, 3))
        .map(|i| Uid::from(format!("{}/0", i * 40 + 1)))
        .collect();
    let nodes = u32::try_from(1 + dice(22, 2)).unwrap();
    demands.topology = one_in(21, 4).then(|| GuestTopology::dedicated(nodes, 2, 1 << 20));
    demands.devices = one_in(23, 5)
        .then(|| PciRequest {
            alias: "gpu".to_owned(),
            count: nodes,
            affinity: PciAffinity::Required,
        })
        .into_iter()
        .collect();
    demands.member_of = one_in(19, 5)
        .then(|| ["ssd".to_owned(), "os_distro".to_owned()].into())
        .into_iter()
        .collect();
    demands.any_traits = one_in(20, 4)
        .then(|| ["CUSTOM_2".to_owned(), "CUSTOM_9".to_owned()].into())
        .into_iter()
        .collect();
    request
}

#[test]
fn what_is_decided_for_all_hosts_at_once_is_what_each_host_says() {
    for spec in [every_filter(), ProfileSpec::default()] {
        let mut cluster = motley(&spec);
        let mut placed = 0;
        for n in 0..400 {
            let request = asking(n);
            let table = cluster.explain(&request);
            let passed: Vec<(&str, f64)> = table
                .hosts
                .iter()
                .filter_map(|host| match host.verdict {
                    Verdict::Passed { weight, .. } => Some((host.host.as_str(), weight)),
                    Verdict::Rejected { .. } => None,
                })
                .collect();
            let counts = |rejections: &[Rejection]| -> Vec<(&'static str, u32)> {
                rejections
                    .iter()
                    .map(|rejection| (rejection.filter, rejection.count))
                    .collect()
            };
            match cluster.schedule(&request, START) {
                Ok(placement) => {
                    placed += 1;
                    assert_eq!(placement.survivors as usize, passed.len(), "{request:?}");
                    let best = passed
                        .iter()
                        .map(|&(_, weight)| weight)
                        .fold(f64::NEG_INFINITY, f64::max);
                    let chosen = passed.iter().find(|(host, _)| *host == placement.host).unwrap();
                    assert!((chosen.1 - best).abs() < 1e-9, "{placement:?}");
                    let kept = cluster.explanation(&request.uid).unwrap();
                    assert!((kept.best[0].weight - best).abs() < 1e-9, "{kept:?}");
                    assert_eq!(table.chosen.as_ref(), Some(&placement.host));
                }
                Err(refusal) => assert!(passed.is_empty() && table.rejections == refusal.rejections, "{refusal}"),
            }
            let explanation = cluster.explanation(&request.uid).unwrap();
            assert_eq!(
                counts(&explanation.rejections),
                counts(&table.rejections),
                "{request:?}"
            );
        }
        assert!(placed > 50, "{placed} of 400 found a host");
    }
}
