//! Does `kubectl virga net` say what guests see: which way packets go, who drops them, who is there? Are Ports counted, and
//! found by their addresses?

use clap::Parser;
use serde_json::{Value, json};
use virga_cli::{
    flags::{Args, Command},
    net,
};
use virga_core::trace::Verdict;
use virga_crds::{Image, Instance, SecurityGroup, SecurityGroupSpec};
use virga_e2e::objects::{guest, network, tiny};
use virga_e2e::{BOUND, Case, Installation, eventually, is_ready, with_temp_namespace};
use virga_runtime::class::chain;

use crate::{
    GUEST, host, nothing_new_is_left,
    ovn::{plugged_on, said},
    remains,
};

/// What a guest tries: to ping the other one, to get its page, and to have its name by its address.
const SCRIPT: &str = r#"#!/bin/sh
try() { n=0; until "$@" >/tmp/said 2>&1; do n=$((n + 1)); [ $n -ge 25 ] && return 1; sleep 1; done; }
try ping -c 1 -W 1 10.65.0.12 && echo "SEEN ping"
printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 3 10.65.0.12 80 2>/dev/null | grep -q hello && echo "SEEN page" || echo "SEEN no-page"
try sh -c 'nslookup 10.65.0.12 10.65.0.1 | grep -q two.seen.shop' && echo "SEEN reverse" || echo "SEEN no-reverse"
echo "SEEN end"
"#;

/// What the plugin prints, as the cluster's administrator, and its verdict.
async fn asked(t: &Case, args: &[&str]) -> (String, Option<Verdict>) {
    let kubeconfig = t.cluster.kubeconfig().to_string_lossy().into_owned();
    let mut all = vec!["kubectl-virga", "net"];
    all.extend(args);
    all.extend(["--namespace", &t.namespace, "--kubeconfig", &kubeconfig]);
    let Command::Net(command) = Args::parse_from(all).command else {
        unreachable!()
    };
    let mut out = Vec::new();
    let done = net::run(command, &mut out).await;
    let verdict = done.unwrap_or_else(|error| panic!("{}", chain(&error)));
    (String::from_utf8(out).unwrap(), verdict)
}

#[tokio::test]
async fn what_the_plugin_says_of_packets_is_what_guests_see() {
    let Some((installation, lab, _ovn, _turn)) = Installation::turn_on_ovn().await else {
        return;
    };
    with_temp_namespace(&installation.cluster, async |t| {
        let before = remains(lab);
        let flavor = t.flavor("tiny", tiny()).await;
        t.create(guest()).await;
        let mut front = network("seen", "10.65.0.0/24");
        front.spec.dns_domain = Some("seen.shop".into());
        t.create(front).await;
        let rules = json!({"rules": [{"direction": "Egress"}, {"direction": "Ingress", "protocol": "icmp"}]});
        let spec: SecurityGroupSpec = serde_json::from_value(rules).unwrap();
        t.create(SecurityGroup::new("pinged", spec)).await;
        t.await_within::<Image>(GUEST, "guest", "Ready", is_ready).await;
        for (name, node, address, script) in [
            ("two", "node-2", "10.65.0.12", "#!/bin/sh\n"),
            ("one", "node-1", "10.65.0.11", SCRIPT),
        ] {
            let mut made = plugged_on(&flavor, name, node, "seen", address, script);
            made.spec.interfaces[0].security_groups = vec!["pinged".into()];
            t.create(made).await;
        }
        let one = t.await_within::<Instance>(GUEST, "one", "Ready", is_ready).await;
        t.await_within::<Instance>(GUEST, "two", "Ready", is_ready).await;
        let console = said(lab, &one, "SEEN end").await;
        for words in ["SEEN ping", "SEEN no-page", "SEEN reverse"] {
            assert!(console.contains(words), "{words:?} is not in\n{console}");
        }

        let (told, verdict) = asked(&t, &["trace", "one", "two"]).await;
        println!("{told}");
        assert_eq!(verdict, Some(Verdict::Passes), "{told}");
        let (told, verdict) = asked(&t, &["trace", "one", "10.65.0.12", "--proto", "tcp", "--port", "80"]).await;
        println!("{told}");
        assert_eq!(verdict, Some(Verdict::Drops), "{told}");
        assert!(told.contains("Cure: add a rule to SecurityGroup pinged"), "{told}");

        let (told, _) = asked(&t, &["map"]).await;
        println!("{told}");
        assert!(told.contains("Network seen   Overlay, MTU 1442, seen.shop"), "{told}");
        assert!(
            told.contains("Instance one") && told.contains("node-2   up   pinged"),
            "{told}"
        );
        let json: Value = serde_json::from_str(&asked(&t, &["map", "-o", "json"]).await.0).unwrap();
        assert_eq!(json["networks"][0]["ports"].as_array().unwrap().len(), 2, "{json:#}");

        let node = host(lab, &one);
        let counted = format!(
            "virga_port_receive_packets_total{{namespace=\"{}\",instance=\"one\",port=\"one-seen\",network=\"seen\"}} ",
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

        for name in ["one", "two"] {
            t.delete::<Instance>(GUEST, name).await;
        }
        nothing_new_is_left(lab, &before).await;
    })
    .await;
}
