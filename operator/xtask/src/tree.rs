//! A file tree that becomes an archive: the guest's initramfs, a layer of an image. Everything belongs to root.

use std::collections::BTreeMap;

/// One entry. Modes are permission bits only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A folder.
    Folder { mode: u32 },
    /// A regular file.
    File { mode: u32, content: Vec<u8> },
    /// A symbolic link.
    Link { target: String },
    /// A character device.
    CharacterDevice { mode: u32, major: u32, minor: u32 },
}

/// A file tree. Paths are relative to its root, without a leading slash; the folders above an entry are made with it.
#[derive(Debug, Default)]
pub struct Tree {
    entries: BTreeMap<String, Entry>,
}

impl Tree {
    /// A folder.
    pub fn folder(&mut self, path: &str, mode: u32) {
        self.above(path);
        self.entries.insert(path.to_owned(), Entry::Folder { mode });
    }

    /// A regular file.
    pub fn file(&mut self, path: &str, mode: u32, content: impl Into<Vec<u8>>) {
        self.above(path);
        self.entries.insert(
            path.to_owned(),
            Entry::File {
                mode,
                content: content.into(),
            },
        );
    }

    /// A symbolic link; what is already at the path stays.
    pub fn link(&mut self, path: &str, target: &str) {
        self.above(path);
        self.entries.entry(path.to_owned()).or_insert_with(|| Entry::Link {
            target: target.to_owned(),
        });
    }

    /// A character device: written to the archive, so no privilege is needed.
    pub fn character_device(&mut self, path: &str, mode: u32, major: u32, minor: u32) {
        self.above(path);
        self.entries
            .insert(path.to_owned(), Entry::CharacterDevice { mode, major, minor });
    }

    /// All entries, sorted by path: folders before what is in them.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(path, entry)| (path.as_str(), entry))
    }

    fn above(&mut self, path: &str) {
        for (at, _) in path.match_indices('/') {
            self.entries
                .entry(path[..at].to_owned())
                .or_insert(Entry::Folder { mode: 0o755 });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_does_not_replace_a_file() {
        let mut tree = Tree::default();
        tree.file("etc/init.d/boot", 0o755, "#!/bin/sh\n");
        tree.link("etc/init.d/boot", "busybox");
        assert!(matches!(tree.entries["etc/init.d/boot"], Entry::File { .. }));
    }
}
