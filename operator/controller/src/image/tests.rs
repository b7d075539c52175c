use kube::ResourceExt as _;
use serde_json::json;
use virga_crds::{Bytes, Hypervisor, Image, ImageState, Instance};

use crate::{
    fixtures,
    world::{NAMESPACE, World},
};

fn status(world: &World) -> virga_crds::ImageStatus {
    world
        .api
        .read::<Image>(Some(NAMESPACE), "debian")
        .unwrap()
        .status
        .unwrap()
}

fn report(world: &World, node: &str, uid: &str, state: &str) {
    let report = json!({
        "uid": uid, "state": state, "progress": 42, "digest": "sha256:1", "size": "1Mi", "virtualSize": "1Gi",
        "format": "QCOW2", "message": "it is a web page",
    });
    world
        .api
        .merge_status::<Hypervisor>(None, node, json!({"images": [report]}));
}

#[tokio::test(start_paused = true)]
async fn an_image_is_imported_by_one_host_and_then_active_for_ever() {
    let world = World::start().await;
    let uid = world.api.create(&fixtures::image("debian")).uid().unwrap();
    world.settle().await;
    assert_eq!(status(&world).state, Some(ImageState::Queued));
    assert_eq!(world.ready::<Image>(Some(NAMESPACE), "debian").0, "False/NoImporter");

    world.host("a");
    world
        .api
        .await_condition::<Image>(Some(NAMESPACE), "debian", |image| {
            image.and_then(|i| i.status.as_ref()?.importer.as_deref()) == Some("a")
        })
        .await;
    report(&world, "a", &uid, "Pulling");
    world.settle().await;
    assert_eq!(
        (status(&world).progress, status(&world).nodes.unwrap().pulling),
        (Some(40), 1)
    );

    report(&world, "a", &uid, "Cached");
    world.settle().await;
    let active = status(&world);
    assert_eq!(
        (active.state, active.digest.as_deref()),
        (Some(ImageState::Active), Some("sha256:1"))
    );
    assert_eq!((active.virtual_size, active.importer), (Some(Bytes::gib(1)), None));

    assert_eq!(active.holders, [], "its agent serves nothing yet");
    let serves = json!({"addresses": [{"type": "InternalIP", "address": "172.31.0.3"}], "transferPort": 9192});
    world.api.merge_status::<Hypervisor>(None, "a", serves);
    world.settle().await;
    let holder = status(&world).holders.pop().unwrap();
    assert_eq!(
        (holder.node.as_str(), holder.address.as_str()),
        ("a", "172.31.0.3:9192")
    );

    world.api.merge_status::<Hypervisor>(None, "a", json!({"images": []}));
    world.settle().await;
    assert_eq!(status(&world).holders, []);
    assert_eq!(
        status(&world).state,
        Some(ImageState::Active),
        "it can be fetched again"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_no_image_is_stalled_with_the_agents_words() {
    let world = World::start().await;
    world.host("a");
    let uid = world.api.create(&fixtures::image("debian")).uid().unwrap();
    world.settle().await;
    report(&world, "a", &uid, "Invalid");
    world.settle().await;
    let (ready, message) = world.ready::<Image>(Some(NAMESPACE), "debian");
    assert_eq!(
        (ready.as_str(), message.as_str()),
        ("False/ImageInvalid", "it is a web page")
    );
}

#[tokio::test(start_paused = true)]
async fn an_image_in_use_outlives_its_deletion() {
    let world = World::start().await;
    world.api.create(&fixtures::image("debian"));
    world.instance("web-1", None, |_| {});
    world.settle().await;
    world.api.delete::<Image>(Some(NAMESPACE), "debian");
    world.settle().await;
    assert_eq!(world.ready::<Image>(Some(NAMESPACE), "debian").0, "False/InUse");
    world.api.delete::<Instance>(Some(NAMESPACE), "web-1");
    world.settle().await;
    assert!(world.api.read::<Image>(Some(NAMESPACE), "debian").is_none());
}
