//! A real kube controller over the fake API: finalizer, status, deletion, faults, and silence when all is done.

#[allow(dead_code, missing_docs)]
mod widget;

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
    runtime::{
        controller::{Action, Controller},
        finalizer::{Event, finalizer},
        watcher,
    },
};
use serde_json::json;
use virga_testkit::{FakeApi, Fault, Verb};
use widget::{Widget, widget};

type Failure = kube::runtime::finalizer::Error<kube::Error>;

async fn settle_state(widgets: Api<Widget>, object: Arc<Widget>) -> Result<Action, Failure> {
    let status = widgets.clone();
    finalizer(&widgets, "virga.dev/test", object, |event| async move {
        if let Event::Apply(object) = event {
            let state = json!({"apiVersion": "test.virga.dev/v1", "kind": "Widget", "status": {"state": "Active"}});
            if object.status.as_ref().and_then(|status| status.state.as_deref()) != Some("Active") {
                let params = PatchParams::apply("test").force();
                status
                    .patch_status(&object.name_any(), &params, &Patch::Apply(state))
                    .await?;
            }
        }
        Ok(Action::await_change())
    })
    .await
}

fn start(api: &FakeApi, config: watcher::Config) {
    let widgets: Api<Widget> = Api::namespaced(api.client_as("controller"), "shop");
    let run = Controller::new(widgets.clone(), config).run(
        |object, widgets: Arc<Api<Widget>>| settle_state((*widgets).clone(), object),
        |_, _, _| Action::requeue(Duration::from_secs(5)),
        Arc::new(widgets),
    );
    tokio::spawn(run.for_each(async |_| ()));
}

fn is_active(object: Option<&Widget>) -> bool {
    object.and_then(|object| object.status.as_ref()?.state.as_deref()) == Some("Active")
}

#[tokio::test(start_paused = true)]
async fn a_controller_brings_an_object_up_and_lets_it_go_and_then_is_silent() {
    for config in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let api = FakeApi::new().with_crd::<Widget>();
        start(&api, config);
        api.create(&widget("a"));
        api.await_condition(Some("shop"), "a", is_active).await;
        let writes = api.writes_to("widgets", Some("shop"), "a");
        assert_eq!(writes.len(), 2, "the finalizer and the status:\n{}", api.story());

        api.settle(Duration::from_secs(30)).await;
        let mark = api.mark();
        tokio::time::sleep(Duration::from_hours(1)).await;
        assert!(api.requests_since(mark).is_empty(), "{}", api.story());

        api.delete::<Widget>(Some("shop"), "a");
        api.await_condition::<Widget>(Some("shop"), "a", |object| object.is_none())
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_controller_gets_over_lost_watches_and_failed_writes() {
    let api = FakeApi::new().with_crd::<Widget>();
    start(&api, watcher::Config::default());
    api.inject(
        Fault::status(500)
            .verb(Verb::Patch)
            .resource("widgets")
            .subresource("status")
            .times(3),
    );
    api.inject(
        Fault::commit_then_status(504)
            .verb(Verb::Patch)
            .resource("widgets")
            .subresource("")
            .times(1),
    );
    api.create(&widget("a"));
    api.settle(Duration::from_secs(1)).await;
    api.expire_watches();
    api.create(&widget("b"));
    api.drop_watches();
    for name in ["a", "b"] {
        api.await_condition(Some("shop"), name, is_active).await;
    }
}

/// kube's queue has no order between objects; what happens to each one is the same every time.
#[tokio::test(start_paused = true)]
async fn the_same_story_is_told_each_time_object_by_object() {
    let mut stories = Vec::new();
    for _ in 0..3 {
        let api = FakeApi::new().with_crd::<Widget>();
        start(&api, watcher::Config::default());
        let names = ["a", "b", "c"];
        for name in names {
            api.create(&widget(name));
        }
        for name in names {
            api.await_condition(Some("shop"), name, is_active).await;
        }
        let story = names.map(|name| {
            let writes = api.writes_to("widgets", Some("shop"), name);
            writes.iter().map(ToString::to_string).collect::<Vec<_>>()
        });
        stories.push(story);
    }
    assert_eq!(stories[0], stories[1]);
    assert_eq!(stories[1], stories[2]);
}
