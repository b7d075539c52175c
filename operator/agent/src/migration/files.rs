//! Which files of an Instance go with it? All that lie beside its root disk, but for those that are its host's.

use std::{fs, io, path::PathBuf};

use virga_crds::{DiskFormat, OfferedBase};
use virga_images::durable::TEMPORARY_PREFIX;

use crate::{image::base_of, layout::InstanceFiles};

/// As many as the schema takes, the root disk among them.
const MOST: usize = 16;
/// The longest name that the schema takes.
const LONGEST: usize = 63;

/// Why an Instance's files can't go.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("reading the Instance's directory")]
    Read(#[from] io::Error),
    #[error("it has no root disk of its own on its host")]
    NoRootDisk,
    #[error("the image that its root disk lies over is not known")]
    NoBase,
    #[error("{0:?} in its directory is not a file that can be moved")]
    Foreign(String),
    #[error("it has more than {MOST} files")]
    TooMany,
}

/// What goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Files {
    /// The image that the root disk lies over.
    pub(super) base: OfferedBase,
    /// The root disk, with which the guest goes over.
    pub(super) root: PathBuf,
    /// The others, by name.
    pub(super) copies: Vec<(String, PathBuf)>,
}

/// Looks what there is. Blocks.
pub(super) fn of(files: &InstanceFiles) -> Result<Files, Error> {
    let root = files.root_disk();
    if !fs::symlink_metadata(&root).is_ok_and(|found| found.is_file()) {
        return Err(Error::NoRootDisk);
    }
    let base = fs::read_link(files.base()).ok().and_then(|link| base_of(&link));
    let (digest, format) = base.ok_or(Error::NoBase)?;
    let mut copies = Vec::new();
    for entry in fs::read_dir(files.directory())? {
        let entry = entry?;
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path == root || stays(&name) {
            continue;
        }
        let kind = entry.file_type()?;
        if kind.is_symlink() || kind.is_dir() || (kind.is_file() && !is_plain(&name)) {
            return Err(Error::Foreign(name));
        }
        // A socket is its process's.
        if kind.is_file() {
            copies.push((name, path));
        }
    }
    if copies.len() >= MOST {
        return Err(Error::TooMany);
    }
    copies.sort();
    Ok(Files {
        base: OfferedBase {
            digest: digest.to_string(),
            format: match format {
                virga_images::Format::Qcow2 => DiskFormat::Qcow2,
                virga_images::Format::Raw => DiskFormat::Raw,
            },
        },
        root,
        copies,
    })
}

/// What is of no use elsewhere: the link to the image, what the guest has of this host, its console's log (Nova's stays as
/// well), and what a crash left of a write.
fn stays(name: &str) -> bool {
    matches!(name, "base" | "topology.json" | "vnc.sock")
        || name.starts_with("console.log")
        || name.starts_with(TEMPORARY_PREFIX)
        || name.rsplit('.').next() == Some("tmp")
}

fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=LONGEST).contains(&name.len()) && name.bytes().all(plain) && name.as_bytes()[0].is_ascii_alphanumeric()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::layout::Layout;

    #[test]
    fn what_is_the_host_s_stays_and_what_can_not_be_moved_is_named() {
        let data = tempfile::tempdir().unwrap();
        let files = Layout::new(data.path()).instance(uuid::Uuid::from_u128(7));
        fs::create_dir_all(files.directory()).unwrap();
        assert!(matches!(of(&files), Err(Error::NoRootDisk)));
        let put = |name: &str| fs::write(files.directory().join(name), "x").unwrap();
        put("root.qcow2");
        assert!(matches!(of(&files), Err(Error::NoBase)));
        symlink(format!("/images/sha256-{}.qcow2", "ab".repeat(32)), files.base()).unwrap();
        for name in [
            "seed.iso",
            "power.json",
            "console.log",
            "console.log.0",
            "topology.json",
            "power.tmp",
        ] {
            put(name);
        }
        let found = of(&files).unwrap();
        let names: Vec<_> = found.copies.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["power.json", "seed.iso"]);
        assert_eq!(found.base.format, DiskFormat::Qcow2);
        fs::create_dir(files.directory().join("tpm")).unwrap();
        let refused = of(&files).unwrap_err().to_string();
        assert_eq!(refused, "\"tpm\" in its directory is not a file that can be moved");
    }
}
