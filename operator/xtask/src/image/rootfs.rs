//! The file tree of a process' image: the program, other programs that it runs, their shared libraries, and the few
//! files that a program expects of a system. There is no base image.

use std::path::{Path, PathBuf};

use crate::tree::Tree;
use crate::{closure, file};

/// What went wrong while a file tree was put together.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The shared libraries of a program.
    #[error(transparent)]
    Closure(#[from] closure::Error),
    /// A file could not be read.
    #[error(transparent)]
    File(#[from] file::Error),
}

/// The number of user and group `virga`: the one that other images without root use.
pub const USER: u32 = 65532;

/// For programs that speak TLS to services with public certificates (an image's source is a URL).
const CERTIFICATES: &str = "etc/ssl/certs/ca-certificates.crt";

/// Builds the tree. `programs` are files on this machine with their absolute place in the image.
pub fn layer(programs: &[(PathBuf, String)]) -> Result<Tree, Error> {
    let mut layer = Tree::default();
    layer.file(
        "etc/passwd",
        0o644,
        format!("root:x:0:0:root:/:/sbin/nologin\nvirga:x:{USER}:{USER}:virga:/:/sbin/nologin\n"),
    );
    layer.file("etc/group", 0o644, format!("root:x:0:\nvirga:x:{USER}:\n"));
    // Names from the hosts file first: that is where a pod's own are.
    layer.file("etc/nsswitch.conf", 0o644, "hosts: files dns\n");
    layer.folder("run", 0o755);
    layer.folder("tmp", 0o1777);
    // libvirt's client looks for its socket below /var/run.
    layer.link("var/run", "/run");
    let certificates = Path::new("/").join(CERTIFICATES);
    if certificates.exists() {
        layer.file(CERTIFICATES, 0o644, file::read(&certificates)?);
    }
    for (program, place) in programs {
        layer.file(place.trim_start_matches('/'), 0o755, file::read(program)?);
        for library in closure::of(program, closure::System::Machine)? {
            // The name by which it was asked for, and the content behind all links.
            let place = library.to_string_lossy().trim_start_matches('/').to_owned();
            layer.file(&place, 0o755, file::read(&library)?);
        }
    }
    Ok(layer)
}
