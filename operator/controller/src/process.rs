//! How is the process put together, and in which order does it stop?

use std::{io, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use kube::Client;
use prometheus_client::{metrics::gauge::Gauge, registry::Registry};
use tokio_util::sync::CancellationToken;
use virga_runtime::{
    apply::Writer,
    client,
    clock::{Clock, SystemClock},
    events,
    flags::CommonArgs,
    health::{self, Health},
    lease::{self, Candidate, Ended},
    metrics::{self, ReconcileMetrics},
    shutdown::{Drained, Shutdown},
    telemetry,
};
use virga_scheduler::Ratios;

use crate::{
    Context, certs, controllers, debug,
    flags::Args,
    leader,
    ovn::Carrier,
    scheduling::{
        HostDefaults, Scheduler, feed,
        profile_file::{self, ProfileFile},
        queue::Queue,
        takeover,
    },
    stores::Watches,
    webhook::{self, Webhooks},
};

/// How long what is under way may take when the process stops; well under the Pod's 30 s.
const DRAIN: Duration = Duration::from_secs(15);

/// How long the webhooks go on to answer after the rest has stopped: until every node has heard that this Pod is no
/// endpoint any more. A refused connection would be a refused create.
const LINGER: Duration = Duration::from_secs(5);

/// Why the process ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Logging could not start.
    #[error("starting to log")]
    Telemetry(#[from] telemetry::Error),
    /// The cluster was not found.
    #[error("connecting to the cluster")]
    Client(#[from] client::Error),
    /// The scheduler's profile can't be used.
    #[error(transparent)]
    Profile(#[from] profile_file::Error),
    /// What carries the networks is not said in full.
    #[error(transparent)]
    Network(#[from] crate::flags::NetworkError),
    /// Signals can't be received.
    #[error("listening for signals")]
    Signals(#[source] io::Error),
    /// A server could not listen, or failed.
    #[error("serving {what}")]
    Serve {
        /// Which one.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another replica leads now, or may: a new process begins with a clean memory.
    #[error("leadership was lost")]
    LeadershipLost,
}

/// Which process is it?
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// The namespace that Virga's own processes run in.
    pub namespace: &'a str,
    /// What its events name as their source.
    pub pod: &'a str,
    /// What it stands for leadership as. It must differ between any two processes.
    pub holder: &'a str,
}

/// A process without its servers. Nothing of it runs yet, and nothing has been sent.
pub struct Parts {
    /// What everything works with.
    pub context: Arc<Context>,
    /// What fills the stores. Subscribe first, then run them.
    pub watches: Watches,
    /// What sends the events.
    pub sender: events::Sender,
    /// What stands for leadership.
    pub candidate: Candidate,
}

impl Parts {
    /// Puts them together.
    pub fn new(
        client: &Client,
        clock: &Arc<dyn Clock>,
        identity: Identity<'_>,
        defaults: HostDefaults,
        carrier: Carrier,
        registry: &mut Registry,
    ) -> Self {
        let Identity { namespace, pod, holder } = identity;
        let metrics = ReconcileMetrics::register(registry);
        let (events, sender) = events::events(client.clone(), "virga-controller", pod, registry);
        let watches = Watches::new(client, namespace);
        let stores = watches.stores();
        let scheduler = Scheduler::new(stores.clone(), clock.clone(), defaults, registry);
        let lease = lease::Options::new(namespace, leader::LEASE, holder);
        let (candidate, leadership) = lease::stand(client.clone(), clock.clone(), lease);
        let context = Context {
            carrier,
            client: client.clone(),
            clock: clock.clone(),
            events,
            leadership,
            metrics,
            namespace: namespace.to_owned(),
            scheduler: Arc::new(scheduler),
            stores,
            writer: Writer::new(client.clone(), virga_crds::managers::CONTROLLER),
        };
        Self {
            context: Arc::new(context),
            watches,
            sender,
            candidate,
        }
    }
}

/// Runs the controller until SIGTERM, or until it has lost leadership.
pub async fn run(args: Args) -> Result<(), Error> {
    telemetry::init(args.common.log_format, &args.common.log_level)?;
    let shutdown = Shutdown::new();
    shutdown.on_signals().map_err(Error::Signals)?;
    let options = client::Options::new(concat!("virga-controller/", env!("CARGO_PKG_VERSION")));
    let kubeconfig = args.common.kubeconfig.clone();
    let client = client::connect(client::Options { kubeconfig, ..options }).await?;
    run_with(client, Arc::new(SystemClock), args, shutdown).await
}

/// Runs the controller against this API server until `shutdown`, or until it has lost leadership.
pub async fn run_with(client: Client, clock: Arc<dyn Clock>, args: Args, shutdown: Shutdown) -> Result<(), Error> {
    let Args {
        common:
            CommonArgs {
                log_format: _,
                log_level: _,
                kubeconfig: _,
                metrics_address,
                health_address,
            },
        namespace,
        pod_name,
        service_name,
        leader_service_name,
        webhook_configuration,
        webhook_address,
        service_account,
        agent_service_account,
        cpu_allocation_ratio,
        ram_allocation_ratio,
        disk_allocation_ratio,
        scheduler_profile,
        debug_address,
        network,
    } = args;
    // A restarted container keeps its Pod's name.
    let pod = pod_name.as_deref().unwrap_or("virga-controller");
    let holder = format!("{pod}-{:08x}", fastrand::u32(..));

    let mut registry = metrics::registry();
    let leads = leader::gauge(&mut registry);
    let ratios = Ratios {
        vcpus: cpu_allocation_ratio,
        memory: ram_allocation_ratio,
        disk: disk_allocation_ratio,
    };
    let identity = Identity {
        namespace: &namespace,
        pod,
        holder: &holder,
    };
    let carrier = network.carrier()?;
    let defaults = HostDefaults { ratios };
    let Parts {
        context,
        watches,
        sender,
        candidate,
    } = Parts::new(&client, &clock, identity, defaults, carrier, &mut registry);
    let profile_metrics = profile_file::Metrics::register(&mut registry);
    let profile = ProfileFile::load(scheduler_profile, &context.scheduler, profile_metrics).await?;
    let (leadership, stores) = (context.leadership.clone(), context.stores.clone());

    let health = Health::new();
    let synced = health.readiness("stores");
    let trusted = health.readiness("certificates");
    let keeper = certs::Keeper::new(
        client.clone(),
        clock.clone(),
        certs::Options {
            namespace: namespace.clone(),
            services: vec![service_name, leader_service_name],
            webhook_configuration,
        },
    );
    let webhooks = Webhooks::new(
        &context,
        webhook::Identities {
            controller: format!("system:serviceaccount:{namespace}:{service_account}"),
            agent: format!("system:serviceaccount:{namespace}:{agent_service_account}"),
        },
        keeper.signer(),
        &mut registry,
    );

    let (stopping, stopped) = (shutdown.stopping(), shutdown.stopped());
    let closing = CancellationToken::new();
    let mut webhook_task = tokio::spawn(webhook::serve(
        webhook_address,
        keeper.server(),
        webhooks.router(),
        closing.clone(),
    ));
    let mut health_task = tokio::spawn(health::serve(
        health_address,
        health.router(),
        stopped.clone().cancelled_owned(),
    ));
    let metrics_router = health::metrics_router(Arc::new(registry));
    let mut metrics_task = tokio::spawn(health::serve(
        metrics_address,
        metrics_router,
        stopped.clone().cancelled_owned(),
    ));
    let memory = debug::router(context.scheduler.clone(), leadership.clone());
    let mut debug_task = tokio::spawn(debug::serve(debug_address, memory, stopped.clone()));
    tokio::spawn(sender.run(stopped.clone()));
    tokio::spawn(keeper.run(trusted, stopped.clone()));
    tokio::spawn(profile.follow(context.scheduler.clone(), stopped.clone()));
    tokio::spawn(feed::run(context.scheduler.clone(), &watches, stopped.clone()));
    let loops = controllers(&context, &watches, &stopping);
    tokio::spawn(watches.run(stopped.clone()));
    tokio::spawn(async move {
        if stores.synced().await {
            synced.pass();
        }
    });
    let leading = lead(context, loops, leads, pod_name, stopping.clone());
    shutdown.worker(leading);
    let candidacy = tokio::spawn(candidate.run(stopped));

    let ended = tokio::select! {
        drained = shutdown.drain(DRAIN) => {
            if let Drained::Abandoned(workers) = drained {
                tracing::warn!(workers, "stopped before all work had ended");
            }
            Ok(())
        }
        () = leadership.lost() => Err(Error::LeadershipLost),
        source = failure(&mut webhook_task) => Err(Error::Serve { what: "the webhooks", source }),
        source = failure(&mut health_task) => Err(Error::Serve { what: "health", source }),
        source = failure(&mut metrics_task) => Err(Error::Serve { what: "metrics", source }),
        source = failure(&mut debug_task) => Err(Error::Serve { what: "decisions", source }),
    };
    ended?;
    if candidacy.await.unwrap_or(Ended::Lost) == Ended::Lost {
        return Err(Error::LeadershipLost);
    }
    tokio::time::sleep(LINGER).await;
    closing.cancel();
    match webhook_task.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(source)) => Err(Error::Serve {
            what: "the webhooks",
            source,
        }),
        Err(panic) => Err(Error::Serve {
            what: "the webhooks",
            source: io::Error::other(panic),
        }),
    }
}

/// Waits for leadership, and then does all that only the leader does.
async fn lead(
    context: Arc<Context>,
    loops: Vec<BoxFuture<'static, ()>>,
    leads: Gauge,
    pod: Option<String>,
    stop: CancellationToken,
) {
    tokio::select! {
        () = context.leadership.acquired() => {}
        () = stop.cancelled() => return,
    }
    leads.set(1);
    let Context {
        client,
        clock,
        events,
        leadership,
        scheduler,
        stores,
        namespace,
        ..
    } = context.as_ref().clone();
    let ready = async {
        // Calls come here from now on; until the scheduler is open they are admitted unbound.
        if let Some(pod) = pod {
            tokio::spawn(label(client.clone(), namespace, pod, stop.clone()));
        }
        stores.synced().await && {
            takeover::open(&client, &scheduler).await;
            true
        }
    };
    if !tokio::select! { open = ready => open, () = stop.cancelled() => false } {
        return;
    }
    let queue = Queue::new(client.clone(), clock, events, leadership, scheduler.clone());
    let mut work = vec![tokio::spawn(queue.run(stop.clone()))];
    work.extend(loops.into_iter().map(tokio::spawn));
    stop.cancelled().await;
    scheduler.close();
    for task in work {
        // A panic has been logged where it happened.
        let _ = task.await;
    }
}

async fn label(client: Client, namespace: String, pod: String, stop: CancellationToken) {
    tokio::select! {
        () = leader::label_own_pod(client, &namespace, &pod) => {}
        () = stop.cancelled() => {}
    }
}

/// Ends when a server fails; one that was asked to stop does not end this.
async fn failure(server: &mut tokio::task::JoinHandle<io::Result<()>>) -> io::Error {
    match server.await {
        Ok(Ok(())) => std::future::pending().await,
        Ok(Err(error)) => error,
        Err(panic) => io::Error::other(panic),
    }
}
