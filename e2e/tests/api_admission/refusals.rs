//! What only the controller can tell: each is refused, or reported, with the field's path and the cure.

use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;
use virga_crds::{
    Bytes, Flavor, Instance, Interface, Lock, Network, Project, ProjectSpec, Protection, VolumeAttachment,
};
use virga_e2e::objects::{guest, instance, network, plugged, tiny, volume};
use virga_e2e::{BOUND, Case, Cluster, eventually, is_ready, with_temp_namespace};

use crate::process::Controller;

fn at(address: &str) -> Interface {
    Interface {
        network: "front".into(),
        address: Some(address.into()),
        ..Interface::default()
    }
}

fn with_address(name: &str, address: &str) -> Instance {
    let mut instance = instance(name, "m1.small");
    instance.spec.interfaces.push(at(address));
    instance
}

/// The answer to a dry run: its errors, or else its warnings.
fn says(t: &Case, instance: &Instance) -> String {
    t.dry_run(instance).stderr
}

async fn given_a_network(t: &Case) {
    t.create(network("front", "10.9.0.0/24")).await;
    t.await_condition::<Network>("front", "Ready", is_ready).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_must_be_of_the_network_and_free() {
    let controller = Controller::running().await;
    with_temp_namespace(controller.cluster, async |t| {
        given_a_network(&t).await;
        t.create(with_address("first", "10.9.0.5")).await;
        for (address, words) in [
            ("10.8.0.5", "is in no subnet of the network (10.9.0.0/24)"),
            ("10.9.0.1", "gateway"),
            ("10.9.0.0", "network"),
            ("10.9.0.255", "broadcast"),
            (
                "10.9.0.5",
                "belongs to Instance \"first\": choose another, or leave the address out",
            ),
        ] {
            let second = with_address("second", address);
            // The other one reaches the controller's store a moment after it was made.
            eventually("the address is refused", BOUND, async || {
                let said = says(&t, &second);
                let complete = said.contains("spec.interfaces[front].address") && said.contains(words);
                complete.then_some(()).ok_or(said)
            })
            .await;
        }
        let free = says(&t, &with_address("second", "10.9.0.6"));
        assert!(!free.contains("spec.interfaces"), "{free}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_is_wrong_is_said_at_once() {
    let controller = Controller::running().await;
    with_temp_namespace(controller.cluster, async |t| {
        given_a_network(&t).await;
        t.create(network("back", "10.7.0.0/24")).await;
        t.await_condition::<Network>("back", "Ready", is_ready).await;
        let mut wrong = with_address("web-1", "10.8.0.5");
        wrong.spec.interfaces.push(Interface {
            network: "back".into(),
            address: Some("10.7.0.1".into()),
            ..Interface::default()
        });
        let refusal = t.refusal(wrong).await;
        for words in ["spec.interfaces[front].address", "spec.interfaces[back].address"] {
            assert!(refusal.contains(words), "{refusal}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_of_another_instance_is_refused() {
    let controller = Controller::running().await;
    with_temp_namespace(controller.cluster, async |t| {
        t.create(volume("data", Bytes::mib(8))).await;
        let with_data = |name: &str| {
            let mut new = instance(name, "m1.small");
            new.spec.volumes = vec![VolumeAttachment { name: "data".into() }];
            new
        };
        t.create(with_data("first")).await;
        eventually("the volume is refused", BOUND, async || {
            let said = says(&t, &with_data("second"));
            let complete = said.contains("spec.volumes[data]") && said.contains("belongs to Instance \"first\"");
            complete.then_some(()).ok_or(said)
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_only_missing_is_admitted_with_a_warning_that_names_it() {
    let controller = Controller::running().await;
    with_temp_namespace(controller.cluster, async |t| {
        let mut lonely = plugged(instance("web-1", "no-such-flavor"), "no-such-network");
        lonely.spec.volumes = vec![VolumeAttachment {
            name: "no-such-volume".into(),
        }];
        lonely.spec.server_group = Some("no-such-group".into());
        let said = says(&t, &lonely);
        for words in [
            "no-such-flavor",
            "\"guest\"",
            "no-such-network",
            "no-such-volume",
            "no-such-group",
        ] {
            assert!(said.contains(words), "no warning of {words}: {said}");
        }
        t.create(lonely).await;
        let told = t
            .await_condition::<Instance>("web-1", "says what it waits for", |found| {
                virga_e2e::condition(found, "Scheduled").is_some_and(|scheduled| scheduled.status == "False")
            })
            .await;
        let scheduled = virga_e2e::condition(&told, "Scheduled").unwrap();
        assert_eq!(scheduled.reason, "FlavorNotFound");
        assert!(scheduled.message.contains("no-such-flavor"), "{scheduled:?}");
        // Nothing was taken for it.
        assert!(told.spec.node_name.is_none());
        t.delete::<Instance>(BOUND, "web-1").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_never_chooses_the_node() {
    let controller = Controller::running().await;
    with_temp_namespace(controller.cluster, async |t| {
        let mut chosen = instance("web-1", "m1.small");
        chosen.spec.node_name = Some("node-1".into());
        let refusal = t.refusal(chosen).await;
        assert!(
            refusal.contains("spec.nodeName") && refusal.contains("is set by the scheduler only: leave it out"),
            "{refusal}"
        );
        t.create(instance("web-2", "m1.small")).await;
        let change = Patch::Merge(json!({"spec": {"nodeName": "node-1"}}));
        let moved = t
            .api::<Instance>()
            .patch("web-2", &PatchParams::default(), &change)
            .await;
        let refusal = moved.unwrap_err().to_string();
        assert!(refusal.contains("spec.nodeName"), "{refusal}");
        let mut chosen = volume("data", Bytes::mib(8));
        chosen.spec.node_name = Some("node-1".into());
        let refusal = t.refusal(chosen).await;
        assert!(refusal.contains("spec.nodeName"), "{refusal}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_use_stays_and_says_who_uses_it() {
    let controller = Controller::running().await;
    with_temp_namespace(controller.cluster, async |t| {
        given_a_network(&t).await;
        t.create(guest()).await;
        let flavor = t.flavor("used", tiny()).await;
        let user = plugged(instance("web-1", &flavor), "front");
        t.create(user).await;
        let flavors: Api<Flavor> = Api::all(t.client.clone());
        eventually("the flavor is known to be in use", BOUND, async || {
            let found = flavors.get(&flavor).await.map_err(|error| error.to_string())?;
            (!found.finalizers().is_empty())
                .then_some(())
                .ok_or_else(|| format!("{:?}", found.status))
        })
        .await;
        // A used one goes when its users are gone, or is refused at once: either way it is there, and says why.
        let stays = async |kind: &str, name: &str| {
            let said = t
                .cluster
                .kubectl_says(&["delete", kind, name, "--namespace", &t.namespace, "--wait=false"]);
            eventually("it says who uses it", BOUND, async || {
                let shown = t
                    .cluster
                    .kubectl(&["get", kind, name, "--namespace", &t.namespace, "--output=yaml"]);
                let told = [said.stderr.as_str(), &shown].concat();
                told.contains("web-1").then_some(()).ok_or(told)
            })
            .await;
        };
        stays("flavor", &flavor).await;
        stays("image", "guest").await;
        stays("network", "front").await;
        t.delete::<Instance>(BOUND, "web-1").await;
        // Now they go, if they were asked to, or can be.
        for (kind, name) in [("flavor", flavor.as_str()), ("image", "guest"), ("network", "front")] {
            t.cluster.kubectl(&[
                "delete",
                kind,
                name,
                "--namespace",
                &t.namespace,
                "--ignore-not-found",
                "--timeout=60s",
            ]);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_project_never_owns_the_cluster_s_own_namespaces() {
    let controller = Controller::running().await;
    with_temp_namespace(controller.cluster, async |t| {
        let projects: Api<Project> = Api::all(t.client.clone());
        for namespace in ["kube-system", "virga-system", "default"] {
            let spec = ProjectSpec {
                namespace: Some(namespace.into()),
                ..ProjectSpec::default()
            };
            let made = projects
                .create(&PostParams::default(), &Project::new(&t.namespace, spec))
                .await;
            let refusal = made.unwrap_err().to_string();
            assert!(
                refusal.contains("spec.namespace") && refusal.contains("choose another"),
                "{refusal}"
            );
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_project_has_its_namespace_and_its_members_their_roles() {
    let controller = Controller::running().await;
    with_temp_namespace(controller.cluster, async |t| {
        let name = format!("{}-shop", t.namespace);
        let spec: ProjectSpec = serde_json::from_value(json!({
            "members": [{"kind": "User", "name": "ann", "role": "member"}, {"kind": "Group", "name": "audit", "role": "reader"}],
        }))
        .unwrap();
        let projects: Api<Project> = Api::all(t.client.clone());
        projects.create(&PostParams::default(), &Project::new(&name, spec)).await.unwrap();
        t.await_cluster_wide::<Project>(BOUND, &name, "Ready", is_ready).await;
        let can = |who: &str, verb: &str| -> bool {
            t.cluster
                .kubectl_says(&["auth", "can-i", verb, "instances.virga.dev", "--namespace", &name, who])
                .ok
        };
        assert!(can("--as=ann", "create"));
        assert!(!can("--as=bob", "create"));
        projects.delete(&name, &DeleteParams::default()).await.unwrap();
        eventually("project and namespace are gone", BOUND, async || {
            let left = t.cluster.kubectl_says(&["get", "namespace", &name]);
            let project = projects.get_opt(&name).await.map_err(|error| error.to_string())?;
            (!left.ok && project.is_none()).then_some(()).ok_or_else(|| format!("{project:?}"))
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kstatus_is_current_for_what_is_done_and_in_progress_for_what_waits() {
    let controller = Controller::running().await;
    with_temp_namespace(controller.cluster, async |t| {
        given_a_network(&t).await;
        t.create(volume("data", Bytes::mib(8))).await;
        t.create(instance("waits", "no-such-flavor")).await;
        judged(&t, "network/front", "Current").await;
        // It is made with the first Instance that names it: there is nothing to wait for.
        judged(&t, "volume/data", "Current").await;
        judged(&t, "instance/waits", "InProgress").await;
    })
    .await;
}

async fn judged(t: &Case, object: &str, status: &str) {
    let cluster: &Cluster = &t.cluster;
    eventually(&format!("{object} is {status}"), BOUND, async || {
        let yaml = cluster.kubectl(&["get", object, "--namespace", &t.namespace, "--output=yaml"]);
        let judged = cluster.kstatus(&yaml);
        let so = judged.iter().all(|judged| judged.status == status);
        so.then_some(()).ok_or_else(|| format!("{judged:?}\n{yaml}"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_locked_or_protected_stays_as_it_is() {
    let controller = Controller::running().await;
    with_temp_namespace(controller.cluster, async |t| {
        let mut kept = instance("kept", "m1.small");
        kept.spec.locked = Some(Lock {
            reason: "an audit".into(),
        });
        kept.spec.protection = Protection::Enabled;
        t.create(kept).await;
        let api = t.api::<Instance>();
        let patch = async |change: serde_json::Value| {
            let patched = api.patch("kept", &PatchParams::default(), &Patch::Merge(change)).await;
            patched.map_err(|error| error.to_string())
        };
        let delete = async || {
            let deleted = api.delete("kept", &DeleteParams::default()).await;
            deleted.map(drop).map_err(|error| error.to_string())
        };

        let stop = json!({"spec": {"powerState": "Stopped", "metadata": {"tier": "db"}}});
        let said = patch(stop.clone()).await.unwrap_err();
        for words in [
            "spec.powerState",
            "spec.metadata",
            "the Instance is locked (an audit): take spec.locked out first",
        ] {
            assert!(said.contains(words), "{said}");
        }
        // The API server takes a moment to know a policy.
        let dry_run = DeleteParams::default().dry_run();
        eventually("deletion is refused", BOUND, async || {
            let refused = api.delete("kept", &dry_run).await.is_err();
            refused.then_some(()).ok_or("it would be deleted".to_owned())
        })
        .await;
        let said = delete().await.unwrap_err();
        assert!(
            said.contains("spec.locked: the Instance is locked (an audit)"),
            "{said}"
        );
        patch(json!({"metadata": {"labels": {"tier": "db"}}})).await.unwrap();

        patch(json!({"spec": {"locked": null}})).await.unwrap();
        patch(stop).await.unwrap();
        let said = delete().await.unwrap_err();
        assert!(said.contains("spec.protection: the Instance is protected"), "{said}");
        patch(json!({"spec": {"protection": "Disabled"}})).await.unwrap();
        delete().await.unwrap();
    })
    .await;
}
