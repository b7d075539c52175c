//! How do the parts come together?

use std::{io, net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use kube::{
    Client, ResourceExt,
    runtime::{controller::Controller, reflector::ObjectRef},
};
use prometheus_client::registry::Registry;
use tokio::sync::broadcast;
use virga_crds::{Bytes, Flavor, Image, Instance, Network, Port, Volume, managers};
use virga_hypervisor::{Cache as DiskCache, Calls, CallsLimits, DomainType, Hypervisor};
use virga_images::{
    cache::{Cache, Options as CacheOptions},
    disk::QemuImg,
};
use virga_network::LibvirtNetworks;
use virga_runtime::{
    apply::Writer,
    clock::Clock,
    events::Events,
    health::Health,
    heartbeat,
    metrics::ReconcileMetrics,
    reconcile::{self, Settings},
    shutdown::Shutdown,
    watch::Change,
};
use virga_scheduler::Ratios;

use crate::{
    flags::{Args, DomainTypeFlag},
    host::{Checkpoint, DomainChoice, Facts, Host},
    image::Images,
    instance::{InstanceLoop, Published, volume_names},
    layout::Layout,
    metrics::Metrics,
    node::{self, Reporter, Wake},
    orphans,
    port::{NetworkLoop, Networks},
    stores::{Stores, Watches},
    userdata::UserData,
    volume::{Claims, VolumeLoop},
    wake,
};

/// How long bringing a network up may take: dnsmasq and the firewall's rules, on a busy host.
const NETWORK: Duration = Duration::from_mins(1);

/// Why the agent can't run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data directory can't be used.
    #[error("making the data directory {path}")]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The image cache can't be opened.
    #[error("opening the image cache")]
    Cache(#[from] virga_images::cache::Error),
    /// The data directory must be absolute: libvirt is given its paths.
    #[error("the data directory {0} is not an absolute path")]
    Relative(PathBuf),
}

/// How the agent behaves.
#[derive(Clone)]
pub struct Options {
    /// This node.
    pub node: String,
    /// Where images, disks and volumes are.
    pub data_dir: PathBuf,
    /// How guests are run.
    pub domain_type: DomainChoice,
    /// The namespace of Virga's own objects.
    pub namespace: String,
    /// Where the controller serves user data.
    pub controller_url: Option<String>,
    /// The address behind it, where its name is not known.
    pub controller_ip: Option<IpAddr>,
    /// The service account's token.
    pub token_file: PathBuf,
    /// The host's address.
    pub host_ip: Option<String>,
    /// How much of the disk the image cache may take.
    pub image_cache: Bytes,
    /// How much of the disk must stay free.
    pub min_free: Bytes,
    /// Whether images may be fetched from the host itself.
    pub allow_local_image_urls: bool,
    /// How many times over the host is promised, where its Hypervisor doesn't say.
    pub ratios: Ratios,
    /// The qemu-img program.
    pub qemu_img: PathBuf,
    /// For tests of crashes.
    pub checkpoint: Option<Checkpoint>,
}

impl From<Args> for Options {
    fn from(args: Args) -> Self {
        let Args {
            // Used by main.
            common: _,
            libvirt_uri: _,
            node_name,
            data_dir,
            domain_type,
            namespace,
            controller_url,
            controller_ip,
            token_file,
            host_ip,
            image_cache_gib,
            min_free_gib,
            allow_local_image_urls,
            cpu_allocation_ratio,
            ram_allocation_ratio,
            disk_allocation_ratio,
            qemu_img,
        } = args;
        Self {
            node: node_name,
            data_dir,
            domain_type: match domain_type {
                DomainTypeFlag::Auto => DomainChoice::Auto,
                DomainTypeFlag::Kvm => DomainChoice::Always(DomainType::Kvm),
                DomainTypeFlag::Qemu => DomainChoice::Always(DomainType::Qemu),
            },
            namespace,
            controller_url,
            controller_ip,
            token_file,
            host_ip,
            image_cache: Bytes::gib(image_cache_gib),
            min_free: Bytes::gib(min_free_gib),
            allow_local_image_urls,
            ratios: Ratios {
                vcpus: cpu_allocation_ratio,
                memory: ram_allocation_ratio,
                disk: disk_allocation_ratio,
            },
            qemu_img,
            checkpoint: None,
        }
    }
}

/// What the agent lives in.
pub struct World<'a> {
    /// The API server.
    pub client: Client,
    /// The host's libvirt.
    pub hypervisor: Arc<dyn Hypervisor>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Events to users.
    pub events: Events,
    /// Where metrics are registered.
    pub registry: &'a mut Registry,
    /// Where readiness is told.
    pub health: Health,
    /// How the process stops.
    pub shutdown: Shutdown,
}

/// An agent that is ready to run.
pub struct Agent {
    host: Host,
    options: Options,
    watches: Watches,
    cache: Cache,
    events: virga_hypervisor::EventStream,
    reconciles: ReconcileMetrics,
    clock: Arc<dyn Clock>,
    client: Client,
    health: Health,
    shutdown: Shutdown,
}

impl Agent {
    /// Opens what is on the disk. Nothing is asked of libvirt or the API server yet.
    pub async fn open(options: Options, world: World<'_>) -> Result<Self, Error> {
        let World {
            client,
            hypervisor,
            clock,
            events,
            registry,
            health,
            shutdown,
        } = world;
        if !options.data_dir.is_absolute() {
            return Err(Error::Relative(options.data_dir));
        }
        let layout = Layout::new(&options.data_dir);
        layout.create().map_err(|source| Error::Directory {
            path: options.data_dir.clone(),
            source,
        })?;
        let mut cache_options = CacheOptions::new(options.image_cache.0, options.min_free.0);
        cache_options.store = Some(layout.store());
        cache_options.allow_local_addresses = options.allow_local_image_urls;
        let cache = Cache::open(layout.images(), cache_options).await?;
        let watches = Watches::new(&client, &options.node);
        let stores = watches.stores();
        let happened = hypervisor.events(wake::EVENTS);
        let calls = Calls::new(hypervisor, CallsLimits::default());
        let images = Images::new(
            &options.node,
            cache.clone(),
            layout.clone(),
            stores.clone(),
            shutdown.stopping(),
        );
        let user_data = UserData::new(
            client.clone(),
            &options.namespace,
            options.controller_url.clone(),
            options.controller_ip,
            options.token_file.clone(),
        );
        let backend = Arc::new(LibvirtNetworks::new(calls.clone(), NETWORK));
        let host = Host {
            node: options.node.clone(),
            disk_cache: disk_cache(&layout),
            layout,
            calls,
            domain_type: options.domain_type,
            facts: Facts::default(),
            ratios: options.ratios,
            images,
            networks: Networks::new(backend, stores.clone()),
            claims: Claims::default(),
            disks: QemuImg::new(&options.qemu_img, Duration::from_mins(1)),
            user_data,
            stores,
            client: client.clone(),
            writer: Writer::new(client.clone(), managers::AGENT),
            events,
            metrics: Metrics::register(registry),
            clock: clock.clone(),
            checkpoint: options.checkpoint.clone(),
        };
        Ok(Self {
            host,
            options,
            watches,
            cache,
            events: happened,
            reconciles: ReconcileMetrics::register(registry),
            clock,
            client,
            health,
            shutdown,
        })
    }

    /// Runs until the process is to stop. Guests run on.
    pub async fn run(self) {
        let Self {
            host,
            options,
            watches,
            cache,
            events,
            reconciles,
            clock,
            client,
            health,
            shutdown,
        } = self;
        let stop = shutdown.stopping();
        let synced = health.readiness("watches");
        let wake = Wake::default();
        let (all, _) = broadcast::channel(1);
        let stores = host.stores.clone();
        let published = Published::default();

        let instances = instance_controller(&watches, &stores).reconcile_on(wake::instances(
            stores.clone(),
            events,
            &host.images,
            &all,
            wake.clone(),
        ));
        let volumes = volume_controller(&watches, &stores).reconcile_on(wake::volumes(stores.clone(), &host.images));
        let networks = network_controller(&watches);
        let image_changes = watches.images.changes();
        let gone = forget_gone(&watches, host.clone(), published.clone(), wake.clone());
        let woken = wake_reporter(&watches, &host.images, wake.clone());
        watches.run(&shutdown, &stop);
        let ready = tokio::select! {
            ready = stores.ready() => ready,
            () = stop.cancelled() => false,
        };
        if !ready {
            return;
        }
        synced.pass();
        tracing::info!(instances = stores.instances.len(), "the watches are filled");
        host.images.forget_others().await;

        let reporter = Reporter {
            host: host.clone(),
            wake,
            min_free: options.min_free,
            host_ip: options.host_ip.clone(),
            check: health.readiness("libvirt"),
            reconnected: Arc::new(move || {
                // Nobody listening is fine.
                let _ = all.send(());
            }),
        };
        let beats = heartbeat::Options::new(
            &options.namespace,
            format!("virga-{}", options.node),
            &options.node,
            managers::AGENT,
        );
        shutdown.worker(heartbeat::run(client, clock, beats, stop.clone()));
        shutdown.worker(node::run(reporter, stop.clone()));
        shutdown.worker(orphans::run(host.clone(), stop.clone()));
        shutdown.worker(until(stop.clone(), host.images.clone().follow(image_changes)));
        shutdown.worker(until(stop.clone(), gone));
        shutdown.worker(until(stop.clone(), woken));
        let settings = Settings::default();
        let (a, b, c) = (reconciles.clone(), reconciles.clone(), reconciles);
        tokio::join!(
            reconcile::run(
                InstanceLoop::new(host.clone(), published),
                instances,
                settings.clone(),
                a,
                stop.clone()
            ),
            reconcile::run(
                VolumeLoop::new(host.clone()),
                volumes,
                settings.clone(),
                b,
                stop.clone()
            ),
            reconcile::run(NetworkLoop::new(host.networks.clone()), networks, settings, c, stop),
        );
        cache.close().await;
    }
}

async fn until(stop: tokio_util::sync::CancellationToken, work: impl Future<Output = ()>) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
    }
}

fn instance_controller(watches: &Watches, stores: &Stores) -> Controller<Instance> {
    let (by_flavor, by_image, by_network, by_volume, by_instance) = (
        stores.clone(),
        stores.clone(),
        stores.clone(),
        stores.clone(),
        stores.clone(),
    );
    Controller::for_shared_stream(watches.instances.applied(), stores.instances.clone())
        .watches_shared_stream(watches.flavors.touched(), move |flavor: Arc<Flavor>| {
            wake::matching(&by_flavor, |instance| instance.spec.flavor == flavor.name_any())
        })
        .watches_shared_stream(watches.images.touched(), move |image: Arc<Image>| {
            wake::instances_of_image(&by_image, &image)
        })
        .watches_shared_stream(watches.networks.touched(), move |network: Arc<Network>| {
            wake::matching(&by_network, |instance| {
                let mut interfaces = instance.spec.interfaces.iter();
                instance.namespace() == network.namespace()
                    && interfaces.any(|interface| interface.network == network.name_any())
            })
        })
        .watches_shared_stream(watches.ports.touched(), |port: Arc<Port>| {
            port.namespace()
                .map(|namespace| ObjectRef::new(&port.spec.instance).within(&namespace))
        })
        .watches_shared_stream(watches.volumes.touched(), move |volume: Arc<Volume>| {
            wake::matching(&by_volume, |instance| {
                instance.namespace() == volume.namespace()
                    && volume_names(instance).any(|name| name == volume.name_any())
            })
        })
        // An Instance that goes may leave a volume to one that waits for it.
        .watches_shared_stream(watches.instances.touched(), move |other: Arc<Instance>| {
            wake::matching(&by_instance, |instance| {
                instance.metadata.uid != other.metadata.uid
                    && instance.namespace() == other.namespace()
                    && volume_names(instance).any(|name| volume_names(&other).any(|theirs| theirs == name))
            })
        })
}

fn volume_controller(watches: &Watches, stores: &Stores) -> Controller<Volume> {
    Controller::for_shared_stream(watches.volumes.applied(), stores.volumes.clone()).watches_shared_stream(
        watches.instances.touched(),
        |instance: Arc<Instance>| {
            let namespace = instance.namespace().unwrap_or_default();
            let names = volume_names(&instance).map(|name| ObjectRef::new(name).within(&namespace));
            names.collect::<Vec<_>>()
        },
    )
}

fn network_controller(watches: &Watches) -> Controller<Network> {
    Controller::for_shared_stream(watches.networks.applied(), watches.networks.store()).watches_shared_stream(
        watches.ports.touched(),
        |port: Arc<Port>| {
            port.namespace()
                .map(|namespace| ObjectRef::new(&port.spec.network).within(&namespace))
        },
    )
}

/// Lets go of what is kept for Instances that are gone.
fn forget_gone(
    watches: &Watches,
    host: Host,
    published: Published,
    wake: Wake,
) -> impl Future<Output = ()> + Send + use<> {
    let changes = watches.instances.changes();
    async move {
        let mut changes = std::pin::pin!(changes);
        while let Some(change) = futures::StreamExt::next(&mut changes).await {
            wake.wake();
            if let Change::Deleted(instance) = change
                && let Some(uid) = instance.uid()
            {
                published.forget(&uid);
                host.networks.forget(&uid);
                host.claims.release(&uid);
            }
        }
    }
}

/// Has the node reported anew when its images, or its Hypervisor, change.
fn wake_reporter(watches: &Watches, images: &Images, wake: Wake) -> impl Future<Output = ()> + Send + use<> {
    let hypervisor = futures::StreamExt::map(watches.hypervisor.touched(), |_| ());
    let images = futures::StreamExt::map(images.changes(), |_| ());
    async move {
        let mut changes = std::pin::pin!(futures::stream::select(hypervisor, images));
        while futures::StreamExt::next(&mut changes).await.is_some() {
            wake.wake();
        }
    }
}

/// Whether the data directory's file system takes direct I/O. Without it QEMU can't open disks past the page cache.
fn disk_cache(layout: &Layout) -> DiskCache {
    use std::os::unix::fs::OpenOptionsExt as _;
    let probe = layout.root().join(".direct-io");
    let flags = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).unwrap_or(0);
    let opened = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .custom_flags(flags)
        .open(&probe);
    let direct = opened.is_ok();
    // One that is left behind is used again.
    let _ = std::fs::remove_file(&probe);
    if direct { DiskCache::None } else { DiskCache::Writeback }
}
