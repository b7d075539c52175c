//! A guest's part of DHCP and DNS without a guest.

use std::net::Ipv6Addr;
use std::time::Duration;

use super::eventually;
use super::node::Node;
use crate::MacAddress;

const PATIENCE: Duration = Duration::from_secs(30);

/// Asks for an IPv6 address (RFC 8415: Solicit with one IA_NA) and prints the one that is offered. Arguments: the
/// interface's index and the client's DUID in hexadecimal. busybox has no client for it.
const SOLICIT: &str = r#"
use Socket qw(:DEFAULT inet_pton inet_ntop);
my ($index, $duid) = @ARGV;
my $socket;
socket($socket, AF_INET6, SOCK_DGRAM, 17) && bind($socket, pack_sockaddr_in6(546, "\0" x 16)) or die "socket: $!";
my $message = pack("N", 0x01010203) . pack("nn/a*", 1, pack("H*", $duid)) . pack("nnNNN", 3, 12, 1, 0, 0) . pack("nnn", 8, 2, 0);
my $servers = pack_sockaddr_in6(547, inet_pton(AF_INET6, "ff02::1:2"), $index);
send($socket, $message, 0, $servers) or die "send: $!";
my $ready = "";
vec($ready, fileno($socket), 1) = 1;
select($ready, undef, undef, 3) or die "no answer";
my $answer;
recv($socket, $answer, 2000, 0);
my $option = index($answer, pack("nn", 5, 24));
print $option < 0 ? "none" : inet_ntop(AF_INET6, substr($answer, $option + 4, 16));
"#;

/// A client on a bridge: a network namespace of its own inside the node, with busybox as DHCP client and resolver.
#[derive(Debug)]
pub struct Client<'a> {
    node: &'a Node,
    name: &'static str,
}

impl<'a> Client<'a> {
    /// Plugs one in. `None`, said loudly, when busybox is not installed. `name`: of the interface on the bridge.
    pub fn plug_in(node: &'a Node, name: &'static str, bridge: &str, mac: MacAddress) -> Option<Self> {
        if !node
            .run("busybox", &["true"])
            .is_ok_and(|output| output.status.success())
        {
            eprintln!("\n!!! SKIPPED: busybox is not installed, so no lease was asked for !!!\n");
            return None;
        }
        node.shell(&format!(
            "set -e; unshare --net sleep infinity >/dev/null 2>&1 & pid=$!; echo $pid > /run/{name}.pid; \
             while [ $(readlink /proc/$pid/ns/net) = $(readlink /proc/self/ns/net) ]; do sleep 0.02; done; \
             ip link add {name} type veth peer name eth0 address {mac} netns $pid; \
             ip link set {name} master {bridge} up; nsenter --target $pid --net ip link set eth0 up"
        ));
        Some(Client { node, name })
    }

    /// Runs a shell script as this client and gives back what it printed.
    pub fn run(&self, script: &str) -> String {
        self.node.shell(&format!(
            "nsenter --target $(cat /run/{}.pid) --net sh -c '{script}' 2>&1",
            self.name
        ))
    }

    /// Asks for an address, as a host that calls itself `claims`, and gives back what the server offered, such as
    /// `ip=10.0.0.2 hostname=web-1`, if anything.
    pub fn lease(&self, claims: &str) -> String {
        // -q ends with the lease, -n without one, -t and -T bound the wait; the script prints what came.
        self.run(&format!(
            "printf \"#!/bin/sh\\n[ \\$1 = bound ] && echo ip=\\$ip router=\\$router dns=\\$dns domain=\\$domain \
             mtu=\\$mtu hostname=\\$hostname lease=\\$lease routes=\\$staticroutes\\n\" > /run/{0}.sh; \
             chmod +x /run/{0}.sh; busybox udhcpc -i eth0 -q -n -f -t 3 -T 1 -x hostname:{claims} -O mtu \
             -O staticroutes -O hostname -s /run/{0}.sh",
            self.name
        ))
    }

    /// Asks for an IPv6 address, as a client with this DUID (hexadecimal), and gives back the one that was offered, or
    /// `none`. perl has to be installed.
    pub fn lease_v6(&self, duid: &str) -> String {
        let script = self.node.data().join("solicit.pl");
        std::fs::write(&script, SOLICIT).expect("writing the client");
        eventually("an answer to a DHCPv6 Solicit", PATIENCE, || {
            let command = format!("perl {} $(ip -o link show eth0 | cut -d: -f1) {duid}", script.display());
            // Until the interface has its link-local address, nothing can be sent.
            Some(self.run(&command)).filter(|answer| answer == "none" || answer.parse::<Ipv6Addr>().is_ok())
        })
    }

    /// Asks until the lease has all these parts.
    pub fn wait_for_lease(&self, claims: &str, parts: &[&str]) {
        eventually(&format!("a lease with {parts:?}"), PATIENCE, || {
            let lease = self.lease(claims);
            parts.iter().all(|part| lease.contains(part)).then_some(())
        });
    }

    /// Asks the name server until it says that `name` has `address`, or no more. dnsmasq reads its files anew on a
    /// signal, a moment after libvirt has sent it.
    pub fn wait_for_answer(&self, server: &str, name: &str, address: &str, expected: bool) {
        eventually(&format!("{name} is {address}: {expected}"), PATIENCE, || {
            let answer = self.run(&format!("busybox nslookup -type=a {name} {server}"));
            (answer.contains(address) == expected).then_some(())
        });
    }
}
