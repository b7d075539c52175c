//! The contract of network back ends on a real libvirtd, and what guests see: leases and names.

mod contract;

use std::sync::Arc;
use std::time::Duration;

use contract::{DEADLINE, Setting};
use virga_hypervisor::testing::client::Client;
use virga_hypervisor::testing::eventually;
use virga_hypervisor::testing::node::Node;
use virga_hypervisor::{Calls, CallsLimits, CpuMode, Hypervisor, Libvirt, LibvirtOptions, MacAddress};
use virga_network::{LibvirtNetworks, Mode, NetworkBackend, NodeNetwork};

const PATIENCE: Duration = Duration::from_secs(30);
const SERVER: &str = "10.88.9.1";

fn setup(node: &Node) -> (Arc<Libvirt>, LibvirtNetworks) {
    let options = LibvirtOptions {
        uri: node.uri(),
        network_hosts: Some(node.data().join("networks")),
        ..LibvirtOptions::default()
    };
    let libvirt = Arc::new(Libvirt::new(options).expect("libvirt"));
    let calls = Calls::new(libvirt.clone(), CallsLimits::default());
    (libvirt, LibvirtNetworks::new(calls, DEADLINE))
}

fn set_guest(libvirt: &Libvirt, backend: &LibvirtNetworks, network: &NodeNetwork, plugged: bool) {
    let mut guest = contract::guest(backend, network);
    guest.cpu = CpuMode::Named("qemu64".to_owned());
    guest.tcg_cache_mib = Some(16);
    if plugged {
        libvirt.define(&guest).expect("defining a guest");
        libvirt.start(guest.uuid).expect("starting a guest");
    } else {
        libvirt.destroy(guest.uuid).expect("destroying the guest");
        libvirt.undefine(guest.uuid).expect("undefining the guest");
    }
}

#[tokio::test]
async fn libvirt_networks_keep_the_contract_on_libvirt() {
    let Some(node) = Node::start() else { return };
    let (libvirt, backend) = setup(&node);
    contract::contract(&Setting {
        backend: &backend,
        writes: &|| None,
        look: &|uid| libvirt.network(uid).expect("reading the network"),
        set_guest: &|network, plugged| set_guest(&libvirt, &backend, network, plugged),
        stop: &|uid| libvirt.stop_network(uid).expect("stopping the network"),
    })
    .await;
}

#[tokio::test]
async fn known_ports_get_their_leases_and_names_while_the_network_runs_and_strangers_get_nothing() {
    let Some(node) = Node::start() else { return };
    let (_libvirt, backend) = setup(&node);
    let mut net = contract::network(9);
    net.mode = Mode::Nat;
    net.ports = vec![contract::port(9, 11)];
    let bridge = backend.ensure(&net).await.expect("making the network").bridge;
    let dnsmasq = || node.shell("cat /run/libvirt/network/virga-*.pid");
    let server = dnsmasq();

    let Some(known) = Client::plug_in(&node, "known", &bridge, net.ports[0].mac) else {
        return;
    };
    let lease = eventually("a lease", PATIENCE, || {
        Some(known.lease("liar")).filter(|lease| lease.contains("ip="))
    });
    for part in [
        "ip=10.88.9.11",
        "router=10.88.9.1",
        "dns=10.88.9.1",
        "domain=front.shop",
        "mtu=1442",
        "hostname=web-11",
    ] {
        assert!(lease.contains(part), "{part}: {lease}");
    }
    assert!(
        lease.contains("10.9.0.0/16 10.88.9.9") && lease.contains("0.0.0.0/0 10.88.9.1"),
        "{lease}"
    );

    // A MAC that nobody announced gets nothing, not even with the name of a known one.
    let mac = MacAddress([0xfa, 0x16, 0x3e, 9, 0, 12]);
    let stranger = Client::plug_in(&node, "stranger", &bridge, mac).expect("a second client");
    let refused = stranger.lease("web-11");
    assert!(!refused.contains("ip="), "{refused}");

    // Announced, it gets its address, without a new dnsmasq.
    net.ports.push(contract::port(9, 12));
    assert!(backend.ensure(&net).await.expect("adding a port").changed);
    stranger.wait_for_lease("web-12", &["ip=10.88.9.12", "hostname=web-12"]);
    assert_eq!(dnsmasq(), server, "the server is the same process");

    known.run("ip address add 10.88.9.11/24 dev eth0");
    for name in ["web-12", "web-12.front.shop"] {
        known.wait_for_answer(SERVER, name, "10.88.9.12", true);
    }
    let answer = known.run("busybox nslookup -type=a liar.front.shop 10.88.9.1");
    assert!(
        !answer.contains("10.88.9.11"),
        "a client does not choose its name: {answer}"
    );

    // A name goes with its port. (Not at once when the port has a lease: see `DHCP_LEASE`.)
    for (there, change) in [(true, "adding a port"), (false, "removing a port")] {
        if there {
            net.ports.push(contract::port(9, 13));
        } else {
            net.ports.pop();
        }
        assert!(backend.ensure(&net).await.expect(change).changed);
        known.wait_for_answer(SERVER, "web-13.front.shop", "10.88.9.13", there);
    }

    // Its address too, and what it is called is no order to the server: a name such as `ignore` is a name.
    net.ports.truncate(1);
    net.ports[0].hostname = "ignore".to_owned();
    assert!(backend.ensure(&net).await.expect("removing a port").changed);
    known.wait_for_lease("liar", &["ip=10.88.9.11", "hostname=ignore"]);
    let refused = stranger.lease("web-12");
    assert!(!refused.contains("ip="), "{refused}");
    assert_eq!(dnsmasq(), server, "the server is the same process");
    backend.remove(net.uid).await.expect("removing the network");
    assert!(!node.shell("ip -o link").contains(&bridge), "the bridge is gone");
}
