//! A node in a test: a fake API server, a hypervisor in memory, a real data directory with real qemu-img, and agents that
//! come and go.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};
use prometheus_client::registry::Registry;
use serde::de::DeserializeOwned;
use serde_json::json;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use uuid::Uuid;
use virga_agent::{
    Agent, Options, World as Parts,
    host::{Checkpoint, DomainChoice},
    usage::Periods,
};
use virga_crds::{
    Bytes, Flavor, FlavorSpec, Hypervisor, Image, ImageRef, ImageSource, ImageSpec, ImageVisibility, Instance,
    InstanceSpec, Interface, Migration, Network, NetworkSpec, Port, PortAddress, PortSpec, Subnet, Volume,
    VolumeAttachment, VolumeSpec,
    conditions::{Condition, types},
    finalizers,
};
use virga_hypervisor::{DomainInfo, DomainType, Fake, Hypervisor as _};
use virga_runtime::{events, health::Health, metrics, shutdown::Shutdown, tls};
use virga_scheduler::Ratios;
use virga_testkit::{FakeApi, Request};

pub const NODE: &str = "node-1";
pub const SHOP: &str = "shop";
/// How long anything may take that should happen at once.
const SOON: Duration = Duration::from_secs(30);

pub struct World {
    pub node: &'static str,
    pub api: FakeApi,
    pub host: Fake,
    pub data: TempDir,
    agent: Option<(Runtime, Shutdown)>,
    registry: Option<Registry>,
}

impl World {
    /// A node with a flavor, a network and an image, and no agent.
    pub fn new() -> Self {
        tls::install_crypto_provider();
        let api = FakeApi::new()
            .with_crd::<Flavor>()
            .with_crd::<Hypervisor>()
            .with_crd::<Image>()
            .with_crd::<Instance>()
            .with_crd::<Migration>()
            .with_crd::<Network>()
            .with_crd::<Port>()
            .with_crd::<Volume>();
        let data = tempfile::tempdir().unwrap();
        let world = World {
            node: NODE,
            api,
            host: Fake::new(),
            data,
            agent: None,
            registry: None,
        };
        world.flavor("m1.small", Bytes::mib(256));
        world.network("front");
        world.image("debian");
        world
    }

    /// Another node of the same cluster, with no agent and no image in its store.
    pub fn beside(&self, node: &'static str) -> Self {
        World {
            node,
            api: self.api.clone(),
            host: Fake::new(),
            data: tempfile::tempdir().unwrap(),
            agent: None,
            registry: None,
        }
    }

    /// The same with an agent.
    pub fn with_agent() -> Self {
        let mut world = Self::new();
        world.start();
        world
    }

    pub fn start(&mut self) {
        self.start_with(|_| {});
    }

    pub fn start_with_checkpoint(&mut self, checkpoint: Checkpoint) {
        self.start_with(|options| options.checkpoint = Some(checkpoint));
    }

    /// Starts an agent with a memory of its own.
    pub fn start_with(&mut self, change: impl FnOnce(&mut Options)) {
        assert!(self.agent.is_none(), "an agent runs already");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let shutdown = Shutdown::new();
        let mut options = Options {
            node: self.node.into(),
            data_dir: self.data.path().into(),
            domain_type: DomainChoice::Always(DomainType::Qemu),
            namespace: "virga-system".into(),
            controller_url: None,
            controller_ip: None,
            token_file: self.data.path().join("token"),
            host_ip: Some("172.31.0.1".into()),
            image_cache: Bytes::gib(1),
            min_free: Bytes::mib(1),
            allow_local_image_urls: true,
            monitor_cpu: false,
            usage: Periods::default(),
            network: virga_core::network::Backend::Libvirt,
            offloads: true,
            ratios: Ratios::default(),
            qemu_img: "qemu-img".into(),
            transfer_address: "127.0.0.1:0".parse().unwrap(),
            transfer_bandwidth: None,
            checkpoint: None,
        };
        change(&mut options);
        let (api, host, stop, node) = (self.api.clone(), self.host.clone(), shutdown.clone(), self.node);
        let (agent, registry) = runtime.block_on(async move {
            let client = api.client_as("virga-agent");
            let mut registry = metrics::registry();
            let (events, sender) = events::events(client.clone(), "virga-agent", node, &mut registry);
            tokio::spawn(sender.run(stop.stopped()));
            let parts = Parts {
                client,
                hypervisor: Arc::new(host),
                clock: Arc::new(api.clock().reader()),
                events,
                registry: &mut registry,
                health: Health::new(),
                shutdown: stop,
            };
            let agent = Agent::open(options, parts).await.unwrap();
            (agent, registry)
        });
        self.registry = Some(registry);
        runtime.spawn(agent.run());
        self.agent = Some((runtime, shutdown));
    }

    /// kill -9: nothing of what was under way is ended.
    pub fn kill(&mut self) {
        let (runtime, _) = self.agent.take().expect("no agent runs");
        runtime.shutdown_timeout(Duration::from_secs(10));
    }

    /// SIGTERM.
    pub fn stop(&mut self) {
        let (runtime, shutdown) = self.agent.take().expect("no agent runs");
        shutdown.stop();
        runtime.block_on(shutdown.drain(Duration::from_secs(10)));
        runtime.shutdown_timeout(Duration::from_secs(10));
    }

    /// What the agent's metrics say.
    pub fn metrics(&self) -> String {
        metrics::encode(self.registry.as_ref().unwrap()).unwrap()
    }

    pub fn path(&self) -> &Path {
        self.data.path()
    }

    pub fn flavor(&self, name: &str, memory: Bytes) {
        self.api.create(&Flavor::new(
            name,
            FlavorSpec {
                description: String::new(),
                vcpus: 1,
                memory,
                disk: Bytes::mib(64),
                ..FlavorSpec::default()
            },
        ));
    }

    pub fn network(&self, name: &str) {
        self.network_of(name, "10.0.0.0/24");
    }

    pub fn network_of(&self, name: &str, cidr: &str) {
        let mut network = Network::new(
            name,
            NetworkSpec {
                subnets: vec![Subnet {
                    name: "v4".into(),
                    cidr: cidr.into(),
                    ..Subnet::default()
                }],
                ..NetworkSpec::default()
            },
        );
        network.metadata.namespace = Some(SHOP.into());
        self.api.create(&network);
    }

    /// An Image whose file is in the node's store.
    pub fn image(&self, name: &str) -> Image {
        self.image_file(name);
        self.image_object(name)
    }

    /// Its file only.
    pub fn image_file(&self, name: &str) {
        let store = self.path().join("store");
        std::fs::create_dir_all(&store).unwrap();
        let file = store.join(format!("{name}.qcow2"));
        let made = Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2"])
            .arg(&file)
            .arg("16M")
            .status();
        assert!(made.unwrap().success());
    }

    pub fn image_object(&self, name: &str) -> Image {
        let mut image = Image::new(
            name,
            ImageSpec {
                source: ImageSource {
                    instance: None,
                    http: None,
                    path: Some(format!("{name}.qcow2")),
                },
                disk_format: None,
                visibility: ImageVisibility::Private,
                min_disk: Bytes::ZERO,
                min_memory: Bytes::ZERO,
                properties: std::collections::BTreeMap::default(),
            },
        );
        image.metadata.namespace = Some(SHOP.into());
        self.api.create(&image)
    }

    /// A bound Instance, as admission leaves it.
    pub fn instance(&self, name: &str, change: impl FnOnce(&mut InstanceSpec)) -> Instance {
        let mut spec = InstanceSpec {
            flavor: "m1.small".into(),
            image: Some(ImageRef {
                name: "debian".into(),
                namespace: None,
            }),
            interfaces: vec![Interface {
                network: "front".into(),
                ..Interface::default()
            }],
            node_name: Some(NODE.into()),
            ..InstanceSpec::default()
        };
        change(&mut spec);
        let mut instance = Instance::new(name, spec);
        instance.metadata.namespace = Some(SHOP.into());
        instance.metadata.finalizers = Some(vec![finalizers::AGENT.into()]);
        self.api.create(&instance)
    }

    /// The Port that the controller makes for it.
    pub fn port(&self, instance: &Instance, address: &str) -> Port {
        self.port_in(instance, "front", address)
    }

    /// The Port that the controller makes for its interface in a network.
    pub fn port_in(&self, instance: &Instance, network: &str, address: &str) -> Port {
        let last = address.rsplit('.').next().unwrap().parse::<u8>().unwrap();
        let mut port = Port::new(
            &format!("{}-{network}", instance.name_any()),
            PortSpec {
                network: network.into(),
                instance: instance.name_any(),
                hostname: instance.name_any(),
                node_name: Some(NODE.into()),
                mac: format!("fa:16:3e:00:00:{last:02x}"),
                addresses: vec![PortAddress {
                    subnet: "v4".into(),
                    ip: address.into(),
                }],
                ..PortSpec::default()
            },
        );
        port.metadata.namespace = Some(SHOP.into());
        port.metadata.owner_references = Some(vec![OwnerReference {
            api_version: "virga.dev/v1alpha1".into(),
            kind: "Instance".into(),
            name: instance.name_any(),
            uid: instance.uid().unwrap(),
            ..OwnerReference::default()
        }]);
        self.api.create(&port)
    }

    /// An Instance with its Port.
    pub fn guest(&self, name: &str, address: &str) -> Instance {
        let instance = self.instance(name, |_| {});
        self.port(&instance, address);
        instance
    }

    pub fn volume(&self, name: &str, size: Bytes, node: Option<&str>) -> Volume {
        let mut volume = Volume::new(
            name,
            VolumeSpec {
                size,
                node_name: node.map(str::to_owned),
                ..VolumeSpec::default()
            },
        );
        volume.metadata.namespace = Some(SHOP.into());
        volume.metadata.finalizers = Some(vec![finalizers::AGENT.into()]);
        self.api.create(&volume)
    }

    pub fn read<K: Resource<DynamicType = ()> + DeserializeOwned>(&self, name: &str) -> Option<K> {
        self.api.read(Some(SHOP), name)
    }

    pub fn condition(&self, name: &str, kind: &str) -> Option<Condition> {
        let status = self.read::<Instance>(name)?.status?;
        status.conditions.into_iter().find(|condition| condition.type_ == kind)
    }

    /// Whether an Instance is as its present spec asks.
    pub fn is_ready(&self, name: &str) -> bool {
        let Some(instance) = self.read::<Instance>(name) else {
            return false;
        };
        let observed = instance.status.as_ref().and_then(|status| status.observed_generation);
        observed == instance.metadata.generation
            && self
                .condition(name, types::READY)
                .is_some_and(|ready| ready.status == "True")
    }

    pub fn await_ready(&self, name: &str) {
        self.eventually(&format!("{name} is ready"), || self.is_ready(name));
    }

    pub fn await_reason(&self, name: &str, kind: &str, reason: &str) -> Condition {
        self.eventually(&format!("{kind} of {name} is {reason}"), || {
            self.condition(name, kind)
                .is_some_and(|condition| condition.reason == reason)
        });
        self.condition(name, kind).unwrap()
    }

    pub fn await_gone<K: Resource<DynamicType = ()> + DeserializeOwned>(&self, name: &str) {
        self.eventually(&format!("{} {name} is gone", K::kind(&())), || {
            self.read::<K>(name).is_none()
        });
    }

    /// Waits for what should happen soon.
    pub fn eventually(&self, what: &str, holds: impl Fn() -> bool) {
        let end = Instant::now() + SOON;
        while !holds() {
            assert!(
                Instant::now() < end,
                "never: {what}\n{:#?}\n{:#?}\n{:#?}\n{}",
                self.api
                    .list::<Instance>()
                    .iter()
                    .map(|i| (i.name_any(), i.status.clone()))
                    .collect::<Vec<_>>(),
                self.api
                    .list::<Volume>()
                    .iter()
                    .map(|v| (v.name_any(), v.status.clone()))
                    .collect::<Vec<_>>(),
                self.host.domains(),
                self.api.story()
            );
            sleep(Duration::from_millis(5));
        }
    }

    /// Waits until nobody has asked the API for anything for a while.
    pub fn settle(&self) {
        for _ in 0..60 {
            let mark = self.api.mark();
            sleep(Duration::from_millis(1500));
            if self.api.requests_since(mark).is_empty() {
                return;
            }
        }
        panic!("the agent never rests:\n{}", self.api.story());
    }

    pub fn edit(&self, name: &str, spec: &serde_json::Value) {
        self.api.merge::<Instance>(Some(SHOP), name, json!({ "spec": spec }));
    }

    /// Has the agent look again, as its resync would.
    pub fn nudge(&self, name: &str) {
        let now = self.api.mark().to_string();
        self.api
            .merge::<Instance>(Some(SHOP), name, json!({"metadata": {"annotations": {"nudge": now}}}));
    }

    pub fn delete(&self, name: &str) {
        self.api.delete::<Instance>(Some(SHOP), name);
    }

    pub fn domain(&self, instance: &Instance) -> Option<DomainInfo> {
        self.host.domain(uid(instance)).ok()
    }

    pub fn files(&self, instance: &Instance) -> PathBuf {
        self.path().join("instances").join(instance.uid().unwrap())
    }

    /// That nothing is left on the node of any Instance.
    pub fn assert_nothing_left(&self) {
        assert_eq!(self.host.domains().unwrap(), []);
        assert_eq!(self.host.networks().unwrap(), []);
        let left: Vec<_> = std::fs::read_dir(self.path().join("instances")).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
        assert_eq!(self.api.list::<Instance>().len(), 0);
    }

    /// What the agent wrote about an Instance: statuses, finalizers and events.
    pub fn writes_about(&self, name: &str) -> Vec<Request> {
        let about = |request: &Request| {
            let event = request.resource == "events" && request.body["regarding"]["name"] == name;
            request.verb.writes() && (event || request.resource == "instances" && request.name.as_deref() == Some(name))
        };
        self.api.log().into_iter().filter(about).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some((runtime, _)) = self.agent.take() {
            runtime.shutdown_timeout(Duration::from_secs(10));
        }
    }
}

pub fn uid<K: Resource<DynamicType = ()>>(object: &K) -> Uuid {
    object.meta().uid.as_ref().unwrap().parse().unwrap()
}

pub fn attach(volume: &str) -> impl FnOnce(&mut InstanceSpec) + use<'_> {
    |spec| {
        spec.interfaces.clear();
        spec.volumes = vec![VolumeAttachment { name: volume.into() }];
    }
}
