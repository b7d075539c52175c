//! The controller's process on the loopback interface, and webhooks that reach it.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use kube::api::{Api, PostParams};
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};
use virga_crds::Flavor;
use virga_e2e::objects::instance;
use virga_e2e::{Case, Cluster, checkout, eventually};

const SYSTEM: &str = "virga-system";
const ACCOUNT: &str = "virga-controller";
/// On two busy cores, and after another one's Lease has ended.
const START: Duration = Duration::from_mins(2);

/// Runs a program until this process lets go of the other end of the pipe, or ends: then the program is killed.
const LEASH: &str = r#""$@" & cat >/dev/null; kill -9 $!; wait"#;

/// A running controller. Tests take turns: they share its hosts.
pub struct Controller {
    pub cluster: &'static Cluster,
    shared: &'static Shared,
    _turn: MutexGuard<'static, ()>,
}

struct Shared {
    child: Mutex<Option<Child>>,
    turn: Mutex<()>,
    folder: tempfile::TempDir,
    ports: [u16; 4],
}

impl Controller {
    pub async fn running() -> Self {
        static SHARED: OnceLock<Shared> = OnceLock::new();
        let cluster = Cluster::api_only();
        let shared = SHARED.get_or_init(|| Shared {
            child: Mutex::new(None),
            turn: Mutex::new(()),
            folder: tempfile::tempdir().unwrap(),
            ports: free_ports(),
        });
        let turn = shared.turn.lock().await;
        let controller = Self {
            cluster,
            shared,
            _turn: turn,
        };
        if shared.child.lock().await.is_none() {
            controller.install();
            controller.spawn().await;
        }
        controller.answers().await;
        controller
    }

    /// Kills it (-9) and starts it again.
    pub async fn kill(&self) {
        if let Some(mut leash) = self.shared.child.lock().await.take() {
            drop(leash.stdin.take());
            leash.wait().unwrap();
        }
        self.spawn().await;
    }

    /// The chart's objects but for the Pods: Services that lead here, and webhooks that know the port.
    fn install(&self) {
        let cluster = self.cluster;
        cluster.apply(&format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {SYSTEM}}}\n"
        ));
        let chart = checkout().join("charts/virga");
        let template = |files: &[&str]| {
            let chart = chart.to_string_lossy();
            let mut args = vec!["template", "virga", &chart, "--namespace", SYSTEM];
            args.extend(files.iter().flat_map(|file| ["--show-only", file]));
            cluster.helm(&args)
        };
        cluster.apply(&template(&[
            "templates/policies.yaml",
            "templates/rbac-agent.yaml",
            "templates/rbac-controller.yaml",
            "templates/rbac-projects.yaml",
        ]));
        let mut objects = Vec::new();
        for document in template(&["templates/services.yaml", "templates/webhooks.yaml"]).split("\n---\n") {
            let mut object: Value = serde_yaml::from_str(document).unwrap();
            // A Service without a selector leads to where its EndpointSlice says: the certificate is checked as it is
            // in a cluster, by the Service's name.
            if object["kind"] == "Service" {
                object["spec"]["selector"] = Value::Null;
                objects.push(serde_yaml::to_string(&self.endpoints_of(&object)).unwrap());
            }
            if object.is_object() {
                objects.push(serde_yaml::to_string(&object).unwrap());
            }
        }
        cluster.apply(&objects.join("\n---\n"));
        let token = cluster.kubectl(&["create", "token", ACCOUNT, "--namespace", SYSTEM, "--duration=24h"]);
        let text = fs::read_to_string(cluster.kubeconfig()).unwrap();
        let mut kubeconfig: Value = serde_yaml::from_str(&text).unwrap();
        for user in kubeconfig["users"].as_array_mut().unwrap() {
            user["user"] = json!({"token": token.trim()});
        }
        fs::write(self.kubeconfig(), serde_yaml::to_string(&kubeconfig).unwrap()).unwrap();
    }

    fn endpoints_of(&self, service: &Value) -> Value {
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "name": service["metadata"]["name"], "namespace": SYSTEM,
                "labels": {"kubernetes.io/service-name": service["metadata"]["name"]},
            },
            "ports": [{"name": service["spec"]["ports"][0]["name"], "port": self.shared.ports[0]}],
            "endpoints": [{"addresses": [own_address()], "conditions": {"ready": true}}],
        })
    }

    fn kubeconfig(&self) -> PathBuf {
        self.shared.folder.path().join("controller.kubeconfig")
    }

    fn log(&self) -> PathBuf {
        self.shared.folder.path().join("controller.log")
    }

    async fn spawn(&self) {
        let log = File::options().create(true).append(true).open(self.log()).unwrap();
        let [webhooks, health, metrics, _] = self.shared.ports.map(|port| format!("0.0.0.0:{port}"));
        let child = Command::new("bash")
            .args(["-c", LEASH, "leash"])
            .arg(program())
            .args(["--webhook-address", &webhooks, "--health-address", &health])
            .args(["--metrics-address", &metrics, "--namespace", SYSTEM])
            .args(["--debug-address", &self.debug_address().to_string()])
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .env_remove("KUBECONFIG")
            .env("NO_COLOR", "1")
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        *self.shared.child.lock().await = Some(child);
    }

    /// Where it tells what was decided.
    pub fn debug_address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.shared.ports[3]).into()
    }

    /// Waits until it leads and admission reaches it.
    async fn answers(&self) {
        eventually("the controller admits and places", START, async || {
            let probe = serde_yaml::to_string(&instance("probe", "there-is-none")).unwrap();
            let said = self.cluster.kubectl_says_of(
                &["create", "--dry-run=server", "--filename=-", "--namespace=default"],
                &probe,
            );
            let log = fs::read_to_string(self.log()).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(15).collect();
            let known = said.ok && said.stderr.contains("there-is-none");
            known
                .then_some(())
                .ok_or_else(|| format!("{}\n{}", said.stderr, last.join("\n")))
        })
        .await;
    }

    /// Waits until the scheduler's stores have the test's last object before the Instances: its Flavor.
    pub async fn knows_flavor(&self, t: &Case, flavor: &str) {
        let flavors: Api<Flavor> = Api::all(t.client.clone());
        eventually("the controller knows the flavor and finds a host", START, async || {
            let dry_run = PostParams {
                dry_run: true,
                ..PostParams::default()
            };
            let made = t.api().create(&dry_run, &instance("probe", flavor)).await;
            let made = made.map_err(|error| error.to_string())?;
            flavors.get(flavor).await.map_err(|error| error.to_string())?;
            let log = fs::read_to_string(self.log()).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(15).collect();
            made.spec
                .node_name
                .map(drop)
                .ok_or_else(|| format!("not placed\n{}", last.join("\n")))
        })
        .await;
    }
}

/// What `cargo xtask image` built last.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(3).unwrap().join("release/virga-controller");
    assert!(
        program.exists(),
        "{}: missing; `cargo xtask image` makes it",
        program.display()
    );
    program
}

/// An address of this machine that may stand in an EndpointSlice: a loopback address may not.
fn own_address() -> IpAddr {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    // Nothing is sent: this asks the kernel which address it would send from.
    socket
        .connect(("192.0.2.1", 9))
        .expect("a network besides the loopback interface");
    socket.local_addr().unwrap().ip()
}

fn free_ports() -> [u16; 4] {
    let listeners = [(); 4].map(|()| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}
