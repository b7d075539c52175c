//! Inspection against images that qemu-img makes.

#![allow(clippy::unwrap_used, reason = "the helpers of tests fail like tests")]

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use virga_images::{
    Format,
    inspect::{Detail, Error, Foreign, Inspection, Layout, inspect},
};

struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn qemu_img(&self, arguments: &[&str]) {
        let output = Command::new("qemu-img")
            .args(arguments)
            .current_dir(self.0.path())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "qemu-img {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    fn inspect(&self, name: &str, claim: Option<Format>) -> Result<Inspection, Error> {
        inspect(&mut File::open(self.path(name)).unwrap(), claim)
    }

    /// Makes a raw disk with a boot sector and noise that does not compress.
    fn raw(&self, name: &str, length: usize) {
        let mut state = 1_u64;
        let mut disk: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_be_bytes()[0]
        })
        .take(length)
        .collect();
        disk[..4].copy_from_slice(&[0xeb, 0, 0, 0]);
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        fs::write(self.path(name), disk).unwrap();
    }
}

fn virtual_size_by_qemu(path: &Path) -> u64 {
    let output = Command::new("qemu-img")
        .args(["info", "--output=json", "-f", "qcow2"])
        .arg(path)
        .output()
        .unwrap();
    let info: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    info["virtual-size"].as_u64().unwrap()
}

#[test]
fn all_kinds_of_qcow2_that_stand_alone_are_accepted_with_qemus_size() {
    let bench = Bench::new();
    bench.raw("disk.raw", 3 << 20);
    for options in [
        "compat=0.10",
        "compat=1.1",
        "compat=1.1,extended_l2=on",
        "compat=1.1,compression_type=zstd",
        "compat=1.1,lazy_refcounts=on",
        "compat=1.1,cluster_size=512",
        "compat=1.1,cluster_size=2M",
        "compat=1.1,refcount_bits=1",
        "compat=1.1,preallocation=metadata",
        "compat=1.1,preallocation=falloc",
    ] {
        bench.qemu_img(&["create", "-q", "-f", "qcow2", "-o", options, "blank.qcow2", "5000000"]);
        let blank = bench
            .inspect("blank.qcow2", Some(Format::Qcow2))
            .unwrap_or_else(|e| panic!("{options}: {e}"));
        assert_eq!(
            blank.virtual_size,
            virtual_size_by_qemu(&bench.path("blank.qcow2")),
            "{options}"
        );

        bench.qemu_img(&[
            "convert",
            "-q",
            "-f",
            "raw",
            "-O",
            "qcow2",
            "-o",
            options,
            "disk.raw",
            "full.qcow2",
        ]);
        let full = bench
            .inspect("full.qcow2", None)
            .unwrap_or_else(|e| panic!("{options}, full: {e}"));
        assert_eq!(full.virtual_size, 3 << 20, "{options}");
        let version = if options == "compat=0.10" { 2 } else { 3 };
        assert!(
            matches!(full.detail, Detail::Qcow2 { version: v, .. } if v == version),
            "{options}: {full:?}"
        );
    }
    for compression in ["zlib", "zstd"] {
        let options = format!("compression_type={compression}");
        bench.qemu_img(&[
            "convert",
            "-q",
            "-c",
            "-f",
            "raw",
            "-O",
            "qcow2",
            "-o",
            &options,
            "disk.raw",
            "small.qcow2",
        ]);
        assert_eq!(
            bench.inspect("small.qcow2", None).unwrap().virtual_size,
            3 << 20,
            "{compression}"
        );
    }
}

#[test]
fn a_qcow2_with_an_internal_snapshot_is_accepted() {
    let bench = Bench::new();
    bench.qemu_img(&["create", "-q", "-f", "qcow2", "a.qcow2", "10M"]);
    bench.qemu_img(&["snapshot", "-c", "before", "a.qcow2"]);
    assert!(matches!(
        bench.inspect("a.qcow2", None).unwrap().detail,
        Detail::Qcow2 { snapshots: 1, .. }
    ));
}

#[test]
fn a_qcow2_that_reads_from_another_file_is_refused() {
    let bench = Bench::new();
    bench.qemu_img(&["create", "-q", "-f", "raw", "base.raw", "10M"]);
    for version in ["compat=0.10", "compat=1.1"] {
        bench.qemu_img(&[
            "create",
            "-q",
            "-f",
            "qcow2",
            "-o",
            version,
            "-b",
            "base.raw",
            "-F",
            "raw",
            "top.qcow2",
        ]);
        assert!(
            matches!(bench.inspect("top.qcow2", None), Err(Error::HasBackingFile)),
            "{version}"
        );
    }
    for raw in ["on", "off"] {
        let options = format!(
            "data_file=/dev/shm/../..{},data_file_raw={raw}",
            bench.path("data.raw").display()
        );
        bench.qemu_img(&["create", "-q", "-f", "qcow2", "-o", &options, "data.qcow2", "10M"]);
        assert!(
            matches!(bench.inspect("data.qcow2", None), Err(Error::HasDataFile)),
            "{raw}"
        );
    }
}

#[test]
fn encrypted_images_are_refused() {
    let bench = Bench::new();
    let secret = ["--object", "secret,id=s,data=secret"];
    let fast = "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10";
    bench.qemu_img(&[
        "create", "-q", secret[0], secret[1], "-f", "qcow2", "-o", fast, "a.qcow2", "1M",
    ]);
    assert!(matches!(bench.inspect("a.qcow2", None), Err(Error::Encrypted)));
    bench.qemu_img(&[
        "create",
        "-q",
        secret[0],
        secret[1],
        "-f",
        "luks",
        "-o",
        "key-secret=s,iter-time=10",
        "b",
        "1M",
    ]);
    assert!(matches!(
        bench.inspect("b", Some(Format::Raw)),
        Err(Error::NotADisk(Foreign::Luks))
    ));
}

#[test]
fn other_disk_formats_are_recognised() {
    let bench = Bench::new();
    bench.raw("disk.raw", 3 << 20);
    for (format, options, expected) in [
        ("vmdk", "subformat=monolithicSparse", Foreign::Vmdk),
        ("vmdk", "subformat=streamOptimized", Foreign::Vmdk),
        ("vmdk", "subformat=monolithicFlat", Foreign::Vmdk),
        ("vpc", "subformat=dynamic", Foreign::Vhd),
        ("vpc", "subformat=fixed", Foreign::Vhd),
        ("vhdx", "subformat=dynamic", Foreign::Vhdx),
        ("vdi", "static=off", Foreign::Vdi),
        ("qed", "cluster_size=65536", Foreign::Qed),
        ("qcow", "encryption=off", Foreign::Qcow1),
        ("parallels", "cluster_size=1048576", Foreign::Parallels),
    ] {
        bench.qemu_img(&[
            "convert", "-q", "-f", "raw", "-O", format, "-o", options, "disk.raw", "other",
        ]);
        for claim in [None, Some(Format::Raw), Some(Format::Qcow2)] {
            let found = bench.inspect("other", claim);
            assert!(
                matches!(found, Err(Error::NotADisk(f)) if f == expected),
                "{format} {options}: {found:?}"
            );
        }
    }
}

#[test]
fn a_raw_disk_as_qemu_writes_it_is_accepted() {
    let bench = Bench::new();
    bench.raw("disk.raw", 3 << 20);
    let found = bench.inspect("disk.raw", None).unwrap();
    assert_eq!((found.format, found.virtual_size), (Format::Raw, 3 << 20));
    assert_eq!(found.detail, Detail::Raw { layout: Layout::Mbr });
}

#[test]
fn a_qcow2_that_was_cut_off_anywhere_is_refused() {
    let bench = Bench::new();
    bench.raw("disk.raw", 3 << 20);
    for options in ["compat=0.10", "compat=1.1", "extended_l2=on", "cluster_size=4k"] {
        for compress in [&["-c"][..], &[]] {
            if options == "cluster_size=4k" && !compress.is_empty() {
                continue;
            }
            let mut arguments = vec!["convert", "-q", "-f", "raw", "-O", "qcow2", "-o", options];
            arguments.extend(compress);
            arguments.extend(["disk.raw", "whole.qcow2"]);
            bench.qemu_img(&arguments);
            let whole = fs::read(bench.path("whole.qcow2")).unwrap();
            bench.inspect("whole.qcow2", None).unwrap();
            for tenth in 1..10 {
                fs::write(bench.path("cut.qcow2"), &whole[..whole.len() * tenth / 10]).unwrap();
                let found = bench.inspect("cut.qcow2", None);
                assert!(
                    matches!(found, Err(Error::Truncated(_))),
                    "{options} {compress:?} {tenth}: {found:?}"
                );
            }
        }
    }
}

#[test]
fn an_iso_image_is_accepted_and_one_cut_off_is_not() {
    let bench = Bench::new();
    fs::create_dir(bench.path("tree")).unwrap();
    fs::write(bench.path("tree/file"), vec![1; 1 << 20]).unwrap();
    let made = Command::new("genisoimage")
        .args(["-quiet", "-o", "cd.iso", "tree"])
        .current_dir(bench.path("."))
        .status();
    assert!(made.unwrap().success());
    let found = bench.inspect("cd.iso", None).unwrap();
    assert_eq!(
        found.detail,
        Detail::Raw {
            layout: Layout::Iso9660
        }
    );
    let length = found.size / 2;
    OpenOptions::new()
        .write(true)
        .open(bench.path("cd.iso"))
        .unwrap()
        .set_len(length)
        .unwrap();
    assert!(matches!(
        bench.inspect("cd.iso", Some(Format::Raw)),
        Err(Error::Truncated(_))
    ));
}

#[test]
fn compressed_images_are_recognised() {
    let bench = Bench::new();
    bench.raw("disk.raw", 1 << 16);
    let disk = fs::read(bench.path("disk.raw")).unwrap();
    for (program, expected) in [("gzip", Foreign::Gzip), ("xz", Foreign::Xz), ("bzip2", Foreign::Bzip2)] {
        let started = Command::new(program)
            .arg("-c")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        // Not every machine has every compressor; the signatures themselves are tested without them.
        let Ok(mut child) = started else { continue };
        child.stdin.take().unwrap().write_all(&disk).unwrap();
        fs::write(bench.path("packed"), child.wait_with_output().unwrap().stdout).unwrap();
        let found = bench.inspect("packed", Some(Format::Raw));
        assert!(
            matches!(found, Err(Error::NotADisk(f)) if f == expected),
            "{program}: {found:?}"
        );
    }
}
