//! Container image archives, in the format that `docker save` writes and `ctr images import` reads.

use std::io;

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::binaries::hex;

const BLOCK: usize = 512;

/// An image of one file, which is also what it runs.
pub fn one_program(image: &str, name: &str, program: &[u8]) -> io::Result<Vec<u8>> {
    let layer = tar(&[(name, program, 0o755)])?;
    let digest = hex_digest(&layer);
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": {"Entrypoint": [format!("/{name}")]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
    })
    .to_string();
    let config_name = format!("{}.json", hex_digest(config.as_bytes()));
    let layer_name = format!("{digest}/layer.tar");
    let manifest = json!([{"Config": config_name, "RepoTags": [image], "Layers": [layer_name]}]).to_string();
    tar(&[
        (&config_name, config.as_bytes(), 0o644),
        (&layer_name, &layer, 0o644),
        ("manifest.json", manifest.as_bytes(), 0o644),
    ])
}

/// A tape archive (POSIX.1-1988 ustar) of regular files owned by root, without times: the same files give the same
/// bytes.
fn tar(files: &[(&str, &[u8], u32)]) -> io::Result<Vec<u8>> {
    let mut archive = Vec::new();
    for &(name, content, mode) in files {
        archive.extend_from_slice(&header(name, content.len(), mode)?);
        archive.extend_from_slice(content);
        archive.resize(archive.len().next_multiple_of(BLOCK), 0);
    }
    archive.resize(archive.len() + 2 * BLOCK, 0);
    Ok(archive)
}

fn header(name: &str, size: usize, mode: u32) -> io::Result<[u8; BLOCK]> {
    // 11 octal digits of size, 100 bytes of name.
    if name.len() > 100 || size >= 1 << 33 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{name} does not fit into a tar header"),
        ));
    }
    let mut header = [0; BLOCK];
    let mut put = |at: usize, field: &[u8]| header[at..at + field.len()].copy_from_slice(field);
    put(0, name.as_bytes());
    put(100, format!("{mode:07o}\0").as_bytes());
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    // The checksum is taken with blanks in its own place.
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(header)
}

fn hex_digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::command;

    #[test]
    fn tar_reads_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image.tar");
        std::fs::write(&path, one_program("virga.local/pause:1", "pause", &[7; 1000]).unwrap()).unwrap();
        let list = command::run(Command::new("tar").arg("-tvf").arg(&path), command::SHORT).unwrap();
        assert_eq!(list.lines().count(), 3, "{list}");
        let manifest = command::run(
            Command::new("tar").arg("-xOf").arg(&path).arg("manifest.json"),
            command::SHORT,
        );
        assert!(manifest.unwrap().contains("virga.local/pause:1"));
    }
}
