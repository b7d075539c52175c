//! Writes as one field manager: only when something differs, bounded, and never to another object.

#[allow(dead_code, missing_docs)]
#[path = "../../testkit/tests/widget/mod.rs"]
mod widget;

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt;
use serde_json::json;
use virga_runtime::{
    apply::{Error, Writer},
    class::{Class, Classify},
};
use virga_testkit::{FakeApi, Fault};
use widget::{Widget, WidgetStatus, widget};

fn start() -> (FakeApi, Writer) {
    let api = FakeApi::new().with_crd::<Widget>();
    let writer = Writer::new(api.client(), "virga-test");
    (api, writer)
}

fn ready(status: &str, api: &FakeApi) -> WidgetStatus {
    let condition = Condition {
        type_: "Ready".into(),
        status: status.into(),
        reason: "AllIsWell".into(),
        message: String::new(),
        last_transition_time: Time(api.clock().now()),
        observed_generation: None,
    };
    WidgetStatus {
        state: Some("Active".into()),
        conditions: vec![condition],
    }
}

#[tokio::test(start_paused = true)]
async fn a_status_is_written_once_and_its_times_move_only_with_its_conditions() {
    let (api, writer) = start();
    let live = api.create(&widget("a"));
    let live = writer.apply_status(&live, &ready("True", &api)).await.unwrap().unwrap();

    tokio::time::advance(Duration::from_mins(1)).await;
    let mark = api.mark();
    assert!(
        writer
            .apply_status(&live, &ready("True", &api))
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        api.requests_since(mark).is_empty(),
        "nothing has changed, nothing is sent"
    );

    let mut other = ready("True", &api);
    other.state = Some("Stopped".into());
    let live = writer.apply_status(&live, &other).await.unwrap().unwrap();
    let time = |live: &Widget| {
        live.status.as_ref().unwrap().conditions[0]
            .last_transition_time
            .0
            .to_string()
    };
    assert_eq!(time(&live), "2026-01-01T00:00:00Z");
    let live = writer
        .apply_status(&live, &ready("False", &api))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(time(&live), "2026-01-01T00:01:00Z");
}

#[tokio::test(start_paused = true)]
async fn two_writers_keep_their_own_conditions_and_take_over_a_former_writers_field() {
    let (api, agent) = start();
    let controller = Writer::new(api.client(), "virga-controller");
    let live = api.create(&widget("a"));
    let mut scheduled = ready("True", &api);
    scheduled.conditions[0].type_ = "Scheduled".into();
    scheduled.state = Some("Building".into());
    let live = controller.apply_status(&live, &scheduled).await.unwrap().unwrap();
    let live = agent.apply_status(&live, &ready("True", &api)).await.unwrap().unwrap();
    let status = live.status.clone().unwrap();
    assert_eq!((status.state.as_deref(), status.conditions.len()), (Some("Active"), 2));
    assert!(agent.apply_status(&live, &ready("True", &api)).await.unwrap().is_none());

    scheduled.state = None;
    let live = controller
        .apply_status(&live, &WidgetStatus::default())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        live.status.unwrap().conditions.len(),
        1,
        "what the controller no longer says is gone"
    );
}

#[tokio::test(start_paused = true)]
async fn a_writer_without_conditions_is_silent_beside_one_that_has_some() {
    let (api, agent) = start();
    let controller = Writer::new(api.client(), "virga-controller");
    let live = api.create(&widget("a"));
    let state = json!({"state": "Building", "conditions": []});
    let live = controller.apply_status(&live, &state).await.unwrap().unwrap();
    let conditions = json!({"conditions": ready("True", &api).conditions});
    let live = agent.apply_status(&live, &conditions).await.unwrap().unwrap();
    assert!(controller.apply_status(&live, &state).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn an_apply_is_sent_only_when_something_differs() {
    let (api, writer) = start();
    let mut wanted = widget("a");
    wanted.spec.node_name = Some("n1".into());
    let live = writer.apply(None, &wanted).await.unwrap().unwrap();
    let mark = api.mark();
    assert!(writer.apply(Some(&live), &wanted).await.unwrap().is_none());
    assert!(api.requests_since(mark).is_empty());

    wanted.spec.node_name = None;
    let live = writer.apply(Some(&live), &wanted).await.unwrap().unwrap();
    assert_eq!(
        live.spec.node_name, None,
        "a field that is no longer wanted is taken away"
    );
}

#[tokio::test(start_paused = true)]
async fn part_of_an_object_can_be_claimed_and_a_rival_is_told() {
    let (api, writer) = start();
    let live = api.create(&widget("a"));
    let bind = |node: &str| json!({"spec": {"nodeName": node}});
    let live = writer
        .apply_fields(Some(&live), Some("shop"), "a", bind("n1"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        api.managers_of_field("widgets", Some("shop"), "a", "spec.nodeName"),
        ["virga-test".to_owned()].into()
    );

    let rival = Writer::new(api.client(), "rival");
    let error = rival
        .apply_fields(Some(&live), Some("shop"), "a", bind("n2"))
        .await
        .unwrap_err();
    assert!(error.is_conflict());
    assert_eq!(error.to_string(), "applying Widget shop/a as rival");
    assert_eq!(error.class(), Class::Transient);
}

#[tokio::test(start_paused = true)]
async fn an_object_that_was_made_anew_is_not_written_to() {
    let (api, writer) = start();
    let old = api.create(&widget("a"));
    api.delete::<Widget>(Some("shop"), "a");
    api.create(&widget("a"));
    assert!(matches!(
        writer.apply_status(&old, &ready("True", &api)).await.unwrap_err(),
        Error::Raced { .. }
    ));
    assert!(matches!(
        writer.add_finalizer(&old, "virga.dev/test").await.unwrap_err(),
        Error::Raced { .. }
    ));
    writer.delete(&old).await.unwrap();
    let new = api.read::<Widget>(Some("shop"), "a").unwrap();
    assert!(new.status.is_none() && new.finalizers().is_empty());
}

#[tokio::test(start_paused = true)]
async fn finalizers_come_and_go_and_races_are_noticed() {
    let (api, writer) = start();
    let live = api.create(&widget("a"));
    let one = writer.add_finalizer(&live, "virga.dev/one").await.unwrap().unwrap();
    assert!(writer.add_finalizer(&one, "virga.dev/one").await.unwrap().is_none());
    let error = writer.add_finalizer(&live, "virga.dev/two").await.unwrap_err();
    assert_eq!(
        (error.class(), matches!(error, Error::Raced { .. })),
        (Class::Transient, true)
    );
    let two = writer.add_finalizer(&one, "virga.dev/two").await.unwrap().unwrap();

    let left = writer.remove_finalizer(&two, "virga.dev/one").await.unwrap().unwrap();
    assert_eq!(left.finalizers(), ["virga.dev/two"]);
    assert!(matches!(
        writer.remove_finalizer(&two, "virga.dev/one").await.unwrap_err(),
        Error::Raced { .. }
    ));
    writer.delete(&left).await.unwrap();
    writer.remove_finalizer(&left, "virga.dev/two").await.unwrap();
    assert!(api.list::<Widget>().is_empty());
    assert!(
        writer.remove_finalizer(&left, "virga.dev/two").await.unwrap().is_none(),
        "gone is as good"
    );
}

#[tokio::test(start_paused = true)]
async fn creating_twice_and_deleting_twice_do_no_harm() {
    let (_api, writer) = start();
    let made = writer.create(&widget("a")).await.unwrap().unwrap();
    assert!(writer.create(&widget("a")).await.unwrap().is_none());
    writer.delete(&made).await.unwrap();
    writer.delete(&made).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_write_without_an_answer_ends_in_time_and_says_so() {
    let (api, writer) = start();
    api.inject(Fault::hang());
    let error = writer
        .with_timeout(Duration::from_secs(5))
        .create(&widget("a"))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "creating Widget shop/a as virga-test: no answer within 5 s"
    );
    assert_eq!(error.class(), Class::Transient);
}
