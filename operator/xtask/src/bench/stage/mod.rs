//! The whole way of an Instance on this machine, without the lab: an API server, the controller, the agent and a libvirtd.
//!
//! All but the libvirtd, which has a network of its own, runs in this task's network; see `scale::network`.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use virga_crds::{
    Bytes, Flavor, FlavorSpec, Hypervisor, Image, ImageRef, ImageSource, ImageSpec, ImageVisibility, Instance,
    InstanceSpec, Interface, Network, NetworkSpec, Subnet,
};

use self::agent::Agent;
use self::node::Node;
use super::{Error, is_ready};
use crate::command;
use crate::scale::{Cloud, Controller, fill, network};

pub mod agent;
pub mod processor;
pub mod seen;
pub mod virsh;

// The crate that it belongs to links libvirt, which `cargo xtask deps` installs.
#[path = "../../../../hypervisor/src/testing/boot_sector.rs"]
#[allow(dead_code, reason = "its greeting is for tests")]
mod boot_sector;
#[path = "../../../../hypervisor/src/testing/node.rs"]
#[allow(dead_code, reason = "tests ask more of it")]
pub mod node;
#[path = "../../../../hypervisor/src/testing/wait.rs"]
mod wait;

use wait::eventually;

/// The namespace of all Instances.
pub const NAMESPACE: &str = fill::NAMESPACE;
/// The Flavor's name, the Network's and the Image's.
pub const FLAVOR: &str = "tiny";
/// A larger one.
pub const LARGER: &str = "larger";
/// The Network of the first interface, and another one.
pub const NETWORKS: [&str; 2] = ["front", "back"];
/// The Image.
pub const IMAGE: &str = "halt";
/// The only host.
pub const HOST: &str = "bench";
/// How long anything may take that is not measured.
pub const LIMIT: Duration = Duration::from_mins(2);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
const QUICK: Duration = Duration::from_secs(30);

/// Whose domains the agent makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// QEMU's, by a libvirtd.
    Qemu,
    /// libvirt's test driver's, which are nothing but their descriptions, in the agent's own process.
    Test,
}

/// Everything ends with the value.
pub struct Stage {
    // In the order in which they end.
    /// The agent.
    pub agent: Agent,
    /// The libvirtd, or the folder.
    pub node: Arc<Node>,
    /// The controller.
    pub controller: Controller,
    /// The API server.
    pub cloud: Cloud,
}

impl Stage {
    /// With Flavors, Networks and an Image that is in the host's cache as soon as the first Instance is there.
    pub async fn up() -> Result<Self, Error> {
        Self::with(Driver::Qemu).await
    }

    /// The same with the domains of this driver.
    pub async fn with(driver: Driver) -> Result<Self, Error> {
        println!("an API server, the controller, libvirt and the agent");
        let cloud = Cloud::up().await?;
        let address = network::REPLICAS[0];
        let controller = Controller::start(&cloud.kubeconfig, address)?;
        controller.until_leading().await?;
        cloud.direct(&[address], Some(address)).await?;
        cloud.install_webhooks()?;
        let node = Arc::new(Node::start().ok_or(Error::NoLibvirt)?);
        let store = node.data().join("store");
        crate::file::make_folder(&store)?;
        let raw = store.join("halt.raw");
        boot_sector::write_disk(&raw).map_err(crate::file::failed("writing", &raw))?;
        qemu_img(&["convert", "-O", "qcow2", &text(&raw), &text(&store.join("halt.qcow2"))])?;
        let agent = Agent::start(&cloud, &node, driver, network::REPLICAS[1]).await?;
        let stage = Self {
            agent,
            node,
            controller,
            cloud,
        };
        stage.stock().await?;
        Ok(stage)
    }

    /// Any connection to the API server.
    pub fn client(&self) -> Client {
        self.cloud.client().clone()
    }

    /// Instances, over any connection.
    pub fn instances(&self) -> Api<Instance> {
        Api::namespaced(self.client(), NAMESPACE)
    }

    async fn stock(&self) -> Result<(), Error> {
        let hosts = Api::<Hypervisor>::all(self.client());
        until("the Hypervisor", || async {
            let host = hosts
                .get_opt(HOST)
                .await
                .map_err(Error::api("reading the Hypervisor"))?;
            let conditions = host.and_then(|host| host.status).unwrap_or_default().conditions;
            Ok((is_ready(&conditions), format!("{conditions:?}")))
        })
        .await?;
        // Nothing is placed elsewhere, and nothing that takes so little should be refused.
        let ratios = json!({"spec": {"allocationRatios": {"vcpus": "512.0", "memory": "64.0", "disk": "64.0"}}});
        let patched = hosts.patch(HOST, &PatchParams::default(), &Patch::Merge(ratios)).await;
        patched.map_err(Error::api("writing the Hypervisor's ratios"))?;
        for (name, memory) in [(FLAVOR, 32), (LARGER, 48)] {
            let flavor = FlavorSpec {
                vcpus: 1,
                memory: Bytes::mib(memory),
                disk: Bytes::ZERO,
                ..FlavorSpec::default()
            };
            make(&Api::all(self.client()), &Flavor::new(name, flavor)).await?;
        }
        for (name, cidr) in NETWORKS.into_iter().zip(["10.64.0.0/20", "10.65.0.0/20"]) {
            let subnet = Subnet {
                name: "v4".into(),
                cidr: cidr.into(),
                ..Subnet::default()
            };
            let network = NetworkSpec {
                subnets: vec![subnet],
                ..NetworkSpec::default()
            };
            make(&self.of(), &Network::new(name, network)).await?;
        }
        let image = ImageSpec {
            source: ImageSource {
                instance: None,
                path: Some("halt.qcow2".into()),
                ..ImageSource::default()
            },
            disk_format: None,
            visibility: ImageVisibility::Private,
            min_disk: Bytes::ZERO,
            min_memory: Bytes::ZERO,
            properties: [].into(),
        };
        make(&self.of(), &Image::new(IMAGE, image)).await
    }

    fn of<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        Api::namespaced(self.client(), NAMESPACE)
    }
}

/// An Instance with one interface that has to do as little as possible.
pub fn instance(name: &str) -> Instance {
    let spec = InstanceSpec {
        flavor: FLAVOR.into(),
        image: Some(ImageRef {
            name: IMAGE.into(),
            namespace: None,
        }),
        interfaces: vec![Interface {
            network: NETWORKS[0].into(),
            ..Interface::default()
        }],
        ..InstanceSpec::default()
    };
    Instance::new(name, spec)
}

/// Makes an object; a webhook may not answer yet.
pub async fn make<K>(api: &Api<K>, object: &K) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
{
    let doing = format!("creating {}", object.name_any());
    let began = Instant::now();
    loop {
        match api.create(&PostParams::default(), object).await {
            Ok(_) => return Ok(()),
            Err(_) if began.elapsed() < QUICK => tokio::time::sleep(LOOK_AGAIN).await,
            Err(error) => return Err(Error::api(doing)(error)),
        }
    }
}

/// Waits until `look` says so, and tells what it saw last if it never does.
pub async fn until<F>(what: &str, look: impl Fn() -> F) -> Result<(), Error>
where
    F: Future<Output = Result<(bool, String), Error>>,
{
    let began = Instant::now();
    loop {
        let (so, status) = look().await?;
        if so {
            return Ok(());
        }
        if began.elapsed() > LIMIT {
            return Err(Error::Late {
                what: what.to_owned(),
                limit_s: LIMIT.as_secs(),
                status,
            });
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Runs qemu-img.
pub fn qemu_img(arguments: &[&str]) -> Result<(), Error> {
    let ran = command::output(Command::new("qemu-img").args(arguments), QUICK);
    ran.map(drop)
        .map_err(command::failed("making a disk"))
        .map_err(Error::from)
}

/// A path as an argument.
pub fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Where a process's disks of an Instance are.
pub fn folder(node: &Node, uid: &str) -> PathBuf {
    node.data().join("instances").join(uid)
}
