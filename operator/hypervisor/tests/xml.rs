//! The XML of domains and networks: snapshots, libvirt's schemas, and properties.

#![allow(
    clippy::unwrap_used,
    reason = "a test may panic; clippy only knows that of functions marked as tests"
)]

use std::io::Write;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use uuid::Uuid;
use virga_hypervisor::{
    Affinity, Bandwidth, Cache, CpuMode, CpuTune, Dhcp, DhcpHost, Discard, DiskBus, DiskFormat, DiskLayer, DiskSpec,
    DnsHost, DomainSpec, DomainType, Firmware, ForwardMode, GuestCell, GuestOptions, InputBus, InterfaceModel,
    InterfaceOptions, InterfaceSource, InterfaceSpec, IoRate, IoTune, Iommu, MacAddress, NetworkSpec, Owner, RngRate,
    Route, SubnetSpec, Topology, Tpm, UsbController, Video, WatchdogAction, network_diff, network_from_xml,
    network_to_xml, to_xml,
};

const SCHEMAS: &str = "/usr/share/libvirt/schemas";

fn owner() -> Owner {
    Owner {
        namespace: "shop".to_owned(),
        name: "web-1".to_owned(),
        uid: "6f2d9a1e-0c52-4d6c-9a53-1f0a4b7c8d9e".parse().unwrap(),
        generation: 3,
    }
}

/// What the agent would define for a small instance.
fn instance() -> DomainSpec {
    let mut spec = DomainSpec::new(
        owner(),
        "virga-6f2d9a1e",
        DomainType::Qemu,
        Topology::sockets(2),
        2 << 30,
    );
    spec.title = Some("shop/web-1".to_owned());
    spec.tcg_cache_mib = Some(64);
    spec.disks = vec![
        DiskSpec {
            backing: vec![DiskLayer {
                path: "/var/lib/virga/images/sha256-abc".into(),
                format: DiskFormat::Qcow2,
            }],
            boot_order: Some(1),
            serial: Some("root".to_owned()),
            ..DiskSpec::new("vda", "/var/lib/virga/instances/6f2d9a1e/root.qcow2", DiskFormat::Qcow2)
        },
        DiskSpec {
            cache: Cache::Writeback,
            discard: Discard::Ignore,
            read_only: true,
            serial: Some("1b4e28ba-2fa1-11d2-8".to_owned()),
            ..DiskSpec::new("vdb", "/var/lib/virga/volumes/1b4e28ba.raw", DiskFormat::Raw)
        },
    ];
    spec.seed = Some("/var/lib/virga/instances/6f2d9a1e/seed.iso".into());
    spec.interfaces = vec![InterfaceSpec {
        mac: "fa:16:3e:11:22:33".parse().unwrap(),
        source: InterfaceSource::Network("virga-0a0b0c0d".to_owned()),
        mtu: Some(1442),
        alias: Some("ua-9c9ad2b4-5a3c-4a4a-8a0e-2a4b0c6d8e10".to_owned()),
        options: InterfaceOptions::default(),
    }];
    spec.console_log = Some("/var/lib/virga/instances/6f2d9a1e/console.log".into());
    spec.vnc_socket = Some("/var/lib/virga/instances/6f2d9a1e/vnc.sock".into());
    spec
}

/// Everything that differs from the first: KVM, UEFI with secure boot, no extras.
fn secure() -> DomainSpec {
    let mut spec = DomainSpec::new(
        owner(),
        "virga-6f2d9a1e",
        DomainType::Kvm,
        Topology::sockets(4),
        4 << 30,
    );
    spec.topology = Topology {
        sockets: 1,
        cores: 2,
        threads: 2,
    };
    spec.firmware = Firmware::Uefi { secure_boot: true };
    spec.video = Video::None;
    spec.guest_agent = false;
    spec.rng = false;
    spec.balloon_stats_period_s = 0;
    spec.hotplug_ports = 0;
    spec.tcg_cache_mib = Some(64);
    spec
}

/// Plugged into Open vSwitch, where segments may be left to the host and where they may not.
fn switched() -> DomainSpec {
    let interface = |mac: &str, offloads| InterfaceSpec {
        mac: mac.parse().unwrap(),
        source: InterfaceSource::OpenVSwitch {
            bridge: "br-int".to_owned(),
            interface_id: Uuid::from_u128(0x9c9a_d2b4),
            offloads,
        },
        mtu: Some(1442),
        alias: None,
        options: InterfaceOptions::default(),
    };
    DomainSpec {
        interfaces: vec![
            interface("fa:16:3e:11:22:33", true),
            interface("fa:16:3e:11:22:34", false),
        ],
        ..secure()
    }
}

/// Two NUMA nodes: the first with CPUs of its own and huge pages, the second floats; a device of the host; QEMU's own
/// threads on a CPU of their own.
fn pinned() -> DomainSpec {
    let mut spec = secure();
    spec.pci_devices = vec!["0000:3b:00.1".parse().unwrap(), "0001:d8:1f.7".parse().unwrap()];
    spec.affinity = Affinity::Cells {
        cells: vec![
            GuestCell {
                vcpus: [(0, [4].into()), (2, [20].into())].into(),
                memory_bytes: 3 << 30,
                host_cell: 1,
                huge_pages_kib: Some(1 << 20),
            },
            GuestCell {
                vcpus: [(1, [0, 1, 2, 16].into()), (3, [0, 1, 2, 16].into())].into(),
                memory_bytes: 1 << 30,
                host_cell: 0,
                huge_pages_kib: None,
            },
        ],
        emulator: [5].into(),
    };
    spec
}

/// Every device and every bound that can be asked for, as far as they go together.
fn equipped() -> DomainSpec {
    let mut spec = instance();
    spec.firmware = Firmware::Uefi { secure_boot: true };
    spec.video = Video::Cirrus;
    let rate = |sustained, burst, burst_seconds| IoRate {
        sustained,
        burst,
        burst_seconds,
    };
    for disk in &mut spec.disks {
        disk.bus = DiskBus::Scsi;
        disk.io_tune = IoTune {
            total_bytes: rate(Some(10 << 20), Some(20 << 20), Some(60)),
            read_iops: rate(Some(100), None, None),
            write_iops: rate(Some(50), Some(80), None),
            ..IoTune::default()
        };
    }
    spec.interfaces[0].options = InterfaceOptions {
        model: InterfaceModel::Virtio,
        queues: Some(2),
        packed_ring: true,
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
    };
    spec.options = GuestOptions {
        nvram: Some("/var/lib/virga/instances/6f2d9a1e/uefi-variables.fd".into()),
        tpm: Some(Tpm {
            version_2: true,
            crb: true,
        }),
        watchdog: Some(WatchdogAction::Pause),
        rng_rate: Some(RngRate {
            bytes: 1024,
            period_ms: 1000,
        }),
        video_ram_mib: Some(16),
        serial_ports: 2,
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
        cpu_tune: CpuTune {
            shares: Some(512),
            period_us: Some(20_000),
            quota_us: Some(10_000),
        },
        locked_memory: true,
    };
    spec
}

/// The old machine, with what only it has.
fn old() -> DomainSpec {
    let mut spec = instance();
    "pc".clone_into(&mut spec.machine);
    spec.disks[0].bus = DiskBus::Ide;
    spec.disks[1].packed_ring = true;
    spec.interfaces[0].options.model = InterfaceModel::Rtl8139;
    spec.options = GuestOptions {
        cdrom: Some(DiskBus::Ide),
        iommu: Some(Iommu::Virtio),
        tpm: Some(Tpm {
            version_2: false,
            crb: false,
        }),
        watchdog: Some(WatchdogAction::Reset),
        keyboard: Some(InputBus::Virtio),
        ..GuestOptions::default()
    };
    spec
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn network() -> NetworkSpec {
    let uid = "0a0b0c0d-0000-4000-8000-000000000001".parse().unwrap();
    NetworkSpec {
        uuid: uid,
        name: "virga-0a0b0c0d".to_owned(),
        owner: Owner {
            namespace: "shop".to_owned(),
            name: "front".to_owned(),
            uid,
            generation: 1,
        },
        bridge: "vbr0a0b0c0d".to_owned(),
        mode: ForwardMode::Nat,
        mtu: Some(1442),
        domain: Some("front.shop".to_owned()),
        subnets: vec![
            SubnetSpec {
                address: ip("10.0.0.1"),
                prefix: 24,
                dhcp: Some(Dhcp {
                    ranges: Vec::new(),
                    hosts: vec![DhcpHost {
                        mac: "fa:16:3e:11:22:33".parse().unwrap(),
                        address: ip("10.0.0.5"),
                        name: Some("web-1".to_owned()),
                    }],
                    dns_servers: vec![ip("9.9.9.9")],
                    routes: vec![Route {
                        destination: ip("10.9.0.0"),
                        prefix: 16,
                        via: ip("10.0.0.9"),
                    }],
                }),
            },
            SubnetSpec {
                address: ip("fd00:1::1"),
                prefix: 64,
                dhcp: Some(Dhcp {
                    ranges: vec![(ip("fd00:1::100"), ip("fd00:1::1ff"))],
                    hosts: vec![DhcpHost {
                        mac: "fa:16:3e:11:22:33".parse().unwrap(),
                        address: ip("fd00:1::5"),
                        name: None,
                    }],
                    dns_servers: vec![ip("2620:fe::fe")],
                    routes: Vec::new(),
                }),
            },
        ],
        dns_hosts: vec![DnsHost {
            address: ip("10.0.0.5"),
            names: vec!["web-1".to_owned(), "web-1.front.shop".to_owned()],
        }],
    }
}

#[test]
fn the_xml_of_an_instance() {
    insta::assert_snapshot!(to_xml(&instance()));
}

#[test]
fn the_xml_of_a_secure_instance_without_extras() {
    insta::assert_snapshot!(to_xml(&secure()));
}

#[test]
fn the_xml_of_a_pinned_instance_with_huge_pages_and_devices() {
    insta::assert_snapshot!(to_xml(&pinned()));
}

#[test]
fn the_xml_of_ports_of_openvswitch() {
    let xml = to_xml(&switched());
    let (from, to) = (xml.find("<interface").unwrap(), xml.rfind("</interface>").unwrap());
    insta::assert_snapshot!(&xml[from..to]);
}

#[test]
fn a_bridge_has_a_name_that_linux_takes() {
    let mut spec = switched();
    let InterfaceSource::OpenVSwitch { bridge, .. } = &mut spec.interfaces[0].source else {
        unreachable!()
    };
    *bridge = "br-int'/><x".to_owned();
    let problems = format!("{:?}", spec.validate().unwrap_err());
    assert!(problems.contains("interfaces[0].source"), "{problems}");
}

#[test]
fn the_xml_of_an_instance_on_shared_cpus_names_them_once() {
    let mut spec = secure();
    spec.affinity = Affinity::Cpus([0, 1, 2, 3, 8].into());
    let xml = to_xml(&spec);
    assert!(
        xml.contains(r#"<vcpu placement="static" cpuset="0-3,8">4</vcpu>"#),
        "{xml}"
    );
    assert!(!xml.contains("cputune") && !xml.contains("numa"), "{xml}");
}

#[test]
fn qemus_own_threads_run_where_the_virtual_cpus_do_unless_told_otherwise() {
    let mut spec = pinned();
    let Affinity::Cells { emulator, .. } = &mut spec.affinity else {
        unreachable!()
    };
    emulator.clear();
    let xml = to_xml(&spec);
    assert!(xml.contains(r#"<emulatorpin cpuset="0-2,4,16,20"/>"#), "{xml}");
}

#[test]
fn every_problem_of_an_affinity_is_told_at_once() {
    let mut spec = pinned();
    let Affinity::Cells { cells, emulator } = &mut spec.affinity else {
        unreachable!()
    };
    cells[0].vcpus.insert(3, [9000].into());
    cells[0].vcpus.insert(7, [].into());
    cells[0].memory_bytes = 1 << 20;
    cells[1].host_cell = 5000;
    emulator.insert(5000);
    spec.pci_devices.push(spec.pci_devices[0]);
    let problems: Vec<String> = spec.validate().unwrap_err().iter().map(ToString::to_string).collect();
    insta::assert_debug_snapshot!(problems);
    spec.affinity = Affinity::Cells {
        cells: Vec::new(),
        emulator: [].into(),
    };
    assert!(spec.validate().is_err());
    spec.affinity = Affinity::Cpus([].into());
    assert!(spec.validate().is_err());
}

#[test]
fn the_xml_of_a_network() {
    insta::assert_snapshot!(network_to_xml(&network()));
}

#[test]
fn the_xml_of_an_instance_with_every_device_and_bound() {
    assert_eq!(equipped().validate(), Ok(()));
    insta::assert_snapshot!(to_xml(&equipped()));
}

#[test]
fn the_xml_of_an_old_machine() {
    assert_eq!(old().validate(), Ok(()));
    insta::assert_snapshot!(to_xml(&old()));
}

#[test]
fn every_problem_of_the_options_is_told_at_once() {
    let mut spec = equipped();
    spec.disks.iter_mut().for_each(|disk| disk.bus = DiskBus::Ide);
    spec.interfaces[0].options.queues = Some(0);
    spec.interfaces[0].options.inbound = Some(Bandwidth {
        average_kib: 0,
        peak_kib: None,
        burst_kib: None,
    });
    spec.options.nvram = Some("../variables".into());
    spec.options.serial_ports = 5;
    spec.options.tpm = Some(Tpm {
        version_2: false,
        crb: true,
    });
    spec.options.cdrom = Some(DiskBus::Virtio);
    let problems: Vec<String> = spec.validate().unwrap_err().iter().map(ToString::to_string).collect();
    insta::assert_debug_snapshot!(problems);
    spec.machine = "pc".to_owned();
    let crowd = (0..4).map(|n| DiskSpec {
        bus: DiskBus::Ide,
        ..DiskSpec::new(format!("vd{}", char::from(b'a' + n)), format!("/{n}"), DiskFormat::Raw)
    });
    spec.disks = crowd.collect();
    let said = format!("{:?}", spec.validate().unwrap_err());
    assert!(
        said.contains("more than IDE has room for") && said.contains("VT-d needs a q35"),
        "{said}"
    );
}

#[test]
fn what_is_valid_for_us_is_valid_for_libvirts_schema() {
    let shared = DomainSpec {
        affinity: Affinity::Cpus([0, 1, 8].into()),
        ..instance()
    };
    let locked = DomainSpec {
        options: equipped().options,
        ..pinned()
    };
    let windows = DomainSpec {
        domain_type: DomainType::Kvm,
        ..equipped()
    };
    let mut variants = vec![
        instance(),
        secure(),
        pinned(),
        shared,
        equipped(),
        old(),
        locked,
        windows,
        switched(),
    ];
    for bus in [DiskBus::Sata, DiskBus::Usb, DiskBus::Scsi] {
        let mut spec = instance();
        spec.disks.iter_mut().for_each(|disk| disk.bus = bus);
        spec.options.cdrom = Some(bus);
        variants.push(spec);
    }
    for video in [Video::Bochs, Video::Vmvga, Video::Qxl] {
        variants.push(DomainSpec { video, ..equipped() });
    }
    for cpu in [
        CpuMode::HostPassthrough,
        CpuMode::HostModel,
        CpuMode::Maximum,
        CpuMode::Named("qemu64".to_owned()),
    ] {
        variants.push(DomainSpec {
            cpu,
            domain_type: DomainType::Kvm,
            ..instance()
        });
    }
    for machine in ["pc", "q35", "pc-q35-10.0"] {
        variants.push(DomainSpec {
            machine: machine.to_owned(),
            video: Video::Virtio,
            ..instance()
        });
    }
    variants.push(DomainSpec {
        firmware: Firmware::Uefi { secure_boot: false },
        ..instance()
    });
    variants.push(DomainSpec {
        architecture: "aarch64".to_owned(),
        machine: "virt".to_owned(),
        video: Video::Virtio,
        ..instance()
    });
    for spec in variants {
        assert_eq!(spec.validate(), Ok(()));
        check_schema("domain.rng", &to_xml(&spec));
    }
    let isolated = NetworkSpec {
        mode: ForwardMode::Isolated,
        mtu: None,
        domain: None,
        ..network()
    };
    for spec in [
        network(),
        isolated,
        NetworkSpec {
            subnets: Vec::new(),
            dns_hosts: Vec::new(),
            ..network()
        },
    ] {
        assert_eq!(spec.validate(), Ok(()));
        check_schema("network.rng", &network_to_xml(&spec));
    }
}

/// With xmllint and libvirt's own RELAX NG schemas, where both are installed.
fn check_schema(schema: &str, xml: &str) {
    let schema = Path::new(SCHEMAS).join(schema);
    if !schema.exists() || Command::new("xmllint").arg("--version").output().is_err() {
        eprintln!(
            "\n!!! SKIPPED: xmllint or {} is not installed: no XML was validated !!!\n",
            schema.display()
        );
        return;
    }
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(xml.as_bytes()).unwrap();
    let output = Command::new("xmllint")
        .arg("--noout")
        .arg("--relaxng")
        .arg(&schema)
        .arg(file.path())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}\n{xml}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_network_comes_back_from_its_xml() {
    assert_eq!(network_from_xml(&network_to_xml(&network())), Some(network()));
}

#[test]
fn a_network_without_our_mark_is_not_ours() {
    let xml = network_to_xml(&network());
    assert!(network_from_xml(&xml.replace("https://virga.dev/xmlns/network/1", "https://example.org/")).is_none());
    assert!(network_from_xml("<network><name>default</name></network>").is_none());
    assert!(network_from_xml("<network>").is_none());
}

#[test]
fn every_problem_of_a_domain_is_told_at_once() {
    let mut spec = instance();
    spec.name = "../x".to_owned();
    spec.memory_bytes = 1025;
    spec.disks[1].target = "vda".to_owned();
    spec.disks[0].path = "relative.qcow2".into();
    spec.disks[1].serial = Some("a&b".to_owned());
    spec.disks.push(DiskSpec::new("vdz", "/a/../b", DiskFormat::Raw));
    spec.disks[2].backing.push(DiskLayer {
        path: "/base,file=/etc/shadow".into(),
        format: DiskFormat::Raw,
    });
    spec.interfaces.push(InterfaceSpec {
        mac: MacAddress([1, 0, 0, 0, 0, 1]),
        ..spec.interfaces[0].clone()
    });
    spec.title = Some("bell\u{7}".to_owned());
    spec.cpu = CpuMode::HostPassthrough;
    let problems = spec.validate().unwrap_err();
    let fields: Vec<&str> = problems.iter().map(|problem| problem.field.as_str()).collect();
    insta::assert_debug_snapshot!(fields);
}

proptest! {
    /// Whatever a tenant manages to get into a text, the document keeps its shape and the text comes back.
    #[test]
    fn no_text_changes_the_shape_of_the_document(title in "\\PC{1,40}", namespace in "\\PC{1,40}") {
        let mut spec = instance();
        spec.title = Some(title.clone());
        spec.owner.namespace = namespace.clone();
        let xml = to_xml(&spec);
        prop_assert_eq!(xml.matches("<disk ").count(), 3);
        prop_assert_eq!(xml.matches("</domain>").count(), 1);
        prop_assert_eq!(xml.lines().count(), to_xml(&instance()).lines().count());
    }

    #[test]
    fn any_valid_network_comes_back_from_its_xml(
        hosts in prop::collection::hash_map(2..250_u8, prop::option::of("[a-z]([a-z0-9-]{0,8}[a-z0-9])?"), 0..10),
        nat in any::<bool>(),
        servers in prop::collection::vec(any::<u32>(), 0..3),
        routes in prop::collection::vec((any::<u32>(), 0..=32_u8), 0..3),
    ) {
        let mut spec = network();
        spec.mode = if nat { ForwardMode::Nat } else { ForwardMode::Isolated };
        let dhcp = spec.subnets[0].dhcp.as_mut().unwrap();
        dhcp.hosts = hosts
            .iter()
            .map(|(n, name)| DhcpHost {
                mac: MacAddress([2, 0, 0, 0, 0, *n]),
                address: IpAddr::from([10, 0, 0, *n]),
                name: name.as_ref().map(|name| format!("{name}-{n}")),
            })
            .collect();
        dhcp.dns_servers = servers.into_iter().map(|bits| IpAddr::from(bits.to_be_bytes())).collect();
        dhcp.routes = routes
            .into_iter()
            .map(|(bits, prefix)| Route { destination: IpAddr::from(bits.to_be_bytes()), prefix, via: ip("10.0.0.9") })
            .collect();
        prop_assert_eq!(spec.validate(), Ok(()));
        let read = network_from_xml(&network_to_xml(&spec)).unwrap();
        prop_assert!(network_diff(&read, &spec).is_empty());
        prop_assert_eq!(read, spec);
    }

    #[test]
    fn reading_anything_as_a_network_ends_without_a_panic(text in "(<(network|ip|dhcp|host|metadata)[a-z ='0-9]{0,20}/?>){0,20}") {
        let _ = network_from_xml(&text);
    }
}
