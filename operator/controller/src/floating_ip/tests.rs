use serde_json::json;
use virga_crds::{FloatingIP, Network, Port};

use crate::{
    fixtures::in_shop,
    world::{NAMESPACE, World, ip},
};

/// A world on OVN with an external network.
async fn world() -> World {
    let world = World::on_ovn().await;
    world.outside("10.200.0.0/29", |_| ());
    world.settle().await;
    world
}

fn floating(world: &World, name: &str, spec: serde_json::Value) {
    let mut spec = spec;
    spec["network"] = json!({"name": "public"});
    let made = FloatingIP::new(name, serde_json::from_value(spec).unwrap());
    world.api.create(&in_shop(made));
}

fn addresses(world: &World) -> Vec<(String, String)> {
    let ports = world.api.list::<Port>();
    let held = |port: &Port| {
        (
            port.spec.floating_ip.as_ref().unwrap().name.clone(),
            ip(port).to_owned(),
        )
    };
    let mut found: Vec<_> = ports.iter().map(held).collect();
    found.sort();
    found
}

#[tokio::test(start_paused = true)]
async fn an_address_is_kept_until_the_object_goes_and_then_is_anothers() {
    let mut world = world().await;
    floating(&world, "a", json!({}));
    floating(&world, "b", json!({"address": "10.200.0.6"}));
    world.settle().await;
    let has = |name: &str, ip: &str| (name.to_owned(), ip.to_owned());
    let both = [has("a", "10.200.0.2"), has("b", "10.200.0.6")];
    assert_eq!(addresses(&world), both);
    // Where it leads to changes nothing of that, nor does another leader.
    let leads = json!({"spec": {"instance": "web-1"}});
    world.api.merge::<FloatingIP>(Some(NAMESPACE), "a", leads);
    world.settle().await;
    world.restart().await;
    assert_eq!(addresses(&world), both);

    floating(&world, "c", json!({"address": "10.200.0.6"}));
    world.settle().await;
    let (ready, message) = world.ready::<FloatingIP>(Some(NAMESPACE), "c");
    assert_eq!(ready, "False/NorthboundUnavailable", "{message}");
    world.api.delete::<FloatingIP>(Some(NAMESPACE), "b");
    world.settle().await;
    assert!(world.api.read::<FloatingIP>(Some(NAMESPACE), "b").is_none());
    assert_eq!(addresses(&world), [has("a", "10.200.0.2"), has("c", "10.200.0.6")]);

    // The Network waits for it.
    world.api.delete::<Network>(Some(NAMESPACE), "public");
    world.settle().await;
    let (_, message) = world.ready::<Network>(Some(NAMESPACE), "public");
    assert!(
        message.starts_with("in use by FloatingIP shop/a, FloatingIP shop/c"),
        "{message}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_full_pool_and_another_back_end_are_told() {
    let world = world().await;
    for name in ["a", "b", "c", "d", "e", "f"] {
        floating(&world, name, json!({}));
    }
    world.settle().await;
    // A /29 has six addresses, of which one is the gateway's.
    assert_eq!(addresses(&world).len(), 5);

    let world = World::start().await;
    floating(&world, "a", json!({}));
    world.settle().await;
    let (ready, message) = world.ready::<FloatingIP>(Some(NAMESPACE), "a");
    assert_eq!(ready, "False/NotSupported");
    assert!(message.contains("with OVN"), "{message}");
    assert!(addresses(&world).is_empty());
}
