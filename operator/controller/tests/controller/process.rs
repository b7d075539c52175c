//! The whole process, twice, over the in-process API: who leads, what is written, which rights it takes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use clap::Parser;
use k8s_openapi::api::{
    admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration},
    core::v1::Pod,
};
use kube::{ResourceExt, api::ObjectMeta};
use tokio::task::JoinHandle;
use virga_controller::{
    flags::Args,
    process::{Error, run_with},
};
use virga_crds::labels;
use virga_runtime::shutdown::Shutdown;
use virga_testkit::{FakeApi, Fault};

use crate::harness::{self, CONTROLLER, bound, instance, node, stock};

fn api() -> FakeApi {
    virga_runtime::tls::install_crypto_provider();
    let api = harness::api()
        .with::<ValidatingWebhookConfiguration>()
        .with::<MutatingWebhookConfiguration>();
    for name in ["a", "b"] {
        let metadata = ObjectMeta {
            name: Some(name.into()),
            namespace: Some("virga-system".into()),
            ..ObjectMeta::default()
        };
        api.create(&Pod {
            metadata,
            ..Pod::default()
        });
    }
    api
}

fn start(api: &FakeApi, pod: &str) -> (Shutdown, JoinHandle<Result<(), Error>>) {
    let any = "127.0.0.1:0";
    let args = Args::parse_from([
        "virga-controller",
        "--pod-name",
        pod,
        "--webhook-address",
        any,
        "--health-address",
        any,
        "--metrics-address",
        any,
        "--debug-address",
        any,
    ]);
    let shutdown = Shutdown::new();
    let clock = Arc::new(api.clock().reader());
    (
        shutdown.clone(),
        tokio::spawn(run_with(api.client_as(CONTROLLER), clock, args, shutdown)),
    )
}

async fn leads(api: &FakeApi, pod: &str) {
    let is_leader = |pod: Option<&Pod>| pod.is_some_and(|pod| pod.labels().get(labels::LEADER).is_some());
    api.await_condition::<Pod>(Some("virga-system"), pod, is_leader).await;
}

#[tokio::test(start_paused = true)]
async fn the_second_takes_over_when_the_first_is_stopped_and_goes_on_with_its_work() {
    let api = api();
    stock(&api);
    node(&api, "node-1").await;
    let (first, ended) = start(&api, "a");
    leads(&api, "a").await;
    let (_second, _) = start(&api, "b");
    api.create(&instance("one"));
    bound(&api, "one").await;

    first.stop();
    assert!(ended.await.unwrap().is_ok());
    leads(&api, "b").await;
    let unlabelled = |pod: Option<&Pod>| pod.is_some_and(|pod| pod.labels().get(labels::LEADER).is_none());
    api.await_condition::<Pod>(Some("virga-system"), "a", unlabelled).await;
    api.create(&instance("two"));
    bound(&api, "two").await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_renew_its_lease_ends_with_an_error() {
    let api = api();
    let (_shutdown, ended) = start(&api, "a");
    leads(&api, "a").await;
    api.inject(Fault::status(500).resource("leases"));
    let error = ended.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::LeadershipLost), "{error}");
}

/// The verbs that the process uses, to be compared with the ClusterRole that the chart grants.
#[tokio::test(start_paused = true)]
async fn the_rights_that_it_takes_are_listed() {
    let api = api();
    stock(&api);
    node(&api, "node-1").await;
    let (_shutdown, _ended) = start(&api, "a");
    leads(&api, "a").await;
    api.create(&instance("one"));
    bound(&api, "one").await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    let used: BTreeMap<String, String> = api
        .verbs_used_by(CONTROLLER)
        .into_iter()
        .map(|((group, resource), verbs)| {
            let verbs: Vec<&str> = verbs.into_iter().collect();
            (format!("{group}/{resource}"), verbs.join(" "))
        })
        .collect();
    // What the frame needs. The loops of the kinds add to it; nothing may be missing here that the frame uses.
    let needed = [
        ("/configmaps", "list watch"),
        ("/namespaces", "list watch"),
        ("/pods", "list patch"),
        ("/secrets", "create list watch"),
        (
            "admissionregistration.k8s.io/mutatingwebhookconfigurations",
            "list watch",
        ),
        (
            "admissionregistration.k8s.io/validatingwebhookconfigurations",
            "list watch",
        ),
        ("coordination.k8s.io/leases", "create get list update watch"),
        ("events.k8s.io/events", "create"),
        ("rbac.authorization.k8s.io/rolebindings", "list watch"),
        ("virga.dev/instances", "list patch watch"),
    ];
    for (resource, verbs) in needed {
        let used = used
            .get(resource)
            .unwrap_or_else(|| panic!("{resource} is not used: {used:#?}"));
        for verb in verbs.split(' ') {
            assert!(
                used.split(' ').any(|used| used == verb),
                "{resource}: {verb} is not among {used}"
            );
        }
    }
    let ours = [
        "virga.dev/",
        "coordination.k8s.io/",
        "events.k8s.io/",
        "admissionregistration.k8s.io/",
        "rbac.authorization.k8s.io/",
        "/",
    ];
    assert!(
        used.keys()
            .all(|resource| ours.iter().any(|group| resource.starts_with(group))),
        "{used:#?}"
    );
    assert!(
        !used
            .iter()
            .any(|(resource, verbs)| resource == "/secrets" && verbs.contains("delete")),
        "{used:#?}"
    );
    println!("{used:#?}");
}
