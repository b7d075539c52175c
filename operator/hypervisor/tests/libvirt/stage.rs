//! What each of these tests begins with: libvirt of a node, and a disk that boots.

use std::path::{Path, PathBuf};
use std::process::Command;

use virga_hypervisor::testing::{boot_sector, node::Node};
use virga_hypervisor::{Libvirt, LibvirtOptions};

pub fn connect(node: &Node) -> Libvirt {
    let options = LibvirtOptions {
        uri: node.uri(),
        ..LibvirtOptions::default()
    };
    Libvirt::new(options).expect("setting up libvirt")
}

pub fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Runs qemu-img, and returns what it said.
pub fn qemu_img(arguments: &[&str]) -> String {
    run("qemu-img", arguments)
}

/// Runs one of QEMU's tools, and returns what it said.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .expect("qemu-utils must be installed");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    said
}

/// An image that boots, and an overlay over it of this size.
pub fn overlay(node: &Node, size: &str) -> (PathBuf, PathBuf) {
    let data = node.data();
    let (raw, image, root) = (data.join("boot.raw"), data.join("image.qcow2"), data.join("root.qcow2"));
    boot_sector::write_disk(&raw).expect("writing the boot sector");
    qemu_img(&["convert", "-q", "-O", "qcow2", text(&raw), text(&image)]);
    let over = ["-F", "qcow2", "-b", text(&image), text(&root), size];
    qemu_img(&[&["create", "-q", "-f", "qcow2"], &over[..]].concat());
    (image, root)
}
