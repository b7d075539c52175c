//! `cargo xtask lab`: a real Kubernetes with libvirt nodes on this machine.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use virga_lab::{Administered, Lab, Node, NodeError, Options, Ovn, OvnDaemon, OvnError};

/// Arguments of `cargo xtask lab`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Make the lab, in VIRGA_LAB_DIR (by default /var/lib/virga-lab); what an earlier one left is removed first
    Up {
        /// How many nodes; each takes about 170 MB
        #[arg(long, default_value_t = 3, conflicts_with = "control_plane_only")]
        nodes: u8,
        /// No nodes
        #[arg(long)]
        control_plane_only: bool,
        /// What there is to be beside Kubernetes and libvirt
        #[arg(long, value_name = "WHAT", default_value = "ovn")]
        with: Vec<With>,
        /// Nothing beside Kubernetes and libvirt
        #[arg(long, conflicts_with = "with")]
        bare: bool,
    },
    /// Remove the lab with everything in it
    Down,
    /// Show nodes, pods and where things are
    Status,
    /// Run a program in a node, for example: exec node-1 -- virsh list
    Exec {
        /// The node, by name or number; `outside` is the network that OVN's routers lead to
        node: String,
        /// The program and its arguments
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Print the path of the administrator's kubeconfig
    Kubeconfig,
    /// Take a node's power: everything in it ends at once, its disk stays
    Kill {
        /// The node, by name or number
        node: String,
    },
    /// Give a node its power back
    Boot {
        /// The node, by name or number
        node: String,
    },
    /// Import container image archives on all nodes
    Load {
        /// Archives as `docker save` writes them
        #[arg(required = true)]
        archives: Vec<PathBuf>,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum With {
    /// OVN's databases, a switch and ovn-controller on each node, and a network outside
    Ovn,
}

/// What `exec` calls the network outside.
const OUTSIDE: &str = "outside";

/// What went wrong in a lab task.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The lab itself.
    #[error(transparent)]
    Lab(#[from] virga_lab::Error),
    /// One of its nodes.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// Its OVN.
    #[error(transparent)]
    Ovn(#[from] OvnError),
    /// A program could not be run in a node.
    #[error("running {program} on {node}")]
    Exec {
        /// The program.
        program: String,
        /// The node.
        node: String,
        /// Why.
        source: io::Error,
    },
}

/// Runs one lab task.
pub fn run(args: Args) -> Result<(), Error> {
    match args.action {
        Action::Up {
            nodes,
            control_plane_only,
            with,
            bare,
        } => {
            let lab = Lab::up(Options {
                nodes: if control_plane_only { 0 } else { nodes },
                ovn: with.contains(&With::Ovn) && !(bare || control_plane_only),
            })?;
            println!("export KUBECONFIG={}", lab.kubeconfig().display());
        }
        Action::Down => {
            if !Lab::down()? {
                println!("there is no lab");
            }
        }
        Action::Status => status(&Lab::attach()?)?,
        Action::Exec { node, command } => return Err(exec(&node, &command)),
        Action::Kubeconfig => println!("{}", Lab::attach()?.kubeconfig().display()),
        Action::Kill { node } => Lab::attach()?.kill_node(&node)?,
        Action::Boot { node } => Lab::attach()?.boot_node(&node)?,
        Action::Load { archives } => {
            let lab = Lab::attach()?;
            for archive in archives {
                lab.load_image(&archive)?;
            }
        }
    }
    Ok(())
}

fn status(lab: &Lab) -> Result<(), Error> {
    println!("kubeconfig  {}", lab.kubeconfig().display());
    println!("logs        {} and in each node /var/log", lab.log_dir().display());
    println!("store       {}", lab.store_dir().display());
    for node in lab.nodes() {
        let power = if node.is_on() { "on" } else { "off" };
        println!(
            "{:<11} {:<12} {power:<4} {}",
            node.name(),
            node.address(),
            node.libvirt_uri()
        );
    }
    if let Ok(ovn) = lab.ovn() {
        ovn_status(lab, &ovn);
    }
    println!("\n{}", lab.kubectl(&["get", "nodes", "--output=wide"])?.trim_end());
    println!(
        "\n{}",
        lab.kubectl(&["get", "pods", "--all-namespaces", "--output=wide"])?
            .trim_end()
    );
    Ok(())
}

fn ovn_status(lab: &Lab, ovn: &Ovn) {
    println!();
    for daemon in OvnDaemon::ALL {
        let state = if ovn.is_running(daemon) { "running" } else { "stopped" };
        let endpoints = [ovn.endpoint(daemon), ovn.tls_endpoint(daemon)].map(Option::unwrap_or_default);
        let line = format!("{:<11} {state:<12} {}", daemon.name(), endpoints.join(" "));
        println!("{}", line.trim_end());
    }
    let credentials = ovn.credentials();
    println!(
        "for TLS     {} {} {}",
        credentials.certificate.display(),
        credentials.key.display(),
        credentials.authority.display()
    );
    println!(
        "{OUTSIDE:<11} {} in {}; beyond it {}",
        Ovn::OUTSIDE.join(", "),
        Ovn::PHYSICAL_NETWORK,
        Ovn::BEYOND.join(", ")
    );
    for node in lab.nodes().into_iter().filter(Node::is_on) {
        let state = match node.is_chassis() {
            Some(true) => "connected",
            _ => "not connected",
        };
        println!("{:<11} {state}", format!("{} OVN", node.name()));
    }
}

/// Becomes the program; returns only if that fails.
fn exec(node: &str, command: &[String]) -> Error {
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    let prepared = Lab::attach().map_err(Error::from).and_then(|lab| {
        Ok(if node == OUTSIDE {
            lab.ovn()?.outside(&words)?
        } else {
            lab.node(node)?.command(&words)?
        })
    });
    match prepared {
        Ok(mut prepared) => Error::Exec {
            program: command.join(" "),
            node: node.to_owned(),
            source: prepared.exec(),
        },
        Err(error) => error,
    }
}
