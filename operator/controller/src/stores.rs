//! What does the cluster hold, as this process last saw it? One watch per kind, shared by the controllers, the webhooks
//! and the scheduler.

use std::{fmt::Debug, sync::Arc};

use k8s_openapi::api::{coordination::v1::Lease, core::v1::Namespace, rbac::v1::RoleBinding};
use kube::{
    Client, Resource,
    runtime::{
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use virga_crds::{
    AddressGroup, Flavor, FloatingIP, HostAggregate, Hypervisor, Image, Instance, LoadBalancer, Migration, Network,
    Port, Project, Router, SecurityGroup, ServerGroup, Volume, labels, managers,
};
use virga_runtime::watch::{self, Watch};

/// The watches of the process. Subscribe to them, then [`run`](Self::run) them.
pub struct Watches {
    /// Address groups of all namespaces.
    pub address_groups: Watch<AddressGroup>,
    /// Flavors.
    pub flavors: Watch<Flavor>,
    /// FloatingIPs of all namespaces.
    pub floating_ips: Watch<FloatingIP>,
    /// Host aggregates.
    pub host_aggregates: Watch<HostAggregate>,
    /// Hypervisors.
    pub hypervisors: Watch<Hypervisor>,
    /// Images of all namespaces.
    pub images: Watch<Image>,
    /// Instances of all namespaces.
    pub instances: Watch<Instance>,
    /// The Leases of the agents.
    pub leases: Watch<Lease>,
    /// LoadBalancers of all namespaces.
    pub load_balancers: Watch<LoadBalancer>,
    /// Migrations of all namespaces.
    pub migrations: Watch<Migration>,
    /// The namespaces that belong to a Project.
    pub namespaces: Watch<Namespace>,
    /// Networks of all namespaces.
    pub networks: Watch<Network>,
    /// Ports of all namespaces.
    pub ports: Watch<Port>,
    /// Projects.
    pub projects: Watch<Project>,
    /// The role bindings that belong to a Project.
    pub role_bindings: Watch<RoleBinding>,
    /// Routers of all namespaces.
    pub routers: Watch<Router>,
    /// Security groups of all namespaces.
    pub security_groups: Watch<SecurityGroup>,
    /// Server groups of all namespaces.
    pub server_groups: Watch<ServerGroup>,
    /// Volumes of all namespaces.
    pub volumes: Watch<Volume>,
}

/// What the watches last saw. Clones share it.
#[derive(Clone)]
pub struct Stores {
    /// Address groups of all namespaces.
    pub address_groups: Store<AddressGroup>,
    /// Flavors.
    pub flavors: Store<Flavor>,
    /// FloatingIPs of all namespaces.
    pub floating_ips: Store<FloatingIP>,
    /// Host aggregates.
    pub host_aggregates: Store<HostAggregate>,
    /// Hypervisors.
    pub hypervisors: Store<Hypervisor>,
    /// Images of all namespaces.
    pub images: Store<Image>,
    /// Instances of all namespaces.
    pub instances: Store<Instance>,
    /// The Leases of the agents.
    pub leases: Store<Lease>,
    /// LoadBalancers of all namespaces.
    pub load_balancers: Store<LoadBalancer>,
    /// Migrations of all namespaces.
    pub migrations: Store<Migration>,
    /// The namespaces that belong to a Project.
    pub namespaces: Store<Namespace>,
    /// Networks of all namespaces.
    pub networks: Store<Network>,
    /// Ports of all namespaces.
    pub ports: Store<Port>,
    /// Projects.
    pub projects: Store<Project>,
    /// The role bindings that belong to a Project.
    pub role_bindings: Store<RoleBinding>,
    /// Routers of all namespaces.
    pub routers: Store<Router>,
    /// Security groups of all namespaces.
    pub security_groups: Store<SecurityGroup>,
    /// Server groups of all namespaces.
    pub server_groups: Store<ServerGroup>,
    /// Volumes of all namespaces.
    pub volumes: Store<Volume>,
}

impl Watches {
    /// Nothing is sent yet. `namespace` is where the agents' Leases are.
    pub fn new(client: &Client, namespace: &str) -> Self {
        let all = watcher::Config::default;
        let of_projects = || watcher::Config::default().labels(labels::PROJECT);
        Self {
            address_groups: everywhere(client, all()),
            flavors: everywhere(client, all()),
            floating_ips: everywhere(client, all()),
            host_aggregates: everywhere(client, all()),
            hypervisors: everywhere(client, all()),
            images: Watch::all(client.clone(), all()).trimmed(whole_image),
            instances: Watch::all(client.clone(), all()).trimmed(trim_instance),
            leases: Watch::within(client.clone(), namespace, all()).trimmed(trim),
            load_balancers: everywhere(client, all()),
            migrations: everywhere(client, all()),
            namespaces: everywhere(client, of_projects()),
            networks: everywhere(client, all()),
            ports: everywhere(client, all()),
            projects: everywhere(client, all()),
            role_bindings: everywhere(client, of_projects()),
            routers: everywhere(client, all()),
            security_groups: everywhere(client, all()),
            server_groups: everywhere(client, all()),
            volumes: everywhere(client, all()),
        }
    }

    /// The readers.
    pub fn stores(&self) -> Stores {
        Stores {
            address_groups: self.address_groups.store(),
            flavors: self.flavors.store(),
            floating_ips: self.floating_ips.store(),
            host_aggregates: self.host_aggregates.store(),
            hypervisors: self.hypervisors.store(),
            images: self.images.store(),
            instances: self.instances.store(),
            leases: self.leases.store(),
            load_balancers: self.load_balancers.store(),
            migrations: self.migrations.store(),
            namespaces: self.namespaces.store(),
            networks: self.networks.store(),
            ports: self.ports.store(),
            projects: self.projects.store(),
            role_bindings: self.role_bindings.store(),
            routers: self.routers.store(),
            security_groups: self.security_groups.store(),
            server_groups: self.server_groups.store(),
            volumes: self.volumes.store(),
        }
    }

    /// Keeps the stores up to date until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        let run = [
            tokio::spawn(self.address_groups.run(stop.clone())),
            tokio::spawn(self.flavors.run(stop.clone())),
            tokio::spawn(self.floating_ips.run(stop.clone())),
            tokio::spawn(self.host_aggregates.run(stop.clone())),
            tokio::spawn(self.hypervisors.run(stop.clone())),
            tokio::spawn(self.images.run(stop.clone())),
            tokio::spawn(self.instances.run(stop.clone())),
            tokio::spawn(self.leases.run(stop.clone())),
            tokio::spawn(self.load_balancers.run(stop.clone())),
            tokio::spawn(self.migrations.run(stop.clone())),
            tokio::spawn(self.namespaces.run(stop.clone())),
            tokio::spawn(self.networks.run(stop.clone())),
            tokio::spawn(self.ports.run(stop.clone())),
            tokio::spawn(self.projects.run(stop.clone())),
            tokio::spawn(self.role_bindings.run(stop.clone())),
            tokio::spawn(self.routers.run(stop.clone())),
            tokio::spawn(self.security_groups.run(stop.clone())),
            tokio::spawn(self.server_groups.run(stop.clone())),
            tokio::spawn(self.volumes.run(stop)),
        ];
        for watch in run {
            // A watch that panicked has said so; the stream of its changes has ended, which its readers notice.
            let _ = watch.await;
        }
    }
}

impl Stores {
    /// Ends when every store has been filled; `false` if the watches ended before.
    pub async fn synced(&self) -> bool {
        watch::ready(&self.address_groups).await
            && watch::ready(&self.flavors).await
            && watch::ready(&self.floating_ips).await
            && watch::ready(&self.host_aggregates).await
            && watch::ready(&self.hypervisors).await
            && watch::ready(&self.images).await
            && watch::ready(&self.instances).await
            && watch::ready(&self.leases).await
            && watch::ready(&self.load_balancers).await
            && watch::ready(&self.migrations).await
            && watch::ready(&self.namespaces).await
            && watch::ready(&self.networks).await
            && watch::ready(&self.ports).await
            && watch::ready(&self.projects).await
            && watch::ready(&self.role_bindings).await
            && watch::ready(&self.routers).await
            && watch::ready(&self.security_groups).await
            && watch::ready(&self.server_groups).await
            && watch::ready(&self.volumes).await
    }

    /// An AddressGroup.
    pub fn address_group(&self, namespace: &str, name: &str) -> Option<Arc<AddressGroup>> {
        self.address_groups.get(&ObjectRef::new(name).within(namespace))
    }

    /// A Flavor.
    pub fn flavor(&self, name: &str) -> Option<Arc<Flavor>> {
        self.flavors.get(&ObjectRef::new(name))
    }

    /// A FloatingIP.
    pub fn floating_ip(&self, namespace: &str, name: &str) -> Option<Arc<FloatingIP>> {
        self.floating_ips.get(&ObjectRef::new(name).within(namespace))
    }

    /// An Image.
    pub fn image(&self, namespace: &str, name: &str) -> Option<Arc<Image>> {
        self.images.get(&ObjectRef::new(name).within(namespace))
    }

    /// An Instance.
    pub fn instance(&self, namespace: &str, name: &str) -> Option<Arc<Instance>> {
        self.instances.get(&ObjectRef::new(name).within(namespace))
    }

    /// A LoadBalancer.
    pub fn load_balancer(&self, namespace: &str, name: &str) -> Option<Arc<LoadBalancer>> {
        self.load_balancers.get(&ObjectRef::new(name).within(namespace))
    }

    /// A Migration.
    pub fn migration(&self, namespace: &str, name: &str) -> Option<Arc<Migration>> {
        self.migrations.get(&ObjectRef::new(name).within(namespace))
    }

    /// A Network.
    pub fn network(&self, namespace: &str, name: &str) -> Option<Arc<Network>> {
        self.networks.get(&ObjectRef::new(name).within(namespace))
    }

    /// A Port.
    pub fn port(&self, namespace: &str, name: &str) -> Option<Arc<Port>> {
        self.ports.get(&ObjectRef::new(name).within(namespace))
    }

    /// A Router.
    pub fn router(&self, namespace: &str, name: &str) -> Option<Arc<Router>> {
        self.routers.get(&ObjectRef::new(name).within(namespace))
    }

    /// A SecurityGroup.
    pub fn security_group(&self, namespace: &str, name: &str) -> Option<Arc<SecurityGroup>> {
        self.security_groups.get(&ObjectRef::new(name).within(namespace))
    }

    /// A ServerGroup.
    pub fn server_group(&self, namespace: &str, name: &str) -> Option<Arc<ServerGroup>> {
        self.server_groups.get(&ObjectRef::new(name).within(namespace))
    }

    /// A Volume.
    pub fn volume(&self, namespace: &str, name: &str) -> Option<Arc<Volume>> {
        self.volumes.get(&ObjectRef::new(name).within(namespace))
    }
}

fn everywhere<K>(client: &Client, config: watcher::Config) -> Watch<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    Watch::all(client.clone(), config).trimmed(trim)
}

/// Takes away what only the agent reads, too: what is for the guest is up to 64 KiB, and all else of an Instance a few.
fn trim_instance(instance: &mut Instance) {
    trim(instance);
    let spec = &mut instance.spec;
    spec.user_data.take_if(|data| data.inline.is_some());
    (spec.ssh_keys, spec.metadata) = Default::default();
}

/// What an image has from the Instance that it was made of is as good as its own.
fn whole_image(image: &mut Image) {
    trim(image);
    virga_core::image::with_inherited(image);
}

/// Takes away what nobody here reads and what is often larger than the rest: kubectl's copy of the object, and the
/// `managedFields` of other writers. Those of our own are how an unchanged object is told from a changed one.
fn trim<K: Resource>(object: &mut K) {
    let meta = object.meta_mut();
    if let Some(fields) = &mut meta.managed_fields {
        let ours = |manager: &str| [managers::CONTROLLER, managers::SCHEDULER, managers::DRAIN].contains(&manager);
        fields.retain(|entry| entry.manager.as_deref().is_some_and(ours));
    }
    if let Some(annotations) = &mut meta.annotations {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
}
