//! `cargo xtask guest`: a small bootable guest for tests, of Debian packages.
//!
//! A qcow2 disk that boots in seconds under emulation: Debian's kernel for virtual machines, busybox, dropbear and the
//! QEMU guest agent in an initramfs, with the scripts in `rootfs/`. It takes a NoCloud seed (virtio disk or CD-ROM)
//! with host name, SSH keys and a `#!` script, gets its address by DHCP, answers on ports 22 and 80, powers off when
//! asked by ACPI, and has a root shell on its consoles. DHCPv6's client is there, `dhcp6c`, and not started. It runs in
//! 96 MiB of memory, not in 64. What tests write to stay goes to the disk's own partition
//! (`mount -t vfat /dev/vda1 /mnt`); everything else is in memory.
//! On the first serial port it says:
//!
//! - `GUEST-SEED device=/dev/vdb instance-id=… keys=1` once it has read its seed,
//! - `GUEST-USER-DATA exit=0` after the user's script,
//! - `GUEST-READY host=web-1 ip=10.0.0.5 up=2.50` when all of it works.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::tree::Tree;
use crate::{closure, command, digest, file};

mod cpio;
mod disk;
mod modules;
mod packages;

const COMPRESS_LIMIT: Duration = Duration::from_mins(2);
const APPLETS_LIMIT: Duration = Duration::from_secs(20);

/// Counts in the cache's key: to be raised when code here changes what is built from the same packages and scripts.
const RECIPE: u32 = 3;

/// The last console is the one that init writes to. The options after `quiet` save about a fifth of the boot time under
/// emulation: code is not patched for one processor, and nothing is calibrated or randomised.
const COMMAND_LINE: &str = "console=tty0 console=ttyS0 quiet panic=1 nokaslr noreplace-smp mitigations=off lsm= audit=0 \
                            no_timer_check tsc=reliable random.trust_cpu=on i8042.noaux";

/// The guest's own files: path, mode, content.
const FILES: [(&str, u32, &str); 8] = [
    ("etc/boot", 0o755, include_str!("rootfs/boot")),
    ("etc/dhcp", 0o755, include_str!("rootfs/dhcp")),
    ("etc/hotplug", 0o755, include_str!("rootfs/hotplug")),
    ("etc/inittab", 0o644, include_str!("rootfs/inittab")),
    ("etc/profile", 0o644, include_str!("rootfs/profile")),
    ("etc/ready", 0o755, include_str!("rootfs/ready")),
    ("sbin/chpasswd", 0o755, include_str!("rootfs/chpasswd")),
    ("sbin/shutdown", 0o755, include_str!("rootfs/shutdown")),
];

/// Programs with their libraries, where they lie in their packages and in the guest.
const PROGRAMS: [&str; 4] = [
    "usr/bin/dropbearkey",
    "usr/sbin/dhcp6c",
    "usr/sbin/dropbear",
    "usr/sbin/qemu-ga",
];

/// Arguments of `cargo xtask guest`.
#[derive(clap::Args)]
pub struct Args {
    /// Also copy the image to this file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Build again even if the image is in the cache
    #[arg(long)]
    rebuild: bool,
}

/// What went wrong while the guest was made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither `XDG_CACHE_HOME` nor `HOME` is set.
    #[error("no folder for the cache: set XDG_CACHE_HOME or HOME")]
    NoCache,
    /// The packages.
    #[error("getting the guest's packages")]
    Packages(#[from] packages::Error),
    /// The kernel's modules.
    #[error("choosing the guest's drivers")]
    Modules(#[from] modules::Error),
    /// The shared libraries.
    #[error("collecting the guest's libraries")]
    Closure(#[from] closure::Error),
    /// The initramfs.
    #[error("writing the initramfs")]
    Cpio(#[from] cpio::TooLarge),
    /// The disk.
    #[error("making the guest's disk")]
    Disk(#[from] disk::Error),
    /// An outside program failed.
    #[error(transparent)]
    Command(#[from] command::Failed),
    /// A file could not be handled.
    #[error(transparent)]
    File(#[from] file::Error),
    /// A package lacks a file.
    #[error("the packages have no {0}")]
    Absent(&'static str),
}

/// Makes the guest, or finds it in the cache, and prints its path, size in bytes and SHA-256.
pub fn run(args: &Args) -> Result<(), Error> {
    let cache = command::cache_root().ok_or(Error::NoCache)?.join("guest");
    let packages = packages::resolve()?;
    let folder = cache.join(key(&packages));
    let image = folder.join("guest.qcow2");
    if args.rebuild || !image.exists() {
        file::make_folder(&folder)?;
        let debs = packages::download(&packages, &cache.join("packages"))?;
        // In the same file system as its place: the finished image appears there at once or not at all.
        let work = tempfile::tempdir_in(&cache).map_err(file::failed("making a folder in", &cache))?;
        let built = build(&debs, work.path())?;
        fs::rename(&built, &image).map_err(file::failed("storing", &image))?;
    }
    let bytes = file::read(&image)?;
    if let Some(out) = &args.out {
        fs::copy(&image, out).map_err(file::failed("copying the image to", out))?;
    }
    let path = args.out.as_ref().unwrap_or(&image);
    let digest = digest::sha256(&bytes);
    println!("path {}\nsize {}\nsha256 {digest}", path.display(), bytes.len());
    Ok(())
}

/// The folder's name in the cache: everything that goes into the image.
fn key(packages: &[packages::Package]) -> String {
    let recipe = RECIPE.to_string();
    let mut parts = vec![recipe.as_str(), COMMAND_LINE];
    parts.extend(FILES.iter().flat_map(|(path, _, content)| [*path, *content]));
    parts.extend(
        packages
            .iter()
            .flat_map(|package| [&package.name, &package.version, &package.sha256].map(String::as_str)),
    );
    let mut key = digest::sha256(parts.join("\0").as_bytes());
    key.truncate(16);
    key
}

fn build(debs: &[PathBuf], work: &Path) -> Result<PathBuf, Error> {
    let system = work.join("system");
    file::make_folder(&system)?;
    packages::unpack(debs, &system)?;
    let kernel = kernel(&system)?;
    let archive = work.join("initramfs.cpio");
    let packed = work.join("initramfs.lz4");
    file::write(&archive, cpio::archive(&initramfs(&system)?)?)?;
    // The legacy format (-l) is the one that the kernel reads.
    let mut lz4 = Command::new("lz4");
    lz4.args(["-l", "-9", "-q", "-f"]).arg(&archive).arg(&packed);
    command::output(&mut lz4, COMPRESS_LIMIT).map_err(command::failed("compressing the initramfs"))?;
    let image = work.join("guest.qcow2");
    let content = disk::Content {
        kernel: &kernel,
        initramfs: &file::read(&packed)?,
        uefi_loader: &find(&system, "usr/lib/systemd/boot/efi/systemd-bootx64.efi")?,
        command_line: COMMAND_LINE,
    };
    disk::write(&content, work, &image)?;
    Ok(image)
}

/// The guest's file tree. `system` holds the unpacked packages.
fn initramfs(system: &Path) -> Result<Tree, Error> {
    let mut tree = Tree::default();
    for folder in ["dev", "etc/dropbear", "mnt", "proc", "run", "sys", "var/log", "www"] {
        tree.folder(folder, 0o755);
    }
    tree.folder("root/.ssh", 0o700);
    tree.folder("root", 0o700);
    tree.folder("tmp", 0o1777);
    tree.link("var/run", "/run");
    // Opened by the kernel for init before any file system is mounted.
    tree.character_device("dev/console", 0o600, 5, 1);
    // No password works ("*") until the agent sets one; the consoles ask for nothing.
    tree.file("etc/passwd", 0o644, "root:*:0:0:root:/root:/bin/sh\n");
    tree.file("etc/group", 0o644, "root:x:0:\n");
    tree.file("etc/shells", 0o644, "/bin/sh\n");
    tree.file("root/.ssh/authorized_keys", 0o600, "");
    for (path, mode, content) in FILES {
        tree.file(path, mode, content);
    }

    let busybox = find(system, "bin/busybox")?;
    let mut list = Command::new(&busybox);
    let applets =
        command::text(list.arg("--list-full"), APPLETS_LIMIT).map_err(command::failed("listing busybox' applets"))?;
    tree.file("bin/busybox", 0o755, file::read(&busybox)?);
    tree.link("init", "/bin/busybox");
    for applet in applets.lines() {
        tree.link(applet, "/bin/busybox");
    }

    for program in PROGRAMS {
        let path = find(system, program)?;
        let content = file::read(&path)?;
        if let Ok(Some(loader)) = closure::interpreter(&content) {
            let name = loader.rsplit('/').next().unwrap_or(&loader);
            tree.link(loader.trim_start_matches('/'), &format!("/lib/x86_64-linux-gnu/{name}"));
        }
        for library in closure::of(&path, closure::System::Folder(system))? {
            let name = library.file_name().unwrap_or_default().to_string_lossy().into_owned();
            tree.file(&format!("lib/x86_64-linux-gnu/{name}"), 0o755, file::read(&library)?);
        }
        tree.file(program, 0o755, content);
    }
    modules::add(&mut tree, system)?;
    Ok(tree)
}

/// The kernel's file: `boot/vmlinuz-VERSION`, the only one.
fn kernel(system: &Path) -> Result<PathBuf, Error> {
    let boot = system.join("boot");
    let listing = fs::read_dir(&boot).map_err(file::failed("listing", &boot))?;
    listing
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-"))
        })
        .ok_or(Error::Absent("kernel"))
}

/// A file of a package. Debian moved everything from `/bin` and `/lib` to `/usr`; packages differ by release.
fn find(system: &Path, path: &'static str) -> Result<PathBuf, Error> {
    [system.join(path), system.join("usr").join(path)]
        .into_iter()
        .find(|path| path.exists())
        .ok_or(Error::Absent(path))
}
