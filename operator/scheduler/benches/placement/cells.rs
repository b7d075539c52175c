//! Hosts with cells and devices, and guests that want some of them.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use virga_scheduler::topology::{
    GuestTopology, HostCell, HostTopology, Limits, Occupied, Pages, PciAffinity, PciDevice, PciRequest, fit,
};
use virga_scheduler::{Claim, Cluster, Inventory, Ratio, Request, Resources, Uid};

use crate::{GIB, decide_and_give_back};

/// Gives each host cells and some of them devices, and somebody who holds some of that.
pub fn add_cells(cluster: &mut Cluster, hosts: u32) {
    for n in 0..hosts {
        let name = format!("node-{n}");
        let mut host = cluster.host(&name).unwrap().clone();
        let half = host.capacity.vcpus / 2;
        let cell = |id: u32| HostCell {
            id,
            socket: id,
            shared: (id * half..id * half + 4).collect(),
            dedicated: (id * half + 4..(id + 1) * half).collect(),
            siblings: (id * half..(id + 1) * half)
                .step_by(2)
                .map(|cpu| [cpu, cpu + 1].into_iter().collect())
                .collect(),
            memory_bytes: host.capacity.memory_bytes / 2,
            pages: vec![
                Pages {
                    size_kib: 4,
                    total: host.capacity.memory_bytes / 8192 - 524_288,
                    reserved: 0,
                },
                Pages {
                    size_kib: 2048,
                    total: 1024,
                    reserved: 0,
                },
            ],
        };
        let devices = (0..4).filter(|_| n.is_multiple_of(5)).map(|of| PciDevice {
            address: format!("0000:0{of}:00.0"),
            alias: "gpu".to_owned(),
            cell: Some(0),
        });
        let topology = HostTopology {
            cells: vec![cell(0), cell(1)],
            devices: devices.collect(),
        };
        let dedicated = u64::from(half - 4) * 2;
        host.inventories.insert("PCPU".to_owned(), Inventory::new(dedicated));
        host.topology = Some(Arc::new(topology.clone()));
        cluster.upsert_host(host);
        let limits = Limits {
            vcpus: Ratio::FOUR,
            memory: Ratio::ONE,
        };
        let guest = GuestTopology::dedicated(2, 1 + n * 7 % (half - 5), GIB);
        let pinning = fit(&topology, &Occupied::default(), limits, Some(&guest), &[]).unwrap();
        let nothing = Resources::default();
        let claim = Claim {
            topology: Some(&guest),
            pinning: Some(&pinning),
            ..Claim::new(&name, &nothing)
        };
        cluster.place_claim(&Uid::from(format!("{name}/pinned")), &claim);
    }
    cluster.take_events();
}

/// Eight nodes on sixteen cells, with devices that they can have near them and with one more than they can have.
pub fn many_cells() {
    let cell = |id: u32| HostCell {
        id,
        socket: id / 2,
        shared: [id * 16].into_iter().collect(),
        dedicated: (id * 16 + 1..=id * 16 + 1 + id / 2).collect(),
        siblings: Vec::new(),
        memory_bytes: 64 * GIB,
        pages: Vec::new(),
    };
    let device = |n: u32| PciDevice {
        address: format!("0000:{n:02x}:00.0"),
        alias: "gpu".to_owned(),
        cell: Some(n / 2),
    };
    let host = HostTopology {
        cells: (0..16).map(cell).collect(),
        devices: (0..32).map(device).collect(),
    };
    let limits = Limits {
        vcpus: Ratio::FOUR,
        memory: Ratio::ONE,
    };
    let mut guest = GuestTopology::dedicated(8, 1, GIB);
    let mut next = 0;
    for (n, cell) in (1..).zip(&mut guest.cells) {
        cell.vcpus = (next..next + n).collect();
        cell.dedicated = cell.vcpus.clone();
        next += n;
    }
    let nothing = Occupied::default();
    for count in [0, 16, 17] {
        let devices = PciRequest {
            alias: "gpu".to_owned(),
            count,
            affinity: PciAffinity::Required,
        };
        let mut times: Vec<Duration> = (0..1000)
            .map(|_| {
                let began = Instant::now();
                let found = fit(
                    black_box(&host),
                    &nothing,
                    limits,
                    Some(&guest),
                    std::slice::from_ref(&devices),
                );
                assert_eq!(found.is_ok(), count < 17);
                began.elapsed()
            })
            .collect();
        times.sort_unstable();
        println!(
            "cells, 8 of 16 with {count} devices: p50 {:?}, p99 {:?}",
            times[500], times[990]
        );
    }
}

/// Two nodes with processors of their own, and a GPU.
pub fn pinned(request: Request, memory_bytes: u64) -> Request {
    let mut request = Request {
        resources: Resources {
            vcpus: 0,
            ..request.resources
        },
        ..request
    };
    let demands = request.demands_mut();
    demands.resources.insert("PCPU".to_owned(), 4);
    demands.topology = Some(GuestTopology::dedicated(2, 2, memory_bytes));
    demands.devices = vec![PciRequest {
        alias: "gpu".to_owned(),
        count: 1,
        affinity: PciAffinity::Preferred,
    }];
    request
}

/// Decisions for guests of a kind that nobody has asked for yet.
pub fn first_times(name: &str, cluster: &mut Cluster, request: &Request) {
    let mut times: Vec<Duration> = (0..200)
        .map(|n| {
            let request = pinned(request.clone(), (4 << 30) - (n << 20));
            let began = Instant::now();
            decide_and_give_back(cluster, &request);
            began.elapsed()
        })
        .collect();
    times.sort_unstable();
    println!("{name}: p50 {:?}, p99 {:?}", times[100], times[197]);
}
