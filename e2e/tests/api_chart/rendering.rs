//! What does the chart make of its values?

use virga_e2e::Cluster;

use crate::{SYSTEM, chart, rendered, with_the_chart_s_rules};

#[tokio::test]
async fn every_object_of_the_chart_is_valid() {
    let cluster = with_the_chart_s_rules();
    let objects = rendered(cluster, &[]);
    let said = cluster.kubectl_says_of(
        &["apply", "--dry-run=server", "--validate=strict", "--filename=-"],
        &objects,
    );
    let warnings = said.stderr.clone();
    let applied = said.must(&["apply", "--dry-run=server"]);
    assert!(applied.lines().count() > 20, "{applied}");
    assert!(!warnings.contains("Warning: unknown field"), "{warnings}");
    // These are what a cluster under the restricted Pod Security Standard would say of the controller.
    assert!(!warnings.contains("deprecated"), "{warnings}");
}

#[test]
fn wrong_values_are_refused_by_their_schema() {
    let cluster = Cluster::api_only();
    for (value, words) in [
        ("agent.domainType=xen", "domainType"),
        ("controller.replicas=0", "replicas"),
        ("controller.replicas=two", "replicas"),
        ("controller.debugPort=70000", "debugPort"),
        ("agent.dataDir=relative/path", "dataDir"),
        ("agent.imageCacheSize=big", "imageCacheSize"),
        ("controller.reservedMemory=-1Gi", "reservedMemory"),
        ("network.backend=vxlan", "backend"),
        ("network.backend=ovn", "northbound"),
        ("network.ovn.northbound={nb.example.org}", "northbound"),
        ("network.underlayMTU=500", "underlayMTU"),
        ("imagePullPolicy=Sometimes", "imagePullPolicy"),
        ("controler.replicas=2", "controler"),
        ("agent.image=", "image"),
    ] {
        let chart = chart();
        let error = cluster
            .helm_says(&["template", "virga", &chart, "--set", value])
            .must_fail();
        assert!(error.contains(words), "{value}: {error}");
    }
}

#[test]
fn the_flags_that_the_chart_gives_follow_its_values() {
    let cluster = Cluster::api_only();
    let chart = chart();
    let set = [
        "controller.debugPort=9099",
        "agent.domainType=qemu",
        "agent.dataDir=/srv/virga",
        "controller.replicas=3",
        "agent.image=example.org/agent:7",
    ];
    let mut args = vec!["template", "virga", &chart, "--namespace=elsewhere"];
    args.extend(set.iter().flat_map(|value| ["--set", value]));
    let objects = cluster.helm(&args);
    for words in [
        "--debug-address=127.0.0.1:9099",
        "--domain-type=qemu",
        "--data-dir=/srv/virga",
        "replicas: 3",
        "example.org/agent:7",
    ] {
        assert!(objects.contains(words), "{words} is not in\n{objects}");
    }
    let ovn = cluster.helm(&[
        "template",
        "virga",
        &chart,
        "--set=network.backend=ovn",
        "--set=network.ovn.northbound={ssl:192.0.2.10:6641,ssl:192.0.2.11:6641}",
        "--set=network.ovn.southbound={ssl:192.0.2.10:6642}",
        "--set=network.ovn.tls.secretName=ovn-client",
        "--set=network.ovn.offloads=Disabled",
    ]);
    for words in [
        "--ovn-northbound=ssl:192.0.2.10:6641,ssl:192.0.2.11:6641",
        "--ovn-southbound=ssl:192.0.2.10:6642",
        "--ovn-tls=/etc/virga/ovn",
        "--ovn-tls-check=name",
        "secretName: ovn-client",
        "--ovn-without-offloads",
    ] {
        assert!(ovn.contains(words), "{words} is not in\n{ovn}");
    }
    assert_eq!(
        ovn.matches("--network-backend=ovn").count(),
        2,
        "the controller and the agents"
    );
    let off = cluster.helm(&["template", "virga", &chart, "--set=controller.debugPort=0"]);
    assert!(off.contains("- --debug-address=\n"), "{off}");
    // The policy names the agent by its namespace.
    assert!(objects.contains("system:serviceaccount:elsewhere:virga-agent"));
    assert!(!objects.contains(SYSTEM), "a namespace is written out");
}
