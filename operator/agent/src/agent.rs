//! How do the parts come together?

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream::BoxStream};
use kube::{Client, ResourceExt, runtime::reflector::ObjectRef};
use prometheus_client::registry::Registry;
use tokio::sync::broadcast;
use virga_core::network::Backend;
use virga_crds::{Instance, managers};
use virga_hypervisor::{Calls, CallsLimits, Hypervisor};
use virga_images::{
    cache::{Cache, Options as CacheOptions},
    disk::QemuImg,
};
use virga_network::{LibvirtNetworks, NetworkBackend, OvnNetworks};
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

use crate::{
    ask::Ask,
    capacity::disk_cache,
    claims::Claims,
    controllers,
    host::{Facts, Host},
    image::{Changed, Images},
    instance::{InstanceLoop, Published},
    layout::Layout,
    metrics::Metrics,
    migration::{IncomingLoop, OutgoingLoop},
    node::{self, Reporter, Wake},
    options::Options,
    orphans,
    port::{NetworkLoop, Networks},
    snapshot::{self, Snapshots},
    stores::Watches,
    topology::Topologies,
    transfer::{self, Transfers},
    turns::Turns,
    usage::{self, Usage},
    volume::VolumeLoop,
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
    /// What was offered to other hosts can't be read.
    #[error("opening the ledger of what was offered to other hosts")]
    Ledger(#[from] virga_transfer::offers::Error),
    /// The data directory must be absolute: libvirt is given its paths.
    #[error("the data directory {0} is not an absolute path")]
    Relative(PathBuf),
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
    of_guests: virga_hypervisor::EventStream,
    news: BoxStream<'static, ObjectRef<Instance>>,
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
        let of_guests = hypervisor.events(wake::EVENTS);
        let calls = Calls::new(hypervisor, CallsLimits::default());
        let transfers = Transfers::open(
            &options.node,
            &layout.offers(),
            transfer::Options {
                address: options.transfer_address,
                bandwidth: options.transfer_bandwidth,
                min_free: options.min_free.0,
            },
            clock.clone(),
        )?;
        let images = Images::new(
            &options.node,
            cache.clone(),
            layout.clone(),
            stores.clone(),
            transfers.clone(),
            shutdown.stopping(),
        );
        let controller = Ask::new(
            client.clone(),
            &options.namespace,
            options.controller_url.clone(),
            options.controller_ip,
            options.token_file.clone(),
        );
        let (usage, news) = Usage::new(registry);
        let backend: Arc<dyn NetworkBackend> = match options.network {
            Backend::Libvirt => Arc::new(LibvirtNetworks::new(calls.clone(), NETWORK)),
            Backend::Ovn { .. } => Arc::new(OvnNetworks::new(options.offloads)),
        };
        let host = Host {
            node: options.node.clone(),
            disk_cache: disk_cache(&layout),
            layout: layout.clone(),
            calls,
            domain_type: options.domain_type,
            facts: Facts::default(),
            ratios: options.ratios,
            images,
            snapshots: Snapshots::default(),
            networks: Networks::new(backend, options.network, stores.clone()),
            claims: Claims::default(),
            plugged: crate::plugged::Plugged::default(),
            topologies: Topologies::new(layout.clone()),
            disks: QemuImg::new(&options.qemu_img, Duration::from_mins(1)),
            controller,
            transfers,
            usage,
            turns: Turns::default(),
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
            of_guests,
            news: news.boxed(),
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
            of_guests,
            news,
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

        let instances = controllers::instances(&watches, &stores)
            .reconcile_on(wake::instances(&host, events, &all, wake.clone()))
            .reconcile_on(news);
        let volumes = controllers::volumes(&watches, &stores).reconcile_on(wake::volumes(
            stores.clone(),
            &host.images,
            &host.plugged,
        ));
        let networks = controllers::networks(&watches);
        let incoming_loop = IncomingLoop::new(host.clone(), stop.clone());
        let outgoing = controllers::outgoing(&watches);
        let incoming = controllers::incoming(&watches).reconcile_on(incoming_loop.ended());
        let image_changes = watches.images.changes();
        let images_to_make = watches.images.changes();
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

        let transfers = host.transfers.clone();
        shutdown.worker(transfers.run(host.controller.clone(), wake.clone(), stop.clone()));
        let served = transfer::publish(host.images.clone(), host.transfers.offers().clone());
        shutdown.worker(until(stop.clone(), served));
        let reporter = Reporter {
            host: host.clone(),
            wake,
            min_free: options.min_free,
            monitors_cpu: options.monitor_cpu,
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
        shutdown.worker(usage::run(host.clone(), options.usage, stop.clone()));
        shutdown.worker(usage::follow_guests(
            host.clone(),
            of_guests,
            options.usage,
            stop.clone(),
        ));
        shutdown.worker(orphans::run(host.clone(), stop.clone()));
        shutdown.worker(until(stop.clone(), host.images.clone().follow(image_changes)));
        shutdown.worker(snapshot::run(host.clone(), images_to_make, stop.clone()));
        shutdown.worker(until(stop.clone(), gone));
        shutdown.worker(until(stop.clone(), woken));
        let settings = Settings::default();
        let counted = || reconciles.clone();
        tokio::join!(
            reconcile::run(
                InstanceLoop::new(host.clone(), published),
                instances,
                settings.clone(),
                counted(),
                stop.clone()
            ),
            reconcile::run(
                VolumeLoop::new(host.clone()),
                volumes,
                settings.clone(),
                counted(),
                stop.clone()
            ),
            reconcile::run(
                NetworkLoop::new(host.networks.clone()),
                networks,
                settings.clone(),
                counted(),
                stop.clone()
            ),
            reconcile::run(
                OutgoingLoop::new(host.clone()),
                outgoing,
                settings.clone(),
                counted(),
                stop.clone()
            ),
            reconcile::run(incoming_loop, incoming, settings, counted(), stop),
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
                if let Ok(uid) = uid.parse() {
                    host.plugged.forget(uid);
                }
            }
        }
    }
}

/// Has the node reported anew when its images, or its Hypervisor, change: at once when an image that was made here is
/// there, for which a user waits.
fn wake_reporter(watches: &Watches, images: &Images, wake: Wake) -> impl Future<Output = ()> + Send + use<> {
    let hypervisor = watches.hypervisor.touched().map(|_| false);
    let made = {
        let images = images.clone();
        move |changed| matches!(changed, Changed::One(uid) if images.is_made(&uid))
    };
    let images = images.changes().map(made);
    async move {
        let mut changes = std::pin::pin!(futures::stream::select(hypervisor, images));
        while let Some(made) = changes.next().await {
            if made {
                wake.wake_at_once();
            } else {
                wake.wake();
            }
        }
    }
}
