//! Real servers for tests: in a temporary folder, on Unix sockets, without root. They end with their test.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value as Json;
use tempfile::TempDir;
use tokio::time::timeout;
use virga_ovsdb::{
    Client, Options,
    client::{Changes, News, State},
    northbound::{DATABASE, TABLES},
    remote::Remote,
    replica::{Replica, RowChange},
};

/// From Debian's ovn-central.
pub const SCHEMA: &str = "/usr/share/ovn/ovn-nb.ovsschema";
/// Longer than anything takes on a busy machine.
pub const LONG: Duration = Duration::from_mins(1);

/// OVN's schema as it is installed.
pub fn schema() -> virga_ovsdb::schema::Schema {
    let text = fs::read_to_string(SCHEMA).expect("ovn-central is installed by `cargo xtask deps`");
    virga_ovsdb::schema::Schema::parse(&serde_json::from_str::<Json>(&text).unwrap()).unwrap()
}

/// Runs a tool of OVSDB's to its end.
pub fn tool(name: &str, arguments: &[&str]) {
    let output = Command::new(name).args(arguments).output();
    let output = output.expect("openvswitch-common is installed by `cargo xtask deps`");
    assert!(output.status.success(), "{name} {arguments:?}: {output:?}");
}

/// One ovsdb-server.
pub struct Server {
    folder: TempDir,
    database: PathBuf,
    arguments: Vec<String>,
    child: Option<Child>,
}

impl Server {
    /// An empty database, served on a Unix socket.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same, with more arguments.
    pub fn start_with(arguments: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let database = folder.path().join("nb.db");
        tool("ovsdb-tool", &["create", text(&database), SCHEMA]);
        let mut server = Self::stopped(folder, arguments);
        server.boot();
        server
    }

    /// A server that is not running, for a database file `nb.db` in a folder.
    pub fn stopped(folder: TempDir, arguments: &[&str]) -> Self {
        Self {
            database: folder.path().join("nb.db"),
            folder,
            arguments: arguments.iter().map(ToString::to_string).collect(),
            child: None,
        }
    }

    pub fn boot(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let folder = self.folder.path();
        let log = fs::File::create(folder.join("log")).unwrap();
        let child = Command::new("ovsdb-server")
            .arg(format!("--remote=punix:{}", text(&folder.join("sock"))))
            .arg(format!("--unixctl={}", text(&folder.join("ctl"))))
            .args(["--no-chdir", "-vconsole:info"])
            .args(&self.arguments)
            .arg(&self.database)
            .env("OVS_RUNDIR", folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.child = Some(child.expect("openvswitch-common is installed by `cargo xtask deps`"));
    }

    pub fn socket(&self) -> Remote {
        Remote::Unix(self.folder.path().join("sock"))
    }

    /// SIGKILL, and gone when this returns.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// SIGSTOP or SIGCONT.
    pub fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        tool("kill", &[&format!("-{signal}"), &pid]);
    }

    /// Makes the database file anew.
    pub fn empty(&mut self) {
        self.kill();
        fs::remove_file(&self.database).unwrap();
        tool("ovsdb-tool", &["create", text(&self.database), SCHEMA]);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Also after a panic; it may be gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Impatient options for tests.
pub fn options(remotes: Vec<Remote>) -> Options {
    Options {
        request_timeout: Duration::from_secs(20),
        shortest_pause: Duration::from_millis(20),
        longest_pause: Duration::from_millis(200),
        ..Options::new(remotes, DATABASE, TABLES.to_vec())
    }
}

/// A client whose replica is up to date.
pub async fn connect(server: &Server) -> Client {
    let client = Client::start(options(vec![server.socket()]));
    synced(&client).await;
    client
}

pub async fn synced(client: &Client) -> u64 {
    let Ok(epoch) = timeout(LONG, client.synced()).await else {
        panic!("not synced: {:?}", *client.state().borrow());
    };
    epoch.unwrap()
}

/// Waits until the state is as wanted.
pub async fn state(client: &Client, wanted: impl FnMut(&State) -> bool) -> State {
    let mut state = client.state();
    let found = timeout(LONG, state.wait_for(wanted)).await;
    found.expect("the state should come").unwrap().clone()
}

/// Waits until the connection is lost or refused, and says why.
pub async fn down(client: &Client, words: &str) -> String {
    match state(
        client,
        |state| matches!(state, State::Down { error } if error.contains(words)),
    )
    .await
    {
        State::Down { error } => error.to_string(),
        other => panic!("{other:?}"),
    }
}

/// Waits until the replica is as wanted.
pub async fn replica(client: &Client, changes: &mut Changes, mut wanted: impl FnMut(&Replica) -> bool) {
    let waiting = async {
        while !client.read(&mut wanted) {
            changes.next().await.expect("the client should live");
        }
    };
    timeout(LONG, waiting).await.expect("the replica should come to it");
}

/// The next batch of changes.
pub async fn rows(changes: &mut Changes) -> Vec<RowChange> {
    match timeout(LONG, changes.next()).await.expect("changes should come") {
        Some(News::Rows(rows)) => rows.to_vec(),
        other => panic!("{other:?}"),
    }
}
