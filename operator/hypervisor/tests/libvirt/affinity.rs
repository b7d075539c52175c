//! Pinned CPUs, NUMA nodes, huge pages and devices on a real libvirtd: what it takes, and where QEMU's threads then run.

#![allow(
    clippy::unwrap_used,
    reason = "a test may panic; clippy only knows that of functions marked as tests"
)]

use std::collections::BTreeSet;
use std::time::Duration;

use uuid::Uuid;
use virga_hypervisor::testing::node::Node;
use virga_hypervisor::testing::{boot_sector, eventually};
use virga_hypervisor::{
    Affinity, Cache, CpuMode, DiskFormat, DiskSpec, DomainSpec, DomainState, DomainType, GuestCell, HostFacts,
    Hypervisor as _, Kind, Libvirt, Owner, PciAddress, Topology,
};
use virt::connect::Connect;

use crate::stage::connect;

const PATIENCE: Duration = Duration::from_secs(30);
const MIB: u64 = 1 << 20;
/// Where Linux has the number of pages of 2 MiB.
const NR_HUGE_PAGES: &str = "/proc/sys/vm/nr_hugepages";

/// A guest with two virtual CPUs.
fn guest(node: &Node, number: u128, affinity: Affinity) -> DomainSpec {
    let uid = Uuid::from_u128(0x0b00_0000_0000_4000_8000_0000_0000_0000 | number);
    let owner = Owner {
        namespace: "shop".to_owned(),
        name: format!("pinned-{number}"),
        uid,
        generation: 1,
    };
    let name = format!("virga-b{number:07x}");
    let mut spec = DomainSpec::new(owner, name, DomainType::Qemu, Topology::sockets(2), 64 * MIB);
    spec.cpu = CpuMode::Named("qemu64".to_owned());
    spec.tcg_cache_mib = Some(16);
    spec.affinity = affinity;
    let path = node.data().join(format!("{number}.raw"));
    boot_sector::write_disk(&path).unwrap();
    let mut disk = DiskSpec::new("vda", path, DiskFormat::Raw);
    disk.boot_order = Some(1);
    disk.cache = Cache::Writeback;
    spec.disks.push(disk);
    spec.console_log = Some(node.data().join(format!("{number}.log")));
    spec
}

/// Starts it and waits until its guest has run.
fn start(libvirt: &Libvirt, spec: &DomainSpec) {
    libvirt.define(spec).unwrap();
    libvirt.start(spec.uuid).unwrap();
    let log = spec.console_log.clone().unwrap();
    eventually("the guest's greeting", PATIENCE, || {
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        log.contains(boot_sector::GREETING.trim()).then_some(())
    });
}

fn end(libvirt: &Libvirt, spec: &DomainSpec) {
    libvirt.destroy(spec.uuid).unwrap();
    libvirt.undefine(spec.uuid).unwrap();
}

/// The names of a domain's threads with the CPUs that the kernel lets each run on, such as `CPU 0/TCG 1`.
fn threads(node: &Node, spec: &DomainSpec) -> BTreeSet<String> {
    let pid = node.qemu_pid(&spec.name).unwrap();
    let script = format!(
        "for task in /proc/{pid}/task/*; do \
         echo \"$(cat $task/comm) $(sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' $task/status)\"; done"
    );
    node.shell(&script).lines().map(ToOwned::to_owned).collect()
}

fn live_xml(node: &Node, spec: &DomainSpec) -> String {
    let connect = Connect::open(Some(&node.uri())).unwrap();
    let domain = connect.lookup_domain_by_uuid_string(&spec.uuid.to_string()).unwrap();
    domain.xml_desc(0).unwrap()
}

/// The host's first two CPUs and its first cell. `None`, said loudly, on a machine with one CPU.
fn two_cpus(facts: &HostFacts) -> Option<(u32, u32, u32)> {
    let cell = facts.cells.first().unwrap();
    let [first, second, ..] = cell.cpus.as_slice() else {
        eprintln!("\n!!! SKIPPED: this machine has one CPU, so nothing could be pinned apart !!!\n");
        return None;
    };
    Some((cell.id, first.id, second.id))
}

/// One NUMA node, each virtual CPU on one of the host's.
fn one_cell(cell: u32, first: u32, second: u32, huge_pages_kib: Option<u64>) -> Affinity {
    Affinity::Cells {
        cells: vec![GuestCell {
            vcpus: [(0, [second].into()), (1, [first].into())].into(),
            memory_bytes: 64 * MIB,
            host_cell: cell,
            huge_pages_kib,
        }],
        emulator: [first].into(),
    }
}

#[test]
fn a_guests_threads_run_where_the_specification_says() {
    let Some(node) = Node::start() else { return };
    let libvirt = connect(&node);
    let facts = libvirt.facts().unwrap();
    assert!(facts.cells.iter().map(|cell| cell.memory_bytes).sum::<u64>() > 64 * MIB);
    let online: usize = facts.cells.iter().map(|cell| cell.cpus.len()).sum();
    assert_eq!(online, usize::try_from(facts.cpus).unwrap());
    let Some((cell, first, second)) = two_cpus(&facts) else {
        return;
    };

    // Each virtual CPU on one of its own, the other way round.
    let pinned = guest(&node, 1, one_cell(cell, first, second, None));
    start(&libvirt, &pinned);
    let running = threads(&node, &pinned);
    for thread in [format!("CPU 0/TCG {second}"), format!("CPU 1/TCG {first}")] {
        assert!(running.contains(&thread), "{thread}: {running:?}");
    }
    assert!(running.contains(&format!("qemu-system-x86 {first}")), "{running:?}");
    let xml = live_xml(&node, &pinned);
    for part in [
        format!("<vcpupin vcpu='0' cpuset='{second}'/>"),
        format!("<memnode cellid='0' mode='strict' nodeset='{cell}'/>"),
        "<cell id='0' cpus='0-1' memory='65536' unit='KiB'/>".to_owned(),
    ] {
        assert!(xml.contains(&part), "{part}: {xml}");
    }
    end(&libvirt, &pinned);

    // A guest without CPUs of its own, kept to the shared ones with all its threads.
    let shared = guest(&node, 2, Affinity::Cpus([second].into()));
    start(&libvirt, &shared);
    let running = threads(&node, &shared);
    assert!(running.len() >= 3, "{running:?}");
    assert!(
        running.iter().all(|thread| thread.ends_with(&format!(" {second}"))),
        "{running:?}"
    );
    end(&libvirt, &shared);

    // Two NUMA nodes on one of the host's.
    let half = |vcpu: u32, cpu: u32| GuestCell {
        vcpus: [(vcpu, [cpu].into())].into(),
        memory_bytes: 32 * MIB,
        host_cell: cell,
        huge_pages_kib: None,
    };
    let nodes = Affinity::Cells {
        cells: vec![half(0, first), half(1, second)],
        emulator: [].into(),
    };
    let two = guest(&node, 3, nodes);
    start(&libvirt, &two);
    assert_eq!(live_xml(&node, &two).matches("memory='32768'").count(), 2);
    end(&libvirt, &two);
}

/// Pages of 2 MiB, given back when this is dropped.
struct Reserved {
    before: String,
}

impl Reserved {
    /// `None`, said loudly, where the machine doesn't give them.
    fn pages(more: u64) -> Option<Self> {
        let before = std::fs::read_to_string(NR_HUGE_PAGES).ok()?;
        let wanted = before.trim().parse::<u64>().ok()? + more;
        let reserved = Reserved { before };
        let written = std::fs::write(NR_HUGE_PAGES, wanted.to_string());
        let has = std::fs::read_to_string(NR_HUGE_PAGES).ok()?;
        if written.is_err() || has.trim() != wanted.to_string() {
            eprintln!("\n!!! SKIPPED: this machine reserves no huge pages !!!\n");
            return None;
        }
        Some(reserved)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let _ = std::fs::write(NR_HUGE_PAGES, self.before.trim());
    }
}

#[test]
fn a_guest_has_its_memory_in_huge_pages() {
    let Some(node) = Node::start() else { return };
    let Some(_reserved) = Reserved::pages(40) else { return };
    // libvirtd looks for where huge pages are mounted when it starts.
    node.shell("mkdir -p /run/huge && mount -t hugetlbfs -o pagesize=2M hugetlbfs /run/huge");
    node.kill_daemon();
    node.start_daemon();
    let libvirt = connect(&node);
    let facts = libvirt.facts().unwrap();
    let reserved: u64 = facts
        .cells
        .iter()
        .flat_map(|cell| &cell.pages)
        .filter(|pages| pages.size_kib == 2048)
        .map(|pages| pages.total)
        .sum();
    assert!(reserved >= 40, "{:?}", facts.cells);
    let Some((cell, first, second)) = two_cpus(&facts) else {
        return;
    };
    let spec = guest(&node, 4, one_cell(cell, first, second, Some(2048)));
    start(&libvirt, &spec);
    let pid = node.qemu_pid(&spec.name).unwrap();
    let maps = node.shell(&format!(
        "grep -c 'huge.*virga' /proc/{pid}/maps; grep HugetlbPages /proc/{pid}/status"
    ));
    assert!(!maps.starts_with('0'), "its memory is not from the mount: {maps}");
    end(&libvirt, &spec);
}

/// There is nothing that a test may pass through: the definition alone is looked at.
#[test]
fn a_guest_with_devices_of_the_host_is_defined_and_refused_where_there_is_no_iommu() {
    let Some(node) = Node::start() else { return };
    let libvirt = connect(&node);
    let facts = libvirt.facts().unwrap();
    let addresses: BTreeSet<PciAddress> = facts.pci_devices.iter().map(|device| device.address).collect();
    let seen = std::fs::read_dir("/sys/bus/pci/devices").map_or(0, Iterator::count);
    assert_eq!(addresses.len(), seen, "{addresses:?}");
    let mut spec = guest(&node, 5, Affinity::Any);
    // No machine has so high a bus in its last domain.
    spec.pci_devices = vec!["ffff:fe:1f.7".parse().unwrap()];
    libvirt.define(&spec).unwrap();
    let connect = Connect::open(Some(&node.uri())).unwrap();
    let domain = connect.lookup_domain_by_uuid_string(&spec.uuid.to_string()).unwrap();
    let xml = domain.xml_desc(0).unwrap();
    assert!(
        xml.contains("<hostdev mode='subsystem' type='pci' managed='yes'>"),
        "{xml}"
    );
    assert!(
        xml.contains("<address domain='0xffff' bus='0xfe' slot='0x1f' function='0x7'/>"),
        "{xml}"
    );
    let refused = libvirt.start(spec.uuid).unwrap_err();
    assert_ne!(refused.kind(), Kind::Unavailable, "{refused}");
    assert_eq!(libvirt.domain(spec.uuid).unwrap().state, DomainState::ShutOff);
    libvirt.undefine(spec.uuid).unwrap();
}
