//! Are guests held to the rates that their Network says, and to none when it says none?

use kube::ResourceExt;
use serde_json::{Value, json};
use virga_crds::{Instance, Network, Port};
use virga_e2e::{BOUND, eventually, is_ready, on_node};

use super::scene::Scene;
use crate::{host, inside};

/// What a guest may send, in kbit/s. Guests that are emulated on a busy machine still send several times as much.
const LIMIT: u64 = 2000;

/// What a Network says to that: half a second's worth may come at once.
pub(super) fn limit() -> Value {
    json!({"egress": {"maxKbps": LIMIT, "burstKbit": LIMIT / 2}})
}

/// What the guest does that is asked: it has a page of a MB.
pub(super) const SERVES_MUCH: &str = "dd if=/dev/zero of=/www/much bs=1k count=1000 2>/dev/null\n";

/// Asks for that page, and says how fast it came, in kbit/s.
const ASK: &str = r#"now() { sed 's/\.//; s/ .*//' /proc/uptime; }
began=$(now)
bytes=$(printf 'GET /much HTTP/1.0\r\n\r\n' | nc -w 20 10.60.0.12 80 | wc -c)
echo "SEEN rate=$((bytes * 8 / 10 / ($(now) - began + 1))) kbit/s""#;

/// How fast a guest got that page, in kbit/s, when it asked so many times before.
async fn rate(t: &Scene, guest: &Instance, before: usize) -> u64 {
    let (node, uid) = (host(t.lab, guest), guest.uid().unwrap());
    inside::run(&node, guest, ASK);
    eventually("it has the page", BOUND, async || {
        let console = on_node::console(&node, &uid);
        // A line that is not whole yet has not got its unit.
        let rates = on_node::marked(&console, "SEEN rate=");
        let mut rates = rates.filter_map(|rate| rate.strip_suffix(" kbit/s")?.parse().ok());
        rates.nth(before).ok_or_else(|| console.clone())
    })
    .await
}

/// `guest` gets much from `server`, which is in Network `front`, first at the limit, and then as fast as it can be.
pub(super) async fn are_kept(t: &Scene, guest: &Instance, server: &str) {
    let held = rate(t, guest, 0).await;
    println!("at most {LIMIT} kbit/s: {held} kbit/s");
    assert!(
        (LIMIT / 2..=LIMIT * 13 / 10).contains(&held),
        "{held} kbit/s of {LIMIT}"
    );

    let port = t
        .await_condition::<Port>(&format!("{server}-front"), "up", is_ready)
        .await;
    let uid = port.uid().unwrap();
    t.patch::<Network>("front", json!({"spec": {"qos": null}})).await;
    eventually("no row limits it", BOUND, async || {
        let rows = t.nbctl(&["--bare", "--columns=match", "list", "QoS"]);
        (!rows.contains(&uid)).then_some(()).ok_or(rows)
    })
    .await;
    t.nbctl(&["--wait=hv", "sync"]);
    let free = rate(t, guest, 1).await;
    println!("without a limit: {free} kbit/s");
    assert!(free > 2 * LIMIT, "{free} kbit/s");
}
