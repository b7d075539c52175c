//! The agent's process.

use std::{process::ExitCode, sync::Arc, time::Duration};

use clap::Parser as _;
use virga_agent::{Agent, Options, World, flags::Args, layout::Layout};
use virga_hypervisor::{Libvirt, LibvirtOptions};
use virga_runtime::{
    class::chain,
    client,
    clock::SystemClock,
    events,
    flags::CommonArgs,
    health::{self, Health},
    metrics,
    shutdown::Shutdown,
    telemetry, tls,
};

type Failure = Box<dyn std::error::Error>;

const NAME: &str = "virga-agent";
/// What is under way at a SIGTERM may end; no effect is lost when it doesn't.
const DRAIN: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() -> ExitCode {
    tls::install_crypto_provider();
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let text = chain(error.as_ref());
            eprintln!("{NAME}: {text}");
            // Where `kubectl describe pod` shows it; outside a pod there is no such file.
            let _ = std::fs::write("/dev/termination-log", &text);
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<(), Failure> {
    let CommonArgs {
        log_format,
        log_level,
        kubeconfig,
        metrics_address,
        health_address,
    } = args.common.clone();
    telemetry::init(log_format, &log_level)?;
    let shutdown = Shutdown::new();
    shutdown.on_signals()?;
    let user_agent = format!("{NAME}/{}", env!("CARGO_PKG_VERSION"));
    let client = client::connect(client::Options {
        kubeconfig,
        ..client::Options::new(user_agent)
    })
    .await?;
    let hypervisor = Libvirt::new(LibvirtOptions {
        uri: args.libvirt_uri.clone(),
        network_hosts: Some(Layout::new(&args.data_dir).networks()),
        ..LibvirtOptions::default()
    })?;
    let mut registry = metrics::registry();
    let (events, sender) = events::events(client.clone(), NAME, &args.node_name, &mut registry);
    tokio::spawn(sender.run(shutdown.stopped()));
    let health = Health::new();
    let world = World {
        client,
        hypervisor: Arc::new(hypervisor),
        clock: Arc::new(SystemClock),
        events,
        registry: &mut registry,
        health: health.clone(),
        shutdown: shutdown.clone(),
    };
    let agent = Agent::open(Options::from(args), world).await?;
    let closed = || shutdown.stopped().cancelled_owned();
    let servers = [
        tokio::spawn(health::serve(health_address, health.router(), closed())),
        tokio::spawn(health::serve(
            metrics_address,
            health::metrics_router(Arc::new(registry)),
            closed(),
        )),
    ];
    shutdown.worker(agent.run());
    let mut servers = futures::future::select_all(servers);
    let failed = tokio::select! {
        drained = shutdown.drain(DRAIN) => {
            tracing::info!(?drained, "stopped; guests run on");
            return Ok(());
        }
        (ended, _, _) = &mut servers => ended,
    };
    // A server ends before the process only when it could not listen.
    shutdown.stop();
    failed??;
    Ok(())
}
