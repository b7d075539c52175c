//! Do guests get what their groups' rules let pass, nothing else, and a change at once?

use std::time::{Duration, Instant};

use kube::ResourceExt;
use serde_json::{Value, json};
use virga_crds::{AddressGroup, Image, Instance, Port, SecurityGroup, SecurityGroupSpec};
use virga_e2e::objects::{guest, network, tiny};
use virga_e2e::{BOUND, Installation, eventually, is_ready, with_temp_namespace};
use virga_lab::Ovn;

use super::{nbctl, plugged_on, said};
use crate::{GUEST, nothing_new_is_left, remains};

/// What the client goes on trying: the server's page. It says so when that changes.
const CLIENT: &str = r#"#!/bin/sh
n=0; until ping -c 1 -W 1 10.61.0.12 >/dev/null 2>&1; do n=$((n + 1)); [ $n -ge 30 ] && break; sleep 1; done
[ $n -lt 30 ] && echo "SEEN ping"
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

fn group(name: &str, rules: &Value) -> SecurityGroup {
    let spec: SecurityGroupSpec = serde_json::from_value(json!({"rules": rules})).unwrap();
    SecurityGroup::new(name, spec)
}

/// How long it takes until the hosts have a change that shows in the north-bound database in this table with these words.
async fn in_force(ovn: &Ovn, what: &str, began: Instant, table: &str, is_there: impl Fn(&str) -> bool) -> Duration {
    eventually(what, BOUND, async || {
        let rows = nbctl(ovn, &["list", table]);
        is_there(&rows).then_some(()).ok_or(rows)
    })
    .await;
    nbctl(ovn, &["--wait=hv", "sync"]);
    let took = began.elapsed();
    println!("{what}: on all hosts after {took:?}");
    took
}

#[tokio::test]
async fn what_a_rule_lets_pass_passes_all_else_is_dropped_and_a_change_is_in_force_at_once() {
    let Some((installation, lab, ovn, _turn)) = Installation::turn_on_ovn().await else {
        return;
    };
    with_temp_namespace(&installation.cluster, async |t| {
        let before = remains(lab);
        let flavor = t.flavor("tiny", tiny()).await;
        t.create(guest()).await;
        t.create(network("walled", "10.61.0.0/24")).await;
        let out = json!({"direction": "Egress"});
        let ping = json!({"direction": "Ingress", "protocol": "icmp", "icmp": {"type": 8}});
        let page =
            |remote: Value| json!({"direction": "Ingress", "protocol": "tcp", "ports": {"min": 80}, "remote": remote});
        t.create(group("web", &json!([out, ping]))).await;
        t.create(group("clients", &json!([out]))).await;
        t.create(group("others", &json!([out]))).await;
        t.await_within::<Image>(GUEST, "guest", "Ready", is_ready).await;
        t.await_condition::<SecurityGroup>("web", "Ready", is_ready).await;

        for (name, node, address, script, of) in [
            ("server", "node-2", "10.61.0.12", SERVER, "web"),
            ("client", "node-1", "10.61.0.11", CLIENT, "clients"),
        ] {
            let mut made = plugged_on(&flavor, name, node, "walled", address, script);
            made.spec.interfaces[0].security_groups = vec![of.into()];
            t.create(made).await;
        }
        let server = t.await_within::<Instance>(GUEST, "server", "Ready", is_ready).await;
        let client = t.await_within::<Instance>(GUEST, "client", "Ready", is_ready).await;
        let port = t.await_within::<Port>(BOUND, "client-walled", "up", is_ready).await;
        assert_eq!(port.spec.security_groups, ["clients"]);

        // Both ways: pings in, pages not; and what the server asks for goes nowhere.
        said(lab, &client, "SEEN ping").await;
        said(lab, &client, "SEEN 1 closed").await;
        said(lab, &server, "SEEN nobody").await;

        // A rule more, for those of a group.
        let rules = |rules: Value| json!({"spec": {"rules": rules}});
        let began = Instant::now();
        t.patch::<SecurityGroup>("web", rules(json!([out, ping, page(json!({"group": "clients"}))])))
            .await;
        let mut longest = in_force(&ovn, "a rule more", began, "ACL", |rows| rows.contains("tcp.dst == 80")).await;
        said(lab, &client, "SEEN 2 open").await;

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
        longest = longest.max(in_force(&ovn, "another group", began, "Port_Group", row).await);
        said(lab, &client, "SEEN 3 closed").await;
        let same = t.await_condition::<Port>("client-walled", "up", is_ready).await;
        assert_eq!(
            (same.uid(), &same.spec.security_groups),
            (port.uid(), &vec!["others".to_owned()])
        );

        // By address, and not any more.
        let began = Instant::now();
        t.patch::<SecurityGroup>("web", rules(json!([out, ping, page(json!({"cidr": "10.61.0.0/24"}))])))
            .await;
        longest = longest.max(in_force(&ovn, "by address", began, "ACL", |rows| rows.contains("10.61.0.0/24")).await);
        said(lab, &client, "SEEN 4 open").await;
        let began = Instant::now();
        t.patch::<SecurityGroup>("web", rules(json!([out]))).await;
        longest = longest.max(in_force(&ovn, "a rule less", began, "ACL", |rows| !rows.contains("10.61.0.0/24")).await);
        said(lab, &client, "SEEN 5 closed").await;

        // By a name for addresses, which change without the rule.
        let near = |address: &str| json!({"spec": {"addresses": [address]}});
        let spec = serde_json::from_value(near("10.61.0.11")["spec"].clone()).unwrap();
        t.create(AddressGroup::new("near", spec)).await;
        t.patch::<SecurityGroup>(
            "web",
            rules(json!([out, ping, page(json!({"addressGroup": {"name": "near"}}))])),
        )
        .await;
        said(lab, &client, "SEEN 6 open").await;
        let began = Instant::now();
        t.patch::<AddressGroup>("near", near("10.61.0.99")).await;
        let set = |rows: &str| rows.contains("10.61.0.99");
        longest = longest.max(in_force(&ovn, "another address", began, "Address_Set", set).await);
        said(lab, &client, "SEEN 7 closed").await;
        t.patch::<SecurityGroup>("web", rules(json!([out]))).await;
        t.delete::<AddressGroup>(BOUND, "near").await;
        println!("the slowest change was on all hosts after {longest:?}");
        assert!(longest < Duration::from_secs(5), "{longest:?}");

        for name in ["client", "server"] {
            t.delete::<Instance>(GUEST, name).await;
        }
        for name in ["web", "clients", "others"] {
            t.delete::<SecurityGroup>(BOUND, name).await;
        }
        t.delete::<virga_crds::Network>(BOUND, "walled").await;
        eventually("no row is left", BOUND, async || {
            let left = nbctl(&ovn, &["--bare", "--columns=external_ids", "list", "Port_Group"]);
            (!left.contains(&t.namespace)).then_some(()).ok_or(left)
        })
        .await;
        nothing_new_is_left(lab, &before).await;
    })
    .await;
}
