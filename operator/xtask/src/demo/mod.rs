//! `cargo xtask demo`: from nothing to guests that answer, on this machine.
//!
//! Every step finds what an earlier run left and goes on from there, has a time limit, and says on failure what
//! `kubectl describe` says.

mod samples;
mod shown;

use std::path::Path;
use std::process::Command;
use std::time::Duration;
use std::{env, fs};

use serde_json::Value;
use virga_lab::progress::Progress;
use virga_lab::{Administered, Lab, NodeError, Options, Ovn, OvnError};

use self::shown::Shown;
use crate::image::Built;
use crate::{chain, command, file};

/// A task of ours that builds: everything from nothing, on two cores.
const BUILD_LIMIT: Duration = Duration::from_hours(1);
/// Guests boot under emulation, three at once on two cores.
const READY_LIMIT: Duration = Duration::from_mins(4);
const PAUSE: Duration = Duration::from_millis(500);
const ROLL_OUT: &str = "--timeout=180s";
const SYSTEM: &str = "virga-system";
const NAMESPACE: &str = "shop";
/// The sample whose console is shown, and that is asked for its page.
const SHOWN: &str = "web-1";

/// Arguments of `cargo xtask demo`.
#[derive(clap::Args)]
pub struct Args {
    /// How many nodes a new lab gets; one that is running is used as it is
    #[arg(long, default_value_t = 3)]
    nodes: u8,
}

/// What went wrong in the demo.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The lab.
    #[error(transparent)]
    Lab(#[from] virga_lab::Error),
    /// One of its nodes.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// Its OVN.
    #[error(transparent)]
    Ovn(#[from] OvnError),
    /// Another of our tasks.
    #[error("the step `cargo xtask {task}`")]
    Task {
        /// Its name and arguments.
        task: String,
        /// Why.
        source: command::Error,
    },
    /// A file could not be handled.
    #[error(transparent)]
    File(#[from] file::Error),
    /// An answer that is no JSON.
    #[error("reading {what}")]
    Json {
        /// What.
        what: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// Controller or agents did not come up.
    #[error("installing the chart: {why}\n\nkubectl describe pods --namespace {SYSTEM}:\n{story}")]
    Install {
        /// What Helm said.
        why: String,
        /// What kubectl says.
        story: String,
    },
    /// Objects did not become Ready.
    #[error("after {} s these are not Ready: {waiting}\n\n{story}", READY_LIMIT.as_secs())]
    NotReady {
        /// Which, and why.
        waiting: String,
        /// What kubectl says of the first.
        story: String,
    },
    /// The guest did not come up or does not answer.
    #[error("{SHOWN} runs, but {what} within {} s; its console ends with:\n{console}", READY_LIMIT.as_secs())]
    Silent {
        /// What did not happen.
        what: &'static str,
        /// The console's end.
        console: String,
    },
}

/// Runs the demo.
pub fn run(args: &Args) -> Result<(), Error> {
    let progress = Progress::start();
    progress.step("what the machine needs");
    task(&["deps"])?;
    let lab = lab(args.nodes)?;
    let ovn = lab.ovn()?;
    progress.step("images of the processes");
    let images = images(&lab, progress)?;
    progress.step("a guest to boot");
    put_guest_into(&lab.store_dir())?;
    progress.step("installing the chart, and waiting for controller and agents");
    install(&lab, &ovn, &images)?;
    progress.step("applying config/samples and config/ovn");
    lab.kubectl(&["apply", "--filename", &in_checkout("config/samples")])?;
    lab.kubectl(&["apply", "--kustomize", &in_checkout("config/ovn")])?;
    samples::wait_until_ready(&lab, progress)?;
    let shown = Shown::find(&lab)?;
    progress.step(&format!("waiting for {SHOWN}'s last word on its console"));
    shown.wait_until_up()?;
    let page = shown.page(&ovn)?;
    progress.step("done");
    show(&lab, &shown, &page)
}

/// Runs another task of this program; what it says is shown.
fn task(words: &[&str]) -> Result<(), Error> {
    let program = env::current_exe().map_err(file::failed("finding", "this program"))?;
    command::show(Command::new(program).args(words), BUILD_LIMIT).map_err(|source| Error::Task {
        task: words.join(" "),
        source,
    })
}

/// A running lab as it is, with all its nodes on, or a new one.
fn lab(nodes: u8) -> Result<Lab, Error> {
    let lab = match Lab::attach() {
        Ok(lab) if !lab.nodes().is_empty() => lab,
        _ => Lab::up(Options {
            nodes,
            ..Options::default()
        })?,
    };
    for node in lab.nodes().iter().filter(|node| !node.is_on()) {
        lab.boot_node(&node.name())?;
    }
    Ok(lab)
}

/// Builds the images and loads what the nodes don't have.
fn images(lab: &Lab, progress: Progress) -> Result<Vec<Built>, Error> {
    let program = env::current_exe().map_err(file::failed("finding", "this program"))?;
    let folder = program.ancestors().nth(2).unwrap_or(Path::new(".")).join("image");
    task(&["image", "--out", &folder.to_string_lossy()])?;
    let list = folder.join("images.json");
    let text = file::read(&list)?;
    let images: Vec<Built> = serde_json::from_slice(&text).map_err(|source| Error::Json {
        what: "the list of images",
        source,
    })?;
    for built in &images {
        for node in lab.nodes() {
            let known = node.run(&["ctr", "--namespace=k8s.io", "images", "list", "--quiet"])?;
            if !known.lines().any(|name| name == built.image) {
                progress.step(&format!("loading {} into {}", built.image, node.name()));
                node.load_image(&built.archive)?;
            }
        }
    }
    Ok(images)
}

/// Under the name that the sample has, at once or not at all: a node may be reading the old one.
fn put_guest_into(store: &Path) -> Result<(), Error> {
    let (new, place) = (store.join(".guest.qcow2.new"), store.join("guest.qcow2"));
    task(&["guest", "--out", &new.to_string_lossy()])?;
    Ok(fs::rename(&new, &place).map_err(file::failed("storing", &place))?)
}

fn install(lab: &Lab, ovn: &Ovn, images: &[Built]) -> Result<(), Error> {
    let chart = in_checkout("charts/virga");
    let mut args: Vec<String> = [
        "upgrade",
        "--install",
        "virga",
        &chart,
        "--create-namespace",
        "--wait",
        ROLL_OUT,
        "--set=agent.domainType=qemu",
    ]
    .map(str::to_owned)
    .to_vec();
    args.push(format!("--namespace={SYSTEM}"));
    let secret = ovn.secret(SYSTEM)?;
    lab.kubectl(&["apply", "--filename", &secret.to_string_lossy()])?;
    args.extend(ovn.chart_settings());
    args.extend(images.iter().map(|built| {
        let process = built.name.trim_start_matches("virga-");
        format!("--set={process}.image={}", built.image)
    }));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let namespace = format!("--namespace={SYSTEM}");
    lab.helm(&args).map(drop).map_err(|error| Error::Install {
        why: chain(&error),
        story: said(lab, &["describe", "pods", &namespace]),
    })
}

/// What kubectl says, or why it does not: for errors, which must not have errors of their own.
fn said(lab: &Lab, args: &[&str]) -> String {
    lab.kubectl(args).unwrap_or_else(|error| chain(&error))
}

fn show(lab: &Lab, shown: &Shown, page: &str) -> Result<(), Error> {
    let tables = lab.kubectl(&["get", "hypervisors", "--output=wide"])?;
    let instances = lab.kubectl(&["get", "instances", "--all-namespaces", "--output=wide"])?;
    let outside = lab.kubectl(&["get", "routers,floatingips", "--all-namespaces"])?;
    let Shown { node, floating, .. } = shown;
    let node = node.name();
    println!("\n{tables}\n{instances}\n{outside}");
    println!("{SHOWN}'s console ends with\n{}\n", shown.console_end());
    println!(
        "and its web server tells who asks from outside for its floating IP {floating}\n  | {}\n",
        page.trim_end()
    );
    println!("Now try");
    println!(
        "  export KUBECONFIG={} PATH={}:$PATH",
        lab.kubeconfig().display(),
        lab.bin().display()
    );
    for (command, what) in [
        ("kubectl get virga -A", "everything there is"),
        ("kubectl describe instance web-1 -n shop", "one Instance's whole story"),
        ("kubectl explain instance.spec", "what an Instance can say"),
        (
            "kubectl patch instance web-2 -n shop --type merge -p '{\"spec\":{\"powerState\":\"Paused\"}}'",
            "hold it",
        ),
        ("kubectl delete -f config/samples", "and all of it is gone"),
    ] {
        println!("  {command:<50} # {what}");
    }
    println!("  cargo xtask lab exec {node} -- virsh list   # the domain behind it");
    println!("  cargo xtask lab exec outside -- curl http://{floating}/");
    println!("`make clean` takes the lab away.");
    Ok(())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn in_checkout(path: &str) -> String {
    file::checkout().join(path).to_string_lossy().into_owned()
}
