//! The note beside an Instance's disks: what was made of them since they were made first.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use virga_core::instance::RootRecord;

use crate::layout::InstanceFiles;

/// A note is a few names and times; what is longer was not written by us.
const MAX_BYTES: u64 = 4096;

/// Why a note was not read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system said no.
    #[error("reading {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is there, and it can't be told what it says. Which disk the guest may have can't be guessed.
    #[error("reading {path}: it does not say which root disk the Instance has; put it right or remove it")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// What was noted; nothing of note when there is no file.
pub async fn read(files: &InstanceFiles) -> Result<RootRecord, Error> {
    let path = files.root_record();
    let read = {
        let path = path.clone();
        tokio::task::spawn_blocking(move || text(&path)).await
    };
    let text = read.unwrap_or_else(|stopped| Err(io::Error::other(stopped)));
    match text {
        Ok(None) => Ok(RootRecord::default()),
        Ok(Some(text)) => serde_json::from_slice(&text).map_err(|source| Error::Unreadable { path, source }),
        Err(source) => Err(Error::Io { path, source }),
    }
}

fn text(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut text = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut text)?;
    Ok(Some(text))
}

/// Notes it, so that it is there after a power cut too: disks are changed only then. A crash leaves the old note or the
/// new one.
pub(super) async fn write(files: &InstanceFiles, record: &RootRecord) -> io::Result<()> {
    let (files, bytes) = (files.clone(), serde_json::to_vec(record)?);
    let written = tokio::task::spawn_blocking(move || {
        let (directory, path) = (files.directory(), files.root_record());
        let temporary = path.with_extension("tmp");
        std::fs::create_dir_all(directory)?;
        let mut file = File::create(&temporary)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, &path)?;
        File::open(directory)?.sync_all()
    });
    written.await.unwrap_or_else(|stopped| Err(io::Error::other(stopped)))
}
