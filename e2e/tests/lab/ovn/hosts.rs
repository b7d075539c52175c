//! Does OVN carry guests from host to host, tell them who and where they are, and keep them apart?

use kube::ResourceExt;
use serde_json::json;
use virga_crds::{Image, Instance, InstanceState, Network, Port};
use virga_e2e::objects::{guest, network, tiny};
use virga_e2e::{BOUND, Installation, eventually, is_ready, ready_because, with_temp_namespace};

use super::{nbctl, plugged_on, said};
use crate::{GUEST, await_up, host, nothing_new_is_left, remains};

/// What the first guest tries, once it has an address: the other host's guest by address, over TCP and by name; then an
/// address that is not its own.
const SCRIPT: &str = r#"#!/bin/sh
try() { n=0; until "$@" >/tmp/said 2>&1; do n=$((n + 1)); [ $n -ge 25 ] && return 1; sleep 1; done; }
echo "SEEN mtu=$(cat /sys/class/net/eth0/mtu)"
try ping -c 1 -W 1 10.60.0.12 && echo "SEEN ping"
page() { printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 3 10.60.0.12 80 | grep hello; }
try page && echo "SEEN page=$(cat /tmp/said)" || echo "SEEN no-page: $(cat /tmp/said)"
try sh -c 'nslookup two.front.shop 10.60.0.1 | grep -q 10.60.0.12' && echo "SEEN name"
ip address add 10.60.0.99/24 dev eth0
ping -c 2 -W 1 -I 10.60.0.99 10.60.0.12 >/dev/null 2>&1 && echo "SEEN spoofed" || echo "SEEN spoofing-blocked"
ip address del 10.60.0.99/24 dev eth0
echo "SEEN end"
"#;

/// What the guest of the other network tries: the first one's address, which nobody has there.
const STRANGER: &str =
    "#!/bin/sh\nping -c 3 -W 1 10.60.0.11 >/dev/null 2>&1 && echo 'SEEN a-stranger' || echo 'SEEN nobody'\n";

#[tokio::test]
async fn guests_on_two_hosts_share_a_network_and_nobody_else_does() {
    let Some((installation, lab, ovn, _turn)) = Installation::turn_on_ovn().await else {
        return;
    };
    with_temp_namespace(&installation.cluster, async |t| {
        let before = remains(lab);
        let flavor = t.flavor("tiny", tiny()).await;
        t.create(guest()).await;
        let mut front = network("front", "10.60.0.0/24");
        front.spec.dns_domain = Some("front.shop".into());
        t.create(front).await;
        // Another tenant's, with the same range.
        t.create(network("other", "10.60.0.0/24")).await;
        t.await_within::<Image>(GUEST, "guest", "Ready", is_ready).await;
        for name in ["front", "other"] {
            let found = t.await_condition::<Network>(name, "Ready", is_ready).await;
            let status = found.status.unwrap();
            assert_eq!((status.backend.as_deref(), status.mtu), (Some("ovn"), Some(1442)));
        }

        for (name, node, network, address, script) in [
            ("two", "node-2", "front", "10.60.0.12", "#!/bin/sh\n"),
            ("one", "node-1", "front", "10.60.0.11", SCRIPT),
            ("stranger", "node-2", "other", "10.60.0.12", STRANGER),
        ] {
            t.create(plugged_on(&flavor, name, node, network, address, script))
                .await;
        }
        let one = t.await_within::<Instance>(GUEST, "one", "Ready", is_ready).await;
        t.await_within::<Instance>(GUEST, "two", "Ready", is_ready).await;
        let stranger = t.await_within::<Instance>(GUEST, "stranger", "Ready", is_ready).await;

        let console = said(lab, &one, "SEEN end").await;
        for words in [
            "SEEN mtu=1442",
            "SEEN ping",
            "SEEN page=hello from two",
            "SEEN name",
            "SEEN spoofing-blocked",
        ] {
            assert!(console.contains(words), "{words:?} is not in\n{console}");
        }
        said(lab, &one, "GUEST-READY host=one ip=10.60.0.11").await;
        let console = said(lab, &stranger, "GUEST-READY host=stranger ip=10.60.0.12").await;
        assert!(console.contains("SEEN nobody"), "{console}");

        let port = t.await_condition::<Port>("one-front", "up", is_ready).await;

        // Its port is the same after it was off.
        t.patch::<Instance>("one", json!({"spec": {"powerState": "Stopped"}}))
            .await;
        t.await_within::<Instance>(BOUND, "one", "Stopped", |found| {
            is_ready(found) && found.status.as_ref().and_then(|status| status.state) == Some(InstanceState::Stopped)
        })
        .await;
        let down = ready_because("PortDown", "Instance one is off");
        t.await_condition::<Port>("one-front", "down", down).await;
        t.patch::<Instance>("one", json!({"spec": {"powerState": "Running"}}))
            .await;
        t.await_within::<Instance>(GUEST, "one", "Ready", is_ready).await;
        let again = t.await_within::<Port>(GUEST, "one-front", "up", is_ready).await;
        assert_eq!((again.uid(), &again.spec.mac), (port.uid(), &port.spec.mac));
        await_up(&host(lab, &one), &one, 2).await;

        // What somebody takes away comes back, and what is there goes on without the controller's help.
        let uid = port.uid().unwrap();
        nbctl(&ovn, &["lsp-del", &uid]);
        eventually("the port is back", BOUND, async || {
            let there = nbctl(
                &ovn,
                &[
                    "--bare",
                    "--columns=name",
                    "find",
                    "Logical_Switch_Port",
                    &format!("name={uid}"),
                ],
            );
            (there.trim() == uid).then_some(()).ok_or(there)
        })
        .await;

        for name in ["one", "two", "stranger"] {
            t.delete::<Instance>(GUEST, name).await;
        }
        for name in ["front", "other"] {
            t.delete::<Network>(BOUND, name).await;
        }
        eventually("no row is left", BOUND, async || {
            let left = nbctl(&ovn, &["--bare", "--columns=name", "list", "Logical_Switch"]);
            (!left.contains(&t.namespace)).then_some(()).ok_or(left)
        })
        .await;
        nothing_new_is_left(lab, &before).await;
    })
    .await;
}
