//! What does the cluster hold that concerns this node? One watch a kind.

use std::sync::Arc;

use kube::{
    Client, Resource, ResourceExt,
    runtime::{reflector::Store, watcher},
};
use tokio_util::sync::CancellationToken;
use virga_core::{
    flavor::{ExtraSpecs, extra_specs},
    instance::plugs,
    network::is_port_of,
    problem::Problems,
};
use virga_crds::{BuiltFlavor, Flavor, Hypervisor, Image, ImageRef, Instance, Migration, Network, Port, Volume};
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
    /// Migrations that leave this node.
    pub migrations_out: Watch<Migration>,
    /// Migrations that come to this node.
    pub migrations_in: Watch<Migration>,
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
    /// Migrations that leave this node.
    pub migrations_out: Store<Migration>,
    /// Migrations that come to this node.
    pub migrations_in: Store<Migration>,
}

impl Watches {
    /// Watches that select what is bound to this node on the server, so that a hundred agents are not a hundred copies
    /// of the cluster.
    pub fn new(client: &Client, node: &str) -> Self {
        let bound = || watcher::Config::default().fields(&format!("spec.nodeName={node}"));
        let named = watcher::Config::default().fields(&format!("metadata.name={node}"));
        let moving = |field: &str| watcher::Config::default().fields(&format!("status.{field}={node}"));
        let all = watcher::Config::default;
        Self {
            instances: Watch::all(client.clone(), bound()),
            ports: Watch::all(client.clone(), bound()),
            volumes: Watch::all(client.clone(), bound()),
            networks: Watch::all(client.clone(), all()),
            // What an image has from the Instance that it was made of is as good as its own.
            images: Watch::all(client.clone(), all()).trimmed(virga_core::image::with_inherited),
            flavors: Watch::all(client.clone(), all()),
            hypervisor: Watch::all(client.clone(), named),
            migrations_out: Watch::all(client.clone(), moving("source")),
            migrations_in: Watch::all(client.clone(), moving("target")),
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
            migrations_out: self.migrations_out.store(),
            migrations_in: self.migrations_in.store(),
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
            migrations_out,
            migrations_in,
        } = self;
        shutdown.worker(instances.run(stop.clone()));
        shutdown.worker(ports.run(stop.clone()));
        shutdown.worker(volumes.run(stop.clone()));
        shutdown.worker(networks.run(stop.clone()));
        shutdown.worker(images.run(stop.clone()));
        shutdown.worker(flavors.run(stop.clone()));
        shutdown.worker(hypervisor.run(stop.clone()));
        shutdown.worker(migrations_out.run(stop.clone()));
        shutdown.worker(migrations_in.run(stop.clone()));
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
            && ready(&self.migrations_out).await
            && ready(&self.migrations_in).await
    }

    /// The Instance with this uid.
    pub fn instance(&self, uid: &str) -> Option<Arc<Instance>> {
        with_uid(&self.instances, uid)
    }

    /// The Image with this uid.
    pub fn image(&self, uid: &str) -> Option<Arc<Image>> {
        with_uid(&self.images, uid)
    }

    /// The Image that an object of the namespace `own` names.
    pub fn named_image(&self, own: &str, named: &ImageRef) -> Option<Arc<Image>> {
        let namespace = named.namespace.as_deref().unwrap_or(own);
        find_named(&self.images, namespace, &named.name)
    }

    /// A Network by its name.
    pub fn network(&self, namespace: &str, name: &str) -> Option<Arc<Network>> {
        find_named(&self.networks, namespace, name)
    }

    /// The Network of one of an Instance's interfaces. Its Port says which, as long as there is one.
    pub fn network_of(&self, instance: &Instance, name: &str) -> Option<Arc<Network>> {
        let own = instance.namespace().unwrap_or_default();
        let port = self.port(instance, name);
        let mut interfaces = instance.spec.interfaces.iter();
        let interface = interfaces.find(|interface| interface.network == name);
        let from = match &port {
            Some(port) => port.spec.network_in(&own),
            None => interface.map_or(own.as_str(), |interface| interface.network_in(&own)),
        };
        self.network(from, name)
    }

    /// A Volume by its name, if it is bound to this node.
    pub fn volume(&self, namespace: &str, name: &str) -> Option<Arc<Volume>> {
        find_named(&self.volumes, namespace, name)
    }

    /// The Port with which an Instance is plugged into a network: its own, not one of an Instance that had its name.
    pub fn port(&self, instance: &Instance, network: &str) -> Option<Arc<Port>> {
        let mut plugs = plugs(&instance.spec);
        let named = plugs.find(|plug| plug.interface.network == network);
        let named = named.map(|plug| plug.port_name(&instance.name_any()));
        // Another one may still be on its way out of the same network.
        let is_meant = |port: &Port| named.is_none() || port.metadata.name == named;
        self.ports
            .find(|port| port.spec.network == network && is_port_of(port, instance) && is_meant(port))
    }

    /// The Port of an Instance that has a MAC address.
    pub fn port_of_mac(&self, instance: &Instance, mac: &str) -> Option<Arc<Port>> {
        let networks = instance
            .spec
            .interfaces
            .iter()
            .map(|interface| interface.network.as_str());
        let mut ports = networks.filter_map(|network| self.port(instance, network));
        ports.find(|port| port.spec.mac == mac)
    }

    /// The flavor of an Instance: as it was built, or as its Flavor says now.
    pub fn flavor_of(&self, instance: &Instance) -> Option<BuiltFlavor> {
        let built = instance.status.as_ref().and_then(|status| status.flavor.clone());
        built.or_else(|| self.flavor_named(&instance.spec.flavor))
    }

    /// A Flavor as a machine is built with it now.
    pub fn flavor_named(&self, name: &str) -> Option<BuiltFlavor> {
        let flavor = self.flavors.find(|flavor| flavor.name_any() == name)?;
        Some(BuiltFlavor {
            name: name.into(),
            vcpus: flavor.spec.vcpus,
            memory: flavor.spec.memory,
            disk: flavor.spec.disk,
        })
    }

    /// What a Flavor asks for beyond its size; nothing when there is none of that name.
    pub fn extra_specs_of(&self, name: &str) -> Result<ExtraSpecs, Problems> {
        let flavor = self.flavors.find(|flavor| flavor.name_any() == name);
        flavor.map_or_else(|| Ok(ExtraSpecs::default()), |flavor| extra_specs(&flavor.spec))
    }
}

fn with_uid<K>(store: &Store<K>, uid: &str) -> Option<Arc<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    store.find(|object| object.meta().uid.as_deref() == Some(uid))
}

fn find_named<K>(store: &Store<K>, namespace: &str, name: &str) -> Option<Arc<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    store.find(|object| {
        let meta = object.meta();
        meta.name.as_deref() == Some(name) && meta.namespace.as_deref() == Some(namespace)
    })
}
