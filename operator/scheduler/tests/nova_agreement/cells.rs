//! Where Nova puts guests' NUMA nodes.
//!
//! `cells.json` holds forty made-up hosts with cells, pages, threads and devices, partly in use, four hundred guests, and
//! what Nova 34.0.0 makes of each: whether `PciDeviceStats.support_requests` finds the devices, and the cells that
//! `numa_fit_instance_to_host` gives the nodes.
//!
//! Two slips of that function were mended for it. It keeps what it found for a pair of cells under numbers that it changes
//! on the way, so that guests of several nodes are refused although they fit; and of "any" or "large" pages it asks every
//! cell for the size that the first cell had. Left out are guests with the thread policy `isolate` on hosts with threads,
//! which Nova refuses and this crate does not.

use std::collections::BTreeMap;

use serde::Deserialize;
use virga_scheduler::topology::{
    CpuSet, EmulatorThreads, GuestCell, GuestTopology, HostCell, HostTopology, Limits, Occupied, PageSize, Pages,
    PciAffinity, PciDevice, PciRequest, PinnedCell, Pinning, ThreadPolicy, fit,
};

#[derive(Deserialize)]
struct Recorded {
    hosts: Vec<RecordedHost>,
    guests: Vec<RecordedGuest>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RecordedHost {
    cells: Vec<RecordedCell>,
    /// Alias, cell, count.
    devices: Vec<(String, Option<u32>, u32)>,
    cpu_ratio: String,
    ram_ratio: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RecordedCell {
    id: u32,
    socket: u32,
    shared: Vec<u32>,
    dedicated: Vec<u32>,
    siblings: Vec<Vec<u32>>,
    memory_mib: u64,
    /// Size in KiB, total, reserved.
    pages: Vec<(u64, u64, u64)>,
    pinned: Vec<u32>,
    floating: u32,
    used_mib: u64,
    used_pages: Vec<(u64, u64)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RecordedGuest {
    host: usize,
    cells: Vec<RecordedNode>,
    page: Option<String>,
    thread: String,
    emulator: String,
    /// Alias, count, policy.
    devices: Vec<(String, u32, String)>,
    devices_there: bool,
    found: Option<Vec<u32>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RecordedNode {
    vcpus: Vec<u32>,
    dedicated: Vec<u32>,
    memory_mib: u64,
}

fn set(cpus: &[u32]) -> CpuSet {
    cpus.iter().copied().collect()
}

fn host(recorded: &RecordedHost) -> (HostTopology, Occupied) {
    let mut occupied = Occupied::default();
    let cell = |cell: &RecordedCell| HostCell {
        id: cell.id,
        socket: cell.socket,
        shared: set(&cell.shared),
        dedicated: set(&cell.dedicated),
        siblings: cell.siblings.iter().map(|core| set(core)).collect(),
        memory_bytes: cell.memory_mib << 20,
        pages: cell
            .pages
            .iter()
            .map(|&(size_kib, total, reserved)| Pages {
                size_kib,
                total,
                reserved,
            })
            .collect(),
    };
    for used in &recorded.cells {
        let held = |memory_bytes, page_kib| PinnedCell {
            cell: used.id,
            pins: Vec::new(),
            floating: CpuSet::new(),
            shared: CpuSet::new(),
            memory_bytes,
            page_kib,
            kept_empty: CpuSet::new(),
        };
        let mut cells = vec![PinnedCell {
            pins: (0..).zip(used.pinned.iter().copied()).collect(),
            floating: (0..used.floating).collect(),
            ..held(used.used_mib << 20, None)
        }];
        let paged = used.used_pages.iter();
        cells.extend(paged.map(|&(size, pages)| held(pages * size * 1024, Some(size))));
        occupied.add(&Pinning {
            cells,
            ..Pinning::default()
        });
    }
    let devices = recorded
        .devices
        .iter()
        .enumerate()
        .flat_map(|(at, (alias, cell, count))| {
            (0..*count).map(move |n| PciDevice {
                address: format!("{at}:{n}"),
                alias: alias.clone(),
                cell: *cell,
            })
        });
    let topology = HostTopology {
        cells: recorded.cells.iter().map(cell).collect(),
        devices: devices.collect(),
    };
    (topology, occupied)
}

fn guest(recorded: &RecordedGuest) -> (GuestTopology, Vec<PciRequest>) {
    let node = |node: &RecordedNode| GuestCell {
        vcpus: set(&node.vcpus),
        dedicated: set(&node.dedicated),
        memory_bytes: node.memory_mib << 20,
    };
    let topology = GuestTopology {
        cells: recorded.cells.iter().map(node).collect(),
        page_size: recorded.page.as_deref().map(|page| match page {
            "small" => PageSize::Small,
            "large" => PageSize::Large,
            "any" => PageSize::Any,
            size => PageSize::Kib(size.parse().unwrap()),
        }),
        thread_policy: match recorded.thread.as_str() {
            "isolate" => ThreadPolicy::Isolate,
            "require" => ThreadPolicy::Require,
            _ => ThreadPolicy::Prefer,
        },
        emulator_threads: match recorded.emulator.as_str() {
            "isolate" => EmulatorThreads::Isolate,
            _ => EmulatorThreads::WithGuest,
        },
    };
    let devices = recorded.devices.iter().map(|(alias, count, policy)| PciRequest {
        alias: alias.clone(),
        count: *count,
        affinity: match policy.as_str() {
            "required" => PciAffinity::Required,
            "legacy" => PciAffinity::Legacy,
            "preferred" => PciAffinity::Preferred,
            _ => PciAffinity::Socket,
        },
    });
    (topology, devices.collect())
}

/// Nothing is promised twice, and all that is asked for is there.
fn check(host: &HostTopology, occupied: &Occupied, guest: &GuestTopology, asked: &[PciRequest], found: &Pinning) {
    assert!(found.answers(Some(guest), asked), "{found:?}");
    let mut own: BTreeMap<u32, u32> = BTreeMap::new();
    for cell in &found.cells {
        let facts = host.cells.iter().find(|facts| facts.id == cell.cell).unwrap();
        for &(_, cpu) in &cell.pins {
            assert!(facts.dedicated.contains(cpu) && !occupied.cpus().contains(cpu), "{cpu}");
            *own.entry(cpu).or_default() += 1;
        }
    }
    for cpu in found.emulator.iter() {
        assert!(!occupied.cpus().contains(cpu), "{cpu}");
        *own.entry(cpu).or_default() += 1;
    }
    assert!(own.values().all(|&times| times == 1), "{own:?}");
    let mut after = occupied.clone();
    after.add(found);
    assert!(!after.is_shared(found));
    for facts in &host.cells {
        for pages in facts.pages.iter().filter(|pages| pages.size_kib > 4) {
            let used = after.pages(facts.id, pages.size_kib);
            let before = occupied.pages(facts.id, pages.size_kib);
            assert!(
                used == before || used <= u128::from(pages.total - pages.reserved),
                "{pages:?}"
            );
        }
    }
}

#[test]
fn nodes_get_the_cells_that_nova_gives_them() {
    let recorded: Recorded = serde_json::from_str(include_str!("cells.json")).unwrap();
    let mut placed = 0;
    for (at, asked) in recorded.guests.iter().enumerate() {
        let of = &recorded.hosts[asked.host];
        let (host, occupied) = host(of);
        let (guest, devices) = guest(asked);
        let limits = Limits {
            vcpus: of.cpu_ratio.parse().unwrap(),
            memory: of.ram_ratio.parse().unwrap(),
        };
        let alone = fit(&host, &occupied, limits, None, &devices);
        assert_eq!(alone.is_ok(), asked.devices_there, "guest {at}: {alone:?}");
        let found = fit(&host, &occupied, limits, Some(&guest), &devices);
        let cells = found
            .as_ref()
            .ok()
            .map(|found| found.cells.iter().map(|cell| cell.cell).collect::<Vec<u32>>());
        assert_eq!(cells, asked.found, "guest {at}: {found:?}");
        if let Ok(found) = found {
            check(&host, &occupied, &guest, &devices, &found);
            placed += 1;
        }
    }
    assert!(placed > 150, "{placed} guests were placed");
}
