//! The loop on an API in this process; where rules are in force, beside a real ovsdb-server and in real time.

use serde_json::json;
use virga_crds::{AddressGroup, AddressGroupSpec, SecurityGroup, SecurityGroupSpec};
use virga_ovsdb::{
    Client,
    northbound::{Acl, AddressSet},
    table::Table as _,
    testing::Server,
};

use crate::{
    fixtures::in_shop,
    ovn::tests::{client, names, so, world},
    world::{NAMESPACE, World},
};

const HERE: Option<&str> = Some(NAMESPACE);

fn offices(addresses: &[&str]) -> AddressGroup {
    let addresses = addresses.iter().map(|address| (*address).to_owned()).collect();
    let spec = AddressGroupSpec {
        addresses,
        ..AddressGroupSpec::default()
    };
    in_shop(AddressGroup::new("offices", spec))
}

fn web() -> SecurityGroup {
    let rules = json!([{"direction": "Ingress", "remote": {"addressGroup": {"name": "offices"}}}]);
    let spec: SecurityGroupSpec = serde_json::from_value(json!({"rules": rules})).unwrap();
    in_shop(SecurityGroup::new("web", spec))
}

fn ready(world: &World) -> String {
    world.ready::<AddressGroup>(HERE, "offices").0
}

/// All addresses of all sets, in order.
fn addresses(client: &Client) -> Vec<String> {
    let mut found: Vec<String> = client.read(|replica| {
        let rows = replica.rows(AddressSet::SPEC.name);
        rows.flat_map(|row| row.get::<std::collections::BTreeSet<String>>("addresses").unwrap())
            .collect()
    });
    found.sort();
    found
}

#[tokio::test(start_paused = true)]
async fn libvirt_enforces_nothing_and_says_so() {
    let world = World::start().await;
    world.api.create(&offices(&["10.0.0.0/8"]));
    world.settle().await;
    assert_eq!(ready(&world), "True/NotEnforced");
}

#[tokio::test]
async fn rules_wait_for_it_it_changes_at_once_and_stays_while_they_name_it() {
    let server = Server::start().unwrap();
    let world = world(&server);
    let client = client(&server).await;
    world.api.create(&web());
    so("the rule names nobody", || {
        world.ready::<SecurityGroup>(HERE, "web").0 == "False/AddressGroupNotFound"
    })
    .await;
    let said = world.ready::<SecurityGroup>(HERE, "web").1;
    assert!(
        said.contains("spec.rules[0].remote.addressGroup: AddressGroup shop/offices doesn't exist"),
        "{said}"
    );
    let rules = || client.read(|replica| replica.rows(Acl::SPEC.name).count());
    assert_eq!(rules(), 0);

    world.api.create(&offices(&["10.0.0.0/8", "fd00::1"]));
    so("both are in force", || {
        ready(&world) == "True/AsSpecified" && world.ready::<SecurityGroup>(HERE, "web").0 == "True/AsSpecified"
    })
    .await;
    assert_eq!(
        (rules(), addresses(&client)),
        (1, vec!["10.0.0.0/8".into(), "fd00::1".into()])
    );
    so("it says who names it", || {
        let status = world
            .api
            .read::<AddressGroup>(HERE, "offices")
            .and_then(|found| found.status);
        status.is_some_and(|status| (status.addresses, status.security_groups) == (2, 1))
    })
    .await;

    let moved = json!({"spec": {"addresses": ["192.0.2.0/24"]}});
    world.api.merge::<AddressGroup>(HERE, "offices", moved);
    so("the set is another one", || addresses(&client) == ["192.0.2.0/24"]).await;

    world.api.delete::<AddressGroup>(HERE, "offices");
    so("it waits", || ready(&world) == "False/InUse").await;
    let said = world.ready::<AddressGroup>(HERE, "offices").1;
    assert!(said.contains("in use by SecurityGroup shop/web"), "{said}");
    world
        .api
        .merge::<SecurityGroup>(HERE, "web", json!({"spec": {"rules": null}}));
    so("it is gone", || {
        world.api.read::<AddressGroup>(HERE, "offices").is_none()
    })
    .await;
    so("no row is left", || names(&client, AddressSet::SPEC.name).is_empty()).await;
}
