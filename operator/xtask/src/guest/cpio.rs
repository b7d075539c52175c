//! An initramfs as a `newc` cpio archive (the kernel's Documentation/driver-api/early-userspace/buffer-format.rst),
//! the same bytes for the same content: sorted, owned by root, at time zero.

use crate::tree::{Entry, Tree};

/// What can't be written to an archive.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path} is too large for an initramfs")]
pub struct TooLarge {
    path: String,
}

/// The archive's bytes.
pub fn archive(tree: &Tree) -> Result<Vec<u8>, TooLarge> {
    let mut out = Vec::new();
    for (number, (path, entry)) in (1u32..).zip(tree.entries()) {
        let (kind, mode, content, device): (u32, u32, &[u8], (u32, u32)) = match entry {
            Entry::Folder { mode } => (0o040_000, *mode, &[], (0, 0)),
            Entry::File { mode, content } => (0o100_000, *mode, content, (0, 0)),
            Entry::Link { target } => (0o120_000, 0o777, target.as_bytes(), (0, 0)),
            Entry::CharacterDevice { mode, major, minor } => (0o020_000, *mode, &[], (*major, *minor)),
        };
        append(&mut out, number, path, kind | mode, content, device)?;
    }
    append(&mut out, 0, "TRAILER!!!", 0, &[], (0, 0))?;
    Ok(out)
}
fn append(
    out: &mut Vec<u8>,
    inode: u32,
    path: &str,
    mode: u32,
    content: &[u8],
    device: (u32, u32),
) -> Result<(), TooLarge> {
    let small = |length: usize| u32::try_from(length).map_err(|_| TooLarge { path: path.to_owned() });
    let links = if mode & 0o170_000 == 0o040_000 { 2 } else { 1 };
    let fields = [
        inode,
        mode,
        0, // user
        0, // group
        links,
        0, // time
        small(content.len())?,
        0, // the archive's own device
        0,
        device.0,
        device.1,
        small(path.len() + 1)?,
        0, // checksum, of another variant of the format
    ];
    out.extend_from_slice(b"070701");
    for field in fields {
        out.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    out.extend_from_slice(path.as_bytes());
    out.push(0);
    out.resize(out.len().next_multiple_of(4), 0);
    out.extend_from_slice(content);
    out.resize(out.len().next_multiple_of(4), 0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    fn tree() -> Tree {
        let mut tree = Tree::default();
        tree.file("etc/init.d/boot", 0o755, "#!/bin/sh\n");
        tree.link("bin/sh", "busybox");
        tree.character_device("dev/console", 0o600, 5, 1);
        tree.folder("root", 0o700);
        tree
    }

    #[test]
    fn the_order_of_insertion_does_not_show() {
        let mut other = Tree::default();
        other.folder("root", 0o700);
        other.character_device("dev/console", 0o600, 5, 1);
        other.link("bin/sh", "busybox");
        other.file("etc/init.d/boot", 0o755, "#!/bin/sh\n");
        assert_eq!(archive(&tree()), archive(&other));
    }

    #[test]
    fn cpio_reads_the_archive_back() {
        let archive = archive(&tree()).expect("small enough");
        let mut cpio = Command::new("cpio")
            .args(["--list", "--verbose", "--quiet", "--numeric-uid-gid"])
            .env("TZ", "UTC")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("cpio is installed");
        cpio.stdin
            .take()
            .expect("a pipe")
            .write_all(&archive)
            .expect("cpio reads");
        let listed = String::from_utf8(cpio.wait_with_output().expect("cpio ends").stdout).expect("text");
        let lines: Vec<_> = listed
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(
            lines,
            [
                "drwxr-xr-x 2 0 0 0 Jan 1 1970 bin",
                "lrwxrwxrwx 1 0 0 7 Jan 1 1970 bin/sh -> busybox",
                "drwxr-xr-x 2 0 0 0 Jan 1 1970 dev",
                "crw------- 1 0 0 5, 1 Jan 1 1970 dev/console",
                "drwxr-xr-x 2 0 0 0 Jan 1 1970 etc",
                "drwxr-xr-x 2 0 0 0 Jan 1 1970 etc/init.d",
                "-rwxr-xr-x 1 0 0 10 Jan 1 1970 etc/init.d/boot",
                "drwx------ 2 0 0 0 Jan 1 1970 root",
            ]
        );
    }
}
