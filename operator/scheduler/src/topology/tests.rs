//! Guests and hosts worked out by hand.

use super::*;
use crate::Ratio;

const GIB: u64 = 1 << 30;

const LIMITS: Limits = Limits {
    vcpus: Ratio::FOUR,
    memory: Ratio::ONE,
};

fn set(text: &str) -> CpuSet {
    text.parse().unwrap()
}

/// A cell with shared and dedicated CPUs, threads in pairs, 4 GiB of small pages, of which none is kept back, and 512 pages
/// of 2 MiB, of which 12 are.
fn cell(id: u32, shared: &str, dedicated: &str, siblings: &[&str]) -> HostCell {
    let pages = |size_kib, total, reserved| Pages {
        size_kib,
        total,
        reserved,
    };
    HostCell {
        id,
        socket: id / 2,
        shared: set(shared),
        dedicated: set(dedicated),
        siblings: siblings.iter().map(|core| set(core)).collect(),
        memory_bytes: 5 * GIB,
        pages: vec![pages(2048, 512, 12), pages(4, 4 * GIB / 4096, 0)],
    }
}

/// Cell 0 with two cores of two threads for dedicated CPUs, cell 1 with three.
fn host() -> HostTopology {
    HostTopology {
        cells: vec![
            cell(0, "0,1", "2-5", &["0,1", "2,3", "4,5"]),
            cell(1, "6,7", "8-13", &["6,7", "8,9", "10,11", "12,13"]),
        ],
        devices: Vec::new(),
    }
}

fn guest(nodes: u32, cpus: u32) -> GuestTopology {
    GuestTopology::dedicated(nodes, cpus, GIB)
}

fn floating(cpus: u32, memory_bytes: u64) -> GuestTopology {
    let mut guest = GuestTopology::dedicated(1, cpus, memory_bytes);
    guest.cells[0].dedicated = CpuSet::new();
    guest
}

fn with(guest: &GuestTopology, policy: ThreadPolicy) -> GuestTopology {
    GuestTopology {
        thread_policy: policy,
        ..guest.clone()
    }
}

fn found(host: &HostTopology, occupied: &Occupied, guest: &GuestTopology) -> Result<Pinning, String> {
    fit(host, occupied, LIMITS, Some(guest), &[]).map_err(|misfit| misfit.to_string())
}

/// The host CPUs of each node.
fn cpus(found: Result<Pinning, String>) -> Result<Vec<String>, String> {
    let of = |cell: &PinnedCell| cell.pins.iter().map(|&(_, cpu)| cpu).collect::<CpuSet>().to_string();
    found.map(|found| found.cells.iter().map(of).collect())
}

/// What is left after guests of one node with these dedicated CPUs.
fn taken(cells: &[(u32, &str)]) -> Occupied {
    let mut occupied = Occupied::default();
    for &(cell, cpus) in cells {
        occupied.add(&Pinning {
            cells: vec![PinnedCell {
                cell,
                pins: (0..).zip(set(cpus).iter()).collect(),
                floating: CpuSet::new(),
                shared: CpuSet::new(),
                memory_bytes: GIB,
                page_kib: None,
                kept_empty: CpuSet::new(),
            }],
            ..Pinning::default()
        });
    }
    occupied
}

#[test]
fn threads_of_one_core_are_taken_together_in_the_cell_with_most_free() {
    let none = Occupied::default();
    assert_eq!(cpus(found(&host(), &none, &guest(1, 2))), Ok(vec!["8,9".to_owned()]));
    assert_eq!(cpus(found(&host(), &none, &guest(1, 6))), Ok(vec!["8-13".to_owned()]));
    // As many nodes as cells: in the host's order.
    assert_eq!(
        cpus(found(&host(), &none, &guest(2, 4))),
        Ok(vec!["2-5".to_owned(), "8-11".to_owned()])
    );
    // A core with one free thread is left alone as long as there are whole ones.
    let some = taken(&[(1, "8")]);
    assert_eq!(cpus(found(&host(), &some, &guest(1, 2))), Ok(vec!["10,11".to_owned()]));
    // Crumbs will do when there is nothing else.
    let some = taken(&[(0, "2-5"), (1, "8,10,12")]);
    assert_eq!(
        cpus(found(&host(), &some, &guest(1, 3))),
        Ok(vec!["9,11,13".to_owned()])
    );
}

#[test]
fn what_is_short_is_told_with_what_came_nearest() {
    let none = Occupied::default();
    for (asked, occupied, text) in [
        (
            guest(1, 7),
            &none,
            "no cell has 7 free dedicated CPUs: at most 6 are free in one",
        ),
        (
            guest(1, 4),
            &taken(&[(0, "2,3"), (1, "8-11")]),
            "no cell has 4 free dedicated CPUs: at most 2 are free in one",
        ),
        (guest(3, 1), &none, "the guest has 3 NUMA nodes, the host only 2 cells"),
        (
            guest(2, 5),
            &none,
            "each of the 2 NUMA nodes fits into some cell, but not all of them at once",
        ),
        (
            GuestTopology::dedicated(1, 1, 5 * GIB),
            &none,
            "no cell has 5120 MiB of memory left: at most 4096 MiB are left in one",
        ),
        (
            floating(3, GIB),
            &none,
            "no cell has 3 shared CPUs: at most 2 are in one",
        ),
    ] {
        assert_eq!(found(&host(), occupied, &asked), Err(text.to_owned()));
    }
    assert_eq!(
        found(&HostTopology::default(), &none, &guest(1, 1)),
        Err("the host tells of no NUMA cells".to_owned())
    );
}

#[test]
fn isolated_cpus_have_cores_of_their_own_and_keep_the_other_threads_empty() {
    let none = Occupied::default();
    let isolated = |cpus| with(&guest(1, cpus), ThreadPolicy::Isolate);
    let placed = found(&host(), &none, &isolated(2)).unwrap();
    assert_eq!(placed.cells[0].pins, [(0, 8), (1, 10)]);
    assert_eq!(placed.cells[0].kept_empty, set("9,11"));
    let mut occupied = Occupied::default();
    occupied.add(&placed);
    assert_eq!(occupied.cpus(), &set("8-11"));
    // Cell 1 has one core left, cell 0 two.
    assert_eq!(
        cpus(found(&host(), &occupied, &isolated(2))),
        Ok(vec!["2,4".to_owned()])
    );
    assert_eq!(
        found(&host(), &occupied, &isolated(3)),
        Err("no cell has 3 cores that are free as a whole: at most 2 are in one".to_owned())
    );
    // A core on which somebody is is not free as a whole.
    let some = taken(&[(0, "2,4"), (1, "8,10")]);
    assert_eq!(cpus(found(&host(), &some, &isolated(1))), Ok(vec!["12".to_owned()]));
}

#[test]
fn required_siblings_are_not_made_of_crumbs() {
    let required = |cpus| with(&guest(1, cpus), ThreadPolicy::Require);
    let some = taken(&[(0, "2,4"), (1, "8,10")]);
    assert_eq!(cpus(found(&host(), &some, &required(2))), Ok(vec!["12,13".to_owned()]));
    assert_eq!(
        found(&host(), &some, &required(3)),
        Err("no cell has 3 free dedicated CPUs that share cores: at most 2 are in one".to_owned())
    );
    let mut without = host();
    for cell in &mut without.cells {
        cell.siblings.clear();
    }
    assert_eq!(
        found(&without, &Occupied::default(), &required(1)),
        Err("no cell has 1 free dedicated CPUs that share cores: at most 0 are in one".to_owned())
    );
    // Without threads, a CPU is a core.
    let isolated = with(&guest(1, 6), ThreadPolicy::Isolate);
    assert_eq!(
        cpus(found(&without, &Occupied::default(), &isolated)),
        Ok(vec!["8-13".to_owned()])
    );
}

#[test]
fn pages_are_counted_but_for_those_kept_back() {
    let paged = |page_size, memory_bytes| GuestTopology {
        page_size: Some(page_size),
        ..GuestTopology::dedicated(1, 1, memory_bytes)
    };
    let none = Occupied::default();
    let page = |page_size, memory_bytes| {
        let found = found(&host(), &none, &paged(page_size, memory_bytes));
        found.map(|found| found.cells[0].page_kib.unwrap())
    };
    assert_eq!(page(PageSize::Large, 1000 << 20), Ok(2048));
    assert_eq!(page(PageSize::Any, 1000 << 20), Ok(2048));
    assert_eq!(page(PageSize::Any, 1002 << 20), Ok(4));
    assert_eq!(page(PageSize::Small, GIB), Ok(4));
    assert_eq!(
        page(PageSize::Kib(2048), 1002 << 20),
        Err("no cell has 501 free pages of 2048 KiB: at most 500 are free in one".to_owned())
    );
    assert_eq!(
        page(PageSize::Kib(1 << 20), GIB),
        Err("no cell has pages of the size that is asked for, of which 1024 MiB are a multiple".to_owned())
    );
    assert!(page(PageSize::Large, 1001 << 20).is_err(), "no multiple of 2 MiB");
    let mut occupied = Occupied::default();
    for _ in 0..2 {
        occupied.add(&found(&host(), &occupied, &paged(PageSize::Large, 600 << 20)).unwrap());
    }
    assert_eq!((occupied.pages(0, 2048), occupied.pages(1, 2048)), (300, 300));
    assert!(found(&host(), &occupied, &paged(PageSize::Large, 600 << 20)).is_err());
}

#[test]
fn memory_is_overcommitted_for_guests_without_cpus_of_their_own_only() {
    let limits = Limits {
        vcpus: Ratio::FOUR,
        memory: "1.5".parse().unwrap(),
    };
    let mut one_cell = host();
    one_cell.cells.truncate(1);
    let try_one = |occupied: &Occupied, guest: &GuestTopology| fit(&one_cell, occupied, limits, Some(guest), &[]);
    let mut occupied = Occupied::default();
    occupied.add(&try_one(&occupied, &floating(1, 4 * GIB)).unwrap());
    // 7.5 GiB may be given out, but of one's own there is nothing left.
    assert_eq!(
        try_one(&occupied, &guest(1, 1)),
        Err(Misfit::Memory {
            free_mib: 0,
            needed_mib: 1024
        })
    );
    assert!(try_one(&occupied, &floating(1, 3 * GIB)).is_ok());
    assert_eq!(
        try_one(&occupied, &floating(1, 4 * GIB)),
        Err(Misfit::Memory {
            free_mib: 3584,
            needed_mib: 4096
        })
    );
}

#[test]
fn floating_cpus_are_given_out_up_to_the_ratio() {
    let mut one_cell = host();
    one_cell.cells.truncate(1);
    let mut occupied = Occupied::default();
    for _ in 0..4 {
        let placed = found(&one_cell, &occupied, &floating(2, 1 << 20)).unwrap();
        assert_eq!(
            (&placed.cells[0].floating, &placed.cells[0].shared),
            (&set("0,1"), &set("0,1"))
        );
        occupied.add(&placed);
    }
    assert_eq!(
        found(&one_cell, &occupied, &floating(1, 1 << 20)),
        Err("no cell can take 1 more floating CPUs: at most 0 in one".to_owned())
    );
}

#[test]
fn a_mixed_guest_has_some_cpus_of_its_own_and_floats_with_the_others() {
    let mut mixed = guest(1, 4);
    mixed.cells[0].dedicated = set("0,3");
    let placed = found(&host(), &Occupied::default(), &mixed).unwrap();
    let cell = &placed.cells[0];
    assert_eq!((&cell.pins[..], &cell.floating), (&[(0, 8), (3, 9)][..], &set("1,2")));
    assert_eq!(cell.shared, set("6,7"));
    assert!(placed.answers(Some(&mixed), &[]) && !placed.answers(Some(&guest(1, 4)), &[]));
}

#[test]
fn the_emulator_s_threads_have_a_cpu_of_the_first_cell_or_the_shared_ones() {
    let mut own = guest(2, 3);
    own.emulator_threads = EmulatorThreads::Isolate;
    let placed = found(&host(), &Occupied::default(), &own).unwrap();
    assert_eq!(
        (placed.emulator.to_string(), placed.emulator_is_own),
        ("5".to_owned(), true)
    );
    let mut occupied = Occupied::default();
    occupied.add(&placed);
    assert_eq!(occupied.cpus(), &set("2-5,8-10"));
    let mut full = guest(1, 6);
    full.emulator_threads = EmulatorThreads::Isolate;
    assert_eq!(
        found(&host(), &Occupied::default(), &full),
        Err("no cell has 7 free dedicated CPUs: at most 6 are free in one".to_owned())
    );
    full.emulator_threads = EmulatorThreads::Share;
    let placed = found(&host(), &Occupied::default(), &full).unwrap();
    assert_eq!((placed.emulator, placed.emulator_is_own), (set("0,1,6,7"), false));
}

fn devices(host: &mut HostTopology, cells: &[Option<u32>]) {
    let device = |(n, &cell): (usize, &Option<u32>)| PciDevice {
        address: format!("0000:{n:02x}:00.0"),
        alias: "gpu".to_owned(),
        cell,
    };
    host.devices = cells.iter().enumerate().map(device).collect();
}

fn gpus(count: u32, affinity: PciAffinity) -> Vec<PciRequest> {
    vec![PciRequest {
        alias: "gpu".to_owned(),
        count,
        affinity,
    }]
}

#[test]
fn a_policy_says_how_near_devices_must_be() {
    // Cells 0 and 1 are one socket, 2 the other. The guest fits into cell 0 only.
    let mut host = host();
    host.cells[1].dedicated = set("8");
    host.cells.push(cell(2, "14", "15", &[]));
    devices(&mut host, &[Some(0), Some(1), None, Some(2)]);
    let none = Occupied::default();
    let held = |count, affinity| -> Result<Vec<String>, String> {
        let found = fit(&host, &none, LIMITS, Some(&guest(1, 3)), &gpus(count, affinity));
        let found = found.map_err(|misfit| misfit.to_string())?;
        Ok(found
            .devices
            .iter()
            .map(|device| device.address[5..7].to_owned())
            .collect())
    };
    let addresses = |all: &[&str]| Ok(all.iter().map(ToString::to_string).collect());
    assert_eq!(held(1, PciAffinity::Required), addresses(&["00"]));
    assert_eq!(
        held(2, PciAffinity::Required),
        Err("2 free devices \"gpu\" are needed near the guest's cells, 1 are there".to_owned())
    );
    assert_eq!(held(2, PciAffinity::Socket), addresses(&["00", "01"]));
    assert!(held(3, PciAffinity::Socket).is_err(), "the third has no socket");
    assert_eq!(held(2, PciAffinity::Legacy), addresses(&["00", "02"]));
    assert!(held(3, PciAffinity::Legacy).is_err());
    assert_eq!(held(4, PciAffinity::Preferred), addresses(&["00", "02", "01", "03"]));
    assert_eq!(
        held(5, PciAffinity::Preferred),
        Err("5 free devices \"gpu\" are needed, 4 are there".to_owned())
    );
    // Without NUMA nodes, any device will do.
    let alone = fit(&host, &none, LIMITS, None, &gpus(4, PciAffinity::Required)).unwrap();
    assert_eq!(alone.devices.len(), 4);
}

#[test]
fn cells_with_devices_are_for_guests_that_want_them() {
    let mut host = host();
    devices(&mut host, &[Some(0)]);
    let none = Occupied::default();
    let cell = |devices: &[PciRequest]| fit(&host, &none, LIMITS, Some(&guest(1, 1)), devices).unwrap().cells[0].cell;
    assert_eq!(cell(&gpus(1, PciAffinity::Legacy)), 0);
    assert_eq!(cell(&[]), 1);
}

/// A host of so many cells, the guest's last nodes being choosy: node n fits into the cells from n on.
fn large(cells: u32, nodes: u32) -> (HostTopology, GuestTopology) {
    let mut host = HostTopology::default();
    for id in 0..cells {
        let first = id * 40;
        host.cells.push(HostCell {
            dedicated: (first..=first + id).collect(),
            ..cell(id, "", "", &[])
        });
    }
    let mut guest = GuestTopology::dedicated(nodes, 1, 1 << 20);
    let mut next = 0;
    for (n, cell) in (1..).zip(&mut guest.cells) {
        cell.vcpus = (next..next + n).collect();
        cell.dedicated = cell.vcpus.clone();
        next += n;
    }
    (host, guest)
}

#[test]
fn many_cells_do_not_explode() {
    // Nova would look at up to 16! / 8! permutations, half a billion.
    let none = Occupied::default();
    let (mut host, guest) = large(16, 8);
    assert!(found(&host, &none, &guest).is_ok());
    let (tight, all) = large(32, 32);
    let placed = found(&tight, &none, &all).unwrap();
    assert!(
        placed.cells.iter().enumerate().all(|(n, cell)| cell.cell as usize == n),
        "there is one way only"
    );
    // Devices in cells that can't be had together: eight nodes, and two devices in each of sixteen cells.
    let where_to: Vec<Option<u32>> = (0..32).map(|n| Some(n / 2)).collect();
    devices(&mut host, &where_to);
    let near = |count| fit(&host, &none, LIMITS, Some(&guest), &gpus(count, PciAffinity::Required));
    assert_eq!(near(16).unwrap().devices.len(), 16);
    assert_eq!(
        near(17),
        Err(Misfit::DevicesNear {
            alias: "gpu".to_owned(),
            free: 16,
            needed: 17
        })
    );
    // Two kinds of device, each to be had, both not: an end all the same.
    for (n, device) in host.devices.iter_mut().enumerate() {
        device.alias = if n < 16 { "gpu" } else { "nic" }.to_owned();
    }
    let both = [gpus(14, PciAffinity::Required), {
        let mut nics = gpus(10, PciAffinity::Required);
        nics[0].alias = "nic".to_owned();
        nics
    }]
    .concat();
    assert!(fit(&host, &none, LIMITS, Some(&guest), &both).is_err());
}
