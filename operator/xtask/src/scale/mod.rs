//! `cargo xtask scale`: what does a whole cloud cost one controller?
//!
//! A real apiserver with etcd, no nodes; hosts and Instances that exist on paper only, and the controller's own program,
//! as `cargo xtask image` built it last. The result is printed and written to docs/scale.md.

mod controller;
mod fill;

use std::fmt::Write as _;
use std::io;
use std::time::{Duration, Instant};

use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use virga_lab::{Administered as _, ControlPlane};

use crate::{command, file};
use controller::Controller;

/// Where the page is, in the checkout.
const PAGE: &str = "docs/scale.md";
/// What follows from the start, such as failure detection of hosts that never beat, is not measured.
const SETTLE: Duration = Duration::from_secs(15);

/// Arguments of `cargo xtask scale`.
#[derive(clap::Args)]
pub struct Args {
    /// How many Hypervisors
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    hosts: u32,
    /// How many Instances, spread evenly over them
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    instances: u32,
    /// Only print the result; leave docs/scale.md as it is
    #[arg(long)]
    print_only: bool,
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The apiserver did not come up, or refused the definitions.
    #[error("starting an apiserver")]
    ControlPlane(#[from] virga_lab::ControlPlaneError),
    /// Its kubeconfig.
    #[error("reading the apiserver's kubeconfig")]
    Kubeconfig(#[from] KubeconfigError),
    /// It did not take an object.
    #[error("{doing}")]
    Api {
        /// What was being done.
        doing: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// The controller's program is not there, or could not be run.
    #[error("running {program}: build it with `cargo xtask image`")]
    Program {
        /// Where it should be.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// The controller did not get there.
    #[error("the controller was not ready within {limit_s} s; its log ends with: {log}")]
    Late {
        /// How long it was waited for.
        limit_s: u64,
        /// The end of its log.
        log: String,
    },
    /// A program failed.
    #[error(transparent)]
    Command(#[from] command::Failed),
    /// A file.
    #[error(transparent)]
    File(#[from] file::Error),
}

impl Error {
    fn api(doing: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Api {
            doing,
            source: Box::new(source),
        }
    }
}

/// One start of the controller.
struct Start {
    hosts: u32,
    instances: u32,
    /// Until every watch was filled.
    filled: Duration,
    /// Until it decided placements.
    leads: Duration,
    /// Its memory then and a while later, the most of both, in KiB.
    pss_kib: u64,
}

/// Measures, prints, and writes the page.
pub fn run(args: &Args) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(file::failed("starting the runtime for", "scale"))?;
    let page = runtime.block_on(measure(args))?;
    println!("\n{page}");
    if !args.print_only {
        file::write(&file::checkout().join(PAGE), page)?;
    }
    Ok(())
}

async fn measure(args: &Args) -> Result<String, Error> {
    let cluster = ControlPlane::up()?;
    let definitions = file::checkout().join("crds/yaml");
    cluster.kubectl(&["apply", "--server-side", "--filename", &definitions.to_string_lossy()])?;
    cluster.kubectl(&[
        "wait",
        "--for=condition=Established",
        "customresourcedefinitions",
        "--all",
        "--timeout=30s",
    ])?;
    cluster.kubectl(&["create", "namespace", virga_crds::SYSTEM_NAMESPACE])?;
    cluster.kubectl(&["create", "namespace", fill::NAMESPACE])?;
    let clients = clients(&cluster).await?;

    let began = Instant::now();
    fill::hosts(&clients, args.hosts).await?;
    println!("{} Hypervisors written in {} s", args.hosts, began.elapsed().as_secs());
    let mut starts = vec![start(&cluster, args.hosts, 0).await?];
    let began = Instant::now();
    fill::instances(&clients, args.hosts, args.instances).await?;
    println!(
        "{} Instances written in {} s",
        args.instances,
        began.elapsed().as_secs()
    );
    starts.push(start(&cluster, args.hosts, args.instances).await?);
    Ok(page(&starts))
}

async fn start(cluster: &ControlPlane, hosts: u32, instances: u32) -> Result<Start, Error> {
    let controller = Controller::start(&cluster.kubeconfig())?;
    let filled = controller.until_filled().await?;
    let leads = controller.until_leading().await?;
    let pss_kib = controller.pss_kib();
    tokio::time::sleep(SETTLE).await;
    let pss_kib = pss_kib.max(controller.pss_kib());
    println!(
        "a start with {instances} Instances: {} ms, {pss_kib} KiB",
        filled.as_millis()
    );
    Ok(Start {
        hosts,
        instances,
        filled,
        leads,
        pss_kib,
    })
}

/// A connection each: one alone is slower than the apiserver.
async fn clients(cluster: &ControlPlane) -> Result<Vec<Client>, Error> {
    // Whoever is first wins, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let kubeconfig = Kubeconfig::read_from(cluster.kubeconfig())?;
    let mut clients = Vec::new();
    for _ in 0..fill::CONNECTIONS {
        let config = kube::Config::from_custom_kubeconfig(kubeconfig.clone(), &KubeConfigOptions::default()).await?;
        clients.push(Client::try_from(config).map_err(Error::api("connecting to the apiserver"))?);
    }
    Ok(clients)
}

fn page(starts: &[Start]) -> String {
    let mut page = String::from(
        "# Scale\n\n<!-- Made by `cargo xtask scale`; do not edit. -->\n\nOne controller on a real apiserver, with Hypervisors \
         and Instances that exist on paper only. *Filled*: from the start of the process until every watch has its list. \
         *Decides*: until it leads and places Instances. Memory is the proportional set size, the most of right then and 15 s \
         later. Everything (etcd, apiserver, controller) ran on one machine with 2 cores.\n\n\
         | Hypervisors | Instances | filled | decides | memory |\n|---:|---:|---:|---:|---:|\n",
    );
    for start in starts {
        // Writing to a String cannot fail.
        let _ = writeln!(
            page,
            "| {} | {} | {:.1} s | {:.1} s | {:.1} MiB |",
            start.hosts,
            start.instances,
            start.filled.as_secs_f64(),
            start.leads.as_secs_f64(),
            mib(start.pss_kib)
        );
    }
    if let [before, after] = starts
        && after.instances > 0
    {
        let each = after.pss_kib.saturating_sub(before.pss_kib) * 1024 / u64::from(after.instances);
        let _ = writeln!(page, "\nThat is {:.1} KiB for each Instance.", mib(each));
    }
    page
}

/// Of 1,024 as one, for people.
fn mib(kib: u64) -> f64 {
    f64::from(u32::try_from(kib).unwrap_or(u32::MAX)) / 1024.0
}
