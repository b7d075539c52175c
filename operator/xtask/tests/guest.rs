//! The guest of `cargo xtask guest`, booted for real by plain QEMU under emulation.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// For everything that one guest does, from power on to power off.
const WHOLE_TEST: Duration = Duration::from_mins(2);

/// Builds the guest if it is not in the cache; its path.
fn guest_image() -> PathBuf {
    let built = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .arg("guest")
        .output()
        .expect("xtask runs");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let text = String::from_utf8(built.stdout).expect("text");
    let path = text
        .lines()
        .find_map(|line| line.strip_prefix("path "))
        .expect("xtask says where the image is");
    let path = PathBuf::from(path);
    let size = fs::metadata(&path).expect("the image is there").len();
    assert!(size < 25 << 20, "the image has {size} bytes");
    path
}

/// A running machine. Dropped, it is gone.
struct Machine {
    qemu: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
    deadline: Instant,
}

impl Machine {
    fn start(arguments: &[String]) -> Self {
        let mut qemu = Command::new("qemu-system-x86_64")
            .args(["-accel", "tcg", "-cpu", "max", "-m", "256"])
            .args(["-display", "none", "-nodefaults", "-no-reboot", "-serial", "stdio"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("QEMU starts");
        let console = qemu.stdout.take().expect("a pipe");
        Self {
            qemu,
            lines: read_lines(console),
            seen: Vec::new(),
            deadline: Instant::now() + WHOLE_TEST,
        }
    }

    /// Reads the console up to a line that begins with `prefix`, and returns it.
    fn console_line(&mut self, prefix: &str) -> String {
        if let Some(line) = self.seen.iter().find(|line| line.starts_with(prefix)) {
            return line.clone();
        }
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.starts_with(prefix) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("no {prefix:?} in time; console: {:#?}", self.seen),
                Err(RecvTimeoutError::Disconnected) => panic!("QEMU ended before {prefix:?}: {:#?}", self.seen),
            }
        }
    }

    /// Waits until QEMU has ended, as it does when the guest powers off.
    fn powered_off(&mut self) {
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Timeout) => panic!("still running; console: {:#?}", self.seen),
                // The console's end is QEMU's end.
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        assert!(self.qemu.wait().expect("QEMU has ended").success());
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

fn read_lines(console: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim().to_owned();
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

fn tool(program: &str, arguments: &[&str]) {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .expect("the program is installed");
    assert!(
        output.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// A disk of this test over the image, and a seed with this host name, the key and user data.
fn disk_and_seed(folder: &Path, image: &Path, key: &str, user_data: &str) -> (PathBuf, PathBuf) {
    let disk = folder.join("disk.qcow2");
    tool(
        "qemu-img",
        &[
            "create",
            "-q",
            "-f",
            "qcow2",
            "-b",
            text(image),
            "-F",
            "qcow2",
            text(&disk),
        ],
    );
    let (meta, user, seed) = (
        folder.join("meta-data"),
        folder.join("user-data"),
        folder.join("seed.iso"),
    );
    let meta_data = format!("instance-id: i-abc\nlocal-hostname: web-1\npublic-keys:\n  - {key}\n");
    fs::write(&meta, meta_data).expect("written");
    fs::write(&user, user_data).expect("written");
    tool(
        "genisoimage",
        &[
            "-quiet",
            "-volid",
            "cidata",
            "-joliet",
            "-rock",
            "-o",
            text(&seed),
            text(&meta),
            text(&user),
        ],
    );
    (disk, seed)
}

/// A port that was free a moment ago, for QEMU to listen on.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .expect("a port")
        .local_addr()
        .expect("an address")
        .port()
}

/// Sends one line and returns the first answering line that contains `wanted`.
fn ask(socket: &Path, question: &str, wanted: &str) -> String {
    let mut stream = UnixStream::connect(socket).expect("QEMU listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("a time-out");
    stream.write_all(question.as_bytes()).expect("QEMU reads");
    let answers = BufReader::new(stream).lines();
    answers
        .map_while(Result::ok)
        .find(|line| line.contains(wanted))
        .expect("an answer in time")
}

fn http_get(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("QEMU forwards");
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("a time-out");
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("sent");
    let mut page = String::new();
    match stream.read_to_string(&mut page) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
        _ => page,
    }
}

#[test]
fn the_guest_boots_from_bios_with_its_seed_and_does_all_that_tests_rely_on() {
    let image = guest_image();
    let folder = tempfile::tempdir().expect("a folder");
    let key = folder.path().join("key");
    tool(
        "ssh-keygen",
        &["-q", "-t", "ed25519", "-N", "", "-C", "", "-f", text(&key)],
    );
    let public = fs::read_to_string(key.with_extension("pub")).expect("a public key");
    let script = "#!/bin/sh\necho user data on $(hostname)\n";
    let (disk, seed) = disk_and_seed(folder.path(), &image, public.trim(), script);
    let (ssh, http) = (free_port(), free_port());
    let (agent, monitor) = (folder.path().join("agent"), folder.path().join("monitor"));
    let forward = format!("user,id=net,hostfwd=tcp:127.0.0.1:{ssh}-:22,hostfwd=tcp:127.0.0.1:{http}-:80");
    let mut machine = Machine::start(
        &[
            ["-machine", "q35"],
            ["-drive", &format!("file={},if=virtio,format=qcow2", text(&disk))],
            [
                "-drive",
                &format!("file={},if=virtio,format=raw,readonly=on", text(&seed)),
            ],
            ["-netdev", &forward],
            ["-device", "virtio-net-pci,netdev=net"],
            ["-device", "virtio-serial"],
            [
                "-chardev",
                &format!("socket,id=agent,path={},server=on,wait=off", text(&agent)),
            ],
            ["-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"],
            ["-qmp", &format!("unix:{},server=on,wait=off", text(&monitor))],
        ]
        .concat()
        .into_iter()
        .map(str::to_owned)
        .collect::<Vec<_>>(),
    );

    let seeded = machine.console_line("GUEST-SEED");
    assert_eq!(seeded, "GUEST-SEED device=/dev/vdb instance-id=i-abc keys=1");
    machine.console_line("user data on web-1");
    machine.console_line("GUEST-USER-DATA exit=0");
    // 10.0.2.15 is the first address that QEMU's user network gives.
    let ready = machine.console_line("GUEST-READY");
    assert!(ready.starts_with("GUEST-READY host=web-1 ip=10.0.2.15 "), "{ready}");

    let page = http_get(http);
    assert!(page.contains("hello from web-1"), "{page}");
    let pong = ask(&agent, "{\"execute\":\"guest-ping\"}\n", "return");
    assert_eq!(pong, "{\"return\": {}}");
    // What is written to the disk's partition is there after it was mounted anew.
    let commands = "hostname; id -u; mount -t vfat /dev/vda1 /mnt && echo kept >/mnt/note && umount /mnt && \
                    mount -t vfat /dev/vda1 /mnt && cat /mnt/note";
    let options = [
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "ConnectTimeout=30",
        "BatchMode=yes",
    ];
    let login = Command::new("timeout")
        .args(["60", "ssh"])
        .args(options.iter().flat_map(|option| ["-o", option]))
        .args(["-i", text(&key), "-p", &ssh.to_string(), "root@127.0.0.1", commands])
        .output()
        .expect("ssh runs");
    assert_eq!(
        String::from_utf8_lossy(&login.stdout),
        "web-1\n0\nkept\n",
        "{}",
        String::from_utf8_lossy(&login.stderr)
    );

    let mut control = UnixStream::connect(&monitor).expect("QEMU listens");
    control
        .write_all(b"{\"execute\":\"qmp_capabilities\"}{\"execute\":\"system_powerdown\"}")
        .expect("QEMU reads");
    machine.powered_off();
}

#[test]
fn the_guest_boots_from_uefi_and_reads_a_seed_on_a_cd_rom() {
    let image = guest_image();
    let folder = tempfile::tempdir().expect("a folder");
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJw7rvwxd0kEcgxRvyPyqPMLjxDZ2Qe0sMYJ2kVX2CbQ";
    let user_data = "#cloud-config\nssh_authorized_keys: []\n";
    let (disk, seed) = disk_and_seed(folder.path(), &image, key, user_data);
    let mut machine = Machine::start(
        &[
            ["-machine", "q35"],
            [
                "-drive",
                "if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd",
            ],
            ["-drive", &format!("file={},if=virtio,format=qcow2", text(&disk))],
            [
                "-drive",
                &format!("file={},if=none,id=cd,format=raw,readonly=on", text(&seed)),
            ],
            ["-device", "ide-cd,drive=cd,bus=ide.0"],
        ]
        .concat()
        .into_iter()
        .map(str::to_owned)
        .collect::<Vec<_>>(),
    );
    let seeded = machine.console_line("GUEST-SEED");
    assert_eq!(seeded, "GUEST-SEED device=/dev/sr0 instance-id=i-abc keys=1");
    // Without a network interface there is no address to wait for.
    let ready = machine.console_line("GUEST-READY");
    assert!(ready.starts_with("GUEST-READY host=web-1 ip=none "), "{ready}");
}
