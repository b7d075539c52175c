use std::collections::BTreeSet;

use serde_json::json;
use virga_crds::{Instance, Port, SoftDelete, managers};
use virga_runtime::apply::Writer;
use virga_testkit::{Fault, Verb};

use crate::world::{NAMESPACE, World, interface, ip};

pub(super) fn network_ready(world: &World, name: &str) -> Option<String> {
    let status = world.api.read::<Instance>(Some(NAMESPACE), name)?.status?;
    let condition = status
        .conditions
        .into_iter()
        .find(|condition| condition.type_ == "NetworkReady")?;
    Some(format!("{}: {}", condition.reason, condition.message))
}

#[tokio::test(start_paused = true)]
async fn a_placed_instance_gets_a_port_for_each_interface_in_one_write_each() {
    let world = World::start().await;
    world.network("front", "10.0.0.0/24");
    world.network("back", "10.1.0.0/24");
    world.settle().await;
    let mark = world.api.mark();
    let interfaces = vec![interface("front", Some("10.0.0.21")), interface("back", None)];
    let instance = world.instance("web-1", Some("a"), |spec| spec.interfaces = interfaces);
    world.settle().await;
    let port = world.api.read::<Port>(Some(NAMESPACE), "web-1-front").unwrap();
    assert_eq!((ip(&port), port.spec.node_name.as_deref()), ("10.0.0.21", Some("a")));
    assert_eq!(
        port.metadata.owner_references.unwrap()[0].uid,
        instance.metadata.uid.unwrap()
    );
    assert!(port.spec.mac.starts_with("fa:16:3e:"));
    let back = world.api.read::<Port>(Some(NAMESPACE), "web-1-back").unwrap();
    assert_eq!(ip(&back), "10.1.0.2");
    let wrote = world.api.requests_since(mark);
    let count = |resource: &str| {
        wrote
            .iter()
            .filter(|r| r.resource == resource && r.verb != Verb::Get)
            .count()
    };
    assert_eq!((count("ports"), count("instances")), (2, 0));
    assert_eq!(
        world
            .api
            .managers_of_field("ports", Some(NAMESPACE), "web-1-front", "spec.mac"),
        [managers::CONTROLLER.to_owned()].into()
    );
}

/// As it was in the lab when a namespace went: the Port first, and then the Instance, whose agent says no more.
#[tokio::test(start_paused = true)]
async fn what_was_said_over_a_silent_agent_s_word_is_left_without_an_error() {
    let world = World::start().await;
    world.host("a");
    let instance = world.instance("web-1", Some("a"), |spec| {
        spec.interfaces = vec![interface("front", None)];
    });
    let agent = Writer::new(world.api.client_as("virga-agent"), managers::AGENT);
    let waits = json!({"conditions": [{
        "type": "NetworkReady", "status": "False", "reason": "Building", "message": "it has no Port yet",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }]});
    agent.apply_status(&instance, &waits).await.unwrap();
    world.settle().await;
    assert!(network_ready(&world, "web-1").unwrap().starts_with("NetworkNotFound"));

    let mark = world.api.mark();
    world.api.delete::<Instance>(Some(NAMESPACE), "web-1");
    world.settle().await;
    let asked = world.api.requests_since(mark);
    let tried = asked
        .iter()
        .filter(|asked| asked.resource == "instances" && asked.verb.writes());
    assert!(tried.count() <= 3, "{asked:#?}");
    assert!(network_ready(&world, "web-1").unwrap().starts_with("NetworkNotFound"));
    world.network("front", "10.0.0.0/24");
    world.agent_lets_go("web-1");
    world.settle().await;
    assert!(world.api.read::<Instance>(Some(NAMESPACE), "web-1").is_none());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_asked_when_nothing_changes() {
    let world = World::start().await;
    world.host("a");
    world.network("front", "10.0.0.0/24");
    world.instance("web-1", Some("a"), |spec| {
        spec.interfaces = vec![interface("front", None)];
    });
    world.settle().await;
    let mark = world.api.mark();
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    let asked = world.api.requests_since(mark);
    assert!(asked.is_empty(), "{asked:#?}");
}

#[tokio::test(start_paused = true)]
async fn two_hundred_at_once_get_an_address_each_also_when_the_leader_changes() {
    let mut world = World::start().await;
    world.network("front", "10.0.0.0/24");
    world.settle().await;
    for n in 0..100 {
        world.instance(&format!("i{n}"), Some("a"), |spec| {
            spec.interfaces = vec![interface("front", None)];
        });
    }
    world.restart().await;
    for n in 100..200 {
        world.instance(&format!("i{n}"), Some("b"), |spec| {
            spec.interfaces = vec![interface("front", None)];
        });
    }
    world.settle().await;
    let ports = world.api.list::<Port>();
    let addresses: BTreeSet<_> = ports.iter().map(ip).collect();
    let macs: BTreeSet<_> = ports.iter().map(|port| &port.spec.mac).collect();
    assert_eq!((ports.len(), addresses.len(), macs.len()), (200, 200, 200));
}

#[tokio::test(start_paused = true)]
async fn a_full_network_says_so_and_gives_the_address_that_comes_free() {
    let world = World::start().await;
    world.network("tiny", "10.0.0.0/30");
    for name in ["first", "second"] {
        world.instance(name, Some("a"), |spec| spec.interfaces = vec![interface("tiny", None)]);
        world.settle().await;
    }
    let said = network_ready(&world, "second").unwrap();
    assert!(
        said.starts_with("AddressExhausted: spec.interfaces[tiny].network: no address is free: 1 of 1"),
        "{said}"
    );

    world.api.delete::<Instance>(Some(NAMESPACE), "first");
    world.agent_lets_go("first");
    let port = world
        .api
        .await_condition::<Port>(Some(NAMESPACE), "second-tiny", |port| port.is_some())
        .await
        .unwrap();
    assert_eq!(ip(&port), "10.0.0.2");
    world.settle().await;
    assert_eq!(
        network_ready(&world, "second"),
        None,
        "from now on it is the agent's to say"
    );
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_had_names_the_field_and_the_cure() {
    let world = World::start().await;
    world.network("front", "10.0.0.0/24");
    world.instance("holder", Some("a"), |spec| {
        spec.interfaces = vec![interface("front", Some("10.0.0.5"))];
    });
    world.settle().await;
    for (name, network, address, expected) in [
        (
            "taken",
            "front",
            Some("10.0.0.5"),
            "AddressInUse: spec.interfaces[front].address: 10.0.0.5 belongs to shop/holder-front",
        ),
        (
            "outside",
            "front",
            Some("10.9.0.5"),
            "AddressInvalid: spec.interfaces[front].address: 10.9.0.5 is in no subnet",
        ),
        (
            "gateway",
            "front",
            Some("10.0.0.1"),
            "AddressInvalid: spec.interfaces[front].address: 10.0.0.1 is the network",
        ),
        (
            "missing",
            "nope",
            None,
            "NetworkNotFound: spec.interfaces[nope].network: Network shop/nope doesn't exist",
        ),
    ] {
        world.instance(name, Some("a"), |spec| {
            spec.interfaces = vec![interface(network, address)];
        });
        world.settle().await;
        let said = network_ready(&world, name).unwrap();
        assert!(said.starts_with(expected), "{said}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_port_follows_its_instance_to_another_node_with_its_address() {
    let world = World::start().await;
    world.network("front", "10.0.0.0/24");
    world.instance("web-1", Some("a"), |spec| {
        spec.interfaces = vec![interface("front", None)];
    });
    world.settle().await;
    let port = || world.api.read::<Port>(Some(NAMESPACE), "web-1-front").unwrap().spec;
    let before = port();
    world
        .api
        .merge::<Instance>(Some(NAMESPACE), "web-1", json!({"spec": {"nodeName": "b"}}));
    world.settle().await;
    assert_eq!(port().node_name.as_deref(), Some("b"));
    assert_eq!((port().mac, port().addresses), (before.mac, before.addresses));
}

#[tokio::test(start_paused = true)]
async fn a_write_that_happened_though_the_answer_was_lost_doubles_nothing() {
    let mut world = World::start().await;
    world.network("front", "10.0.0.0/24");
    world.settle().await;
    world.api.inject(
        Fault::commit_then_status(500)
            .verb(Verb::Patch)
            .resource("ports")
            .times(1),
    );
    world
        .api
        .inject(Fault::status(409).verb(Verb::Patch).resource("ports").times(2));
    world.api.hold_watches();
    world.instance("web-1", Some("a"), |spec| {
        spec.interfaces = vec![interface("front", None)];
    });
    world.api.release_watches();
    world.restart().await;
    world.api.heal();
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    world.settle().await;
    let ports = world.api.list::<Port>();
    assert_eq!(ports.iter().map(ip).collect::<Vec<_>>(), ["10.0.0.2"]);
}

/// The agent says what its guest is plugged into, as of the present spec.
pub(super) fn agent_says(world: &World, name: &str, networks: &[&str]) {
    let instance = world.api.read::<Instance>(Some(NAMESPACE), name).unwrap();
    let ports = world.api.list::<Port>();
    let its = ports
        .iter()
        .filter(|port| port.spec.instance == name && networks.contains(&port.spec.network.as_str()));
    let addresses: Vec<_> = its
        .map(|port| json!({"network": port.spec.network, "ip": ip(port), "mac": port.spec.mac}))
        .collect();
    let status = json!({
        "host": instance.spec.node_name,
        "observedGeneration": instance.metadata.generation,
        "addresses": addresses,
    });
    world.api.merge_status::<Instance>(Some(NAMESPACE), name, status);
}

#[tokio::test(start_paused = true)]
async fn an_interface_is_added_and_its_address_is_free_only_when_the_guest_has_let_go_of_it() {
    let world = World::start().await;
    world.network("front", "10.0.0.0/24");
    world.network("back", "10.1.0.0/24");
    world.instance("web-1", Some("a"), |spec| {
        spec.interfaces = vec![interface("front", None)];
    });
    world.settle().await;
    let port = |name: &str| world.api.read::<Port>(Some(NAMESPACE), name);
    let edit = |networks: serde_json::Value| {
        let change = json!({"spec": {"interfaces": networks}});
        world.api.merge::<Instance>(Some(NAMESPACE), "web-1", change);
    };
    edit(json!([{"network": "front"}, {"network": "back", "address": "10.1.0.7"}]));
    world.settle().await;
    assert_eq!(ip(&port("web-1-back").unwrap()), "10.1.0.7");
    agent_says(&world, "web-1", &["front", "back"]);

    edit(json!([{"network": "front"}]));
    world.settle().await;
    assert!(port("web-1-back").is_some(), "the agent has not spoken of this spec");
    agent_says(&world, "web-1", &["front", "back"]);
    world.settle().await;
    assert!(port("web-1-back").is_some(), "the guest has it still");
    world.instance("web-2", Some("a"), |spec| {
        spec.interfaces = vec![interface("back", Some("10.1.0.7"))];
    });
    world.settle().await;
    assert!(network_ready(&world, "web-2").unwrap().starts_with("AddressInUse"));

    agent_says(&world, "web-1", &["front"]);
    world.settle().await;
    assert!(port("web-1-back").is_none() && port("web-1-front").is_some());
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    world.settle().await;
    assert_eq!(ip(&port("web-2-back").unwrap()), "10.1.0.7", "now it can be another's");

    edit(json!([{"network": "front"}, {"network": "back"}]));
    world.settle().await;
    let anew = port("web-1-back").unwrap();
    assert_ne!(ip(&anew), "10.1.0.7");
}

#[tokio::test(start_paused = true)]
async fn a_port_stays_when_its_interface_was_named_again_behind_a_slow_watch() {
    let world = World::start().await;
    world.network("front", "10.0.0.0/24");
    world.instance("web-1", Some("a"), |spec| {
        spec.interfaces = vec![interface("front", None)];
    });
    world.settle().await;
    let before = world.api.read::<Port>(Some(NAMESPACE), "web-1-front").unwrap();
    let edit = |networks: serde_json::Value| {
        let change = json!({"spec": {"interfaces": networks}});
        world.api.merge::<Instance>(Some(NAMESPACE), "web-1", change);
    };
    edit(json!([]));
    world.settle().await;
    // The first try fails, and the next one comes when the API server has a new wish that the watch has not brought yet.
    let slow = Fault::status(500).verb(Verb::Get).resource("instances").times(1);
    world.api.inject(slow);
    agent_says(&world, "web-1", &[]);
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    world.api.hold_watches();
    edit(json!([{"network": "front"}]));
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    world.api.release_watches();
    world.settle().await;
    let reads = world.api.log().into_iter().filter(|request| {
        request.resource == "instances" && request.verb == Verb::Get && request.name.as_deref() == Some("web-1")
    });
    assert!(reads.count() >= 2, "it was asked again: {}", world.api.story());
    let after = world.api.read::<Port>(Some(NAMESPACE), "web-1-front").unwrap();
    assert_eq!(after.metadata.uid, before.metadata.uid);
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_never_had_a_node_is_let_go() {
    let world = World::start().await;
    world.instance("web-1", None, |_| {});
    world.api.merge::<Instance>(
        Some(NAMESPACE),
        "web-1",
        json!({"metadata": {"finalizers": ["virga.dev/agent"]}}),
    );
    world.settle().await;
    world.api.delete::<Instance>(Some(NAMESPACE), "web-1");
    world.settle().await;
    assert!(world.api.read::<Instance>(Some(NAMESPACE), "web-1").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_soft_deleted_instance_is_deleted_when_its_window_is_over_and_not_when_it_was_restored() {
    let world = World::start().await;
    world.host("a");
    let told = |name: &str| {
        let now = world.api.clock().now();
        let since = k8s_openapi::jiff::Timestamp::from_second(now.as_second()).unwrap();
        let status = json!({"softDelete": {"since": since, "reclaimAt": since}});
        world.api.merge_status::<Instance>(Some(NAMESPACE), name, status);
    };
    for name in ["old", "restored", "young"] {
        world.instance(name, Some("a"), |spec| {
            let reclaim_after = if name == "young" { "9999h" } else { "1h" }.into();
            spec.soft_delete = Some(SoftDelete { reclaim_after });
        });
        told(name);
    }
    world.settle().await;
    let there = |name: &str| {
        let found = world.api.read::<Instance>(Some(NAMESPACE), name);
        found.is_some_and(|found| found.metadata.deletion_timestamp.is_none())
    };
    assert!(there("old") && there("restored") && there("young"));
    let restore = json!({"spec": {"softDelete": null}});
    world.api.merge::<Instance>(Some(NAMESPACE), "restored", restore);
    tokio::time::sleep(std::time::Duration::from_secs(3700)).await;
    world.settle().await;
    assert!(!there("old"));
    assert!(there("restored") && there("young"));
}
