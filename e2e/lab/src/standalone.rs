//! An apiserver with etcd and the controller manager, on the loopback interface, for as long as a value lives.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::binaries;
use crate::command;
use crate::control_plane::{self, Endpoints};
use crate::kubectl::{self, Administered, Kubectl};
use crate::layout::Layout;
use crate::processes;
use crate::progress::Progress;
use crate::requirements;
use crate::wait;

/// Starts before giving up: another process may take a port between our choice and our use of it.
const ATTEMPTS: u8 = 3;

/// How long the leash may take to end everything.
const END: Duration = Duration::from_secs(15);

/// The control plane could not be started or asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine lacks something.
    #[error(transparent)]
    Requirements(#[from] requirements::Error),
    /// A program could not be built.
    #[error(transparent)]
    Binaries(#[from] binaries::Error),
    /// It did not come up.
    #[error(transparent)]
    ControlPlane(#[from] control_plane::Error),
    /// A program failed.
    #[error(transparent)]
    Command(#[from] command::Error),
    /// kubectl, Helm or kstatus failed.
    #[error(transparent)]
    Kubectl(#[from] kubectl::Error),
    /// A folder, port or log could not be had.
    #[error("starting a control plane: {what}")]
    Io {
        /// What.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// A control plane without nodes. Several can run at once, beside a lab, and without root.
///
/// It ends with the value, with a panic, and, as a leash process holds the other end of a pipe, with the process.
#[derive(Debug)]
pub struct ControlPlane {
    layout: Layout,
    leash: Child,
}

impl ControlPlane {
    /// Starts one and waits until it is ready.
    pub fn up() -> Result<Self, Error> {
        requirements::check_control_plane()?;
        let progress = Progress::start();
        let program = binaries::controlplane(progress)?;
        for _ in 1..ATTEMPTS {
            match Self::start(&program, progress) {
                Err(Error::ControlPlane(control_plane::Error::Ended { log, .. }))
                    if log.contains("address already in use") =>
                {
                    progress.step("a port was taken; trying others");
                }
                outcome => return outcome,
            }
        }
        Self::start(&program, progress)
    }

    fn start(program: &Path, progress: Progress) -> Result<Self, Error> {
        let at = |what| move |source| Error::Io { what, source };
        let folder = tempfile::Builder::new()
            .prefix("virga-control-plane-")
            .tempdir()
            .map_err(at("its folder"))?;
        let id = format!("{:032x}", fastrand::u128(..));
        let leash = Command::new("setsid")
            .args(["bash", "-c", include_str!("../leash.sh"), "leash"])
            .arg(folder.path())
            .env(processes::MARK, &id)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(at("its leash"))?;
        // From here on the leash removes the folder.
        let cluster = Self {
            layout: Layout::at(folder.keep()),
            leash,
        };
        let endpoints = free_ports().map_err(at("its ports"))?;
        control_plane::prepare(&cluster.layout, program, &endpoints, &[])?;
        let parts = control_plane::processes(&cluster.layout, &endpoints, false);
        control_plane::start(
            &parts,
            &Kubectl::of(&cluster.layout),
            &cluster.layout,
            progress,
            |part| {
                let mut command = processes::detached(&cluster.layout.log(part.name)).map_err(at("a log"))?;
                part.append_to(&mut command, &cluster.layout);
                Ok::<_, Error>(command::run_as_set(
                    processes::mark(&mut command, &id, part.name),
                    command::SHORT,
                )?)
            },
            |part| !processes::named(&id, part.name).is_empty(),
        )?;
        Ok(cluster)
    }
}

impl Administered for ControlPlane {
    type Error = Error;

    fn layout(&self) -> &Layout {
        &self.layout
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        drop(self.leash.stdin.take());
        let leash = &mut self.leash;
        if !wait::until_true(END, || !matches!(leash.try_wait(), Ok(None))) {
            let folder = self.layout.root().display();
            eprintln!("the control plane in {folder} did not end within {} s", END.as_secs());
        }
    }
}

/// Three ports that were free at the same time.
fn free_ports() -> io::Result<Endpoints> {
    let address = Ipv4Addr::LOCALHOST;
    let listeners = [(); 3].map(|()| TcpListener::bind((address, 0)));
    let mut ports = Vec::new();
    for listener in listeners {
        ports.push(listener?);
    }
    let port = |index: usize| {
        ports
            .get(index)
            .map_or(Ok(0), |listener| listener.local_addr().map(|at| at.port()))
    };
    Ok(Endpoints {
        address,
        port: port(0)?,
        etcd: port(1)?,
        etcd_peers: port(2)?,
    })
}
