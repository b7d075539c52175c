//! Are requests to one address answered by all guests behind it, and by those only that are there?

use std::collections::BTreeSet;

use kube::ResourceExt;
use serde_json::json;
use virga_core::trace::Verdict;
use virga_crds::{Instance, LoadBalancer, MemberState};
use virga_e2e::objects::network;
use virga_e2e::{BOUND, eventually, on_node};

use super::plugin;
use super::scene::{Scene, on_ovn, public};
use crate::{GUEST, host};

/// No Router advertises to these guests: each gives itself the IPv6 address that its Port has, made of its MAC address.
const SIX: &str = r#"#!/bin/sh
own=$(ip -6 address show dev eth0 scope link | sed -n 's/.*inet6 fe80::\([^/]*\).*/\1/p')
ip -6 address add "fd00:63::$own/64" dev eth0
"#;

/// What the client goes on trying: both addresses. It says who answered each time, or that nobody did.
fn client(six: &str) -> String {
    format!(
        r#"{SIX}(
    n=0
    while [ $n -lt 2000 ]; do
        for vip in {FOUR} {six}; do
            who=$(printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 2 $vip 80 2>/dev/null | grep -o 'hello from [a-z]*')
            echo "ASKED $vip ${{who:-nobody}}"
        done
        n=$((n + 1)); [ $((n % 4)) = 0 ] && sleep 0.5
    done
) &
"#
    )
}

/// The LoadBalancer's IPv4 address.
const FOUR: &str = "10.63.0.100";

/// How many answers in a row are looked at: with two members, 16 of one alone are one chance in thirty thousand.
const ENOUGH: usize = 16;

/// Who answered the last requests to an address that the console tells of.
fn last_answers<'a>(console: &'a str, vip: &str) -> Vec<&'a str> {
    let mut answers: Vec<&str> = on_node::marked(console, "ASKED ")
        .filter_map(|line| line.split_once(' '))
        .filter(|(asked, _)| *asked == vip)
        .map(|(_, who)| who)
        .collect();
    answers.split_off(answers.len().saturating_sub(ENOUGH))
}

/// Waits until who answered the last requests to an address is as wanted.
async fn answered(console: impl Fn() -> String, vip: &str, wanted: impl Fn(&BTreeSet<&str>) -> bool) {
    eventually(
        &format!("the last {ENOUGH} to {vip} were answered as wanted"),
        GUEST,
        async || {
            let console = console();
            let last = last_answers(&console, vip);
            let so = last.len() == ENOUGH && wanted(&last.iter().copied().collect());
            if so { Ok(()) } else { Err(format!("{last:?}")) }
        },
    )
    .await;
}

/// Waits until the last requests to an address were answered by exactly these.
async fn answered_by(console: impl Fn() -> String, vip: &str, who: &[&str]) {
    answered(console, vip, |seen| seen.iter().eq(who)).await;
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
    let mut front = network("front", "10.63.0.0/24");
    let six = json!({"name": "v6", "cidr": "fd00:63::/64", "ipv6Mode": "SLAAC"});
    front.spec.subnets.push(serde_json::from_value(six).unwrap());
    on_ovn([public(), front], async |t| {
        t.is_open().await;
        let spec = json!({
            "vip": {"network": "front", "address": FOUR},
            "listeners": [{"protocol": "TCP", "port": 80}],
            "members": {"selector": {"matchLabels": {"app": "web"}}},
            "healthCheck": {"interval": "2s", "timeout": "2s", "failureCount": 2},
        });
        t.create(LoadBalancer::new("web", serde_json::from_value(spec).unwrap()))
            .await;
        let its = |balancer: &LoadBalancer| balancer.status.clone().unwrap_or_default().addresses;
        let both = |balancer: &LoadBalancer| its(balancer).len() == 2;
        let web = t
            .await_condition::<LoadBalancer>("web", "has its addresses", both)
            .await;
        let addresses = its(&web);
        let six = addresses
            .iter()
            .find(|address| address.starts_with("fd00:63:"))
            .unwrap();

        // Two serve, on two hosts. The third asks, in a Network that no Router joins.
        for (name, node, address) in [("one", "node-1", "10.63.0.11"), ("two", "node-2", "10.63.0.12")] {
            let mut made = t.guest(name, node, "front", address, SIX);
            made.metadata.labels = Some([("app".to_owned(), "web".to_owned())].into());
            t.create(made).await;
        }
        t.plug("client", "node-3", "front", "10.63.0.13", &client(six)).await;
        for name in ["one", "two"] {
            t.runs(name).await;
        }
        let client = t.runs("client").await;
        // By IPv6 nobody is asked.
        let both_answer = |balancer: &LoadBalancer| {
            let members: Vec<_> = balancer.status.iter().flat_map(|status| &status.members).collect();
            let are = |state| members.iter().filter(|member| member.state == state).count();
            (are(MemberState::Online), are(MemberState::NoHealthCheck)) == (2, 2)
        };
        t.await_within::<LoadBalancer>(GUEST, "web", "both are Online", both_answer)
            .await;
        let asked = ["client", "loadbalancer/web", "--proto", "tcp", "--port", "80", "-6"];
        for asked in [&asked[..6], &asked] {
            plugin::traces(t, asked, Verdict::Passes, "It passes to each of 2 members.").await;
        }
        let its = format!("LoadBalancer web   {} of Network front", addresses.join(", "));
        let lines = [its.as_str(), "Instance one   Online"];
        plugin::maps(t, &lines).await;
        let (node, uid) = (host(t.lab, &client), client.uid().unwrap());
        let console = || on_node::console(&node, &uid);
        for vip in [FOUR, six] {
            answered_by(console, vip, &["hello from one", "hello from two"]).await;
        }

        // Who comes again is sent to the same one, as long as that is asked for.
        t.patch::<LoadBalancer>("web", json!({"spec": {"affinityTimeout": "1h"}}))
            .await;
        for vip in [FOUR, six] {
            answered(console, vip, |seen| seen.len() == 1 && !seen.contains("nobody")).await;
        }
        t.patch::<LoadBalancer>("web", json!({"spec": {"affinityTimeout": null}}))
            .await;

        // The outside asks too, by a Router and a floating IP.
        t.route(&["front"], Some("public")).await;
        let web = t.float("web", "loadBalancer", "web").await;
        let address = web.status.unwrap().address.unwrap();
        outside_is_answered_by(t, &address, &["hello from one", "hello from two"]).await;

        // One is stopped: the other answers all, inside and outside.
        t.patch::<Instance>("one", json!({"spec": {"powerState": "Stopped"}}))
            .await;
        for vip in [FOUR, six] {
            answered_by(console, vip, &["hello from two"]).await;
        }
        outside_is_answered_by(t, &address, &["hello from two"]).await;
        t.patch::<Instance>("one", json!({"spec": {"powerState": "Running"}}))
            .await;
        for vip in [FOUR, six] {
            answered_by(console, vip, &["hello from one", "hello from two"]).await;
        }
    })
    .await;
}
