//! Networks of other namespaces.

use serde_json::json;
use virga_crds::{Instance, Interface, Network, NetworkSpec, Port, Subnet};
use virga_hypervisor::Hypervisor as _;

use crate::world::{SHOP, World};

#[test]
fn a_guest_is_plugged_into_the_network_of_another_namespace_and_not_into_its_own_of_that_name() {
    let mut world = World::new();
    world.start();
    let network = |namespace: &str, cidr: &str| {
        let subnet = Subnet {
            name: "v4".into(),
            cidr: cidr.into(),
            ..Subnet::default()
        };
        let spec = NetworkSpec {
            subnets: vec![subnet],
            ..NetworkSpec::default()
        };
        let mut network = Network::new("services", spec);
        network.metadata.namespace = Some(namespace.into());
        world.api.create(&network)
    };
    let shared = network("infra", "10.9.0.0/24");
    network(SHOP, "10.8.0.0/24");
    let instance = world.instance("web-1", |spec| {
        spec.interfaces = vec![Interface {
            network: "services".into(),
            network_namespace: Some("infra".into()),
            ..Interface::default()
        }];
    });
    world.port_in(&instance, "services", "10.9.0.5");
    let elsewhere = json!({"spec": {"networkNamespace": "infra"}});
    world.api.merge::<Port>(Some(SHOP), "web-1-services", elsewhere);
    world.await_ready("web-1");
    let carried = || -> Vec<String> {
        let networks = world.host.networks().unwrap();
        networks.iter().map(|network| network.spec.uuid.to_string()).collect()
    };
    assert_eq!(carried(), [shared.metadata.uid.clone().unwrap()]);
    world.delete("web-1");
    world.await_gone::<Instance>("web-1");
    world.eventually("the network goes with its last guest", || carried().is_empty());
}
