//! OVN in the lab: its databases and ovn-northd beside the control plane, a switch and ovn-controller on each node.
//!
//! All is in user space: no kernel module of Open vSwitch is needed, and an Open vSwitch of the machine is not touched.

mod central;
mod switch;
mod wires;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use std::{fs, io};

use serde_json::json;

use crate::command;
use crate::fabric::{self, CONTROL_PLANE, Fabric};
use crate::layout::Layout;
use crate::pki;
use crate::processes;
use crate::progress::Progress;

pub use central::Daemon;
pub use switch::{TUNNEL_BRIDGE, create as create_switch};
pub use wires::{Wires, tunnel_address};

/// How long a daemon may take to answer: a tenth of a second on two free cores.
const READY: Duration = Duration::from_mins(1);

/// The name of the certificate and key that clients of the databases show, and of the Secret that has them.
const CLIENT: &str = "ovn-client";

/// OVN did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program failed.
    #[error("running OVN")]
    Command(#[from] command::Error),
    /// Its network failed.
    #[error("the network of OVN")]
    Fabric(#[from] fabric::Error),
    /// Its certificates could not be made.
    #[error("preparing OVN")]
    Pki(#[from] pki::Error),
    /// A file failed.
    #[error("preparing OVN: {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A daemon ended instead of serving.
    #[error("{daemon} ended at once; its log ends with:\n{log}")]
    Ended {
        /// Which.
        daemon: &'static str,
        /// The end of its log.
        log: String,
    },
    /// A daemon did not answer in time.
    #[error("{daemon} did not answer within {} s; its log ends with:\n{log}", READY.as_secs())]
    NotReady {
        /// Which.
        daemon: &'static str,
        /// The end of its log.
        log: String,
    },
    /// Nodes have ovn-controllers that are not in the south-bound database.
    #[error("after {} s the south-bound database has no chassis {}; the log of ovn-sb ends with:\n{log}",
        READY.as_secs(), nodes.join(", "))]
    NoChassis {
        /// Which.
        nodes: Vec<String>,
        /// The end of the database's log.
        log: String,
    },
    /// A killed daemon is still there.
    #[error("{daemon} is still there after it was killed")]
    Undead {
        /// Which.
        daemon: &'static str,
    },
}

/// OVN of a running lab.
#[derive(Debug, Clone)]
pub struct Ovn {
    layout: Layout,
    id: String,
    fabric: Fabric,
}

/// What a client of the databases needs for TLS, as PEM files.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The client's certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Who signed it, and the servers'.
    pub authority: PathBuf,
}

impl Ovn {
    /// The physical network of `ovn-bridge-mappings` on every node; the outside is in it.
    pub const PHYSICAL_NETWORK: &str = "physnet";

    /// The outside's addresses in the physical network, with their prefixes: the way on for routers.
    pub const OUTSIDE: [&str; 2] = ["10.200.0.1/24", "fd00:200::1/64"];

    /// What can be reached through the outside only.
    pub const BEYOND: [&str; 2] = ["203.0.113.1", "2001:db8::1"];

    pub(crate) fn new(layout: &Layout, id: &str, fabric: Fabric) -> Self {
        Self {
            layout: layout.clone(),
            id: id.to_owned(),
            fabric,
        }
    }

    /// Where a database listens, as OVN writes it, from the machine and from nodes; `None` for ovn-northd.
    pub fn endpoint(&self, daemon: Daemon) -> Option<String> {
        daemon.port().map(|port| format!("tcp:{CONTROL_PLANE}:{port}"))
    }

    /// [`Ovn::endpoint`] with TLS, for who has [`Ovn::credentials`].
    pub fn tls_endpoint(&self, daemon: Daemon) -> Option<String> {
        daemon.tls_port().map(|port| format!("ssl:{CONTROL_PLANE}:{port}"))
    }

    /// Arguments of Helm by which Virga's chart has its networks carried by this OVN, over TLS with [`Ovn::secret`].
    pub fn chart_settings(&self) -> Vec<String> {
        let at = |daemon| self.tls_endpoint(daemon).unwrap_or_default();
        vec![
            "--set=network.backend=ovn".to_owned(),
            format!("--set=network.ovn.tls.secretName={CLIENT}"),
            format!("--set=network.ovn.northbound={{{}}}", at(Daemon::NorthBound)),
            format!("--set=network.ovn.southbound={{{}}}", at(Daemon::SouthBound)),
            // The nodes' switches are in user space.
            "--set=network.ovn.offloads=Disabled".to_owned(),
        ]
    }

    /// Writes a manifest with the chart's namespace and, in it, the Secret that [`Ovn::chart_settings`] names.
    pub fn secret(&self, namespace: &str) -> Result<PathBuf, Error> {
        let credentials = self.credentials();
        let read = |path: PathBuf| fs::read_to_string(&path).map_err(|source| Error::Io { path, source });
        let list = json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": CLIENT, "namespace": namespace}, "stringData": {
                "tls.crt": read(credentials.certificate)?,
                "tls.key": read(credentials.key)?,
                "ca.crt": read(credentials.authority)?,
            }},
        ]});
        let path = self.layout.ovn().join("secret.json");
        fs::write(&path, list.to_string()).map_err(|source| Error::Io {
            path: path.clone(),
            source,
        })?;
        Ok(path)
    }

    /// What a client shows and trusts.
    pub fn credentials(&self) -> Credentials {
        let pki = self.layout.pki();
        Credentials {
            certificate: pki.join(format!("{CLIENT}.crt")),
            key: pki.join(format!("{CLIENT}.key")),
            authority: pki.join("ca.crt"),
        }
    }

    /// A command that will run outside: in a network that shares only the physical network with the nodes. What it leaves
    /// running ends with the lab.
    pub fn outside(&self, args: &[&str]) -> Result<Command, Error> {
        Ok(wires::outside(&self.id, args)?)
    }

    /// Whether a daemon is running.
    pub fn is_running(&self, daemon: Daemon) -> bool {
        !processes::named(&self.id, daemon.name()).is_empty()
    }

    /// The file of a database; `None` for ovn-northd. While the database is stopped the file may be removed: its next
    /// start makes it anew, empty.
    pub fn database(&self, daemon: Daemon) -> Option<PathBuf> {
        daemon.schema().map(|_| self.file(daemon, "db"))
    }

    /// Kills a daemon (-9). Nothing brings it back but [`Ovn::start`].
    pub fn stop(&self, daemon: Daemon) -> Result<(), Error> {
        let left = processes::kill(&processes::named(&self.id, daemon.name()))?;
        if left.is_empty() {
            Ok(())
        } else {
            Err(Error::Undead { daemon: daemon.name() })
        }
    }

    /// Starts a daemon that is not running and returns when it answers; ovn-northd answers while both databases do.
    pub fn start(&self, daemon: Daemon) -> Result<(), Error> {
        if !self.is_running(daemon) {
            self.launch(daemon)?;
        }
        self.wait_for(daemon, Progress::start())
    }
}
