//! How a file appears whole or not at all, and stays after a power cut.

use std::{
    fs::File,
    io::{self, Write as _},
    path::Path,
};

/// What every temporary file's name starts with.
const TEMPORARY_PREFIX: &str = ".virga-tmp-";

/// Writes `bytes` to `path`, replacing what is there: temporary file beside it, fsync, rename, fsync of the directory.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = parent(path)?;
    let mut file = tempfile::Builder::new()
        .prefix(TEMPORARY_PREFIX)
        .tempfile_in(directory)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|refused| refused.error)?;
    sync_directory(directory)
}

/// Removes a file if it is there, and makes that durable.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Ok(()) => sync_directory(parent(path)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Makes the names in `directory` durable. Without it a rename may be gone after a power cut.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// The directory that `path` lies in.
pub(crate) fn parent(path: &Path) -> io::Result<&Path> {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path names no directory"))
}
