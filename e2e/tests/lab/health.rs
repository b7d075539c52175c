//! How an Instance does, and who did what to it.

use k8s_openapi::jiff::Timestamp;
use serde_json::json;
use virga_crds::{ActionName, ActionResult, Instance, InstanceState};
use virga_e2e::objects::{instance, plugged};
use virga_e2e::{BOUND, Installation, eventually, is_ready, with_temp_namespace};

use crate::{GUEST, await_up, given_a_place_for_guests, given_a_place_for_idle_instances, host, idle};

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

#[tokio::test]
async fn a_guest_s_agent_and_its_figures_are_seen_while_it_runs() {
    let (installation, _turn) = Installation::turn().await;
    let Some(lab) = installation.lab("reads the agent's metrics on its node") else {
        return;
    };
    with_temp_namespace(&installation.cluster, async |t| {
        let flavor = given_a_place_for_guests(&t, "10.42.0.0/24").await;
        t.create(plugged(instance("talker", &flavor), "net")).await;
        let talker = t.await_within::<Instance>(GUEST, "talker", "Ready", is_ready).await;
        let node = host(lab, &talker);
        await_up(&node, &talker, 1).await;
        // Half a minute after its agent connects it is asked.
        let told = t
            .await_within::<Instance>(GUEST, "talker", "told of by its agent", |found| {
                found.status.as_ref().is_some_and(|status| status.guest.is_some())
            })
            .await;
        let guest = told.status.unwrap().guest.unwrap();
        assert_eq!(guest.hostname.as_deref(), Some("talker"));
        assert!(
            guest.interfaces.iter().any(|interface| !interface.addresses.is_empty()),
            "{guest:?}"
        );
        let figures = async || {
            let page = node.run(&[
                "curl",
                "--silent",
                "--fail",
                "--max-time",
                "5",
                "http://127.0.0.1:9190/metrics",
            ]);
            page.map_err(|error| error.to_string())
        };
        eventually("its figures are metrics", BOUND, async || {
            let page = figures().await?;
            let cpu = format!(
                "virga_instance_cpu_usage_seconds_total{{namespace=\"{}\",instance=\"talker\"}}",
                t.namespace
            );
            page.contains(&cpu).then_some(()).ok_or(page)
        })
        .await;
        t.delete::<Instance>(GUEST, "talker").await;
        eventually("its figures are gone", BOUND, async || {
            let page = figures().await?;
            (!page.contains("instance=\"talker\"")).then_some(()).ok_or(page)
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_guest_is_interrupted_soft_deleted_restored_and_reclaimed() {
    let (installation, _turn) = Installation::turn().await;
    let Some(lab) = installation.lab("reads a console on its node") else {
        return;
    };
    with_temp_namespace(&installation.cluster, async |t| {
        let flavor = given_a_place_for_guests(&t, "10.43.0.0/24").await;
        t.create(plugged(instance("lucky", &flavor), "net")).await;
        let lucky = t.await_within::<Instance>(GUEST, "lucky", "Ready", is_ready).await;
        let node = host(lab, &lucky);
        await_up(&node, &lucky, 1).await;
        let at = Timestamp::from_second(Timestamp::now().as_second()).unwrap();
        t.patch::<Instance>("lucky", json!({"spec": {"crashDump": {"at": at}}}))
            .await;
        t.await_within::<Instance>(BOUND, "lucky", "interrupted", |found| {
            let told = found.status.as_ref().and_then(|status| status.crash_dump.as_ref());
            is_ready(found) && told.is_some_and(|told| told.at.0 == at && told.finished_at.is_some())
        })
        .await;
        let is = |state: InstanceState| {
            move |found: &Instance| {
                let told = found.status.as_ref().and_then(|status| status.state);
                is_ready(found) && told == Some(state)
            }
        };
        let gone_for =
            |window: Option<&str>| json!({"spec": {"softDelete": window.map(|after| json!({"reclaimAfter": after}))}});
        t.patch::<Instance>("lucky", gone_for(Some("1h"))).await;
        t.await_within::<Instance>(GUEST, "lucky", "soft-deleted", is(InstanceState::SoftDeleted))
            .await;
        t.patch::<Instance>("lucky", gone_for(None)).await;
        t.await_within::<Instance>(GUEST, "lucky", "restored", is(InstanceState::Active))
            .await;
        // One that starts does not hear the power button yet, and is ended after a minute.
        await_up(&node, &lucky, 2).await;
        t.patch::<Instance>("lucky", gone_for(Some("5s"))).await;
        t.await_gone::<Instance>(GUEST, "lucky").await;
    })
    .await;
}
