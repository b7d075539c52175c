//! What is told of a decision: in the Instance, and by the leader itself.

use std::sync::{Arc, Mutex};

use axum::{Router, body::Body};
use http::{Request, StatusCode};
use serde_json::{Value, json};
use virga_controller::{
    debug::{self, Decisions, Trouble},
    scheduling::record::{Recorded, ReservationState},
};
use virga_crds::{DecidedBy, Hypervisor, Instance, InstanceScheduling, conditions::Reason, labels};
use virga_testkit::FakeApi;

use crate::harness::{
    CONTROLLER, Replica, api, bound, create, flavor, hypervisor, install_webhooks, instance, leader, node, send,
    settle, stock, waits_for,
};

fn memory(replica: &Replica) -> Router {
    debug::router(replica.scheduler.clone(), replica.leadership.clone())
}

async fn get(router: &Router, path: &str) -> (StatusCode, String) {
    send(router, Request::get(path).body(Body::empty()).unwrap()).await
}

async fn decisions(router: &Router, path: &str) -> Vec<Recorded> {
    let (code, body) = get(router, path).await;
    assert_eq!(code, StatusCode::OK, "{body}");
    serde_json::from_str::<Decisions>(&body).unwrap().decisions
}

fn carried(api: &FakeApi, name: &str) -> Option<InstanceScheduling> {
    let instance = api.read::<Instance>(Some("shop"), name).unwrap();
    virga_core::instance::decision(&instance)
}

fn cordon(api: &FakeApi, node: &str, scheduling: &str) {
    api.merge::<Hypervisor>(
        None,
        node,
        json!({"spec": {"scheduling": scheduling, "reason": "ticket 7"}}),
    );
}

#[tokio::test(start_paused = true)]
async fn a_create_that_is_placed_carries_its_decision_and_costs_no_further_write() {
    let api = api();
    stock(&api);
    for name in ["node-1", "node-2", "node-3"] {
        node(&api, name).await;
    }
    cordon(&api, "node-3", "Cordoned");
    let replica = leader(&api).await;
    settle(&api).await;
    install_webhooks(&api, &Arc::new(Mutex::new(replica.router.clone())));
    let created = create(&api, &instance("web")).await.unwrap();
    let told = virga_core::instance::decision(&created).unwrap();
    assert_eq!(
        (told.decided_by, told.hosts, told.survivors),
        (DecidedBy::Admission, 3, 2)
    );
    assert_eq!(
        (told.rejections[0].filter.as_str(), told.rejections[0].hosts),
        ("ComputeFilter", 1)
    );
    assert_eq!((told.weights.len(), told.reservation_age_milliseconds), (2, None));
    let text = &created.metadata.annotations.as_ref().unwrap()[labels::SCHEDULING];
    assert!(!text.contains("node-"), "hosts are for operators: {text}");
    settle(&api).await;
    let writes = api.writes_to("instances", Some("shop"), "web");
    assert_eq!(writes.iter().filter(|write| write.user == CONTROLLER).count(), 0);

    let host = created.spec.node_name.unwrap();
    let kept = decisions(&memory(&replica), "/decisions/shop/web").await;
    let [kept] = kept.as_slice() else { panic!("{kept:?}") };
    assert_eq!(Some(&kept.uid), created.metadata.uid.as_ref(), "under the object's own");
    assert_eq!((kept.host.as_ref(), kept.best.len()), (Some(&host), 2));
    assert_eq!(kept.reservation.as_ref().unwrap().state, ReservationState::Bound);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_with_the_condition_and_a_binding_with_the_node_s_name() {
    let api = api();
    stock(&api);
    node(&api, "node-1").await;
    cordon(&api, "node-1", "Cordoned");
    let replica = leader(&api).await;
    settle(&api).await;
    api.create(&instance("web"));
    waits_for(&api, "web", Reason::NoValidHost).await;
    let refused = api.read::<Instance>(Some("shop"), "web").unwrap();
    let told = refused.status.unwrap().scheduling.unwrap();
    assert_eq!((told.decided_by, told.hosts, told.survivors), (DecidedBy::Queue, 1, 0));
    assert_eq!((told.rank, told.reservation_age_milliseconds), (None, None));
    let kept = decisions(&memory(&replica), "/decisions/shop/web").await;
    assert_eq!(
        kept[0].rejections[0].details[0].note, "ticket 7",
        "operators read operators' words"
    );
    assert_eq!(kept[0].reservation, None);

    cordon(&api, "node-1", "Enabled");
    assert_eq!(bound(&api, "web").await, "node-1");
    settle(&api).await;
    let told = carried(&api, "web").unwrap();
    assert_eq!((told.survivors, told.rank), (1, Some(1)));
    assert!(told.reservation_age_milliseconds.is_some());
    let found = api.read::<Instance>(Some("shop"), "web").unwrap();
    assert_eq!(
        found.status.unwrap_or_default().scheduling,
        None,
        "its agent says it from here on"
    );
    let writes = api.writes_to("instances", Some("shop"), "web");
    let writes: Vec<_> = writes.iter().filter(|write| write.user == CONTROLLER).collect();
    assert_eq!(writes.len(), 3, "refused, bound, handed over: {}", api.story());
    let kept = decisions(&memory(&replica), "/decisions/shop/web").await;
    assert!(kept.len() >= 2 && kept[0].host.is_some(), "{kept:?}");
}

#[tokio::test(start_paused = true)]
async fn a_decision_goes_with_the_host_that_did_not_take_the_instance() {
    let api = api();
    stock(&api);
    node(&api, "node-1").await;
    let _replica = leader(&api).await;
    api.create(&instance("web"));
    bound(&api, "web").await;
    settle(&api).await;
    assert!(carried(&api, "web").is_some());
    let condition = json!({
        "type": "Scheduled", "status": "False", "reason": "HostRejected", "message": "no room",
        "lastTransitionTime": format!("{:.0}", api.clock().now()),
    });
    let rejected = json!({"rejectedBy": ["node-1"], "conditions": [condition]});
    api.merge_status::<Instance>(Some("shop"), "web", rejected);
    waits_for(&api, "web", Reason::NoValidHost).await;
    assert_eq!(carried(&api, "web"), None);
    let told = api.read::<Instance>(Some("shop"), "web").unwrap().status.unwrap();
    assert_eq!(told.scheduling.unwrap().rejections[0].filter, "RetryFilter");
    node(&api, "node-2").await;
    assert_eq!(bound(&api, "web").await, "node-2");
    settle(&api).await;
    assert_eq!(carried(&api, "web").unwrap().hosts, 2);
}

#[tokio::test(start_paused = true)]
async fn nobody_but_the_controller_writes_how_it_was_decided() {
    let api = api();
    stock(&api);
    node(&api, "node-1").await;
    let replica = leader(&api).await;
    install_webhooks(&api, &Arc::new(Mutex::new(replica.router.clone())));
    let lie = |text: &str| Some([(labels::SCHEDULING.to_owned(), text.to_owned())].into());
    let mut object = instance("web");
    object.metadata.annotations = lie("{}");
    let created = create(&api, &object).await.unwrap();
    assert!(virga_core::instance::decision(&created).is_some());
    let said = created.metadata.annotations.unwrap()[labels::SCHEDULING].clone();

    // One that can't be placed yet has none, whatever its author says.
    let mut object = instance("waits");
    object.spec.flavor = "m9.none".into();
    object.metadata.annotations = lie(&said);
    let created = create(&api, &object).await.unwrap();
    assert!(
        !created
            .metadata
            .annotations
            .unwrap_or_default()
            .contains_key(labels::SCHEDULING)
    );

    for annotations in [
        json!({labels::SCHEDULING: "{}"}),
        json!({labels::SCHEDULING: null}),
        Value::Null,
    ] {
        let change = json!({"metadata": {"annotations": annotations}});
        let patch = kube::api::Patch::Merge(&change);
        let params = kube::api::PatchParams::default();
        let jane = kube::Api::<Instance>::namespaced(api.client_as("jane"), "shop");
        let changed = jane.patch("web", &params, &patch).await.unwrap();
        assert_eq!(
            changed.metadata.annotations.unwrap()[labels::SCHEDULING],
            said,
            "{change}"
        );
    }
    // Nor whether it can be resized.
    let jane = kube::Api::<Instance>::namespaced(api.client_as("jane"), "shop");
    let said = |text: &str| json!({"metadata": {"annotations": {labels::RESIZE: text}}});
    let patch = async |change: Value| {
        let patch = kube::api::Patch::Merge(&change);
        let params = kube::api::PatchParams::default();
        let changed = jane.patch("web", &params, &patch).await.unwrap();
        changed.metadata.annotations.unwrap().get(labels::RESIZE).cloned()
    };
    assert_eq!(patch(said("room")).await, None);
    let web = api.read::<Instance>(Some("shop"), "web").unwrap();
    let verdict = virga_crds::ResizeVerdict::default();
    let client = api.client_as(CONTROLLER);
    virga_controller::scheduling::resizes::say(&client, &web, &verdict)
        .await
        .unwrap();
    for lie in [said("room"), json!({"metadata": {"annotations": null}})] {
        let told: Option<virga_crds::ResizeVerdict> =
            patch(lie).await.and_then(|text| serde_json::from_str(&text).ok());
        assert_eq!(told.as_ref(), Some(&verdict));
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_leader_answers_and_never_with_more_than_is_asked() {
    let api = api();
    stock(&api);
    api.create(&flavor("m1.large"));
    api.create(&hypervisor("node-1"));
    let replica = leader(&api).await;
    let standby = Replica::start(&api, "b").await;
    for n in 0..5 {
        api.create(&instance(&format!("web-{n}")));
        waits_for(&api, &format!("web-{n}"), Reason::NoValidHost).await;
    }
    let router = memory(&replica);
    let all = decisions(&router, "/decisions").await;
    assert!(all.len() >= 5, "{all:?}");
    assert!(
        all.is_sorted_by(|one, next| one.decided_at.0 >= next.decided_at.0),
        "newest first"
    );
    assert_eq!(decisions(&router, "/decisions?limit=2").await.len(), 2);
    assert!(decisions(&router, "/decisions/shop/nobody").await.is_empty());
    assert!(decisions(&router, "/decisions/shop/web-3?limit=1").await[0].name == "web-3");
    assert_eq!(get(&router, "/decisions?limit=many").await.0, StatusCode::BAD_REQUEST);
    assert_eq!(get(&router, "/").await.0, StatusCode::NOT_FOUND);

    // It has to hear who leads first.
    settle(&api).await;
    settle(&api).await;
    settle(&api).await;
    let (code, body) = get(&memory(&standby), "/decisions").await;
    assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE);
    let trouble: Trouble = serde_json::from_str(&body).unwrap();
    assert_eq!(trouble.leader.as_deref(), Some("a"));
    replica.stop().await;
    assert_eq!(get(&router, "/decisions").await.0, StatusCode::SERVICE_UNAVAILABLE);
}
