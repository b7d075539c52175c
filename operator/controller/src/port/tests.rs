use serde_json::json;
use virga_crds::{FloatingIP, NetworkScope, NetworkType, Port, PortHolder, Router, Subnet};

use crate::{
    fixtures::in_shop,
    world::{NAMESPACE, World, ip},
};

/// A world on OVN with an external network of both families.
async fn world() -> World {
    let world = World::on_ovn().await;
    world.network_as("public", "10.200.0.0/29", |spec| {
        spec.type_ = NetworkType::Flat;
        spec.physical_network = Some("physnet".into());
        spec.scope = NetworkScope::External;
        spec.subnets.push(Subnet {
            name: "v6".into(),
            cidr: "2001:db8::/64".into(),
            ..Subnet::default()
        });
    });
    world.settle().await;
    world
}

fn held(world: &World) -> Vec<String> {
    let ports = world.api.list::<Port>();
    let mut said: Vec<String> = ports
        .iter()
        .map(|port| {
            let (ready, message) = world.ready::<Port>(
                port.metadata.namespace.as_deref(),
                port.metadata.name.as_deref().unwrap(),
            );
            format!("{} {} {ready}: {message}", ip(port), port.spec.addresses.len())
        })
        .collect();
    said.sort();
    said
}

#[tokio::test(start_paused = true)]
async fn an_address_that_is_no_guests_is_ready_and_goes_with_a_holder_that_goes_by_force() {
    let world = world().await;
    let spec = json!({"externalGateway": {"network": {"name": "public"}}});
    world
        .api
        .create(&in_shop(Router::new("edge", serde_json::from_value(spec).unwrap())));
    world.settle().await;
    let spec = json!({"network": {"name": "public"}});
    world
        .api
        .create(&in_shop(FloatingIP::new("web", serde_json::from_value(spec).unwrap())));
    world.settle().await;
    // A Router talks IPv6 too; a FloatingIP has one address.
    let of_router = "10.200.0.2 2 True/AddressHeld: kept for Router shop/edge";
    let of_floating = "10.200.0.3 1 True/AddressHeld: kept for FloatingIP shop/web";
    assert_eq!(held(&world), [of_router, of_floating]);

    world.api.hold_watches();
    for kind in ["Router", "FloatingIP"] {
        let none = json!({"metadata": {"finalizers": null}});
        if kind == "Router" {
            world.api.merge::<Router>(Some(NAMESPACE), "edge", none);
            world.api.delete::<Router>(Some(NAMESPACE), "edge");
        } else {
            world.api.merge::<FloatingIP>(Some(NAMESPACE), "web", none);
            world.api.delete::<FloatingIP>(Some(NAMESPACE), "web");
        }
    }
    assert_eq!(world.api.list::<Port>().len(), 2);
    world.api.release_watches();
    world.settle().await;
    assert_eq!(held(&world), [""; 0]);

    // Its address is free again.
    let spec = json!({"network": {"name": "public"}, "address": "10.200.0.2"});
    world
        .api
        .create(&in_shop(FloatingIP::new("next", serde_json::from_value(spec).unwrap())));
    world.settle().await;
    assert_eq!(
        held(&world),
        ["10.200.0.2 1 True/AddressHeld: kept for FloatingIP shop/next"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_collects_what_was_left_before_its_time() {
    let mut world = world().await;
    let spec = json!({"network": {"name": "public"}});
    let web = FloatingIP::new("web", serde_json::from_value(spec).unwrap());
    world.api.create(&in_shop(web));
    world.settle().await;
    let mut left = world.api.list::<Port>().remove(0);
    left.metadata.name = Some("left".into());
    left.spec.floating_ip = Some(PortHolder {
        namespace: NAMESPACE.into(),
        name: "web".into(),
        uid: "of one that had the name before".into(),
    });
    left.metadata.uid = None;
    left.metadata.resource_version = None;
    left.spec.addresses[0].ip = "10.200.0.5".into();
    world.api.create(&left);
    world.restart().await;
    assert_eq!(
        held(&world),
        ["10.200.0.2 1 True/AddressHeld: kept for FloatingIP shop/web"]
    );
}
