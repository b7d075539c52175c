//! An OCI image with one layer as an archive of an image layout: the same bytes for the same content.
//!
//! Formats: the OCI image specification 1.1 (image-layout.md, manifest.md, config.md, layer.md).

use std::collections::BTreeMap;
use std::io;

use serde_json::{Value, json};

use crate::digest;
use crate::tree::{Entry, Tree};

/// The tree as an uncompressed tar archive, sorted by path, with one time (seconds since 1970) for all.
fn tar(tree: &Tree, time: u64) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, entry) in tree.entries() {
        let mut header = tar::Header::new_gnu();
        header.set_mtime(time);
        header.set_uid(0);
        header.set_gid(0);
        match entry {
            Entry::Folder { mode } => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(*mode);
                header.set_size(0);
                archive.append_data(&mut header, format!("{path}/"), io::empty())?;
            }
            Entry::File { mode, content } => {
                header.set_entry_type(tar::EntryType::Regular);
                header.set_mode(*mode);
                header.set_size(content.len() as u64);
                archive.append_data(&mut header, path, content.as_slice())?;
            }
            Entry::Link { target } => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_mode(0o777);
                header.set_size(0);
                archive.append_link(&mut header, path, target)?;
            }
            Entry::CharacterDevice { mode, major, minor } => {
                header.set_entry_type(tar::EntryType::Char);
                header.set_mode(*mode);
                header.set_size(0);
                header.set_device_major(*major)?;
                header.set_device_minor(*minor)?;
                archive.append_data(&mut header, path, io::empty())?;
            }
        }
    }
    archive.into_inner()
}

/// What a container of the image runs.
#[derive(Debug)]
pub struct Process {
    /// Program and first arguments.
    pub entrypoint: Vec<String>,
    /// `user:group`, as numbers: a kubelet can check only numbers against `runAsNonRoot`.
    pub user: String,
    /// `NAME=value`.
    pub environment: Vec<String>,
}

/// A finished image.
#[derive(Debug)]
pub struct Archive {
    /// The bytes of the archive.
    pub bytes: Vec<u8>,
    /// Of the image's manifest: `sha256:…`, the digest by which runtimes know it.
    pub digest: String,
    /// The image's tag: the beginning of its digest.
    pub tag: String,
}

/// Builds an image called `name` (without tag); `time` is its creation in seconds since 1970.
pub fn archive(name: &str, layer: &Tree, process: &Process, time: u64) -> io::Result<Archive> {
    let mut blobs = Blobs::default();
    // Not compressed: it is read on the machine where it was made, and compressors change their output by version.
    let layer = blobs.add("application/vnd.oci.image.layer.v1.tar", tar(layer, time)?);
    let config = blobs.add_json(
        "application/vnd.oci.image.config.v1+json",
        &json!({
            "architecture": "amd64",
            "os": "linux",
            "config": {"Entrypoint": process.entrypoint, "User": process.user, "Env": process.environment, "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
        }),
    );
    let mut manifest = blobs.add_json(
        "application/vnd.oci.image.manifest.v1+json",
        &json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config,
            "layers": [layer],
        }),
    );
    let digest = manifest["digest"].as_str().unwrap_or_default().to_owned();
    let tag: String = digest.trim_start_matches("sha256:").chars().take(12).collect();
    // The first is the specification's and only a tag by custom; the second is the full name, which containerd prefers.
    manifest["annotations"] = json!({
        "io.containerd.image.name": format!("{name}:{tag}"),
        "org.opencontainers.image.ref.name": tag,
    });
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [manifest],
    });

    let mut files = Tree::default();
    files.file("oci-layout", 0o644, json!({"imageLayoutVersion": "1.0.0"}).to_string());
    files.file("index.json", 0o644, index.to_string());
    for (hash, bytes) in blobs.by_hash {
        files.file(&format!("blobs/sha256/{hash}"), 0o644, bytes);
    }
    Ok(Archive {
        bytes: tar(&files, time)?,
        digest,
        tag,
    })
}

#[derive(Default)]
struct Blobs {
    by_hash: BTreeMap<String, Vec<u8>>,
}

impl Blobs {
    /// Stores a blob and returns its descriptor.
    fn add(&mut self, media_type: &str, bytes: Vec<u8>) -> Value {
        let hash = digest::sha256(&bytes);
        let descriptor = json!({"mediaType": media_type, "digest": format!("sha256:{hash}"), "size": bytes.len()});
        self.by_hash.insert(hash, bytes);
        descriptor
    }

    fn add_json(&mut self, media_type: &str, content: &Value) -> Value {
        self.add(media_type, content.to_string().into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn layer() -> Tree {
        let mut layer = Tree::default();
        layer.file("usr/bin/true", 0o755, "program");
        layer.link("var/run", "/run");
        layer.folder("tmp", 0o1777);
        layer.character_device("dev/null", 0o666, 1, 3);
        layer
    }

    fn process() -> Process {
        Process {
            entrypoint: vec!["/usr/bin/true".into()],
            user: "65532:65532".into(),
            environment: Vec::new(),
        }
    }

    fn files(bytes: &[u8]) -> BTreeMap<String, (tar::Header, Vec<u8>)> {
        let mut archive = tar::Archive::new(bytes);
        let mut files = BTreeMap::new();
        for entry in archive.entries().expect("a tar archive") {
            let mut entry = entry.expect("an entry");
            let path = entry.path().expect("a path").to_string_lossy().into_owned();
            let header = entry.header().clone();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).expect("content");
            files.insert(path, (header, content));
        }
        files
    }

    fn blob(files: &BTreeMap<String, (tar::Header, Vec<u8>)>, descriptor: &Value) -> Vec<u8> {
        let digest = descriptor["digest"].as_str().expect("a digest");
        let path = digest.replace("sha256:", "blobs/sha256/");
        let bytes = files.get(&path).expect("the blob is in the archive").1.clone();
        assert_eq!(
            digest,
            format!("sha256:{}", digest::sha256(&bytes)),
            "named for what it holds"
        );
        assert_eq!(descriptor["size"], bytes.len());
        bytes
    }

    #[test]
    fn from_the_index_everything_is_found_under_its_digest() {
        let image = archive("virga.local/test", &layer(), &process(), 0).expect("an archive");
        let files_ = files(&image.bytes);
        assert_eq!(files_["oci-layout"].1, br#"{"imageLayoutVersion":"1.0.0"}"#);
        let json = |bytes: &[u8]| -> Value { serde_json::from_slice(bytes).expect("JSON") };
        let index = json(&files_["index.json"].1);
        let descriptor = &index["manifests"][0];
        assert_eq!(descriptor["digest"], image.digest);
        assert_eq!(image.tag, image.digest[7..19]);
        assert_eq!(
            descriptor["annotations"]["io.containerd.image.name"],
            format!("virga.local/test:{}", image.tag)
        );
        let manifest = json(&blob(&files_, descriptor));
        let config = json(&blob(&files_, &manifest["config"]));
        assert_eq!(config["config"]["User"], "65532:65532");
        assert_eq!(config["config"]["Entrypoint"], json!(["/usr/bin/true"]));
        assert_eq!(config["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);
        let layer = files(&blob(&files_, &manifest["layers"][0]));
        let paths: Vec<&str> = layer.keys().map(String::as_str).collect();
        assert_eq!(
            paths,
            [
                "dev/",
                "dev/null",
                "tmp/",
                "usr/",
                "usr/bin/",
                "usr/bin/true",
                "var/",
                "var/run"
            ]
        );
        assert_eq!(layer["usr/bin/true"].1, b"program");
        assert_eq!(layer["tmp/"].0.mode().expect("a mode"), 0o1777);
        let null = &layer["dev/null"].0;
        assert_eq!(null.entry_type(), tar::EntryType::Char);
        let device = (null.device_major(), null.device_minor());
        assert_eq!(
            (device.0.expect("a major"), device.1.expect("a minor")),
            (Some(1), Some(3))
        );
        for (header, _) in layer.values() {
            let owner = (header.uid().expect("a user"), header.gid().expect("a group"));
            assert_eq!((owner, header.mtime().expect("a time")), ((0, 0), 0));
        }
    }

    #[test]
    fn the_same_content_gives_the_same_bytes() {
        let mut other = Tree::default();
        other.character_device("dev/null", 0o666, 1, 3);
        other.folder("tmp", 0o1777);
        other.link("var/run", "/run");
        other.file("usr/bin/true", 0o755, "program");
        let build = |layer: &Tree| archive("virga.local/test", layer, &process(), 0).expect("an archive");
        assert_eq!(build(&layer()).bytes, build(&other).bytes);
        other.file("usr/bin/true", 0o755, "another program");
        assert_ne!(build(&layer()).tag, build(&other).tag);
    }
}
