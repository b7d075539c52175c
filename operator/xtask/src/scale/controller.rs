//! The controller's process, and what it tells.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Error;
use crate::file;

/// For all that is there to be listed, on a machine that does everything else too.
const LIMIT: Duration = Duration::from_mins(10);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// For one answer of the process itself.
const ANSWER: Duration = Duration::from_secs(5);

/// A process that ends with the value.
pub struct Controller {
    child: Child,
    began: Instant,
    health: SocketAddr,
    metrics: SocketAddr,
    folder: tempfile::TempDir,
}

impl Controller {
    /// Starts the program that was built last.
    pub fn start(kubeconfig: &Path) -> Result<Self, Error> {
        let program = program();
        let folder = tempfile::tempdir().map_err(file::failed("making", "a folder for the log"))?;
        let failed = |source| Error::Program {
            program: program.display().to_string(),
            source,
        };
        let [webhooks, health, metrics] = free_addresses().map_err(failed)?;
        let log = folder.path().join("log");
        let log = File::create(&log).map_err(file::failed("making", &log))?;
        let began = Instant::now();
        let child = Command::new(&program)
            .args(["--webhook-address", &webhooks.to_string()])
            .args(["--health-address", &health.to_string()])
            .args(["--metrics-address", &metrics.to_string()])
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .env_remove("KUBECONFIG")
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            .spawn()
            .map_err(failed)?;
        Ok(Self {
            child,
            began,
            health,
            metrics,
            folder,
        })
    }

    /// Since its start, until every watch has its list.
    pub async fn until_filled(&self) -> Result<Duration, Error> {
        self.until(self.health, "/readyz", "stores: ok").await
    }

    /// Since its start, until it places Instances.
    pub async fn until_leading(&self) -> Result<Duration, Error> {
        self.until(self.metrics, "/metrics", "virga_leader 1").await
    }

    /// `Pss` of proc_pid_smaps(5); 0 when it has ended.
    pub fn pss_kib(&self) -> u64 {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id())).unwrap_or_default();
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
        let number = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok());
        number.unwrap_or(0)
    }

    async fn until(&self, address: SocketAddr, path: &str, line: &str) -> Result<Duration, Error> {
        while self.began.elapsed() < LIMIT {
            // It listens a moment after its start.
            if get(address, path).is_ok_and(|text| text.lines().any(|told| told == line)) {
                return Ok(self.began.elapsed());
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let last: Vec<&str> = log.lines().rev().take(5).collect();
        Err(Error::Late {
            limit_s: LIMIT.as_secs(),
            log: last.join(" / "),
        })
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER)?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// Where `cargo xtask image` leaves it.
fn program() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| file::checkout().join("target"), PathBuf::from);
    target.join("release/virga-controller")
}

/// Three that were free at the same time.
fn free_addresses() -> io::Result<[SocketAddr; 3]> {
    let listener = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let listeners = [listener()?, listener()?, listener()?];
    let [a, b, c] = listeners.each_ref().map(TcpListener::local_addr);
    Ok([a?, b?, c?])
}
