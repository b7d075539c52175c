//! Hosts and Instances on paper, as they are when all has settled.

use std::fmt::Debug;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use virga_crds::{
    Bytes, Flavor, FlavorSpec, Hypervisor, HypervisorSpec, ImageRef, Instance, InstanceSpec, finalizers, managers,
};

use super::Error;

/// Where the Instances are.
pub const NAMESPACE: &str = "scale";
/// How many requests are under way at once.
pub const CONNECTIONS: usize = 16;
const FLAVOR: &str = "m1.small";
/// How often progress is told.
const TELL: u32 = 10_000;

/// So many Hypervisors, each with a status.
pub async fn hosts(clients: &[Client], count: u32) -> Result<(), Error> {
    each(clients, count, "Hypervisors", async |client, n| {
        let api = Api::all(client);
        create(&api, &Hypervisor::new(&node(n), HypervisorSpec::default())).await?;
        let status = json!({
            "observedGeneration": 1,
            "capacity": {"vcpus": 64, "memory": "256Gi", "disk": "4Ti"},
            "allocated": {"vcpus": 10, "memory": "20Gi", "disk": "200Gi"},
            "instances": 10,
            "cpu": {"architecture": "x86_64", "model": "EPYC-Milan", "vendor": "AMD", "features": ["avx", "avx2", "aes"]},
            "versions": {"agent": "0.1.0", "libvirt": "11.3.0", "qemu": "10.0.2"},
            "capabilities": {"domainTypes": ["kvm", "qemu"], "machineTypes": ["q35"], "firmware": ["BIOS", "UEFI"]},
            "conditions": [condition("Ready", "HeartbeatSeen"), condition("LibvirtConnected", "LibvirtAvailable")],
        });
        put_status(&api, &node(n), status).await
    })
    .await
}

/// So many Instances, spread over the hosts and running there.
pub async fn instances(clients: &[Client], hosts: u32, count: u32) -> Result<(), Error> {
    let flavor = FlavorSpec {
        vcpus: 1,
        memory: Bytes::gib(2),
        disk: Bytes::gib(20),
        ..FlavorSpec::default()
    };
    let flavors = Api::all(clients[0].clone());
    create(&flavors, &Flavor::new(FLAVOR, flavor)).await?;
    each(clients, count, "Instances", async |client, n| {
        let api = Api::namespaced(client, NAMESPACE);
        let name = format!("web-{n:06}");
        let mut instance = Instance::new(
            &name,
            InstanceSpec {
                flavor: FLAVOR.into(),
                image: Some(ImageRef {
                    name: "debian-13".into(),
                    namespace: None,
                }),
                node_name: Some(node(n % hosts)),
                ..InstanceSpec::default()
            },
        );
        let ours = [finalizers::AGENT, finalizers::CONTROLLER].map(str::to_owned);
        instance.metadata.finalizers = Some(ours.into());
        create(&api, &instance).await?;
        let kinds = [
            ("Scheduled", "Bound"),
            ("StorageReady", "DisksCreated"),
            ("NetworkReady", "PortsPlugged"),
            ("Running", "Started"),
            ("Ready", "AsSpecified"),
        ];
        let status = json!({
            "observedGeneration": 1,
            "state": "Active",
            "powerState": "Running",
            "host": node(n % hosts),
            "flavor": {"name": FLAVOR, "vcpus": 1, "memory": "2Gi", "disk": "20Gi"},
            "conditions": kinds.map(|(kind, reason)| condition(kind, reason)),
        });
        put_status(&api, &name, status).await
    })
    .await
}

fn node(n: u32) -> String {
    format!("node-{n:05}")
}

fn condition(kind: &str, reason: &str) -> Value {
    json!({
        "type": kind, "status": "True", "reason": reason, "message": "as an agent on a real host would have said",
        "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1,
    })
}

async fn each(
    clients: &[Client],
    count: u32,
    what: &str,
    make: impl AsyncFn(Client, u32) -> Result<(), Error>,
) -> Result<(), Error> {
    let make = &make;
    stream::iter(0..count)
        .map(|n| {
            let client = clients[n as usize % clients.len()].clone();
            async move {
                if n > 0 && n % TELL == 0 {
                    println!("{what}: {n} of {count} ({} %)", u64::from(n) * 100 / u64::from(count));
                }
                make(client, n).await
            }
        })
        .buffer_unordered(CONNECTIONS)
        .try_collect()
        .await
}

async fn create<K>(api: &Api<K>, object: &K) -> Result<(), Error>
where
    K: Resource + Clone + Debug + Serialize + DeserializeOwned,
{
    let created = api.create(&PostParams::default(), object).await;
    created
        .map(drop)
        .map_err(Error::api(format!("creating {}", object.name_any())))
}

async fn put_status<K>(api: &Api<K>, name: &str, status: Value) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let status = json!({
        "apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": {"name": name}, "status": status,
    });
    let ours = PatchParams::apply(managers::AGENT).force();
    let written = api.patch_status(name, &ours, &Patch::Apply(&status)).await;
    written
        .map(drop)
        .map_err(Error::api(format!("writing the status of {name}")))
}
