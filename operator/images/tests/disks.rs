//! Disks, with the qemu-img that is installed.

#![allow(clippy::unwrap_used, reason = "the helpers of tests fail like tests")]

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use virga_images::{
    Format,
    disk::{Error, Outcome, QemuImg},
};

const MIB: u64 = 1 << 20;

async fn base(directory: &Path) -> PathBuf {
    let path = directory.join("base.qcow2");
    QemuImg::default()
        .create_blank(&path, 8 * MIB, Format::Qcow2)
        .await
        .unwrap();
    path
}

#[tokio::test]
async fn an_overlay_is_made_once_and_found_again() {
    let directory = tempfile::tempdir().unwrap();
    let (qemu_img, base) = (QemuImg::default(), base(directory.path()).await);
    let disk = directory.path().join("root.qcow2");
    let make = |size| qemu_img.create_overlay(&base, Format::Qcow2, &disk, size);
    assert_eq!(make(16 * MIB).await.unwrap(), Outcome::Changed);
    let info = qemu_img.info(&disk, Format::Qcow2).await.unwrap();
    assert_eq!((info.format, info.virtual_size), (Format::Qcow2, 16 * MIB));
    assert_eq!(
        (info.backing_file.as_deref(), info.backing_format),
        (Some(base.as_path()), Some(Format::Qcow2))
    );
    assert_eq!(make(16 * MIB).await.unwrap(), Outcome::AlreadySo);
    // It was grown since.
    assert_eq!(make(8 * MIB).await.unwrap(), Outcome::AlreadySo);
    assert!(matches!(make(32 * MIB).await, Err(Error::Different { .. })));
    assert_eq!(fs::metadata(&disk).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(
        fs::read_dir(directory.path()).unwrap().count(),
        2,
        "no temporary file is left"
    );
}

#[tokio::test]
async fn an_overlay_over_a_raw_base_says_so_and_reads_through() {
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path().join("base, with=odd\"name:.raw");
    File::create(&base).unwrap().write_all(&[7; 4096]).unwrap();
    let (qemu_img, disk) = (QemuImg::default(), directory.path().join("-o"));
    qemu_img.create_overlay(&base, Format::Raw, &disk, MIB).await.unwrap();
    let info = qemu_img.info(&disk, Format::Qcow2).await.unwrap();
    assert_eq!(
        (info.backing_file, info.backing_format),
        (Some(base), Some(Format::Raw))
    );
    let copy = directory.path().join("copy.raw");
    qemu_img
        .create_copy(&disk, Format::Qcow2, &copy, Format::Raw, 2 * MIB)
        .await
        .unwrap();
    let bytes = fs::read(copy).unwrap();
    assert_eq!(bytes.len() as u64, 2 * MIB);
    assert_eq!(bytes[..4097], [&[7; 4096][..], &[0]].concat());
}

#[tokio::test]
async fn a_disk_that_is_another_one_is_never_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let (qemu_img, base) = (QemuImg::default(), base(directory.path()).await);
    let disk = directory.path().join("disk");
    qemu_img.create_blank(&disk, MIB, Format::Qcow2).await.unwrap();
    let before = fs::read(&disk).unwrap();
    let overlay = qemu_img.create_overlay(&base, Format::Qcow2, &disk, 8 * MIB).await;
    assert!(matches!(overlay, Err(Error::Different { .. })), "{overlay:?}");
    assert_eq!(fs::read(&disk).unwrap(), before);
    // A link could lead anywhere.
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&disk, &link).unwrap();
    assert!(matches!(
        qemu_img.create_blank(&link, MIB, Format::Qcow2).await,
        Err(Error::Different { .. })
    ));
}

#[tokio::test]
async fn an_overlay_never_cuts_its_base_and_a_resize_never_shrinks() {
    let directory = tempfile::tempdir().unwrap();
    let (qemu_img, base) = (QemuImg::default(), base(directory.path()).await);
    let disk = directory.path().join("root.qcow2");
    let small = qemu_img.create_overlay(&base, Format::Qcow2, &disk, MIB).await;
    assert!(
        matches!(small, Err(Error::WouldShrink { wanted: MIB, .. })),
        "{small:?}"
    );
    assert!(!disk.exists());
    for format in [Format::Qcow2, Format::Raw] {
        let disk = directory.path().join(format.as_str());
        assert_eq!(
            qemu_img.create_blank(&disk, MIB, format).await.unwrap(),
            Outcome::Changed
        );
        assert_eq!(
            qemu_img.create_blank(&disk, MIB, format).await.unwrap(),
            Outcome::AlreadySo
        );
        assert_eq!(qemu_img.resize(&disk, format, 2 * MIB).await.unwrap(), Outcome::Changed);
        assert_eq!(
            qemu_img.resize(&disk, format, 2 * MIB).await.unwrap(),
            Outcome::AlreadySo
        );
        assert!(matches!(
            qemu_img.resize(&disk, format, MIB).await,
            Err(Error::WouldShrink { .. })
        ));
        assert_eq!(qemu_img.info(&disk, format).await.unwrap().virtual_size, 2 * MIB);
    }
}

#[tokio::test]
async fn paths_that_could_be_options_and_sizes_that_are_none_are_refused() {
    let qemu_img = QemuImg::default();
    for path in ["--help", "nbd:host:1", "json:{}", "disk"] {
        let made = qemu_img.create_blank(Path::new(path), MIB, Format::Raw).await;
        assert!(matches!(made, Err(Error::BadPath(_))), "{path}");
        assert!(
            matches!(
                qemu_img.info(Path::new(path), Format::Raw).await,
                Err(Error::BadPath(_))
            ),
            "{path}"
        );
    }
    for size in [0, 511, u64::MAX] {
        let made = qemu_img
            .create_blank(Path::new("/nowhere/disk"), size, Format::Raw)
            .await;
        assert!(matches!(made, Err(Error::BadSize(_))), "{size}");
    }
}

#[tokio::test]
async fn a_failure_says_what_the_program_said_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path().join("base");
    fs::write(&base, b"this is no qcow2 image").unwrap();
    let disk = directory.path().join("disk");
    let error = QemuImg::default()
        .create_overlay(&base, Format::Qcow2, &disk, MIB)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("Image is not in qcow2 format"), "{error}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_raw_disk_is_never_opened_as_what_a_guest_wrote_into_it() {
    let directory = tempfile::tempdir().unwrap();
    let (qemu_img, base) = (QemuImg::default(), base(directory.path()).await);
    let evil = directory.path().join("evil.qcow2");
    qemu_img
        .create_overlay(&base, Format::Qcow2, &evil, 8 * MIB)
        .await
        .unwrap();
    let info = qemu_img.info(&evil, Format::Raw).await.unwrap();
    assert_eq!((info.format, info.backing_file), (Format::Raw, None));
}

#[tokio::test]
async fn a_program_that_hangs_or_floods_is_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let disk = directory.path().join("disk");
    for script in ["#!/bin/sh\nexec tail -f /dev/null\n", "#!/bin/sh\nexec yes >&2\n"] {
        let program = directory.path().join("program");
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
        let limit = Duration::from_millis(300);
        let started = Instant::now();
        let made = QemuImg::new(&program, limit)
            .create_blank(&disk, MIB, Format::Raw)
            .await;
        assert!(matches!(made, Err(Error::TimedOut { .. })), "{made:?}");
        assert!(started.elapsed() < Duration::from_secs(20));
        fs::remove_file(program).unwrap();
    }
    let missing = QemuImg::new("/nowhere/qemu-img", Duration::from_secs(1))
        .create_blank(&disk, MIB, Format::Raw)
        .await;
    assert!(matches!(missing, Err(Error::Start { .. })), "{missing:?}");
    assert!(!disk.exists());
}
