//! A Port that a user made, from its manifest to the next Instance that has it.

use kube::ResourceExt as _;
use serde_json::{Value, json};
use virga_crds::{Allocation, Instance, Interface, Network, NetworkSpec, Port, PortSpec, Subnet};
use virga_runtime::apply::Writer;
use virga_testkit::{Fault, Verb};

use crate::{
    fixtures::in_shop,
    instance::tests::{agent_says, network_ready},
    world::{NAMESPACE, World, ip},
};

fn named(port: &str) -> Interface {
    Interface {
        network: "front".into(),
        port: Some(port.into()),
        ..Interface::default()
    }
}

/// A Port as a user writes it.
fn make(world: &World, name: &str, spec: Value) {
    let spec: PortSpec = serde_json::from_value(spec).unwrap();
    world.api.create(&in_shop(Port::new(name, spec)));
}

fn plug(world: &World, instance: &str, node: &str, port: &str) {
    world.instance(instance, Some(node), |spec| spec.interfaces = vec![named(port)]);
}

fn port(world: &World, name: &str) -> Port {
    world.api.read(Some(NAMESPACE), name).unwrap()
}

fn ready(world: &World, name: &str) -> String {
    let (ready, message) = world.ready::<Port>(Some(NAMESPACE), name);
    format!("{ready}: {message}")
}

/// Who has it, and where.
fn holder(world: &World, name: &str) -> (String, Option<String>, Option<String>, String) {
    let spec = port(world, name).spec;
    (spec.instance, spec.instance_uid, spec.node_name, spec.hostname)
}

fn nobody() -> (String, Option<String>, Option<String>, String) {
    (String::new(), None, None, String::new())
}

fn uid(world: &World, instance: &str) -> Option<String> {
    let found: Instance = world.api.read(Some(NAMESPACE), instance).unwrap();
    found.metadata.uid
}

fn is_had_by(world: &World, name: &str, instance: &str, node: &str) {
    let by = (
        instance.to_owned(),
        uid(world, instance),
        Some(node.to_owned()),
        instance.to_owned(),
    );
    assert_eq!(holder(world, name), by);
}

async fn with_front() -> World {
    let world = World::start().await;
    world.network("front", "10.0.0.0/29");
    world.settle().await;
    world
}

#[tokio::test(start_paused = true)]
async fn what_its_author_left_out_is_filled_in_and_the_manifest_can_be_applied_again() {
    let world = with_front().await;
    let kubectl = Writer::new(world.api.client_as("jane"), "kubectl");
    let spec = json!({"network": "front", "mac": "fa:16:3e:11:22:33"});
    let manifest = in_shop(Port::new("kept", serde_json::from_value(spec).unwrap()));
    kubectl.apply(None, &manifest).await.unwrap();
    world.settle().await;
    let given = port(&world, "kept");
    assert_eq!(
        (given.spec.allocation, ip(&given), given.spec.mac.as_str()),
        (Some(Allocation::Given), "10.0.0.2", "fa:16:3e:11:22:33")
    );
    assert_eq!(given.finalizers(), ["virga.dev/controller"]);
    assert!(given.owner_references().is_empty());
    assert_eq!(
        ready(&world, "kept"),
        "True/AddressHeld: kept for the Instance that names it"
    );
    kubectl.apply(None, &manifest).await.unwrap();
    world.settle().await;
    assert_eq!(port(&world, "kept").spec, given.spec);
    let network = world.api.read::<Network>(Some(NAMESPACE), "front").unwrap();
    assert_eq!(network.status.unwrap().subnets[0].used, 1);

    let mark = world.api.mark();
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    assert!(world.api.requests_since(mark).is_empty(), "nothing is left to do");
}

#[tokio::test(start_paused = true)]
async fn one_instance_has_it_at_a_time_and_the_heir_gets_the_same_address() {
    let world = with_front().await;
    world.host("a");
    make(
        &world,
        "kept",
        json!({"network": "front", "addresses": [{"subnet": "v4", "ip": "10.0.0.5"}]}),
    );
    world.settle().await;
    let before = port(&world, "kept").spec;
    plug(&world, "stranger", "a", "kept");
    world.settle().await;
    is_had_by(&world, "kept", "stranger", "a");
    assert!(world.api.read::<Port>(Some(NAMESPACE), "stranger-front").is_none());
    assert_eq!(
        ready(&world, "kept"),
        "True/AddressHeld: kept for Instance stranger, which has it"
    );

    plug(&world, "heir", "b", "kept");
    world.settle().await;
    assert_eq!(
        network_ready(&world, "heir").unwrap(),
        "PortInUse: spec.interfaces[front].port: Port shop/kept is Instance stranger's: it waits until that is deleted, or \
         its interface taken out"
    );
    // It is not let go of while the guest may still have it.
    world.api.delete::<Instance>(Some(NAMESPACE), "stranger");
    world.settle().await;
    assert_eq!(holder(&world, "kept").0, "stranger");
    world.agent_lets_go("stranger");
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    world.settle().await;
    is_had_by(&world, "kept", "heir", "b");
    let after = port(&world, "kept").spec;
    assert_eq!((&after.mac, &after.addresses), (&before.mac, &before.addresses));
    assert_eq!(
        network_ready(&world, "heir"),
        None,
        "from now on it is the agent's to say"
    );

    // It follows, and is on no node when nobody has it.
    let moved = json!({"spec": {"nodeName": "c"}});
    world.api.merge::<Instance>(Some(NAMESPACE), "heir", moved);
    world.settle().await;
    is_had_by(&world, "kept", "heir", "c");
    world.api.delete::<Instance>(Some(NAMESPACE), "heir");
    world.agent_lets_go("heir");
    world.settle().await;
    assert_eq!(holder(&world, "kept"), nobody());
    assert_eq!(ip(&port(&world, "kept")), "10.0.0.5");
}

#[tokio::test(start_paused = true)]
async fn an_interface_that_is_taken_out_lets_go_of_it_on_the_agents_word() {
    let world = with_front().await;
    make(&world, "kept", json!({"network": "front"}));
    make(&world, "other", json!({"network": "front"}));
    plug(&world, "web-1", "a", "kept");
    world.settle().await;
    let edit = |interfaces: Value| {
        let change = json!({"spec": {"interfaces": interfaces}});
        world.api.merge::<Instance>(Some(NAMESPACE), "web-1", change);
    };
    edit(json!([]));
    world.settle().await;
    assert_eq!(
        holder(&world, "kept").0,
        "web-1",
        "the agent has not spoken of this spec"
    );
    agent_says(&world, "web-1", &["front"]);
    world.settle().await;
    assert_eq!(holder(&world, "kept").0, "web-1", "the guest has it still");

    // Another Port comes into the same Network before the first one is out.
    edit(json!([{"network": "front", "port": "other"}]));
    world.settle().await;
    is_had_by(&world, "other", "web-1", "a");
    agent_says(&world, "web-1", &["front"]);
    world.settle().await;
    assert_eq!(holder(&world, "kept").0, "web-1", "the guest has both");
    let other = port(&world, "other");
    let only = json!([{"network": "front", "ip": ip(&other), "mac": other.spec.mac}]);
    world
        .api
        .merge_status::<Instance>(Some(NAMESPACE), "web-1", json!({"addresses": only}));
    world.settle().await;
    assert_eq!(holder(&world, "kept"), nobody());
    is_had_by(&world, "other", "web-1", "a");
}

#[tokio::test(start_paused = true)]
async fn whatever_step_the_controller_dies_at_the_next_one_goes_on() {
    let mut world = with_front().await;
    let lost = |world: &World| {
        let fault = Fault::commit_then_status(500).verb(Verb::Patch).resource("ports");
        world.api.inject(fault.times(1));
    };
    lost(&world);
    make(&world, "kept", json!({"network": "front"}));
    world.restart().await;
    world.settle().await;
    let before = port(&world, "kept").spec;
    assert_eq!(before.allocation, Some(Allocation::Given));

    lost(&world);
    world.api.hold_watches();
    plug(&world, "stranger", "a", "kept");
    world.api.release_watches();
    world.restart().await;
    world.settle().await;
    is_had_by(&world, "kept", "stranger", "a");

    // The Instance goes while nobody leads, and another one of its name comes.
    lost(&world);
    world.api.hold_watches();
    world.api.delete::<Instance>(Some(NAMESPACE), "stranger");
    world.agent_lets_go("stranger");
    plug(&world, "stranger", "b", "kept");
    world.api.release_watches();
    world.restart().await;
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    world.settle().await;
    is_had_by(&world, "kept", "stranger", "b");
    let after = port(&world, "kept").spec;
    assert_eq!((after.mac, after.addresses), (before.mac, before.addresses));
    // The books of the new leader count it.
    plug(&world, "web-1", "a", "none");
    make(&world, "more", json!({"network": "front"}));
    world.settle().await;
    assert_ne!(ip(&port(&world, "more")), ip(&port(&world, "kept")));
}

#[tokio::test(start_paused = true)]
async fn a_port_in_use_stays_and_its_address_is_free_only_when_it_is_gone() {
    let world = with_front().await;
    make(
        &world,
        "kept",
        json!({"network": "front", "addresses": [{"subnet": "v4", "ip": "10.0.0.5"}]}),
    );
    plug(&world, "web-1", "a", "kept");
    world.settle().await;
    world.api.delete::<Port>(Some(NAMESPACE), "kept");
    world.settle().await;
    assert_eq!(
        ready(&world, "kept"),
        "False/InUse: in use by Instance web-1: it goes when that lets go of it"
    );
    make(
        &world,
        "next",
        json!({"network": "front", "addresses": [{"subnet": "v4", "ip": "10.0.0.5"}]}),
    );
    world.settle().await;
    assert_eq!(
        ready(&world, "next"),
        "False/AddressInUse: spec.addresses: 10.0.0.5 belongs to shop/kept; choose another, or leave the address out"
    );
    let moved = json!({"spec": {"nodeName": "b"}});
    world.api.merge::<Instance>(Some(NAMESPACE), "web-1", moved);
    world.settle().await;
    is_had_by(&world, "kept", "web-1", "b");
    world.api.delete::<Instance>(Some(NAMESPACE), "web-1");
    world.agent_lets_go("web-1");
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    world.settle().await;
    assert!(world.api.read::<Port>(Some(NAMESPACE), "kept").is_none());
    assert_eq!(ip(&port(&world, "next")), "10.0.0.5");
    world.api.delete::<Network>(Some(NAMESPACE), "front");
    world.settle().await;
    let (_, message) = world.ready::<Network>(Some(NAMESPACE), "front");
    assert_eq!(message, "in use by Port shop/next");
    world.api.delete::<Port>(Some(NAMESPACE), "next");
    world.settle().await;
    assert!(world.api.read::<Network>(Some(NAMESPACE), "front").is_none());
}

#[tokio::test(start_paused = true)]
async fn what_it_cannot_have_is_said_with_the_field_and_what_comes_free_is_taken() {
    let world = World::start().await;
    let subnet = Subnet {
        name: "v4".into(),
        cidr: "10.9.0.0/29".into(),
        ..Subnet::default()
    };
    let spec = NetworkSpec {
        subnets: vec![subnet],
        shared_with: vec!["shop".into()],
        ..NetworkSpec::default()
    };
    let mut services = Network::new("services", spec);
    services.metadata.namespace = Some("infra".into());
    world.api.create(&services);
    let theirs =
        json!({"network": "services", "mac": "fa:16:3e:00:00:07", "addresses": [{"subnet": "v4", "ip": "10.9.0.5"}]});
    let mut theirs = Port::new("secret", serde_json::from_value(theirs).unwrap());
    theirs.metadata.namespace = Some("infra".into());
    world.api.create(&theirs);
    world.network("tiny", "10.0.0.0/30");
    make(&world, "first", json!({"network": "tiny"}));
    world.settle().await;
    let shared = |more: Value| {
        let mut spec = json!({"network": "services", "networkNamespace": "infra"});
        json_patch::merge(&mut spec, &more);
        spec
    };
    let address = |subnet: &str, ip: &str| json!({"addresses": [{"subnet": subnet, "ip": ip}]});
    for (name, spec, expected) in [
        (
            "nowhere",
            json!({"network": "nope"}),
            "NetworkNotFound: spec.network: Network shop/nope doesn't exist: create it",
        ),
        (
            "full",
            json!({"network": "tiny"}),
            "AddressExhausted: spec.network: no address is free: 1 of 1 are used",
        ),
        (
            "taken",
            shared(address("v4", "10.9.0.5")),
            "AddressInUse: spec.addresses: 10.9.0.5 is taken; choose another",
        ),
        (
            "mac",
            shared(json!({"mac": "fa:16:3e:00:00:07"})),
            "AddressInUse: spec.mac: fa:16:3e:00:00:07 is taken; choose",
        ),
        (
            "outside",
            shared(address("v4", "10.8.0.5")),
            "AddressInvalid: spec.addresses[v4].ip: 10.8.0.5 is not in subnet v4",
        ),
        (
            "subnet",
            shared(address("v6", "10.9.0.6")),
            "AddressInvalid: spec.addresses[v6].subnet: Network services has no such",
        ),
        (
            "gateway",
            shared(address("v4", "10.9.0.1")),
            "AddressInvalid: spec.addresses[v4].ip: 10.9.0.1 is the network",
        ),
        (
            "told",
            shared(json!({"dhcpOptions": [{"name": "MTU", "value": "1400"}]})),
            "NotSupported: spec.dhcpOptions: libvirt's networks tell all guests the same",
        ),
        (
            "limited",
            shared(json!({"qos": {"dscpMark": 5}})),
            "NotEnforced: spec.qos: libvirt's networks limit",
        ),
    ] {
        make(&world, name, spec);
        world.settle().await;
        let said = ready(&world, name);
        assert!(said.starts_with(&format!("False/{expected}")), "{said}");
        assert!(!said.contains("secret"), "{said}");
        assert_eq!(port(&world, name).spec.allocation, None);
    }
    // A name of another namespace's is told to nobody, and who only asks keeps its author from nothing.
    let (_, message) = world.ready::<Network>(Some("infra"), "services");
    assert_eq!(message, "Instances can be plugged in");

    world.api.delete::<Port>(Some(NAMESPACE), "first");
    let correct = json!({"spec": {"addresses": [{"subnet": "v4", "ip": "10.9.0.6"}]}});
    world.api.merge::<Port>(Some(NAMESPACE), "taken", correct);
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    world.settle().await;
    assert_eq!(
        (ip(&port(&world, "full")), ip(&port(&world, "taken"))),
        ("10.0.0.2", "10.9.0.6")
    );
}

#[tokio::test(start_paused = true)]
async fn an_instance_says_why_it_has_not_the_port_that_it_names() {
    let world = with_front().await;
    world.network("back", "10.1.0.0/24");
    make(&world, "elsewhere", json!({"network": "back"}));
    make(
        &world,
        "bare",
        json!({"network": "front", "addresses": [{"subnet": "v4", "ip": "10.7.0.9"}]}),
    );
    world.instance("web-9", Some("a"), |spec| {
        spec.interfaces = vec![Interface {
            network: "back".into(),
            ..Interface::default()
        }];
    });
    world.settle().await;
    for (port, expected) in [
        (
            "nope",
            "PortNotFound: spec.interfaces[front].port: Port shop/nope doesn't exist: create it, or name another",
        ),
        (
            "elsewhere",
            "Invalid: spec.interfaces[front].port: Port shop/elsewhere is in Network shop/back: write network back here, or \
             name another Port",
        ),
        (
            "web-9-back",
            "Invalid: spec.interfaces[front].port: Port shop/web-9-back was made for something else, and goes with it: name \
             one that you made",
        ),
        (
            "bare",
            "WaitingForAddress: spec.interfaces[front].port: Port shop/bare has no addresses yet: spec.addresses[v4].ip: \
             10.7.0.9 is not in subnet v4 (10.0.0.0/29); choose one that is, or leave the address out",
        ),
    ] {
        let name = format!("of-{port}");
        plug(&world, &name, "a", port);
        world.settle().await;
        assert_eq!(network_ready(&world, &name).unwrap(), expected);
    }
    // One whose name an interface's own Port would have is left alone.
    make(&world, "web-1-front", json!({"network": "front"}));
    world.settle().await;
    world.instance("web-1", Some("a"), |spec| {
        spec.interfaces = vec![Interface {
            network: "front".into(),
            ..Interface::default()
        }];
    });
    world.settle().await;
    let said = network_ready(&world, "web-1").unwrap();
    assert!(
        said.starts_with("PortInUse: Port web-1-front was made by a user"),
        "{said}"
    );
    assert_eq!(holder(&world, "web-1-front"), nobody());
}

#[tokio::test(start_paused = true)]
async fn a_sub_port_may_be_one_too_and_so_may_its_parent() {
    let world = World::on_ovn().await;
    world.network("front", "10.0.0.0/24");
    world.network("dmz", "10.1.0.0/24");
    let options = json!([{"name": "BootfileName", "value": "pxelinux.0"}]);
    make(&world, "parent", json!({"network": "front", "dhcpOptions": options}));
    make(&world, "sub", json!({"network": "dmz"}));
    let interfaces = json!([
        {"network": "front", "port": "parent", "trunk": {"subPorts": [{"segmentID": 100, "network": "dmz", "port": "sub"}]}},
    ]);
    world.instance("web-1", Some("a"), |spec| {
        spec.interfaces = serde_json::from_value(interfaces).unwrap();
    });
    world.settle().await;
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    world.settle().await;
    is_had_by(&world, "parent", "web-1", "a");
    is_had_by(&world, "sub", "web-1", "a");
    let trunk = port(&world, "sub").spec.trunk.unwrap();
    assert_eq!(
        (trunk.port.as_str(), Some(trunk.uid), trunk.segment_id),
        ("parent", port(&world, "parent").metadata.uid, 100)
    );
    world.api.delete::<Instance>(Some(NAMESPACE), "web-1");
    world.agent_lets_go("web-1");
    world.settle().await;
    for name in ["parent", "sub"] {
        assert_eq!(holder(&world, name), nobody());
        assert_eq!(port(&world, name).spec.trunk, None);
    }
}
