//! The Debian packages that the guest is made of: which there are, fetched and unpacked.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::{command, file};

/// One question to apt's cache.
const QUERY_LIMIT: Duration = Duration::from_mins(1);
const UPDATE_LIMIT: Duration = Duration::from_mins(10);
/// One package: the kernel's has 34 MB.
const DOWNLOAD_LIMIT: Duration = Duration::from_mins(5);
const UNPACK_LIMIT: Duration = Duration::from_mins(2);
/// Rounds of following dependencies. Four are enough today.
const MAX_ROUNDS: usize = 12;

/// What went wrong with the guest's packages.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An outside program failed.
    #[error(transparent)]
    Command(#[from] command::Failed),
    /// A file could not be handled.
    #[error(transparent)]
    File(#[from] file::Error),
    /// apt knows no kernel that is new enough.
    #[error("no {KERNEL} of version {major}.{minor} or later in apt's lists; `cargo xtask deps` adds the backports", major = KERNEL_AT_LEAST.0, minor = KERNEL_AT_LEAST.1)]
    NoKernel,
    /// The dependencies go on and on.
    #[error("the dependencies of the guest's programs did not end after {MAX_ROUNDS} rounds")]
    Endless,
}

/// The package that depends on Debian's newest kernel for virtual machines: no drivers for real hardware.
const KERNEL: &str = "linux-image-cloud-amd64";
/// From 6.12 on the virtio bus is built in, which saves time at boot.
const KERNEL_AT_LEAST: (u32, u32) = (6, 12);
/// The guest's programs, and the boot loader for UEFI machines.
const PROGRAMS: [&str; 5] = [
    "busybox-static",
    "dropbear-bin",
    "qemu-guest-agent",
    "systemd-boot-efi",
    "wide-dhcpv6-client",
];

/// One version of a package, as `apt-cache show` describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version, epoch included.
    pub version: String,
    /// `amd64` or `all`.
    pub architecture: String,
    /// Of the `.deb` file, in hexadecimal.
    pub sha256: String,
    /// The first alternative of each dependency.
    depends: Vec<String>,
}

impl Package {
    /// The name under which `apt-get download` stores the file.
    fn file_name(&self) -> String {
        format!(
            "{}_{}_{}.deb",
            self.name,
            self.version.replace(':', "%3a"),
            self.architecture
        )
    }
}

/// Every package of the guest, sorted by name: the kernel, the programs, and the libraries that the programs depend on.
/// Other dependencies (maintainer scripts' tools) are left out: no package script ever runs.
pub fn resolve() -> Result<Vec<Package>, Error> {
    match resolve_in_lists() {
        // A machine made from an image often has no lists, or old ones.
        Err(Error::Command(_) | Error::NoKernel) => {
            let mut update = Command::new("apt-get");
            command::output(update.args(["-q", "update"]), UPDATE_LIMIT)
                .map_err(command::failed("updating apt's lists"))?;
            resolve_in_lists()
        }
        outcome => outcome,
    }
}

fn resolve_in_lists() -> Result<Vec<Package>, Error> {
    let kernel = newest_kernel(&records(&show(&[KERNEL], true)?)).ok_or(Error::NoKernel)?;
    let mut found = BTreeMap::new();
    let mut wanted: BTreeSet<String> = PROGRAMS.iter().map(ToString::to_string).chain([kernel]).collect();
    for _ in 0..MAX_ROUNDS {
        let names: Vec<&str> = wanted.iter().map(String::as_str).collect();
        for package in records(&show(&names, false)?) {
            found.insert(package.name.clone(), package);
        }
        wanted = found
            .values()
            .flat_map(|package| &package.depends)
            .filter(|name| is_library(name))
            .cloned()
            .collect();
        wanted.retain(|name| !found.contains_key(name));
        if wanted.is_empty() {
            return Ok(found.into_values().collect());
        }
    }
    Err(Error::Endless)
}

/// Downloads what is not in `folder` yet; returns the files in the order of the packages. apt checks the digests.
pub fn download(packages: &[Package], folder: &Path) -> Result<Vec<PathBuf>, Error> {
    file::make_folder(folder)?;
    let mut files = Vec::new();
    for package in packages {
        let file = folder.join(package.file_name());
        if !file.exists() {
            // Into its own folder first: a download that was cut short must not look like a package.
            let part = tempfile::tempdir_in(folder).map_err(file::failed("making a folder in", folder))?;
            // As root, apt would drop to a user who may not write here, and complain.
            let mut download = Command::new("apt-get");
            download
                .args(["-q", "-o", "APT::Sandbox::User=root", "download"])
                .current_dir(part.path());
            download.arg(format!("{}={}", package.name, package.version));
            command::output(&mut download, DOWNLOAD_LIMIT)
                .map_err(command::failed(format!("downloading {}", package.name)))?;
            fs::rename(part.path().join(package.file_name()), &file).map_err(file::failed("storing", &file))?;
        }
        files.push(file);
    }
    Ok(files)
}

/// Unpacks packages over each other into `folder`; their scripts don't run.
pub fn unpack(files: &[PathBuf], folder: &Path) -> Result<(), Error> {
    for file in files {
        let mut unpack = Command::new("dpkg-deb");
        unpack.arg("--extract").arg(file).arg(folder);
        command::output(&mut unpack, UNPACK_LIMIT).map_err(command::failed(format!("unpacking {}", file.display())))?;
    }
    Ok(())
}

fn show(names: &[&str], all_versions: bool) -> Result<String, Error> {
    let mut show = Command::new("apt-cache");
    show.arg("show")
        .arg(if all_versions {
            "--all-versions"
        } else {
            "--no-all-versions"
        })
        .args(names);
    let doing = format!("asking apt about {}", names.join(", "));
    Ok(command::text(&mut show, QUERY_LIMIT).map_err(command::failed(doing))?)
}

fn is_library(name: &str) -> bool {
    name.starts_with("lib") || name == "zlib1g"
}

/// The packages in the output of `apt-cache show`.
fn records(text: &str) -> Vec<Package> {
    let field = |record: &str, name: &str| {
        record
            .lines()
            .find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(": ")?.trim().to_owned()))
    };
    text.split("\n\n")
        .filter_map(|record| {
            Some(Package {
                name: field(record, "Package")?,
                version: field(record, "Version")?,
                architecture: field(record, "Architecture")?,
                sha256: field(record, "SHA256")?,
                depends: field(record, "Depends")
                    .map(|depends| dependencies(&depends))
                    .unwrap_or_default(),
            })
        })
        .collect()
}

/// The names in a `Depends` field: `libc6 (>= 2.34), libfoo1 | libbar1` gives libc6 and libfoo1.
fn dependencies(field: &str) -> Vec<String> {
    field
        .split(',')
        .filter_map(|one| one.split(['|', '(', ':']).next())
        .map(|name| name.trim().to_owned())
        .collect()
}

/// The kernel's own package, of the newest version that is new enough.
fn newest_kernel(records: &[Package]) -> Option<String> {
    let number = |version: &str| {
        let mut parts = version
            .split(|character: char| !character.is_ascii_digit())
            .map_while(|part| part.parse().ok());
        Some((parts.next()?, parts.next()?))
    };
    records
        .iter()
        .filter_map(|record| Some((number(&record.version)?, record)))
        .filter(|(version, _)| *version >= KERNEL_AT_LEAST)
        // The first of equals: apt shows the newest first.
        .reduce(|best, other| if other.0 > best.0 { other } else { best })
        .and_then(|(_, record)| {
            record
                .depends
                .iter()
                .find(|name| name.starts_with("linux-image-"))
                .cloned()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOWN: &str = "\
Package: linux-image-cloud-amd64
Source: linux-signed-amd64 (6.12.95+1~bpo12+1)
Version: 6.12.95-1~bpo12+1
Architecture: amd64
Depends: linux-image-6.12.95+deb12-cloud-amd64 (= 6.12.95-1~bpo12+1)
Description-en: Linux for x86-64 cloud
SHA256: c6b8

Package: linux-image-cloud-amd64
Version: 6.1.192-2
Architecture: amd64
Depends: linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2)
SHA256: 00be
";

    #[test]
    fn the_newest_kernel_that_is_new_enough_is_taken() {
        let records = records(SHOWN);
        assert_eq!(records.len(), 2);
        assert_eq!(
            newest_kernel(&records).as_deref(),
            Some("linux-image-6.12.95+deb12-cloud-amd64")
        );
        assert_eq!(newest_kernel(&records[1..]), None, "6.1 is too old");
    }

    #[test]
    fn a_dependency_is_its_first_alternative_without_version_and_architecture() {
        assert_eq!(
            dependencies("libc6 (>= 2.34), libglib2.0-0t64:any (>= 2.63.3), libfoo1 | libbar1"),
            ["libc6", "libglib2.0-0t64", "libfoo1"]
        );
    }

    #[test]
    fn the_file_name_escapes_the_epoch_as_apt_does() {
        let package = Package {
            name: "qemu-guest-agent".into(),
            version: "1:7.2+dfsg-7".into(),
            architecture: "amd64".into(),
            sha256: String::new(),
            depends: Vec::new(),
        };
        assert_eq!(package.file_name(), "qemu-guest-agent_1%3a7.2+dfsg-7_amd64.deb");
    }
}
