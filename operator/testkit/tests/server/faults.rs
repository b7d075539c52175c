//! Faults, the log, and webhooks.

use std::{collections::BTreeSet, time::Duration};

use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use serde_json::{Value, json};
use virga_testkit::{Fault, Verb};

use crate::{
    apply, body, code, start,
    widget::{Widget, widget},
};

#[tokio::test(start_paused = true)]
async fn faults_strike_the_requests_that_they_name() {
    let (api, widgets) = start();
    api.inject(Fault::status(503).verb(Verb::Create).resource("widgets").times(1));
    assert_eq!(
        code(&widgets.create(&PostParams::default(), &widget("a")).await.unwrap_err()),
        503
    );
    api.inject(Fault::commit_then_status(500).verb(Verb::Create).times(1));
    assert_eq!(
        code(&widgets.create(&PostParams::default(), &widget("a")).await.unwrap_err()),
        500
    );
    assert!(
        api.read::<Widget>(Some("shop"), "a").is_some(),
        "the write was done, but the caller does not know"
    );

    api.inject(Fault::disconnect().name("a"));
    assert!(matches!(widgets.get("a").await.unwrap_err(), kube::Error::Service(_)));
    api.heal();
    api.inject(Fault::delay(Duration::from_secs(7)).times(1));
    let began = tokio::time::Instant::now();
    widgets.get("a").await.unwrap();
    assert_eq!(began.elapsed(), Duration::from_secs(7));
    api.inject(Fault::commit_then_hang().user("slow"));
    let slow: Api<Widget> = Api::namespaced(api.client_as("slow"), "shop");
    let params = DeleteParams::default();
    let write = slow.delete("a", &params);
    assert!(tokio::time::timeout(Duration::from_secs(5), write).await.is_err());
    assert!(api.list::<Widget>().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_log_knows_which_rights_were_used() {
    let (api, _) = start();
    let widgets: Api<Widget> = Api::namespaced(api.client_as("agent"), "shop");
    widgets
        .patch("a", &apply("one"), &body(&json!({"spec": {"size": 3}})))
        .await
        .unwrap();
    widgets
        .patch_status("a", &apply("one"), &body(&json!({"status": {"state": "Active"}})))
        .await
        .unwrap();
    let used = api.verbs_used_by("agent");
    let of = |resource: &str| {
        used.get(&("test.virga.dev".to_owned(), resource.to_owned()))
            .cloned()
            .unwrap_or_default()
    };
    assert_eq!(
        of("widgets"),
        BTreeSet::from(["create", "patch"]),
        "an apply that makes an object creates"
    );
    assert_eq!(of("widgets/status"), BTreeSet::from(["patch"]));
    assert_eq!(api.verbs_used(), used);
    let story = api.story();
    assert!(
        story.ends_with("patch widgets/status shop/a by agent as one -> 200 changed\n"),
        "{story}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_webhook_can_change_and_deny() {
    let (api, widgets) = start();
    api.on_admission("widgets", |review: Value| async move {
        let request = &review["request"];
        let response = if request["object"]["spec"]["size"] == 13 {
            json!({"uid": request["uid"], "allowed": false, "status": {"message": "unlucky", "code": 422}})
        } else {
            // [{"op":"add","path":"/spec/nodeName","value":"n1"}]
            let patch = "W3sib3AiOiJhZGQiLCJwYXRoIjoiL3NwZWMvbm9kZU5hbWUiLCJ2YWx1ZSI6Im4xIn1d";
            json!({"uid": request["uid"], "allowed": true, "patchType": "JSONPatch", "patch": patch})
        };
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
    });
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let shown = widgets.create(&dry, &widget("a")).await.unwrap();
    assert_eq!(shown.spec.node_name.as_deref(), Some("n1"));
    assert!(api.list::<Widget>().is_empty());

    let made = widgets.create(&PostParams::default(), &widget("a")).await.unwrap();
    assert_eq!(made.spec.node_name.as_deref(), Some("n1"));
    let mut wrong = widget("b");
    wrong.spec.size = 13;
    let error = widgets.create(&PostParams::default(), &wrong).await.unwrap_err();
    assert_eq!(code(&error), 422);
    assert!(error.to_string().contains("unlucky"), "{error}");
}
