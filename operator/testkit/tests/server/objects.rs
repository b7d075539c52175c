//! Objects: what a server gives them, and the doors and rules of writing them.

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::{
    api::coordination::v1::Lease,
    api::core::v1::{ConfigMap, Namespace, Secret},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, WatchParams},
    core::ObjectMeta,
};
use serde_json::json;
use virga_testkit::FakeApi;

use crate::{
    apply, body, code, start,
    widget::{Widget, WidgetStatus, widget},
};

#[tokio::test(start_paused = true)]
async fn a_created_object_gets_what_only_the_server_gives() {
    let (_api, widgets) = start();
    let mut wanted = widget("a");
    wanted.status = Some(WidgetStatus {
        state: Some("Active".into()),
        ..WidgetStatus::default()
    });
    let made = widgets.create(&PostParams::default(), &wanted).await.unwrap();
    assert!(made.uid().is_some() && made.resource_version().is_some());
    assert_eq!(made.meta().generation, Some(1));
    assert_eq!(made.creation_timestamp().unwrap().0.to_string(), "2026-01-01T00:00:00Z");
    assert!(made.status.is_none(), "status has its own door");

    let error = widgets.create(&PostParams::default(), &wanted).await.unwrap_err();
    assert!(
        matches!(&error, kube::Error::Api(status) if status.is_already_exists()),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_test_can_make_an_object_with_its_status_and_change_both() {
    let (api, _) = start();
    let mut wanted = widget("a");
    wanted.status = Some(WidgetStatus {
        state: Some("Active".into()),
        ..WidgetStatus::default()
    });
    assert_eq!(api.create(&wanted).status.unwrap().state.as_deref(), Some("Active"));
    api.merge::<Widget>(Some("shop"), "a", json!({"spec": {"size": 4}}));
    api.merge_status::<Widget>(Some("shop"), "a", json!({"state": "Error"}));
    let seen = api.read::<Widget>(Some("shop"), "a").unwrap();
    assert_eq!(
        (seen.spec.size, seen.status.unwrap().state.as_deref()),
        (4, Some("Error"))
    );
    assert!(api.log().is_empty(), "what the test does is not in the log");
}

#[tokio::test(start_paused = true)]
async fn generated_names_differ() {
    let (_api, widgets) = start();
    let mut wanted = widget("");
    wanted.metadata.name = None;
    wanted.metadata.generate_name = Some("w-".into());
    let one = widgets.create(&PostParams::default(), &wanted).await.unwrap();
    let two = widgets.create(&PostParams::default(), &wanted).await.unwrap();
    assert!(one.name_any().starts_with("w-") && one.name_any() != two.name_any());
}

#[tokio::test(start_paused = true)]
async fn a_replace_over_an_old_version_is_a_conflict() {
    let (_api, widgets) = start();
    let old = widgets.create(&PostParams::default(), &widget("a")).await.unwrap();
    let mut new = old.clone();
    new.spec.size = 2;
    let new = widgets.replace("a", &PostParams::default(), &new).await.unwrap();
    assert_eq!(new.meta().generation, Some(2));
    let error = widgets.replace("a", &PostParams::default(), &old).await.unwrap_err();
    assert_eq!(code(&error), 409);
    let error = widgets
        .replace("a", &PostParams::default(), &widget("a"))
        .await
        .unwrap_err();
    assert_eq!(
        code(&error),
        422,
        "a custom resource must name the version that it replaces"
    );
}

#[tokio::test(start_paused = true)]
async fn spec_and_status_have_separate_doors() {
    let (_api, widgets) = start();
    let made = widgets.create(&PostParams::default(), &widget("a")).await.unwrap();
    let patch = Patch::Merge(json!({"spec": {"size": 9}, "status": {"state": "Active"}}));
    let seen = widgets
        .patch_status("a", &PatchParams::default(), &patch)
        .await
        .unwrap();
    assert_eq!(
        (seen.spec.size, seen.status.clone().unwrap().state.as_deref()),
        (1, Some("Active"))
    );
    assert_eq!(
        seen.meta().generation,
        made.meta().generation,
        "a status is no new generation"
    );

    let patch = Patch::Merge(json!({"spec": {"size": 9}, "status": {"state": "Error"}}));
    let seen = widgets.patch("a", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(
        (seen.spec.size, seen.status.unwrap().state.as_deref()),
        (9, Some("Active"))
    );
    assert_eq!(seen.metadata.generation, Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_write_that_changes_nothing_leaves_the_version_and_wakes_nobody() {
    let (api, widgets) = start();
    let fields = body(&json!({"spec": {"size": 3}}));
    let one = widgets.patch("a", &apply("one"), &fields).await.unwrap();
    let mut events = widgets
        .watch(&WatchParams::default(), &one.resource_version().unwrap())
        .await
        .unwrap()
        .boxed();
    tokio::time::advance(Duration::from_secs(5)).await;
    let two = widgets.patch("a", &apply("one"), &fields).await.unwrap();
    let three = widgets.replace("a", &PostParams::default(), &two).await.unwrap();
    assert_eq!(one.resource_version(), three.resource_version());
    assert_eq!(
        api.writes_to("widgets", Some("shop"), "a")
            .iter()
            .filter(|request| request.changed)
            .count(),
        1
    );
    let quiet = tokio::time::timeout(Duration::from_secs(10), events.next()).await;
    assert!(quiet.is_err(), "an event for nothing");
}

#[tokio::test(start_paused = true)]
async fn an_object_with_finalizers_stays_until_they_are_gone() {
    let (api, widgets) = start();
    let mut wanted = widget("a");
    wanted.metadata.finalizers = Some(vec!["virga.dev/agent".into()]);
    widgets.create(&PostParams::default(), &wanted).await.unwrap();
    let left = widgets
        .delete("a", &DeleteParams::default())
        .await
        .unwrap()
        .left()
        .unwrap();
    assert!(left.meta().deletion_timestamp.is_some());

    let more = Patch::Merge(json!({"metadata": {"finalizers": ["virga.dev/agent", "virga.dev/late"]}}));
    assert_eq!(
        code(&widgets.patch("a", &PatchParams::default(), &more).await.unwrap_err()),
        422
    );
    let none = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    widgets.patch("a", &PatchParams::default(), &none).await.unwrap();
    assert!(api.read::<Widget>(Some("shop"), "a").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_delete_may_name_the_object_that_it_means() {
    let (_api, widgets) = start();
    let made = widgets.create(&PostParams::default(), &widget("a")).await.unwrap();
    let other = Preconditions {
        uid: Some("other".into()),
        resource_version: None,
    };
    let error = widgets
        .delete("a", &DeleteParams::default().preconditions(other))
        .await
        .unwrap_err();
    assert_eq!(code(&error), 409);
    let same = Preconditions {
        uid: made.uid(),
        resource_version: None,
    };
    widgets
        .delete("a", &DeleteParams::default().preconditions(same))
        .await
        .unwrap();
    assert_eq!(code(&widgets.get("a").await.unwrap_err()), 404);
}

#[tokio::test(start_paused = true)]
async fn garbage_is_collected_down_the_tree() {
    let (api, _) = start();
    let root = api.create(&widget("root"));
    let mut child = widget("child");
    child.metadata.owner_references = Some(vec![root.owner_ref(&()).unwrap()]);
    let child = api.create(&child);
    let mut leaf = widget("leaf");
    leaf.metadata.owner_references = Some(vec![child.owner_ref(&()).unwrap()]);
    api.create(&leaf);
    api.collect_garbage();
    assert_eq!(api.list::<Widget>().len(), 3);
    api.delete::<Widget>(Some("shop"), "root");
    api.collect_garbage();
    assert!(api.list::<Widget>().is_empty());
}

#[tokio::test(start_paused = true)]
async fn strict_namespaces_must_be_there() {
    let api = FakeApi::new().with_crd::<Widget>().with_strict_namespaces();
    let widgets: Api<Widget> = Api::namespaced(api.client(), "shop");
    assert_eq!(
        code(&widgets.create(&PostParams::default(), &widget("a")).await.unwrap_err()),
        404
    );
    let metadata = ObjectMeta {
        name: Some("shop".into()),
        ..ObjectMeta::default()
    };
    api.create(&Namespace {
        metadata,
        ..Namespace::default()
    });
    widgets.create(&PostParams::default(), &widget("a")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn kinds_of_kubernetes_keep_their_own_rules() {
    let api = FakeApi::new();
    let client: Client = api.client();
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "shop");
    let metadata = ObjectMeta {
        name: Some("s".into()),
        namespace: Some("shop".into()),
        ..ObjectMeta::default()
    };
    let secret = Secret {
        metadata: metadata.clone(),
        ..Secret::default()
    };
    let made = secrets.create(&PostParams::default(), &secret).await.unwrap();
    assert_eq!(made.metadata.generation, None);
    secrets.replace("s", &PostParams::default(), &secret).await.unwrap();

    let leases: Api<Lease> = Api::namespaced(client.clone(), "shop");
    let lease = Lease {
        metadata: metadata.clone(),
        spec: None,
    };
    leases.create(&PostParams::default(), &lease).await.unwrap();
    assert_eq!(
        code(&leases.replace("s", &PostParams::default(), &lease).await.unwrap_err()),
        422
    );

    let maps: Api<ConfigMap> = Api::namespaced(client, "shop");
    for name in ["x", "y"] {
        let metadata = ObjectMeta {
            name: Some(name.into()),
            ..metadata.clone()
        };
        maps.create(
            &PostParams::default(),
            &ConfigMap {
                metadata,
                ..ConfigMap::default()
            },
        )
        .await
        .unwrap();
    }
    maps.delete_collection(&DeleteParams::default(), &ListParams::default())
        .await
        .unwrap();
    assert!(api.list::<ConfigMap>().is_empty());
}
