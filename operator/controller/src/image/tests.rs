use kube::ResourceExt as _;
use serde_json::json;
use virga_crds::{Bytes, Hypervisor, Image, ImageSource, ImageState, Instance, InstanceSource};

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

fn snapshot(name: &str, instance: &str) -> Image {
    let mut image = fixtures::image(name);
    image.spec.source = ImageSource {
        instance: Some(InstanceSource {
            name: instance.into(),
            ..InstanceSource::default()
        }),
        ..ImageSource::default()
    };
    image
}

#[tokio::test(start_paused = true)]
async fn an_image_of_an_instance_is_made_and_kept_by_the_host_that_has_the_disk() {
    let world = World::start().await;
    let mut debian = fixtures::image("debian");
    debian.spec.properties.insert("hw_firmware_type".into(), "uefi".into());
    world.api.create(&debian);
    for node in ["a", "b"] {
        world.host(node);
    }
    let uid = world.api.create(&snapshot("copy", "web-1")).uid().unwrap();
    let read = || world.api.read::<Image>(Some(NAMESPACE), "copy").unwrap();
    world.settle().await;
    assert_eq!(
        world.ready::<Image>(Some(NAMESPACE), "copy").0,
        "False/InstanceNotFound"
    );

    let instance = world.instance("web-1", Some("b"), |_| {});
    let built = json!({"flavor": {"name": "m1.small", "vcpus": 1, "memory": "1Gi", "disk": "5Gi"}});
    world.api.merge_status::<Instance>(Some(NAMESPACE), "web-1", built);
    world
        .api
        .await_condition::<Image>(Some(NAMESPACE), "copy", |image| {
            image
                .and_then(|image| image.status.as_ref()?.importer.as_ref())
                .is_some()
        })
        .await;
    let status = read().status.unwrap();
    let from = status.snapshot.unwrap();
    assert_eq!(
        (status.importer.as_deref(), Some(&from.instance_uid)),
        (Some("b"), instance.metadata.uid.as_ref())
    );
    assert_eq!(
        (from.min_disk, from.properties["hw_firmware_type"].as_str()),
        (Bytes::gib(5), "uefi")
    );
    assert!(read().spec.properties.is_empty(), "the spec is its user's");

    report(&world, "b", &uid, "Cached");
    world.settle().await;
    let status = read().status.unwrap();
    assert_eq!(
        (status.state, status.keeper.as_deref()),
        (Some(ImageState::Active), Some("b"))
    );
    assert_eq!(status.digest.as_deref(), Some("sha256:1"));

    world.api.merge_status::<Hypervisor>(None, "b", json!({"images": []}));
    world.settle().await;
    let (ready, message) = world.ready::<Image>(Some(NAMESPACE), "copy");
    assert_eq!(ready, "False/OnlyCopyAway");
    assert!(message.contains("last seen on b"), "{message}");
    // What another host had fetched is as good.
    report(&world, "a", &uid, "Cached");
    world.settle().await;
    assert_eq!(read().status.unwrap().keeper.as_deref(), Some("a"));
    assert_eq!(world.ready::<Image>(Some(NAMESPACE), "copy").0, "True/Imported");
}
