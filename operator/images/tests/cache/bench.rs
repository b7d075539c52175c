//! A cache of its own for each test, beside a server.

use std::{fs, path::Path, sync::Arc, time::Duration};

use tokio::time::timeout;
use virga_images::{
    Digest,
    cache::{Cache, Entry, Error, Fetch, Limits, Options, Phase, Request, Source},
};

use crate::origin::{Origin, disk, options};

/// How many bytes the served disk has.
pub const SIZE: usize = 5_000_003;

pub struct Bench {
    directory: tempfile::TempDir,
    pub origin: Arc<Origin>,
    pub content: Vec<u8>,
}

impl Bench {
    pub async fn new() -> Self {
        let content = disk(SIZE, 1);
        let origin = Origin::serve(content.clone()).await;
        Self {
            directory: tempfile::tempdir().unwrap(),
            origin,
            content,
        }
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub async fn open(&self) -> Cache {
        self.open_with(options()).await
    }

    pub async fn open_with(&self, options: Options) -> Cache {
        Cache::open(self.directory(), options).await.unwrap()
    }

    pub fn request(&self) -> Request {
        Request {
            key: "image-1".to_owned(),
            source: Source::Http { url: self.origin.url() },
            sha256: None,
            format: None,
            limits: Limits::default(),
        }
    }

    pub fn checked_request(&self) -> Request {
        Request {
            sha256: Some(Digest::of(&self.content)),
            ..self.request()
        }
    }

    pub fn assert_content(&self, entry: &Entry) {
        assert!(
            fs::read(&entry.path).unwrap() == self.content,
            "the cached file differs"
        );
        assert_eq!(entry.digest, Digest::of(&self.content));
    }

    /// The names in the cache's directory, without the lock.
    pub fn files(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.directory())
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != ".lock")
            .collect();
        names.sort_unstable();
        names
    }
}

pub async fn end(fetch: Fetch) -> Result<Entry, Error> {
    timeout(Duration::from_mins(1), fetch.wait())
        .await
        .expect("the fetch ends")
}

pub async fn until_bytes(fetch: &Fetch, bytes: u64) {
    let mut progress = fetch.watch();
    let arrived = progress.wait_for(|progress| progress.bytes >= bytes || progress.phase == Phase::Ended);
    timeout(Duration::from_mins(1), arrived)
        .await
        .expect("bytes come")
        .unwrap();
}
