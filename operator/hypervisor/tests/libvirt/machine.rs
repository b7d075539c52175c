//! Devices, bounds, UEFI's variables and TPMs that are asked for, on a real libvirtd with QEMU.

#![allow(
    clippy::unwrap_used,
    reason = "a test may panic; clippy only knows that of functions marked as tests"
)]

use std::path::Path;
use std::time::Duration;

use uuid::Uuid;
use virga_hypervisor::testing::node::Node;
use virga_hypervisor::testing::{boot_sector, eventually};
use virga_hypervisor::{
    Bandwidth, Cache, CpuMode, CpuTune, DiskBus, DiskFormat, DiskSpec, DomainSpec, DomainType, Firmware, ForwardMode,
    GuestOptions, Hypervisor as _, InputBus, InterfaceModel, InterfaceOptions, InterfaceSource, InterfaceSpec, IoRate,
    Iommu, Libvirt, MacAddress, NetworkSpec, Owner, RngRate, SubnetSpec, Topology, Tpm, UsbController, Video,
    WatchdogAction,
};

use crate::stage::connect;

const PATIENCE: Duration = Duration::from_mins(1);
const MIB: u64 = 1 << 20;

fn owner(number: u128) -> Owner {
    Owner {
        namespace: "shop".to_owned(),
        name: format!("odd-{number}"),
        uid: Uuid::from_u128(0x0d00_0000_0000_4000_8000_0000_0000_0000 | number),
        generation: 1,
    }
}

/// A guest with two virtual CPUs and a seed, that boots the test guest.
fn guest(node: &Node, number: u128) -> DomainSpec {
    let name = format!("virga-d{number:07x}");
    let mut spec = DomainSpec::new(owner(number), name, DomainType::Qemu, Topology::sockets(2), 64 * MIB);
    spec.cpu = CpuMode::Named("qemu64".to_owned());
    spec.tcg_cache_mib = Some(16);
    let (path, seed) = (
        node.data().join(format!("{number}.raw")),
        node.data().join(format!("{number}.iso")),
    );
    boot_sector::write_disk(&path).unwrap();
    std::fs::write(&seed, vec![0; 1 << 20]).unwrap();
    let mut disk = DiskSpec::new("vda", path, DiskFormat::Raw);
    disk.boot_order = Some(1);
    disk.cache = Cache::Writeback;
    spec.disks.push(disk);
    spec.seed = Some(seed);
    spec.console_log = Some(node.data().join(format!("{number}.log")));
    spec.vnc_socket = Some(node.data().join(format!("{number}.sock")));
    spec
}

fn network() -> NetworkSpec {
    NetworkSpec {
        uuid: owner(99).uid,
        name: "virga-0d000099".to_owned(),
        owner: owner(99),
        bridge: "vbr0d000099".to_owned(),
        mode: ForwardMode::Isolated,
        mtu: Some(1400),
        domain: None,
        subnets: vec![SubnetSpec {
            address: "10.67.0.1".parse().unwrap(),
            prefix: 24,
            dhcp: None,
        }],
        dns_hosts: Vec::new(),
    }
}

fn interface(options: InterfaceOptions) -> InterfaceSpec {
    InterfaceSpec {
        mac: MacAddress([0xfa, 0x16, 0x3e, 0, 0, 9]),
        source: InterfaceSource::Network(network().name),
        mtu: Some(1400),
        alias: None,
        options,
    }
}

/// Boots it, gives back what libvirt then says of it, and takes it away again.
fn booted(node: &Node, libvirt: &Libvirt, spec: &DomainSpec) -> String {
    libvirt.define(spec).unwrap();
    libvirt.start(spec.uuid).unwrap();
    await_greetings(spec, 1);
    let xml = node.shell(&format!("virsh dumpxml {}", spec.name));
    libvirt.destroy(spec.uuid).unwrap();
    libvirt.undefine(spec.uuid).unwrap();
    xml
}

fn await_greetings(spec: &DomainSpec, count: usize) {
    let log = spec.console_log.clone().unwrap();
    eventually("the guest's greeting", PATIENCE, || {
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        (log.matches(boot_sector::GREETING.trim()).count() >= count).then_some(())
    });
}

fn has(xml: &str, words: &[&str]) {
    for word in words {
        assert!(xml.contains(word), "{word}: {xml}");
    }
}

/// A guest with all that starts together; what needs more of the host than a test has is defined below.
fn equipped(node: &Node) -> DomainSpec {
    let mut spec = guest(node, 1);
    spec.topology = Topology {
        sockets: 1,
        cores: 1,
        threads: 2,
    };
    spec.video = Video::Cirrus;
    let disk = &mut spec.disks[0];
    disk.bus = DiskBus::Sata;
    disk.io_tune.total_iops = IoRate {
        sustained: Some(500),
        burst: Some(1000),
        burst_seconds: Some(10),
    };
    disk.io_tune.read_bytes.sustained = Some(10 << 20);
    spec.interfaces.push(interface(InterfaceOptions {
        queues: Some(2),
        packed_ring: true,
        ..InterfaceOptions::default()
    }));
    spec.options = GuestOptions {
        watchdog: Some(WatchdogAction::Pause),
        rng_rate: Some(RngRate {
            bytes: 1024,
            period_ms: 1000,
        }),
        video_ram_mib: Some(16),
        serial_ports: 3,
        boot_menu: true,
        hide_hypervisor: true,
        pmu: Some(false),
        hpet: true,
        windows: true,
        cdrom: Some(DiskBus::Sata),
        usb: Some(UsbController::Nec),
        tablet: InputBus::Usb,
        keyboard: Some(InputBus::Usb),
        iommu: Some(Iommu::Intel),
        ..GuestOptions::default()
    };
    spec
}

#[test]
fn a_guest_boots_with_every_device_that_is_asked_for() {
    let Some(node) = Node::start() else { return };
    let libvirt = connect(&node);
    libvirt.define_network(&network()).unwrap();
    libvirt.start_network(network().uuid).unwrap();
    let xml = booted(&node, &libvirt, &equipped(&node));
    has(
        &xml,
        &[
            "<topology sockets='1' dies='1' clusters='1' cores='1' threads='2'/>",
            "<total_iops_sec_max_length>10</total_iops_sec_max_length>",
            "<read_bytes_sec>10485760</read_bytes_sec>",
            "<target dev='vda' bus='sata'/>",
            "<target dev='sdf' bus='sata'/>",
            "<driver queues='2' packed='on'/>",
            "<watchdog model='i6300esb' action='pause'>",
            "<rate bytes='1024' period='1000'/>",
            "type='cirrus'",
            "<bootmenu enable='yes'",
            "<hidden state='on'/>",
            "<pmu state='off'/>",
            "model='nec-xhci'",
            "<input type='tablet' bus='usb'>",
            "<iommu model='intel'>",
            "<target type='isa-serial' port='2'>",
        ],
    );
    libvirt.remove_network(network().uuid).unwrap();
}

#[test]
fn a_guest_boots_from_every_bus_and_with_every_card() {
    let Some(node) = Node::start() else { return };
    let libvirt = connect(&node);
    libvirt.define_network(&network()).unwrap();
    libvirt.start_network(network().uuid).unwrap();
    let cards = [
        InterfaceModel::E1000,
        InterfaceModel::E1000e,
        InterfaceModel::Igb,
        InterfaceModel::Rtl8139,
        InterfaceModel::Vmxnet3,
    ];
    let buses = [
        ("pc", DiskBus::Ide, DiskBus::Ide),
        ("q35", DiskBus::Scsi, DiskBus::Scsi),
        ("q35", DiskBus::Usb, DiskBus::Usb),
        ("pc", DiskBus::Sata, DiskBus::Ide),
        ("q35", DiskBus::Virtio, DiskBus::Sata),
    ];
    for (number, ((machine, disk, cdrom), card)) in (2_u128..).zip(buses.into_iter().zip(cards)) {
        let mut spec = guest(&node, number);
        spec.machine = machine.to_owned();
        spec.disks[0].bus = disk;
        spec.disks[0].packed_ring = true;
        spec.options.cdrom = Some(cdrom);
        spec.interfaces.push(interface(InterfaceOptions {
            model: card,
            ..InterfaceOptions::default()
        }));
        let xml = booted(&node, &libvirt, &spec);
        has(&xml, &[&format!("dev='vda' bus='{}'", disk.as_str())]);
    }
    libvirt.remove_network(network().uuid).unwrap();
}

/// The node's daemon has no control groups, and its kernel may lack the queueing disciplines: libvirt checks and keeps
/// what is asked for, and only a start would need them.
#[test]
fn what_needs_more_of_the_host_than_a_test_has_is_taken_by_libvirt() {
    let Some(node) = Node::start() else { return };
    let libvirt = connect(&node);
    let mut spec = guest(&node, 20);
    spec.options.cpu_tune = CpuTune {
        shares: Some(512),
        period_us: Some(20_000),
        quota_us: Some(10_000),
    };
    spec.options.locked_memory = true;
    spec.interfaces.push(interface(InterfaceOptions {
        inbound: Some(Bandwidth {
            average_kib: 1000,
            peak_kib: Some(2000),
            burst_kib: Some(512),
        }),
        outbound: Some(Bandwidth {
            average_kib: 500,
            peak_kib: None,
            burst_kib: None,
        }),
        ..InterfaceOptions::default()
    }));
    libvirt.define(&spec).unwrap();
    let xml = node.shell(&format!("virsh dumpxml {}", spec.name));
    has(
        &xml,
        &[
            "<shares>512</shares>",
            "<quota>10000</quota>",
            "<locked/>",
            "<inbound average='1000' peak='2000' burst='512'/>",
            "<outbound average='500'/>",
        ],
    );
    libvirt.undefine(spec.uuid).unwrap();
}

#[test]
fn the_variables_of_uefi_outlive_restarts_and_end_with_the_domain() {
    let Some(node) = Node::start() else { return };
    let libvirt = connect(&node);
    let secure = Firmware::Uefi { secure_boot: true };
    if !libvirt.facts().unwrap().firmware.contains(&secure) {
        eprintln!("\n!!! SKIPPED: no UEFI with secure boot is installed (package ovmf) !!!\n");
        return;
    }
    let mut spec = guest(&node, 30);
    let variables = node.data().join("uefi-variables.fd");
    spec.firmware = secure;
    spec.memory_bytes = 128 * MIB;
    spec.options.nvram = Some(variables.clone());
    libvirt.define(&spec).unwrap();
    libvirt.start(spec.uuid).unwrap();
    let xml = node.shell(&format!("virsh dumpxml {}", spec.name));
    has(&xml, &["secure='yes'", "<feature enabled='yes' name='enrolled-keys'/>"]);
    libvirt.destroy(spec.uuid).unwrap();
    // The mark of a guest that has written.
    let mut bytes = std::fs::read(&variables).unwrap();
    *bytes.last_mut().unwrap() ^= 0x5a;
    std::fs::write(&variables, &bytes).unwrap();
    libvirt.define(&spec).unwrap();
    libvirt.start(spec.uuid).unwrap();
    libvirt.destroy(spec.uuid).unwrap();
    assert_eq!(std::fs::read(&variables).unwrap().last(), bytes.last(), "not made anew");
    libvirt.undefine(spec.uuid).unwrap();
    assert!(!variables.exists());
}

#[test]
fn a_tpm_s_state_outlives_restarts_and_ends_with_the_domain() {
    let Some(node) = Node::start() else { return };
    let libvirt = connect(&node);
    let devices = libvirt.facts().unwrap().devices;
    for bus in ["ide", "sata", "scsi", "usb", "virtio"] {
        assert!(devices.disk_buses.iter().any(|found| found == bus), "{devices:?}");
    }
    let installed = Path::new("/usr/bin/swtpm").exists();
    assert_eq!(!devices.tpm_versions.is_empty(), installed, "{devices:?}");
    if !installed {
        eprintln!("\n!!! SKIPPED: swtpm is not installed (package swtpm-tools) !!!\n");
        return;
    }
    let mut spec = guest(&node, 40);
    spec.options.tpm = Some(Tpm {
        version_2: true,
        crb: true,
    });
    let state = format!(
        "find /var/lib/libvirt/swtpm/{} -name '*.permall' -printf '%i'",
        spec.uuid
    );
    libvirt.define(&spec).unwrap();
    libvirt.start(spec.uuid).unwrap();
    await_greetings(&spec, 1);
    let first = node.shell(&state);
    assert_ne!(first, "", "there is a state");
    libvirt.destroy(spec.uuid).unwrap();
    libvirt.define(&spec).unwrap();
    libvirt.start(spec.uuid).unwrap();
    await_greetings(&spec, 2);
    assert_ne!(node.shell(&state), "", "it is kept");
    libvirt.destroy(spec.uuid).unwrap();
    libvirt.undefine(spec.uuid).unwrap();
    assert_eq!(node.shell(&state), "", "and goes with the domain");
}
