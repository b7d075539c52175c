//! Images that are made on the node itself.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use crate::origin::{install_tls_provider, options};
use virga_images::{
    Digest, Format,
    cache::{Adoption, Cache, Error, Limits},
};

fn qemu_img(arguments: &[&str]) {
    assert!(Command::new("qemu-img").args(arguments).status().unwrap().success());
}

struct Bench(tempfile::TempDir);

impl Bench {
    async fn new() -> (Self, Cache) {
        install_tls_provider();
        let bench = Self(tempfile::tempdir().unwrap());
        let cache = Cache::open(bench.path("images"), options()).await.unwrap();
        (bench, cache)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn disk(&self, name: &str, size: &str) -> PathBuf {
        let path = self.path(name);
        qemu_img(&["create", "-q", "-f", "qcow2", text(&path), size]);
        path
    }
}

fn adoption(key: &str, file: &Path) -> Adoption {
    Adoption {
        key: key.to_owned(),
        file: file.to_owned(),
        digest: None,
        format: Some(Format::Qcow2),
        limits: Limits::default(),
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test]
async fn what_was_made_here_is_found_by_who_asked_for_it_also_after_a_restart() {
    let (bench, cache) = Bench::new().await;
    let made = bench.disk("made.qcow2", "8M");
    let bytes = fs::read(&made).unwrap();
    let entry = cache.adopt(adoption("uid-1", &made)).await.unwrap();
    assert_eq!(entry.digest, Digest::of(&bytes));
    assert_eq!((entry.inspection.virtual_size, made.exists()), (8 << 20, false));
    assert_eq!(fs::metadata(&entry.path).unwrap().permissions().mode() & 0o777, 0o444);
    // The same bytes again, for another Image.
    let again = bench.path("again.qcow2");
    fs::write(&again, &bytes).unwrap();
    assert_eq!(cache.adopt(adoption("uid-2", &again)).await.unwrap(), entry);
    drop(cache);
    let cache = Cache::open(bench.path("images"), options()).await.unwrap();
    for key in ["uid-1", "uid-2"] {
        assert_eq!(cache.adopted(key), Some(entry.clone()));
    }
    assert_eq!(cache.adopted("uid-3"), None);
    cache.remove(entry.digest).await.unwrap();
    assert_eq!(cache.adopted("uid-1"), None);
}

#[tokio::test]
async fn what_was_made_for_images_that_are_gone_is_removed_and_nothing_else() {
    let (bench, cache) = Bench::new().await;
    let mut made = Vec::new();
    for (key, size) in [("uid-1", "1M"), ("uid-2", "2M"), ("uid-3", "3M")] {
        let file = bench.disk(key, size);
        made.push(cache.adopt(adoption(key, &file)).await.unwrap().digest);
    }
    // The second is of another Image, too; the third is under a disk.
    let again = bench.disk("again", "2M");
    cache.adopt(adoption("uid-4", &again)).await.unwrap();
    let alive = ["uid-4".to_owned()].into();
    let gone = cache.forget_adopted(&alive, [made[2]].into()).await.unwrap();
    assert_eq!(gone.digests, [made[0]]);
    let left: Vec<_> = cache.entries().iter().map(|entry| entry.digest).collect();
    assert!(left.len() == 2 && left.contains(&made[1]) && left.contains(&made[2]));
    drop(cache);
    // One that was used a moment ago may be about to be built on.
    let mut careful = options();
    careful.keep_recent = std::time::Duration::from_mins(10);
    let cache = Cache::open(bench.path("images"), careful).await.unwrap();
    let gone = cache.forget_adopted(&[].into(), [].into()).await.unwrap();
    assert_eq!(gone.digests, []);
}

#[tokio::test]
async fn what_needs_another_file_is_refused_and_removed() {
    let (bench, cache) = Bench::new().await;
    let base = bench.disk("base.qcow2", "8M");
    let overlay = bench.path("overlay.qcow2");
    qemu_img(&[
        "create",
        "-q",
        "-f",
        "qcow2",
        "-F",
        "qcow2",
        "-b",
        text(&base),
        text(&overlay),
    ]);
    let refused = cache.adopt(adoption("uid-1", &overlay)).await;
    assert!(matches!(refused, Err(Error::HasBackingFile)), "{refused:?}");
    assert!(!overlay.exists() && cache.entries().is_empty());
}

#[tokio::test]
async fn room_is_refused_where_too_little_would_stay_free() {
    let (_bench, cache) = Bench::new().await;
    cache.check_room(1).unwrap();
    assert!(matches!(cache.check_room(u64::MAX), Err(Error::NoSpace { .. })));
}
