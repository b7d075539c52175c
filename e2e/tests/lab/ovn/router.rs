//! Do guests get out by a Router, what does the outside see of them, and does it reach them by a floating IP?

use kube::ResourceExt;
use serde_json::json;
use virga_crds::{FloatingIP, Image, Instance, Network, Router, SecurityGroup};
use virga_e2e::objects::{guest, network, tiny};
use virga_e2e::{BOUND, Installation, eventually, is_ready, on_node, with_temp_namespace};
use virga_lab::Ovn;

use super::{outside, plugged_on, public, serves};
use crate::{GUEST, host, nothing_new_is_left, remains};

/// What a guest tries: the outside, which tells who asked, and the guest of the other Network.
const SCRIPT: &str = r#"#!/bin/sh
try() { n=0; until "$@" >/tmp/said 2>&1; do n=$((n + 1)); [ $n -ge 25 ] && return 1; sleep 1; done; }
who() { printf 'GET /cgi-bin/who HTTP/1.0\r\n\r\n' | nc -w 3 203.0.113.1 80 | grep '^10\.'; }
page() { printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 3 10.62.0.12 80 | grep hello; }
try who && echo "SEEN outside-as=$(tail -n 1 /tmp/said)" || echo "SEEN no-outside: $(cat /tmp/said)"
try page && echo "SEEN page=$(tail -n 1 /tmp/said)" || echo "SEEN no-page: $(cat /tmp/said)"
echo "SEEN end"
"#;

/// Serves a page outside that tells who asks for it. It ends with the lab; a second one finds the address taken.
fn tells_who_asks(ovn: &Ovn) {
    let web = std::env::temp_dir().join("virga-e2e-outside");
    let script = web.join("cgi-bin/who");
    std::fs::create_dir_all(web.join("cgi-bin")).unwrap();
    std::fs::write(&script, "#!/bin/sh\necho\necho $REMOTE_ADDR\n").unwrap();
    let serve = format!(
        "chmod +x {} && (busybox httpd -p 0.0.0.0:80 -h {} >/dev/null 2>&1 || true)",
        script.display(),
        web.display()
    );
    outside(ovn, &serve).unwrap();
}

#[tokio::test]
async fn guests_get_out_by_a_router_and_are_reached_by_a_floating_ip() {
    let Some((installation, lab, ovn, _turn)) = Installation::turn_on_ovn().await else {
        return;
    };
    tells_who_asks(&ovn);
    with_temp_namespace(&installation.cluster, async |t| {
        let before = remains(lab);
        let flavor = t.flavor("tiny", tiny()).await;
        t.create(guest()).await;
        t.create(public()).await;
        // Everybody may come in.
        let open = json!({"rules": [{"direction": "Egress"}, {"direction": "Ingress"}]});
        t.create(SecurityGroup::new("default", serde_json::from_value(open).unwrap()))
            .await;
        t.create(network("front", "10.61.0.0/24")).await;
        t.create(network("back", "10.62.0.0/24")).await;
        let spec = json!({
            "networks": [{"network": "front"}, {"network": "back"}],
            "externalGateway": {"network": {"name": "public"}},
        });
        t.create(Router::new("edge", serde_json::from_value(spec).unwrap()))
            .await;
        let router = t.await_condition::<Router>("edge", "Ready", is_ready).await;
        let status = router.status.unwrap();
        assert_eq!(status.external_addresses, ["10.200.0.100"]);
        assert_eq!(status.gateway_chassis.len(), 3, "every node has the physical network");
        t.await_within::<Image>(GUEST, "guest", "Ready", is_ready).await;

        for (name, node, network, address, script) in [
            ("two", "node-2", "back", "10.62.0.12", "#!/bin/sh\n"),
            ("one", "node-1", "front", "10.61.0.11", SCRIPT),
        ] {
            t.create(plugged_on(&flavor, name, node, network, address, script))
                .await;
        }
        t.await_within::<Instance>(GUEST, "two", "Ready", is_ready).await;
        let one = t.await_within::<Instance>(GUEST, "one", "Ready", is_ready).await;
        let (node, uid) = (host(lab, &one), one.uid().unwrap());
        let console = eventually("the guest has tried", GUEST, async || {
            let console = on_node::console(&node, &uid);
            if console.contains("SEEN end") {
                Ok(console)
            } else {
                Err(console)
            }
        })
        .await;
        for words in ["SEEN outside-as=10.200.0.100", "SEEN page=hello from two"] {
            assert!(console.contains(words), "{words:?} is not in\n{console}");
        }

        // The outside reaches one of them by an address of its own, which the guest then goes out with.
        let spec = json!({"network": {"name": "public"}, "instance": "one"});
        t.create(FloatingIP::new("web", serde_json::from_value(spec).unwrap()))
            .await;
        let web = t.await_condition::<FloatingIP>("web", "Ready", is_ready).await;
        let status = web.status.unwrap();
        let address = status.address.clone().unwrap();
        assert_eq!(
            (address.as_str(), status.fixed_address.as_deref(), status.router.as_deref()),
            ("10.200.0.101", Some("10.61.0.11"), Some("edge"))
        );
        serves(&ovn, &address, "hello from one").await;

        // It moves to another guest, and keeps its address.
        t.patch::<FloatingIP>("web", json!({"spec": {"instance": "two"}})).await;
        serves(&ovn, &address, "hello from two").await;
        let moved = t.await_condition::<FloatingIP>("web", "Ready", is_ready).await;
        let status = moved.status.unwrap();
        assert_eq!(
            (status.address, status.fixed_address.as_deref()),
            (Some(address.clone()), Some("10.62.0.12"))
        );

        // Port by port, to both.
        let forward = |outer: u16, instance: &str| {
            json!({"protocol": "TCP", "externalPort": outer, "instance": instance, "internalPort": 80})
        };
        let ports = json!([forward(8081, "one"), forward(8082, "two")]);
        t.patch::<FloatingIP>("web", json!({"spec": {"instance": null, "portForwardings": ports}}))
            .await;
        serves(&ovn, &format!("{address}/8081"), "hello from one").await;
        serves(&ovn, &format!("{address}/8082"), "hello from two").await;
        t.delete::<FloatingIP>(BOUND, "web").await;
        for name in ["one", "two"] {
            t.delete::<Instance>(GUEST, name).await;
        }

        // The address outside goes with the Router, else its Network would stay.
        t.delete::<Router>(BOUND, "edge").await;
        for name in ["front", "back", "public"] {
            t.delete::<Network>(BOUND, name).await;
        }
        nothing_new_is_left(lab, &before).await;
    })
    .await;
}
