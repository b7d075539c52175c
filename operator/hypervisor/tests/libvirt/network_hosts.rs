//! DHCP hosts in a file beside libvirt: what guests see of it, and what an agent finds that was killed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use uuid::Uuid;
use virga_hypervisor::testing::client::Client;
use virga_hypervisor::testing::eventually;
use virga_hypervisor::testing::node::Node;
use virga_hypervisor::{
    Dhcp, DhcpHost, DnsHost, ForwardMode, Hypervisor, Kind, Libvirt, LibvirtOptions, MacAddress, NetworkSpec,
    NetworkUpdate, Owner, SubnetSpec,
};

const NAME: &str = "virga-0b000001";
const BRIDGE: &str = "vbr0b000001";

fn hosts_directory(node: &Node) -> PathBuf {
    node.data().join("networks")
}

fn hosts_file(node: &Node) -> PathBuf {
    hosts_directory(node).join(format!("{}.hosts", network(&[]).uuid))
}

fn libvirt(node: &Node, network_hosts: Option<PathBuf>) -> Libvirt {
    Libvirt::new(LibvirtOptions {
        uri: node.uri(),
        network_hosts,
        ..LibvirtOptions::default()
    })
    .expect("setting up libvirt")
}

fn mac(number: u8) -> MacAddress {
    MacAddress([0xfa, 0x16, 0x3e, 0xb, 0, number])
}

/// A network with these hosts: their MAC's and address's last byte, and their name. No name is in DNS.
fn network(hosts: &[(u8, &str)]) -> NetworkSpec {
    let uid = Uuid::from_u128(0x0b00_0001_0000_4000_8000_0000_0000_0000);
    let host = |v4: bool| {
        move |(number, name): &(u8, &str)| DhcpHost {
            mac: mac(*number),
            address: format!("{}{number}", if v4 { "10.67.0." } else { "fd00:67::" })
                .parse()
                .expect("an address"),
            name: Some((*name).to_owned()),
        }
    };
    let subnet = |address: &str, prefix: u8, v4: bool| SubnetSpec {
        address: address.parse().expect("an address"),
        prefix,
        dhcp: Some(Dhcp {
            hosts: hosts.iter().map(host(v4)).collect(),
            ..Dhcp::default()
        }),
    };
    NetworkSpec {
        uuid: uid,
        name: NAME.to_owned(),
        owner: Owner {
            namespace: "shop".to_owned(),
            name: "front".to_owned(),
            uid,
            generation: 1,
        },
        bridge: BRIDGE.to_owned(),
        mode: ForwardMode::Nat,
        mtu: None,
        domain: Some("front.shop".to_owned()),
        subnets: vec![subnet("10.67.0.1", 24, true), subnet("fd00:67::1", 64, false)],
        dns_hosts: Vec::new(),
    }
}

fn dnsmasq(node: &Node) -> String {
    let pid = node.shell(&format!("cat /run/libvirt/network/{NAME}.pid"));
    assert!(!pid.is_empty(), "dnsmasq runs");
    pid
}

/// How many DHCP requests the firewall's rule has let through; starts at 0 when libvirt makes the rules anew.
fn let_through(node: &Node) -> Option<u64> {
    let rules = node.shell("iptables -nvxL LIBVIRT_INP 2>/dev/null");
    let rule = rules.lines().find(|rule| rule.contains("udp dpt:67"))?;
    rule.split_whitespace().next()?.parse().ok()
}

fn live_names(libvirt: &Libvirt) -> Vec<DnsHost> {
    let info = libvirt.network(network(&[]).uuid).expect("reading the network");
    info.live.expect("it runs").dns_hosts
}

#[test]
fn a_host_that_comes_or_goes_is_heard_of_at_once_and_neither_server_nor_firewall_begin_anew() {
    let Some(node) = Node::start() else { return };
    let libvirt = libvirt(&node, Some(hosts_directory(&node)));
    let one = network(&[(11, "web-11")]);
    libvirt.define_network(&one).expect("defining");
    libvirt.start_network(one.uuid).expect("starting");
    let Some(first) = Client::plug_in(&node, "first", BRIDGE, mac(11)) else {
        return;
    };
    let second = Client::plug_in(&node, "second", BRIDGE, mac(12)).expect("a second client");
    first.wait_for_lease("liar", &["ip=10.67.0.11", "hostname=web-11"]);
    let (server, before) = (dnsmasq(&node), let_through(&node));

    // Each of these names would be an order to dnsmasq if it took it for one: no lease at all, or one without end.
    for name in ["infinite", "ignore", "12h", "120"] {
        let two = network(&[(11, "web-11"), (12, name)]);
        assert!(libvirt.update_network(&two).expect("adding a host").host_changes > 0);
        second.wait_for_lease("liar", &["ip=10.67.0.12", &format!("hostname={name} "), "lease=120 "]);
        assert_eq!(
            libvirt.update_network(&two).expect("the same again"),
            NetworkUpdate::default()
        );
    }
    assert_eq!(live_names(&libvirt), [], "nothing is left of what told dnsmasq");

    // IPv6 clients are known by a DUID that is made of the MAC address, and by the MAC address.
    for duid in ["00030001fa163e0b000c", "0004000102030405060708090a0b0c0d0e0f"] {
        assert_eq!(second.lease_v6(duid), "fd00:67::12", "{duid}");
    }
    let stranger = Client::plug_in(&node, "stranger", BRIDGE, mac(13)).expect("a third client");
    assert_eq!(stranger.lease_v6("00030001fa163e0b000d"), "none");

    libvirt
        .update_network(&network(&[(12, "web-12")]))
        .expect("removing a host");
    second.wait_for_lease("liar", &["ip=10.67.0.12", "hostname=web-12 "]);
    let refused = first.lease("web-11");
    assert!(!refused.contains("ip="), "{refused}");

    assert_eq!(dnsmasq(&node), server, "the same process");
    match (before, let_through(&node)) {
        (Some(before), Some(after)) => assert!(before > 0 && after > before, "{before}, then {after}"),
        _ => eprintln!("\n!!! SKIPPED: libvirt does not use iptables here, so its counters were not looked at !!!\n"),
    }
    libvirt.remove_network(one.uuid).expect("removing");
    assert!(!hosts_file(&node).exists());
}

#[test]
fn whatever_a_killed_agent_left_half_done_the_next_update_ends() {
    let Some(node) = Node::start() else { return };
    let libvirt = libvirt(&node, Some(hosts_directory(&node)));
    let one = network(&[(11, "web-11")]);
    libvirt.define_network(&one).expect("defining");
    // Killed after the definition and before the file: it starts, without hosts.
    fs::remove_file(hosts_file(&node)).expect("removing the file");
    libvirt.start_network(one.uuid).expect("starting");
    let server = dnsmasq(&node);
    assert!(libvirt.update_network(&one).expect("writing the file").host_changes > 0);
    let Some(first) = Client::plug_in(&node, "first", BRIDGE, mac(11)) else {
        return;
    };
    let second = Client::plug_in(&node, "second", BRIDGE, mac(12)).expect("a second client");
    first.wait_for_lease("web-11", &["ip=10.67.0.11"]);

    // The reminder, and the file before or after.
    let remind = || {
        node.shell(&format!(
            "virsh -c 'qemu:///system?socket=/run/libvirt/libvirt-sock' net-update {NAME} add dns-host \
             '<host ip=\"192.0.2.0\"><hostname>virga-reads-anew.invalid</hostname></host>' --live"
        ))
    };
    let two = network(&[(11, "web-11"), (12, "web-12")]);
    let old = fs::read_to_string(hosts_file(&node)).expect("the file");
    libvirt.update_network(&two).expect("adding a host");
    let new = fs::read_to_string(hosts_file(&node)).expect("the file");
    for file in [&old, &new] {
        libvirt.update_network(&one).expect("removing a host");
        remind();
        assert_eq!(live_names(&libvirt).len(), 1, "the reminder is there");
        fs::write(hosts_file(&node), file).expect("writing the file");
        libvirt.update_network(&two).expect("adding a host");
        assert_eq!(live_names(&libvirt), []);
        second.wait_for_lease("web-12", &["ip=10.67.0.12"]);
    }
    // A file that somebody spoiled, and one that was not yet in its place.
    fs::write(hosts_file(&node), "\u{0}dhcp-script=/bin/sh\n").expect("spoiling the file");
    fs::write(hosts_file(&node).with_extension("hosts.new"), "fa:16").expect("half a file");
    libvirt.update_network(&two).expect("mending the file");
    assert_eq!(fs::read_to_string(hosts_file(&node)).expect("the file"), new);

    // libvirtd reads its own notes of what runs.
    node.kill_daemon();
    node.start_daemon();
    let update = eventually("libvirtd is back", Duration::from_secs(30), || {
        libvirt.update_network(&two).ok()
    });
    assert_eq!(update, NetworkUpdate::default());
    libvirt.update_network(&one).expect("removing a host");
    let refused = second.lease("web-12");
    assert!(!refused.contains("ip="), "{refused}");
    assert_eq!(dnsmasq(&node), server, "the same process");

    libvirt.remove_network(one.uuid).expect("removing");
    let left = fs::read_dir(hosts_directory(&node)).expect("the directory").count();
    assert_eq!(left, 0);
}

#[test]
fn a_network_of_an_older_agent_runs_on_as_it_is_until_it_is_started_anew() {
    let Some(node) = Node::start() else { return };
    let (older, newer) = (libvirt(&node, None), libvirt(&node, Some(hosts_directory(&node))));
    let one = network(&[(11, "web-11")]);
    older.define_network(&one).expect("defining");
    older.start_network(one.uuid).expect("starting");
    let server = dnsmasq(&node);

    let two = network(&[(11, "web-11"), (12, "web-12")]);
    let update = newer.update_network(&two).expect("updating");
    assert!(
        update.host_changes > 0 && update.redefined && update.restart_needed,
        "{update:?}"
    );
    let again = newer.update_network(&two).expect("updating again");
    assert_eq!(
        (again.host_changes, again.redefined, again.restart_needed),
        (0, false, true)
    );
    let Some(second) = Client::plug_in(&node, "second", BRIDGE, mac(12)) else {
        return;
    };
    second.wait_for_lease("web-12", &["ip=10.67.0.12", "hostname=web-12 "]);
    assert_eq!(dnsmasq(&node), server, "the same process");

    // The older agent is put back: the same, the other way.
    let update = older.update_network(&one).expect("updating by the older");
    assert!(update.redefined && !update.restart_needed, "{update:?}");
    newer.update_network(&two).expect("updating by the newer");

    newer.stop_network(one.uuid).expect("stopping");
    newer.start_network(one.uuid).expect("starting");
    assert_eq!(
        newer.update_network(&two).expect("updating what is new"),
        NetworkUpdate::default()
    );
    let third = Client::plug_in(&node, "third", BRIDGE, mac(12)).expect("a client");
    third.wait_for_lease("web-12", &["ip=10.67.0.12", "hostname=web-12 "]);
    newer.remove_network(one.uuid).expect("removing");
}

#[test]
fn a_directory_that_dnsmasq_can_not_enter_is_said_and_not_left_to_its_log() {
    let Some(node) = Node::start() else { return };
    let directory = hosts_directory(&node);
    let libvirt = libvirt(&node, Some(directory.clone()));
    fs::create_dir(&directory).expect("the directory");
    let one = network(&[(11, "web-11")]);
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).expect("closing the directory");
    for _ in 0..2 {
        let error = libvirt.define_network(&one).expect_err("a closed directory");
        assert!(error.to_string().contains("chmod o+x"), "{error}");
    }
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o711)).expect("opening the directory");
    libvirt.define_network(&one).expect("defining");
    libvirt.remove_network(one.uuid).expect("removing");
}

#[test]
fn a_directory_that_dnsmasqs_configuration_could_not_carry_is_refused() {
    for path in ["networks", "/var/lib/a b", "/var/lib/a\nno-hosts", "/var/lib/\u{e9}"] {
        let options = LibvirtOptions {
            network_hosts: Some(PathBuf::from(path)),
            ..LibvirtOptions::default()
        };
        let error = Libvirt::new(options).expect_err(path);
        assert_eq!(error.kind(), Kind::Invalid, "{error}");
    }
}
