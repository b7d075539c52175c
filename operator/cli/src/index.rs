//! What does the scheduler see of these objects? The controller's own reading of them, without a cluster around.

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;
use kube::{
    Resource, ResourceExt,
    runtime::{reflector::store::Writer, watcher::Event},
};
use virga_controller::{
    scheduling::{
        HostDefaults,
        aggregates::described,
        host::{self, Around, Lowest},
        obstacle::Obstacle,
        rejection, request,
        takes::{self, Held},
    },
    stores::Stores,
};
use virga_core::{host_aggregate::Aggregates, volume::volume_names};
use virga_crds::{Hypervisor, Instance, InstanceState, Volume};
use virga_scheduler::{Claim, Cluster, Host, Profile, Request, Resources, Settings, Uid};

use crate::objects::Objects;

/// Reservations are confirmed or given up within a run, so they need no end.
const FOR_EVER: Duration = Duration::from_secs(1 << 40);

/// The scheduler's index, and the stores that requests are made from.
pub struct Index {
    /// Hosts and what is on them.
    pub cluster: Cluster,
    stores: Stores,
    instances: Writer<Instance>,
    volumes: Writer<Volume>,
}

impl Index {
    /// Of all objects but the Instances, which are told one by one: [`see`](Self::see).
    pub fn new(objects: &Objects, profile: Profile, defaults: &HostDefaults, seed: u64) -> Self {
        let (instances, mut volumes) = (Writer::default(), Writer::default());
        fill(&mut volumes, &objects.volumes);
        let mut images = objects.images.clone();
        images.iter_mut().for_each(virga_core::image::with_inherited);
        let stores = Stores {
            address_groups: Writer::default().as_reader(),
            flavors: filled(&objects.flavors),
            floating_ips: Writer::default().as_reader(),
            host_aggregates: filled(&objects.host_aggregates),
            hypervisors: filled(&objects.hypervisors),
            images: filled(&images),
            instances: instances.as_reader(),
            leases: Writer::default().as_reader(),
            load_balancers: Writer::default().as_reader(),
            migrations: Writer::default().as_reader(),
            namespaces: filled(&objects.namespaces),
            networks: Writer::default().as_reader(),
            ports: Writer::default().as_reader(),
            projects: Writer::default().as_reader(),
            role_bindings: Writer::default().as_reader(),
            routers: Writer::default().as_reader(),
            security_groups: Writer::default().as_reader(),
            server_groups: filled(&objects.server_groups),
            volumes: volumes.as_reader(),
        };
        let mut cluster = Cluster::new(Settings {
            profile,
            reservation_ttl: FOR_EVER,
            seed,
        });
        // The one that was just made is looked at, and no other.
        cluster.keep_explanations(1);
        for host in hosts(objects, &stores, defaults) {
            cluster.upsert_host(host);
        }
        let hypervisors = stores.hypervisors.state();
        for aggregate in stores.host_aggregates.state() {
            cluster.upsert_aggregate(described(&aggregate, &hypervisors));
        }
        let mut index = Self {
            cluster,
            stores,
            instances,
            volumes,
        };
        for volume in &objects.volumes {
            index.count_volume(volume);
        }
        index.tidy();
        index
    }

    /// An Instance is there from now on; one that is bound counts on its host, with its Volumes.
    pub fn see(&mut self, instance: &Instance) {
        self.instances.apply_watcher_event(&Event::Apply(instance.clone()));
        if let Some(host) = bound_to(instance) {
            self.place(instance, host);
        }
    }

    /// An Instance that is there runs on this host from now on.
    pub fn place(&mut self, instance: &Instance, host: &str) {
        let namespace = instance.namespace().unwrap_or_default();
        for name in volume_names(instance) {
            let volume = self.stores.volume(&namespace, name);
            if let Some(volume) = volume.filter(|volume| volume.spec.node_name.is_none()) {
                let mut bound = Volume::clone(&volume);
                bound.spec.node_name = Some(host.to_owned());
                self.count_volume(&bound);
                self.volumes.apply_watcher_event(&Event::Apply(bound));
            }
        }
        let held = Held::of(instance, &self.stores, self.cluster.profile());
        self.cluster.place_claim(&uid(instance), &held.claim(host));
        self.tidy();
    }

    /// Where less is known of a host than it says itself, what it says counts: some of what is there could not be read.
    pub fn fill_up(&mut self, hypervisors: &[Hypervisor]) {
        for hypervisor in hypervisors {
            let Some(said) = hypervisor.status.as_ref().and_then(|status| status.allocated) else {
                continue;
            };
            let host = hypervisor.name_any();
            let known = self.cluster.usage(&host);
            let rest = |said: u64, known: u128| said.saturating_sub(u64::try_from(known).unwrap_or(u64::MAX));
            let rest = Resources {
                vcpus: u32::try_from(rest(said.vcpus.into(), known.vcpus.into())).unwrap_or(u32::MAX),
                memory_bytes: rest(said.memory.0, known.memory_bytes),
                disk_bytes: rest(said.disk.0, known.disk_bytes),
            };
            let uid = Uid::from(format!("others on {host}"));
            self.cluster.place_claim(&uid, &Claim::volume(&host, &rest));
        }
        self.tidy();
    }

    /// What the Instance asks for, or what stands in the way.
    pub fn request(&self, instance: &Instance) -> Result<Request, Vec<Obstacle>> {
        let uid = instance.uid().unwrap_or_default();
        request::request(&uid, instance, &self.stores, Timestamp::now())
    }

    fn count_volume(&mut self, volume: &Volume) {
        if let Some(host) = &volume.spec.node_name {
            let uid = Uid::from(format!("volume {}", volume.uid().unwrap_or_default()));
            let takes = takes::volume_takes(volume);
            self.cluster.place_claim(&uid, &Claim::volume(host, &takes));
        }
    }

    /// Nobody waits here who would have to be woken.
    fn tidy(&mut self) {
        drop(self.cluster.take_events());
    }
}

/// The host that an Instance is bound to and that has not said no.
pub fn bound_to(instance: &Instance) -> Option<&str> {
    let host = instance.spec.node_name.as_deref()?;
    (!rejection::is_rejected(instance)).then_some(host)
}

/// What the scheduler calls an Instance.
pub fn uid(instance: &Instance) -> Uid {
    Uid::from(instance.uid().unwrap_or_default())
}

/// Every host as the controller describes it. Whether it is heard of is not known here: what its Hypervisor says of
/// itself holds.
fn hosts(objects: &Objects, stores: &Stores, defaults: &HostDefaults) -> Vec<Host> {
    let aggregates = Aggregates::new(stores.host_aggregates.state());
    let busy = busy(&objects.instances);
    let describe = |hypervisor: &Hypervisor| {
        let around = Around {
            heard_of: true,
            zone: aggregates.zone(hypervisor).map(|zone| zone.name),
            lowest: Lowest::of(aggregates.of(hypervisor)),
            ..Around::default()
        };
        let mut host = host::host(hypervisor, around, defaults);
        host.io_ops = busy.get(host.name.as_str()).copied().unwrap_or(0);
        host
    };
    objects.hypervisors.iter().map(describe).collect()
}

/// How many Instances each host builds, by what they say of themselves.
fn busy(instances: &[Instance]) -> HashMap<&str, u32> {
    let mut busy = HashMap::new();
    for instance in instances {
        let status = instance.status.as_ref();
        let building = status.is_some_and(|status| status.state == Some(InstanceState::Building));
        if let Some(host) = bound_to(instance).filter(|_| building && instance.metadata.deletion_timestamp.is_none()) {
            *busy.entry(host).or_default() += 1;
        }
    }
    busy
}

fn filled<K>(objects: &[K]) -> kube::runtime::reflector::Store<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let mut writer = Writer::default();
    fill(&mut writer, objects);
    writer.as_reader()
}

fn fill<K>(writer: &mut Writer<K>, objects: &[K])
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    for object in objects {
        writer.apply_watcher_event(&Event::Apply(object.clone()));
    }
}
