//! Do guests get what their groups' rules let pass, nothing else, and a change at once?

use std::time::{Duration, Instant};

use kube::ResourceExt;
use serde_json::{Value, json};
use virga_core::trace::Verdict;
use virga_crds::{AddressGroup, Instance, Port, SecurityGroup};
use virga_e2e::objects::network;
use virga_e2e::{BOUND, eventually, is_ready};

use super::plugin;
use super::scene::{Scene, on_ovn};
use crate::host;

/// What the client tries: to ping the server, and to have its name by its address; and goes on trying: its page. It says so
/// when that changes.
const CLIENT: &str = r#"#!/bin/sh
n=0; until ping -c 1 -W 1 10.61.0.12 >/dev/null 2>&1; do n=$((n + 1)); [ $n -ge 30 ] && break; sleep 1; done
[ $n -lt 30 ] && echo "SEEN ping"
nslookup 10.61.0.12 10.61.0.1 | grep -q server.walled.shop && echo "SEEN reverse" || echo "SEEN no-reverse"
(
    was=; changes=0; n=0
    while [ $n -lt 1200 ]; do
        now=closed
        printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 1 10.61.0.12 80 2>/dev/null | grep -q hello && now=open
        if [ "$now" != "$was" ]; then changes=$((changes + 1)); echo "SEEN $changes $now"; was=$now; fi
        n=$((n + 1)); sleep 1
    done
) &
"#;

/// What the server tries: the client, which lets nobody in.
const SERVER: &str =
    "#!/bin/sh\nping -c 5 -W 1 10.61.0.11 >/dev/null 2>&1 && echo 'SEEN the-client' || echo 'SEEN nobody'\n";

/// Waits until a node counts what the client's Port received.
async fn is_counted(t: &Scene, client: &Instance) {
    let node = host(t.lab, client);
    let counted = format!(
        "virga_port_receive_packets_total{{namespace=\"{}\",instance=\"client\",port=\"client-walled\",network=\"walled\"}} ",
        t.namespace
    );
    eventually("its Port is counted", BOUND, async || {
        let page = [
            "curl",
            "--silent",
            "--fail",
            "--max-time",
            "5",
            "http://127.0.0.1:9190/metrics",
        ];
        let text = node.run(&page).map_err(|error| error.to_string())?;
        let line = text.lines().find_map(|line| line.strip_prefix(&counted));
        line.is_some_and(|count| count != "0").then_some(()).ok_or(text)
    })
    .await;
}

/// How long it takes until the hosts have a change that shows in the north-bound database in this table with these words.
async fn in_force(t: &Scene, what: &str, began: Instant, table: &str, is_there: impl Fn(&str) -> bool) -> Duration {
    eventually(what, BOUND, async || {
        let rows = t.nbctl(&["list", table]);
        is_there(&rows).then_some(()).ok_or(rows)
    })
    .await;
    t.nbctl(&["--wait=hv", "sync"]);
    let took = began.elapsed();
    println!("{what}: on all hosts after {took:?}");
    took
}

#[tokio::test]
async fn what_a_rule_lets_pass_passes_all_else_is_dropped_and_a_change_is_in_force_at_once() {
    let mut walled = network("walled", "10.61.0.0/24");
    walled.spec.dns_domain = Some("walled.shop".into());
    on_ovn([walled], async |t| {
        let out = json!({"direction": "Egress"});
        let ping = json!({"direction": "Ingress", "protocol": "icmp", "icmp": {"type": 8}});
        let page =
            |remote: Value| json!({"direction": "Ingress", "protocol": "tcp", "ports": {"min": 80}, "remote": remote});
        t.group("web", &json!([out, ping])).await;
        t.group("clients", &json!([out])).await;
        t.group("others", &json!([out])).await;
        t.await_condition::<SecurityGroup>("web", "Ready", is_ready).await;

        for (name, node, address, script, of) in [
            ("server", "node-2", "10.61.0.12", SERVER, "web"),
            ("client", "node-1", "10.61.0.11", CLIENT, "clients"),
        ] {
            let mut made = t.guest(name, node, "walled", address, script);
            made.spec.interfaces[0].security_groups = vec![of.into()];
            t.create(made).await;
        }
        let server = t.runs("server").await;
        let client = t.runs("client").await;
        let port = t.await_within::<Port>(BOUND, "client-walled", "up", is_ready).await;
        assert_eq!(port.spec.security_groups, ["clients"]);

        // Both ways: pings in, pages not; and what the server asks for goes nowhere.
        t.said(&client, "SEEN ping").await;
        t.said(&client, "SEEN reverse").await;
        t.said(&client, "SEEN 1 closed").await;
        t.said(&server, "SEEN nobody").await;

        // The plugin says the same, and why; and who is there.
        let page_asked = ["client", "10.61.0.12", "--proto", "tcp", "--port", "80"];
        plugin::traces(t, &["client", "server"], Verdict::Passes, "").await;
        plugin::traces(t, &page_asked, Verdict::Drops, "Cure: add a rule to SecurityGroup web").await;
        let lines = [
            "Network walled   Overlay, MTU 1442, walled.shop",
            "Instance client",
            "node-2   up   web",
        ];
        plugin::maps(t, &lines).await;
        assert_eq!(plugin::mapped_ports(t).await, 2);
        is_counted(t, &client).await;

        // A rule more, for those of a group.
        let rules = |rules: Value| json!({"spec": {"rules": rules}});
        let began = Instant::now();
        t.patch::<SecurityGroup>("web", rules(json!([out, ping, page(json!({"group": "clients"}))])))
            .await;
        let mut longest = in_force(t, "a rule more", began, "ACL", |rows| rows.contains("tcp.dst == 80")).await;
        t.said(&client, "SEEN 2 open").await;
        plugin::traces(t, &page_asked, Verdict::Passes, "").await;

        // The client's Port leaves the group, and is the same Port.
        let began = Instant::now();
        let elsewhere = json!([{"network": "walled", "address": "10.61.0.11", "securityGroups": ["others"]}]);
        t.patch::<Instance>("client", json!({"spec": {"interfaces": elsewhere}}))
            .await;
        let name = format!("{}/others", t.namespace);
        let row = |rows: &str| {
            let mut rows = rows.split("\n\n");
            let row = rows.find(|row| row.contains(&name)).unwrap_or_default();
            row.lines().any(|line| line.starts_with("ports") && line.contains('-'))
        };
        longest = longest.max(in_force(t, "another group", began, "Port_Group", row).await);
        t.said(&client, "SEEN 3 closed").await;
        let same = t.await_condition::<Port>("client-walled", "up", is_ready).await;
        assert_eq!(
            (same.uid(), &same.spec.security_groups),
            (port.uid(), &vec!["others".to_owned()])
        );

        // By address, and not any more.
        let began = Instant::now();
        t.patch::<SecurityGroup>("web", rules(json!([out, ping, page(json!({"cidr": "10.61.0.0/24"}))])))
            .await;
        longest = longest.max(in_force(t, "by address", began, "ACL", |rows| rows.contains("10.61.0.0/24")).await);
        t.said(&client, "SEEN 4 open").await;
        let began = Instant::now();
        t.patch::<SecurityGroup>("web", rules(json!([out]))).await;
        longest = longest.max(in_force(t, "a rule less", began, "ACL", |rows| !rows.contains("10.61.0.0/24")).await);
        t.said(&client, "SEEN 5 closed").await;

        // By a name for addresses, which change without the rule.
        let near = |address: &str| json!({"spec": {"addresses": [address]}});
        let spec = serde_json::from_value(near("10.61.0.11")["spec"].clone()).unwrap();
        t.create(AddressGroup::new("near", spec)).await;
        t.patch::<SecurityGroup>(
            "web",
            rules(json!([out, ping, page(json!({"addressGroup": {"name": "near"}}))])),
        )
        .await;
        t.said(&client, "SEEN 6 open").await;
        let began = Instant::now();
        t.patch::<AddressGroup>("near", near("10.61.0.99")).await;
        let set = |rows: &str| rows.contains("10.61.0.99");
        longest = longest.max(in_force(t, "another address", began, "Address_Set", set).await);
        t.said(&client, "SEEN 7 closed").await;
        t.patch::<SecurityGroup>("web", rules(json!([out]))).await;
        t.delete::<AddressGroup>(BOUND, "near").await;
        println!("the slowest change was on all hosts after {longest:?}");
        assert!(longest < Duration::from_secs(5), "{longest:?}");
    })
    .await;
}
