use k8s_openapi::{
    api::core::v1::{ConfigMap, Secret},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde_json::json;
use virga_testkit::FakeApi;

use super::*;

fn config_map(name: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.into()),
            namespace: Some("shop".into()),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    }
}

fn story<K: Resource<DynamicType = ()>>(change: &Change<K>) -> String {
    let (word, object) = match change {
        Change::Applied(object) => ("applied", object),
        Change::Deleted(object) => ("deleted", object),
    };
    format!("{word} {}", object.name_any())
}

#[tokio::test(start_paused = true)]
async fn a_reader_sees_what_is_there_and_then_each_change() {
    let api = FakeApi::new();
    api.create(&config_map("a"));
    let watch = Watch::<ConfigMap>::all(api.client(), watcher::Config::default());
    let mut changes = watch.changes().map(|change| story(&change)).boxed();
    let store = watch.store();
    tokio::spawn(watch.run(CancellationToken::new()));

    assert!(ready(&store).await);
    assert_eq!(changes.next().await.unwrap(), "applied a");
    api.create(&config_map("b"));
    assert_eq!(changes.next().await.unwrap(), "applied b");
    api.delete::<ConfigMap>(Some("shop"), "a");
    assert_eq!(changes.next().await.unwrap(), "deleted a");
    assert_eq!(store.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn changes_made_while_the_watch_was_expired_are_found_by_the_new_list() {
    let api = FakeApi::new();
    api.create(&config_map("a"));
    api.create(&config_map("b"));
    let watch = Watch::<ConfigMap>::all(api.client(), watcher::Config::default());
    let mut changes = watch.changes().map(|change| story(&change)).boxed();
    tokio::spawn(watch.run(CancellationToken::new()));
    assert_eq!(changes.next().await.unwrap(), "applied a");
    assert_eq!(changes.next().await.unwrap(), "applied b");

    api.hold_watches();
    api.delete::<ConfigMap>(Some("shop"), "a");
    api.create(&config_map("c"));
    api.expire_watches();
    api.release_watches();
    assert_eq!(changes.next().await.unwrap(), "applied c");
    assert_eq!(changes.next().await.unwrap(), "deleted a");
}

#[tokio::test(start_paused = true)]
async fn an_object_that_can_no_longer_be_read_leaves_the_store() {
    let api = FakeApi::new();
    let metadata = config_map("s").metadata;
    api.create(&Secret {
        metadata,
        ..Secret::default()
    });
    let watch = Watch::<Secret>::all(api.client(), watcher::Config::default());
    let mut changes = watch.changes().map(|change| story(&change)).boxed();
    let store = watch.store();
    let (tx, mut rx) = tokio::sync::mpsc::unbounded_channel();
    let watch = watch.on_invalid(move |invalid| drop(tx.send(invalid.metadata.name.clone())));
    tokio::spawn(watch.run(CancellationToken::new()));
    assert_eq!(changes.next().await.unwrap(), "applied s");

    api.merge::<Secret>(Some("shop"), "s", json!({"data": "not a map"}));
    assert_eq!(changes.next().await.unwrap(), "deleted s");
    assert!(store.is_empty());
    assert_eq!(rx.recv().await.unwrap().as_deref(), Some("s"));
}

#[tokio::test(start_paused = true)]
async fn all_who_wait_for_a_store_are_woken() {
    let api = FakeApi::new();
    let watch = Watch::<ConfigMap>::all(api.client(), watcher::Config::default());
    let waiters: Vec<_> = (0..3)
        .map(|_| {
            let store = watch.store();
            tokio::spawn(async move { ready(&store).await })
        })
        .collect();
    tokio::task::yield_now().await;
    tokio::spawn(watch.run(CancellationToken::new()));
    for waiter in waiters {
        let woken = tokio::time::timeout(Duration::from_secs(1), waiter).await;
        assert!(woken.unwrap().unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn streams_end_when_the_watch_is_stopped() {
    let api = FakeApi::new();
    let watch = Watch::<ConfigMap>::within(api.client(), "shop", watcher::Config::default());
    let changes = watch.touched();
    let stop = CancellationToken::new();
    tokio::spawn(watch.run(stop.clone()));
    stop.cancel();
    let rest = tokio::time::timeout(Duration::from_secs(1), changes.collect::<Vec<_>>()).await;
    assert!(rest.unwrap().is_empty());
}
