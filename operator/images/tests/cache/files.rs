//! What the cache keeps, finds again and lets go.

use std::{
    collections::HashSet,
    fs::{self, File, Permissions},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use crate::origin::{disk, install_tls_provider, options};
use virga_images::{
    Digest, Format,
    cache::{Adoption, Cache, Entry, Error, Limits, Options, Request, Source},
};

struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Self {
        install_tls_provider();
        let bench = Self(tempfile::tempdir().unwrap());
        fs::create_dir(bench.store()).unwrap();
        bench
    }

    fn store(&self) -> PathBuf {
        self.0.path().join("store")
    }

    fn images(&self) -> PathBuf {
        self.0.path().join("images")
    }

    fn options(&self) -> Options {
        Options {
            store: Some(self.store()),
            ..options()
        }
    }

    async fn open(&self) -> Cache {
        Cache::open(self.images(), self.options()).await.unwrap()
    }

    /// Caches a disk of 1 MB of its own content.
    async fn cached(&self, cache: &Cache, seed: u64) -> Entry {
        let name = format!("disk-{seed}");
        fs::write(self.store().join(&name), disk(1_000_000, seed)).unwrap();
        cache.ensure(request(&name)).await.unwrap()
    }
}

fn request(path: &str) -> Request {
    Request {
        key: format!("key-{}", Digest::of(path.as_bytes()).hex().split_at(8).0),
        source: Source::Path(path.into()),
        sha256: None,
        format: None,
        limits: Limits::default(),
    }
}

/// Makes the entry look as if it was last used so long ago.
fn age(entry: &Entry, seconds: u64) {
    let sidecar = entry.path.with_extension("json");
    File::open(sidecar)
        .unwrap()
        .set_modified(SystemTime::now() - Duration::from_secs(seconds))
        .unwrap();
}

#[tokio::test]
async fn a_file_of_the_store_is_copied_and_its_original_left_alone() {
    let bench = Bench::new();
    let cache = bench.open().await;
    let entry = bench.cached(&cache, 1).await;
    assert_eq!(entry.digest, Digest::of(&disk(1_000_000, 1)));
    assert_eq!(fs::read(&entry.path).unwrap(), disk(1_000_000, 1));
    let original = fs::metadata(bench.store().join("disk-1")).unwrap();
    assert_ne!(original.ino(), fs::metadata(&entry.path).unwrap().ino());
}

#[tokio::test]
async fn a_path_leads_to_a_file_in_the_store_or_nowhere() {
    let bench = Bench::new();
    let cache = bench.open().await;
    let store = bench.store();
    fs::create_dir(store.join("debian")).unwrap();
    fs::write(store.join("debian/13.raw"), disk(100_000, 1)).unwrap();
    fs::write(bench.0.path().join("outside"), disk(100_000, 2)).unwrap();
    symlink("debian/13.raw", store.join("latest")).unwrap();
    symlink("../outside", store.join("escape")).unwrap();
    symlink("..", store.join("up")).unwrap();
    symlink("loop", store.join("loop")).unwrap();
    assert!(
        Command::new("mkfifo")
            .arg(store.join("pipe"))
            .status()
            .unwrap()
            .success()
    );

    let ensure = async |path: &str| cache.ensure(request(path)).await;
    let entry = ensure("debian/13.raw").await.unwrap();
    assert_eq!(ensure("latest").await.unwrap(), entry);
    for path in ["escape", "up/outside", "pipe", "debian", "../outside", "/etc/passwd"] {
        let error = ensure(path).await.unwrap_err();
        assert!(matches!(error, Error::InvalidPath { .. }), "{path}: {error:?}");
    }
    for path in ["missing", "debian/13.raw/deeper"] {
        let error = ensure(path).await.unwrap_err();
        assert!(matches!(error, Error::NoSuchFile(_)), "{path}: {error:?}");
    }
    assert!(ensure("loop").await.is_err());
    assert_eq!(cache.entries().len(), 1);
}

#[tokio::test]
async fn without_a_store_directory_paths_are_refused() {
    let bench = Bench::new();
    let cache = Cache::open(bench.images(), options()).await.unwrap();
    assert!(matches!(
        cache.ensure(request("a")).await,
        Err(Error::InvalidPath { .. })
    ));
}

#[tokio::test]
async fn a_bad_file_of_the_store_is_refused_like_a_bad_download() {
    let bench = Bench::new();
    let cache = bench.open().await;
    fs::write(bench.store().join("disk"), disk(1_000_000, 1)).unwrap();
    let made = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-b", "disk", "-F", "raw", "overlay"])
        .current_dir(bench.store())
        .status();
    assert!(made.unwrap().success());
    assert!(matches!(
        cache.ensure(request("overlay")).await,
        Err(Error::HasBackingFile)
    ));
    let wrong = Request {
        sha256: Some(Digest::of(b"")),
        ..request("disk")
    };
    assert!(matches!(cache.ensure(wrong).await, Err(Error::ChecksumMismatch { .. })));
    let limits = Limits {
        max_size: 10,
        ..Limits::default()
    };
    assert!(matches!(
        cache
            .ensure(Request {
                limits,
                ..request("disk")
            })
            .await,
        Err(Error::TooLarge { .. })
    ));
    let names: Vec<_> = fs::read_dir(bench.images())
        .unwrap()
        .map(|file| file.unwrap().file_name())
        .collect();
    assert_eq!(names, [".lock"]);
}

#[tokio::test]
async fn what_is_cached_is_found_again_without_its_source() {
    let bench = Bench::new();
    let cache = bench.open().await;
    let entry = bench.cached(&cache, 1).await;
    cache.close().await;
    fs::remove_file(bench.store().join("disk-1")).unwrap();
    let cache = bench.open().await;
    assert_eq!(cache.entries(), std::slice::from_ref(&entry));
    assert_eq!(cache.ensure(request("disk-1")).await.unwrap(), entry);
    // Another key that knows the digest finds it too.
    let other = Request {
        sha256: Some(entry.digest),
        ..request("elsewhere")
    };
    assert_eq!(cache.ensure(other).await.unwrap(), entry);
    // One that does not know it has to fetch.
    assert!(matches!(
        cache.ensure(request("disk-1-copy")).await,
        Err(Error::NoSuchFile(_))
    ));
}

#[tokio::test]
async fn a_cache_that_lost_its_descriptions_writes_them_again() {
    let bench = Bench::new();
    let cache = bench.open().await;
    let entry = bench.cached(&cache, 1).await;
    cache.close().await;
    let sidecar = entry.path.with_extension("json");
    for damage in [None, Some("{"), Some("{\"inspection\": 1}")] {
        match damage {
            None => fs::remove_file(&sidecar).unwrap(),
            Some(text) => fs::write(&sidecar, text).unwrap(),
        }
        let cache = bench.open().await;
        assert_eq!(cache.entries(), std::slice::from_ref(&entry), "{damage:?}");
        cache.close().await;
        assert!(sidecar.exists());
    }
}

#[tokio::test]
async fn what_a_crash_left_half_done_is_removed_at_the_next_start() {
    let bench = Bench::new();
    let cache = bench.open().await;
    let (kept, cut) = (bench.cached(&cache, 1).await, bench.cached(&cache, 2).await);
    cache.close().await;
    fs::set_permissions(&cut.path, Permissions::from_mode(0o600)).unwrap();
    File::options()
        .write(true)
        .open(&cut.path)
        .unwrap()
        .set_len(1000)
        .unwrap();
    let write = |name: &str| fs::write(bench.images().join(name), b"text").unwrap();
    write(".virga-tmp-abc");
    write(&format!("sha256-{}.json", Digest::of(b"gone").hex()));
    write(&format!("sha256-{}.qcow2", Digest::of(b"no image").hex()));
    write("notes.txt");
    let cache = bench.open().await;
    assert_eq!(cache.entries(), std::slice::from_ref(&kept));
    let mut names: Vec<_> = fs::read_dir(bench.images())
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    let hex = kept.digest.hex();
    let expected = [
        ".lock",
        "notes.txt",
        &format!("sha256-{hex}.json"),
        &format!("sha256-{hex}.raw"),
    ];
    assert_eq!(names, expected);
}

#[tokio::test]
async fn a_cached_file_that_disappeared_is_fetched_again() {
    let bench = Bench::new();
    let cache = bench.open().await;
    let entry = bench.cached(&cache, 1).await;
    fs::remove_file(&entry.path).unwrap();
    assert_eq!(cache.ensure(request("disk-1")).await.unwrap(), entry);
    assert!(entry.path.exists());
}

#[tokio::test]
async fn bits_that_rot_are_found_by_verifying() {
    let bench = Bench::new();
    let cache = bench.open().await;
    let entry = bench.cached(&cache, 1).await;
    cache.verify(entry.digest).await.unwrap();
    fs::set_permissions(&entry.path, Permissions::from_mode(0o600)).unwrap();
    let mut content = disk(1_000_000, 1);
    content[5000] ^= 1;
    fs::write(&entry.path, content).unwrap();
    assert!(matches!(cache.verify(entry.digest).await, Err(Error::Damaged { .. })));
    cache.remove(entry.digest).await.unwrap();
    assert!(matches!(cache.verify(entry.digest).await, Err(Error::NotCached(_))));
    cache.remove(entry.digest).await.unwrap();
}

#[tokio::test]
async fn eviction_keeps_what_is_pinned_and_what_was_used_last() {
    let bench = Bench::new();
    let cache = bench.open().await;
    let mut entries = Vec::new();
    for seed in 1..=4 {
        entries.push(bench.cached(&cache, seed).await);
    }
    let one = cache.used_bytes() / 4;
    cache.close().await;
    for (entry, seconds) in entries.iter().zip([400, 300, 200, 100]) {
        age(entry, seconds);
    }
    let options = Options {
        max_bytes: one * 2 + 4096,
        ..bench.options()
    };
    let cache = Cache::open(bench.images(), options).await.unwrap();
    // The oldest is pinned; the second is used again and so becomes the newest.
    cache.ensure(request("disk-2")).await.unwrap();
    let evicted = cache.evict(HashSet::from([entries[0].digest])).await.unwrap();
    assert_eq!(evicted.digests, [entries[2].digest, entries[3].digest]);
    assert!(evicted.bytes >= one);
    assert!(entries[0].path.exists() && entries[1].path.exists());
    assert!(!entries[2].path.exists() && !entries[2].path.with_extension("json").exists());
    assert_eq!(cache.evict(HashSet::new()).await.unwrap().digests, []);
}

#[tokio::test]
async fn an_image_that_was_just_handed_out_is_not_evicted() {
    let bench = Bench::new();
    let options = Options {
        keep_recent: Duration::from_mins(10),
        min_free: 0,
        ..bench.options()
    };
    let cache = Cache::open(bench.images(), options).await.unwrap();
    let entry = bench.cached(&cache, 1).await;
    cache.close().await;
    let options = Options {
        keep_recent: Duration::from_mins(10),
        max_bytes: 1,
        ..bench.options()
    };
    let cache = Cache::open(bench.images(), options).await.unwrap();
    assert_eq!(cache.evict(HashSet::new()).await.unwrap().digests, []);
    assert!(entry.path.exists());
}

#[tokio::test]
async fn unfinished_downloads_of_deleted_images_are_removed() {
    let bench = Bench::new();
    let cache = bench.open().await;
    for key in ["a", "b"] {
        fs::write(bench.images().join(format!("{key}.part")), b"bytes").unwrap();
        fs::write(bench.images().join(format!("{key}.part.json")), b"{}").unwrap();
    }
    cache.discard_others(&HashSet::from(["b".to_owned()])).await.unwrap();
    let left = |name: &str| bench.images().join(name).exists();
    assert!(!left("a.part") && !left("a.part.json") && left("b.part") && left("b.part.json"));
}

#[tokio::test]
async fn a_directory_has_one_cache_at_a_time() {
    let bench = Bench::new();
    let first = bench.open().await;
    let second = Cache::open(bench.images(), bench.options()).await;
    assert!(matches!(second, Err(Error::Locked(_))));
    let clone = first.clone();
    first.close().await;
    drop(clone);
    bench.open().await;
}

#[tokio::test]
async fn two_formats_of_one_disk_are_two_entries() {
    let bench = Bench::new();
    let cache = bench.open().await;
    let raw = bench.cached(&cache, 1).await;
    let converted = Command::new("qemu-img")
        .args(["convert", "-f", "raw", "-O", "qcow2", "disk-1", "disk-1.qcow2"])
        .current_dir(bench.store())
        .status();
    assert!(converted.unwrap().success());
    let qcow2 = cache
        .ensure(Request {
            format: Some(Format::Qcow2),
            ..request("disk-1.qcow2")
        })
        .await
        .unwrap();
    assert_eq!(qcow2.path.extension(), Some(Path::new("qcow2").as_os_str()));
    assert_eq!(raw.inspection.virtual_size, 1_000_448);
    assert_eq!(cache.entries().len(), 2);
}

#[tokio::test]
async fn a_file_that_came_otherwise_is_inspected_and_gets_its_place() {
    let bench = Bench::new();
    let cache = bench.open().await;
    let put = |name: &str, bytes: &[u8]| {
        let path = bench.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let adopt = |file: &Path, digest, format| {
        cache.adopt(Adoption {
            key: "key-1".into(),
            file: file.to_owned(),
            digest,
            format,
            limits: Limits::default(),
        })
    };
    let bytes = disk(1_000_000, 7);
    let digest = Digest::of(&bytes);
    let came = put("came", &bytes);
    let wrong = adopt(&came, Some(digest), Some(Format::Qcow2)).await;
    assert!(matches!(wrong, Err(Error::FormatMismatch { .. })), "{wrong:?}");
    assert!(!came.exists(), "what is refused is gone");

    let came = put("came", &bytes);
    let entry = adopt(&came, Some(digest), None).await.unwrap();
    assert_eq!((entry.digest, fs::read(&entry.path).unwrap()), (digest, bytes.clone()));
    assert!(!came.exists());
    assert_eq!(fs::metadata(&entry.path).unwrap().permissions().mode() & 0o777, 0o444);

    // Made here, and nobody has hashed it yet; the same bytes are one image.
    let made = put("made", &bytes);
    assert_eq!(adopt(&made, None, None).await.unwrap(), entry);
    assert!(!made.exists());
    let page = put("page", b"<!DOCTYPE html><html><body>404</body></html>");
    assert!(adopt(&page, None, None).await.is_err());
}
