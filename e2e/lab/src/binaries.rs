//! Programs that are built from Go modules, once, and kept in the cache folder.
//!
//! No registry serves Kubernetes' own binaries, but `k8s.io/kubernetes` is a Go module, and so are etcd, Helm and
//! kstatus. Each is built into `${XDG_CACHE_HOME:-~/.cache}/virga/<name>-<key>/<name>`, where the key is a digest of
//! everything that decides what comes out: the module's files, the flags, Go's version.

use std::env;
use std::fmt::Write;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::command;
use crate::progress::Progress;
use crate::wait;

/// Kubernetes takes six minutes on two free cores, and its modules come over the network.
const BUILD: Duration = Duration::from_mins(45);

/// A program could not be built.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Go could not be run, or failed.
    #[error("building {name}")]
    Build {
        /// The program.
        name: &'static str,
        /// What Go said.
        source: command::Error,
    },
    /// The module's files or the cache could not be read or written.
    #[error("building {name}: {path}")]
    Io {
        /// The program.
        name: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The module does not require what its version is taken from.
    #[error("building {name}: its go.mod does not require {module}")]
    Version {
        /// The program.
        name: &'static str,
        /// The module that is missing.
        module: &'static str,
    },
    /// Neither `XDG_CACHE_HOME` nor `HOME` says where the cache is.
    #[error("neither XDG_CACHE_HOME nor HOME is set, so there is no place for built programs")]
    NoCache,
    /// Another process has been building the same for longer than a build may take.
    #[error("waiting for another build of {name}: still going on after {} s", BUILD.as_secs())]
    Locked {
        /// The program.
        name: &'static str,
    },
}

/// A program and how it is built.
struct Recipe {
    name: &'static str,
    /// The folder of its module, below this crate.
    module: &'static str,
    package: &'static str,
    /// What to expect when nothing of it is in Go's cache.
    duration: &'static str,
    /// Go variables that hold a version.
    versions: &'static [VersionVariable],
}

/// A Go variable, and the required module and the part of its version that belong in it.
struct VersionVariable {
    path: &'static str,
    of: &'static str,
    part: Part,
}

enum Part {
    Whole,
    Major,
    Minor,
}

const fn version(path: &'static str, of: &'static str, part: Part) -> VersionVariable {
    VersionVariable { path, of, part }
}

// Without its version kubectl calls the apiserver too old.
const CONTROLPLANE: Recipe = Recipe {
    name: "controlplane",
    module: "controlplane",
    package: ".",
    duration: "6 minutes on two cores when Go's cache is empty",
    versions: &[
        version(
            "k8s.io/component-base/version.gitVersion",
            "k8s.io/kubernetes",
            Part::Whole,
        ),
        version(
            "k8s.io/component-base/version.gitMajor",
            "k8s.io/kubernetes",
            Part::Major,
        ),
        version(
            "k8s.io/component-base/version.gitMinor",
            "k8s.io/kubernetes",
            Part::Minor,
        ),
        version(
            "k8s.io/client-go/pkg/version.gitVersion",
            "k8s.io/kubernetes",
            Part::Whole,
        ),
    ],
};

const PAUSE: Recipe = Recipe {
    name: "pause",
    module: "programs",
    package: "./pause",
    duration: "a second",
    versions: &[],
};

const HELLO: Recipe = Recipe {
    name: "hello",
    package: "./hello",
    duration: "some seconds",
    ..PAUSE
};

// Helm renders charts without a cluster for Kubernetes 1.20 unless told; its own builds take the minor version of its
// client library (0.N.P of the libraries is 1.N.P of Kubernetes).
const HELM: Recipe = Recipe {
    name: "helm",
    module: "helm",
    package: "helm.sh/helm/v3/cmd/helm",
    duration: "a minute or two when Go's cache is empty",
    versions: &[
        version(
            "helm.sh/helm/v3/internal/version.version",
            "helm.sh/helm/v3",
            Part::Whole,
        ),
        version(
            "helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor",
            "k8s.io/client-go",
            Part::Minor,
        ),
        version(
            "helm.sh/helm/v3/pkg/lint/rules.k8sVersionMinor",
            "k8s.io/client-go",
            Part::Minor,
        ),
    ],
};

const KSTATUS: Recipe = Recipe {
    name: "kstatus",
    module: "kstatus",
    package: ".",
    duration: "half a minute when Go's cache is empty",
    versions: &[],
};

/// etcd, every Kubernetes process and kubectl in one program, which goes by the name it is called.
pub fn controlplane(progress: Progress) -> Result<PathBuf, Error> {
    CONTROLPLANE.built(progress)
}

/// The program of the image that holds a pod's namespaces.
pub fn pause(progress: Progress) -> Result<PathBuf, Error> {
    PAUSE.built(progress)
}

/// The program of an image that answers HTTP requests.
pub fn hello(progress: Progress) -> Result<PathBuf, Error> {
    HELLO.built(progress)
}

/// Helm.
pub fn helm(progress: Progress) -> Result<PathBuf, Error> {
    HELM.built(progress)
}

/// Judges objects by the rules of kstatus.
pub fn kstatus(progress: Progress) -> Result<PathBuf, Error> {
    KSTATUS.built(progress)
}

/// The cache folder of everything heavy that the project builds.
pub fn cache() -> Result<PathBuf, Error> {
    let from = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let root = from("XDG_CACHE_HOME").or_else(|| from("HOME").map(|home| home.join(".cache")));
    Ok(root.ok_or(Error::NoCache)?.join("virga"))
}

impl Recipe {
    fn built(&self, progress: Progress) -> Result<PathBuf, Error> {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join(self.module);
        let flags = self.linker_flags(&sources)?;
        let cache = cache()?;
        let folder = cache.join(format!("{}-{}", self.name, self.key(&sources, &flags)?));
        let program = folder.join(self.name);
        if program.exists() {
            return Ok(program);
        }
        fs::create_dir_all(&cache).map_err(|source| self.io(&cache, source))?;
        let _lock = self.lock(&cache, progress)?;
        if program.exists() {
            return Ok(program);
        }
        // Only a finished program gets its final name.
        let unfinished = tempfile::tempdir_in(&cache).map_err(|source| self.io(&cache, source))?;
        let mut go = Command::new("go");
        go.current_dir(&sources).env("CGO_ENABLED", "0").args([
            "build",
            "-mod=readonly",
            "-trimpath",
            "-buildvcs=false",
        ]);
        go.arg("-ldflags")
            .arg(&flags)
            .arg("-o")
            .arg(unfinished.path().join(self.name))
            .arg(self.package);
        let what = format!("building {} (once; {})", self.name, self.duration);
        progress.step(&what);
        with_reminders(progress, &what, || command::run(&mut go, BUILD)).map_err(|source| Error::Build {
            name: self.name,
            source,
        })?;
        match fs::rename(unfinished.path(), &folder) {
            Ok(()) => {
                let _ = unfinished.keep();
            }
            Err(source) => return Err(self.io(&folder, source)),
        }
        Ok(program)
    }

    fn linker_flags(&self, sources: &Path) -> Result<String, Error> {
        let mut flags = "-s -w".to_owned();
        let path = sources.join("go.mod");
        let manifest = fs::read_to_string(&path).map_err(|source| self.io(&path, source))?;
        for VersionVariable { path, of, part } in self.versions {
            let version = required_version(&manifest, of).ok_or(Error::Version {
                name: self.name,
                module: of,
            })?;
            let mut numbers = version.trim_start_matches('v').split('.');
            let value = match part {
                Part::Whole => Some(version),
                Part::Major => numbers.next(),
                Part::Minor => numbers.nth(1),
            };
            let _ = write!(flags, " -X {path}={}", value.unwrap_or_default());
        }
        Ok(flags)
    }

    /// A digest of what decides the outcome.
    fn key(&self, sources: &Path, flags: &str) -> Result<String, Error> {
        let go =
            command::run(Command::new("go").arg("version").current_dir(sources), command::SHORT).map_err(|source| {
                Error::Build {
                    name: self.name,
                    source,
                }
            })?;
        let mut files = Vec::new();
        module_files(sources, &mut files).map_err(|source| self.io(sources, source))?;
        files.sort();
        let mut digest = Sha256::new();
        for part in [go.trim(), flags, self.package] {
            digest.update(part);
            digest.update([0]);
        }
        for file in files {
            let content = fs::read(&file).map_err(|source| self.io(&file, source))?;
            digest.update(
                file.strip_prefix(sources)
                    .unwrap_or(&file)
                    .as_os_str()
                    .as_encoded_bytes(),
            );
            digest.update([0]);
            digest.update(content.len().to_le_bytes());
            digest.update(content);
        }
        Ok(hex(&digest.finalize()[..8]))
    }

    /// One build of a program at a time; the lock goes with the process that holds it.
    fn lock(&self, cache: &Path, progress: Progress) -> Result<File, Error> {
        let path = cache.join(format!("{}.lock", self.name));
        let lock = File::create(&path).map_err(|source| self.io(&path, source))?;
        let what = format!("waiting for another build of {}", self.name);
        let mut reminder = progress.reminder(&what);
        let outcome = wait::until(BUILD, || match lock.try_lock() {
            Ok(()) => Some(Ok(())),
            Err(TryLockError::WouldBlock) => {
                reminder.tick();
                None
            }
            Err(TryLockError::Error(source)) => Some(Err(self.io(&path, source))),
        });
        outcome.unwrap_or(Err(Error::Locked { name: self.name }))?;
        Ok(lock)
    }

    fn io(&self, path: &Path, source: io::Error) -> Error {
        Error::Io {
            name: self.name,
            path: path.to_owned(),
            source,
        }
    }
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The version of a module in the text of a `go.mod`.
fn required_version<'a>(manifest: &'a str, module: &str) -> Option<&'a str> {
    manifest.lines().find_map(|line| {
        let mut words = line.trim().trim_start_matches("require ").split_whitespace();
        (words.next() == Some(module))
            .then(|| words.next())
            .flatten()
            .filter(|version| version.starts_with('v'))
    })
}

fn module_files(folder: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            module_files(&path, found)?;
        } else if path
            .extension()
            .is_some_and(|kind| kind == "go" || kind == "mod" || kind == "sum")
        {
            found.push(path);
        }
    }
    Ok(())
}

fn with_reminders<T>(progress: Progress, what: &str, work: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut reminder = progress.reminder(what);
            wait::until_true(BUILD, || {
                reminder.tick();
                done.load(Ordering::Relaxed)
            });
        });
        let outcome = work();
        done.store(true, Ordering::Relaxed);
        outcome
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_what_go_mod_requires_and_not_what_it_replaces() {
        let manifest = "require (\n\tk8s.io/kubectl v0.0.0\n\tk8s.io/kubernetes v1.36.3\n)\nreplace k8s.io/api => k8s.io/api v0.36.3\nrequire a.b/c v1.2.3 // indirect\n";
        assert_eq!(required_version(manifest, "k8s.io/kubernetes"), Some("v1.36.3"));
        assert_eq!(required_version(manifest, "a.b/c"), Some("v1.2.3"));
        assert_eq!(required_version(manifest, "k8s.io/absent"), None);
    }

    #[test]
    fn every_part_of_a_version_reaches_its_variable() {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("controlplane");
        let flags = CONTROLPLANE.linker_flags(&sources).unwrap();
        assert!(flags.contains("gitMajor=1 "), "{flags}");
        assert!(flags.contains("gitMinor=36 "), "{flags}");
    }
}
