//! Admission and scheduling: the controller's own process, on the real apiserver, with hosts that exist on paper only.
//!
//! The program is the one that `cargo xtask image` built last. It runs under its own service account with the chart's
//! role, so that a verb that it lacks shows here.

// In tests a panic is the report.
#![allow(clippy::unwrap_used)]

mod decisions;
mod groups;
mod hosts;
mod ports;
mod process;
mod refusals;
mod wishes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use futures::{StreamExt, stream};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher;
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio::sync::Mutex;
use virga_crds::{Bytes, FlavorSpec, Instance};
use virga_e2e::objects::{guest, instance, tiny};
use virga_e2e::{BOUND, Case, condition, eventually, with_temp_namespace};

use hosts::Hosts;
use process::Controller;

/// Hosts with this much memory each, an image, and a flavor of 1 GiB, which is returned. The controller knows all of it.
async fn stage(t: &Case, controller: &Controller, hosts: usize, memory: Bytes) -> (Hosts, String) {
    let hosts = Hosts::up(t, hosts, memory).await;
    t.create(guest()).await;
    let spec = FlavorSpec {
        memory: Bytes::gib(1),
        disk: Bytes::mib(1),
        ..tiny()
    };
    let flavor = t.flavor("one", spec).await;
    controller.knows_flavor(t, &flavor).await;
    (hosts, flavor)
}

async fn instances(t: &Case) -> Vec<Instance> {
    t.api::<Instance>().list(&ListParams::default()).await.unwrap().items
}

fn per_node(instances: &[Instance]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for node in instances.iter().filter_map(|instance| instance.spec.node_name.clone()) {
        *counts.entry(node).or_default() += 1;
    }
    counts
}

/// Creates all of them at once, over 32 connections.
async fn storm(t: &Case, new: Vec<Instance>) -> Vec<Instance> {
    let clients: Vec<Client> = join_all((0..32).map(|_| t.cluster.client())).await;
    let creates = stream::iter(new.into_iter().enumerate().map(|(n, new)| {
        let api: Api<Instance> = Api::namespaced(clients[n % clients.len()].clone(), &t.namespace);
        async move { api.create(&PostParams::default(), &new).await.unwrap() }
    }));
    creates.buffer_unordered(32).collect().await
}

fn placed(instances: &[Instance]) -> usize {
    per_node(instances).values().sum()
}

/// Every node that each Instance was ever seen bound to.
type Seen = Arc<Mutex<BTreeMap<String, BTreeSet<String>>>>;

fn record_bindings(t: &Case) -> Seen {
    let seen = Seen::default();
    let (record, api) = (seen.clone(), t.api::<Instance>());
    tokio::spawn(async move {
        let mut events = watcher(api, watcher::Config::default()).boxed();
        while let Some(event) = events.next().await {
            if let Ok(watcher::Event::Apply(instance) | watcher::Event::InitApply(instance)) = event {
                let uid = instance.uid().unwrap_or_default();
                record
                    .lock()
                    .await
                    .entry(uid)
                    .or_default()
                    .extend(instance.spec.node_name);
            }
        }
    });
    seen
}

async fn bound_once(seen: &Seen) {
    for (uid, nodes) in seen.lock().await.iter() {
        assert!(nodes.len() <= 1, "{uid} was bound to {nodes:?}");
    }
}

/// What a node's agent does at the end of an Instance.
async fn let_go(t: &Case, name: &str) {
    let api = t.api::<Instance>();
    api.delete(name, &DeleteParams::default()).await.unwrap();
    let none = Patch::Merge(json!({"metadata": {"finalizers": []}}));
    api.patch(name, &PatchParams::default(), &none).await.unwrap();
    t.await_gone::<Instance>(BOUND, name).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_hundred_instances_at_once_never_overcommit_and_are_never_placed_twice() {
    let controller = Controller::running().await;
    with_temp_namespace(controller.cluster, async |t| {
        // Five hosts with room for thirty each, next to what is kept for the host itself.
        let (hosts, flavor) = stage(&t, &controller, 5, Bytes::mib(30 * 1024 + 512)).await;
        let seen = record_bindings(&t);

        let new = (0..200).map(|n| instance(&format!("i-{n:03}"), &flavor));
        let made = storm(&t, new.collect()).await;
        let at_once = placed(&made);
        println!("placed in admission: {at_once} of 200");
        assert!(
            at_once > 100,
            "admission placed {at_once} only; the queue is for the others"
        );

        let full = |found: &[Instance]| placed(found) == 150;
        eventually("all room is used", BOUND, async || {
            let found = instances(&t).await;
            full(&found)
                .then_some(())
                .ok_or_else(|| format!("{:?}", per_node(&found)))
        })
        .await;
        let found = instances(&t).await;
        assert!(
            per_node(&found).values().all(|count| *count == 30),
            "{:?}",
            per_node(&found)
        );

        // Those without a host say why, with counts.
        let waiting: Vec<&Instance> = found.iter().filter(|found| found.spec.node_name.is_none()).collect();
        assert_eq!(waiting.len(), 50);
        let one = waiting.first().unwrap().name_any();
        let told = t
            .await_condition::<Instance>(&one, "says why it has no host", |found| {
                condition(found, "Scheduled").is_some()
            })
            .await;
        let scheduled = condition(&told, "Scheduled").unwrap();
        assert_eq!(
            (scheduled.status.as_str(), scheduled.reason.as_str()),
            ("False", "NoValidHost")
        );
        assert!(scheduled.message.contains("0/5 hosts"), "{scheduled:?}");

        // Room that becomes free is used, by those that wait.
        let bound = found.iter().filter(|found| found.spec.node_name.is_some()).take(10);
        for gone in bound {
            let_go(&t, &gone.name_any()).await;
        }
        eventually("the room is used again", BOUND, async || {
            let found = instances(&t).await;
            let counts = per_node(&found);
            (found.len() == 190 && full(&found) && counts.values().all(|count| *count <= 30))
                .then_some(())
                .ok_or_else(|| format!("{counts:?} of {}", found.len()))
        })
        .await;
        bound_once(&seen).await;
        hosts.down(&t).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_that_is_killed_in_the_middle_places_nothing_twice() {
    let controller = Controller::running().await;
    with_temp_namespace(controller.cluster, async |t| {
        let (hosts, flavor) = stage(&t, &controller, 2, Bytes::mib(20 * 1024 + 512)).await;
        let seen = record_bindings(&t);
        for n in 0..60 {
            if n == 20 {
                controller.kill().await;
            }
            // Validation must be answered, so that creates fail while nobody does; scheduling need not.
            let new = instance(&format!("i-{n:03}"), &flavor);
            eventually("it can be created", BOUND, async || {
                let made = t.api::<Instance>().create(&PostParams::default(), &new).await;
                match made {
                    Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
                    made => made.map(drop).map_err(|error| error.to_string()),
                }
            })
            .await;
        }
        eventually("all room is used", BOUND, async || {
            let found = instances(&t).await;
            let counts = per_node(&found);
            (counts.values().all(|count| *count == 20) && counts.len() == 2)
                .then_some(())
                .ok_or_else(|| format!("{counts:?}"))
        })
        .await;
        bound_once(&seen).await;
        hosts.down(&t).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_says_where_and_reserves_nothing() {
    let controller = Controller::running().await;
    with_temp_namespace(controller.cluster, async |t| {
        let (hosts, flavor) = stage(&t, &controller, 1, Bytes::mib(1024 + 512)).await;
        // The one place is not used up, however often it is asked for.
        for _ in 0..3 {
            let said = t.dry_run(&instance("web-1", &flavor));
            let (ok, words) = (said.ok, said.stderr.clone());
            assert!(
                ok && words.contains(&format!("would be placed on {}", hosts.name(0))),
                "{words}"
            );
            assert!(
                said.stdout.contains(&format!("nodeName: {}", hosts.name(0))),
                "{}",
                said.stdout
            );
        }
        assert!(instances(&t).await.is_empty());
        let made = t.create(instance("web-1", &flavor)).await;
        assert_eq!(made.spec.node_name.as_deref(), Some(hosts.name(0)));
        assert_eq!(made.finalizers(), ["virga.dev/agent"]);
        let_go(&t, "web-1").await;
        hosts.down(&t).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cordoned_host_gets_nothing_new() {
    let controller = Controller::running().await;
    with_temp_namespace(controller.cluster, async |t| {
        let (hosts, flavor) = stage(&t, &controller, 2, Bytes::gib(8)).await;
        hosts.cordon(&t, 0, "a new disk").await;
        for n in 0..4 {
            let name = format!("i-{n}");
            t.create(instance(&name, &flavor)).await;
            let bound = t
                .await_condition::<Instance>(&name, "placed", |found| found.spec.node_name.is_some())
                .await;
            assert_eq!(bound.spec.node_name.as_deref(), Some(hosts.name(1)));
        }
        hosts.cordon(&t, 1, "another disk").await;
        t.create(instance("late", &flavor)).await;
        let told = t
            .await_within::<Instance>(Duration::from_secs(30), "late", "says why it has no host", |found| {
                condition(found, "Scheduled").is_some_and(|scheduled| scheduled.reason == "NoValidHost")
            })
            .await;
        let message = condition(&told, "Scheduled").unwrap().message;
        assert!(message.contains("ComputeFilter"), "{message}");
        hosts.down(&t).await;
    })
    .await;
}
