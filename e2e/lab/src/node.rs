//! One node of the lab: a host with libvirt, containerd and a kubelet, made of namespaces.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::cgroups;
use crate::command::{self, Output, SHORT};
use crate::control_plane::log_tail;
use crate::fabric::{self, Fabric};
use crate::images;
use crate::layout::{self, Layout, NODE_DIRECTORIES, Record};
use crate::ovn::{self, Wires};
use crate::processes;
use crate::progress::Progress;
use crate::wait;

/// How long a command in a node may run.
const EXEC: Duration = Duration::from_mins(2);

/// How long a node's daemons may take to answer.
const BOOT: Duration = Duration::from_mins(1);

/// Importing an image of several hundred MB while others do the same.
const IMPORT: Duration = Duration::from_mins(5);

/// A node did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program failed.
    #[error("on {node}")]
    Command {
        /// The node.
        node: String,
        /// Which, and why.
        source: command::Error,
    },
    /// The database of its switch could not be made.
    #[error("on {node}")]
    Switch {
        /// The node.
        node: String,
        /// Why.
        source: ovn::Error,
    },
    /// Its network failed.
    #[error("on {node}")]
    Fabric {
        /// The node.
        node: String,
        /// Why.
        source: fabric::Error,
    },
    /// A file failed.
    #[error("on {node}: {path}")]
    Io {
        /// The node.
        node: String,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It has no power.
    #[error("{node} is not running; `cargo xtask lab boot {node}` starts it")]
    Off {
        /// The node.
        node: String,
    },
    /// It has power already.
    #[error("{node} is running already")]
    On {
        /// The node.
        node: String,
    },
    /// No process has that name or number.
    #[error("{node} has no process {process}")]
    NoProcess {
        /// The node.
        node: String,
        /// What was looked for.
        process: String,
    },
    /// A daemon did not answer in time.
    #[error("{part} of {node} did not answer within {} s; the log ends with:\n{log}", BOOT.as_secs())]
    NotUp {
        /// The node.
        node: String,
        /// Which daemon.
        part: &'static str,
        /// The end of its log.
        log: String,
    },
    /// Killed processes are still there.
    #[error("{node}: processes {pids:?} are still there after they were killed")]
    Undead {
        /// The node.
        node: String,
        /// Their numbers.
        pids: Vec<u32>,
    },
}

/// A node of a lab. It may be on or off.
#[derive(Debug, Clone)]
pub struct Node {
    number: u8,
    nodes: u8,
    ovn: bool,
    lab: String,
    layout: Layout,
}

impl Node {
    pub(crate) fn new(number: u8, record: &Record, layout: &Layout) -> Self {
        Self {
            number,
            nodes: record.nodes,
            ovn: record.ovn,
            lab: record.id.clone(),
            layout: layout.clone(),
        }
    }

    /// Its name, `node-1` and so on: the Node's and the host's.
    pub fn name(&self) -> String {
        layout::node_name(self.number)
    }

    /// Its address in the lab's network, as text.
    pub fn address(&self) -> String {
        layout::node_address(self.number).to_string()
    }

    /// A file of the node as the machine sees it; only for what is the node's own: below `/etc/libvirt`, `/run`,
    /// `/var/lib/libvirt`, `/var/lib/virga`, `/var/log` and a few more.
    pub fn file(&self, path: &str) -> PathBuf {
        self.layout.node_file(self.number, path)
    }

    /// The URI of its libvirt for a client on the machine.
    pub fn libvirt_uri(&self) -> String {
        format!(
            "qemu:///system?socket={}",
            self.file("/run/libvirt/libvirt-sock").display()
        )
    }

    /// Whether it has power.
    pub fn is_on(&self) -> bool {
        self.init().is_ok()
    }

    /// Runs a program in the node, to its end, and returns what it said. Programs are the machine's.
    pub fn exec(&self, args: &[&str]) -> Result<Output, Error> {
        let mut command = self.command(args)?;
        command::output(&mut command, "", EXEC).map_err(|source| self.failed(source))
    }

    /// [`Node::exec`] for what has to succeed; returns its standard output.
    pub fn run(&self, args: &[&str]) -> Result<String, Error> {
        let mut command = self.command(args)?;
        command::run(&mut command, EXEC).map_err(|source| self.failed(source))
    }

    /// A command that will run in the node.
    pub fn command(&self, args: &[&str]) -> Result<Command, Error> {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={}", self.init()?))
            .args(["--mount", "--uts", "--net", "--pid", "--"])
            .args(args);
        Ok(command)
    }

    /// Its processes, those in its pods included, by the machine's numbers and the kernel's names (at most 15 characters).
    pub fn processes(&self) -> Result<Vec<(u32, String)>, Error> {
        Ok(processes::family(self.init()?))
    }

    /// Kills (-9) a process of the node: all with a name, or one by the machine's number. Daemons come back by
    /// themselves within a second, see [`Node::hold`].
    pub fn kill_process(&self, process: &str) -> Result<(), Error> {
        let by_number = process.parse::<u32>().ok();
        let found: Vec<u32> = self
            .processes()?
            .into_iter()
            .filter(|(pid, name)| by_number.map_or_else(|| name == process, |number| *pid == number))
            .map(|(pid, _)| pid)
            .collect();
        if found.is_empty() {
            return Err(Error::NoProcess {
                node: self.name(),
                process: process.to_owned(),
            });
        }
        self.gone(&found)
    }

    /// Keeps a daemon (`libvirtd`, `virtlogd`, `containerd`, `kubelet`, `kube-proxy`; with OVN also `ovsdb-server`,
    /// `ovs-vswitchd`, `ovn-controller`) from coming back after its end.
    pub fn hold(&self, daemon: &str) -> Result<(), Error> {
        let path = self.home().join("stopped").join(daemon);
        File::create(&path).map(drop).map_err(|source| self.io(&path, source))
    }

    /// Undoes [`Node::hold`]: the daemon starts at once.
    pub fn release(&self, daemon: &str) -> Result<(), Error> {
        let path = self.home().join("stopped").join(daemon);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(self.io(&path, source)),
            _ => Ok(()),
        }
    }

    /// Imports an image archive (from `docker save`, or an OCI layout in a tar) into the node's containerd.
    pub fn load_image(&self, archive: &Path) -> Result<(), Error> {
        let file = File::open(archive).map_err(|source| self.io(archive, source))?;
        let mut ctr = self.command(&["ctr", "--namespace=k8s.io", "images", "import", "-"])?;
        let output = command::output_from(&mut ctr, file.into(), IMPORT).map_err(|source| self.failed(source))?;
        command::succeeded(&ctr, output)
            .map(drop)
            .map_err(|source| self.failed(source))
    }

    /// Writes the node's disk and configuration: what stays when it loses power.
    pub(crate) fn install(&self) -> Result<(), Error> {
        let home = self.home();
        let folders = NODE_DIRECTORIES.iter().map(|directory| self.file(directory)).chain(
            ["/var/lib/virga/shared", "/var/lib/virga/store"]
                .iter()
                .map(|path| self.file(path)),
        );
        let libvirt = ["images", "qemu", "boot", "dnsmasq", "network"].map(|name| format!("/var/lib/libvirt/{name}"));
        let folders = folders.chain(libvirt.iter().map(|path| self.file(path)));
        for folder in folders.chain(["containerd", "cni", "stopped"].map(|name| home.join(name))) {
            fs::create_dir_all(&folder).map_err(|source| self.io(&folder, source))?;
        }
        self.copy_nwfilters()?;
        let configuration = [
            (home.join("start.sh"), include_str!("../node/start.sh")),
            (home.join("containerd.toml"), include_str!("../node/containerd.toml")),
            (home.join("kubelet.yaml"), include_str!("../node/kubelet.yaml")),
            (home.join("cni/10-pods.conflist"), include_str!("../node/cni.conflist")),
            (
                self.file("/etc/libvirt/libvirtd.conf"),
                include_str!("../node/libvirtd.conf"),
            ),
            (self.file("/etc/libvirt/qemu.conf"), include_str!("../node/qemu.conf")),
            (
                self.file("/etc/libvirt/network.conf"),
                include_str!("../node/network.conf"),
            ),
        ];
        for (path, template) in configuration {
            fs::write(&path, self.filled(template)).map_err(|source| self.io(&path, source))?;
        }
        if self.ovn {
            let path = home.join("ovn.sh");
            let script = self.filled(include_str!("../node/ovn.sh"));
            fs::write(&path, script).map_err(|source| self.io(&path, source))?;
            ovn::create_switch(self.number, &self.file("/etc/openvswitch/conf.db")).map_err(|source| {
                Error::Switch {
                    node: self.name(),
                    source,
                }
            })?;
        }
        Ok(())
    }

    /// Gives it power and its cable, and returns when its libvirt and containerd answer.
    pub(crate) fn boot(&self, fabric: Fabric, progress: Progress) -> Result<(), Error> {
        if self.is_on() {
            return Err(Error::On { node: self.name() });
        }
        cgroups::create(&self.name()).map_err(|source| self.io(Path::new("/sys/fs/cgroup"), source))?;
        self.empty_run()?;
        let home = self.home();
        let log = self.layout.log(&self.name());
        let mut start = processes::detached(&log).map_err(|source| self.io(&log, source))?;
        start
            .args([
                "unshare",
                "--net",
                "--mount",
                "--uts",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
            ])
            .args(["--propagation", "private"])
            .arg("bash")
            .arg(home.join("start.sh"))
            .env("LAB_NODE", self.name())
            .env("LAB_ADDRESS", self.address())
            .env("LAB_ROOT", self.layout.root())
            .env("LAB_HOME", &home)
            .env("LAB_DIRECTORIES", NODE_DIRECTORIES.join(" "))
            .stdin(Stdio::piped());
        processes::mark(&mut start, &self.lab, &self.name());
        let mut starter = start
            .spawn()
            .map_err(|source| self.failed(command::not_started(&start, source)))?;
        let go = starter.stdin.take();
        starter.wait().map_err(|source| self.io(&log, source))?;
        let init = wait::until(SHORT, || self.init().ok()).ok_or_else(|| self.not_up("the first process"))?;
        self.plug(fabric, init).map_err(|source| Error::Fabric {
            node: self.name(),
            source,
        })?;
        if let Some(mut go) = go {
            go.write_all(b"go\n").map_err(|source| self.io(&log, source))?;
        }
        for (part, socket) in [
            ("libvirtd", "/run/libvirt/libvirt-sock"),
            ("containerd", "/run/containerd/containerd.sock"),
        ] {
            let socket = self.file(socket);
            let what = format!("waiting for {part} of {}", self.name());
            let mut reminder = progress.reminder(&what);
            let answered = wait::until_true(BOOT, || {
                reminder.tick();
                socket.exists() || !self.is_on()
            });
            if !answered || !self.is_on() {
                return Err(self.not_up(part));
            }
        }
        self.wait_for_ovn(progress)
    }

    fn plug(&self, fabric: Fabric, init: u32) -> Result<(), fabric::Error> {
        fabric.connect(self.number, init, self.nodes)?;
        if self.ovn {
            Wires::of(fabric).connect(self.number, init)?;
        }
        Ok(())
    }

    fn unplug(&self, fabric: Fabric) -> Result<(), fabric::Error> {
        fabric.disconnect(&self.name())?;
        if self.ovn {
            Wires::of(fabric).disconnect(self.number)?;
        }
        Ok(())
    }

    /// Whether its ovn-controller has its databases: its own, and the south-bound one. `None` in a lab without OVN.
    pub fn is_chassis(&self) -> Option<bool> {
        let pid = self.file("/run/ovn/ovn-controller.pid");
        let ask = ["ovn-appctl", "--target=ovn-controller", "connection-status"];
        self.ovn
            .then(|| pid.exists() && self.run(&ask).is_ok_and(|said| said.trim() == "connected"))
    }

    /// Waits until tunnels can begin here and flows come from the south-bound database.
    fn wait_for_ovn(&self, progress: Progress) -> Result<(), Error> {
        if !self.ovn {
            return Ok(());
        }
        let what = format!("waiting for OVN on {}", self.name());
        let mut reminder = progress.reminder(&what);
        let tunnels = ["ip", "-oneline", "-4", "address", "show", "dev", ovn::TUNNEL_BRIDGE];
        let mut has_tunnels = false;
        let answered = wait::until_true(BOOT, || {
            reminder.tick();
            has_tunnels = has_tunnels || self.run(&tunnels).is_ok_and(|addresses| !addresses.is_empty());
            !self.is_on() || has_tunnels && self.is_chassis() == Some(true)
        });
        match (answered && self.is_on(), has_tunnels) {
            (true, _) => Ok(()),
            (false, false) => Err(self.not_up("ovs-vswitchd")),
            (false, true) => Err(self.not_up("ovn-controller")),
        }
    }

    /// Takes its power: everything in it ends at once, its disk stays.
    pub(crate) fn kill(&self, fabric: Fabric) -> Result<(), Error> {
        let everything: Vec<u32> = self.processes()?.into_iter().map(|(pid, _)| pid).collect();
        self.gone(&[self.init()?])?;
        if !wait::until_true(BOOT, || !everything.iter().any(|&pid| processes::is_alive(pid))) {
            return Err(Error::Undead {
                node: self.name(),
                pids: everything,
            });
        }
        self.unplug(fabric).map_err(|source| Error::Fabric {
            node: self.name(),
            source,
        })?;
        cgroups::clear(&self.name()).map_err(|source| self.io(Path::new("/sys/fs/cgroup"), source))
    }

    /// The first process in the node, by the machine's number.
    fn init(&self) -> Result<u32, Error> {
        let mut found = processes::named(&self.lab, &self.name()).into_iter();
        found
            .find(|&pid| processes::is_init(pid))
            .ok_or_else(|| Error::Off { node: self.name() })
    }

    fn home(&self) -> PathBuf {
        self.layout.node(self.number)
    }

    fn gone(&self, pids: &[u32]) -> Result<(), Error> {
        let left = processes::kill(pids).map_err(|source| self.failed(source))?;
        if left.is_empty() {
            Ok(())
        } else {
            Err(Error::Undead {
                node: self.name(),
                pids: left,
            })
        }
    }

    /// A boot finds `/run` empty.
    fn empty_run(&self) -> Result<(), Error> {
        let run = self.file("/run");
        let emptied = fs::remove_dir_all(&run).and_then(|()| {
            // Most of these are made by systemd on a real host.
            ["libvirt/common", "containerd", "netns", "lock", "openvswitch", "ovn"]
                .iter()
                .try_for_each(|name| fs::create_dir_all(run.join(name)))
        });
        emptied.map_err(|source| self.io(&run, source))
    }

    /// The network filters that libvirt brings along.
    fn copy_nwfilters(&self) -> Result<(), Error> {
        let target = self.file("/etc/libvirt/nwfilter");
        let copied = fs::create_dir_all(&target).and_then(|()| {
            let Ok(filters) = fs::read_dir("/etc/libvirt/nwfilter") else {
                return Ok(());
            };
            filters
                .flatten()
                .try_for_each(|file| fs::copy(file.path(), target.join(file.file_name())).map(drop))
        });
        copied.map_err(|source| self.io(&target, source))
    }

    fn filled(&self, template: &str) -> String {
        let uuid = format!(
            "{:08x}-0000-4000-8000-{:012x}",
            0x1ab0_0000 + u32::from(self.number),
            self.number
        );
        template
            .replace("@HOME@", &self.home().display().to_string())
            .replace("@LAB@", &self.layout.root().display().to_string())
            .replace("@ADDRESS@", &self.address())
            .replace("@TUNNELS@", &ovn::tunnel_address(self.number).to_string())
            .replace("@TUNNEL_BRIDGE@", ovn::TUNNEL_BRIDGE)
            .replace("@CGROUP@", &cgroups::of_node(&self.name()))
            .replace("@PODS@", &layout::pod_network(self.number))
            .replace("@PAUSE@", images::PAUSE)
            .replace("@UUID@", &uuid)
    }

    fn not_up(&self, part: &'static str) -> Error {
        let daemon = log_tail(&self.file("/var/log").join(format!("{part}.log")));
        let log = [log_tail(&self.layout.log(&self.name())), daemon].join("\n");
        Error::NotUp {
            node: self.name(),
            part,
            log,
        }
    }

    fn failed(&self, source: command::Error) -> Error {
        Error::Command {
            node: self.name(),
            source,
        }
    }

    fn io(&self, path: &Path, source: io::Error) -> Error {
        Error::Io {
            node: self.name(),
            path: path.to_owned(),
            source,
        }
    }
}
