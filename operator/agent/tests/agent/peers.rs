//! Images that come from another node.

use serde_json::json;
use virga_crds::{CachedImageState, Hypervisor, Image, Instance, conditions::types};

use crate::{
    signer::Signer,
    world::{NODE, SHOP, World},
};

const OTHER: &str = "node-2";

/// Where the first node's agent serves, once it does.
pub fn served(world: &World) -> String {
    let port = || {
        let host: Option<Hypervisor> = world.api.read(None, NODE);
        host?.status?.transfer_port
    };
    // One that is started anew takes it back for a moment, so it is read once.
    let seen = std::cell::Cell::new(None);
    world.eventually("the agent serves", || {
        seen.set(port());
        seen.get().is_some()
    });
    format!("127.0.0.1:{}", seen.get().unwrap())
}

/// Has the first node import the image, and returns its digest.
fn imported(world: &World) -> String {
    world
        .api
        .merge_status::<Image>(Some(SHOP), "debian", json!({"importer": NODE}));
    let digest = || {
        let host: Hypervisor = world.api.read(None, NODE)?;
        let line = host.status?.images.into_iter().next()?;
        (line.state == CachedImageState::Cached).then_some(line.digest?)
    };
    world.eventually("the image is imported", || digest().is_some());
    digest().unwrap()
}

/// What the controller tells of it then.
fn tell(world: &World, digest: &str, holder: &str) {
    let holders = json!([{"node": NODE, "address": holder}]);
    let status = json!({"state": "Active", "importer": null, "digest": digest, "holders": holders});
    world.api.merge_status::<Image>(Some(SHOP), "debian", status);
}

fn guest_on_other(world: &World) -> Instance {
    world.instance("web-1", |spec| {
        spec.interfaces.clear();
        spec.node_name = Some(OTHER.into());
    })
}

#[test]
fn an_image_that_one_node_has_is_fetched_from_there_by_its_digest() {
    let mut first = World::new();
    let signer = Signer::start(&first);
    let mut second = first.beside(OTHER);
    signer.start_agent(&mut first);
    let digest = imported(&first);
    tell(&first, &digest, &served(&first));
    signer.start_agent(&mut second);
    guest_on_other(&first);
    second.await_ready("web-1");
    let name = format!("{}.qcow2", digest.replace(':', "-"));
    let (here, there) = (
        first.path().join("images").join(&name),
        second.path().join("images").join(name),
    );
    assert_eq!(std::fs::read(here).unwrap(), std::fs::read(there).unwrap());
    let left: Vec<_> = std::fs::read_dir(second.path().join("incoming")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(
        !second.path().join("store/debian.qcow2").exists(),
        "it could come from nowhere else"
    );
}

#[test]
fn an_image_whose_holder_does_not_answer_comes_from_its_source() {
    let mut first = World::new();
    let signer = Signer::start(&first);
    let mut second = first.beside(OTHER);
    second.image_file("debian");
    signer.start_agent(&mut first);
    let digest = imported(&first);
    // A port that nobody listens at.
    tell(&first, &digest, "127.0.0.1:1");
    signer.start_agent(&mut second);
    guest_on_other(&first);
    second.await_ready("web-1");
}

#[test]
fn what_can_be_had_nowhere_is_said_and_comes_when_its_holder_does() {
    let mut first = World::new();
    let signer = Signer::start(&first);
    let mut second = first.beside(OTHER);
    signer.start_agent(&mut first);
    let digest = imported(&first);
    tell(&first, &digest, "127.0.0.1:1");
    signer.start_agent(&mut second);
    guest_on_other(&first);
    let waits = second.await_reason("web-1", types::STORAGE_READY, "ImageUnreachable");
    assert!(waits.message.contains("debian"), "{}", waits.message);
    tell(&first, &digest, &served(&first));
    second.await_ready("web-1");
}
