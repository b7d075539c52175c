//! Which cluster do tests run on, and how is it asked?

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use virga_lab::progress::Progress;
use virga_lab::{Administered, ControlPlane, binaries};

use crate::checkout;

/// The longest that a program may run, for `timeout`: a Helm that waits for a roll-out.
const PROGRAM_LIMIT: &str = "300";

/// A cluster, as its administrator sees it.
#[derive(Clone, Debug)]
pub struct Cluster {
    kubeconfig: PathBuf,
    kubectl: PathBuf,
}

/// What a program said and whether it succeeded.
#[derive(Clone, Debug)]
pub struct Said {
    /// Whether it ended well.
    pub ok: bool,
    /// What it printed.
    pub stdout: String,
    /// Its errors and warnings.
    pub stderr: String,
}

impl Cluster {
    /// The cluster of this kubeconfig; `kubectl` is the program.
    pub fn new(kubeconfig: impl Into<PathBuf>, kubectl: impl Into<PathBuf>) -> Self {
        Self {
            kubeconfig: kubeconfig.into(),
            kubectl: kubectl.into(),
        }
    }

    /// What the lab crate has made.
    pub fn of(made: &impl Administered) -> Self {
        Self::new(made.kubeconfig(), made.bin().join("kubectl"))
    }

    /// An apiserver, etcd and controller manager, one for all tests of this process, with Virga's definitions. It ends
    /// with the process.
    pub fn api_only() -> &'static Self {
        static RUNNING: OnceLock<(ControlPlane, Cluster)> = OnceLock::new();
        let (_, cluster) = RUNNING.get_or_init(|| {
            let running = ControlPlane::up().unwrap_or_else(|error| panic!("{}", virga_lab::chain(&error)));
            let cluster = Self::of(&running);
            cluster.install_definitions();
            (running, cluster)
        });
        cluster
    }

    fn install_definitions(&self) {
        let definitions = checkout().join("crds/yaml");
        let definitions = definitions.to_string_lossy();
        self.kubectl(&["apply", "--server-side", "--filename", &definitions]);
        self.kubectl(&[
            "wait",
            "--for=condition=Established",
            "customresourcedefinitions",
            "--all",
            "--timeout=30s",
        ]);
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The administrator's client.
    pub async fn client(&self) -> Client {
        self.client_with(|_| {}).await
    }

    /// A client that shows this bearer token instead of the administrator's certificate.
    pub async fn client_with_token(&self, token: &str) -> Client {
        self.client_with(|config| {
            config.auth_info = kube::config::AuthInfo {
                token: Some(token.to_owned().into()),
                ..kube::config::AuthInfo::default()
            };
        })
        .await
    }

    /// The administrator's client with something changed.
    pub async fn client_with(&self, change: impl FnOnce(&mut Config)) -> Client {
        // Whoever is first wins, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let kubeconfig =
            Kubeconfig::read_from(&self.kubeconfig).unwrap_or_else(|error| panic!("the kubeconfig: {error}"));
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .unwrap_or_else(|error| panic!("the kubeconfig: {error}"));
        change(&mut config);
        Client::try_from(config).unwrap_or_else(|error| panic!("the client: {error}"))
    }

    /// Runs kubectl, which must succeed; returns what it printed.
    pub fn kubectl(&self, args: &[&str]) -> String {
        self.kubectl_says(args).must(args)
    }

    /// Runs kubectl, whatever comes of it.
    pub fn kubectl_says(&self, args: &[&str]) -> Said {
        self.run(&self.kubectl, args, "")
    }

    /// [`Cluster::kubectl_says`] with something on standard input.
    pub fn kubectl_says_of(&self, args: &[&str], input: &str) -> Said {
        self.run(&self.kubectl, args, input)
    }

    /// `kubectl apply` of this YAML, which must succeed.
    pub fn apply(&self, yaml: &str) -> String {
        self.apply_says(yaml).must(&["apply"])
    }

    /// `kubectl apply` of this YAML, whatever comes of it.
    pub fn apply_says(&self, yaml: &str) -> Said {
        self.kubectl_says_of(&["apply", "--filename=-"], yaml)
    }

    /// Runs Helm, which must succeed; returns what it printed.
    pub fn helm(&self, args: &[&str]) -> String {
        self.helm_says(args).must(args)
    }

    /// Runs Helm, whatever comes of it.
    pub fn helm_says(&self, args: &[&str]) -> Said {
        let helm = binaries::helm(Progress::start()).unwrap_or_else(|error| panic!("{}", virga_lab::chain(&error)));
        self.run(&helm, args, "")
    }

    /// Judges objects, as `kubectl get --output=yaml` prints them, by the rules of kstatus: `Kind/name: Status`.
    pub fn kstatus(&self, objects: &str) -> Vec<virga_lab::ObjectStatus> {
        virga_lab::kstatus(objects).unwrap_or_else(|error| panic!("{}", virga_lab::chain(&error)))
    }

    fn run(&self, program: &Path, args: &[&str], input: &str) -> Said {
        let mut command = Command::new("timeout");
        command.arg(PROGRAM_LIMIT).arg(program).args(args);
        command.env("KUBECONFIG", &self.kubeconfig);
        // `kubectl diff` runs one, and its words are compared.
        command.env("LC_ALL", "C");
        run(command, input)
    }
}

/// Runs a program to its end.
pub(crate) fn run(mut command: Command, input: &str) -> Said {
    let stdin = if input.is_empty() {
        Stdio::null()
    } else {
        Stdio::piped()
    };
    let program = command.get_program().to_os_string();
    let failed = |error| panic!("running {}: {error}", OsStr::display(&program));
    let mut child = command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(failed);
    let pipe = child.stdin.take();
    let input = input.to_owned();
    let feeder = thread::spawn(move || {
        if let Some(mut pipe) = pipe {
            // A program may end without reading all of it.
            let _ = pipe.write_all(input.as_bytes());
        }
    });
    let output = child
        .wait_with_output()
        .unwrap_or_else(|error| panic!("running {}: {error}", OsStr::display(&program)));
    // It has nobody left to write to.
    let _ = feeder.join();
    Said {
        ok: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Said {
    /// What it printed; panics with its errors if it failed.
    #[track_caller]
    pub fn must(self, args: &[&str]) -> String {
        assert!(self.ok, "{args:?} failed:\n{}{}", self.stdout, self.stderr);
        self.stdout
    }

    /// Its errors; panics if it succeeded.
    #[track_caller]
    pub fn must_fail(self) -> String {
        assert!(!self.ok, "succeeded, but must not:\n{}", self.stdout);
        self.stderr
    }
}
