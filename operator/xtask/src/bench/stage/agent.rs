//! The agent's process, with the rights that it has on its node.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::node::Node;
use super::{Driver, Error, HOST, text, until};
use crate::bench::effects::Effects;
use crate::file;
use crate::scale::Cloud;
use crate::scale::controller::{get, program};

const METRICS_PORT: u16 = 9190;
const HEALTH_PORT: u16 = 8082;
const TRANSFER_PORT: u16 = 9192;
/// A host in the agent's own process.
const TEST_URI: &str = "test:///default";

/// It ends with the value; guests run on.
pub struct Agent {
    child: Child,
    address: Ipv4Addr,
    folder: tempfile::TempDir,
}

impl Agent {
    /// Starts the program that was built last, at this address, and waits until it answers.
    pub async fn start(cloud: &Cloud, node: &Node, driver: Driver, address: Ipv4Addr) -> Result<Self, Error> {
        let folder = tempfile::tempdir().map_err(file::failed("making", "a folder for the agent"))?;
        let kubeconfig = folder.path().join("kubeconfig");
        cloud.agent_kubeconfig(HOST, &kubeconfig)?;
        let log = folder.path().join("log");
        let file = File::create(&log).map_err(file::failed("making", &log))?;
        let program = program("virga-agent");
        let failed = file::failed("starting (it is built by `cargo xtask image`)", &program);
        let at = |port: u16| SocketAddr::from((address, port)).to_string();
        let (domain_type, uri) = match driver {
            Driver::Qemu => ("qemu", node.uri()),
            // It knows one type of domains only.
            Driver::Test => ("auto", TEST_URI.to_owned()),
        };
        let second = file.try_clone().map_err(file::failed("opening", &log))?;
        let child = Command::new(&program)
            .args(["--node-name", HOST, "--domain-type", domain_type, "--min-free-gib=0"])
            .args(["--host-ip", &address.to_string()])
            .args(["--data-dir", &text(&node.data())])
            .args(["--kubeconfig", &text(&kubeconfig)])
            .args(["--health-address", &at(HEALTH_PORT)])
            .args(["--metrics-address", &at(METRICS_PORT)])
            .args(["--transfer-address", &at(TRANSFER_PORT)])
            .args(["--libvirt-uri", &uri])
            .env_remove("KUBECONFIG")
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(second)
            .spawn()
            .map_err(failed)?;
        let agent = Self { child, address, folder };
        until("the agent", || async {
            // It listens a moment after its start.
            let ready = get((address, HEALTH_PORT).into(), "/readyz").unwrap_or_default();
            let so = ready.lines().next().is_some_and(|line| line.contains(" 200 "));
            Ok((so, format!("{ready}; its log ends with {}", agent.last_words())))
        })
        .await?;
        Ok(agent)
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How long its steps took.
    pub fn effects(&self) -> Effects {
        Effects::parse(&get((self.address, METRICS_PORT).into(), "/metrics").unwrap_or_default())
    }

    /// The end of its log.
    pub fn last_words(&self) -> String {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let last: Vec<&str> = log.lines().rev().take(8).collect();
        last.join(" / ")
    }

    /// Where its log is.
    pub fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
