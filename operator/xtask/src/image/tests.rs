use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::command;

const LIMIT: Duration = Duration::from_mins(1);

/// A stand-in for a process of ours: any dynamic program will do. It runs qemu-img as the agent does.
fn stand_in() -> ProcessImage {
    ProcessImage {
        name: "virga-test",
        runs: &["/usr/bin/qemu-img"],
        user: "65532:65532".to_owned(),
    }
}

fn built() -> oci::Archive {
    stand_in().archive(Path::new("/usr/bin/env"), 0).expect("an archive")
}

/// The image's root file system, unpacked.
fn root_file_system(archive: &oci::Archive, folder: &Path) -> PathBuf {
    let (layout, root) = (folder.join("layout"), folder.join("root"));
    tar::Archive::new(archive.bytes.as_slice())
        .unpack(&layout)
        .expect("an archive");
    let json =
        |path: &Path| -> serde_json::Value { serde_json::from_slice(&fs::read(path).expect("a file")).expect("JSON") };
    let blob = |descriptor: &serde_json::Value| {
        layout
            .join("blobs")
            .join(descriptor["digest"].as_str().expect("a digest").replace(':', "/"))
    };
    let manifest = json(&blob(&json(&layout.join("index.json"))["manifests"][0]));
    let layer = fs::File::open(blob(&manifest["layers"][0])).expect("a layer");
    tar::Archive::new(layer).unpack(&root).expect("a layer");
    root
}

#[test]
fn two_builds_of_one_program_are_the_same_image() {
    let (one, other) = (built(), built());
    assert_eq!(one.digest, other.digest);
    assert_eq!(one.bytes, other.bytes);
}

#[test]
fn an_image_has_the_loader_the_user_and_both_programs() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = root_file_system(&built(), folder.path());
    for path in [
        "lib64/ld-linux-x86-64.so.2",
        "usr/bin/virga-test",
        "usr/bin/qemu-img",
        "var/run",
        "tmp",
    ] {
        assert!(fs::symlink_metadata(root.join(path)).is_ok(), "{path} is missing");
    }
    let users = fs::read_to_string(root.join("etc/passwd")).expect("users");
    assert!(users.contains("virga:x:65532:65532:"), "{users}");
}

#[test]
fn qemu_img_works_inside_the_image() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = root_file_system(&built(), folder.path());
    let inside = |arguments: &[&str]| {
        let mut chroot = Command::new("chroot");
        chroot
            .arg(&root)
            .args(["/usr/bin/virga-test", "/usr/bin/qemu-img"])
            .args(arguments);
        command::text(&mut chroot, LIMIT).expect("qemu-img works (chroot needs root)")
    };
    inside(&["create", "-q", "-f", "raw", "/tmp/base.raw", "1M"]);
    inside(&[
        "convert",
        "-f",
        "raw",
        "-O",
        "qcow2",
        "/tmp/base.raw",
        "/tmp/base.qcow2",
    ]);
    inside(&[
        "create",
        "-q",
        "-f",
        "qcow2",
        "-b",
        "/tmp/base.qcow2",
        "-F",
        "qcow2",
        "/tmp/overlay.qcow2",
        "2M",
    ]);
    let info = inside(&["info", "--output=json", "/tmp/overlay.qcow2"]);
    let info: serde_json::Value = serde_json::from_str(&info).expect("JSON");
    assert_eq!(
        (info["format"].as_str(), info["virtual-size"].as_u64()),
        (Some("qcow2"), Some(2 << 20))
    );
}

#[test]
fn an_image_that_was_built_alone_leaves_the_other_in_the_list() {
    let folder = tempfile::tempdir().expect("a folder");
    let list = folder.path().join("images.json");
    let entry = |name: &str, tag: &str| {
        let archive = folder.path().join(name);
        fs::write(&archive, "").expect("written");
        Built {
            name: name.into(),
            image: format!("virga.local/{name}:{tag}"),
            tag: tag.into(),
            digest: String::new(),
            archive,
        }
    };
    record(&list, vec![entry("b", "1"), entry("a", "1")]).expect("recorded");
    record(&list, vec![entry("b", "2")]).expect("recorded");
    let images: Vec<Built> = serde_json::from_slice(&fs::read(&list).expect("a list")).expect("JSON");
    let names: Vec<&str> = images.iter().map(|image| image.image.as_str()).collect();
    assert_eq!(names, ["virga.local/a:1", "virga.local/b:2"]);
}

/// A containerd of this test's own. Dropped, it is gone.
struct Containerd {
    process: Child,
    socket: PathBuf,
}

impl Containerd {
    fn start(folder: &Path) -> Self {
        let (socket, config) = (folder.join("containerd.sock"), folder.join("config.toml"));
        // Kubernetes' side and the kernel's file systems are not needed to import an image.
        let text = "version = 2\n\
                    disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.snapshotter.v1.btrfs\", \
                    \"io.containerd.snapshotter.v1.zfs\", \"io.containerd.snapshotter.v1.devmapper\", \
                    \"io.containerd.internal.v1.opt\"]\n";
        fs::write(&config, text).expect("written");
        let log = fs::File::create(folder.join("containerd.log")).expect("a log");
        let process = Command::new("containerd")
            .arg("--config")
            .arg(&config)
            .arg("--root")
            .arg(folder.join("root.d"))
            .arg("--state")
            .arg(folder.join("state.d"))
            .arg("--address")
            .arg(&socket)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("containerd starts");
        let containerd = Self { process, socket };
        let deadline = Instant::now() + LIMIT;
        while containerd.ctr(&["version"]).is_err() {
            let log = || fs::read_to_string(folder.join("containerd.log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "containerd does not answer: {}", log());
            thread::yield_now();
        }
        containerd
    }

    fn ctr(&self, arguments: &[&str]) -> Result<String, command::Error> {
        let mut ctr = Command::new("ctr");
        ctr.arg("--address")
            .arg(&self.socket)
            .args(["--namespace", "k8s.io", "--connect-timeout", "1s"]);
        command::text(ctr.args(arguments), LIMIT)
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn containerd_imports_the_archive_under_its_name_and_digest() {
    let folder = tempfile::tempdir().expect("a folder");
    let image = built();
    let archive = folder.path().join("virga-test.tar");
    fs::write(&archive, &image.bytes).expect("written");
    let containerd = Containerd::start(folder.path());
    let archive = archive.to_str().expect("a plain path");
    containerd
        .ctr(&["images", "import", "--snapshotter", "native", archive])
        .expect("imported");
    let listed = containerd.ctr(&["images", "list"]).expect("listed");
    let name = format!("virga.local/virga-test:{} ", image.tag);
    let line = listed
        .lines()
        .find(|line| line.starts_with(&name))
        .unwrap_or_else(|| panic!("{name}: {listed}"));
    assert!(line.contains(&image.digest), "{line}");
    assert_eq!(listed.lines().count(), 2, "one image under one name: {listed}");
}
