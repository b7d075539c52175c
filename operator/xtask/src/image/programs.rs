//! Our programs, built for release or found in the cache: what was built once from some sources is not built again, in
//! whichever checkout they are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};
use std::{env, fs, io};

use serde::Deserialize;

use crate::{command, digest, file};

/// A release build from nothing, on two cores that others use too.
const BUILD_LIMIT: Duration = Duration::from_hours(1);
const QUERY_LIMIT: Duration = Duration::from_secs(20);

/// How many sets of programs the cache keeps: about 100 MB each.
const KEPT: usize = 4;

/// What a crate's folder has that is in no program.
const APART: [&str; 4] = ["benches", "examples", "fuzz", "tests"];

/// What of the workspace's root decides how each crate is built.
const ROOT: [&str; 4] = ["Cargo.lock", "Cargo.toml", ".cargo/config.toml", "rust-toolchain.toml"];

/// What went wrong while the programs were built.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither `XDG_CACHE_HOME` nor `HOME` is set.
    #[error("no folder for the cache: set XDG_CACHE_HOME or HOME")]
    NoCache,
    /// An outside program failed.
    #[error(transparent)]
    Command(#[from] command::Failed),
    /// cargo's answer was not understood.
    #[error("reading what cargo says of the workspace")]
    Metadata(#[from] serde_json::Error),
    /// A file could not be handled.
    #[error(transparent)]
    File(#[from] file::Error),
}

/// Where cargo builds and what, by `cargo metadata`.
#[derive(Debug, Deserialize)]
pub struct Workspace {
    #[serde(rename = "workspace_root")]
    root: PathBuf,
    target_directory: PathBuf,
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    /// None: of the program itself.
    kind: Option<String>,
    /// Of a crate of the workspace.
    path: Option<PathBuf>,
}

impl Workspace {
    /// Asks cargo about the workspace that this runs in.
    pub fn ask() -> Result<Self, Error> {
        let mut metadata = cargo();
        metadata.args(["metadata", "--format-version", "1", "--no-deps", "--offline"]);
        let answer =
            command::output(&mut metadata, QUERY_LIMIT).map_err(command::failed("asking cargo about the workspace"))?;
        Ok(serde_json::from_slice(&answer)?)
    }

    /// Where cargo puts what it builds.
    pub fn target_directory(&self) -> &Path {
        &self.target_directory
    }

    /// The folder in the cache that has these programs of the workspace's crates of the same names.
    pub fn programs(&self, names: &[&str]) -> Result<PathBuf, Error> {
        let cache = command::cache_root().ok_or(Error::NoCache)?.join("programs");
        file::make_folder(&cache)?;
        let folder = cache.join(self.key(names)?);
        if !folder.exists() {
            self.build(names)?;
            // In the same file system as its place: all programs appear there at once or none.
            let work = tempfile::tempdir_in(&cache).map_err(file::failed("making a folder in", &cache))?;
            for name in names {
                let program = self.target_directory.join("release").join(name);
                fs::copy(&program, work.path().join(name)).map_err(file::failed("storing", &program))?;
            }
            match fs::rename(work.keep(), &folder) {
                // Somebody who built the same was quicker.
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                renamed => renamed.map_err(file::failed("storing", &folder))?,
            }
        }
        forget(&cache, &folder)?;
        Ok(folder)
    }

    /// What names these programs: a digest of all that they are built from.
    fn key(&self, names: &[&str]) -> Result<String, Error> {
        let mut version = rustc();
        version.arg("-vV");
        let version = command::text(&mut version, QUERY_LIMIT).map_err(command::failed("asking rustc its version"))?;
        let mut parts = vec![names.join(" "), version, flags().join(" ")];
        for (path, content) in self.sources(names)? {
            parts.push(format!("{} {}", path.display(), digest::sha256(&content)));
        }
        let mut key = digest::sha256(parts.join("\n").as_bytes());
        key.truncate(16);
        Ok(key)
    }

    /// All files that these programs are built from, by their paths from the workspace's root.
    fn sources(&self, names: &[&str]) -> Result<BTreeMap<PathBuf, Vec<u8>>, Error> {
        let mut files: Vec<PathBuf> = ROOT
            .iter()
            .map(|name| self.root.join(name))
            .filter(|path| path.exists())
            .collect();
        for package in self.closure(names) {
            let folder = package.manifest_path.parent().unwrap_or(&self.root);
            for path in entries(folder)? {
                if !APART.iter().any(|name| path.ends_with(name)) {
                    collect(path, &mut files)?;
                }
            }
        }
        files
            .into_iter()
            .map(|path| {
                let content = file::read(&path)?;
                Ok((path.strip_prefix(&self.root).unwrap_or(&path).to_owned(), content))
            })
            .collect()
    }

    /// These packages of the workspace, and those of it that they are built with.
    fn closure(&self, names: &[&str]) -> Vec<&Package> {
        let mut wanted: Vec<&str> = names.to_vec();
        let mut found: Vec<&Package> = Vec::new();
        while let Some(name) = wanted.pop() {
            let package = self.packages.iter().find(|package| package.name == name);
            let Some(package) = package.filter(|new| found.iter().all(|known| known.name != new.name)) else {
                continue;
            };
            found.push(package);
            let built_with =
                |dependency: &&Dependency| dependency.path.is_some() && dependency.kind.as_deref() != Some("dev");
            wanted.extend(
                package
                    .dependencies
                    .iter()
                    .filter(built_with)
                    .map(|dependency| dependency.name.as_str()),
            );
        }
        found
    }

    /// Release builds in which neither the checkout's path nor cargo's folder shows.
    fn build(&self, names: &[&str]) -> Result<(), Error> {
        let home = env::var_os("CARGO_HOME").map(PathBuf::from);
        let home = home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
        let mut flags = flags();
        // The checkout's own path shows nowhere: cargo names the workspace's files from its root. Were it among the flags,
        // each checkout would compile every dependency anew.
        flags.extend(home.map(|home| format!("--remap-path-prefix={}=/cargo", home.display())));
        flags.push(format!(
            "--remap-path-prefix={}=/target",
            self.target_directory.display()
        ));
        let mut build = cargo();
        build.args(["build", "--release", "--locked"]).current_dir(&self.root);
        build
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
            .env_remove("RUSTFLAGS");
        for name in names {
            build.args(["--package", name, "--bin", name]);
        }
        Ok(command::show(&mut build, BUILD_LIMIT).map_err(command::failed("building the programs"))?)
    }
}

/// The flags that the user has for rustc.
fn flags() -> Vec<String> {
    match env::var("CARGO_ENCODED_RUSTFLAGS") {
        Ok(flags) => flags
            .split('\x1f')
            .filter(|flag| !flag.is_empty())
            .map(str::to_owned)
            .collect(),
        Err(_) => env::var("RUSTFLAGS")
            .unwrap_or_default()
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
    }
}

/// Keeps the sets of programs that were used last; that of now was.
fn forget(cache: &Path, used: &Path) -> Result<(), Error> {
    let touched = fs::File::open(used).and_then(|folder| folder.set_modified(SystemTime::now()));
    touched.map_err(file::failed("marking as used", used))?;
    let mut sets = Vec::new();
    for path in entries(cache)? {
        let when = fs::metadata(&path).and_then(|about| about.modified());
        sets.push((when.map_err(file::failed("looking at", &path))?, path));
    }
    sets.sort();
    for (_, path) in sets.iter().rev().skip(KEPT) {
        fs::remove_dir_all(path).map_err(file::failed("removing", path))?;
    }
    Ok(())
}

/// The files at and below a path.
fn collect(path: PathBuf, files: &mut Vec<PathBuf>) -> Result<(), Error> {
    if path.is_dir() {
        for entry in entries(&path)? {
            collect(entry, files)?;
        }
    } else {
        files.push(path);
    }
    Ok(())
}

/// What is in a folder.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries =
        fs::read_dir(folder).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>());
    Ok(entries.map_err(file::failed("listing", folder))?)
}

/// The cargo that runs this, else the one in the path.
fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// The rustc that cargo calls.
fn rustc() -> Command {
    Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A workspace of a program, what it is built with, and what only its tests use.
    fn workspace(root: &Path) -> Workspace {
        let crate_of = |name: &str, dependencies: &[(&str, Option<&str>)]| Package {
            name: name.to_owned(),
            manifest_path: root.join(name).join("Cargo.toml"),
            dependencies: dependencies
                .iter()
                .map(|(name, kind)| Dependency {
                    name: (*name).to_owned(),
                    kind: kind.map(str::to_owned),
                    path: Some(root.join(name)),
                })
                .collect(),
        };
        for path in [
            "Cargo.lock",
            "program/Cargo.toml",
            "program/src/main.rs",
            "program/tests/all.rs",
            "part/src/lib.rs",
            "stage/src/lib.rs",
        ] {
            file::put(&root.join(path), path).expect("a file");
        }
        Workspace {
            root: root.to_owned(),
            target_directory: root.join("target"),
            packages: vec![
                crate_of("program", &[("part", None), ("stage", Some("dev"))]),
                crate_of("part", &[("program", Some("dev"))]),
                crate_of("stage", &[("part", None)]),
            ],
        }
    }

    #[test]
    fn the_key_is_of_all_that_a_program_is_built_from_and_of_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let workspace = workspace(folder.path());
        let key = || workspace.key(&["program"]).expect("a key");
        let first = key();
        for path in ["program/tests/all.rs", "stage/src/lib.rs"] {
            file::write(&folder.path().join(path), "changed").expect("a file");
            assert_eq!(key(), first, "{path}");
        }
        for path in [
            "Cargo.lock",
            "program/src/main.rs",
            "part/src/lib.rs",
            "part/src/new.rs",
        ] {
            let before = key();
            file::write(&folder.path().join(path), "changed").expect("a file");
            assert_ne!(key(), before, "{path}");
        }
    }

    #[test]
    fn a_checkout_elsewhere_has_the_same_key() {
        let (one, other) = (
            tempfile::tempdir().expect("a folder"),
            tempfile::tempdir().expect("a folder"),
        );
        let key = |folder: &Path| workspace(folder).key(&["program"]).expect("a key");
        assert_eq!(key(one.path()), key(other.path()));
    }

    #[test]
    fn the_sets_that_were_used_last_stay() {
        let cache = tempfile::tempdir().expect("a folder");
        let sets: Vec<PathBuf> = (0..KEPT + 2).map(|n| cache.path().join(n.to_string())).collect();
        for set in &sets {
            file::put(&set.join("program"), "").expect("a file");
            forget(cache.path(), set).expect("a cache");
        }
        let kept: Vec<bool> = sets.iter().map(|set| set.exists()).collect();
        assert_eq!(kept, [false, false, true, true, true, true]);
    }
}
