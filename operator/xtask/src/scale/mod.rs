//! `cargo xtask scale`: what does a whole cloud cost one controller, and what if it dies?
//!
//! A real apiserver with etcd, no nodes; hosts and Instances that exist on paper only, and the controller's own program,
//! as `cargo xtask image` built it last. All of it runs in a network of its own and needs root. The result is printed and
//! written to docs/scale.md.

mod cloud;
pub mod controller;
mod failover;
pub mod fill;
pub mod network;

use std::fmt::Write as _;
use std::io;
use std::time::{Duration, Instant};

use kube::config::KubeconfigError;

use crate::machine::Machine;
use crate::sections::{self, Section};
use crate::{command, file};
pub use cloud::Cloud;
pub use controller::Controller;
use failover::Failover;

/// Where the page is, in the checkout.
const PAGE: &str = "docs/scale.md";
const HEAD: &str = "# Scale

<!-- Made by `cargo xtask scale`; do not edit. -->

The controller on a real apiserver, with Hypervisors and Instances that exist on paper only. Everything (etcd, apiserver,
controller) runs on one machine. Each section says when and how it was measured.
";
const STARTS: &str = "Starts";
const FAILOVER: &str = "Failover";
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
    /// How many Instances are created while the leader is killed
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(10..=2_000))]
    storm: u32,
    /// Measure only this; the page keeps its other sections
    #[arg(long)]
    only: Option<Part>,
    /// Only print the result; leave docs/scale.md as it is
    #[arg(long)]
    print_only: bool,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// How long a start takes, and how much memory
    Starts,
    /// What a storm of creates loses when the leader is killed
    Failover,
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
    #[error("running {program}")]
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
    /// The other replica did not take over.
    #[error("no replica led within {limit_s} s after the leader was killed")]
    Leaderless {
        /// How long it was waited for.
        limit_s: u64,
    },
    /// The API server does not ask the webhooks that it should, or asks one that it should not.
    #[error("the webhooks did not answer as they should within {limit_s} s; the last create came to {last}")]
    Webhooks {
        /// How long it was waited for.
        limit_s: u64,
        /// What came last.
        last: String,
    },
    /// The chart, or a kubeconfig, is not what it should be.
    #[error("reading or writing an object: {0}")]
    Unreadable(String),
    /// A program failed.
    #[error(transparent)]
    Command(#[from] command::Failed),
    /// A file.
    #[error(transparent)]
    File(#[from] file::Error),
}

impl Error {
    /// Makes the error: what was being done.
    pub fn api(doing: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
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
    if !network::is_ours() {
        return network::run(std::env::args_os().skip(1));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(file::failed("starting the runtime for", "scale"))?;
    let made = runtime.block_on(measure(args))?;
    let path = file::checkout().join(PAGE);
    let page = sections::merge(&file::read_text(&path)?, HEAD, &[STARTS, FAILOVER], &made);
    println!("\n{page}");
    if !args.print_only {
        file::write(&path, page)?;
    }
    Ok(())
}

async fn measure(args: &Args) -> Result<Vec<Section>, Error> {
    let wanted = |part| args.only.is_none_or(|only| only == part);
    // Before our own work is load.
    let measured = Machine::this()?.sentence();
    let cloud = Cloud::up().await?;
    fill::stock(cloud.client()).await?;
    let began = Instant::now();
    fill::hosts(&cloud.clients, 0..args.hosts).await?;
    println!("{} Hypervisors written in {} s", args.hosts, began.elapsed().as_secs());
    let mut starts = Vec::new();
    if wanted(Part::Starts) {
        starts.push(start(&cloud, args.hosts, 0).await?);
    }
    let began = Instant::now();
    fill::instances(&cloud.clients, args.hosts, args.instances).await?;
    println!(
        "{} Instances written in {} s",
        args.instances,
        began.elapsed().as_secs()
    );
    let mut made = Vec::new();
    if wanted(Part::Starts) {
        starts.push(start(&cloud, args.hosts, args.instances).await?);
        made.push(Section {
            title: STARTS,
            body: format!("{measured}\n\n{}", starts_text(&starts)),
        });
    }
    if wanted(Part::Failover) {
        let seen = failover::measure(&cloud, args.hosts, args.instances, args.storm).await?;
        made.push(Section {
            title: FAILOVER,
            body: format!("{measured}\n\n{}", failover_text(&seen)),
        });
    }
    Ok(made)
}

async fn start(cloud: &Cloud, hosts: u32, instances: u32) -> Result<Start, Error> {
    let controller = Controller::start(&cloud.kubeconfig, network::REPLICAS[0])?;
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

fn starts_text(starts: &[Start]) -> String {
    let mut text = String::from(
        "*Filled*: from the start of the process until every watch has its list. *Decides*: until it leads and places \
         Instances. Memory is the proportional set size, the most of right then and 15 s later.\n\n\
         | Hypervisors | Instances | filled | decides | memory |\n|---:|---:|---:|---:|---:|\n",
    );
    for start in starts {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
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
        let _ = writeln!(text, "\nThat is {:.1} KiB for each Instance.", mib(each));
    }
    text
}

fn failover_text(seen: &Failover) -> String {
    let Failover {
        hosts,
        instances,
        storm,
        before,
        refused,
        led,
        silence,
        bound,
        lost,
        twice,
        overcommitted,
    } = seen;
    format!(
        "Two replicas, {hosts} Hypervisors and {instances} Instances. {storm} more are created over {} connections, each of \
         which fits once on each of {} hosts; a create that is refused is tried again until it is accepted. When {before} were \
         accepted, the leader is killed (SIGKILL). One second later its endpoints are taken away, as a kubelet would. Every \
         host's heartbeat is written once in {} s, if the apiserver keeps up.\n\n\
         | after the kill | |\n|---|---:|\n\
         | until the other replica leads (a Lease lasts 15 s) | {:.1} s |\n\
         | longest time in which no Instance was bound | {:.1} s |\n\
         | until the last one was bound | {:.1} s |\n\
         | creates refused, because no replica answered for validation | {refused} |\n\
         | Instances accepted and not bound within {} min | {lost} |\n\
         | Instances bound twice | {twice} |\n\
         | hosts with more promised than they have | {overcommitted} |\n",
        failover::CONNECTIONS,
        fill::NARROW_HOSTS.min(*hosts),
        failover::BEAT.as_secs(),
        led.as_secs_f64(),
        silence.as_secs_f64(),
        bound.as_secs_f64(),
        failover::LIMIT.as_secs() / 60,
    )
}

/// Of 1,024 as one, for people.
fn mib(kib: u64) -> f64 {
    f64::from(u32::try_from(kib).unwrap_or(u32::MAX)) / 1024.0
}
