//! How much does one Instance cost the apiserver?

use std::collections::BTreeMap;

use futures::{StreamExt, pin_mut};
use k8s_openapi::api::events::v1::Event;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use virga_crds::{Hypervisor, Instance, Placement, Port};
use virga_e2e::objects::{instance, plugged};
use virga_e2e::{Case, Installation, is_ready, with_temp_namespace};

use crate::{GUEST, given_a_place_for_guests};

/// The most writes from the creation of an Instance, which is one of them, until it runs.
const MOST: usize = 6;

/// Every write to objects of a kind in the namespace since a moment, in words.
async fn writes<K>(t: &Case, since: &str) -> Vec<String>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    // The server ends the watch after a second: all that was before is in it.
    let params = WatchParams::default().timeout(1);
    let api: Api<K> = t.api();
    let events = api.watch(&params, since).await.unwrap();
    pin_mut!(events);
    let mut found = Vec::new();
    while let Some(event) = events.next().await {
        let (verb, object) = match event.unwrap() {
            WatchEvent::Added(object) => ("create", object),
            WatchEvent::Modified(object) => ("update", object),
            WatchEvent::Deleted(object) => ("delete", object),
            WatchEvent::Bookmark(_) | WatchEvent::Error(_) => continue,
        };
        let by = object
            .managed_fields()
            .iter()
            .max_by_key(|entry| entry.time.as_ref().map(|time| time.0));
        let by = by.and_then(|entry| entry.manager.clone()).unwrap_or_default();
        found.push(format!("{verb} {} {} by {by}", K::kind(&()), object.name_any()));
    }
    found
}

#[tokio::test]
async fn an_instance_costs_at_most_six_writes_from_created_to_running() {
    let (installation, _turn) = Installation::turn().await;
    with_temp_namespace(&installation.cluster, async |t| {
        let flavor = given_a_place_for_guests(&t, "10.31.0.0/24").await;
        // One on every node first: the image is in each cache, and the network is known to all.
        let hosts: Api<Hypervisor> = Api::all(t.client.clone());
        for host in hosts.list(&ListParams::default()).await.unwrap() {
            let name = format!("first-on-{}", host.name_any());
            let mut first = plugged(instance(&name, &flavor), "net");
            first.spec.placement = Some(Placement {
                host: Some(host.name_any()),
                ..Placement::default()
            });
            t.create(first).await;
            t.await_within::<Instance>(GUEST, &name, "Ready", is_ready).await;
        }
        let since = t.api::<Instance>().list(&ListParams::default()).await.unwrap();
        let since = since.metadata.resource_version.unwrap();
        t.create(plugged(instance("counted", &flavor), "net")).await;
        t.await_within::<Instance>(GUEST, "counted", "Ready", is_ready).await;
        let mut all = writes::<Instance>(&t, &since).await;
        all.extend(writes::<Port>(&t, &since).await);
        all.extend(writes::<Event>(&t, &since).await);
        all.retain(|write| write.contains(" counted"));
        let mut per_kind: BTreeMap<&str, usize> = BTreeMap::new();
        for write in &all {
            *per_kind.entry(write.split(' ').nth(1).unwrap_or_default()).or_default() += 1;
        }
        println!("{} writes: {per_kind:?}", all.len());
        assert!(all.len() <= MOST, "{} writes:\n{}", all.len(), all.join("\n"));
    })
    .await;
}
