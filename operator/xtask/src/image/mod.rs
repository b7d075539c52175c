//! `cargo xtask image`: a reproducible OCI archive of each of Virga's processes.
//!
//! No base image and no registry: the program, the shared libraries that it needs, and little else. The archives go to
//! `DIR/NAME.tar`, and `DIR/images.json` says what each is called; `ctr --namespace k8s.io images import` takes them.

use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Serialize};

use crate::file;

mod oci;
mod programs;
mod rootfs;

/// Arguments of `cargo xtask image`.
#[derive(clap::Args)]
pub struct Args {
    /// Which process
    #[arg(value_enum, default_value = "all")]
    process: Which,
    /// Where the archives go [default: `image` in cargo's target folder]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Which {
    Controller,
    Agent,
    All,
}

/// What went wrong while images were built.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The programs.
    #[error("building the programs")]
    Programs(#[from] programs::Error),
    /// `images.json` is no list of images.
    #[error("reading the list of images")]
    List(#[from] serde_json::Error),
    /// `SOURCE_DATE_EPOCH` is no number.
    #[error("SOURCE_DATE_EPOCH is {0:?}, not a number of seconds")]
    Time(String),
    /// The file tree.
    #[error("collecting the files of {name}")]
    Rootfs {
        /// Of which image.
        name: String,
        /// Why.
        source: rootfs::Error,
    },
    /// A file could not be handled.
    #[error(transparent)]
    File(#[from] file::Error),
}

/// The image of one of our processes.
#[derive(Debug)]
struct ProcessImage {
    /// Crate, program and image.
    name: &'static str,
    /// Programs of this machine that it runs, at their places on the machine and in the image.
    runs: &'static [&'static str],
    /// `user:group`.
    user: String,
}

impl ProcessImage {
    fn of(which: Which) -> Vec<Self> {
        let controller = || Self {
            name: "virga-controller",
            runs: &[],
            user: format!("{0}:{0}", rootfs::USER),
        };
        // Root: libvirt's socket and the images' folders belong to root on the host.
        let agent = || Self {
            name: "virga-agent",
            runs: &["/usr/bin/qemu-img"],
            user: "0:0".to_owned(),
        };
        match which {
            Which::Controller => vec![controller()],
            Which::Agent => vec![agent()],
            Which::All => vec![controller(), agent()],
        }
    }

    /// The whole name of its image, without tag. No registry answers under it.
    fn image(&self) -> String {
        format!("virga.local/{}", self.name)
    }

    /// Builds its archive from its program.
    fn archive(&self, binary: &Path, time: u64) -> Result<oci::Archive, Error> {
        let place = format!("/usr/bin/{}", self.name);
        let mut programs = vec![(binary.to_owned(), place.clone())];
        programs.extend(self.runs.iter().map(|path| (PathBuf::from(path), (*path).to_owned())));
        let layer = rootfs::layer(&programs).map_err(|source| Error::Rootfs {
            name: self.image(),
            source,
        })?;
        let process = oci::Process {
            entrypoint: vec![place],
            user: self.user.clone(),
            environment: vec!["PATH=/usr/bin".to_owned()],
        };
        Ok(oci::archive(&self.image(), &layer, &process, time).map_err(file::failed("archiving", binary))?)
    }
}

/// One entry of `images.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Built {
    /// The process: `virga-controller`.
    pub name: String,
    /// The image's whole name with its tag: `virga.local/virga-controller:0123456789ab`.
    pub image: String,
    /// The tag alone.
    pub tag: String,
    /// Of the manifest: `sha256:…`.
    pub digest: String,
    /// The archive, an absolute path.
    pub archive: PathBuf,
}

/// Builds the images and prints name, digest, size in bytes and path of each.
pub fn run(args: Args) -> Result<(), Error> {
    let workspace = programs::Workspace::ask()?;
    let out = args.out.unwrap_or_else(|| workspace.target_directory().join("image"));
    file::make_folder(&out)?;
    let out = fs::canonicalize(&out).map_err(file::failed("finding", &out))?;
    let time = source_time()?;
    let processes = ProcessImage::of(args.process);
    let names: Vec<&str> = processes.iter().map(|process| process.name).collect();
    let programs = workspace.programs(&names)?;
    let mut built = Vec::new();
    for process in processes {
        let archive = process.archive(&programs.join(process.name), time)?;
        let path = out.join(format!("{}.tar", process.name));
        file::write(&path, &archive.bytes)?;
        let image = format!("{}:{}", process.image(), archive.tag);
        println!("{image} {} {} {}", archive.digest, archive.bytes.len(), path.display());
        built.push(Built {
            name: process.name.to_owned(),
            image,
            tag: archive.tag,
            digest: archive.digest,
            archive: path,
        });
    }
    record(&out.join("images.json"), built)
}

/// Writes the list, in which images that were built earlier and not now stay.
fn record(path: &Path, built: Vec<Built>) -> Result<(), Error> {
    let mut images: Vec<Built> = match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(source) => return Err(file::failed("reading", path)(source).into()),
    };
    images.retain(|image| built.iter().all(|new| new.name != image.name) && image.archive.exists());
    images.extend(built);
    images.sort_by(|one, other| one.name.cmp(&other.name));
    let text = serde_json::to_string_pretty(&images)? + "\n";
    Ok(file::write(path, text)?)
}

/// The time that all files and the image get: reproducible-builds.org's variable, else 1970.
fn source_time() -> Result<u64, Error> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text.trim().parse().map_err(|_| Error::Time(text)),
        Err(_) => Ok(0),
    }
}

#[cfg(test)]
mod tests;
