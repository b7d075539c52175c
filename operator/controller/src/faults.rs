//! Each kind's loop gets over a write that was refused and over one whose answer was lost.

use std::{collections::BTreeMap, time::Duration};

use kube::{Resource, ResourceExt as _};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use virga_crds::{
    AddressGroup, AddressGroupSpec, Flavor, HostAggregate, HostAggregateSpec, Hypervisor, Image, Instance,
    LabelSelector, Network, Port, Project, ProjectSpec, SecurityGroup, SecurityGroupSpec, ServerGroup, Volume,
    VolumeAttachment,
};
use virga_testkit::{Fault, Verb};

use crate::{
    fixtures,
    world::{NAMESPACE, World, interface},
};

/// The kinds that the controller writes to.
const WRITTEN: [&str; 12] = [
    "addressgroups",
    "flavors",
    "hostaggregates",
    "hypervisors",
    "images",
    "instances",
    "networks",
    "ports",
    "projects",
    "securitygroups",
    "servergroups",
    "volumes",
];

/// A write is refused, and the next one is done though the answer says otherwise.
fn trouble(world: &World, resource: &str) {
    let api = &world.api;
    api.inject(Fault::status(409).verb(Verb::Patch).resource(resource).times(1));
    api.inject(
        Fault::commit_then_status(500)
            .verb(Verb::Patch)
            .resource(resource)
            .times(1),
    );
}

/// One of each kind, on a node that falls silent.
async fn populate(world: &World) {
    world.host("a");
    let spec = HostAggregateSpec {
        selector: Some(LabelSelector::default()),
        ..HostAggregateSpec::default()
    };
    world.api.create(&HostAggregate::new("all", spec));
    world.api.create(&fixtures::flavor("m1.small"));
    world.api.create(&fixtures::image("debian"));
    let offices = AddressGroup::new("offices", AddressGroupSpec::default());
    world.api.create(&fixtures::in_shop(offices));
    let walled = SecurityGroup::new("walled", SecurityGroupSpec::default());
    world.api.create(&fixtures::in_shop(walled));
    world.api.create(&fixtures::server_group("web"));
    world.api.create(&fixtures::volume("data"));
    world.api.create(&Project::new("team", ProjectSpec::default()));
    world.network("front", "10.0.0.0/24");
    world.instance("web-1", Some("a"), |spec| {
        spec.interfaces = vec![interface("front", None)];
        spec.server_group = Some("web".into());
        spec.volumes = vec![VolumeAttachment { name: "data".into() }];
    });
    tokio::time::sleep(Duration::from_mins(2)).await;
    world.settle().await;
}

/// All objects, without what differs from one run to the next.
fn picture(world: &World) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    add::<AddressGroup>(world, &mut all);
    add::<Flavor>(world, &mut all);
    add::<HostAggregate>(world, &mut all);
    add::<Hypervisor>(world, &mut all);
    add::<Image>(world, &mut all);
    add::<Instance>(world, &mut all);
    add::<Network>(world, &mut all);
    add::<Port>(world, &mut all);
    add::<Project>(world, &mut all);
    add::<SecurityGroup>(world, &mut all);
    add::<ServerGroup>(world, &mut all);
    add::<Volume>(world, &mut all);
    all
}

fn add<K>(world: &World, all: &mut BTreeMap<String, Value>)
where
    K: Resource<DynamicType = ()> + Serialize + DeserializeOwned,
{
    for object in world.api.list::<K>() {
        let mut value = json!({"object": object});
        strip(&mut value);
        all.insert(format!("{} {}", K::kind(&()), object.name_any()), value);
    }
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for name in [
                "uid",
                "mac",
                "resourceVersion",
                "managedFields",
                "creationTimestamp",
                "lastTransitionTime",
            ] {
                map.remove(name);
            }
            map.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}

/// All of it goes.
async fn clear(world: &World) {
    let here = Some(NAMESPACE);
    world.api.delete::<Instance>(here, "web-1");
    world.api.delete::<Flavor>(None, "m1.small");
    world.api.delete::<Image>(here, "debian");
    world.api.delete::<Network>(here, "front");
    world.api.delete::<Project>(None, "team");
    world.api.delete::<AddressGroup>(here, "offices");
    world.api.delete::<SecurityGroup>(here, "walled");
    world.api.delete::<ServerGroup>(here, "web");
    world.api.delete::<Volume>(here, "data");
    world.api.delete::<Hypervisor>(None, "a");
    world.api.delete::<HostAggregate>(None, "all");
    tokio::time::sleep(Duration::from_mins(2)).await;
    world.api.collect_garbage();
    tokio::time::sleep(Duration::from_mins(2)).await;
    world.settle().await;
}

#[tokio::test(start_paused = true)]
async fn each_kind_gets_over_a_conflict_and_over_a_write_whose_answer_was_lost() {
    let undisturbed = World::start().await;
    populate(&undisturbed).await;
    let expected = picture(&undisturbed);
    for resource in WRITTEN {
        let world = World::start().await;
        trouble(&world, resource);
        populate(&world).await;
        let struck: Vec<u16> = world
            .api
            .log()
            .iter()
            .filter(|request| request.resource == resource && request.code >= 400)
            .map(|request| request.code)
            .collect();
        assert_eq!(struck, [409, 500], "{resource}");
        for (name, object) in picture(&world) {
            assert_eq!(Some(&object), expected.get(&name), "{resource}: {name}");
        }

        let mark = world.api.mark();
        tokio::time::sleep(Duration::from_mins(1)).await;
        let asked = world.api.requests_since(mark);
        assert!(asked.is_empty(), "{resource}: {asked:#?}");

        trouble(&world, resource);
        clear(&world).await;
        let left: Vec<String> = picture(&world).into_keys().collect();
        assert!(left.is_empty(), "{resource}: {left:?}");
    }
}
