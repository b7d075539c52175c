//! The samples, from `kubectl apply` to guests that answer, and back to nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use kube::api::ListParams;
use kube::{Api, ResourceExt};
use virga_crds::{Instance, Port, Volume};
use virga_e2e::on_node::{self, Remains};
use virga_e2e::{BOUND, Cluster, Installation, checkout, condition, eventually, is_ready};

use crate::{GUEST, domain_of, host, node_of};

pub(crate) const NAMESPACE: &str = "shop";

fn path(path: &str) -> String {
    checkout().join(path).to_string_lossy().into_owned()
}

fn instances_api(client: kube::Client) -> Api<Instance> {
    Api::namespaced(client, NAMESPACE)
}

async fn instances(installation: &Installation) -> Vec<Instance> {
    let api = instances_api(installation.cluster.client().await);
    api.list(&ListParams::default()).await.unwrap().items
}

async fn given_the_samples(installation: &Installation) {
    let cluster = &installation.cluster;
    cluster.kubectl(&["apply", "--filename", &path("config/samples")]);
    given(cluster, &["config"]).await;
}

/// Applies kustomizations and waits until all of them are Ready, and kstatus takes them for done.
pub(crate) async fn given(cluster: &Cluster, folders: &[&str]) {
    let began = Instant::now();
    for folder in folders {
        cluster.kubectl(&["apply", "--kustomize", &path(folder)]);
    }
    eventually("every object of the samples is Ready and Current", GUEST, async || {
        let mut judged = Vec::new();
        let mut objects = Vec::new();
        for folder in folders {
            let found = cluster.kubectl(&["get", "--kustomize", &path(folder), "--output=json"]);
            judged.extend(cluster.kstatus(&found));
            let mut found: serde_json::Value = serde_json::from_str(&found).unwrap();
            objects.extend(found["items"].as_array_mut().map(std::mem::take).unwrap_or_default());
        }
        // kstatus takes an object that nobody has looked at yet for done, so Ready is asked for as well.
        let not_ready = objects
            .iter()
            .filter(|object| object["kind"] != "Namespace" && !is_ready(object))
            .map(|object| format!("{} {} is not Ready", object["kind"], object["metadata"]["name"]));
        let not_current = judged.iter().filter(|object| object.status != "Current");
        let not_current = not_current.map(|object| {
            let virga_lab::ObjectStatus {
                kind,
                name,
                status,
                message,
                ..
            } = object;
            format!("{kind} {name}: {status} {message}")
        });
        let waiting: Vec<String> = not_ready.chain(not_current).collect();
        let told = || {
            let wide = cluster.kubectl_says(&["get", "virga", "--all-namespaces", "--output=wide"]);
            let events = cluster.kubectl_says(&["get", "events", "--namespace", NAMESPACE]);
            format!("{}\n{}\n{}", waiting.join("\n"), wide.stdout, events.stdout)
        };
        let all = judged.len() >= 10 && waiting.is_empty();
        all.then_some(()).ok_or_else(told)
    })
    .await;
    println!(
        "the samples are Ready and Current after {:.1} s",
        began.elapsed().as_secs_f64()
    );
}

#[tokio::test]
async fn a_guest_tells_its_name_and_address_on_its_console_and_serves_its_page() {
    let (installation, _turn) = Installation::turn().await;
    let Some(lab) = installation.lab("looks at consoles on the nodes") else {
        return;
    };
    given_the_samples(installation).await;
    for instance in instances(installation).await {
        let (name, node) = (instance.name_any(), host(lab, &instance));
        let address = instance.status.as_ref().unwrap().addresses[0].ip.clone();
        let uid = instance.uid().unwrap();
        let ready = format!("GUEST-READY host={name} ip={address}");
        eventually(&format!("{name} is up"), GUEST, async || {
            let console = on_node::console(&node, &uid);
            console.contains(&ready).then_some(()).ok_or(console)
        })
        .await;
        let page = on_node::page(&node, &address).unwrap();
        assert!(page.contains(&format!("hello from {name}")), "{page}");
        if name == "web-1" {
            assert_eq!(address, "10.20.0.21", "not the address that it asks for");
        }
    }
}

#[tokio::test]
async fn every_object_says_that_it_is_ready_and_of_which_generation() {
    let (installation, _turn) = Installation::turn().await;
    given_the_samples(installation).await;
    let objects = installation
        .cluster
        .kubectl(&["get", "--kustomize", &path("config"), "--output=json"]);
    let objects: serde_json::Value = serde_json::from_str(&objects).unwrap();
    for object in objects["items"].as_array().unwrap() {
        if object["kind"] == "Namespace" {
            continue;
        }
        let name = format!("{} {}", object["kind"], object["metadata"]["name"]);
        assert!(is_ready(object), "{name}: {}", object["status"]);
        for gone in ["Reconciling", "Stalled"] {
            assert_eq!(condition(object, gone), None, "{name}");
        }
    }
}

#[tokio::test]
async fn a_guest_is_known_by_its_name_in_its_network() {
    let (installation, _turn) = Installation::turn().await;
    let Some(lab) = installation.lab("asks the name server of a network on its node") else {
        return;
    };
    given_the_samples(installation).await;
    for instance in instances(installation).await {
        let (name, node) = (instance.name_any(), host(lab, &instance));
        let address = &instance.status.as_ref().unwrap().addresses[0].ip;
        for name in [name.clone(), format!("{name}.front.shop")] {
            let answer = on_node::run(&node, &["busybox", "nslookup", "-type=a", &name, "10.20.0.1"]);
            assert!(answer.contains(address), "{answer}");
        }
    }
}

#[tokio::test]
async fn the_members_of_the_group_run_on_nodes_of_their_own() {
    let (installation, _turn) = Installation::turn().await;
    given_the_samples(installation).await;
    let all = instances(installation).await;
    let members: Vec<&Instance> = all.iter().filter(|found| found.spec.server_group.is_some()).collect();
    let nodes: BTreeSet<String> = members.iter().map(|member| node_of(member)).collect();
    assert_eq!((members.len(), nodes.len()), (2, 2));
    let group = installation
        .cluster
        .kubectl(&["get", "servergroup/web", "--namespace", NAMESPACE, "--output=yaml"]);
    assert!(group.contains("- web-1") && group.contains("- web-2"), "{group}");
}

#[tokio::test]
async fn kubectl_tells_the_whole_story() {
    let (installation, _turn) = Installation::turn().await;
    given_the_samples(installation).await;
    let cluster = &installation.cluster;
    let table = cluster.kubectl(&["get", "virga", "--all-namespaces"]);
    for words in [
        "project.virga.dev/shop",
        "flavor.virga.dev/m1.tiny",
        "image.virga.dev/guest",
        "network.virga.dev/front",
        "servergroup.virga.dev/web",
        "volume.virga.dev/db-data",
        "instance.virga.dev/web-1",
        "hypervisor.virga.dev/node-1",
        "port.virga.dev/",
    ] {
        assert!(table.contains(words), "{words} is not in\n{table}");
    }
    let instances = cluster.kubectl(&["get", "instances", "--namespace", NAMESPACE]);
    let web: Vec<&str> = instances.lines().filter(|line| line.starts_with("web-1")).collect();
    let web = web.join("");
    for words in ["Active", "m1.tiny", "node-", "10.20.0.21", "True", "AsSpecified"] {
        assert!(web.contains(words), "{words} is not in\n{instances}");
    }
    let story = cluster.kubectl(&["describe", "instance/web-1", "--namespace", NAMESPACE]);
    for words in ["Bound", "DisksCreated", "PortsPlugged", "Started", "Events:"] {
        assert!(story.contains(words), "{words} is not in\n{story}");
    }
}

#[tokio::test]
async fn nothing_changes_when_the_samples_are_applied_again() {
    let (installation, _turn) = Installation::turn().await;
    given_the_samples(installation).await;
    let cluster = &installation.cluster;
    let versions = || -> BTreeMap<String, String> {
        let listed = cluster.kubectl(&[
            "get",
            "--kustomize",
            &path("config"),
            "--output=jsonpath={range .items[*]}{.kind}/{.metadata.name} {.metadata.resourceVersion}\n{end}",
        ]);
        let pairs = listed.lines().filter_map(|line| line.split_once(' '));
        pairs
            .map(|(name, version)| (name.to_owned(), version.to_owned()))
            .collect()
    };
    // Two reads that are the same with time between them: all has settled.
    let before = eventually("all has settled", BOUND, async || {
        let first = versions();
        tokio::time::sleep(Duration::from_secs(2)).await;
        let second = versions();
        (first == second).then_some(first).ok_or_else(|| format!("{second:?}"))
    })
    .await;
    assert_eq!(cluster.kubectl(&["diff", "--filename", &path("config/samples")]), "");
    cluster.kubectl(&["apply", "--filename", &path("config/samples")]);
    cluster.kubectl(&["apply", "--kustomize", &path("config")]);
    assert_eq!(versions(), before);
}

#[tokio::test]
async fn the_volume_is_in_the_guest_and_survives_its_instance() {
    let (installation, _turn) = Installation::turn().await;
    let Some(lab) = installation.lab("looks at a domain's disks on its node") else {
        return;
    };
    given_the_samples(installation).await;
    let client = installation.cluster.client().await;
    let (api, volumes) = (
        instances_api(client.clone()),
        Api::<Volume>::namespaced(client, NAMESPACE),
    );
    let instance = api.get("db-1").await.unwrap();
    let volume = volumes.get("db-data").await.unwrap();
    let node = host(lab, &instance);
    let file = format!("/var/lib/virga/volumes/{}.qcow2", volume.uid().unwrap());
    let disks = on_node::run(&node, &["virsh", "domblklist", &domain_of(&instance)]);
    assert!(disks.contains(&file), "{disks}");
    assert_eq!(volume.spec.node_name, instance.spec.node_name);
    assert_eq!(volume.status.unwrap().attachments[0].instance, "db-1");

    installation
        .cluster
        .kubectl(&["delete", "instance/db-1", "--namespace", NAMESPACE, "--timeout=60s"]);
    eventually("the volume is free", BOUND, async || {
        let volume = volumes.get("db-data").await.map_err(|error| error.to_string())?;
        let status = volume.status.clone().unwrap_or_default();
        let free = status.attachments.is_empty() && status.state == Some(virga_crds::VolumeState::Available);
        free.then_some(()).ok_or_else(|| format!("{status:?}"))
    })
    .await;
    assert!(node.file(&file).exists());
    // The next one goes where the data is.
    given_the_samples(installation).await;
    let again = api.get("db-1").await.unwrap();
    assert_ne!(again.uid(), instance.uid());
    assert_eq!(node_of(&again), node_of(&instance));
}

#[tokio::test]
async fn when_the_samples_are_deleted_nothing_is_left() {
    let (installation, _turn) = Installation::turn().await;
    given_the_samples(installation).await;
    let cluster = &installation.cluster;
    let client = cluster.client().await;
    let api = instances_api(client.clone());
    // One by one first: each takes its own things along.
    let one = api.get("web-1").await.unwrap();
    cluster.kubectl(&["delete", "instance/web-1", "--namespace", NAMESPACE, "--timeout=60s"]);
    let ports: Api<Port> = Api::namespaced(client, NAMESPACE);
    eventually("its port is gone", BOUND, async || {
        let left = ports
            .list(&ListParams::default())
            .await
            .map_err(|error| error.to_string())?;
        let left = left.items.iter().filter(|port| port.spec.instance == "web-1").count();
        (left == 0).then_some(()).ok_or_else(|| format!("{left} ports"))
    })
    .await;
    if let Some(lab) = installation.lab("looks for leftovers on the nodes") {
        let left = Remains::of(&host(lab, &one));
        assert!(!left.domains.contains(&domain_of(&one)), "{left:?}");
        assert!(!left.instances.contains(&one.uid().unwrap()), "{left:?}");
    }
    // Then everything at once.
    cluster.kubectl(&[
        "delete",
        "--filename",
        &path("config/samples"),
        "--ignore-not-found",
        "--timeout=120s",
    ]);
    let left = cluster.kubectl_says(&["get", "namespace", NAMESPACE]);
    assert!(!left.ok, "{}", left.stdout);
    if let Some(lab) = installation.lab("looks for leftovers on the nodes") {
        eventually("the nodes are empty", BOUND, async || {
            let left: Vec<Remains> = lab.nodes().iter().map(Remains::of).collect();
            left.iter()
                .all(Remains::is_empty)
                .then_some(())
                .ok_or_else(|| format!("{left:#?}"))
        })
        .await;
    }
}
