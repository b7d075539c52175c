//! Our way of writing on the real apiserver: once, never again without need, and what is no longer said is gone.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::ApiResource;
use kube::{Api, Resource, ResourceExt};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use virga_crds::{Hypervisor, HypervisorSpec, Instance, finalizers, managers};
use virga_e2e::objects::instance;
use virga_e2e::{Case, Cluster, condition, with_temp_namespace};
use virga_runtime::apply::{Error, Writer};
use virga_runtime::clock::SystemClock;
use virga_runtime::heartbeat;

fn agent(t: &Case) -> Writer {
    Writer::new(t.client.clone(), managers::AGENT)
}

fn controller(t: &Case) -> Writer {
    Writer::new(t.client.clone(), managers::CONTROLLER)
}

fn said(kind: &str, status: &str, reason: &str) -> Value {
    json!({
        "type": kind, "status": status, "reason": reason, "message": "as said",
        "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1,
    })
}

/// The Instance as the apiserver has it now, with what our type doesn't know.
async fn raw(t: &Case, name: &str) -> Value {
    let api: Api<DynamicObject> =
        Api::namespaced_with(t.client.clone(), &t.namespace, &ApiResource::erase::<Instance>(&()));
    serde_json::to_value(api.get(name).await.unwrap()).unwrap()
}

async fn live(t: &Case, name: &str) -> Instance {
    t.api::<Instance>().get(name).await.unwrap()
}

fn applied_by(object: &Value, manager: &str) -> Vec<Value> {
    let entries = object["metadata"]["managedFields"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    entries
        .into_iter()
        .filter(|entry| entry["manager"] == manager && entry["operation"] == "Apply")
        .collect()
}

#[tokio::test]
async fn a_status_is_written_once_and_loses_what_is_no_longer_said() {
    Box::pin(with_temp_namespace(Cluster::api_only(), async |t| {
        let made = t.create(instance("web-1", "m1.small")).await;
        let full = json!({
            "observedGeneration": 1, "state": "Active", "powerState": "Running", "host": "node-1",
            "task": null,
            "flavor": {"name": "m1.small", "vcpus": 1, "memory": "1Gi", "disk": "20Gi"},
            "addresses": [{"network": "front", "ip": "10.0.0.5", "mac": "fa:16:3e:00:00:01"}],
            "rejectedBy": ["node-2"],
            "conditions": [said("Ready", "True", "AsSpecified"), said("Running", "True", "Started")],
        });
        let full: virga_crds::InstanceStatus = serde_json::from_value(full).unwrap();
        let written = agent(&t).apply_status(&made, &full).await.unwrap().unwrap();
        assert_eq!(written.status.as_ref(), Some(&full));
        for seen in [&written, &live(&t, "web-1").await] {
            assert!(
                agent(&t).apply_status(seen, &full).await.unwrap().is_none(),
                "it is so already"
            );
        }
        // A watch that lags behind makes us send it again, which changes nothing.
        let again = agent(&t).apply_status(&made, &full).await.unwrap().unwrap();
        assert_eq!(again.resource_version(), written.resource_version());

        let less = json!({"state": "Stopped", "conditions": [said("Ready", "True", "AsSpecified")]});
        let seen = agent(&t).apply_status(&written, &less).await.unwrap().unwrap();
        let mut status = raw(&t, "web-1").await["status"].take();
        assert_eq!(status["conditions"].as_array_mut().unwrap().len(), 1);
        let mut names: Vec<&String> = status.as_object().unwrap().keys().collect();
        names.sort();
        assert_eq!(names, ["conditions", "state"]);
        assert!(agent(&t).apply_status(&seen, &less).await.unwrap().is_none());
    }))
    .await;
}

#[tokio::test]
async fn the_empty_status_takes_all_of_ours_away_and_then_sends_nothing() {
    with_temp_namespace(Cluster::api_only(), async |t| {
        let made = t.create(instance("web-1", "m1.small")).await;
        assert!(
            agent(&t).apply_status(&made, &json!({})).await.unwrap().is_none(),
            "nothing is ours"
        );
        let status = json!({"state": "Active", "conditions": [said("Ready", "True", "AsSpecified")]});
        let written = agent(&t).apply_status(&made, &status).await.unwrap().unwrap();
        let emptied = agent(&t).apply_status(&written, &json!({})).await.unwrap().unwrap();
        let now = raw(&t, "web-1").await;
        assert!(
            now["status"].is_null() || now["status"] == json!({}),
            "{}",
            now["status"]
        );
        assert_eq!(applied_by(&now, managers::AGENT), [] as [Value; 0]);
        assert!(agent(&t).apply_status(&emptied, &json!({})).await.unwrap().is_none());
        assert!(
            agent(&t)
                .apply_status(&live(&t, "web-1").await, &json!({}))
                .await
                .unwrap()
                .is_none()
        );
    })
    .await;
}

#[tokio::test]
async fn conditions_by_two_managers_live_side_by_side() {
    with_temp_namespace(Cluster::api_only(), async |t| {
        let made = t.create(instance("web-1", "m1.small")).await;
        let network = json!({"conditions": [said("NetworkReady", "False", "AddressInUse")]});
        let running = json!({"state": "Active", "conditions": [said("Running", "True", "Started")]});
        let seen = controller(&t).apply_status(&made, &network).await.unwrap().unwrap();
        let seen = agent(&t).apply_status(&seen, &running).await.unwrap().unwrap();
        assert!(condition(&seen, "NetworkReady").is_some() && condition(&seen, "Running").is_some());
        assert!(controller(&t).apply_status(&seen, &network).await.unwrap().is_none());
        assert!(agent(&t).apply_status(&seen, &running).await.unwrap().is_none());

        let seen = controller(&t).apply_status(&seen, &json!({})).await.unwrap().unwrap();
        assert!(condition(&seen, "NetworkReady").is_none() && condition(&seen, "Running").is_some());
        assert!(agent(&t).apply_status(&seen, &running).await.unwrap().is_none());
        assert_eq!(
            applied_by(&raw(&t, "web-1").await, managers::CONTROLLER),
            [] as [Value; 0]
        );
    })
    .await;
}

/// The API server refuses half a condition, and with it all that is written beside it.
#[tokio::test]
async fn who_said_a_condition_over_its_owner_gives_it_up_with_the_owner_s_next_word_and_all_else_at_once() {
    Box::pin(with_temp_namespace(Cluster::api_only(), async |t| {
        let made = t.create(instance("web-1", "m1.small")).await;
        let ready = json!({"powerState": "Running", "conditions": [said("Ready", "True", "AsSpecified")]});
        let lost = json!({"host": "node-9", "conditions": [
            said("Ready", "Unknown", "NodeLost"), said("NetworkReady", "False", "AddressInUse"),
        ]});
        let seen = agent(&t).apply_status(&made, &ready).await.unwrap().unwrap();
        let seen = controller(&t).apply_status(&seen, &lost).await.unwrap().unwrap();
        assert_eq!(condition(&seen, "Ready").unwrap().reason, "NodeLost");

        // What the API server says to it.
        let api: Api<DynamicObject> =
            Api::namespaced_with(t.client.clone(), &t.namespace, &ApiResource::erase::<Instance>(&()));
        let nothing = json!({"apiVersion": "virga.dev/v1alpha1", "kind": "Instance", "metadata": {"name": "web-1"}});
        let params = PatchParams::apply(managers::CONTROLLER).force();
        let refused = api
            .patch_status("web-1", &params, &Patch::Apply(&nothing))
            .await
            .unwrap_err();
        let kube::Error::Api(refused) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(refused.code, 422);
        assert!(
            refused.message.contains("status.conditions[0].reason: Required value"),
            "{}",
            refused.message
        );

        // Our writer gives up what it can, though it sees only its own managedFields.
        let mut trimmed = seen.clone();
        let entries = trimmed.metadata.managed_fields.as_mut().unwrap();
        entries.retain(|entry| entry.manager.as_deref() == Some(managers::CONTROLLER));
        let seen = controller(&t)
            .apply_status(&trimmed, &json!({}))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(condition(&seen, "Ready").unwrap().reason, "NodeLost");
        assert!(condition(&seen, "NetworkReady").is_none());
        assert_eq!(seen.status.as_ref().unwrap().host, None);
        let again = controller(&t).apply_status(&seen, &json!({})).await.unwrap();
        assert!(again.is_none(), "there is nothing more to give up");

        let seen = agent(&t).apply_status(&seen, &ready).await.unwrap().unwrap();
        assert_eq!(condition(&seen, "Ready").unwrap().reason, "AsSpecified");
        let seen = controller(&t).apply_status(&seen, &json!({})).await.unwrap().unwrap();
        assert_eq!(condition(&seen, "Ready").unwrap().reason, "AsSpecified");
        assert!(agent(&t).apply_status(&seen, &ready).await.unwrap().is_none());
        assert_eq!(
            applied_by(&raw(&t, "web-1").await, managers::CONTROLLER),
            [] as [Value; 0]
        );
    }))
    .await;
}

#[tokio::test]
async fn a_host_s_whole_report_is_written_once() {
    with_temp_namespace(Cluster::api_only(), async |t| {
        let name = format!("{}-node", t.namespace);
        let host = t.create_cluster_wide(Hypervisor::new(&name, HypervisorSpec::default())).await;
        let status = json!({
            "observedGeneration": 1,
            "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}],
            "capacity": {"vcpus": 8, "memory": "16Gi", "disk": "100Gi"},
            "allocated": {"vcpus": 0, "memory": 0, "disk": "1536Mi"},
            "instances": 0,
            "cpu": {"architecture": "x86_64", "model": "EPYC", "vendor": "AMD", "features": ["b", "a"]},
            "versions": {"agent": "0.1.0", "libvirt": "11.0.0", "qemu": "10.0.0"},
            "capabilities": {"domainTypes": ["qemu"], "machineTypes": ["q35", "pc"], "firmware": ["UEFI", "BIOS"]},
            "images": [
                {"uid": "b", "state": "Cached", "digest": "sha256:1", "size": "1Mi", "virtualSize": "1Gi"},
                {"uid": "a", "state": "Pulling", "progress": 40},
            ],
            "conditions": [said("Ready", "True", "HeartbeatSeen"), said("LibvirtConnected", "True", "LibvirtAvailable")],
        });
        let mut status: virga_crds::HypervisorStatus = serde_json::from_value(status).unwrap();
        let seen = agent(&t).apply_status(&host, &status).await.unwrap().unwrap();
        assert!(agent(&t).apply_status(&seen, &status).await.unwrap().is_none());

        status.images.remove(0);
        status.capabilities.as_mut().unwrap().machine_types.pop();
        let seen = agent(&t).apply_status(&seen, &status).await.unwrap().unwrap();
        assert_eq!(seen.status.as_ref(), Some(&status));
        assert!(agent(&t).apply_status(&seen, &status).await.unwrap().is_none());
    })
    .await;
}

#[tokio::test]
async fn an_object_is_applied_once_beside_its_defaults_and_other_s_fields() {
    with_temp_namespace(Cluster::api_only(), async |t| {
        let mut wanted = instance("web-1", "m1.small");
        wanted.metadata.namespace = Some(t.namespace.clone());
        let seen = controller(&t).apply(None, &wanted).await.unwrap().unwrap();
        assert!(controller(&t).apply(Some(&seen), &wanted).await.unwrap().is_none());
        let binder = Writer::new(t.client.clone(), managers::SCHEDULER);
        let bound = json!({"metadata": {"finalizers": [finalizers::AGENT]}, "spec": {"nodeName": "node-1"}});
        let bind = async |seen: &Instance| {
            binder
                .apply_fields(Some(seen), Some(&t.namespace), "web-1", bound.clone())
                .await
                .unwrap()
        };
        let seen = bind(&seen).await.unwrap();
        assert_eq!(seen.finalizers(), [finalizers::AGENT]);
        assert!(bind(&seen).await.is_none());
        assert!(controller(&t).apply(Some(&seen), &wanted).await.unwrap().is_none());
        assert!(controller(&t).create(&wanted).await.unwrap().is_none(), "it is there");
    })
    .await;
}

#[tokio::test]
async fn finalizers_come_and_go_and_races_are_noticed() {
    with_temp_namespace(Cluster::api_only(), async |t| {
        let w = controller(&t);
        let bare = t.create(instance("web-1", "m1.small")).await;
        let one = w.add_finalizer(&bare, "virga.dev/one").await.unwrap().unwrap();
        assert_eq!(one.finalizers(), ["virga.dev/one"]);
        assert!(w.add_finalizer(&one, "virga.dev/one").await.unwrap().is_none());
        let raced = w.add_finalizer(&bare, "virga.dev/two").await.unwrap_err();
        assert!(matches!(raced, Error::Raced { .. }), "{raced:?}");
        let two = w.add_finalizer(&one, "virga.dev/two").await.unwrap().unwrap();
        let left = w.remove_finalizer(&two, "virga.dev/one").await.unwrap().unwrap();
        assert_eq!(left.finalizers(), ["virga.dev/two"]);
        let raced = w.remove_finalizer(&two, "virga.dev/one").await.unwrap_err();
        assert!(matches!(raced, Error::Raced { .. }), "{raced:?}");

        w.delete(&left).await.unwrap();
        let last = w.remove_finalizer(&left, "virga.dev/two").await.unwrap();
        assert!(last.is_some_and(|last| last.finalizers().is_empty()));
        assert!(t.api::<Instance>().get_opt("web-1").await.unwrap().is_none());
        assert!(
            w.remove_finalizer(&left, "virga.dev/two").await.unwrap().is_none(),
            "gone is as good"
        );
        w.delete(&left).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn an_object_that_was_made_anew_is_not_written_to() {
    with_temp_namespace(Cluster::api_only(), async |t| {
        let old = t.create(instance("web-1", "m1.small")).await;
        t.delete::<Instance>(Duration::from_secs(30), "web-1").await;
        let ready = json!({"conditions": [said("Ready", "True", "AsSpecified")]});
        let gone = agent(&t).apply_status(&old, &ready).await.unwrap_err();
        assert!(gone.is_not_found() || gone.is_conflict(), "{gone:?}");
        t.create(instance("web-1", "m1.small")).await;
        let other = agent(&t).apply_status(&old, &ready).await.unwrap_err();
        assert!(matches!(other, Error::Raced { .. }), "{other:?}");
        let other = agent(&t).add_finalizer(&old, "virga.dev/one").await.unwrap_err();
        assert!(matches!(other, Error::Raced { .. }), "{other:?}");
        agent(&t).delete(&old).await.unwrap();
        let new = live(&t, "web-1").await;
        assert!(new.meta().deletion_timestamp.is_none());
        assert_eq!(new.status.unwrap_or_default(), virga_crds::InstanceStatus::default());
        let writer = agent(&t);
        let missed = writer.apply_fields(
            Some(&old),
            Some(&t.namespace),
            "web-1",
            json!({"spec": {"powerState": "Stopped"}}),
        );
        assert!(missed.await.unwrap_err().is_conflict());
    })
    .await;
}

#[tokio::test]
async fn a_heartbeat_is_taken_and_renewed_with_micro_seconds() {
    with_temp_namespace(Cluster::api_only(), async |t| {
        let stop = CancellationToken::new();
        let mut options = heartbeat::Options::new(&t.namespace, "virga-node-1", "node-1", managers::AGENT);
        options.interval = Duration::from_millis(500);
        let beating = tokio::spawn(heartbeat::run(
            t.client.clone(),
            Arc::new(SystemClock),
            options,
            stop.clone(),
        ));
        let renewed = |lease: &Lease| {
            lease
                .spec
                .as_ref()
                .and_then(|spec| spec.renew_time.clone())
                .map(|time| time.0)
        };
        let first = t
            .await_condition::<Lease>("virga-node-1", "beating", |lease| renewed(lease).is_some())
            .await;
        let before = renewed(&first);
        let second = t
            .await_condition::<Lease>("virga-node-1", "renewed", |lease| renewed(lease) > before)
            .await;
        stop.cancel();
        beating.await.unwrap();
        let spec = second.spec.clone().unwrap();
        assert_eq!(
            (spec.holder_identity.as_deref(), spec.lease_duration_seconds),
            (Some("node-1"), Some(40))
        );

        let api: Api<DynamicObject> =
            Api::namespaced_with(t.client.clone(), &t.namespace, &ApiResource::erase::<Lease>(&()));
        let raw = api.get("virga-node-1").await.unwrap();
        let time = raw.data["spec"]["renewTime"].as_str().unwrap();
        // 2026-01-01T00:00:00.000000Z
        assert_eq!((time.len(), &time[19..20], &time[26..]), (27, ".", "Z"), "{time}");
    })
    .await;
}
