//! Are requests to one address answered by all guests behind it, and by those only that are there?

use std::collections::BTreeSet;

use kube::ResourceExt;
use serde_json::json;
use virga_core::trace::Verdict;
use virga_crds::{Instance, LoadBalancer, MemberState};
use virga_e2e::objects::network;
use virga_e2e::{BOUND, eventually, on_node};

use super::plugin;
use super::scene::{SERVES, Scene, on_ovn, public};
use crate::{GUEST, host};

/// What the client goes on trying: the address. It says who answered each time, or that nobody did.
const CLIENT: &str = r#"#!/bin/sh
(
    n=0
    while [ $n -lt 2000 ]; do
        who=$(printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 2 10.63.0.100 80 2>/dev/null | grep -o 'hello from [a-z]*')
        n=$((n + 1)); echo "ASKED $n ${who:-nobody}"
        [ $((n % 4)) = 0 ] && sleep 1
    done
) &
"#;

/// How many answers in a row are looked at: with two members, 20 of one alone are one chance in a million.
const ENOUGH: usize = 20;

/// Who answered the last requests that the console tells of.
fn last_answers(console: &str) -> Vec<&str> {
    let mut answers: Vec<&str> = console
        .lines()
        .filter_map(|line| line.trim_end().split_once("ASKED ")?.1.split_once(' '))
        .map(|(_, who)| who)
        .collect();
    answers.split_off(answers.len().saturating_sub(ENOUGH))
}

/// Waits until the last requests were answered by exactly these.
async fn answered_by(console: impl Fn() -> String, who: &[&str]) {
    let wanted: BTreeSet<&str> = who.iter().copied().collect();
    eventually(
        &format!("the last {ENOUGH} were answered by {who:?}"),
        GUEST,
        async || {
            let console = console();
            let last = last_answers(&console);
            let so = last.len() == ENOUGH && last.iter().copied().collect::<BTreeSet<_>>() == wanted;
            if so { Ok(()) } else { Err(format!("{last:?}")) }
        },
    )
    .await;
}

/// Asks an address outside until ten requests in a row are answered by exactly these.
async fn outside_is_answered_by(t: &Scene, address: &str, who: &[&str]) {
    let get = format!(
        "for n in $(seq 10); do timeout 3 bash -c 'exec 3<>/dev/tcp/{address}/80 && printf \"GET / HTTP/1.0\\r\\n\\r\\n\" >&3 && cat \
         <&3' | grep -o 'hello from [a-z]*'; done"
    );
    eventually(&format!("{address} is answered by {who:?}"), BOUND, async || {
        let said = t.outside(&get)?;
        let answers: BTreeSet<&str> = said.lines().collect();
        if answers == who.iter().copied().collect() {
            Ok(())
        } else {
            Err(said.clone())
        }
    })
    .await;
}

#[tokio::test]
async fn all_members_answer_until_one_is_stopped_and_the_outside_is_answered_too() {
    on_ovn([public(), network("front", "10.63.0.0/24")], async |t| {
        t.is_open().await;
        let spec = json!({
            "vip": {"network": "front", "address": "10.63.0.100"},
            "listeners": [{"protocol": "TCP", "port": 80}],
            "members": {"selector": {"matchLabels": {"app": "web"}}},
            "healthCheck": {"interval": "2s", "timeout": "2s", "failureCount": 2},
        });
        t.create(LoadBalancer::new("web", serde_json::from_value(spec).unwrap()))
            .await;

        // Two serve, on two hosts. The third asks, in a Network that no Router joins.
        for (name, node, address) in [("one", "node-1", "10.63.0.11"), ("two", "node-2", "10.63.0.12")] {
            let mut made = t.guest(name, node, "front", address, SERVES);
            made.metadata.labels = Some([("app".to_owned(), "web".to_owned())].into());
            t.create(made).await;
        }
        t.plug("client", "node-3", "front", "10.63.0.13", CLIENT).await;
        for name in ["one", "two"] {
            t.runs(name).await;
        }
        let client = t.runs("client").await;
        let both_answer = |balancer: &LoadBalancer| {
            let members = balancer.status.iter().flat_map(|status| &status.members);
            members.filter(|member| member.state == MemberState::Online).count() == 2
        };
        t.await_within::<LoadBalancer>(GUEST, "web", "both are Online", both_answer)
            .await;
        let asked = ["client", "loadbalancer/web", "--proto", "tcp", "--port", "80"];
        plugin::traces(t, &asked, Verdict::Passes, "It passes to each of 2 members.").await;
        let lines = [
            "LoadBalancer web   10.63.0.100 of Network front",
            "Instance one   Online",
        ];
        plugin::maps(t, &lines).await;
        let (node, uid) = (host(t.lab, &client), client.uid().unwrap());
        let console = || on_node::console(&node, &uid);
        answered_by(console, &["hello from one", "hello from two"]).await;

        // The outside asks too, by a Router and a floating IP.
        t.route(&["front"], Some("public")).await;
        let web = t.float("web", "loadBalancer", "web").await;
        let address = web.status.unwrap().address.unwrap();
        outside_is_answered_by(t, &address, &["hello from one", "hello from two"]).await;

        // One is stopped: the other answers all, inside and outside.
        t.patch::<Instance>("one", json!({"spec": {"powerState": "Stopped"}}))
            .await;
        answered_by(console, &["hello from two"]).await;
        outside_is_answered_by(t, &address, &["hello from two"]).await;
        t.patch::<Instance>("one", json!({"spec": {"powerState": "Running"}}))
            .await;
        answered_by(console, &["hello from one", "hello from two"]).await;
    })
    .await;
}
