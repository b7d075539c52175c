//! What is told of a decision, by the Instance itself and by the controller's process.

use std::net::SocketAddr;

use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use virga_crds::{Bytes, Instance, InstanceScheduling, labels};
use virga_e2e::objects::instance;
use virga_e2e::{BOUND, Case, condition, eventually, with_temp_namespace};

use crate::process::Controller;
use crate::stage;

/// What the process answers, as JSON.
async fn get(address: SocketAddr, path: &str) -> Value {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{answer}");
    serde_json::from_str(body).unwrap()
}

fn carried(instance: &Instance) -> Option<InstanceScheduling> {
    let text = instance.annotations().get(labels::SCHEDULING)?;
    Some(serde_json::from_str(text).unwrap())
}

async fn read(t: &Case, name: &str) -> Instance {
    t.api().get(name).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_is_told_by_the_instance_and_by_the_process() {
    let controller = Controller::running().await;
    // It holds many objects at a time.
    Box::pin(with_temp_namespace(controller.cluster, async |t| {
        let (hosts, flavor) = stage(&t, &controller, 3, Bytes::gib(8)).await;
        let place = format!("/decisions/{}/web", t.namespace);

        // Placed while it was created.
        let made = t.create(instance("web", &flavor)).await;
        let told = carried(&made).unwrap();
        assert_eq!(serde_json::to_value(told.decided_by).unwrap(), "Admission");
        assert!(told.survivors == 3 && told.weights.len() == 3, "{told:?}");
        let version = made.resource_version();
        let kept = eventually("the process has seen it bound", BOUND, async || {
            let mut answer = get(controller.debug_address(), &place).await;
            let kept = answer["decisions"][0].take();
            (kept["reservation"]["state"] == "Bound")
                .then_some(kept.clone())
                .ok_or_else(|| kept.to_string())
        })
        .await;
        assert_eq!(kept["uid"], made.uid().unwrap(), "{kept}");
        assert_eq!(kept["host"], made.spec.node_name.clone().unwrap(), "{kept}");
        assert_eq!(kept["best"].as_array().unwrap().len(), 3, "{kept}");
        assert_eq!(read(&t, "web").await.resource_version(), version, "no write of ours");

        // Who writes it is the controller, and nobody else.
        for annotations in [json!({labels::SCHEDULING: "{}"}), Value::Null] {
            let change = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
            let changed = t.api::<Instance>().patch("web", &PatchParams::default(), &change).await;
            assert_eq!(carried(&changed.unwrap()), Some(told.clone()));
        }
        let room = Patch::Merge(json!({"metadata": {"annotations": {labels::RESIZE: "{}"}}}));
        let changed = t.api::<Instance>().patch("web", &PatchParams::default(), &room).await;
        assert!(!changed.unwrap().annotations().contains_key(labels::RESIZE));
        let applied = json!({
            "apiVersion": "virga.dev/v1alpha1", "kind": "Instance", "metadata": {"name": "web"},
            "spec": {"flavor": flavor, "image": {"name": "guest"}},
        });
        let by_git = PatchParams::apply("git").force();
        for _ in 0..2 {
            let applied = Patch::Apply(&applied);
            let applied = t.api::<Instance>().patch("web", &by_git, &applied).await.unwrap();
            assert_eq!(carried(&applied), Some(told.clone()));
        }

        // Refused, and then bound by the queue.
        for host in 0..3 {
            hosts.cordon(&t, host, "a new disk").await;
        }
        let mut late = instance("late", &flavor);
        late.annotations_mut().insert(labels::SCHEDULING.into(), "{}".into());
        let late = eventually("one finds no host", BOUND, async || {
            let made = t.dry_run(&late);
            made.stderr
                .contains("ComputeFilter (disabled)")
                .then(|| late.clone())
                .ok_or(made.stderr)
        })
        .await;
        let made = t.create(late).await;
        assert_eq!(carried(&made), None, "a user does not say how it was decided");
        let refused = t
            .await_condition::<Instance>("late", "says why it has no host", |found| {
                condition(found, "Scheduled").is_some()
            })
            .await;
        let told = refused.status.unwrap().scheduling.unwrap();
        assert_eq!((told.hosts, told.survivors, told.rank), (3, 0, None));
        assert_eq!(told.rejections[0].filter, "ComputeFilter");
        let kept = get(controller.debug_address(), &format!("/decisions/{}/late", t.namespace)).await;
        let detail = &kept["decisions"][0]["rejections"][0]["details"][0];
        assert_eq!(detail["note"], "a new disk", "operators read operators' words: {kept}");

        hosts.uncordon(&t, 1).await;
        let bound = t
            .await_condition::<Instance>("late", "placed", |found| found.spec.node_name.is_some())
            .await;
        let told = carried(&bound).unwrap();
        assert_eq!((told.survivors, told.rank), (1, Some(1)));
        assert!(told.reservation_age_milliseconds.is_some());
        assert!(
            !serde_json::to_string(&told).unwrap().contains(hosts.name(1)),
            "{told:?}"
        );
        hosts.down(&t).await;
    }))
    .await;
}
