//! The cells and devices of hosts, and what requests ask of them.

use std::sync::Arc;

use virga_scheduler::topology::{
    CpuSet, EmulatorThreads, GuestTopology, HostCell, HostTopology, PageSize, Pages, PciAffinity, PciDevice,
    PciRequest, ThreadPolicy,
};

/// What requests ask of cells and devices; the first asks for nothing.
pub const PINS: usize = 8;

/// The cells and devices of a host: none, one or two of each.
pub fn topology(cells: usize) -> Option<Arc<HostTopology>> {
    let set = |text: String| -> CpuSet { text.parse().unwrap() };
    let cell = |n: u32| HostCell {
        id: n,
        socket: n,
        shared: set(format!("{}-{}", n * 8, n * 8 + 1)),
        dedicated: set(format!("{}-{}", n * 8 + 2, n * 8 + 4)),
        siblings: (0..3)
            .map(|core| set(format!("{}-{}", n * 8 + core * 2, n * 8 + core * 2 + 1)))
            .collect(),
        memory_bytes: 1 << 30,
        pages: [(4, 128 << 10), (2048, 256)]
            .map(|(size_kib, total)| Pages {
                size_kib,
                total,
                reserved: 0,
            })
            .to_vec(),
    };
    let device = |n: u32| PciDevice {
        address: format!("0000:0{n}:00.0"),
        alias: "gpu".to_owned(),
        cell: n.checked_sub(1),
    };
    let cells = u32::try_from(cells).unwrap();
    (cells > 0).then(|| {
        Arc::new(HostTopology {
            cells: (0..cells).map(cell).collect(),
            devices: (0..=cells).map(device).collect(),
        })
    })
}

/// What a request asks of cells and devices.
pub fn pins(n: usize) -> (Option<GuestTopology>, Vec<PciRequest>) {
    let gpu = |count, affinity| PciRequest {
        alias: "gpu".to_owned(),
        count,
        affinity,
    };
    let guest = |nodes, cpus| GuestTopology::dedicated(nodes, cpus, 100 << 20);
    match n {
        1 => (Some(guest(1, 1)), Vec::new()),
        2 => {
            let thread_policy = ThreadPolicy::Require;
            let guest = GuestTopology {
                thread_policy,
                ..guest(1, 2)
            };
            (Some(guest), Vec::new())
        }
        3 => {
            let thread_policy = ThreadPolicy::Isolate;
            let guest = GuestTopology {
                thread_policy,
                ..guest(2, 1)
            };
            (Some(guest), Vec::new())
        }
        4 => {
            let mut guest = guest(1, 2);
            guest.cells[0].dedicated = CpuSet::new();
            guest.page_size = Some(PageSize::Large);
            (Some(guest), Vec::new())
        }
        5 => (None, vec![gpu(1, PciAffinity::Required)]),
        6 => {
            let emulator_threads = EmulatorThreads::Isolate;
            let guest = GuestTopology {
                emulator_threads,
                ..guest(1, 2)
            };
            (Some(guest), vec![gpu(1, PciAffinity::Required)])
        }
        7 => (Some(guest(2, 1)), vec![gpu(2, PciAffinity::Legacy)]),
        _ => (None, Vec::new()),
    }
}
