//! What the node tells of itself.

use serde_json::json;
use virga_core::condition::is_true;
use virga_crds::{Bytes, CachedImageState, Hypervisor, HypervisorStatus, Image, conditions::types};
use virga_testkit::Verb;

use crate::world::{NODE, SHOP, World};

fn status(world: &World) -> HypervisorStatus {
    let hypervisor: Option<Hypervisor> = world.api.read(None, NODE);
    hypervisor.and_then(|hypervisor| hypervisor.status).unwrap_or_default()
}

#[test]
fn a_node_reports_itself_and_what_it_promised() {
    let world = World::with_agent();
    world.eventually("it is ready", || is_true(&status(&world).conditions, types::READY));
    let told = status(&world);
    let capacity = told.capacity.unwrap();
    assert_eq!((capacity.vcpus, capacity.memory), (8, Bytes::gib(16)));
    assert!(capacity.disk > Bytes::ZERO);
    assert_eq!(told.addresses[0].address, "172.31.0.1");
    assert_eq!(told.versions.unwrap().libvirt, "11.3.0");
    assert_eq!(told.capabilities.unwrap().domain_types, ["qemu"]);
    world.guest("web-1", "10.0.0.5");
    world.eventually("it has promised", || {
        let allocated = status(&world).allocated.unwrap_or_default();
        status(&world).instances == 1 && allocated.memory == Bytes::mib(256)
    });
    world.eventually("its lease is renewed", || {
        world
            .api
            .log()
            .iter()
            .any(|request| request.resource == "leases" && request.verb == Verb::Patch)
    });
}

#[test]
fn many_changes_are_few_reports() {
    let world = World::with_agent();
    world.eventually("it is ready", || is_true(&status(&world).conditions, types::READY));
    let mark = world.api.mark();
    let began = std::time::Instant::now();
    for n in 2..12 {
        world.guest(&format!("web-{n}"), &format!("10.0.0.{n}"));
    }
    for n in 2..12 {
        world.await_ready(&format!("web-{n}"));
    }
    world.settle();
    let requests = world.api.requests_since(mark);
    let reports = requests
        .iter()
        .filter(|request| request.resource == "hypervisors" && request.verb.writes());
    let seconds = usize::try_from(began.elapsed().as_secs()).unwrap();
    assert!(
        reports.clone().count() <= seconds + 1,
        "{} in {seconds} s",
        reports.count()
    );
}

#[test]
fn a_node_without_libvirt_says_so_and_keeps_what_it_knew() {
    let world = World::with_agent();
    world.eventually("it is ready", || is_true(&status(&world).conditions, types::READY));
    world.host.lose_connection();
    world.eventually("it is not ready", || {
        let told = status(&world).conditions;
        !is_true(&told, types::READY) && !is_true(&told, types::LIBVIRT_CONNECTED)
    });
    assert_eq!(status(&world).capacity.unwrap().vcpus, 8);
    world.host.restore_connection();
    world.eventually("it is ready again", || {
        is_true(&status(&world).conditions, types::READY)
    });
}

#[test]
fn an_image_is_imported_where_the_controller_says() {
    let world = World::with_agent();
    world.image("other");
    let cached = |world: &World| {
        status(world)
            .images
            .into_iter()
            .find(|image| image.state == CachedImageState::Cached)
    };
    world
        .api
        .merge_status::<Image>(Some(SHOP), "debian", json!({"importer": NODE}));
    world.eventually("it is cached", || cached(&world).is_some());
    let image = cached(&world).unwrap();
    assert_eq!(Some(image.uid), world.read::<Image>("debian").unwrap().metadata.uid);
    assert_eq!(image.virtual_size, Some(Bytes::mib(16)));
    assert!(image.digest.unwrap().starts_with("sha256:"));
    // Nobody asked for the other one.
    assert_eq!(status(&world).images.len(), 1);
}

#[test]
fn a_bad_image_is_reported_with_the_reason() {
    let world = World::with_agent();
    std::fs::write(world.path().join("store/bad.qcow2"), b"<html>not found</html>").unwrap();
    world.image_object("bad");
    world
        .api
        .merge_status::<Image>(Some(SHOP), "bad", json!({"importer": NODE}));
    world.eventually("it is reported", || {
        let images = status(&world).images;
        images
            .iter()
            .any(|image| image.state == CachedImageState::Invalid && image.message.is_some())
    });
}

/// What the chart's ClusterRole and Roles grant the agent. A life that needs more fails here first.
const GRANTED: &[(&str, &[&str])] = &[
    ("configmaps", &["get"]),
    ("events", &["create", "patch"]),
    ("flavors", &["list", "watch"]),
    ("hypervisors", &["create", "list", "watch"]),
    ("hypervisors/status", &["patch"]),
    ("images", &["list", "watch"]),
    ("instances", &["get", "list", "watch", "patch"]),
    ("instances/status", &["patch"]),
    ("leases", &["create", "patch"]),
    ("migrations", &["list", "watch"]),
    ("networks", &["list", "watch"]),
    ("nodes", &["get"]),
    ("ports", &["list", "watch"]),
    ("volumes", &["get", "list", "watch", "patch"]),
    ("volumes/status", &["patch"]),
];

#[test]
fn the_agent_needs_no_more_rights_than_it_is_given() {
    let mut world = World::new();
    world.start_with(|options| options.host_ip = None);
    world.instance("waiting", crate::world::attach("missing"));
    world.volume("data", Bytes::mib(8), Some(NODE));
    let instance = world.instance("web-1", |spec| {
        spec.volumes = vec![virga_crds::VolumeAttachment { name: "data".into() }];
    });
    world.port(&instance, "10.0.0.5");
    world.await_ready("web-1");
    world.eventually("it is ready", || is_true(&status(&world).conditions, types::READY));
    world.settle();
    world.delete("web-1");
    world.await_gone::<virga_crds::Instance>("web-1");
    world.api.delete::<virga_crds::Volume>(Some(SHOP), "data");
    world.await_gone::<virga_crds::Volume>("data");
    for ((_, resource), verbs) in world.api.verbs_used_by("virga-agent") {
        let granted = GRANTED.iter().find(|(name, _)| *name == resource);
        let granted = granted.map_or(&[][..], |(_, verbs)| verbs);
        for verb in verbs {
            assert!(granted.contains(&verb), "{verb} {resource} is not granted");
        }
    }
}
