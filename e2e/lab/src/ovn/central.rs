//! The daemons that one OVN has once: two databases, and ovn-northd, which makes the one out of the other.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{CLIENT, Error, Ovn, READY, Wires};
use crate::command::{self, SHORT};
use crate::control_plane::log_tail;
use crate::fabric::CONTROL_PLANE;
use crate::pki::Authority;
use crate::processes;
use crate::progress::Progress;
use crate::wait;

/// The folder of OVN's schemas in Debian's packages.
const SCHEMAS: &str = "/usr/share/ovn";

/// The name of the certificate and key of both databases.
const SERVER: &str = "ovn";

/// How long one question to a database may take, for ovn-nbctl and ovn-sbctl.
const QUESTION: &str = "--timeout=5";

/// A daemon of OVN beside the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Daemon {
    /// The north-bound database: what networks there are to be.
    NorthBound,
    /// The south-bound database: what ovn-controllers make flows of.
    SouthBound,
    /// What writes the south-bound database by the north-bound one.
    Northd,
}

impl Daemon {
    /// All, in the order of their start.
    pub const ALL: [Self; 3] = [Self::NorthBound, Self::SouthBound, Self::Northd];

    /// The name of its process in the lab, and of its log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NorthBound => "ovn-nb",
            Self::SouthBound => "ovn-sb",
            Self::Northd => "ovn-northd",
        }
    }

    pub(super) const fn port(self) -> Option<u16> {
        match self {
            Self::NorthBound => Some(6641),
            Self::SouthBound => Some(6642),
            Self::Northd => None,
        }
    }

    // 6643 and 6644 are what members of a cluster talk on.
    pub(super) const fn tls_port(self) -> Option<u16> {
        match self {
            Self::NorthBound => Some(16641),
            Self::SouthBound => Some(16642),
            Self::Northd => None,
        }
    }

    pub(super) const fn schema(self) -> Option<&'static str> {
        match self {
            Self::NorthBound => Some("ovn-nb.ovsschema"),
            Self::SouthBound => Some("ovn-sb.ovsschema"),
            Self::Northd => None,
        }
    }
}

impl Ovn {
    /// Makes the networks and the certificates and starts the daemons; they answer a moment later.
    pub(crate) fn build(&self, authority: &Authority) -> Result<(), Error> {
        let folder = self.layout.ovn();
        fs::create_dir_all(&folder).map_err(|source| Error::Io { path: folder, source })?;
        authority.server(SERVER, &["ovn-central"], &[IpAddr::from(CONTROL_PLANE)])?;
        authority.pair(CLIENT)?;
        Wires::of(self.fabric).build(&self.layout, &self.id)?;
        for daemon in Daemon::ALL {
            self.launch(daemon)?;
            // Who finds no database tries again only after a second.
            let socket = self.file(daemon, "sock");
            if daemon.schema().is_some() {
                wait::until_true(READY, || socket.exists() || !self.is_running(daemon));
            }
        }
        Ok(())
    }

    /// Returns when every daemon answers and every node's ovn-controller is known to them.
    pub(crate) fn wait_until_ready(&self, nodes: &[String], progress: Progress) -> Result<(), Error> {
        for daemon in Daemon::ALL {
            self.wait_for(daemon, progress)?;
        }
        let mut late = nodes.to_vec();
        let mut reminder = progress.reminder("waiting for OVN's chassis");
        let complete = wait::until_true(READY, || {
            reminder.tick();
            let list = ["--bare", "--columns=name", "list", "Chassis"];
            let known = self.ask(Daemon::SouthBound, &list).unwrap_or_default();
            late.retain(|node| !known.lines().any(|name| name == node));
            late.is_empty()
        });
        if complete {
            return Ok(());
        }
        Err(Error::NoChassis {
            nodes: late,
            log: self.log_tail(Daemon::SouthBound),
        })
    }

    /// Starts the process, and makes its database if there is none.
    pub(super) fn launch(&self, daemon: Daemon) -> Result<(), Error> {
        let log = self.layout.log(daemon.name());
        let mut command = processes::detached(&log).map_err(|source| Error::Io { path: log, source })?;
        self.fabric.inside(&mut command);
        if let Some(schema) = daemon.schema() {
            let database = self.file(daemon, "db");
            if !database.exists() {
                create_database(&database, &Path::new(SCHEMAS).join(schema))?;
            }
            // What a killed one has left would be taken for the new one's.
            let _ = fs::remove_file(self.file(daemon, "sock"));
            command
                .arg("ovsdb-server")
                .args(self.server_flags(daemon))
                .arg(database);
        } else {
            command.arg("ovn-northd");
            for (flag, database) in [("nb", Daemon::NorthBound), ("sb", Daemon::SouthBound)] {
                command.arg(format!("--ovn{flag}-db={}", self.local(database)));
            }
        }
        command
            .arg(format!("--unixctl={}", self.file(daemon, "ctl").display()))
            .arg("--verbose=syslog:off");
        command::run_as_set(processes::mark(&mut command, &self.id, daemon.name()), SHORT)?;
        Ok(())
    }

    fn server_flags(&self, daemon: Daemon) -> Vec<String> {
        let pki = |suffix: &str| self.layout.pki().join(suffix).display().to_string();
        let mut flags = vec![
            format!("--remote=p{}", self.local(daemon)),
            format!("--private-key={}", pki(&format!("{SERVER}.key"))),
            format!("--certificate={}", pki(&format!("{SERVER}.crt"))),
            format!("--ca-cert={}", pki("ca.crt")),
        ];
        for (kind, port) in [("ptcp", daemon.port()), ("pssl", daemon.tls_port())] {
            flags.extend(port.map(|port| format!("--remote={kind}:{port}:{CONTROL_PLANE}")));
        }
        flags
    }

    pub(super) fn wait_for(&self, daemon: Daemon, progress: Progress) -> Result<(), Error> {
        let what = format!("waiting for {}", daemon.name());
        let mut reminder = progress.reminder(&what);
        let mut ended = false;
        let answered = wait::until_true(READY, || {
            reminder.tick();
            ended = !self.is_running(daemon);
            ended || self.answers(daemon)
        });
        match (ended, answered) {
            (true, _) => Err(Error::Ended {
                daemon: daemon.name(),
                log: self.log_tail(daemon),
            }),
            (false, true) => Ok(()),
            (false, false) => Err(Error::NotReady {
                daemon: daemon.name(),
                log: self.log_tail(daemon),
            }),
        }
    }

    fn answers(&self, daemon: Daemon) -> bool {
        let answer = match daemon {
            Daemon::NorthBound | Daemon::SouthBound => self.ask(daemon, &["show"]),
            // It has seen what the north-bound database says, and has written what follows.
            Daemon::Northd => self.ask(Daemon::NorthBound, &["--wait=sb", "sync"]),
        };
        answer.is_ok()
    }

    /// Asks a database by its own tool.
    fn ask(&self, database: Daemon, question: &[&str]) -> Result<String, command::Error> {
        let tool = if database == Daemon::NorthBound {
            "ovn-nbctl"
        } else {
            "ovn-sbctl"
        };
        let at = format!("--db={}", self.local(database));
        command::run(Command::new(tool).args([&at, QUESTION]).args(question), SHORT)
    }

    fn local(&self, database: Daemon) -> String {
        format!("unix:{}", self.file(database, "sock").display())
    }

    /// A daemon's database (`db`), its socket (`sock`), or the socket for commands (`ctl`).
    pub(super) fn file(&self, daemon: Daemon, kind: &str) -> PathBuf {
        self.layout.ovn().join(format!("{}.{kind}", daemon.name()))
    }

    fn log_tail(&self, daemon: Daemon) -> String {
        log_tail(&self.layout.log(daemon.name()))
    }
}

/// Makes an empty database of a schema.
pub(super) fn create_database(database: &Path, schema: &Path) -> Result<(), Error> {
    let mut create = Command::new("ovsdb-tool");
    command::run(create.arg("create").args([database, schema]), SHORT)?;
    Ok(())
}
