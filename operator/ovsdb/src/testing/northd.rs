//! Both databases with the real ovn-northd between them, and ovn-trace, which says what OVN would do with a packet.

use std::{
    io,
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::Server;
use crate::{Options, remote::Remote, southbound};

/// From Debian's ovn-central.
const SCHEMA: &str = "/usr/share/ovn/ovn-sb.ovsschema";

/// Longer than anything takes on a busy machine.
const LONG: Duration = Duration::from_mins(1);

/// OVN without hosts. It ends when this is dropped.
#[derive(Debug)]
pub struct Northd {
    northbound: Server,
    children: Vec<Child>,
}

impl Northd {
    /// Empty databases.
    pub fn start() -> io::Result<Self> {
        let mut this = Self {
            northbound: Server::start()?,
            children: Vec::new(),
        };
        let database = this.at("sb.db").display().to_string();
        said(Command::new("ovsdb-tool").args(["create", &database, SCHEMA]))?;
        let mut server = Command::new("ovsdb-server");
        server
            .arg(format!("--remote=punix:{}", this.at("sb.sock").display()))
            .arg(format!("--unixctl={}", this.at("sb.ctl").display()))
            .args(["--no-chdir", "--log-file=/dev/null", &database]);
        this.spawn(server)?;
        let mut northd = Command::new("ovn-northd");
        northd
            .arg(format!("--ovnnb-db={}", this.northbound_at()))
            .arg(format!("--ovnsb-db={}", this.southbound_at()))
            .arg(format!("--unixctl={}", this.at("northd.ctl").display()))
            .args(["--no-chdir", "--log-file=/dev/null"]);
        // Who finds no database tries again only after a second. A socket is there before anybody listens to it.
        let began = Instant::now();
        let listens = |socket: &str| UnixStream::connect(this.at(socket)).is_ok();
        while !(listens("sb.sock") && listens("sock")) && began.elapsed() < LONG {
            std::thread::sleep(Duration::from_millis(1));
        }
        this.spawn(northd)?;
        Ok(this)
    }

    /// The north-bound database's server.
    pub fn northbound(&self) -> &Server {
        &self.northbound
    }

    /// For a client of the south-bound database.
    pub fn southbound(&self) -> Options {
        Options::new(
            vec![Remote::Unix(self.at("sb.sock"))],
            southbound::DATABASE,
            southbound::TABLES.to_vec(),
        )
    }

    /// Returns when ovn-northd has done what the north-bound database says.
    pub fn sync(&self) -> io::Result<()> {
        let at = format!("--db={}", self.northbound_at());
        let sync = ["--timeout=60", "--wait=sb", "sync"];
        said(Command::new("ovn-nbctl").arg(at).args(sync)).map(drop)
    }

    /// What ovn-sbctl answers.
    pub fn sbctl(&self, args: &[&str]) -> io::Result<String> {
        let at = format!("--db={}", self.southbound_at());
        said(Command::new("ovn-sbctl").args([&at, "--timeout=60"]).args(args))
    }

    /// What would become of a packet of a flow that is under way.
    pub fn trace(&self, packet: &str) -> io::Result<String> {
        self.traced(&["--minimal", packet])
    }

    /// What would become of the first packet of a flow, with all that is said on the way.
    pub fn trace_first(&self, packet: &str) -> io::Result<String> {
        self.traced(&["--summary", "--ct=new", "--ct=new", packet])
    }

    /// The same of one that is tracked on three ways: by the sender, by a load balancer and by the receiver.
    pub fn trace_shared(&self, packet: &str) -> io::Result<String> {
        self.traced(&["--summary", "--ct=new", "--ct=new", "--ct=new", packet])
    }

    /// What would become of a packet that both ends' connection tracking says this of, such as `new`.
    pub fn trace_as(&self, state: &str, packet: &str) -> io::Result<String> {
        let state = format!("--ct={state}");
        self.traced(&["--minimal", &state, &state, packet])
    }

    /// What would become of the first packet of a flow, however often it is tracked on the way.
    pub fn trace_new(&self, packet: &str) -> io::Result<String> {
        let mut args = vec!["--minimal"];
        args.extend(["--ct=new"; 8]);
        args.push(packet);
        self.traced(&args)
    }

    fn traced(&self, args: &[&str]) -> io::Result<String> {
        let at = format!("--db={}", self.southbound_at());
        said(Command::new("ovn-trace").args([&at, "--no-friendly-names"]).args(args))
    }

    fn at(&self, name: &str) -> PathBuf {
        self.northbound.at(name)
    }

    fn northbound_at(&self) -> String {
        format!("unix:{}", self.at("sock").display())
    }

    fn southbound_at(&self) -> String {
        format!("unix:{}", self.at("sb.sock").display())
    }

    fn spawn(&mut self, mut command: Command) -> io::Result<()> {
        let folder = self.northbound.folder.path();
        let child = command
            .env("OVS_RUNDIR", folder)
            .env("OVN_RUNDIR", folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        self.children.push(child);
        Ok(())
    }
}

impl Drop for Northd {
    fn drop(&mut self) {
        for child in self.children.iter_mut().rev() {
            // It may be gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn said(command: &mut Command) -> io::Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(io::Error::other(format!("{command:?}: {}", text(&output.stderr))))
    }
}
