//! etcd, the apiserver, the controller manager and the scheduler: their flags, their start, their readiness.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::command;
use crate::kubectl::Kubectl;
use crate::layout::Layout;
use crate::pki::{self, Authority, Identity};
use crate::progress::Progress;
use crate::wait;

/// The network of Services; its first address is the apiserver's own Service.
const SERVICE_NETWORK: &str = "10.96.0.0/16";
const SERVICE_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);

/// How long the apiserver may take to be ready: 3 s on two free cores, and much more while the machine builds.
const READY: Duration = Duration::from_secs(90);

/// The processes that are names of the multi-call program.
const NAMES: [&str; 7] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
];

/// The name of the apiserver's process.
pub const APISERVER: &str = "kube-apiserver";

/// The control plane did not come up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Certificates could not be made.
    #[error("preparing the control plane")]
    Pki(#[from] pki::Error),
    /// A file could not be written.
    #[error("preparing the control plane: {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A program could not be run.
    #[error("starting the control plane")]
    Command(#[from] command::Error),
    /// A process ended instead of serving.
    #[error("{process} ended at once; its log ends with:\n{log}")]
    Ended {
        /// The process.
        process: String,
        /// The end of its log.
        log: String,
    },
    /// The apiserver was not ready in time.
    #[error("the apiserver was not ready after {} s; its log ends with:\n{log}", READY.as_secs())]
    NotReady {
        /// The end of its log.
        log: String,
    },
}

/// Where the control plane listens.
#[derive(Debug, Clone, Copy)]
pub struct Endpoints {
    /// The apiserver's address, for its clients and for nodes.
    pub address: Ipv4Addr,
    /// The apiserver's port.
    pub port: u16,
    /// etcd's port for clients, on the loopback interface.
    pub etcd: u16,
    /// etcd's port for its peers, of which there are none.
    pub etcd_peers: u16,
}

impl Endpoints {
    /// The apiserver's address as a URL.
    pub fn url(&self) -> String {
        format!("https://{}:{}", self.address, self.port)
    }
}

/// A process of the control plane: a name of the multi-call program and its flags.
#[derive(Debug, Clone)]
pub struct Process {
    /// Its name.
    pub name: &'static str,
    /// Its flags.
    pub flags: Vec<String>,
}

/// Makes everything that the processes read: certificates, kubeconfigs, links to the program. Returns who signed them.
pub fn prepare(layout: &Layout, program: &Path, endpoints: &Endpoints, nodes: &[String]) -> Result<Authority, Error> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Io { path, source }
    };
    for folder in [layout.bin(), layout.etcd(), layout.root().join("log")] {
        fs::create_dir_all(&folder).map_err(at(&folder))?;
    }
    for name in NAMES {
        let link = layout.bin().join(name);
        symlink(program, &link).map_err(at(&link))?;
    }
    let authority = Authority::create(&layout.pki())?;
    let addresses = [endpoints.address, SERVICE_ADDRESS, Ipv4Addr::LOCALHOST].map(IpAddr::from);
    authority.server(
        APISERVER,
        &[
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
        ],
        &addresses,
    )?;
    let client = |name: &str, user: &str, group: Option<&str>| {
        authority.client(
            name,
            Identity { user, group },
            &endpoints.url(),
            &layout.kubeconfig(name),
        )
    };
    client("admin", "virga-lab-admin", Some("system:masters"))?;
    client("kube-controller-manager", "system:kube-controller-manager", None)?;
    client("kube-scheduler", "system:kube-scheduler", None)?;
    client("kube-proxy", "system:kube-proxy", None)?;
    for node in nodes {
        client(node, &format!("system:node:{node}"), Some("system:nodes"))?;
    }
    Ok(authority)
}

/// The processes in the order of their start: etcd and the apiserver, which is ready when etcd is, then what ends when the
/// apiserver is not ready within 10 s.
pub fn processes(layout: &Layout, endpoints: &Endpoints, with_scheduler: bool) -> Vec<Process> {
    let pki = |file: &str| layout.pki().join(file).display().to_string();
    let kubeconfig = |name: &str| layout.kubeconfig(name).display().to_string();
    let Endpoints {
        address,
        port,
        etcd,
        etcd_peers,
    } = endpoints;
    let etcd_url = format!("http://127.0.0.1:{etcd}");
    let peer_url = format!("http://127.0.0.1:{etcd_peers}");

    let mut processes = vec![
        Process {
            name: "etcd",
            flags: vec![
                format!("--data-dir={}", layout.etcd().display()),
                format!("--listen-client-urls={etcd_url}"),
                format!("--advertise-client-urls={etcd_url}"),
                format!("--listen-peer-urls={peer_url}"),
                format!("--initial-advertise-peer-urls={peer_url}"),
                format!("--initial-cluster=default={peer_url}"),
                "--log-level=warn".into(),
                // A lab that loses power is made anew.
                "--unsafe-no-fsync".into(),
            ],
        },
        Process {
            name: APISERVER,
            flags: vec![
                format!("--etcd-servers={etcd_url}"),
                format!(
                    "--bind-address={}",
                    if address.is_loopback() {
                        *address
                    } else {
                        Ipv4Addr::UNSPECIFIED
                    }
                ),
                format!("--advertise-address={address}"),
                // A Service can't have endpoints on the loopback interface.
                format!(
                    "--endpoint-reconciler-type={}",
                    if address.is_loopback() { "none" } else { "lease" }
                ),
                format!("--secure-port={port}"),
                format!("--tls-cert-file={}", pki("kube-apiserver.crt")),
                format!("--tls-private-key-file={}", pki("kube-apiserver.key")),
                format!("--client-ca-file={}", pki("ca.crt")),
                "--service-account-issuer=https://kubernetes.default.svc".into(),
                format!("--service-account-key-file={}", pki("sa.pub")),
                format!("--service-account-signing-key-file={}", pki("sa.key")),
                format!("--service-cluster-ip-range={SERVICE_NETWORK}"),
                "--authorization-mode=Node,RBAC".into(),
                "--enable-admission-plugins=NodeRestriction".into(),
                "--allow-privileged=true".into(),
                // The apiserver calls webhooks at their pods' addresses: it has routes there, but no kube-proxy.
                "--enable-aggregator-routing=true".into(),
                // For `kubectl logs` and `exec`.
                format!("--kubelet-client-certificate={}", pki("admin.crt")),
                format!("--kubelet-client-key={}", pki("admin.key")),
                "--kubelet-preferred-address-types=InternalIP".into(),
            ],
        },
        Process {
            name: "kube-controller-manager",
            flags: vec![
                format!("--kubeconfig={}", kubeconfig("kube-controller-manager")),
                format!("--service-account-private-key-file={}", pki("sa.key")),
                format!("--root-ca-file={}", pki("ca.crt")),
                format!("--cluster-signing-cert-file={}", pki("ca.crt")),
                format!("--cluster-signing-key-file={}", pki("ca.key")),
                "--use-service-account-credentials=true".into(),
                "--leader-elect=false".into(),
                // Its start is some 200 requests, 4 s of waiting at the default rate.
                "--kube-api-qps=500".into(),
                "--kube-api-burst=1000".into(),
                // A node that is gone shows after 20 s instead of 50; kubelets here report every 3 s.
                "--node-monitor-period=2s".into(),
                "--node-monitor-grace-period=20s".into(),
                // Nobody asks it anything; several may share the machine's ports.
                "--secure-port=0".into(),
            ],
        },
    ];
    if with_scheduler {
        processes.push(Process {
            name: "kube-scheduler",
            flags: vec![
                format!("--kubeconfig={}", kubeconfig("kube-scheduler")),
                "--leader-elect=false".into(),
                "--secure-port=0".into(),
            ],
        });
    }
    processes
}

impl Process {
    /// Appends program and flags to a command that ends in one more program to run.
    pub fn append_to(&self, command: &mut Command, layout: &Layout) {
        command.arg(layout.bin().join(self.name)).args(&self.flags);
    }
}

/// Starts everything in its order with `start`, and returns when the apiserver is ready and the default service account
/// exists, without which no pod is admitted. A process that is not `alive` any more is an error at once.
pub fn start<E: From<Error>>(
    processes: &[Process],
    kubectl: &Kubectl,
    layout: &Layout,
    progress: Progress,
    start: impl Fn(&Process) -> Result<(), E>,
    alive: impl Fn(&Process) -> bool,
) -> Result<(), E> {
    let (first, second) = processes.split_at(processes.len().min(2));
    let mut started = 0;
    for (wave, question) in [
        (first, ["get", "--raw=/readyz"].as_slice()),
        (
            second,
            &[
                "get",
                "serviceaccount",
                "default",
                "--namespace=default",
                "--output=name",
            ],
        ),
    ] {
        for process in wave {
            start(process)?;
        }
        started += wave.len();
        wait_for_answer(kubectl, layout, progress, question, || {
            processes[..started]
                .iter()
                .find(|process| !alive(process))
                .map(|process| process.name)
        })?;
    }
    Ok(())
}

/// Waits until the apiserver is ready. `ended` names a process that has died, to fail at once.
pub fn wait_until_ready(
    kubectl: &Kubectl,
    layout: &Layout,
    progress: Progress,
    ended: impl FnMut() -> Option<&'static str>,
) -> Result<(), Error> {
    wait_for_answer(kubectl, layout, progress, &["get", "--raw=/readyz"], ended)
}

fn wait_for_answer(
    kubectl: &Kubectl,
    layout: &Layout,
    progress: Progress,
    question: &[&str],
    mut ended: impl FnMut() -> Option<&'static str>,
) -> Result<(), Error> {
    let mut dead = None;
    let mut reminder = progress.reminder("waiting for the apiserver");
    let answered = wait::until_true(READY, || {
        reminder.tick();
        dead = ended();
        dead.is_some() || kubectl.run(question).is_ok()
    });
    match dead {
        Some(process) => Err(Error::Ended {
            process: process.to_owned(),
            log: log_tail(&layout.log(process)),
        }),
        None if answered => Ok(()),
        None => Err(Error::NotReady {
            log: log_tail(&layout.log(APISERVER)),
        }),
    }
}

/// The last lines of a log.
pub fn log_tail(path: &Path) -> String {
    let content = fs::read(path).unwrap_or_default();
    command::tail(&String::from_utf8_lossy(&content), 15)
}
