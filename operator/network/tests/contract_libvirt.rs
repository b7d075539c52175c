//! The contract of network back ends on a real libvirtd, and what guests see: leases and names.

mod contract;

use std::sync::Arc;
use std::time::Duration;

use contract::{DEADLINE, Setting};
use virga_hypervisor::testing::eventually;
use virga_hypervisor::testing::node::Node;
use virga_hypervisor::{Calls, CallsLimits, CpuMode, Hypervisor, Libvirt, LibvirtOptions, MacAddress};
use virga_network::{LibvirtNetworks, Mode, NetworkBackend, NodeNetwork};

const PATIENCE: Duration = Duration::from_secs(30);

fn setup(node: &Node) -> (Arc<Libvirt>, LibvirtNetworks) {
    let options = LibvirtOptions {
        uri: node.uri(),
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

/// A client on the bridge: a network namespace of its own inside the node, with busybox as DHCP client and resolver.
struct Client<'a> {
    node: &'a Node,
    name: &'static str,
}

impl<'a> Client<'a> {
    fn new(node: &'a Node, name: &'static str, bridge: &str, mac: MacAddress) -> Self {
        node.shell(&format!(
            "set -e; unshare --net sleep infinity >/dev/null 2>&1 & pid=$!; echo $pid > /run/{name}.pid; \
             while [ $(readlink /proc/$pid/ns/net) = $(readlink /proc/self/ns/net) ]; do sleep 0.02; done; \
             ip link add {name} type veth peer name eth0 address {mac} netns $pid; \
             ip link set {name} master {bridge} up; nsenter --target $pid --net ip link set eth0 up"
        ));
        Client { node, name }
    }

    fn run(&self, script: &str) -> String {
        self.node.shell(&format!(
            "nsenter --target $(cat /run/{}.pid) --net sh -c '{script}' 2>&1",
            self.name
        ))
    }

    /// dnsmasq reads its files anew on a signal, a moment after libvirt has written them.
    fn wait_for_answer(&self, name: &str, address: &str, expected: bool) {
        eventually(&format!("{name} is {address}: {expected}"), PATIENCE, || {
            let answer = self.run(&format!("busybox nslookup -type=a {name} 10.88.9.1"));
            (answer.contains(address) == expected).then_some(())
        });
    }

    /// Asks for an address as `claims` and gives back what the server offered, if anything.
    fn lease(&self, claims: &str) -> String {
        // -q ends with the lease, -n without one, -t and -T bound the wait; the script prints what came.
        self.run(&format!(
            "printf \"#!/bin/sh\\n[ \\$1 = bound ] && echo ip=\\$ip router=\\$router dns=\\$dns domain=\\$domain \
             mtu=\\$mtu hostname=\\$hostname routes=\\$staticroutes\\n\" > /run/{0}.sh; chmod +x /run/{0}.sh; \
             busybox udhcpc -i eth0 -q -n -f -t 3 -T 1 -x hostname:{claims} -O mtu -O staticroutes -O hostname \
             -s /run/{0}.sh",
            self.name
        ))
    }
}

#[tokio::test]
async fn known_ports_get_their_leases_and_names_while_the_network_runs_and_strangers_get_nothing() {
    let Some(node) = Node::start() else { return };
    if node.run("busybox", &["udhcpc", "--help"]).is_err() {
        eprintln!("\n!!! SKIPPED: busybox is not installed, so no lease was asked for !!!\n");
        return;
    }
    let (_libvirt, backend) = setup(&node);
    let mut net = contract::network(9);
    net.mode = Mode::Nat;
    net.ports = vec![contract::port(9, 11)];
    let bridge = backend.ensure(&net).await.expect("making the network").bridge;
    let dnsmasq = || node.shell("cat /run/libvirt/network/virga-*.pid");
    let server = dnsmasq();

    let known = Client::new(&node, "known", &bridge, net.ports[0].mac);
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
    let stranger = Client::new(&node, "stranger", &bridge, MacAddress([0xfa, 0x16, 0x3e, 9, 0, 12]));
    let refused = stranger.lease("web-11");
    assert!(!refused.contains("ip="), "{refused}");

    // Announced, it gets its address, without a new dnsmasq.
    net.ports.push(contract::port(9, 12));
    assert!(backend.ensure(&net).await.expect("adding a port").changed);
    eventually("a lease for the new port", PATIENCE, || {
        let lease = stranger.lease("web-12");
        (lease.contains("ip=10.88.9.12") && lease.contains("hostname=web-12")).then_some(())
    });
    assert_eq!(dnsmasq(), server, "the server is the same process");

    known.run("ip address add 10.88.9.11/24 dev eth0");
    for name in ["web-12", "web-12.front.shop"] {
        known.wait_for_answer(name, "10.88.9.12", true);
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
        known.wait_for_answer("web-13.front.shop", "10.88.9.13", there);
    }
    backend.remove(net.uid).await.expect("removing the network");
    assert!(!node.shell("ip -o link").contains(&bridge), "the bridge is gone");
}
