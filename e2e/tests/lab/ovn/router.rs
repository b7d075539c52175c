//! Do guests get out by a Router, what does the outside see of them, and does it reach them by a floating IP?

use serde_json::json;
use virga_crds::{FloatingIP, Instance};
use virga_e2e::is_ready;
use virga_e2e::objects::network;

use super::outages;
use super::scene::{SERVES, Scene, on_ovn, public};
use crate::GUEST;

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
fn tells_who_asks(t: &Scene) {
    let web = std::env::temp_dir().join("virga-e2e-outside");
    let script = web.join("cgi-bin/who");
    std::fs::create_dir_all(web.join("cgi-bin")).unwrap();
    std::fs::write(&script, "#!/bin/sh\necho\necho $REMOTE_ADDR\n").unwrap();
    let serve = format!(
        "chmod +x {} && (busybox httpd -p 0.0.0.0:80 -h {} >/dev/null 2>&1 || true)",
        script.display(),
        web.display()
    );
    t.outside(&serve).unwrap();
}

#[tokio::test]
async fn guests_get_out_by_a_router_and_are_reached_by_a_floating_ip_whatever_ends() {
    let networks = [
        public(),
        network("front", "10.61.0.0/24"),
        network("back", "10.62.0.0/24"),
    ];
    on_ovn(networks, async |t| {
        tells_who_asks(t);
        t.is_open().await;
        let router = t.route(&["front", "back"], Some("public")).await;
        let status = router.status.unwrap();
        assert_eq!(status.external_addresses, ["10.200.0.100"]);
        let gateways = status.gateway_chassis;
        assert_eq!(gateways.len(), 3, "every node has the physical network");
        t.plug("two", "node-2", "back", "10.62.0.12", SERVES).await;
        t.plug("one", "node-1", "front", "10.61.0.11", SCRIPT).await;
        t.runs("two").await;
        let one = t.runs("one").await;
        let all = ["SEEN outside-as=10.200.0.100", "SEEN page=hello from two"];
        t.has_tried(&one, &all).await;

        // The outside reaches one of them by an address of its own, which the guest then goes out with.
        let web = t.float("web", "instance", "one").await;
        let status = web.status.unwrap();
        let address = status.address.clone().unwrap();
        assert_eq!(
            (address.as_str(), status.fixed_address.as_deref(), status.router.as_deref()),
            ("10.200.0.101", Some("10.61.0.11"), Some("edge"))
        );
        t.serves(&address, "hello from one").await;

        // It moves to another guest, and keeps its address.
        t.patch::<FloatingIP>("web", json!({"spec": {"instance": "two"}})).await;
        t.serves(&address, "hello from two").await;
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
        t.serves(&format!("{address}/8081"), "hello from one").await;
        t.serves(&format!("{address}/8082"), "hello from two").await;

        // Whole again, to one that is not where the gateway is.
        let (stays, goes) = if gateways[0] == "node-1" {
            ("two", "one")
        } else {
            ("one", "two")
        };
        t.patch::<FloatingIP>("web", json!({"spec": {"instance": stays, "portForwardings": null}}))
            .await;
        t.delete::<Instance>(GUEST, goes).await;
        t.serves(&address, &format!("hello from {stays}")).await;
        outages::are_survived(t, &address, &gateways[0]).await;
        t.serves(&address, &format!("hello from {stays}")).await;
    })
    .await;
}
