//! A whole instance, as the agent defines it, on a real libvirtd: every device starts, and image headers open nothing.

use std::time::Duration;

use uuid::Uuid;
use virga_hypervisor::testing::node::Node;
use virga_hypervisor::testing::{boot_sector, eventually};
use virga_hypervisor::{
    Cache, CpuMode, DiskFormat, DiskLayer, DiskSpec, DomainSpec, DomainState, DomainType, ForwardMode, Hypervisor,
    InterfaceOptions, InterfaceSource, InterfaceSpec, MacAddress, NetworkSpec, Owner, SubnetSpec, Topology,
};

use crate::stage::{connect, overlay};

const PATIENCE: Duration = Duration::from_secs(30);

fn owner(number: u128, name: &str) -> Owner {
    let uid = Uuid::from_u128(0x0a00_0000_0000_4000_8000_0000_0000_0000 | number << 96);
    Owner {
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        uid,
        generation: 1,
    }
}

/// A guest that boots from an overlay over an image, with every device that we have.
fn instance(node: &Node, network: &NetworkSpec) -> DomainSpec {
    let data = node.data();
    let (image, root) = overlay(node, "8M");
    let (volume, seed) = (data.join("volume.raw"), data.join("seed.iso"));
    std::fs::write(&volume, vec![0; 1 << 20]).expect("writing a volume");
    std::fs::write(&seed, vec![0; 1 << 20]).expect("writing a seed");

    let owner = owner(1, "web-1");
    let mut spec = DomainSpec::new(
        owner,
        "virga-0a000001",
        DomainType::Qemu,
        Topology::sockets(2),
        64 << 20,
    );
    spec.title = Some("shop/web-1 <&>".to_owned());
    spec.cpu = CpuMode::Named("qemu64".to_owned());
    spec.tcg_cache_mib = Some(16);
    spec.disks = vec![
        DiskSpec {
            backing: vec![DiskLayer {
                path: image,
                format: DiskFormat::Qcow2,
            }],
            boot_order: Some(1),
            serial: Some("root".to_owned()),
            cache: Cache::Writeback,
            ..DiskSpec::new("vda", root, DiskFormat::Qcow2)
        },
        DiskSpec {
            read_only: true,
            serial: Some("0123456789abcdefghij".to_owned()),
            cache: Cache::Writeback,
            ..DiskSpec::new("vdb", volume, DiskFormat::Raw)
        },
    ];
    spec.seed = Some(seed);
    spec.interfaces = vec![InterfaceSpec {
        mac: MacAddress([0xfa, 0x16, 0x3e, 0, 0, 1]),
        source: InterfaceSource::Network(network.name.clone()),
        mtu: Some(1400),
        alias: Some("ua-port-1".to_owned()),
        options: InterfaceOptions::default(),
    }];
    spec.console_log = Some(data.join("console.log"));
    spec.vnc_socket = Some(data.join("vnc.sock"));
    spec
}

fn network() -> NetworkSpec {
    let owner = owner(2, "front");
    NetworkSpec {
        uuid: owner.uid,
        name: "virga-0a000002".to_owned(),
        owner,
        bridge: "vbr0a000002".to_owned(),
        mode: ForwardMode::Isolated,
        mtu: Some(1400),
        domain: None,
        subnets: vec![SubnetSpec {
            address: "10.66.0.1".parse().expect("an address"),
            prefix: 24,
            dhcp: None,
        }],
        dns_hosts: Vec::new(),
    }
}

/// The files that a domain's QEMU has open.
fn open_files(node: &Node, domain: &str) -> String {
    let pid = node.qemu_pid(domain).expect("QEMU's process");
    node.shell(&format!("ls -l /proc/{pid}/fd"))
}

#[test]
fn an_instance_with_every_device_boots_from_its_overlay() {
    let Some(node) = Node::start() else { return };
    let libvirt = connect(&node);
    let network = network();
    libvirt.define_network(&network).expect("defining the network");
    libvirt.start_network(network.uuid).expect("starting the network");
    let spec = instance(&node, &network);
    libvirt.define(&spec).expect("defining");
    libvirt.start(spec.uuid).expect("starting");

    let log = spec.console_log.clone().expect("a console log");
    eventually("the greeting is in the console log", PATIENCE, || {
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        log.contains(boot_sector::GREETING.trim()).then_some(())
    });
    assert!(
        spec.vnc_socket.as_ref().is_some_and(|socket| socket.exists()),
        "VNC's socket"
    );
    let files = open_files(&node, &spec.name);
    for name in ["root.qcow2", "image.qcow2", "volume.raw", "seed.iso"] {
        assert!(files.contains(name), "{name}: {files}");
    }
    assert!(
        node.shell("ip -o link show master vbr0a000002").contains("mtu 1400"),
        "plugged in, with the MTU"
    );
    // Who counts by the device's name knows whose it is.
    let plugged = libvirt.devices(spec.uuid).expect("reading").running.expect("it runs");
    let used = libvirt.usage(&[spec.uuid]).expect("reading what it uses").remove(0);
    assert_eq!(plugged.interfaces[0].mac, spec.interfaces[0].mac);
    assert_eq!(plugged.interfaces[0].device.as_ref(), Some(&used.interfaces[0].device));
    assert!(used.interfaces[0].sent_bytes.is_some(), "{used:?}");
    libvirt
        .resize_disk(spec.uuid, "vda", 16 << 20)
        .expect("growing the overlay");

    // The log goes on after a restart.
    libvirt.destroy(spec.uuid).expect("destroying");
    libvirt.start(spec.uuid).expect("starting again");
    eventually("a second greeting", PATIENCE, || {
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        (log.matches(boot_sector::GREETING.trim()).count() == 2).then_some(())
    });
    libvirt.destroy(spec.uuid).expect("destroying");

    // The same disk, said to have no backing file: what its header names stays closed.
    let mut hostile = spec.clone();
    hostile.disks[0].backing.clear();
    libvirt.define(&hostile).expect("defining without a backing file");
    libvirt.start(spec.uuid).expect("starting without a backing file");
    let files = open_files(&node, &spec.name);
    assert!(
        files.contains("root.qcow2") && !files.contains("image.qcow2"),
        "{files}"
    );
    assert_eq!(libvirt.domain(spec.uuid).expect("reading").state, DomainState::Running);

    libvirt.destroy(spec.uuid).expect("destroying");
    libvirt.undefine(spec.uuid).expect("undefining");
    libvirt.remove_network(network.uuid).expect("removing the network");
}
