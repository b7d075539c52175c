//! What admission could not place waits, hears why, and is placed when something helps.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use kube::ResourceExt;
use serde_json::json;
use virga_crds::{Flavor, Hypervisor, Instance, conditions::Reason};
use virga_testkit::{FakeApi, Fault};

use crate::harness::{
    self, CONTROLLER, Replica, api, bound, create, flavor, hypervisor, install_webhooks, instance, leader, node,
    scheduled, settle, stays_quiet, stock, waits_for,
};

#[tokio::test(start_paused = true)]
async fn the_queue_wakes_when_a_host_comes_is_uncordoned_or_freed() {
    let api = api();
    stock(&api);
    let replica = leader(&api).await;
    api.create(&instance("first"));
    assert_eq!(
        waits_for(&api, "first", Reason::NoValidHost).await,
        "0/0 hosts: no Hypervisor has registered"
    );
    let agent = node(&api, "node-1").await;
    assert_eq!(bound(&api, "first").await, "node-1");

    api.merge::<Hypervisor>(
        None,
        "node-1",
        json!({"spec": {"scheduling": "Cordoned", "reason": "ticket 7"}}),
    );
    settle(&api).await;
    api.create(&instance("second"));
    let message = waits_for(&api, "second", Reason::NoValidHost).await;
    assert_eq!(
        message, "0/1 hosts: 1 ComputeFilter (disabled)",
        "what operators say is for operators"
    );
    api.merge::<Hypervisor>(
        None,
        "node-1",
        json!({"spec": {"scheduling": "Enabled", "reason": null}}),
    );
    assert_eq!(bound(&api, "second").await, "node-1");

    for n in 3..=9 {
        api.create(&instance(&format!("n-{n}")));
    }
    let left = api
        .list::<Instance>()
        .into_iter()
        .map(|instance| instance.name_any())
        .filter(|name| name.starts_with("n-"));
    settle(&api).await;
    let waiting: Vec<String> = left
        .filter(|name| {
            api.read::<Instance>(Some("shop"), name)
                .unwrap()
                .spec
                .node_name
                .is_none()
        })
        .collect();
    let [waiting] = waiting.as_slice() else {
        panic!("{waiting:?}")
    };
    waits_for(&api, waiting, Reason::NoValidHost).await;
    api.merge::<Instance>(Some("shop"), "first", json!({"metadata": {"finalizers": null}}));
    api.delete::<Instance>(Some("shop"), "first");
    assert_eq!(bound(&api, waiting).await, "node-1");

    // A node whose agent is silent takes nobody, and takes them again when it is back.
    api.merge::<Instance>(Some("shop"), waiting, json!({"metadata": {"finalizers": null}}));
    api.delete::<Instance>(Some("shop"), waiting);
    agent.cancel();
    tokio::time::sleep(Duration::from_secs(45)).await;
    assert!(replica.scheduler.silence("node-1").unwrap() >= Duration::from_secs(40));
    api.create(&instance("last"));
    let message = waits_for(&api, "last", Reason::NoValidHost).await;
    assert_eq!(message, "0/1 hosts: 1 ComputeFilter (not responding)");
    harness::beat(&api, "node-1").await;
    assert_eq!(bound(&api, "last").await, "node-1");
}

#[tokio::test(start_paused = true)]
async fn what_was_missing_is_named_with_the_cure_and_waited_for() {
    let api = api();
    node(&api, "node-1").await;
    api.create(&flavor("m1.smal"));
    let _replica = leader(&api).await;
    let mut object = instance("web");
    object.spec.server_group = Some("web".into());
    api.create(&object);
    let message = waits_for(&api, "web", Reason::FlavorNotFound).await;
    assert_eq!(
        message,
        "spec.flavor: there is no Flavor \"m1.small\": create it, or did you mean m1.smal?; \
         spec.image: there is no Image \"debian\" in namespace shop: create it; \
         spec.serverGroup: there is no ServerGroup \"web\" in namespace shop: create it"
    );
    api.create(&flavor("m1.small"));
    waits_for(&api, "web", Reason::ImageNotFound).await;
    api.create(&harness::image("debian"));
    waits_for(&api, "web", Reason::ServerGroupNotFound).await;
    api.create(&harness::server_group("web"));
    assert_eq!(bound(&api, "web").await, "node-1");
    settle(&api).await;

    let status = api
        .read::<Instance>(Some("shop"), "web")
        .unwrap()
        .status
        .unwrap_or_default();
    assert_eq!(
        status,
        virga_crds::InstanceStatus::default(),
        "the agent is the one writer from here on"
    );
    let events = api.list::<k8s_openapi::api::events::v1::Event>();
    let reasons: BTreeSet<_> = events.iter().filter_map(|event| event.reason.clone()).collect();
    assert_eq!(
        reasons.iter().map(String::as_str).collect::<Vec<_>>(),
        ["Bound", "FlavorNotFound", "ImageNotFound", "ServerGroupNotFound"]
    );
    // Hard anti-affinity: no second member on the one host.
    let mut second = instance("web-2");
    second.spec.server_group = Some("web".into());
    api.create(&second);
    let message = waits_for(&api, "web-2", Reason::NoValidHost).await;
    assert_eq!(message, "0/1 hosts: 1 ServerGroupAntiAffinityFilter");
}

#[tokio::test(start_paused = true)]
async fn a_host_that_rejects_an_instance_is_left_for_another_and_then_for_the_queue() {
    let api = api();
    stock(&api);
    node(&api, "node-1").await;
    let _replica = leader(&api).await;
    api.create(&instance("web"));
    assert_eq!(bound(&api, "web").await, "node-1");
    node(&api, "node-2").await;
    reject(&api, "web", &["node-1"]);
    let moved = |instance: Option<&Instance>| instance.unwrap().spec.node_name.as_deref() == Some("node-2");
    api.await_condition::<Instance>(Some("shop"), "web", moved).await;

    reject(&api, "web", &["node-1", "node-2"]);
    let message = waits_for(&api, "web", Reason::NoValidHost).await;
    assert_eq!(message, "0/2 hosts: 2 RetryFilter");
    let unbound = api.read::<Instance>(Some("shop"), "web").unwrap();
    assert_eq!(unbound.spec.node_name, None);
    assert_eq!(unbound.finalizers(), ["virga.dev/agent"]);
    node(&api, "node-3").await;
    assert_eq!(bound(&api, "web").await, "node-3");
}

/// What the agent of the last of these nodes writes.
fn reject(api: &FakeApi, name: &str, nodes: &[&str]) {
    let now = api.clock().now();
    let condition = json!({
        "type": "Scheduled", "status": "False", "reason": "HostRejected", "message": "no room",
        "lastTransitionTime": format!("{now:.0}"),
    });
    api.merge_status::<Instance>(
        Some("shop"),
        name,
        json!({"rejectedBy": nodes, "conditions": [condition]}),
    );
}

#[tokio::test(start_paused = true)]
async fn when_all_is_placed_nothing_is_sent() {
    let api = api();
    stock(&api);
    node(&api, "node-1").await;
    let _replica = leader(&api).await;
    for n in 0..9 {
        api.create(&instance(&format!("web-{n}")));
    }
    stays_quiet(&api, Duration::from_mins(10)).await;
}

#[tokio::test(start_paused = true)]
async fn one_binds_and_no_one_else() {
    let api = api();
    stock(&api);
    node(&api, "node-1").await;
    let replica = leader(&api).await;
    let _follower = Replica::start(&api, "b").await;
    install_webhooks(&api, &Arc::new(Mutex::new(replica.router.clone())));
    create(&api, &instance("admitted")).await.unwrap();
    api.create(&instance("queued"));
    bound(&api, "queued").await;
    settle(&api).await;
    // What admission sets, the API server books to whoever sent the create.
    let managers = api.managers_of_field("instances", Some("shop"), "queued", "spec.nodeName");
    assert_eq!(
        managers.iter().map(String::as_str).collect::<Vec<_>>(),
        ["virga-scheduler"]
    );
    let writes = api.writes_to("instances", Some("shop"), "queued");
    assert!(writes.iter().all(|write| write.user == CONTROLLER), "{}", api.story());
    assert!(
        writes.iter().filter(|write| write.subresource.is_none()).count() == 1,
        "{}",
        api.story()
    );
    // A create that admission placed takes no further write of ours.
    let writes = api.writes_to("instances", Some("shop"), "admitted");
    assert_eq!(
        writes.iter().filter(|write| write.user == CONTROLLER).count(),
        0,
        "{}",
        api.story()
    );
}

#[tokio::test(start_paused = true)]
async fn a_binding_that_could_not_be_written_is_tried_again() {
    let api = api();
    stock(&api);
    node(&api, "node-1").await;
    let replica = leader(&api).await;
    api.inject(
        Fault::status(500)
            .resource("instances")
            .verb(virga_testkit::Verb::Patch)
            .times(2),
    );
    api.inject(
        Fault::commit_then_hang()
            .resource("instances")
            .verb(virga_testkit::Verb::Patch)
            .times(1),
    );
    api.create(&instance("web"));
    assert_eq!(bound(&api, "web").await, "node-1");
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(replica.scheduler.usage("node-1").vcpus, 1);
    assert_eq!(replica.scheduler.reservations(), 0);
}

#[tokio::test(start_paused = true)]
async fn two_that_are_told_no_are_told_once() {
    let api = api();
    stock(&api);
    api.create(&hypervisor("node-1"));
    let _replica = leader(&api).await;
    api.create(&instance("web"));
    waits_for(&api, "web", Reason::NoValidHost).await;
    // Something happens that might help and does not.
    for n in 0..5 {
        api.create(&Flavor::new(&format!("f-{n}"), flavor("x").spec));
        api.merge::<Hypervisor>(None, "node-1", json!({"spec": {"reserved": {"vcpus": n}}}));
        tokio::time::sleep(Duration::from_secs(90)).await;
    }
    let writes = api.writes_to("instances", Some("shop"), "web");
    assert_eq!(
        writes.iter().filter(|write| write.user == CONTROLLER).count(),
        1,
        "{}",
        api.story()
    );
    assert!(scheduled(&api.read("shop".into(), "web").unwrap()).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_write_that_takes_long_holds_up_nobody_else() {
    let api = api();
    stock(&api);
    let _agent = node(&api, "node-1").await;
    let _replica = leader(&api).await;
    api.inject(Fault::hang().resource("instances").name("stuck").times(1));
    let began = tokio::time::Instant::now();
    api.create(&instance("stuck"));
    settle(&api).await;
    api.create(&instance("free"));
    bound(&api, "free").await;
    let waited = began.elapsed();
    assert!(
        waited < Duration::from_secs(5),
        "a write may take 10 s, and this took {waited:?}"
    );
    bound(&api, "stuck").await;
}
