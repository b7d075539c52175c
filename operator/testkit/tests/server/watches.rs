//! Lists and watches.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use kube::{
    Api, ResourceExt,
    api::{ListParams, WatchEvent, WatchParams},
    core::PartialObjectMeta,
};
use serde_json::{Value, json};

use crate::{
    code, start,
    widget::{Widget, widget},
};

fn word(event: &WatchEvent<Widget>) -> String {
    match event {
        WatchEvent::Added(w) => format!("added {}", w.name_any()),
        WatchEvent::Modified(w) => format!("modified {}", w.name_any()),
        WatchEvent::Deleted(w) => format!("deleted {}", w.name_any()),
        WatchEvent::Bookmark(b) if b.metadata.annotations.is_empty() => "bookmark".into(),
        WatchEvent::Bookmark(_) => "end of list".into(),
        WatchEvent::Error(status) => format!("error {}", status.code),
    }
}

async fn words(widgets: &Api<Widget>, params: WatchParams, version: &str, count: usize) -> Vec<String> {
    let events = widgets.watch(&params, version).await.expect("a watch begins");
    events
        .map_ok(|event| word(&event))
        .take(count)
        .try_collect()
        .await
        .expect("events are readable")
}

/// The version of the whole list now: where a watch can begin.
async fn newest(widgets: &Api<Widget>) -> String {
    let list = widgets.list(&ListParams::default()).await.expect("a list");
    list.metadata.resource_version.expect("its version")
}

#[tokio::test(start_paused = true)]
async fn a_list_comes_in_pages_and_by_selector() {
    let (api, widgets) = start();
    for name in ["a", "b", "c", "d", "e"] {
        let mut wanted = widget(name);
        wanted.spec.node_name = (name > "b").then(|| "n1".into());
        api.create(&wanted);
    }
    let page = widgets
        .list(&ListParams::default().limit(2).fields("spec.nodeName=n1"))
        .await
        .unwrap();
    assert_eq!(
        page.items.iter().map(ResourceExt::name_any).collect::<Vec<_>>(),
        ["c", "d"]
    );
    let token = page.metadata.continue_.unwrap();
    let rest = widgets
        .list(
            &ListParams::default()
                .limit(2)
                .fields("spec.nodeName=n1")
                .continue_token(&token),
        )
        .await
        .unwrap();
    assert_eq!(rest.items.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), ["e"]);
    assert!(rest.metadata.continue_.is_none());

    api.expire_watches();
    let error = widgets
        .list(&ListParams::default().limit(2).continue_token(&token))
        .await
        .unwrap_err();
    assert_eq!(code(&error), 410);
    let named = widgets
        .list(&ListParams::default().fields("metadata.name=d"))
        .await
        .unwrap();
    assert_eq!(named.items.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_watch_replays_from_a_version_and_hears_what_begins_and_ceases_to_match() {
    let (api, widgets) = start();
    let before = newest(&widgets).await;
    api.create(&widget("a"));
    let node = |node: Value| json!({"spec": {"nodeName": node}});
    api.merge::<Widget>(Some("shop"), "a", node(json!("n1")));
    api.merge::<Widget>(Some("shop"), "a", json!({"spec": {"size": 2}}));
    api.merge::<Widget>(Some("shop"), "a", node(json!("n2")));
    let mine = WatchParams::default().fields("spec.nodeName=n1");
    assert_eq!(
        words(&widgets, mine, &before, 4).await,
        ["added a", "modified a", "deleted a", "bookmark"]
    );
    let all = words(&widgets, WatchParams::default(), &before, 4).await;
    assert_eq!(all, ["added a", "modified a", "modified a", "modified a"]);
}

#[tokio::test(start_paused = true)]
async fn a_streaming_list_ends_with_a_marked_bookmark() {
    let (api, widgets) = start();
    api.create(&widget("a"));
    let heard = words(&widgets, WatchParams::streaming_lists(), "0", 2).await;
    assert_eq!(heard, ["added a", "end of list"]);
}

#[tokio::test(start_paused = true)]
async fn an_expired_watch_says_gone_and_a_dropped_one_just_ends() {
    let (api, widgets) = start();
    let made = api.create(&widget("a"));
    let version = made.resource_version().unwrap();
    let mut events = widgets.watch(&WatchParams::default(), &version).await.unwrap().boxed();
    let expiring = tokio::spawn(async move { events.next().await });
    tokio::task::yield_now().await;
    api.expire_watches();
    assert_eq!(word(&expiring.await.unwrap().unwrap().unwrap()), "error 410");
    assert_eq!(
        words(&widgets, WatchParams::default(), &version, 1).await,
        ["error 410"],
        "nor can it begin there again"
    );

    let version = newest(&widgets).await;
    let mut events = widgets.watch(&WatchParams::default(), &version).await.unwrap().boxed();
    api.drop_watches();
    assert!(events.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn held_watches_hear_later_what_they_missed() {
    let (api, widgets) = start();
    let version = newest(&widgets).await;
    let mut events = widgets
        .watch(&WatchParams::default().disable_bookmarks(), &version)
        .await
        .unwrap()
        .boxed();
    api.hold_watches();
    api.create(&widget("a"));
    assert!(
        tokio::time::timeout(Duration::from_secs(5), events.next())
            .await
            .is_err()
    );
    api.release_watches();
    assert_eq!(word(&events.next().await.unwrap().unwrap()), "added a");
}

#[tokio::test(start_paused = true)]
async fn metadata_can_be_had_alone() {
    let (api, _) = start();
    api.create(&widget("a"));
    let metas: Api<PartialObjectMeta<Widget>> = Api::namespaced(api.client(), "shop");
    assert_eq!(
        metas.list(&ListParams::default()).await.unwrap().items[0].name_any(),
        "a"
    );
}
