//! The loops on an API in this process; those with rules in force beside a real ovsdb-server, and in real time.

use serde_json::json;
use virga_crds::{Instance, Interface, Network, Port, Project, ProjectSpec, SecurityGroup, SecurityGroupSpec};
use virga_ovsdb::{
    Client,
    northbound::{Acl, PortGroup},
    table::Table as _,
    testing::Server,
};

use crate::{
    fixtures::in_shop,
    ovn::tests::{client, names, so, world},
    world::{NAMESPACE, World, interface},
};

const HERE: Option<&str> = Some(NAMESPACE);

fn group(name: &str, rules: &serde_json::Value) -> SecurityGroup {
    let spec: SecurityGroupSpec = serde_json::from_value(json!({"rules": rules})).unwrap();
    in_shop(SecurityGroup::new(name, spec))
}

fn in_groups(network: &str, groups: &[&str]) -> Interface {
    Interface {
        security_groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        ..interface(network, None)
    }
}

fn ready(world: &World, name: &str) -> String {
    world.ready::<SecurityGroup>(HERE, name).0
}

/// What the rules match, in order.
fn rules(client: &Client) -> Vec<String> {
    let mut found: Vec<String> = client.read(|replica| {
        let rows = replica.rows(Acl::SPEC.name);
        let rows = rows.filter(|row| row.external_id("virga.dev/security-group").is_some());
        rows.map(|row| row.get::<String>("match").unwrap()).collect()
    });
    found.sort();
    found
}

#[tokio::test(start_paused = true)]
async fn libvirt_enforces_nothing_and_says_so_and_who_asks_for_a_group_waits() {
    let world = World::start().await;
    world.network("front", "10.0.0.0/24");
    world.api.create(&group("web", &json!([])));
    world.instance("web-1", Some("a"), |spec| {
        spec.interfaces = vec![in_groups("front", &["web"])];
    });
    world.settle().await;
    assert_eq!(ready(&world, "web"), "True/NotEnforced");
    let instance = world.api.read::<Instance>(HERE, "web-1").unwrap();
    let conditions = instance.status.unwrap().conditions;
    let plugged = conditions.iter().find(|found| found.type_ == "NetworkReady").unwrap();
    assert_eq!(plugged.reason, "NotEnforced");
    assert!(
        plugged.message.contains("spec.interfaces[front].securityGroups"),
        "{}",
        plugged.message
    );
    assert!(world.api.list::<Port>().is_empty());
}

#[tokio::test]
async fn a_port_that_names_no_group_is_in_the_one_that_is_made_for_it() {
    let server = Server::start().unwrap();
    let world = world(&server);
    let client = client(&server).await;
    world.network("front", "10.0.0.0/24");
    world.instance("web-1", Some("a"), |spec| {
        spec.interfaces = vec![interface("front", None)];
    });
    let counted = || {
        let group = world.api.read::<SecurityGroup>(HERE, "default")?;
        Some((group.status?.ports, ready(&world, "default")))
    };
    so("in force", || counted() == Some((1, "True/AsSpecified".into()))).await;
    let members = |client: &Client| {
        client.read(|replica| {
            let mut rows = replica.rows(PortGroup::SPEC.name);
            let row = rows.find(|row| row.external_id("virga.dev/security-group") == Some("shop/default"));
            row.map(|row| {
                row.get::<std::collections::BTreeSet<uuid::Uuid>>("ports")
                    .unwrap()
                    .len()
            })
        })
    };
    so("the Port is in it", || members(&client) == Some(1)).await;

    // Its rules are the user's: nobody puts them back.
    let mut mine = world.api.read::<SecurityGroup>(HERE, "default").unwrap();
    mine.spec.rules.clear();
    world
        .api
        .merge::<SecurityGroup>(HERE, "default", json!({"spec": {"rules": null}}));
    so("no rule is left", || rules(&client).is_empty()).await;

    // It stays while a Port is in it.
    world.api.delete::<SecurityGroup>(HERE, "default");
    so("it waits", || ready(&world, "default") == "False/InUse").await;
    world.api.delete::<Instance>(HERE, "web-1");
    world.agent_lets_go("web-1");
    so("it is gone", || {
        world.api.read::<SecurityGroup>(HERE, "default").is_none()
    })
    .await;
    world.api.delete::<Network>(HERE, "front");
    so("no row is left", || names(&client, PortGroup::SPEC.name).is_empty()).await;
}

#[tokio::test]
async fn a_group_that_is_missing_is_waited_for_and_a_change_is_in_force_at_once() {
    let server = Server::start().unwrap();
    let world = world(&server);
    let client = client(&server).await;
    world.network("front", "10.0.0.0/24");
    world.instance("web-1", Some("a"), |spec| {
        spec.interfaces = vec![in_groups("front", &["web"])];
    });
    so("it waits", || {
        let found = world.api.read::<Instance>(HERE, "web-1").and_then(|found| found.status);
        let conditions = found.map(|status| status.conditions).unwrap_or_default();
        conditions.iter().any(|found| found.reason == "SecurityGroupNotFound")
    })
    .await;
    let web = json!([{"direction": "Ingress", "protocol": "tcp", "remote": {"group": "db"}}]);
    world.api.create(&group("web", &web));
    so("a Port", || world.api.read::<Port>(HERE, "web-1-front").is_some()).await;
    so("its rule names nobody", || {
        ready(&world, "web") == "False/SecurityGroupNotFound"
    })
    .await;
    assert_eq!(rules(&client), [""; 0]);
    world.api.create(&group("db", &json!([])));
    so("it does", || {
        ready(&world, "web") == "True/AsSpecified" && rules(&client).len() == 1
    })
    .await;

    // Another group on the fly, which is not there: the Port says so, and is in none.
    let other = json!({"spec": {"interfaces": [{"network": "front", "securityGroups": ["ghost"]}]}});
    world.api.merge::<Instance>(HERE, "web-1", other);
    so("the Port says so", || {
        world.ready::<Port>(HERE, "web-1-front").0 == "False/SecurityGroupNotFound"
    })
    .await;
    let inside = |client: &Client| {
        client.read(|replica| {
            let rows = replica.rows(PortGroup::SPEC.name);
            let rows = rows.filter(|row| row.external_id("virga.dev/security-group").is_some());
            rows.map(|row| {
                row.get::<std::collections::BTreeSet<uuid::Uuid>>("ports")
                    .unwrap()
                    .len()
            })
            .sum::<usize>()
        })
    };
    so("it is in none", || inside(&client) == 0).await;
    world.api.create(&group("ghost", &json!([{"direction": "Egress"}])));
    so("it is in it", || inside(&client) == 1).await;
}

#[tokio::test]
async fn a_project_has_a_default_group_that_stays_as_long_as_itself() {
    let server = Server::start().unwrap();
    let world = world(&server);
    world.api.create(&Project::new(NAMESPACE, ProjectSpec::default()));
    so("it is there", || {
        world.api.read::<SecurityGroup>(HERE, "default").is_some()
    })
    .await;
    so("in force", || ready(&world, "default") == "True/AsSpecified").await;
    world.api.delete::<SecurityGroup>(HERE, "default");
    so("it is kept", || ready(&world, "default") == "False/InUse").await;
    assert!(
        world
            .ready::<SecurityGroup>(HERE, "default")
            .1
            .contains("in use by Project shop")
    );
    world.api.delete::<Project>(None, NAMESPACE);
    so("both are gone", || {
        let (project, group) = (
            world.api.read::<Project>(None, NAMESPACE),
            world.api.read::<SecurityGroup>(HERE, "default"),
        );
        project.is_none() && group.is_none()
    })
    .await;
}
