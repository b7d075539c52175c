//! The whole lab: a control plane and nodes.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::binaries;
use crate::command::{self, SHORT};
use crate::control_plane::{self, APISERVER, Endpoints, Process};
use crate::fabric::{self, Fabric};
use crate::images;
use crate::kubectl::{self, Administered, Kubectl};
use crate::layout::{FOLDER_VARIABLE, Layout, MAX_NODES, Record};
use crate::node::{self, Node};
use crate::ovn::{self, Ovn};
use crate::processes;
use crate::progress::Progress;
use crate::requirements;
use crate::teardown;
use crate::wait;

/// How long the nodes may take to be Ready: 4 s on two free cores.
pub(crate) const NODES_READY: Duration = Duration::from_mins(2);

/// How long to wait for another `up` or `down`.
const LOCK: Duration = Duration::from_mins(10);

/// The lab could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine lacks something.
    #[error(transparent)]
    Requirements(#[from] requirements::Error),
    /// A program could not be built.
    #[error(transparent)]
    Binaries(#[from] binaries::Error),
    /// An image could not be made.
    #[error(transparent)]
    Images(#[from] images::Error),
    /// The control plane did not come up.
    #[error(transparent)]
    ControlPlane(#[from] control_plane::Error),
    /// The network failed.
    #[error(transparent)]
    Fabric(#[from] fabric::Error),
    /// A node failed.
    #[error(transparent)]
    Node(#[from] node::Error),
    /// OVN failed.
    #[error(transparent)]
    Ovn(#[from] ovn::Error),
    /// kubectl, Helm or kstatus failed.
    #[error(transparent)]
    Kubectl(#[from] kubectl::Error),
    /// A lab could not be removed.
    #[error(transparent)]
    Teardown(#[from] teardown::Error),
    /// A program failed.
    #[error(transparent)]
    Command(#[from] command::Error),
    /// A file failed.
    #[error("the lab's {path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no lab.
    #[error("no lab is running in {folder}; `cargo xtask lab up` makes one")]
    NotRunning {
        /// Where it would be.
        folder: PathBuf,
    },
    /// There is a lab that is not what was asked for.
    #[error("a lab of {found} nodes is running and {wanted} were asked for; `cargo xtask lab down` removes it")]
    OtherSize {
        /// Its nodes.
        found: u8,
        /// The nodes that were asked for.
        wanted: u8,
    },
    /// There is a lab, and it has no OVN.
    #[error("the lab that is running has no OVN; `cargo xtask lab down`, then `cargo xtask lab up` makes one that has")]
    NoOvn,
    /// There is a lab in another folder, and the machine has one network for one lab.
    #[error("a lab is running in {folder}; set {FOLDER_VARIABLE} to that folder to use it or to take it down")]
    Elsewhere {
        /// Its folder.
        folder: String,
    },
    /// Another process is making or removing the lab.
    #[error("another `lab up` or `lab down` has been going on for {} s", LOCK.as_secs())]
    Busy,
    /// Too many nodes.
    #[error("a lab has at most {MAX_NODES} nodes, not {wanted}")]
    TooMany {
        /// The nodes that were asked for.
        wanted: u8,
    },
    /// No such node.
    #[error("the lab has no {name}; its nodes are node-1 to node-{nodes}")]
    NoNode {
        /// What was asked for.
        name: String,
        /// How many there are.
        nodes: u8,
    },
    /// The folder would be hidden from the nodes.
    #[error("the lab can't be in {folder}: each node has a {hidden_by} of its own; choose another {FOLDER_VARIABLE}")]
    Hidden {
        /// The folder.
        folder: PathBuf,
        /// What hides it.
        hidden_by: &'static str,
    },
    /// Nodes did not become Ready.
    #[error("after {} s these nodes are not Ready: {}; the kubelet's log of the first ends with:\n{log}",
        NODES_READY.as_secs(), nodes.join(", "))]
    NotReady {
        /// Which.
        nodes: Vec<String>,
        /// The end of the kubelet's log.
        log: String,
    },
    /// The apiserver is still there after it was killed.
    #[error("the apiserver is still there after it was killed")]
    Undead,
}

/// What [`Lab::up`] makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Nodes; 0 is a control plane only.
    pub nodes: u8,
    /// OVN's databases and northd beside the control plane, OVS and ovn-controller on each node, an outside network.
    pub ovn: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { nodes: 3, ovn: true }
    }
}

/// A running lab. This is a handle: the lab lives on when it is dropped, until [`Lab::down`].
#[derive(Debug, Clone)]
pub struct Lab {
    pub(crate) layout: Layout,
    pub(crate) record: Record,
}

pub(crate) const ENDPOINTS: Endpoints = Endpoints {
    address: fabric::CONTROL_PLANE,
    port: 6443,
    etcd: 2379,
    etcd_peers: 2380,
};

impl Lab {
    /// Makes a lab, in the folder that `VIRGA_LAB_DIR` names (by default `/var/lib/virga-lab`), or returns the one that
    /// is running if it is as asked; it may have OVN without being asked to. Removes what a lab that did not come up has left.
    pub fn up(options: Options) -> Result<Self, Error> {
        Self::up_in(Layout::from_environment(), options)
    }

    /// The lab that is running.
    pub fn attach() -> Result<Self, Error> {
        let layout = Layout::from_environment();
        let record = read_record(&layout)?.filter(|record| record.up && Fabric::find(&record.id).is_some());
        match record {
            Some(record) => Ok(Self { layout, record }),
            None => Err(Error::NotRunning {
                folder: layout.root().to_owned(),
            }),
        }
    }

    /// Removes the lab in the folder that `VIRGA_LAB_DIR` names, running or half-made. Returns whether there was one.
    pub fn down() -> Result<bool, Error> {
        let layout = Layout::from_environment();
        let _lock = lock(&layout)?;
        let Some(record) = read_record(&layout)? else {
            return Ok(false);
        };
        let progress = Progress::start();
        progress.step("removing the lab");
        teardown::remove(&layout, &record)?;
        progress.step("the lab is gone");
        Ok(true)
    }

    pub(crate) fn processes(&self) -> Vec<Process> {
        control_plane::processes(&self.layout, &ENDPOINTS, true)
    }

    pub(crate) fn start(&self, process: &Process, fabric: Fabric) -> Result<(), Error> {
        let log = self.layout.log(process.name);
        let mut command = processes::detached(&log).map_err(|source| io_error(&log, source))?;
        fabric.inside(&mut command);
        process.append_to(&mut command, &self.layout);
        command::run_as_set(processes::mark(&mut command, &self.record.id, process.name), SHORT)?;
        Ok(())
    }

    pub(crate) fn on_all_nodes(&self, work: impl Fn(&Node) -> Result<(), node::Error> + Sync) -> Result<(), Error> {
        let nodes = self.nodes();
        let outcomes: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = nodes.iter().map(|node| scope.spawn(|| work(node))).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or(Ok(())))
                .collect()
        });
        outcomes.into_iter().collect::<Result<(), _>>().map_err(Into::into)
    }

    /// OVN, if the lab was made with it.
    pub fn ovn(&self) -> Result<Ovn, Error> {
        if !self.record.ovn {
            return Err(Error::NoOvn);
        }
        Ok(Ovn::new(&self.layout, &self.record.id, self.fabric()?))
    }

    fn fabric(&self) -> Result<Fabric, Error> {
        Ok(Fabric::find(&self.record.id).ok_or(fabric::Error::Gone)?)
    }

    /// All nodes, on or off.
    pub fn nodes(&self) -> Vec<Node> {
        (1..=self.record.nodes).map(|number| self.node_at(number)).collect()
    }

    /// One node by its number (`2`) or name (`node-2`).
    pub fn node(&self, name: &str) -> Result<Node, Error> {
        let number = name.strip_prefix("node-").unwrap_or(name).parse().ok();
        let number = number.filter(|number| (1..=self.record.nodes).contains(number));
        number.map(|number| self.node_at(number)).ok_or_else(|| Error::NoNode {
            name: name.to_owned(),
            nodes: self.record.nodes,
        })
    }

    fn node_at(&self, number: u8) -> Node {
        Node::new(number, &self.record, &self.layout)
    }

    /// Takes a node's power: guests, pods and daemons end at once, nothing is told, its disk stays.
    pub fn kill_node(&self, name: &str) -> Result<(), Error> {
        Ok(self.node(name)?.kill(self.fabric()?)?)
    }

    /// Gives a node its power back. Returns when its libvirt and containerd answer; the kubelet follows.
    pub fn boot_node(&self, name: &str) -> Result<(), Error> {
        Ok(self.node(name)?.boot(self.fabric()?, Progress::start())?)
    }

    /// Kills the apiserver (-9), starts it again with the same flags and waits until it is ready.
    pub fn restart_apiserver(&self) -> Result<(), Error> {
        if !processes::kill(&processes::named(&self.record.id, APISERVER))?.is_empty() {
            return Err(Error::Undead);
        }
        let fabric = self.fabric()?;
        for process in self.processes().iter().filter(|process| process.name == APISERVER) {
            self.start(process, fabric)?;
        }
        let died = || {
            processes::named(&self.record.id, APISERVER)
                .is_empty()
                .then_some(APISERVER)
        };
        Ok(control_plane::wait_until_ready(
            &Kubectl::of(&self.layout),
            &self.layout,
            Progress::start(),
            died,
        )?)
    }

    /// Loads an image archive into every node that is on.
    pub fn load_image(&self, archive: &Path) -> Result<(), Error> {
        self.on_all_nodes(|node| if node.is_on() { node.load_image(archive) } else { Ok(()) })
    }

    /// The folder of the machine that all nodes see as `/var/lib/virga/store`: where images to import are put.
    pub fn store_dir(&self) -> PathBuf {
        self.layout.store()
    }

    /// The folder of the machine that all nodes see as `/var/lib/virga/shared`: storage that guests can migrate on.
    pub fn shared_dir(&self) -> PathBuf {
        self.layout.shared()
    }

    /// The folder of the control plane's logs.
    pub fn log_dir(&self) -> PathBuf {
        self.layout.root().join("log")
    }
}

impl Administered for Lab {
    type Error = Error;

    fn layout(&self) -> &Layout {
        &self.layout
    }
}

/// One `up` or `down` at a time. The lock is on the folder that holds the lab's, which is there before and after.
pub(crate) fn lock(layout: &Layout) -> Result<File, Error> {
    let parent = layout.root().parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent).map_err(|source| io_error(parent, source))?;
    let file = File::open(parent).map_err(|source| io_error(parent, source))?;
    let progress = Progress::start();
    let mut reminder = progress.reminder("waiting for another `lab up` or `lab down`");
    let outcome = wait::until(LOCK, || match file.try_lock() {
        Ok(()) => Some(Ok(())),
        Err(TryLockError::WouldBlock) => {
            reminder.tick();
            None
        }
        Err(TryLockError::Error(source)) => Some(Err(io_error(parent, source))),
    });
    outcome.unwrap_or(Err(Error::Busy))?;
    Ok(file)
}

pub(crate) fn read_record(layout: &Layout) -> Result<Option<Record>, Error> {
    layout
        .read_record()
        .map_err(|source| io_error(&layout.record(), source))
}

pub(crate) fn io_error(path: &Path, source: io::Error) -> Error {
    Error::Io {
        path: path.to_owned(),
        source,
    }
}
