//! The note beside an Instance's disks: which CPUs, pages and devices of the host it has, and for which size.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use virga_crds::InstanceTopology;
use virga_images::durable;

use crate::layout::InstanceFiles;

/// Five hundred pinned CPUs are some 20 KiB; what is longer was not written by us.
const MAX_BYTES: u64 = 1 << 20;

/// What an Instance has of its host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Note {
    /// The CPUs, pages and devices; none, if its size has none of its own.
    #[serde(flatten)]
    pub(super) topology: InstanceTopology,
    /// The Flavor that they are for.
    #[serde(default)]
    pub(super) flavor: String,
    /// What it had before a resize that is not final, and gets back if that is taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) former: Option<Box<Note>>,
}

impl Note {
    /// What it has, if that is anything.
    pub(super) fn told(&self) -> Option<&InstanceTopology> {
        Some(&self.topology).filter(|topology| **topology != InstanceTopology::default())
    }
}

/// Why a note was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system said no.
    #[error("{doing} {path}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is there, and it can't be told what it says. Nothing is given out before somebody has looked: it may be given
    /// out already.
    #[error("reading {path}: it does not say which CPUs and devices the Instance has; put it right or remove it")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl Error {
    pub(super) fn io<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Io {
            doing,
            path: path.to_owned(),
            source,
        }
    }
}

/// What is noted; nothing when there is no note.
pub(super) fn read(files: &InstanceFiles) -> Result<Option<Note>, Error> {
    let path = files.topology();
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(Error::io("opening", &path))?,
    };
    let mut text = Vec::new();
    let read = file.take(MAX_BYTES).read_to_end(&mut text);
    read.map_err(Error::io("reading", &path))?;
    let note = serde_json::from_slice(&text);
    note.map(Some).map_err(|source| Error::Unreadable { path, source })
}

/// Notes it, so that it is there after a power cut too: the domain is defined only then. A crash leaves no note or a
/// whole one.
pub(super) fn write(files: &InstanceFiles, note: &Note) -> Result<(), Error> {
    let (directory, path) = (files.directory(), files.topology());
    std::fs::create_dir_all(directory).map_err(Error::io("making", directory))?;
    let write = || {
        durable::write(&path, &serde_json::to_vec(note)?, 0o600)?;
        durable::sync_directory(durable::parent(directory)?)
    };
    write().map_err(Error::io("writing", &path))
}

/// Takes the note away, and the directory when nothing else is in it.
pub(super) fn remove(files: &InstanceFiles) -> Result<(), Error> {
    let path = files.topology();
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        removed => removed.map_err(Error::io("removing", &path))?,
    }
    // One that has more in it, or is gone already, is not ours to remove here.
    let _ = std::fs::remove_dir(files.directory());
    Ok(())
}
