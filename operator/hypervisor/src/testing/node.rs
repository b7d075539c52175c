//! A libvirtd of a test's own, in namespaces of its own.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::eventually;

/// Where the daemons are installed.
const LIBVIRTD: &str = "/usr/sbin/libvirtd";
const VIRTLOGD: &str = "/usr/sbin/virtlogd";
const START: Duration = Duration::from_secs(30);

/// Runs as process 1 of the new namespaces, in `$1`. It ends, and everything in the namespaces with it, when its
/// standard input does: that is, when the test drops the node, panics or is killed. bash, because it reaps the orphans
/// that it gets: libvirt waits for its QEMU's process to be gone.
const INIT: &str = r#"
set -e
dir=$1
exec 3<&0 </dev/null
hostname "$2"
ip link set lo up
mount -t tmpfs tmpfs /run
mkdir -p /run/libvirt /run/lock
mount --bind "$dir/hosts" /etc/hosts
mount --bind "$dir/resolv.conf" /etc/resolv.conf
mount --bind "$dir/etc" /etc/libvirt
mount --bind "$dir/run" /run/libvirt
for kind in lib cache log; do
  mkdir -p "/var/$kind/libvirt"
  mount --bind "$dir/$kind" "/var/$kind/libvirt"
done
mkdir -p /run/libvirt/common /var/lib/libvirt/images /var/lib/libvirt/qemu /var/lib/libvirt/boot \
  /var/lib/libvirt/dnsmasq /var/lib/libvirt/network
/usr/sbin/virtlogd -d -p /run/libvirt/virtlogd.pid
/usr/sbin/libvirtd -d -p /run/libvirt/libvirtd.pid
cat <&3 >/dev/null &
wait $!
"#;

const LIBVIRTD_CONF: &str = r#"
unix_sock_group = "root"
auth_unix_rw = "none"
auth_unix_ro = "none"
"#;

const QEMU_CONF: &str = r#"
user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = [ ]
namespaces = [ ]
max_core = 0
"#;

/// A libvirtd with its own network, mounts, host name and processes. Everything ends with it.
#[derive(Debug)]
pub struct Node {
    // Before `dir`, so that the directory is still there while the processes end.
    init: Init,
    dir: TempDir,
}

#[derive(Debug)]
struct Init {
    unshare: Child,
    pid: u32,
}

impl Node {
    /// Starts one. `None`, said loudly, when libvirtd is not installed; needs root.
    pub fn start() -> Option<Node> {
        if !Path::new(LIBVIRTD).exists() || !Path::new(VIRTLOGD).exists() {
            eprintln!(
                "\n!!! SKIPPED: {LIBVIRTD} or {VIRTLOGD} is not installed, so nothing was tested on libvirt !!!\n"
            );
            return None;
        }
        let dir = tempfile::Builder::new()
            .prefix("virga-node-")
            .tempdir()
            .expect("a temporary directory");
        prepare(dir.path()).expect("preparing the node's directory");
        let log = std::fs::File::create(dir.path().join("start.log")).expect("a log file");
        let unshare = Command::new("unshare")
            .args([
                "--net",
                "--mount",
                "--uts",
                "--pid",
                "--fork",
                "--mount-proc",
                "--kill-child",
            ])
            .args(["--propagation", "private", "bash", "-c", INIT, "init"])
            .arg(dir.path())
            .arg("virga-node")
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("unshare (util-linux) must be installed, and tests that use libvirt need root");
        let mut node = Node {
            init: Init { unshare, pid: 0 },
            dir,
        };
        let socket = node.dir.path().join("run/libvirt-sock");
        eventually("libvirtd's socket", START, || {
            let log = || std::fs::read_to_string(node.dir.path().join("start.log")).unwrap_or_default();
            let ended = node
                .init
                .unshare
                .try_wait()
                .expect("asking for the namespaces' first process");
            assert!(ended.is_none(), "the node did not start (root is needed): {}", log());
            listens(&socket)
        });
        node.init.pid = node.init.child_pid().expect("the first process of the namespaces");
        Some(node)
    }

    /// Its connection URI.
    pub fn uri(&self) -> String {
        format!(
            "qemu:///system?socket={}",
            self.dir.path().join("run/libvirt-sock").display()
        )
    }

    /// A directory for disks and logs, under the same path inside and outside.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Where libvirt keeps the saved memory of the domain with this name.
    pub fn saved_memory(&self, domain: &str) -> PathBuf {
        self.dir.path().join(format!("lib/qemu/save/{domain}.save"))
    }

    /// Runs a command inside, for at most a minute. What it leaves in the background must not keep its output open.
    pub fn run(&self, program: &str, arguments: &[&str]) -> io::Result<Output> {
        Command::new("timeout")
            .args(["60", "nsenter", "--target", &self.init.pid.to_string()])
            .args(["--net", "--mount", "--uts", "--pid", program])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
    }

    /// Runs a shell script inside and gives back what it printed.
    pub fn shell(&self, script: &str) -> String {
        let output = self
            .run("sh", &["-c", script])
            .expect("nsenter (util-linux) must be installed");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// `kill -9` for the daemon; guests run on.
    pub fn kill_daemon(&self) -> ExitStatus {
        self.signal_daemon("KILL")
    }

    /// Sends the daemon a signal, such as `STOP` and `CONT`.
    pub fn signal_daemon(&self, signal: &str) -> ExitStatus {
        let script = format!("kill -{signal} $(cat /run/libvirt/libvirtd.pid)");
        self.run("sh", &["-c", &script])
            .expect("nsenter (util-linux) must be installed")
            .status
    }

    /// Starts the daemon again after [`Node::kill_daemon`].
    pub fn start_daemon(&self) {
        let _ = std::fs::remove_file(self.dir.path().join("run/libvirt-sock"));
        let output = self
            .run(LIBVIRTD, &["-d", "-p", "/run/libvirt/libvirtd.pid"])
            .expect("starting libvirtd");
        assert!(
            output.status.success(),
            "libvirtd: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let socket = self.dir.path().join("run/libvirt-sock");
        eventually("libvirtd's socket", START, || listens(&socket));
    }

    /// The process of a domain, as numbered inside.
    pub fn qemu_pid(&self, domain: &str) -> Option<u32> {
        let file = self.dir.path().join("run/qemu").join(format!("{domain}.pid"));
        std::fs::read_to_string(file).ok()?.trim().parse().ok()
    }
}

/// A socket is there a moment before it is listened on.
fn listens(socket: &Path) -> Option<()> {
    UnixStream::connect(socket).map(drop).ok()
}

impl Init {
    fn child_pid(&self) -> Option<u32> {
        let unshare = self.unshare.id();
        let children = std::fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).ok()?;
        children.split_whitespace().next()?.parse().ok()
    }
}

impl Drop for Init {
    fn drop(&mut self) {
        // Process 1 reads the end of its standard input and ends, and the kernel ends what else is in its namespace.
        drop(self.unshare.stdin.take());
        for _ in 0..250 {
            if !matches!(self.unshare.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        // --kill-child takes process 1 along.
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}

fn prepare(dir: &Path) -> io::Result<()> {
    for name in ["etc", "run", "lib", "cache", "log", "data"] {
        std::fs::create_dir(dir.join(name))?;
    }
    std::fs::write(dir.join("etc/libvirtd.conf"), LIBVIRTD_CONF)?;
    std::fs::write(dir.join("etc/qemu.conf"), QEMU_CONF)?;
    // libvirt looks up the host's own name, and waits for seconds for a name server that does not know it.
    std::fs::write(dir.join("hosts"), "127.0.0.1 localhost virga-node\n")?;
    std::fs::write(dir.join("resolv.conf"), "")
}
