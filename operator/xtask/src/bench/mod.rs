//! `cargo xtask bench`: how fast Virga is, and what it costs, on this machine.
//!
//! Its parts can be measured alone; the page keeps the sections of the others. `lab` needs a running lab with Virga in it,
//! as `cargo xtask demo` leaves it, and root; what it makes there is in a namespace of its own and is taken away again.
//! `admission`, `burst`, `verbs` and `density` need root. The result is printed and written to docs/performance.md.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

use clap::ValueEnum as _;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use virga_lab::{Administered, Lab, NodeError, OvnError};

use crate::machine::{self, Machine};
use crate::scale::{self, network};
use crate::sections::{self, Section};
use crate::{command, file};

mod admission;
mod backends;
mod burst;
mod density;
mod effects;
mod instances;
mod libvirt;
mod memory;
mod northbound;
mod nova;
mod page;
mod placement;
mod quantile;
mod stage;
mod verbs;
mod writes;

use instances::is_ready;

/// Where the page is, in the checkout.
const PAGE: &str = "docs/performance.md";

/// Arguments of `cargo xtask bench`.
#[derive(clap::Args)]
pub struct Args {
    /// How often each is measured: starts in the lab, verbs
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// How many Instances there are more when memory is measured the second time
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..=64))]
    instances: u16,
    /// How many Instances are created soon after each other
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    burst: u16,
    /// How many guests of QEMU stand still on an agent
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    paused: u16,
    /// How many domains of libvirt's test driver an agent has
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..=5000))]
    described: u16,
    /// Only print the result; leave docs/performance.md as it is
    #[arg(long)]
    print_only: bool,
    /// Measure only this; the page keeps its other sections
    #[arg(long)]
    only: Option<Part>,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Instances in the lab: starts, API writes, memory
    Lab,
    /// The scheduler alone
    Placements,
    /// The scheduler beside Nova's
    Nova,
    /// What is written to OVN
    Northbound,
    /// Creates through a real apiserver
    Admission,
    /// Instances with Networks on OVN beside Networks on libvirt, in a lab without Networks; only when it is asked for
    Backends,
    /// Many Instances, one soon after the other, beside virsh
    Burst,
    /// Each verb beside the calls of libvirt that it consists of
    Verbs,
    /// What an agent takes with many Instances at rest
    Density,
}

impl Part {
    /// Those that have to be in a network of their own: see `scale::network`.
    const ELSEWHERE: [Self; 4] = [Self::Admission, Self::Burst, Self::Verbs, Self::Density];
}

/// What went wrong in a bench.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no lab.
    #[error("the bench measures Virga in the lab: run `cargo xtask demo` first")]
    NoLab(#[source] virga_lab::Error),
    /// It did not do what was asked of it.
    #[error(transparent)]
    Lab(virga_lab::Error),
    /// Its tests are running: they kill what would be measured.
    #[error("the tests of the lab are running, and kill what would be measured: wait for their end")]
    LabInUse,
    /// The lab has no Virga in it.
    #[error("no Hypervisor of the lab is Ready: run `cargo xtask demo` first")]
    NoVirga,
    /// The lab has Networks, and each stays with its back end.
    #[error(
        "the lab has Networks, which stay on the back end that they are on: delete them, with          `kubectl delete --kustomize config/ovn` and `kubectl delete --filename config/samples`"
    )]
    Networks,
    /// The lab's OVN.
    #[error(transparent)]
    Ovn(#[from] OvnError),
    /// A node of the lab.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The lab's kubeconfig.
    #[error("reading the lab's kubeconfig")]
    Kubeconfig(#[from] KubeconfigError),
    /// The API server.
    #[error("{doing}")]
    Api {
        /// What was being done.
        doing: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// Something did not come in time.
    #[error("{what} did not come within {limit_s} s; the last status was {status}")]
    Late {
        /// What was waited for.
        what: String,
        /// For how long.
        limit_s: u64,
        /// What there was instead.
        status: String,
    },
    /// There is no folder for what is expensive to build.
    #[error("neither XDG_CACHE_HOME nor HOME says where the cache is")]
    NoCache,
    /// The two schedulers differ, so their times can't be compared.
    #[error("{case}: Nova answered {nova}, ours {ours}")]
    Disagree {
        /// Profile and size.
        case: String,
        /// Nova's answers.
        nova: String,
        /// Ours.
        ours: String,
    },
    /// The cloud on paper.
    #[error(transparent)]
    Scale(#[from] scale::Error),
    /// An outside program.
    #[error(transparent)]
    Command(#[from] command::Failed),
    /// An answer was not understood.
    #[error("reading {what}: {text:?}")]
    Unreadable {
        /// Whose answer.
        what: &'static str,
        /// Its beginning.
        text: String,
    },
    /// libvirt is not installed.
    #[error("libvirtd is not installed: run `cargo xtask deps`")]
    NoLibvirt,
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

    fn unreadable(what: &'static str, text: &str) -> Self {
        Self::Unreadable {
            what,
            text: text.chars().take(200).collect(),
        }
    }
}

/// Measures, prints, and writes the page.
pub fn run(args: &Args) -> Result<(), Error> {
    let wanted = |part| args.only.is_none_or(|only| only == part);
    // Before our own work is load.
    let measured = Machine::this()?.sentence();
    let mut made = Vec::new();
    if wanted(Part::Lab) {
        made.extend(lab(args, &measured)?);
    }
    if args.only == Some(Part::Backends) {
        made.push(on_backends(args, &measured)?);
    }
    if wanted(Part::Placements) {
        println!("placements (builds the scheduler's bench in release mode)");
        made.push(page::placements(&measured, &placement::measure()?));
    }
    if wanted(Part::Nova) {
        made.push(page::nova(&measured, &nova::measure()?));
    }
    if wanted(Part::Northbound) {
        println!("OVN's north-bound database (builds virga-ovn's bench in release mode)");
        made.push(northbound::measure()?.section(&measured));
    }
    let here = |part| wanted(part) && network::is_ours();
    if here(Part::Admission) {
        made.push(page::admission(&measured, &runtime()?.block_on(admission::measure())?));
    }
    if here(Part::Burst) {
        made.push(runtime()?.block_on(burst::measure(args.burst))?.section(&measured));
    }
    if here(Part::Density) {
        made.push(
            runtime()?
                .block_on(density::measure(args.paused, args.described))?
                .section(&measured),
        );
    }
    if here(Part::Verbs) {
        made.push(runtime()?.block_on(verbs::measure(args.rounds))?.section(&measured));
    }
    if !made.is_empty() {
        let path = file::checkout().join(PAGE);
        let page = sections::merge(&file::read_text(&path)?, page::HEAD, &page::ORDER, &made);
        println!("\n{page}");
        if !args.print_only {
            file::write(&path, page)?;
        }
    }
    for part in Part::ELSEWHERE
        .into_iter()
        .filter(|part| wanted(*part) && !network::is_ours())
    {
        // It writes its section itself.
        let only = part.to_possible_value().map(|value| value.get_name().to_owned());
        let mut words = vec!["bench".to_owned(), "--only".to_owned(), only.unwrap_or_default()];
        words.extend(args.print_only.then(|| "--print-only".to_owned()));
        let more: &[(&str, u16)] = match part {
            Part::Burst => &[("--burst", args.burst)],
            Part::Verbs => &[("--rounds", args.rounds)],
            Part::Density => &[("--paused", args.paused), ("--described", args.described)],
            _ => &[],
        };
        words.extend(
            more.iter()
                .flat_map(|(flag, value)| [(*flag).to_owned(), value.to_string()]),
        );
        network::run(words)?;
    }
    Ok(())
}

fn on_backends(args: &Args, measured: &str) -> Result<Section, Error> {
    let _turn = turn()?;
    let lab = Lab::attach().map_err(Error::NoLab)?;
    let backends = runtime()?.block_on(async {
        let client = client(&lab.kubeconfig()).await?;
        backends::measure(&lab, &client, args.rounds).await
    })?;
    Ok(backends.section(&in_lab(&lab, measured)?))
}

fn lab(args: &Args, measured: &str) -> Result<Vec<Section>, Error> {
    let _turn = turn()?;
    let lab = Lab::attach().map_err(Error::NoLab)?;
    let (starts, memory) = runtime()?.block_on(async {
        let client = client(&lab.kubeconfig()).await?;
        instances::measure(&lab, client, args.rounds, args.instances).await
    })?;
    let measured = in_lab(&lab, measured)?;
    Ok(page::lab(&measured, args.rounds, &starts, &memory))
}

/// How and where it was measured.
fn in_lab(lab: &Lab, measured: &str) -> Result<String, Error> {
    let nodes = lab.nodes();
    let versions = match nodes.first() {
        Some(node) => node.run(&["virsh", "version"])?,
        None => String::new(),
    };
    let hypervisor = ["Using library", "Running hypervisor"].map(|name| machine::field(&versions, name));
    Ok(format!(
        "{measured} It was in a lab with {} of libvirt's hosts, as `make demo` leaves it. {}; guests run under emulation (TCG), not KVM. \
         Controller and agent are release builds.",
        nodes.len(),
        hypervisor.join(", ")
    ))
}

fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    Ok(runtime.map_err(file::failed("starting the runtime for", "bench"))?)
}

/// The lock that tests take who use the lab; held until it is dropped.
fn turn() -> Result<File, Error> {
    let path = file::checkout().join("e2e/lab");
    let locked = File::open(&path).and_then(|folder| match folder.try_lock() {
        Ok(()) => Ok(Some(folder)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    });
    locked.map_err(file::failed("locking", &path))?.ok_or(Error::LabInUse)
}

async fn client(kubeconfig: &Path) -> Result<Client, Error> {
    // Whoever is first wins, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.connect_timeout = Some(Duration::from_secs(5));
    Client::try_from(config).map_err(Error::api("connecting to the lab's apiserver"))
}
