//! Files, with errors that name them.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// A file could not be handled.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {}", path.display())]
pub struct Error {
    /// What was being done.
    doing: &'static str,
    /// With which file.
    path: PathBuf,
    /// Why.
    source: io::Error,
}

/// Makes the error: what was being done, with which file.
pub fn failed(doing: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Error {
    let path = path.as_ref().to_owned();
    move |source| Error { doing, path, source }
}

/// All of a file.
pub fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(failed("reading", path))
}

/// All of a file, which is text.
pub fn read_text(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(failed("reading", path))
}

/// Makes or replaces a file.
pub fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<(), Error> {
    fs::write(path, content).map_err(failed("writing", path))
}

/// Makes or replaces a file, and makes the folders above it.
pub fn put(path: &Path, content: impl AsRef<[u8]>) -> Result<(), Error> {
    make_folder(path.parent().unwrap_or(path))?;
    write(path, content)
}

/// Makes a folder and those above it; one that is there stays.
pub fn make_folder(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(failed("making", path))
}

/// The root of the checkout that this program was built from.
pub fn checkout() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    folder.ancestors().nth(2).unwrap_or(folder).to_path_buf()
}
