//! Hosts and Instances on paper, as they are when all has settled.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::Range;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use virga_crds::{
    Bytes, Flavor, FlavorSpec, Hypervisor, HypervisorSpec, Image, ImageRef, ImageSource, ImageSpec, ImageVisibility,
    Instance, InstanceSpec, Placement, SYSTEM_NAMESPACE, finalizers, managers,
};

use super::Error;

/// Where the Instances are.
pub const NAMESPACE: &str = "scale";
/// The Flavor of most Instances.
pub const SMALL: &str = "m1.small";
/// A Flavor of which a host takes one only.
pub const HUGE: &str = "m1.huge";
/// A zone with so few hosts that such Instances have to be counted right.
pub const NARROW: &str = "narrow";
/// How many hosts are in that zone.
pub const NARROW_HOSTS: u32 = 2_200;
/// Memory of each host, and what Virga leaves to the host itself.
pub const MEMORY: Bytes = Bytes::gib(256);
const RESERVED: Bytes = Bytes::mib(512);
const IMAGE: &str = "debian-13";
/// How many requests are under way at once.
const AT_ONCE: usize = 16;
/// How often progress is told.
const TELL: u32 = 10_000;

/// What Instances are made of.
pub async fn stock(client: &Client) -> Result<(), Error> {
    let flavors = Api::all(client.clone());
    for (name, memory) in [(SMALL, Bytes::gib(2)), (HUGE, Bytes::gib(130))] {
        let flavor = FlavorSpec {
            vcpus: 1,
            memory,
            disk: Bytes::gib(20),
            ..FlavorSpec::default()
        };
        create(&flavors, &Flavor::new(name, flavor)).await?;
    }
    let image = ImageSpec {
        source: ImageSource {
            instance: None,
            path: Some("debian-13.qcow2".into()),
            ..ImageSource::default()
        },
        disk_format: None,
        visibility: ImageVisibility::Private,
        min_disk: Bytes::ZERO,
        min_memory: Bytes::ZERO,
        properties: BTreeMap::new(),
    };
    create(&Api::namespaced(client.clone(), NAMESPACE), &Image::new(IMAGE, image)).await
}

/// These Hypervisors, each with a status and a first heartbeat. The first [`NARROW_HOSTS`] are in the zone [`NARROW`].
pub async fn hosts(clients: &[Client], numbers: Range<u32>) -> Result<(), Error> {
    each(clients, numbers, "Hypervisors", async |client, n| {
        let api = Api::all(client.clone());
        let spec = HypervisorSpec {
            availability_zone: (n < NARROW_HOSTS).then(|| NARROW.to_owned()),
            ..HypervisorSpec::default()
        };
        create(&api, &Hypervisor::new(&node(n), spec)).await?;
        let lease = json!({"metadata": {"name": format!("virga-{}", node(n))}, "spec": beat(n)});
        let lease: Lease = serde_json::from_value(lease).map_err(|error| Error::Unreadable(error.to_string()))?;
        create(&Api::namespaced(client, SYSTEM_NAMESPACE), &lease).await?;
        let status = json!({
            "observedGeneration": 1,
            "capacity": {"vcpus": 64, "memory": MEMORY, "disk": "4Ti"},
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

/// A heartbeat of each of these hosts.
pub async fn beats(clients: &[Client], numbers: Range<u32>) -> Result<(), Error> {
    each(clients, numbers, "heartbeats", async |client, n| {
        let name = format!("virga-{}", node(n));
        // A merge costs the apiserver less than the agents' own server-side apply; all of them run on one machine.
        let renewal = Patch::Merge(json!({"spec": beat(n)}));
        let api = Api::<Lease>::namespaced(client, SYSTEM_NAMESPACE);
        let written = api.patch(&name, &PatchParams::default(), &renewal).await;
        written
            .map(drop)
            .map_err(Error::api(format!("writing the heartbeat {name}")))
    })
    .await
}

/// Readers look for a change only.
fn beat(n: u32) -> Value {
    json!({"holderIdentity": node(n), "leaseDurationSeconds": 40, "renewTime": format!("{:.6}", Timestamp::now())})
}

/// An Instance that nobody has placed.
pub fn instance(name: &str, flavor: &str) -> Instance {
    let spec = InstanceSpec {
        flavor: flavor.into(),
        image: Some(ImageRef {
            name: IMAGE.into(),
            namespace: None,
        }),
        placement: (flavor == HUGE).then(|| Placement {
            availability_zone: Some(NARROW.into()),
            ..Placement::default()
        }),
        ..InstanceSpec::default()
    };
    Instance::new(name, spec)
}

/// What an Instance of a Flavor takes of its host's memory.
pub fn memory(flavor: &str) -> u64 {
    if flavor == HUGE {
        Bytes::gib(130).0
    } else {
        Bytes::gib(2).0
    }
}

/// What a host has for Instances.
pub fn room() -> u64 {
    MEMORY.0 - RESERVED.0
}

/// So many Instances, spread over the hosts and running there.
pub async fn instances(clients: &[Client], hosts: u32, count: u32) -> Result<(), Error> {
    each(clients, 0..count, "Instances", async |client, n| {
        let api = Api::namespaced(client, NAMESPACE);
        let name = format!("web-{n:06}");
        let mut instance = instance(&name, SMALL);
        instance.spec.node_name = Some(node(n % hosts));
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
            "flavor": {"name": SMALL, "vcpus": 1, "memory": "2Gi", "disk": "20Gi"},
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
    numbers: Range<u32>,
    what: &str,
    make: impl AsyncFn(Client, u32) -> Result<(), Error>,
) -> Result<(), Error> {
    let make = &make;
    let (first, count) = (numbers.start, numbers.end);
    stream::iter(numbers)
        .map(|n| {
            let client = clients[n as usize % AT_ONCE.min(clients.len())].clone();
            async move {
                if n > first && n % TELL == 0 {
                    println!("{what}: {n} of {count} ({} %)", u64::from(n) * 100 / u64::from(count));
                }
                make(client, n).await
            }
        })
        .buffer_unordered(AT_ONCE)
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
