//! Field ownership by server-side apply.

use std::collections::BTreeSet;

use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::{apply, body, code, start, widget::widget};

#[tokio::test(start_paused = true)]
async fn two_appliers_conflict_over_one_value_and_share_the_same() {
    let (api, widgets) = start();
    widgets
        .patch("a", &apply("one"), &body(&json!({"spec": {"size": 3}})))
        .await
        .unwrap();
    let error = widgets
        .patch("a", &apply("two"), &body(&json!({"spec": {"size": 4}})))
        .await
        .unwrap_err();
    assert_eq!(code(&error), 409);
    assert!(
        error.to_string().contains(r#"conflict with "one": .spec.size"#),
        "{error}"
    );

    widgets
        .patch(
            "a",
            &apply("two"),
            &body(&json!({"spec": {"size": 3, "nodeName": "n1"}})),
        )
        .await
        .unwrap();
    assert_eq!(
        api.managers_of_field("widgets", Some("shop"), "a", "spec.size"),
        BTreeSet::from(["one".into(), "two".into()])
    );
    let seen = widgets
        .patch("a", &apply("one").force(), &body(&json!({"spec": {"size": 5}})))
        .await
        .unwrap();
    assert_eq!(seen.spec.size, 5);
    assert_eq!(
        api.managers_of_field("widgets", Some("shop"), "a", "spec.size"),
        BTreeSet::from(["one".into()])
    );
    assert_eq!(
        api.managers_of_field("widgets", Some("shop"), "a", "spec.nodeName"),
        BTreeSet::from(["two".into()])
    );
}

#[tokio::test(start_paused = true)]
async fn a_field_that_its_applier_no_longer_sends_goes_and_defaults_come_back() {
    let (_api, widgets) = start();
    widgets
        .patch(
            "a",
            &apply("one"),
            &body(&json!({"spec": {"size": 3, "nodeName": "n1"}})),
        )
        .await
        .unwrap();
    let seen = widgets
        .patch("a", &apply("one"), &body(&json!({"spec": {"notes": {"a": "b"}}})))
        .await
        .unwrap();
    assert_eq!((seen.spec.size, seen.spec.node_name), (1, None));
}

#[tokio::test(start_paused = true)]
async fn conditions_of_two_managers_are_kept_apart_by_type() {
    let (api, widgets) = start();
    api.create(&widget("a"));
    let condition = |name: &str, status: &str| {
        let time = "2026-01-01T00:00:00Z";
        body(&json!({"status": {"conditions": [
            {"type": name, "status": status, "reason": "R", "message": "", "lastTransitionTime": time}
        ]}}))
    };
    widgets
        .patch_status("a", &apply("one"), &condition("Scheduled", "True"))
        .await
        .unwrap();
    widgets
        .patch_status("a", &apply("two"), &condition("Running", "False"))
        .await
        .unwrap();
    let seen = widgets
        .patch_status("a", &apply("two"), &condition("Running", "True"))
        .await
        .unwrap();
    let types: Vec<_> = seen
        .status
        .unwrap()
        .conditions
        .into_iter()
        .map(|c| (c.type_, c.status))
        .collect();
    assert_eq!(
        types,
        [("Scheduled".into(), "True".into()), ("Running".into(), "True".into())]
    );
    let seen = widgets
        .patch_status("a", &apply("one"), &body(&json!({"status": {}})))
        .await
        .unwrap();
    assert_eq!(seen.status.unwrap().conditions.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn applying_a_field_that_the_schema_does_not_know_is_refused() {
    let (_api, widgets) = start();
    let error = widgets
        .patch("a", &apply("one"), &body(&json!({"spec": {"sise": 3}})))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains(".spec.sise: field not declared in schema"),
        "{error}"
    );
    let patch = Patch::Apply(json!({"apiVersion": "test.virga.dev/v1", "kind": "Widget", "spec": {"size": 1}}));
    let error = widgets.patch("a", &PatchParams::default(), &patch).await.unwrap_err();
    assert_eq!(code(&error), 400, "an apply must name its manager");
}

#[tokio::test(start_paused = true)]
async fn an_apply_for_an_object_that_is_gone_does_not_make_another() {
    let (api, widgets) = start();
    let error = widgets
        .patch("a", &apply("one"), &body(&json!({"metadata": {"uid": "x"}})))
        .await
        .unwrap_err();
    assert_eq!(code(&error), 409);
    api.create(&widget("a"));
    let error = widgets
        .patch("a", &apply("one"), &body(&json!({"metadata": {"uid": "x"}})))
        .await
        .unwrap_err();
    assert_eq!(code(&error), 409);
}

#[tokio::test(start_paused = true)]
async fn an_owner_can_not_take_away_half_of_a_condition_that_two_have_said() {
    let (_api, widgets) = start();
    let said = |status: &str, reason: &str| {
        json!({"status": {"conditions": [{
            "type": "Ready", "status": status, "reason": reason, "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }]}})
    };
    widgets
        .patch("a", &apply("one"), &body(&json!({"spec": {"size": 3}})))
        .await
        .unwrap();
    widgets
        .patch_status("a", &apply("one"), &body(&said("True", "Fine")))
        .await
        .unwrap();
    widgets
        .patch_status("a", &apply("two").force(), &body(&said("Unknown", "Lost")))
        .await
        .unwrap();
    // The type is the first one's too, the status is not.
    let error = widgets
        .patch_status("a", &apply("two"), &body(&json!({})))
        .await
        .unwrap_err();
    assert_eq!(code(&error), 422, "{error}");

    widgets
        .patch_status("a", &apply("one").force(), &body(&said("True", "Fine")))
        .await
        .unwrap();
    let left = widgets
        .patch_status("a", &apply("two"), &body(&json!({})))
        .await
        .unwrap();
    assert_eq!(left.status.unwrap().conditions[0].reason, "Fine");
}
