//! Shelved Instances: the leader makes their Images, frees their hosts, speaks for them, and places them anew.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use serde_json::json;
use virga_core::{
    condition::{Conditions, Progress},
    instance::shelved_image_name,
};
use virga_crds::{
    BuiltFlavor, Bytes, Hypervisor, Image, ImageState, Instance, InstanceState, InstanceStatus, Interface, Network,
    NetworkSpec, ObservedPower, Port, ShelveStatus, Subnet,
    conditions::{Reason, types},
    managers,
};
use virga_runtime::apply::Writer;
use virga_testkit::FakeApi;

use crate::harness::{self, AGENT, api, bound, hypervisor, instance, node, settle, stays_quiet, stock, whole_leader};

const SHOP: &str = "shop";

fn read(api: &FakeApi) -> Instance {
    api.read(Some(SHOP), "web").unwrap()
}

fn status(api: &FakeApi) -> InstanceStatus {
    read(api).status.unwrap_or_default()
}

fn image(api: &FakeApi) -> Option<Image> {
    api.read(Some(SHOP), &shelved_image_name(&read(api)))
}

async fn edit(api: &FakeApi, power: &str) {
    api.merge::<Instance>(Some(SHOP), "web", json!({"spec": {"powerState": power}}));
    settle(api).await;
}

/// What an agent writes: all of its status.
async fn agent(api: &FakeApi, change: impl FnOnce(&mut InstanceStatus), scheduled: Reason) {
    let live = read(api);
    let old = live.status.clone().unwrap_or_default();
    let mut conditions = Conditions::new(&old.conditions, live.metadata.generation, api.clock().now());
    conditions.set(
        types::SCHEDULED,
        scheduled == Reason::Bound,
        scheduled,
        "as the agent says",
    );
    conditions.set(types::STORAGE_READY, true, Reason::DisksCreated, "as the agent says");
    conditions.set(types::NETWORK_READY, true, Reason::PortsPlugged, "as the agent says");
    conditions.set(types::RUNNING, false, Reason::Stopped, "as the agent says");
    conditions.set_ready(Progress::Done, Reason::AsSpecified, "as specified");
    let mut status = InstanceStatus {
        observed_generation: live.metadata.generation,
        host: live.spec.node_name.clone(),
        flavor: Some(BuiltFlavor {
            name: "m1.small".into(),
            vcpus: 1,
            memory: Bytes::gib(1),
            disk: Bytes::gib(5),
        }),
        shelve: old.shelve,
        conditions: conditions.into_vec(),
        ..InstanceStatus::default()
    };
    change(&mut status);
    let writer = Writer::new(api.client_as(AGENT), managers::AGENT);
    writer.apply_status(&live, &status).await.unwrap();
    settle(api).await;
}

fn at(second: i64) -> Time {
    Time(Timestamp::from_second(1_795_000_000 + second).unwrap())
}

fn shelving(round: i64) -> ShelveStatus {
    ShelveStatus {
        stopped_at: at(round),
        image: None,
        digest: None,
        shelved_at: None,
        offloaded_at: None,
    }
}

/// What a node's agent reports of the Image.
async fn made(api: &FakeApi, node: &str) {
    let line = json!({
        "uid": image(api).unwrap().uid(), "state": "Cached", "digest": "sha256:1", "size": "1Mi", "virtualSize": "5Gi",
        "format": "QCOW2",
    });
    api.merge_status::<Hypervisor>(None, node, json!({"images": [line]}));
    settle(api).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
}

/// A running Instance on a node, with a Port.
async fn running(api: &FakeApi) -> String {
    let subnet = Subnet {
        name: "v4".into(),
        cidr: "10.0.0.0/24".into(),
        ..Subnet::default()
    };
    let spec = NetworkSpec {
        subnets: vec![subnet],
        ..NetworkSpec::default()
    };
    api.create(&harness::in_shop(Network::new("front", spec)));
    let mut web = instance("web");
    web.spec.interfaces = vec![Interface {
        network: "front".into(),
        ..Interface::default()
    }];
    api.create(&web);
    let home = bound(api, "web").await;
    settle(api).await;
    let runs = |status: &mut InstanceStatus| {
        (status.state, status.power_state) = (Some(InstanceState::Active), Some(ObservedPower::Running));
    };
    agent(api, runs, Reason::Bound).await;
    home
}

/// It is off, its Image is whole, and nothing of it is left on its host.
async fn shelved_away(api: &FakeApi, home: &str) {
    edit(api, "Shelved").await;
    let off = |status: &mut InstanceStatus| {
        (status.state, status.power_state) = (Some(InstanceState::Stopped), Some(ObservedPower::Stopped));
        status.shelve = Some(shelving(1));
    };
    agent(api, off, Reason::Bound).await;
    made(api, home).await;
    let name = image(api).unwrap().name_any();
    let away = |status: &mut InstanceStatus| {
        (status.state, status.power_state, status.host) = (Some(InstanceState::Shelved), None, None);
        status.shelve = Some(ShelveStatus {
            image: Some(name),
            digest: Some("sha256:1".into()),
            shelved_at: Some(at(2)),
            offloaded_at: Some(at(3)),
            ..shelving(1)
        });
    };
    agent(api, away, Reason::Offloaded).await;
}

#[tokio::test(start_paused = true)]
async fn a_shelved_instance_frees_its_host_and_is_placed_anew_when_it_is_to_come_back() {
    let api = api();
    stock(&api);
    for name in ["node-1", "node-2"] {
        node(&api, name).await;
    }
    let replica = whole_leader(&api).await;
    let home = running(&api).await;
    let port = || api.read::<Port>(Some(SHOP), "web-front").unwrap();
    let (addresses, mac) = (port().spec.addresses, port().spec.mac);
    assert_eq!(replica.scheduler.usage(&home).vcpus, 1);

    shelved_away(&api, &home).await;
    let kept = image(&api).unwrap();
    let owner = &kept.owner_references()[0];
    assert_eq!(
        (owner.kind.as_str(), Some(&owner.uid)),
        ("Instance", read(&api).metadata.uid.as_ref())
    );
    let told = kept.status.clone().unwrap();
    assert_eq!(
        (told.state, told.keeper.as_deref()),
        (Some(ImageState::Active), Some(home.as_str()))
    );
    assert_eq!(read(&api).spec.node_name, None);
    assert_eq!(read(&api).finalizers(), ["virga.dev/agent"]);
    assert_eq!(replica.scheduler.usage(&home).vcpus, 0, "its room is free");
    assert_eq!(port().spec.node_name, None);
    // It stays so, and nothing more is written.
    stays_quiet(&api, Duration::from_mins(20)).await;
    assert_eq!(read(&api).spec.node_name, None);
    let told = status(&api);
    assert_eq!((told.state, told.host), (Some(InstanceState::Shelved), None));
    assert_eq!(told.observed_generation, read(&api).metadata.generation);

    // The host that keeps its disk goes away for a while.
    api.merge_status::<Hypervisor>(None, &home, json!({"images": []}));
    tokio::time::sleep(Duration::from_secs(5)).await;
    let ready = |api: &FakeApi| {
        status(api)
            .conditions
            .into_iter()
            .find(|c| c.type_ == types::READY)
            .unwrap()
    };
    assert_eq!(ready(&api).reason, "OnlyCopyAway", "{}", ready(&api).message);
    made(&api, &home).await;
    assert_eq!(ready(&api).reason, "AsSpecified", "{}", ready(&api).message);
    // What has its disk is not for users to delete.
    assert!(
        virga_core::uses::Names::names(&read(&api))
            .iter()
            .any(|target| target.name == shelved_image_name(&read(&api)))
    );

    let cordoned = json!({"spec": {"scheduling": "Cordoned", "reason": "maintenance"}});
    api.merge::<Hypervisor>(None, &home, cordoned);
    let other = if home == "node-1" { "node-2" } else { "node-1" };
    edit(&api, "Running").await;
    assert_eq!(bound(&api, "web").await, other);
    settle(&api).await;
    assert_eq!(port().spec.node_name.as_deref(), Some(other));
    assert_eq!((port().spec.addresses, port().spec.mac), (addresses, mac));
    let told = status(&api).shelve.unwrap();
    assert_eq!(
        (told.digest.as_deref(), told.offloaded_at),
        (Some("sha256:1"), Some(at(3))),
        "nobody has it yet"
    );
    let claims = |status: &mut InstanceStatus| {
        status.state = Some(InstanceState::Shelved);
        if let Some(shelve) = &mut status.shelve {
            shelve.offloaded_at = None;
        }
    };
    agent(&api, claims, Reason::Bound).await;
    assert!(image(&api).is_some() && status(&api).shelve.is_some());
    let runs = |status: &mut InstanceStatus| {
        (status.state, status.power_state) = (Some(InstanceState::Active), Some(ObservedPower::Running));
        status.shelve = None;
    };
    agent(&api, runs, Reason::Bound).await;
    assert!(image(&api).is_none(), "its disk is on a host again");
    assert!(status(&api).shelve.is_none());
    let managers = api.managers_of_field("instances", Some(SHOP), "web", "status.state");
    assert_eq!(
        managers,
        [managers::AGENT.to_owned()].into(),
        "the agent is the one writer again"
    );
}

#[tokio::test(start_paused = true)]
async fn what_comes_back_and_finds_no_host_says_so_and_is_shelved_still() {
    let api = api();
    stock(&api);
    node(&api, "node-1").await;
    let _replica = whole_leader(&api).await;
    let home = running(&api).await;
    shelved_away(&api, &home).await;
    let cordoned = json!({"spec": {"scheduling": "Cordoned", "reason": "maintenance"}});
    api.merge::<Hypervisor>(None, "node-1", cordoned);
    edit(&api, "Running").await;
    let message = harness::waits_for(&api, "web", Reason::NoValidHost).await;
    assert!(message.contains("ComputeFilter"), "{message}");
    assert_eq!(status(&api).state, Some(InstanceState::Shelved));
    // Whoever thinks better of it waits for nothing.
    edit(&api, "Shelved").await;
    api.merge::<Hypervisor>(
        None,
        "node-1",
        json!({"spec": {"scheduling": "Enabled", "reason": null}}),
    );
    api.create(&hypervisor("node-9"));
    tokio::time::sleep(Duration::from_mins(2)).await;
    assert_eq!(read(&api).spec.node_name, None);
    let told = status(&api);
    let scheduled = told.conditions.iter().find(|c| c.type_ == types::SCHEDULED).unwrap();
    assert_eq!(scheduled.reason, "Offloaded");
    edit(&api, "Stopped").await;
    assert_eq!(bound(&api, "web").await, "node-1");
}

#[tokio::test(start_paused = true)]
async fn a_wish_that_changes_before_the_binding_is_taken_away_keeps_it() {
    let api = api();
    stock(&api);
    node(&api, "node-1").await;
    let _replica = whole_leader(&api).await;
    let home = running(&api).await;
    edit(&api, "Shelved").await;
    edit(&api, "Running").await;
    let away = |status: &mut InstanceStatus| {
        status.state = Some(InstanceState::Shelved);
        status.shelve = Some(ShelveStatus {
            image: Some("web-shelved".into()),
            digest: Some("sha256:1".into()),
            shelved_at: Some(at(2)),
            offloaded_at: Some(at(3)),
            ..shelving(1)
        });
    };
    agent(&api, away, Reason::Offloaded).await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(read(&api).spec.node_name, Some(home));
}

#[tokio::test(start_paused = true)]
async fn a_shelved_instance_on_no_host_that_is_deleted_leaves_nothing() {
    let api = api();
    stock(&api);
    node(&api, "node-1").await;
    let replica = whole_leader(&api).await;
    let home = running(&api).await;
    shelved_away(&api, &home).await;
    let name = image(&api).unwrap().name_any();
    api.delete::<Image>(Some(SHOP), &name);
    settle(&api).await;
    assert!(image(&api).is_some(), "it is in use");
    api.delete::<Instance>(Some(SHOP), "web");
    settle(&api).await;
    assert!(api.read::<Instance>(Some(SHOP), "web").is_none());
    api.collect_garbage();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(api.read::<Image>(Some(SHOP), &name).is_none());
    assert_eq!(replica.scheduler.usage(&home).vcpus, 0);
}
