//! OVN on the lab's nodes, as its own tools make it work: what a client of its databases can count on.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use virga_lab::{Administered, Lab, Node, Options, Ovn, OvnDaemon};

use crate::support::{Turn, eventually, so};

const NETWORK: &str = include_str!("ovn_network.sh");

/// What udhcpc calls with the answer in its environment.
const LEASE: &str = "#!/bin/sh\n[ \"$1\" = bound ] || exit 0\nip address add \"$ip/$mask\" dev \"$interface\"\n\
                     ip link set \"$interface\" mtu \"$mtu\"\nip route add default via \"$router\"\n";

/// A network namespace on a node with a port of the logical switch, which stands for a guest.
struct Guest {
    node: Node,
    name: &'static str,
    pid: String,
}

impl Guest {
    /// Plugs it in; the port's name is the guest's.
    fn plug(lab: &Lab, node: &str, name: &'static str, mac: &str) -> Self {
        let node = lab.node(node).unwrap();
        let script = format!(
            "set -e\n\
             ip link add {name} type veth peer name {name}-in address {mac}\n\
             ethtool -K {name} tx off >/dev/null\n\
             ip link set {name} up\n\
             ovs-vsctl add-port br-int {name} -- set interface {name} external_ids:iface-id={name}\n\
             mkdir -p /run/{name}/cgi-bin\n\
             echo {name} >/run/{name}/index.html\n\
             printf '{}' >/run/{name}/lease\n\
             chmod +x /run/{name}/lease\n\
             setsid --fork unshare --net sh -c 'echo $$ >/run/{name}/pid; exec sleep infinity' <&- >/dev/null 2>&1\n\
             until [ -s /run/{name}/pid ]; do sleep 0.02; done\n\
             ip link set {name}-in netns $(cat /run/{name}/pid) name eth0\n\
             cat /run/{name}/pid",
            LEASE.replace('\n', "\\n")
        );
        let pid = node.run(&["timeout", "20", "bash", "-c", &script]).unwrap();
        let guest = Self {
            node,
            name,
            pid: pid.trim().to_owned(),
        };
        guest.run("ethtool -K eth0 tx off >/dev/null; ip link set lo up; ip link set eth0 up");
        guest
    }

    fn run(&self, script: &str) -> String {
        let net = format!("--net=/proc/{}/ns/net", self.pid);
        let args = ["timeout", "20", "nsenter", &net, "bash", "-c", script];
        self.node
            .run(&args)
            .unwrap_or_else(|error| panic!("{}: {}", self.name, virga_lab::chain(&error)))
    }

    /// Asks for an address, and serves a page that says the guest's name.
    fn start(&self) -> String {
        let name = self.name;
        self.run(&format!(
            "busybox udhcpc -n -q -f -t 5 -T 1 -O mtu -i eth0 -s /run/{name}/lease >/dev/null 2>&1"
        ));
        self.run(&format!("busybox httpd -p 0.0.0.0:80 -h /run/{name} >/dev/null 2>&1"));
        self.run("ip -4 -brief address show dev eth0")
    }

    fn pings(&self, address: &str) -> Result<(), String> {
        let ping = format!("busybox ping -c 1 -W 1 {address} || true");
        let said = self.run(&ping);
        so(said.contains(" 0% packet loss"), format!("{}: {said}", self.name))
    }

    fn page(&self, address: &str, path: &str) -> String {
        self.run(&get(address, path)).trim().to_owned()
    }
}

/// A script that prints the last line of a page. (busybox's wget with a time limit crashes where no name server is.)
fn get(address: &str, path: &str) -> String {
    let get =
        format!("exec 3<>/dev/tcp/{address}/80 && printf \"GET {path} HTTP/1.0\\r\\n\\r\\n\" >&3 && tail -n 1 <&3");
    format!("timeout 5 bash -c '{get}'")
}

fn outside(ovn: &Ovn, script: &str) -> Result<String, String> {
    let output = ovn
        .outside(&["timeout", "10", "bash", "-c", script])
        .unwrap()
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    so(
        output.status.success(),
        format!("{said}{}", String::from_utf8_lossy(&output.stderr)),
    )?;
    Ok(said)
}

/// Runs ovn-nbctl on the machine.
fn nbctl(ovn: &Ovn, args: &[&str]) -> String {
    let at = format!("--db={}", ovn.endpoint(OvnDaemon::NorthBound).unwrap());
    let output = Command::new("ovn-nbctl")
        .args([&at, "--timeout=20"])
        .args(args)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn ovn_carries_guests_between_nodes_filters_them_and_leads_them_outside() {
    let turn = Turn::take();
    let began = Instant::now();
    let lab = turn.lab_with(Options { nodes: 3, ovn: true });
    let ovn = lab.ovn().unwrap();
    println!("up in {:?}", began.elapsed());

    let made = Command::new("bash")
        .args(["-c", NETWORK])
        .env("OVN_NB_DB", ovn.endpoint(OvnDaemon::NorthBound).unwrap())
        .status();
    assert!(made.unwrap().success());
    let one = Guest::plug(&lab, "node-1", "one", "02:00:00:00:01:11");
    let two = Guest::plug(&lab, "node-2", "two", "02:00:00:00:01:12");
    nbctl(&ovn, &["--wait=hv", "sync"]);
    println!("plugged after {:?}", began.elapsed());

    // DHCP, and the way between two nodes, of which TCP needs checksums.
    assert!(one.start().contains("10.1.0.11/24"));
    assert!(two.start().contains("10.1.0.12/24"));
    assert!(one.run("ip link show dev eth0").contains(" mtu 1400 "));
    eventually("a ping between nodes", || one.pings("10.1.0.12"));
    assert_eq!(one.page("10.1.0.12", "/"), "two");

    // A rule works from the moment when the databases say so.
    let rule = "outport == \"two\" && icmp4";
    nbctl(
        &ovn,
        &["--wait=hv", "acl-add", "inside", "to-lport", "1001", rule, "drop"],
    );
    assert!(one.pings("10.1.0.12").is_err());
    assert_eq!(one.page("10.1.0.12", "/"), "two");
    nbctl(&ovn, &["--wait=hv", "acl-del", "inside"]);
    one.pings("10.1.0.12").unwrap();
    println!("filtered after {:?}", began.elapsed());

    // Outside, the router's address is seen for the first guest and the floating IP for the second.
    let web = tempfile::tempdir().unwrap();
    let script = web.path().join("cgi-bin/who");
    std::fs::create_dir(web.path().join("cgi-bin")).unwrap();
    std::fs::write(&script, "#!/bin/sh\necho\necho $REMOTE_ADDR\n").unwrap();
    let serve = format!(
        "chmod +x {} && busybox httpd -p 0.0.0.0:80 -h {} >/dev/null 2>&1",
        script.display(),
        web.path().display()
    );
    outside(&ovn, &serve).unwrap();
    eventually("the way outside", || one.pings(Ovn::BEYOND[0]));
    assert_eq!(one.page("203.0.113.1", "/cgi-bin/who"), "10.200.0.10");
    assert_eq!(two.page("10.200.0.1", "/cgi-bin/who"), "10.200.0.52");
    assert_eq!(outside(&ovn, &get("10.200.0.52", "/")).as_deref(), Ok("two"));

    // The load balancer asks both.
    let ask = format!(
        "for _ in {{1..16}}; do {}; done | sort -u | xargs",
        get("10.200.0.80", "/")
    );
    eventually("both are asked", || {
        let said = outside(&ovn, &ask)?;
        so(said == "one two", said)
    });
    println!("outside after {:?}", began.elapsed());

    // TLS, for whom the lab's authority has signed.
    let credentials = ovn.credentials();
    let tls = Command::new("ovn-nbctl")
        .arg(format!("--db={}", ovn.tls_endpoint(OvnDaemon::NorthBound).unwrap()))
        .arg(format!("--private-key={}", credentials.key.display()))
        .arg(format!("--certificate={}", credentials.certificate.display()))
        .arg(format!("--ca-cert={}", credentials.authority.display()))
        .args([
            "--timeout=20",
            "--bare",
            "--columns=name",
            "list",
            "Logical_Switch",
            "inside",
        ])
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&tls.stdout).trim(), "inside");

    // While the daemons are away packets go on, and a switch that was killed comes back with its ports.
    for daemon in OvnDaemon::ALL {
        ovn.stop(daemon).unwrap();
        assert!(!ovn.is_running(daemon));
    }
    one.pings("10.1.0.12").unwrap();
    for daemon in OvnDaemon::ALL {
        ovn.start(daemon).unwrap();
    }
    let node = lab.node("node-2").unwrap();
    node.kill_process("ovs-vswitchd").unwrap();
    eventually("a ping through the new switch", || one.pings("10.1.0.12"));
    lab.kubectl(&["wait", "node/node-2", "--for=condition=Ready", "--timeout=1s"])
        .unwrap();
    println!("healed after {:?}", began.elapsed());

    // A node without power takes nobody along, and is a chassis again when it has some.
    lab.kill_node("node-2").unwrap();
    assert!(one.pings("10.1.0.12").is_err());
    lab.boot_node("node-2").unwrap();
    assert_eq!(node.is_chassis(), Some(true));
    one.pings("10.1.0.1").unwrap();
    drop(lab);
    let took = began.elapsed();
    println!("done after {took:?}");
    assert!(took < Duration::from_secs(90), "took {took:?}");
}
