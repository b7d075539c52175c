use virga_crds::{Instance, Interface, Network, NetworkSpec, Port, Subnet};

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

/// The status, reason and message of a Network's condition `Shared`.
fn shared(world: &World) -> Option<(String, String, String)> {
    let network = world.api.read::<Network>(Some("infra"), "services")?;
    let conditions = network.status?.conditions;
    let found = conditions.into_iter().find(|found| found.type_ == "Shared")?;
    Some((found.status, found.reason, found.message))
}

#[tokio::test(start_paused = true)]
async fn a_shared_network_takes_guests_of_others_who_keep_what_they_have_when_it_is_taken_back() {
    let world = World::start().await;
    let subnet = Subnet {
        name: "v4".into(),
        cidr: "10.9.0.0/29".into(),
        ..Subnet::default()
    };
    let spec = NetworkSpec {
        subnets: vec![subnet],
        ..NetworkSpec::default()
    };
    let mut services = Network::new("services", spec);
    services.metadata.namespace = Some("infra".into());
    world.api.create(&services);
    let plugged = |name: &str| {
        world.instance(name, Some("a"), |spec| {
            let network_namespace = Some("infra".into());
            spec.interfaces = vec![Interface {
                network_namespace,
                ..interface("services", None)
            }];
        });
    };
    let said = |name: &str| {
        let instance = world.api.read::<Instance>(Some(NAMESPACE), name).unwrap();
        let conditions = instance.status.unwrap().conditions;
        let found = conditions
            .into_iter()
            .find(|found| found.type_ == "NetworkReady")
            .unwrap();
        format!("{}: {}", found.reason, found.message)
    };
    plugged("web-1");
    world.settle().await;
    let refusal = "NetworkNotFound: spec.interfaces[services].network: Network infra/services doesn't exist, or isn't \
                   shared with namespace shop: have it named in its spec.sharedWith";
    assert_eq!(said("web-1"), refusal);
    assert_eq!(shared(&world), None);
    let share = |with: serde_json::Value| {
        world.api.merge::<Network>(
            Some("infra"),
            "services",
            serde_json::json!({"spec": {"sharedWith": with}}),
        );
    };

    share(serde_json::json!(["shop"]));
    world.settle().await;
    let port = world.api.read::<Port>(Some(NAMESPACE), "web-1-services").unwrap();
    assert_eq!(port.spec.network_namespace.as_deref(), Some("infra"));
    assert_eq!(port.spec.addresses[0].ip, "10.9.0.2");
    let (status, reason, message) = shared(&world).unwrap();
    assert_eq!((status.as_str(), reason.as_str()), ("True", "Shared"));
    assert_eq!(message, "shared with 1 namespace: they have 1 Port in 1 namespace");

    // Taken back: who is in stays in, and nobody else comes in.
    share(serde_json::Value::Null);
    plugged("web-2");
    world.settle().await;
    assert_eq!(said("web-2"), refusal);
    let again = world.api.read::<Port>(Some(NAMESPACE), "web-1-services").unwrap();
    assert_eq!((again.metadata.uid, again.spec), (port.metadata.uid, port.spec));
    let (status, reason, message) = shared(&world).unwrap();
    assert_eq!((status.as_str(), reason.as_str()), ("False", "SharingWithdrawn"));
    assert!(
        message.contains("1 Port in 1 namespace") && !message.contains("shop"),
        "{message}"
    );

    // It waits for the Port, and not for who only asks.
    world.api.delete::<Network>(Some("infra"), "services");
    world.settle().await;
    let (ready, message) = world.ready::<Network>(Some("infra"), "services");
    assert_eq!(
        (ready.as_str(), message.as_str()),
        ("False/InUse", "in use by 1 of other namespaces")
    );
    world.api.delete::<Instance>(Some(NAMESPACE), "web-1");
    world.agent_lets_go("web-1");
    world.settle().await;
    assert!(world.api.read::<Network>(Some("infra"), "services").is_none());
}

#[tokio::test(start_paused = true)]
async fn where_guests_make_their_address_the_port_has_the_one_that_follows_from_its_mac_address() {
    let world = World::on_ovn().await;
    world.network_as("six", "10.6.0.0/24", |spec| {
        spec.subnets.push(Subnet {
            name: "v6".into(),
            cidr: "fd00:6::/64".into(),
            ipv6_mode: Some(virga_crds::Ipv6Mode::Slaac),
            ..Subnet::default()
        });
    });
    let plugged = |name: &str, mac: Option<&str>, address: Option<&str>| {
        world.instance(name, Some("a"), |spec| {
            spec.interfaces = vec![Interface {
                mac: mac.map(Into::into),
                ..interface("six", address)
            }];
        });
    };
    plugged("web-1", Some("fa:16:3e:01:02:03"), Some("10.6.0.9"));
    plugged("web-2", None, None);
    plugged("web-3", None, Some("fd00:6::9"));
    world.settle().await;
    let addresses = |name: &str| -> Vec<String> {
        let port = world.api.read::<Port>(Some(NAMESPACE), name).unwrap();
        port.spec.addresses.iter().map(|held| held.ip.clone()).collect()
    };
    assert_eq!(addresses("web-1-six"), ["10.6.0.9", "fd00:6::f816:3eff:fe01:203"]);
    assert!(addresses("web-2-six")[1].starts_with("fd00:6::f816:3eff:fe"));
    let refused = world.api.read::<Instance>(Some(NAMESPACE), "web-3").unwrap();
    let conditions = refused.status.unwrap().conditions;
    let found = conditions.iter().find(|found| found.type_ == "NetworkReady").unwrap();
    assert_eq!(found.reason, "AddressInvalid");
    assert!(
        found.message.contains("fd00:6::9 can't be asked for"),
        "{}",
        found.message
    );
}
