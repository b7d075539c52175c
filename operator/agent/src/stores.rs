//! What does the cluster hold that concerns this node? One watch a kind.

use kube::{
    Client,
    runtime::{reflector::Store, watcher},
};
use tokio_util::sync::CancellationToken;
use virga_crds::{Flavor, Hypervisor, Image, Instance, Network, Port, Volume};
use virga_runtime::{
    shutdown::Shutdown,
    watch::{Watch, ready},
};

/// The watches before they run: subscribe to them first.
pub struct Watches {
    /// Instances bound to this node.
    pub instances: Watch<Instance>,
    /// Ports of this node.
    pub ports: Watch<Port>,
    /// Volumes bound to this node.
    pub volumes: Watch<Volume>,
    /// All Networks.
    pub networks: Watch<Network>,
    /// All Images.
    pub images: Watch<Image>,
    /// All Flavors.
    pub flavors: Watch<Flavor>,
    /// This node's Hypervisor.
    pub hypervisor: Watch<Hypervisor>,
}

/// What the watches saw last.
#[derive(Clone)]
pub struct Stores {
    /// Instances bound to this node.
    pub instances: Store<Instance>,
    /// Ports of this node.
    pub ports: Store<Port>,
    /// Volumes bound to this node.
    pub volumes: Store<Volume>,
    /// All Networks.
    pub networks: Store<Network>,
    /// All Images.
    pub images: Store<Image>,
    /// All Flavors.
    pub flavors: Store<Flavor>,
    /// This node's Hypervisor.
    pub hypervisor: Store<Hypervisor>,
}

impl Watches {
    /// Watches that select what is bound to this node on the server, so that a hundred agents are not a hundred copies
    /// of the cluster.
    pub fn new(client: &Client, node: &str) -> Self {
        let bound = || watcher::Config::default().fields(&format!("spec.nodeName={node}"));
        let named = watcher::Config::default().fields(&format!("metadata.name={node}"));
        let all = watcher::Config::default;
        Self {
            instances: Watch::all(client.clone(), bound()),
            ports: Watch::all(client.clone(), bound()),
            volumes: Watch::all(client.clone(), bound()),
            networks: Watch::all(client.clone(), all()),
            images: Watch::all(client.clone(), all()),
            flavors: Watch::all(client.clone(), all()),
            hypervisor: Watch::all(client.clone(), named),
        }
    }

    /// Their stores.
    pub fn stores(&self) -> Stores {
        Stores {
            instances: self.instances.store(),
            ports: self.ports.store(),
            volumes: self.volumes.store(),
            networks: self.networks.store(),
            images: self.images.store(),
            flavors: self.flavors.store(),
            hypervisor: self.hypervisor.store(),
        }
    }

    /// Runs them until the process stops.
    pub fn run(self, shutdown: &Shutdown, stop: &CancellationToken) {
        let Self {
            instances,
            ports,
            volumes,
            networks,
            images,
            flavors,
            hypervisor,
        } = self;
        shutdown.worker(instances.run(stop.clone()));
        shutdown.worker(ports.run(stop.clone()));
        shutdown.worker(volumes.run(stop.clone()));
        shutdown.worker(networks.run(stop.clone()));
        shutdown.worker(images.run(stop.clone()));
        shutdown.worker(flavors.run(stop.clone()));
        shutdown.worker(hypervisor.run(stop.clone()));
    }
}

impl Stores {
    /// Waits until each has been filled once; `false` when the process stops before.
    pub async fn ready(&self) -> bool {
        ready(&self.instances).await
            && ready(&self.ports).await
            && ready(&self.volumes).await
            && ready(&self.networks).await
            && ready(&self.images).await
            && ready(&self.flavors).await
            && ready(&self.hypervisor).await
    }
}
