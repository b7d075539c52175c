//! How an Instance does, and who did what to it.

use serde_json::json;
use virga_crds::{ActionName, ActionResult, Instance};
use virga_e2e::{BOUND, Installation, is_ready, with_temp_namespace};

use crate::{GUEST, given_a_place_for_idle_instances, idle};

#[tokio::test]
async fn who_did_what_is_in_the_status() {
    let (installation, _turn) = Installation::turn().await;
    let Some(lab) = installation.lab("makes an image on its nodes") else {
        return;
    };
    with_temp_namespace(&installation.cluster, async |t| {
        let flavor = given_a_place_for_idle_instances(&t, lab, "10.41.0.0/24").await;
        t.create(idle("watched", &flavor)).await;
        t.await_within::<Instance>(GUEST, "watched", "Ready", is_ready).await;
        t.patch::<Instance>("watched", json!({"spec": {"powerState": "Paused"}}))
            .await;
        let paused = t
            .await_within::<Instance>(BOUND, "watched", "paused", |found| {
                let actions = found.status.as_ref().map(|status| &status.actions);
                actions.is_some_and(|rows| rows.first().is_some_and(|row| row.result.is_some() && rows.len() == 2))
            })
            .await;
        let rows = paused.status.unwrap().actions;
        let told: Vec<_> = rows.iter().map(|row| (row.action, row.result)).collect();
        let done = Some(ActionResult::Succeeded);
        assert_eq!(told, [(ActionName::Pause, done), (ActionName::Create, done)]);
        assert!(rows[0].requested_by.is_some(), "{rows:?}");
        assert_eq!(rows[0].requested_by, rows[1].requested_by);
        // Nobody puts it down to somebody else.
        let forged = json!({"metadata": {"annotations": {"virga.dev/requested-by": r#"{"powerState":"eve"}"#}},
            "spec": {"powerState": "Running"}});
        t.patch::<Instance>("watched", forged).await;
        let running = t
            .await_within::<Instance>(BOUND, "watched", "running", |found| {
                let actions = found.status.as_ref().map(|status| &status.actions);
                actions.is_some_and(|rows| rows[0].action == ActionName::Unpause)
            })
            .await;
        assert_eq!(running.status.unwrap().actions[0].requested_by, rows[0].requested_by);
    })
    .await;
}
