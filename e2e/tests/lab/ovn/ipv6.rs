//! Does a guest have the IPv6 address that its Port says, made by itself or asked for, and does it find its way to others, in
//! its Network and beyond?

use serde_json::json;
use virga_crds::{Network, Port};
use virga_e2e::{BOUND, is_ready};

use super::scene::{SERVES, on_ovn};

/// What a guest has by itself.
const HAS: &str = r#"
n=0
until ip -6 address show scope global | grep -q 'inet6 fd' && ip -6 route | grep -q '^default'; do
    n=$((n + 1)); [ $n -ge 60 ] && break; sleep 1
done
echo "SEEN address=$(ip -6 address show scope global | sed -n 's/.*inet6 \(fd[^ ]*\).*/\1/p' | head -n 1)"
echo "SEEN default=$(ip -6 route | grep -c '^default')"
"#;

/// Asks for an address by DHCPv6, as the Router's advertisements tell it to.
const ASKS: &str = r"#!/bin/sh
mkdir -p /var/lib/dhcpv6
printf 'interface eth0 { send ia-na 1; };\nid-assoc na 1 {};\n' >/tmp/dhcp6c.conf
dhcp6c -c /tmp/dhcp6c.conf eth0
";

/// Whether others answer: one of its own Network, and one behind the Router.
fn tries(near: &str, far: &str) -> String {
    format!(
        r#"
for other in {near} {far}; do
    n=0; until ping -6 -c 1 -W 1 $other >/dev/null 2>&1; do n=$((n + 1)); [ $n -ge 60 ] && break; sleep 1; done
    [ $n -lt 60 ] && echo "SEEN reached=$other" || echo "SEEN lost=$other"
done
echo "SEEN end"
"#
    )
}

/// A Network whose guests come by their IPv6 address in this way.
fn dual(name: &str, v4: &str, v6: &str, mode: &str) -> Network {
    let spec = json!({"subnets": [{"name": "v4", "cidr": v4}, {"name": "v6", "cidr": v6, "ipv6Mode": mode}]});
    Network::new(name, serde_json::from_value(spec).unwrap())
}

/// The IPv6 address of an Instance's Port.
fn address(port: &Port) -> String {
    let mut addresses = port.spec.addresses.iter();
    addresses.find(|held| held.subnet == "v6").unwrap().ip.clone()
}

#[tokio::test]
async fn guests_make_or_are_given_the_address_that_their_ports_say_and_reach_each_other_by_it() {
    let near = dual("near", "10.63.0.0/24", "fd00:63::/64", "SLAAC");
    let far = dual("far", "10.64.0.0/24", "fd00:64::/64", "DHCPv6Stateful");
    on_ovn([near, far], async |t| {
        t.is_open().await;
        t.route(&["near", "far"], None).await;
        t.plug("beside", "node-2", "near", "10.63.0.12", SERVES).await;
        let asks = format!("{ASKS}{HAS}");
        t.plug("beyond", "node-3", "far", "10.64.0.13", &asks).await;
        t.runs("beside").await;
        let beyond = t.runs("beyond").await;
        let beside = address(&t.await_within::<Port>(BOUND, "beside-near", "up", is_ready).await);
        let given = address(&t.await_within::<Port>(BOUND, "beyond-far", "up", is_ready).await);
        let script = format!("{SERVES}{HAS}{}", tries(&beside, &given));
        t.plug("seeker", "node-1", "near", "10.63.0.11", &script).await;
        let seeker = t.runs("seeker").await;
        let own = address(&t.await_within::<Port>(BOUND, "seeker-near", "up", is_ready).await);
        assert!(own.starts_with("fd00:63::f816:3eff:fe"), "of its MAC address: {own}");

        // By DHCPv6 it is an address alone; what is on the link is the Router's to say.
        for words in [format!("SEEN address={given}/128"), "SEEN default=1".to_owned()] {
            t.said(&beyond, &words).await;
        }
        for words in [
            format!("SEEN address={own}/64"),
            "SEEN default=1".to_owned(),
            format!("SEEN reached={beside}"),
            format!("SEEN reached={given}"),
        ] {
            t.said(&seeker, &words).await;
        }
    })
    .await;
}
