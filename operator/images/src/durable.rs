//! How a file appears whole or not at all, and stays after a power cut.

use std::{
    fs::{File, Permissions},
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

/// What every temporary file's name starts with, so that leftovers of a crash can be told from anything else.
pub const TEMPORARY_PREFIX: &str = ".virga-tmp-";

/// Writes `bytes` to `path` with these permissions, replacing what is there: temporary file beside it, fsync, rename,
/// fsync of the directory. Blocks, as all here does.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
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

/// Removes a file if it is there, and makes that durable.
pub fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Ok(()) => sync_directory(parent(path)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Makes the names in `directory` durable. Without it a rename may be gone after a power cut.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// The directory that `path` lies in.
pub fn parent(path: &Path) -> io::Result<&Path> {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path names no directory"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_a_removed_one_may_be_removed_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("note");
        write(&path, b"one", 0o600).unwrap();
        write(&path, b"two", 0o640).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(
            std::fs::read_dir(directory.path()).unwrap().count(),
            1,
            "nothing temporary stays"
        );
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert!(!path.exists());
        assert!(parent(Path::new("note")).is_err());
    }
}
