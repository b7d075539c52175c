use virga_crds::{Instance, Network};

use crate::world::{NAMESPACE, World, interface};

#[tokio::test(start_paused = true)]
async fn a_network_counts_its_addresses_and_outlives_its_ports() {
    let world = World::start().await;
    world.network("front", "10.0.0.0/29");
    world.instance("web-1", Some("a"), |spec| {
        spec.interfaces = vec![interface("front", None)];
    });
    world.settle().await;
    let network = world.api.read::<Network>(Some(NAMESPACE), "front").unwrap();
    let usage = &network.status.unwrap().subnets[0];
    assert_eq!((usage.total, usage.used), (5, 1));

    world.api.delete::<Network>(Some(NAMESPACE), "front");
    world.settle().await;
    let (ready, message) = world.ready::<Network>(Some(NAMESPACE), "front");
    assert_eq!(
        (ready.as_str(), message.as_str()),
        ("False/InUse", "in use by Instance shop/web-1, Port shop/web-1-front")
    );
    world.api.delete::<Instance>(Some(NAMESPACE), "web-1");
    world.agent_lets_go("web-1");
    world.settle().await;
    assert!(world.api.read::<Network>(Some(NAMESPACE), "front").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_network_that_makes_no_sense_says_all_that_is_wrong() {
    let world = World::start().await;
    world.network("bad", "127.0.0.0/8");
    world.settle().await;
    let (ready, message) = world.ready::<Network>(Some(NAMESPACE), "bad");
    assert_eq!(ready, "False/Invalid");
    assert!(
        message.contains("spec.subnets[v4].cidr: 127.0.0.0/8 is reserved"),
        "{message}"
    );
}
