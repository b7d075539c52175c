//! Does `kubectl virga net` say what guests see: which way packets go, who drops them, who is there?

use clap::Parser;
use serde_json::Value;
use virga_cli::{
    flags::{Args, Command},
    net,
};
use virga_core::trace::Verdict;
use virga_e2e::Case;
use virga_runtime::class::chain;

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

/// What it says of a packet is this, and with these words.
pub(super) async fn traces(t: &Case, args: &[&str], wanted: Verdict, words: &str) {
    let all = [&["trace"], args].concat();
    let (told, verdict) = asked(t, &all).await;
    println!("{told}");
    assert_eq!(verdict, Some(wanted), "{told}");
    assert!(told.contains(words), "{words:?} is not in\n{told}");
}

/// Its map has these words, in lines one after another.
pub(super) async fn maps(t: &Case, all: &[&str]) {
    let (told, _) = asked(t, &["map"]).await;
    println!("{told}");
    for words in all {
        assert!(told.contains(words), "{words:?} is not in\n{told}");
    }
}

/// How many Ports the map has in the first Network.
pub(super) async fn mapped_ports(t: &Case) -> usize {
    let json: Value = serde_json::from_str(&asked(t, &["map", "-o", "json"]).await.0).unwrap();
    json["networks"][0]["ports"].as_array().unwrap().len()
}
