//! `cargo xtask deps`: installs the Debian packages that building and testing need.
//!
//! Instant when all are there. Otherwise it works as root on Debian 12 and 13; on Debian 12 libvirt and QEMU come from
//! backports, whose source is derived from the machine's own. Services that come with the packages are not started: the
//! lab runs its own, in its own namespaces.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::{command, file};

mod packages;
mod release;
mod sources;

use release::Release;
use sources::Backports;

const QUERY_LIMIT: Duration = Duration::from_secs(30);
const UPDATE_LIMIT: Duration = Duration::from_mins(10);
const INSTALL_LIMIT: Duration = Duration::from_mins(30);
/// Another apt (a machine's own upgrades) may hold the lock at first.
const LOCK_TIMEOUT_S: u32 = 300;

const SOURCES: &str = "/etc/apt/sources.list";
const SOURCES_FOLDER: &str = "/etc/apt/sources.list.d";
const OUR_SOURCES: &str = "/etc/apt/sources.list.d/virga-backports.sources";
/// Asked by package scripts before they start a service; see invoke-rc.d(8).
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Arguments of `cargo xtask deps`.
#[derive(clap::Args)]
pub struct Args {
    /// Only say what is missing; fail if anything is
    #[arg(long)]
    check: bool,
}

/// What went wrong while packages were installed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a Debian that the project knows.
    #[error(
        "packages can be installed on Debian 12 and 13 only, and this is {0}; which they are is in operator/xtask/src/deps/packages.rs"
    )]
    System(String),
    /// Not the superuser.
    #[error(
        "{count} packages are missing ({names}), and only root can install them: run `cargo xtask deps` as root once"
    )]
    NotRoot {
        /// How many.
        count: usize,
        /// Which.
        names: String,
    },
    /// With `--check`.
    #[error("{count} packages are missing: {names}")]
    Missing {
        /// How many.
        count: usize,
        /// Which.
        names: String,
    },
    /// There is no mirror to derive the backports from.
    #[error(
        "no apt source has the suite {0} with component main, so its backports can't be derived; add them to apt's sources"
    )]
    NoRelease(&'static str),
    /// apt says all went well and it did not.
    #[error("apt ended well, but these packages are still missing or too old: {0}")]
    StillMissing(String),
    /// An outside program failed.
    #[error(transparent)]
    Command(#[from] command::Failed),
    /// A file could not be handled.
    #[error(transparent)]
    File(#[from] file::Error),
}

/// Installs what is missing.
pub fn run(args: &Args) -> Result<(), Error> {
    let release = Release::parse(&file::read_text("/etc/os-release".as_ref())?).map_err(Error::System)?;
    let missing = missing(release)?;
    let count = missing.count();
    if count == 0 {
        return Ok(());
    }
    let names = missing
        .release
        .iter()
        .chain(&missing.backports)
        .copied()
        .collect::<Vec<_>>()
        .join(" ");
    if args.check {
        return Err(Error::Missing { count, names });
    }
    if !is_root()? {
        return Err(Error::NotRoot { count, names });
    }

    if !missing.backports.is_empty() {
        add_backports(release)?;
    }
    println!("updating apt's lists");
    show("updating apt's lists", apt().arg("update"), UPDATE_LIMIT)?;
    let _quiet = ServicesOff::new()?;
    // First what must come from backports: so that it is not pulled in from the release by something else.
    for (packages, target) in [(&missing.backports, Some("backports")), (&missing.release, None)] {
        if packages.is_empty() {
            continue;
        }
        println!("installing {}", packages.join(" "));
        let mut install = apt();
        install.args(["install", "--yes", "--no-install-recommends"]);
        if let Some(target) = target {
            install.arg(format!("--target-release={}-{target}", release.codename()));
        }
        show("installing packages", install.args(packages), INSTALL_LIMIT)?;
    }
    let left = self::missing(release)?;
    if left.count() > 0 {
        let names = left
            .release
            .iter()
            .chain(&left.backports)
            .copied()
            .collect::<Vec<_>>()
            .join(" ");
        return Err(Error::StillMissing(names));
    }
    println!("{count} packages installed");
    Ok(())
}

fn missing(release: Release) -> Result<packages::Missing, Error> {
    // dpkg-query fails when it knows nothing of one of them, and still answers for the others.
    let mut query = Command::new("sh");
    query.args([
        "-c",
        "dpkg-query --show --showformat '${Package} ${db:Status-Status} ${Version}\\n' \"$@\" 2>/dev/null || true",
        "sh",
    ]);
    let answer = command::text(query.args(packages::all()), QUERY_LIMIT)
        .map_err(command::failed("asking dpkg what is installed"))?;
    Ok(packages::missing(&answer, release))
}

/// By the effective user of this process.
fn is_root() -> Result<bool, Error> {
    let status = file::read_text("/proc/self/status".as_ref())?;
    Ok(status
        .lines()
        .any(|line| line.starts_with("Uid:") && line.split_whitespace().nth(2) == Some("0")))
}

fn add_backports(release: Release) -> Result<(), Error> {
    let mut found = Vec::new();
    if Path::new(SOURCES).exists() {
        found.extend(sources::parse_one_line(&file::read_text(SOURCES.as_ref())?));
    }
    let folder = Path::new(SOURCES_FOLDER);
    if folder.exists() {
        let listing = fs::read_dir(folder).map_err(file::failed("listing", folder))?;
        let mut files: Vec<PathBuf> = listing.filter_map(Result::ok).map(|entry| entry.path()).collect();
        files.sort();
        for file in files {
            match file.extension().and_then(|extension| extension.to_str()) {
                Some("sources") => found.extend(sources::parse_deb822(&file::read_text(&file)?)),
                Some("list") => found.extend(sources::parse_one_line(&file::read_text(&file)?)),
                _ => {}
            }
        }
    }
    match sources::backports(&found, release.codename()) {
        Backports::Present => Ok(()),
        Backports::NoRelease => Err(Error::NoRelease(release.codename())),
        Backports::Missing(source) => {
            println!("adding {OUR_SOURCES}");
            Ok(file::write(OUR_SOURCES.as_ref(), source.to_string())?)
        }
    }
}

fn apt() -> Command {
    let mut apt = Command::new("apt-get");
    apt.args(["-q", "-o", &format!("DPkg::Lock::Timeout={LOCK_TIMEOUT_S}")]);
    // Without a terminal of its own dpkg draws no progress bars into a log.
    apt.args(["-o", "Dpkg::Use-Pty=0"]);
    // No questions; and needrestart, where it is installed, restarts nothing.
    apt.env("DEBIAN_FRONTEND", "noninteractive")
        .env("NEEDRESTART_MODE", "l");
    apt
}

fn show(doing: &'static str, command: &mut Command, limit: Duration) -> Result<(), Error> {
    Ok(command::show(command, limit).map_err(command::failed(doing))?)
}

/// While this lives, package scripts start no service. A policy that the machine has already stays.
struct ServicesOff {
    ours: bool,
}

impl ServicesOff {
    fn new() -> Result<Self, Error> {
        let policy = Path::new(POLICY);
        if policy.exists() {
            return Ok(Self { ours: false });
        }
        let guard = Self { ours: true };
        // 101: not allowed.
        file::write(policy, "#!/bin/sh\nexit 101\n")?;
        fs::set_permissions(policy, fs::Permissions::from_mode(0o755))
            .map_err(file::failed("making executable", policy))?;
        Ok(guard)
    }
}

impl Drop for ServicesOff {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = fs::remove_file(POLICY)
        {
            eprintln!("warning: removing {POLICY}: {error}; no service can be started until it is gone");
        }
    }
}
