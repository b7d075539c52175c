use serde_json::json;
use virga_crds::{
    ExternalGateway, Network, NetworkRef, NetworkScope, NetworkSpec, NetworkType, Port, Router, RouterNetwork,
    RouterSpec, Subnet,
};

use crate::{
    fixtures::in_shop,
    world::{NAMESPACE, World, ip},
};

fn outside(world: &World, namespace: &str, name: &str, scope: NetworkScope) {
    let subnet = Subnet {
        name: "v4".into(),
        cidr: "10.200.0.0/24".into(),
        ..Subnet::default()
    };
    let spec = NetworkSpec {
        type_: NetworkType::Flat,
        physical_network: Some("physnet".into()),
        scope,
        subnets: vec![subnet],
        ..NetworkSpec::default()
    };
    let mut network = Network::new(name, spec);
    network.metadata.namespace = Some(namespace.into());
    world.api.create(&network);
}

fn router(name: &str, networks: &[&str], outside: Option<(&str, Option<&str>)>) -> Router {
    let joined = networks.iter().map(|network| RouterNetwork {
        network: (*network).into(),
        ..RouterNetwork::default()
    });
    let spec = RouterSpec {
        networks: joined.collect(),
        external_gateway: outside.map(|(network, address)| ExternalGateway {
            network: NetworkRef {
                name: network.into(),
                namespace: Some("infra".into()),
            },
            address: address.map(Into::into),
            ..ExternalGateway::default()
        }),
        ..RouterSpec::default()
    };
    in_shop(Router::new(name, spec))
}

fn addresses(world: &World) -> Vec<(String, String)> {
    let mut found: Vec<_> = world
        .api
        .list::<Port>()
        .iter()
        .map(|port| (port.spec.router.as_ref().unwrap().name.clone(), ip(port).to_owned()))
        .collect();
    found.sort();
    found
}

#[tokio::test(start_paused = true)]
async fn a_router_has_an_address_outside_until_it_is_gone() {
    let world = World::on_ovn().await;
    outside(&world, "infra", "public", NetworkScope::External);
    world.api.create(&router("edge", &[], Some(("public", None))));
    world
        .api
        .create(&router("other", &[], Some(("public", Some("10.200.0.77")))));
    world.settle().await;
    let has = |name: &str, ip: &str| (name.to_owned(), ip.to_owned());
    assert_eq!(
        addresses(&world),
        [has("edge", "10.200.0.2"), has("other", "10.200.0.77")]
    );
    let port = &world.api.list::<Port>()[0];
    assert_eq!(port.metadata.namespace.as_deref(), Some("infra"), "beside its Network");
    world.settle().await;
    let network = world.api.read::<Network>(Some("infra"), "public").unwrap();
    assert_eq!(network.status.unwrap().subnets[0].used, 2);

    // Another one, when it is asked for.
    let other = json!({"spec": {"externalGateway": {"address": "10.200.0.78"}}});
    world.api.merge::<Router>(Some(NAMESPACE), "other", other);
    world.settle().await;
    assert_eq!(
        addresses(&world),
        [has("edge", "10.200.0.2"), has("other", "10.200.0.78")]
    );

    world.api.delete::<Router>(Some(NAMESPACE), "edge");
    world.settle().await;
    assert!(world.api.read::<Router>(Some(NAMESPACE), "edge").is_none());
    assert_eq!(addresses(&world), [has("other", "10.200.0.78")]);
}

#[tokio::test(start_paused = true)]
async fn another_controller_gives_no_second_address() {
    let mut world = World::on_ovn().await;
    outside(&world, "infra", "public", NetworkScope::External);
    world.api.create(&router("edge", &[], Some(("public", None))));
    world.settle().await;
    let before = addresses(&world);
    assert_eq!(before.len(), 1);
    world.restart().await;
    assert_eq!(addresses(&world), before);
}

#[tokio::test(start_paused = true)]
async fn nobody_takes_addresses_of_a_network_that_is_not_external() {
    let world = World::on_ovn().await;
    outside(&world, "infra", "public", NetworkScope::Internal);
    world.api.create(&router("edge", &[], Some(("public", None))));
    world.settle().await;
    assert!(addresses(&world).is_empty());
    // It may become external.
    let external = json!({"spec": {"scope": "External"}});
    world.api.merge::<Network>(Some("infra"), "public", external);
    world.settle().await;
    assert_eq!(addresses(&world).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_address_of_its_own_choice_is_taken_and_a_gateway_is_not() {
    let world = World::on_ovn().await;
    world.network("front", "10.0.0.0/24");
    world.network("back", "10.1.0.0/24");
    let mut edge = router("edge", &["front", "back"], None);
    edge.spec.networks[0].address = Some("10.0.0.1".into());
    edge.spec.networks[1].address = Some("10.1.0.9".into());
    world.api.create(&edge);
    world.settle().await;
    assert_eq!(addresses(&world), [("edge".to_owned(), "10.1.0.9".to_owned())]);
    // What it joins can't go before it.
    world.api.delete::<Network>(Some(NAMESPACE), "front");
    world.settle().await;
    let (ready, message) = world.ready::<Network>(Some(NAMESPACE), "front");
    assert_eq!(
        (ready.as_str(), message.as_str()),
        ("False/InUse", "in use by Router shop/edge")
    );
    world.api.delete::<Router>(Some(NAMESPACE), "edge");
    world.settle().await;
    assert!(world.api.read::<Network>(Some(NAMESPACE), "front").is_none());
    assert!(addresses(&world).is_empty());
}

#[tokio::test(start_paused = true)]
async fn libvirts_networks_have_no_routers() {
    let world = World::start().await;
    world.network("front", "10.0.0.0/24");
    world.api.create(&router("edge", &["front"], None));
    world.settle().await;
    let (ready, message) = world.ready::<Router>(Some(NAMESPACE), "edge");
    assert_eq!(ready, "False/NotSupported");
    assert!(message.contains("with OVN"), "{message}");
    world.api.delete::<Router>(Some(NAMESPACE), "edge");
    world.settle().await;
    assert!(world.api.read::<Router>(Some(NAMESPACE), "edge").is_none());
}
