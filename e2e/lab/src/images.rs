//! Container images of one static program, built here: there is no registry to pull them from.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::archive;
use crate::binaries;
use crate::progress::Progress;

/// The image that holds a pod's namespaces. Every node has it.
pub const PAUSE: &str = "virga.local/pause:1";

/// An image that answers every HTTP request on port 8080 with `hello from <pod>`. For tests; see [`hello`].
pub const HELLO: &str = "virga.local/hello:1";

/// An image could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its program could not be built.
    #[error(transparent)]
    Binaries(#[from] binaries::Error),
    /// A file could not be read or written.
    #[error("making an image: {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Writes the archive of [`PAUSE`].
pub(crate) fn pause(archive: &Path, progress: Progress) -> Result<(), Error> {
    write(PAUSE, "pause", &binaries::pause(progress)?, archive)
}

/// Writes the archive of [`HELLO`], for `Lab::load_image`.
pub fn hello(archive: &Path) -> Result<(), Error> {
    write(HELLO, "hello", &binaries::hello(Progress::start())?, archive)
}

fn write(image: &str, name: &str, program: &Path, archive: &Path) -> Result<(), Error> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Io { path, source }
    };
    let content = fs::read(program).map_err(at(program))?;
    let content = archive::one_program(image, name, &content).map_err(at(program))?;
    fs::write(archive, content).map_err(at(archive))
}
