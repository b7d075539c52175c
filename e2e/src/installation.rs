//! Virga as the tests of the lab find it: installed by its chart.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use serde::Deserialize;
use tokio::sync::{Mutex, MutexGuard};
use virga_lab::{Administered, Lab, Options, Ovn, binaries};

use crate::objects::GUEST;
use crate::{Cluster, checkout};

/// How many nodes the lab has.
const NODES: u8 = 3;

/// Where the chart is.
const NAMESPACE: &str = "virga-system";

/// How long Helm may wait for controller and agents.
const ROLL_OUT: &str = "--timeout=180s";

/// Virga on a cluster: in the lab, or on the cluster that `KUBECONFIG` names.
pub struct Installation {
    /// The cluster.
    pub cluster: Cluster,
    lab: Option<Lab>,
    images: Vec<Built>,
    /// Whether OVN carries the networks now.
    on_ovn: AtomicBool,
    turn: Mutex<()>,
    // Held for as long as the process lives: tests of the lab itself would take it down.
    _lab_is_used: File,
}

/// An entry of the list that `cargo xtask image` writes.
#[derive(Deserialize)]
struct Built {
    name: String,
    image: String,
    archive: PathBuf,
}

impl Installation {
    /// The installation, made by the first test that asks. Tests take turns: they share nodes that some of them kill.
    /// Networks are carried by libvirt: see [`Self::turn_on_ovn`].
    pub async fn turn() -> (&'static Self, MutexGuard<'static, ()>) {
        let (made, turn) = Self::turn_as_it_is().await;
        if made.on_ovn.swap(false, Ordering::SeqCst) {
            made.install(&[]);
        }
        (made, turn)
    }

    /// A turn with networks that OVN carries; none, which is said, without a lab that has OVN. It stays so until somebody
    /// wants it otherwise, so tests on OVN follow each other (they are in one module). There must be no Networks.
    pub async fn turn_on_ovn() -> Option<(&'static Self, &'static Lab, Ovn, MutexGuard<'static, ()>)> {
        let (made, turn) = Self::turn_as_it_is().await;
        let lab = made.lab("has networks carried by OVN, and looks into nodes")?;
        let Ok(ovn) = lab.ovn() else {
            eprintln!("\n*** SKIPPED, because the lab has no OVN: `cargo xtask lab down` makes the next one with it\n");
            return None;
        };
        if !made.on_ovn.swap(true, Ordering::SeqCst) {
            let secret = ovn
                .secret(NAMESPACE)
                .unwrap_or_else(|error| panic!("{}", virga_lab::chain(&error)));
            made.cluster
                .kubectl(&["apply", "--filename", &secret.to_string_lossy()]);
            let settings = ovn.chart_settings();
            made.install(&settings.iter().map(String::as_str).collect::<Vec<_>>());
        }
        Some((made, lab, ovn, turn))
    }

    async fn turn_as_it_is() -> (&'static Self, MutexGuard<'static, ()>) {
        static MADE: OnceLock<Installation> = OnceLock::new();
        let made = MADE.get_or_init(Self::make);
        (made, made.turn.lock().await)
    }

    fn make() -> Self {
        let lock = File::open(checkout().join("e2e/lab")).unwrap_or_else(|error| panic!("the lab's lock: {error}"));
        let foreign = foreign_kubeconfig();
        if let Some(kubeconfig) = foreign {
            eprintln!(
                "KUBECONFIG is given: testing {}, where Virga must be installed and {GUEST} be in every node's store",
                kubeconfig.display()
            );
            return Self {
                cluster: Cluster::new(kubeconfig, "kubectl"),
                lab: None,
                images: Vec::new(),
                on_ovn: AtomicBool::new(false),
                turn: Mutex::new(()),
                _lab_is_used: lock,
            };
        }
        lock.lock().unwrap_or_else(|error| panic!("the lab's lock: {error}"));
        let options = Options {
            nodes: NODES,
            // One that runs is used as it is.
            ovn: Lab::attach().is_err(),
        };
        let lab = Lab::up(options).unwrap_or_else(|error| panic!("{}", virga_lab::chain(&error)));
        for node in lab.nodes().iter().filter(|node| !node.is_on()) {
            let booted = lab.boot_node(&node.name());
            booted.unwrap_or_else(|error| panic!("{}", virga_lab::chain(&error)));
        }
        put_guest_into(&lab.store_dir());
        let images = images();
        for built in &images {
            let loaded = lab.load_image(&built.archive);
            loaded.unwrap_or_else(|error| panic!("{}", virga_lab::chain(&error)));
        }
        let installation = Self {
            cluster: Cluster::of(&lab),
            lab: Some(lab),
            images,
            on_ovn: AtomicBool::new(false),
            turn: Mutex::new(()),
            _lab_is_used: lock,
        };
        let networks = installation
            .cluster
            .kubectl_says(&["get", "networks", "--all-namespaces", "--output=json"]);
        assert!(
            !networks.stdout.contains(r#""backend": "ovn""#),
            "there are Networks on OVN, as `make demo` leaves them: delete them, or `cargo xtask lab down`"
        );
        installation.install(&[]);
        installation
    }

    /// The lab that this is in. Without one (on a cluster of the user's) it says loudly what is skipped for which
    /// reason.
    pub fn lab(&self, skipped: &str) -> Option<&Lab> {
        if self.lab.is_none() {
            eprintln!("\n*** SKIPPED, because this cluster is not the lab: {skipped}\n");
        }
        self.lab.as_ref()
    }

    /// Installs or upgrades the chart with the images of this checkout, and waits until all of it is ready.
    pub fn install(&self, more: &[&str]) {
        let chart = checkout().join("charts/virga");
        let chart = chart.to_string_lossy();
        let namespace = format!("--namespace={NAMESPACE}");
        let mut args = vec![
            "upgrade",
            "--install",
            "virga",
            &chart,
            &namespace,
            "--create-namespace",
            "--wait",
            ROLL_OUT,
            "--set=agent.domainType=qemu",
        ];
        let images: Vec<String> = self
            .images
            .iter()
            .map(|built| {
                format!(
                    "--set={}.image={}",
                    built.name.trim_start_matches("virga-"),
                    built.image
                )
            })
            .collect();
        args.extend(images.iter().map(String::as_str));
        args.extend(more);
        let said = self.cluster.helm_says(&args);
        assert!(
            said.ok,
            "helm {args:?} failed:\n{}\n{}",
            said.stderr,
            self.cluster.kubectl_says(&["describe", "pods", &namespace]).stdout
        );
    }
}

/// `KUBECONFIG`, unless it is the lab's own, as after `make demo`.
fn foreign_kubeconfig() -> Option<PathBuf> {
    let given = std::env::var_os("KUBECONFIG").filter(|value| !value.is_empty())?;
    let given = PathBuf::from(given);
    let own = Lab::attach().ok().map(|lab| lab.kubeconfig());
    (own.as_ref() != Some(&given)).then_some(given)
}

/// What `cargo xtask image` built last, in the target folder that this test runs from.
fn images() -> Vec<Built> {
    let program = std::env::current_exe().unwrap_or_default();
    let list = program
        .ancestors()
        .nth(3)
        .map(|target| target.join("image/images.json"));
    let list = list.unwrap_or_default();
    let text = fs::read_to_string(&list)
        .unwrap_or_else(|error| panic!("{}: {error}; `cargo xtask image` makes it", list.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", list.display()))
}

/// The guest that `cargo xtask guest` built last.
pub fn guest() -> PathBuf {
    let cache = binaries::cache().unwrap_or_else(|error| panic!("{}", virga_lab::chain(&error)));
    let built = fs::read_dir(cache.join("guest")).into_iter().flatten().flatten();
    let age = |path: &Path| {
        fs::metadata(path)
            .and_then(|found| found.modified())
            .unwrap_or(SystemTime::UNIX_EPOCH)
    };
    built
        .map(|folder| folder.path().join(GUEST))
        .filter(|path| path.exists())
        .max_by_key(|path| age(path))
        .unwrap_or_else(|| panic!("no guest in {}; `cargo xtask guest` makes it", cache.display()))
}

fn put_guest_into(store: &Path) {
    let (new, place) = (store.join(format!(".{GUEST}.new")), store.join(GUEST));
    let copied = fs::copy(guest(), &new).and_then(|_| fs::rename(&new, &place));
    copied.unwrap_or_else(|error| panic!("{}: {error}", place.display()));
}
