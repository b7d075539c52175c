//! Does a guest make the IPv6 address that its Port says, and does it find its way to others, in its Network and beyond?

use serde_json::json;
use virga_crds::{Network, Port};
use virga_e2e::{BOUND, is_ready};

use super::scene::{SERVES, on_ovn};

/// What the guest has by itself, and whether others answer: one of its own Network, and one behind the Router.
fn script(near: &str, far: &str) -> String {
    format!(
        r#"#!/bin/sh
n=0
until ip -6 address show scope global | grep -q 'inet6 fd' && ip -6 route | grep -q '^default'; do
    n=$((n + 1)); [ $n -ge 60 ] && break; sleep 1
done
echo "SEEN address=$(ip -6 address show scope global | sed -n 's/.*inet6 \(fd[^/]*\).*/\1/p' | head -n 1)"
echo "SEEN default=$(ip -6 route | grep -c '^default')"
for other in {near} {far}; do
    n=0; until ping -6 -c 1 -W 1 $other >/dev/null 2>&1; do n=$((n + 1)); [ $n -ge 60 ] && break; sleep 1; done
    [ $n -lt 60 ] && echo "SEEN reached=$other" || echo "SEEN lost=$other"
done
echo "SEEN end"
"#
    )
}

/// A Network whose guests make their IPv6 address themselves.
fn slaac(name: &str, v4: &str, v6: &str) -> Network {
    let spec = json!({"subnets": [{"name": "v4", "cidr": v4}, {"name": "v6", "cidr": v6, "ipv6Mode": "SLAAC"}]});
    Network::new(name, serde_json::from_value(spec).unwrap())
}

/// The IPv6 address of an Instance's Port.
fn address(port: &Port) -> String {
    let mut addresses = port.spec.addresses.iter();
    addresses.find(|held| held.subnet == "v6").unwrap().ip.clone()
}

#[tokio::test]
async fn guests_make_the_address_that_their_ports_say_and_reach_each_other_by_it() {
    let near = slaac("near", "10.63.0.0/24", "fd00:63::/64");
    let far = slaac("far", "10.64.0.0/24", "fd00:64::/64");
    on_ovn([near, far], async |t| {
        t.is_open().await;
        t.route(&["near", "far"], None).await;
        t.plug("beside", "node-2", "near", "10.63.0.12", SERVES).await;
        t.plug("beyond", "node-3", "far", "10.64.0.13", SERVES).await;
        for name in ["beside", "beyond"] {
            t.runs(name).await;
        }
        let beside = address(&t.await_within::<Port>(BOUND, "beside-near", "up", is_ready).await);
        let beyond = address(&t.await_within::<Port>(BOUND, "beyond-far", "up", is_ready).await);
        let script = script(&beside, &beyond);
        t.plug("seeker", "node-1", "near", "10.63.0.11", &script).await;
        let seeker = t.runs("seeker").await;
        let own = address(&t.await_within::<Port>(BOUND, "seeker-near", "up", is_ready).await);
        assert!(own.starts_with("fd00:63::f816:3eff:fe"), "of its MAC address: {own}");
        for words in [
            format!("SEEN address={own}"),
            "SEEN default=1".to_owned(),
            format!("SEEN reached={beside}"),
            format!("SEEN reached={beyond}"),
        ] {
            t.said(&seeker, &words).await;
        }
    })
    .await;
}
