//! A real ovsdb-server with OVN's north-bound schema, in a temporary folder, without root. Behind the feature `testing`.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

mod northd;

pub use northd::Northd;

use crate::{
    Options,
    northbound::{DATABASE, TABLES},
    remote::Remote,
};

/// From Debian's ovn-central.
const SCHEMA: &str = "/usr/share/ovn/ovn-nb.ovsschema";

/// One server. It ends when this is dropped.
#[derive(Debug)]
pub struct Server {
    folder: TempDir,
    child: Option<Child>,
}

impl Server {
    /// An empty database, served on a Unix socket. `cargo xtask deps` installs what it takes.
    pub fn start() -> io::Result<Self> {
        let mut server = Self {
            folder: TempDir::new()?,
            child: None,
        };
        server.create()?;
        server.boot()?;
        Ok(server)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn create(&self) -> io::Result<()> {
        let mut tool = Command::new("ovsdb-tool");
        let made = tool
            .arg("create")
            .args([&self.at("nb.db"), Path::new(SCHEMA)])
            .status()?;
        if made.success() {
            Ok(())
        } else {
            Err(io::Error::other(format!(
                "ovsdb-tool can't make a database of {SCHEMA}"
            )))
        }
    }

    /// Starts it with the database that it had.
    pub fn boot(&mut self) -> io::Result<()> {
        self.kill();
        let child = Command::new("ovsdb-server")
            .arg(format!("--remote=punix:{}", self.at("sock").display()))
            .arg(format!("--unixctl={}", self.at("ctl").display()))
            .args(["--no-chdir", "--log-file=/dev/null"])
            .arg(self.at("nb.db"))
            .env("OVS_RUNDIR", self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        self.child = Some(child);
        Ok(())
    }

    /// SIGKILL, and gone when this returns.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may be gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.at("sock")
    }

    /// Its number, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Kills it, and makes its database anew.
    pub fn empty(&mut self) -> io::Result<()> {
        self.kill();
        fs::remove_file(self.at("nb.db"))?;
        self.create()
    }

    /// For an impatient client.
    pub fn options(&self) -> Options {
        Options {
            shortest_pause: Duration::from_millis(20),
            longest_pause: Duration::from_millis(200),
            ..Options::new(vec![Remote::Unix(self.at("sock"))], DATABASE, TABLES.to_vec())
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
