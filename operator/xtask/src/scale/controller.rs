//! The controller's process, and what it tells.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Error;
use crate::file;

/// Where each replica serves webhooks, at an address of its own.
pub const WEBHOOK_PORT: u16 = 8443;
const HEALTH_PORT: u16 = 8081;
const METRICS_PORT: u16 = 9090;
/// For all that is there to be listed, on a machine that does everything else too.
const LIMIT: Duration = Duration::from_mins(10);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// It drains for 15 s and lingers for 5 s.
const END: Duration = Duration::from_secs(30);
/// For one answer of the process itself.
const ANSWER: Duration = Duration::from_secs(5);

/// A process that ends with the value.
pub struct Controller {
    child: Child,
    began: Instant,
    /// Where it is.
    pub address: Ipv4Addr,
    folder: tempfile::TempDir,
}

/// What it has decided since it began.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Decided {
    /// How many decisions.
    pub count: f64,
    /// How many of them found a host.
    pub placed: f64,
    /// How many seconds they took, all together.
    pub seconds: f64,
}

impl Controller {
    /// Starts the program that was built last, at this address.
    pub fn start(kubeconfig: &Path, address: Ipv4Addr) -> Result<Self, Error> {
        let program = program("virga-controller");
        let folder = tempfile::tempdir().map_err(file::failed("making", "a folder for the log"))?;
        let failed = |source| Error::Program {
            program: format!("{}: build it with `cargo xtask image`", program.display()),
            source,
        };
        let log = folder.path().join("log");
        let log = File::create(&log).map_err(file::failed("making", &log))?;
        let at = |port: u16| SocketAddr::from((address, port)).to_string();
        let began = Instant::now();
        let child = Command::new(&program)
            .args(["--webhook-address", &at(WEBHOOK_PORT)])
            .args(["--health-address", &at(HEALTH_PORT)])
            .args(["--metrics-address", &at(METRICS_PORT)])
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .env_remove("KUBECONFIG")
            // Replicas share one loopback interface, and nobody asks there.
            .env("VIRGA_DEBUG_ADDRESS", "")
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            .spawn()
            .map_err(failed)?;
        Ok(Self {
            child,
            began,
            address,
            folder,
        })
    }

    /// Since its start, until every watch has its list.
    pub async fn until_filled(&self) -> Result<Duration, Error> {
        self.until(HEALTH_PORT, "/readyz", "stores: ok").await
    }

    /// Since its start, until it places Instances.
    pub async fn until_leading(&self) -> Result<Duration, Error> {
        self.until(METRICS_PORT, "/metrics", "virga_leader 1").await
    }

    /// Whether it leads at this moment.
    pub fn leads(&self) -> bool {
        self.metrics().lines().any(|line| line == "virga_leader 1")
    }

    /// What it has decided.
    pub fn decided(&self) -> Decided {
        Decided::parse(&self.metrics())
    }

    /// Asks it to end, so that it gives its leadership back, and waits until it has.
    pub fn stop(mut self) {
        // It is killed in any case when this ends.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let asked = Instant::now();
        while asked.elapsed() < END && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `Pss` of proc_pid_smaps(5); 0 when it has ended.
    pub fn pss_kib(&self) -> u64 {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id())).unwrap_or_default();
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
        let number = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok());
        number.unwrap_or(0)
    }

    fn metrics(&self) -> String {
        get((self.address, METRICS_PORT).into(), "/metrics").unwrap_or_default()
    }

    async fn until(&self, port: u16, path: &str, line: &str) -> Result<Duration, Error> {
        let address = (self.address, port).into();
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
        self.kill();
    }
}

impl Decided {
    fn parse(text: &str) -> Self {
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|value| value.trim().parse().ok()).unwrap_or(0.0)
        };
        Self {
            count: value("virga_schedule_seconds_count"),
            placed: value("virga_schedule_attempts_total{result=\"placed\"}"),
            seconds: value("virga_schedule_seconds_sum"),
        }
    }

    /// What came after `before`.
    pub fn since(self, before: Self) -> Self {
        Self {
            count: self.count - before.count,
            placed: self.placed - before.placed,
            seconds: self.seconds - before.seconds,
        }
    }
}

/// What a process answers, with the head.
pub fn get(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER)?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// Where `cargo xtask image` leaves a process's program.
pub fn program(name: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| file::checkout().join("target"), PathBuf::from);
    target.join("release").join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_are_read_from_the_metrics() {
        let text = "virga_schedule_attempts_total{result=\"placed\"} 3\nvirga_schedule_attempts_total{result=\"refused\"} 1\n\
                    virga_schedule_seconds_sum 0.25\nvirga_schedule_seconds_count 4\nvirga_schedule_seconds_bucket{le=\"1.0\"} 4\n";
        let decided = Decided::parse(text);
        assert_eq!((decided.count, decided.placed), (4.0, 3.0));
        assert_eq!(decided.since(decided), Decided::default());
    }
}
