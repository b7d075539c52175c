//! Does `kubectl virga explain` say why an Instance is where it is, or nowhere?

use clap::Parser;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use virga_cli::explain;
use virga_cli::flags::{Args, Command};
use virga_crds::{DecidedBy, Instance};
use virga_e2e::{Case, Installation, condition, is_ready, with_temp_namespace};
use virga_runtime::class::chain;

use crate::{GUEST, given_a_place_for_idle_instances, idle, node_of};

/// What the plugin prints, as the cluster's administrator.
async fn explained(t: &Case, more: &[&str]) -> String {
    let kubeconfig = t.cluster.kubeconfig().to_string_lossy().into_owned();
    let mut args = vec!["kubectl-virga", "explain"];
    args.extend(more);
    args.extend(["--namespace", &t.namespace, "--kubeconfig", &kubeconfig]);
    let Command::Explain(args) = Args::parse_from(args).command else {
        unreachable!()
    };
    let mut out = Vec::new();
    let done = explain::run(args, &mut out).await;
    done.unwrap_or_else(|error| panic!("{}", chain(&error)));
    String::from_utf8(out).unwrap()
}

#[tokio::test]
async fn placed_and_refused_instances_are_explained_by_the_leader_and_by_their_status() {
    let (installation, _turn) = Installation::turn().await;
    let Some(lab) = installation.lab("puts a disk into the nodes' store") else {
        return;
    };
    with_temp_namespace(&installation.cluster, async |t| {
        let flavor = given_a_place_for_idle_instances(&t, lab, "10.42.0.0/24").await;
        let count = lab.nodes().len();
        t.create(idle("placed", &flavor)).await;
        let placed = t.await_within::<Instance>(GUEST, "placed", "Ready", is_ready).await;
        let node = node_of(&placed);
        let told = placed
            .status
            .unwrap()
            .scheduling
            .expect("its agent has told the decision");
        assert_eq!(told.decided_by, DecidedBy::Admission);
        assert_eq!(
            (usize::try_from(told.hosts).unwrap(), told.weights.len()),
            (count, count)
        );

        let said = explained(&t, &["placed"]).await;
        println!("{said}");
        for words in [
            "Decided:    ",
            ", while it was created",
            "Known from: the leading controller",
            &format!("{node} *"),
        ] {
            assert!(said.contains(words), "{words}: {said}");
        }
        assert!(!said.contains("As it would be decided now"), "{said}");
        let said = explained(&t, &["placed", &node]).await;
        println!("{said}");
        assert!(
            said.contains("Profile:    of ConfigMap virga-system/virga-scheduler")
                && said.contains("THE INSTANCE TAKES"),
            "{said}"
        );

        let mut nowhere = idle("nowhere", &flavor);
        nowhere.spec.placement = serde_json::from_value(json!({"availabilityZone": "there-is-none"})).unwrap();
        t.create(nowhere).await;
        t.await_condition::<Instance>("nowhere", "NoValidHost", |found| {
            condition(found, "Scheduled").is_some_and(|scheduled| scheduled.reason == "NoValidHost")
        })
        .await;
        let said = explained(&t, &["nowhere"]).await;
        println!("{said}");
        let counts = format!("Rejected:   {count} AvailabilityZoneFilter");
        assert!(said.contains(", by the queue") && said.contains(&counts), "{said}");
        let json: Value = serde_json::from_str(&explained(&t, &["nowhere", "-o", "json"]).await).unwrap();
        assert_eq!(json["recorded"]["from"], "Leader", "{json:#}");
        assert_eq!(json["recorded"]["decision"]["survivors"], 0, "{json:#}");
        assert_eq!(json["hosts"].as_array().unwrap().len(), count, "{json:#}");

        // On a port where nobody answers, the Instance's own words are left.
        let said = explained(&t, &["placed", "--debug-port", "9"]).await;
        println!("{said}");
        assert!(
            said.contains("Known from: the Instance's status; not from the leading controller: forwarding")
                || said.contains("Known from: the Instance's status; not from the leading controller: asking"),
            "{said}"
        );

        // What is decided anew is told anew: the agent's status follows the binding.
        let api: Api<Instance> = t.api();
        let nothing = Patch::Merge(json!({"metadata": {"annotations": {"virga.dev/scheduling": null}}}));
        let kept = api.patch("placed", &PatchParams::default(), &nothing).await.unwrap();
        assert_eq!(kept.status.unwrap().scheduling, Some(told));
    })
    .await;
}
