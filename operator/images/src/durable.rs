//! How a file appears whole or not at all, and stays after a power cut.

use std::{
    fs::{File, Permissions},
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

/// What every temporary file's name starts with, so that leftovers of a crash can be told from anything else.
pub(crate) const TEMPORARY_PREFIX: &str = ".virga-tmp-";

/// Writes `bytes` to `path`, replacing what is there: temporary file beside it, fsync, rename, fsync of the directory.
pub(crate) fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let directory = parent(path)?;
    // Made with mode 0600, so that a secret is never readable by others, not even for a moment.
    let mut file = tempfile::Builder::new()
        .prefix(TEMPORARY_PREFIX)
        .tempfile_in(directory)?;
    file.write_all(bytes)?;
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|refused| refused.error)?;
    sync_directory(directory)
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
