//! The loop on an API in this process; the one with members beside a real OVN without hosts, and in real time.

use serde_json::{Value, json};
use virga_crds::{Instance, LoadBalancer, MemberState, Network, Port};
use virga_ovsdb::{northbound, table::Table as _, testing::Northd};

use crate::{
    fixtures::in_shop,
    ovn::tests::{client, names, so, world_with},
    world::{NAMESPACE, World, interface, ip},
};

const HERE: Option<&str> = Some(NAMESPACE);

fn balancer(world: &World, name: &str, change: impl FnOnce(&mut Value)) {
    let mut spec = json!({
        "vip": {"network": "front"},
        "listeners": [{"protocol": "TCP", "port": 80}],
        "members": {"selector": {"matchLabels": {"app": "web"}}},
    });
    change(&mut spec);
    let made = LoadBalancer::new(name, serde_json::from_value(spec).unwrap());
    world.api.create(&in_shop(made));
}

/// The addresses of LoadBalancers, each with what it is for.
fn addresses(world: &World) -> Vec<(&'static str, String)> {
    let ports = world.api.list::<Port>();
    let held = ports.iter().filter(|port| port.spec.instance.is_empty());
    let mut found: Vec<_> = held
        .map(|port| {
            let what = if port.spec.load_balancer.is_some() {
                "vip"
            } else {
                "check"
            };
            (what, ip(port).to_owned())
        })
        .collect();
    found.sort();
    found
}

#[tokio::test(start_paused = true)]
async fn its_address_is_kept_until_it_goes_and_what_asks_its_members_while_they_are_asked() {
    let mut world = World::on_ovn().await;
    world.network("front", "10.0.0.0/24");
    balancer(&world, "a", |_| {});
    world.settle().await;
    let vip = |ip: &str| ("vip", ip.to_owned());
    assert_eq!(addresses(&world), [vip("10.0.0.2")]);
    world
        .api
        .merge::<LoadBalancer>(HERE, "a", json!({"spec": {"healthCheck": {}}}));
    world.settle().await;
    let both = [("check", "10.0.0.3".to_owned()), vip("10.0.0.2")];
    assert_eq!(addresses(&world), both);
    world.restart().await;
    assert_eq!(addresses(&world), both, "another controller gives no second ones");
    world
        .api
        .merge::<LoadBalancer>(HERE, "a", json!({"spec": {"healthCheck": null}}));
    world.settle().await;
    assert_eq!(addresses(&world), [vip("10.0.0.2")]);

    // Of two that want one address the second waits, and says for whom.
    balancer(&world, "b", |spec| spec["vip"]["address"] = "10.0.0.2".into());
    world.settle().await;
    assert_eq!(addresses(&world), [vip("10.0.0.2")]);

    // The Network waits for them.
    world.api.delete::<Network>(HERE, "front");
    world.settle().await;
    let (_, message) = world.ready::<Network>(HERE, "front");
    assert!(
        message.starts_with("in use by LoadBalancer shop/a, LoadBalancer shop/b"),
        "{message}"
    );
    world.api.delete::<LoadBalancer>(HERE, "a");
    world.api.delete::<LoadBalancer>(HERE, "b");
    world.settle().await;
    assert!(world.api.read::<LoadBalancer>(HERE, "a").is_none());
    assert!(addresses(&world).is_empty());
    assert!(world.api.read::<Network>(HERE, "front").is_none());
}

#[tokio::test(start_paused = true)]
async fn libvirts_networks_have_none() {
    let world = World::start().await;
    world.network("front", "10.0.0.0/24");
    balancer(&world, "a", |_| {});
    world.settle().await;
    let (ready, message) = world.ready::<LoadBalancer>(HERE, "a");
    assert_eq!(ready, "False/NotSupported");
    assert!(message.contains("with OVN"), "{message}");
    assert!(addresses(&world).is_empty());
    world.api.delete::<LoadBalancer>(HERE, "a");
    world.settle().await;
    assert!(world.api.read::<LoadBalancer>(HERE, "a").is_none());
}

#[tokio::test]
async fn members_come_and_go_with_their_instances_and_what_their_hosts_say_is_told() {
    let ovn = Northd::start().unwrap();
    let world = world_with(ovn.northbound(), Some(ovn.southbound()));
    let client = client(ovn.northbound()).await;
    world.network("front", "10.0.0.0/24");
    balancer(&world, "shared", |spec| {
        spec["vip"]["address"] = "10.0.0.100".into();
        spec["healthCheck"] = json!({"interval": "1s"});
    });
    so("nobody is chosen", || {
        world.ready::<LoadBalancer>(HERE, "shared").0 == "False/NoMembers"
    })
    .await;
    for name in ["web-1", "web-2"] {
        world.instance(name, Some("a"), |spec| {
            spec.interfaces = vec![interface("front", None)];
        });
        let labels = json!({"metadata": {"labels": {"app": "web"}}});
        world.api.merge::<Instance>(HERE, name, labels);
        let runs = json!({"state": "Active", "powerState": "Running"});
        world.api.merge_status::<Instance>(HERE, name, runs);
    }
    let status = || world.api.read::<LoadBalancer>(HERE, "shared").unwrap().status.unwrap();
    let behind = || {
        client.read(|replica| {
            let row = replica.rows(northbound::LoadBalancer::SPEC.name).next()?;
            let vips = row.get::<std::collections::BTreeMap<String, String>>("vips").ok()?;
            vips.get("10.0.0.100:80").map(|members| members.split(',').count())
        })
    };
    so("two members", || (status().online, behind()) == (2, Some(2))).await;
    assert_eq!(status().addresses, ["10.0.0.100"]);

    // What a host says of one of them.
    let first = status().members[0].address.clone();
    let monitor = || {
        let find = ["--bare", "--columns=_uuid", "find", "Service_Monitor"];
        let found = ovn.sbctl(&[&find[..], &[&format!("ip={first}")]].concat()).unwrap();
        found.trim().to_owned()
    };
    so("it is asked", || !monitor().is_empty()).await;
    // Who is plugged in nowhere does not answer: ovn-northd sees to that.
    let port = world
        .api
        .read::<Port>(HERE, "web-1-front")
        .unwrap()
        .metadata
        .uid
        .unwrap();
    let find = ["--bare", "--columns=_uuid", "find", "Port_Binding"];
    let binding = ovn
        .sbctl(&[&find[..], &[&format!("logical_port={port}")]].concat())
        .unwrap();
    ovn.sbctl(&["set", "Port_Binding", binding.trim(), "up=true"]).unwrap();
    ovn.sbctl(&["set", "Service_Monitor", &monitor(), "status=offline"])
        .unwrap();
    so("it is told", || status().members[0].state == MemberState::Offline).await;
    assert_eq!(world.ready::<LoadBalancer>(HERE, "shared").0, "True/MembersDegraded");
    assert_eq!((status().online, status().total), (1, 2));
    ovn.sbctl(&["set", "Service_Monitor", &monitor(), "status=online"])
        .unwrap();
    so("it answers", || status().members[0].state == MemberState::Online).await;

    // One is asked to stop: at once nobody is sent there.
    world
        .api
        .merge::<Instance>(HERE, "web-1", json!({"spec": {"powerState": "Stopped"}}));
    so("one member", || behind() == Some(1)).await;
    so("it is told", || status().members[0].state == MemberState::Stopped).await;
    world.api.delete::<Instance>(HERE, "web-2");
    so("none runs", || {
        world.ready::<LoadBalancer>(HERE, "shared").0 == "False/NoMembers"
    })
    .await;
    world.api.delete::<LoadBalancer>(HERE, "shared");
    so("no row is left", || {
        names(&client, northbound::LoadBalancer::SPEC.name).is_empty()
            && names(&client, northbound::LogicalRouter::SPEC.name).is_empty()
    })
    .await;
    so("the object is gone", || {
        world.api.read::<LoadBalancer>(HERE, "shared").is_none()
    })
    .await;
}
