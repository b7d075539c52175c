//! Does OVN carry guests from host to host and into a VLAN, tell them who and where they are, keep them apart, and to their
//! rates?

use kube::ResourceExt;
use serde_json::json;
use virga_crds::{Instance, InstanceState, Network, Port};
use virga_e2e::objects::network;
use virga_e2e::{BOUND, eventually, is_ready, ready_because};
use virga_lab::Ovn;

use super::rates::{self, SERVES_MUCH};
use super::scene::{Scene, on_ovn};
use crate::{GUEST, await_up, host};

/// What the first guest tries, once it has an address: the other host's guest by address, over TCP and by name; then an
/// address that is not its own; and the other guest again as a sub-port of its trunk.
const SCRIPT: &str = r#"try() { n=0; until "$@" >/tmp/said 2>&1; do n=$((n + 1)); [ $n -ge 25 ] && return 1; sleep 1; done; }
echo "SEEN mtu=$(cat /sys/class/net/eth0/mtu)"
try ping -c 1 -W 1 10.60.0.12 && echo "SEEN ping"
page() { printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 3 10.60.0.12 80 | grep hello; }
try page && echo "SEEN page=$(cat /tmp/said)" || echo "SEEN no-page: $(cat /tmp/said)"
try sh -c 'nslookup two.front.shop 10.60.0.1 | grep -q 10.60.0.12' && echo "SEEN name"
ip address add 10.60.0.99/24 dev eth0
ping -c 2 -W 1 -I 10.60.0.99 10.60.0.12 >/dev/null 2>&1 && echo "SEEN spoofed" || echo "SEEN spoofing-blocked"
ip address del 10.60.0.99/24 dev eth0
grep -q '"nic00.100":{"id":100,"link":"nic00","macaddress":"fa:16:3e:89:00:11","dhcp4":true' /run/seed/network-config \
    && echo "SEEN voice-told"
voice 100 11 && udhcpc -i voice -n -q -t 8 -T 1 -s /etc/dhcp >/dev/null 2>&1
ip address show dev voice | grep -q 10.89.0.11/24 && echo "SEEN voice-lease"
try ping -c 1 -W 1 10.89.0.12 && echo "SEEN voice-ping" || echo "SEEN no-voice-ping: $(cat /tmp/said)"
echo "SEEN end"
"#;

/// Makes a guest's VLAN interface, with a tag and the end of its MAC address.
const VOICE: &str = r#"#!/bin/sh
voice() {
    modprobe 8021q
    ip link add link eth0 name voice type vlan id "$1" && ip link set dev voice address "fa:16:3e:89:00:$2" \
        && ip link set voice up
}
"#;

/// What the other guest does, besides what it serves: it has that Network by another tag.
const TWO: &str = "voice 200 12 && ip address add 10.89.0.12/24 dev voice\n";

/// What the guest of the other network tries: the first one's address, which nobody has there.
const STRANGER: &str =
    "#!/bin/sh\nping -c 3 -W 1 10.60.0.11 >/dev/null 2>&1 && echo 'SEEN a-stranger' || echo 'SEEN nobody'\n";

/// What the guest tries that has the stranger's Port afterwards: OVN tells it what the Port says, and its name by now.
const HEIR: &str = r#"#!/bin/sh
n=0; until nslookup heir 10.60.0.1 2>/dev/null | grep -q 10.60.0.12; do n=$((n + 1)); [ $n -ge 25 ] && break; sleep 1; done
[ $n -lt 25 ] && echo "SEEN heir-named"
echo "SEEN mac=$(cat /sys/class/net/eth0/address) mtu=$(cat /sys/class/net/eth0/mtu)"
"#;

/// A guest in `other` that has the Port `kept`.
fn with_kept(t: &Scene, name: &str, node: &str, script: &str) -> Instance {
    let mut made = t.guest(name, node, "other", "10.60.0.12", script);
    made.spec.interfaces = serde_json::from_value(json!([{"network": "other", "port": "kept"}])).unwrap();
    made
}

/// A VLAN of the physical network in which all passes.
fn tagged() -> Network {
    let spec = json!({
        "type": "VLAN", "physicalNetwork": Ovn::PHYSICAL_NETWORK, "segmentID": 42, "portSecurity": "Disabled",
        "subnets": [{"name": "v4", "cidr": "10.203.42.0/24"}],
    });
    Network::new("tagged", serde_json::from_value(spec).unwrap())
}

/// Asks from outside who has the guest's address in that VLAN: by ARP, in a frame with this tag, or without one for 0. The
/// machine's kernel may know no VLANs, so the frame is made by hand.
const ASK: &str = r#"
my ($index, $tag) = @ARGV;
my $socket;
socket($socket, 17, 3, 0x0300) && bind($socket, pack("S n i S C C x8", 17, 3, $index, 0, 0, 0)) or die "socket: $!";
my $head = pack("H*", "ffffffffffff" . "020000004201") . ($tag ? pack("nn", 0x8100, $tag) : "");
my $question = pack("H*", "0806" . "0001080006040001" . "020000004201" . "0acb2a01" . "000000000000" . "0acb2a0c");
syswrite($socket, $head . $question) or die "sending: $!";
for (1 .. 20) {
    my $ready = "";
    vec($ready, fileno($socket), 1) = 1;
    next unless select($ready, undef, undef, 0.1);
    recv($socket, my $frame, 2000, 0);
    if ($frame =~ /\x08\x06\x00\x01\x08\x00\x06\x04\x00\x02.{6}\x0a\xcb\x2a\x0c/s) { print "answered"; exit }
}
print "silence";
"#;

fn ask(tag: u16) -> String {
    format!("perl -e '{ASK}' $(ip -oneline link show dev eth0 | cut -d: -f1) {tag}")
}

#[tokio::test]
async fn guests_on_two_hosts_share_a_network_and_nobody_else_does() {
    let mut front = network("front", "10.60.0.0/24");
    front.spec.dns_domain = Some("front.shop".into());
    front.spec.qos = serde_json::from_value(rates::limit()).unwrap();
    // Another tenant's, with the same range.
    let other = network("other", "10.60.0.0/24");
    // That guests have as a VLAN of their own.
    let voice = network("voice", "10.89.0.0/24");
    on_ovn([front, other, voice], async |t| {
        for name in ["front", "other"] {
            let status = t.api::<Network>().get(name).await.unwrap().status.unwrap();
            assert_eq!((status.backend.as_deref(), status.mtu), (Some("ovn"), Some(1442)));
        }

        let two = format!("{SERVES_MUCH}{TWO}");
        for (name, node, last, tag, script) in [
            ("two", "node-2", 12, 200, two.as_str()),
            ("one", "node-1", 11, 100, SCRIPT),
        ] {
            let (address, script) = (format!("10.60.0.{last}"), format!("{VOICE}{script}"));
            let mut made = t.guest(name, node, "front", &address, &script);
            let sub = json!({
                "segmentID": tag, "network": "voice",
                "address": format!("10.89.0.{last}"), "mac": format!("fa:16:3e:89:00:{last}"),
            });
            made.spec.interfaces[0].trunk = Some(serde_json::from_value(json!({"subPorts": [sub]})).unwrap());
            t.create(made).await;
        }
        // Whose Port is not its own: another one has it afterwards.
        let kept = json!({
            "network": "other", "addresses": [{"subnet": "v4", "ip": "10.60.0.12"}],
            "dhcpOptions": [{"name": "MTU", "value": "1300"}],
        });
        t.create(Port::new("kept", serde_json::from_value(kept).unwrap())).await;
        t.create(with_kept(t, "stranger", "node-2", STRANGER)).await;
        let one = t.runs("one").await;
        t.runs("two").await;
        let stranger = t.runs("stranger").await;

        let all = [
            "SEEN mtu=1442",
            "SEEN ping",
            "SEEN page=hello from two",
            "SEEN name",
            "SEEN spoofing-blocked",
            "SEEN voice-told",
            "SEEN voice-lease",
            "SEEN voice-ping",
        ];
        t.has_tried(&one, &all).await;
        t.said(&one, "GUEST-READY host=one ip=10.60.0.11").await;
        let console = t.said(&stranger, "GUEST-READY host=stranger ip=10.60.0.12").await;
        assert!(console.contains("SEEN nobody"), "{console}");
        let kept = t.await_condition::<Port>("kept", "up", is_ready).await;
        t.delete::<Instance>(GUEST, "stranger").await;
        t.create(with_kept(t, "heir", "node-1", HEIR)).await;
        rates::are_kept(t, &one, "two").await;

        let heir = t.runs("heir").await;
        let console = t.said(&heir, "GUEST-READY host=heir ip=10.60.0.12").await;
        assert!(console.contains("SEEN heir-named"), "{console}");
        assert!(
            console.contains(&format!("SEEN mac={} mtu=1300", kept.spec.mac)),
            "{console}"
        );
        let has_it = |port: &Port| is_ready(port) && port.spec.instance == "heir";
        let again = t.await_condition::<Port>("kept", "up", has_it).await;
        assert_eq!((again.uid(), &again.spec.mac), (kept.uid(), &kept.spec.mac));
        t.delete::<Instance>(GUEST, "heir").await;
        t.delete::<Port>(BOUND, "kept").await;

        let port = t.await_condition::<Port>("one-front", "up", is_ready).await;
        let sub = t.await_condition::<Port>("one-voice", "up", is_ready).await;
        assert_eq!(sub.spec.trunk.map(|trunk| trunk.uid), port.uid());

        // Its port is the same after it was off.
        t.patch::<Instance>("one", json!({"spec": {"powerState": "Stopped"}}))
            .await;
        t.await_within::<Instance>(BOUND, "one", "Stopped", |found| {
            is_ready(found) && found.status.as_ref().and_then(|status| status.state) == Some(InstanceState::Stopped)
        })
        .await;
        let down = ready_because("PortDown", "Instance one is off");
        t.await_condition::<Port>("one-front", "down", down).await;
        let down = ready_because("PortDown", "no host has plugged its parent in, Port one-front");
        t.await_condition::<Port>("one-voice", "down", down).await;
        t.patch::<Instance>("one", json!({"spec": {"powerState": "Running"}}))
            .await;
        t.runs("one").await;
        let again = t.await_within::<Port>(GUEST, "one-front", "up", is_ready).await;
        assert_eq!((again.uid(), &again.spec.mac), (port.uid(), &port.spec.mac));
        await_up(&host(t.lab, &one), &one, 2).await;

        // A running guest's sub-port goes, and into it comes a VLAN of the physical network, whose tag its frames have there.
        t.create(tagged()).await;
        let interfaces = json!([
            {"network": "front", "address": "10.60.0.12"},
            {"network": "tagged", "address": "10.203.42.12"},
        ]);
        t.patch::<Instance>("two", json!({"spec": {"interfaces": interfaces}}))
            .await;
        eventually("the guest answers in its VLAN", BOUND, async || {
            let said = t.outside(&ask(42))?;
            (said == "answered").then_some(()).ok_or(said)
        })
        .await;
        for tag in [0, 43] {
            assert_eq!(t.outside(&ask(tag)).as_deref(), Ok("silence"), "{tag}");
        }

        // What somebody takes away comes back, and what is there goes on without the controller's help.
        let uid = port.uid().unwrap();
        t.nbctl(&["lsp-del", &uid]);
        eventually("the port is back", BOUND, async || {
            let there = t.nbctl(&[
                "--bare",
                "--columns=name",
                "find",
                "Logical_Switch_Port",
                &format!("name={uid}"),
            ]);
            (there.trim() == uid).then_some(()).ok_or(there)
        })
        .await;
    })
    .await;
}
