//! Which images are fetched, each from the first byte until it is there or nobody wants it any more?

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures::{Stream, StreamExt};
use kube::ResourceExt;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use virga_core::instance::Cache as CacheState;
use virga_crds::Image;
use virga_images::cache::{Class, Entry, Error, Limits, Request, Source};
use virga_runtime::{class::chain, watch::Change};

use super::{
    images::{Failure, Images, Pull, format},
    peers::Coming,
};

/// How often a listener hears how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// An image whose bytes are wrong is asked for again, seldom: its server may be repaired.
const INVALID_PAUSE: Duration = Duration::from_mins(10);

impl Images {
    /// Begins to fetch an image, unless that is under way. Goes on until it is there or its Image is gone.
    pub fn pull(&self, image: Arc<Image>) {
        let Some(uid) = image.uid() else { return };
        // What is made of an Instance can be fetched only when it is made.
        if image.spec.source.instance.is_some() && self.digest(&image).is_none() {
            return;
        }
        let cancel = self.shared.stop.child_token();
        {
            let mut pulls = self.pulls();
            if pulls.get(&uid).is_some_and(|pull| pull.digest.is_none()) {
                return;
            }
            let pull = Pull {
                cancel: cancel.clone(),
                coming: None,
                failure: None,
                digest: None,
            };
            pulls.insert(uid.clone(), pull);
        }
        tokio::spawn(run(self.clone(), image, uid, cancel));
    }

    /// Fetches what this node is to import, and lets go of what is gone, until the process stops.
    pub async fn follow(self, changes: impl Stream<Item = Change<Image>> + Send) {
        let mut changes = std::pin::pin!(changes);
        while let Some(change) = changes.next().await {
            match change {
                Change::Applied(image) => {
                    if self.imports(&image) && self.state(&image) == CacheState::Absent {
                        self.pull(image.clone());
                    }
                    self.tell(image.metadata.uid.as_deref());
                }
                Change::Deleted(image) => {
                    let pull = image.uid().and_then(|uid| self.pulls().remove(&uid));
                    if let Some(pull) = pull {
                        pull.cancel.cancel();
                    }
                    self.tell(image.metadata.uid.as_deref());
                }
            }
        }
    }

    /// Removes unfinished downloads of Images that went while the agent was away.
    pub async fn forget_others(&self) {
        let known = self.shared.stores.images.state();
        let keys: HashSet<String> = known.iter().filter_map(|image| image.uid()).collect();
        if let Err(error) = self.shared.cache.discard_others(&keys).await {
            tracing::warn!(error = chain(&error), "removing unfinished downloads");
        }
    }

    pub(crate) fn imports(&self, image: &Image) -> bool {
        let importer = image.status.as_ref().and_then(|status| status.importer.as_deref());
        importer == Some(self.shared.node.as_str()) && image.metadata.deletion_timestamp.is_none()
    }

    pub(super) fn update(&self, uid: &str, change: impl FnOnce(&mut Pull)) {
        if let Some(pull) = self.pulls().get_mut(uid) {
            change(pull);
        }
    }

    pub(crate) fn failed(&self, uid: &str, failure: Failure) {
        self.update(uid, |pull| pull.failure = Some(failure));
        self.tell(Some(uid));
    }

    /// The Image is gone: so is what was fetched of it. When the process stops, it stays for the next one.
    async fn abandon(&self, uid: &str) {
        if self.shared.stop.is_cancelled() {
            return;
        }
        if let Err(error) = self.shared.cache.discard(uid).await {
            tracing::warn!(uid, error = chain(&error), "discarding a download");
        }
        self.abandon_peers(uid).await;
    }
}

async fn run(images: Images, image: Arc<Image>, uid: String, cancel: CancellationToken) {
    let mut pause = FIRST_PAUSE;
    loop {
        // Who has it may be known by now.
        let newest = images.shared.stores.image(&uid).unwrap_or_else(|| image.clone());
        let result = tokio::select! {
            () = cancel.cancelled() => {
                images.abandon(&uid).await;
                return;
            }
            result = images.fetch(&newest, &uid) => result,
        };
        let failed = match result {
            Ok(entry) => {
                tracing::info!(uid, digest = %entry.digest, "image cached");
                images.update(&uid, |pull| {
                    pull.coming = None;
                    pull.failure = None;
                    pull.digest = Some(entry.digest);
                });
                images.tell(Some(&uid));
                return;
            }
            Err(failed) => failed,
        };
        // What another node has verified is good: it is this node that can't have it now.
        let verified = newest.status.as_ref().is_some_and(|status| status.digest.is_some());
        let invalid = failed.is_invalid() && !verified;
        let message = chain(&failed);
        tracing::warn!(uid, error = message, "fetching an image");
        images.failed(&uid, Failure { invalid, message });
        if matches!(failed, NotHad::Cache(Error::NoSpace { .. })) {
            images.evict().await;
        }
        let wait = if invalid { INVALID_PAUSE } else { pause };
        pause = (pause * 2).min(LONGEST_PAUSE);
        tokio::select! {
            () = cancel.cancelled() => {
                images.abandon(&uid).await;
                return;
            }
            () = sleep(wait) => {}
        }
    }
}

/// Why an image was not had.
#[derive(Debug, thiserror::Error)]
enum NotHad {
    #[error(transparent)]
    Cache(#[from] Error),
    #[error("spec.source: it has no usable http, path or other source, and no node that could be asked has the image")]
    NoSource,
    #[error("no node that has the image could be reached, and it can be had nowhere else")]
    NoHolder,
}

impl NotHad {
    fn is_invalid(&self) -> bool {
        match self {
            Self::Cache(error) => error.class() == Class::Invalid,
            Self::NoSource => true,
            Self::NoHolder => false,
        }
    }
}

impl Images {
    /// One try: from a node that has it, else from its source.
    async fn fetch(&self, image: &Image, uid: &str) -> Result<Entry, NotHad> {
        let came = {
            let fetching = self.fetch_from_peers(image, uid);
            telling(self, uid, fetching).await
        };
        match (came, request(image, uid)) {
            (Some(Ok(entry)), _) => Ok(entry),
            (_, Some(request)) => {
                let fetch = self.shared.cache.ensure(request);
                self.came_closer(uid, Coming::Source(fetch.clone()));
                Ok(telling(self, uid, fetch.wait()).await?)
            }
            (Some(Err(error)), None) => Err(error.into()),
            (None, None) if self.digest(image).is_some() => Err(NotHad::NoHolder),
            (None, None) => Err(NotHad::NoSource),
        }
    }

    pub(super) fn came_closer(&self, uid: &str, coming: Coming) {
        self.update(uid, |pull| pull.coming = Some(coming));
    }

    fn percent(&self, uid: &str) -> Option<u8> {
        self.pulls().get(uid)?.coming.as_ref()?.percent()
    }
}

/// Waits for the end, and tells how far it is meanwhile.
async fn telling<T>(images: &Images, uid: &str, end: impl Future<Output = T>) -> T {
    let mut told = None;
    let mut end = std::pin::pin!(end);
    loop {
        tokio::select! {
            result = &mut end => return result,
            () = sleep(PROGRESS_EVERY) => {
                let percent = images.percent(uid);
                if percent != told {
                    told = percent;
                    images.tell(Some(uid));
                }
            }
        }
    }
}

/// What the cache is to fetch.
fn request(image: &Image, uid: &str) -> Option<Request> {
    let source = &image.spec.source;
    let (source, sha256) = match (&source.http, &source.path) {
        (Some(http), _) => (
            Source::Http { url: http.url.clone() },
            // A checksum that can't be read must not become none.
            Some(http.checksum.value.parse().ok()?),
        ),
        (None, Some(path)) => (Source::Path(path.into()), None),
        (None, None) => return None,
    };
    Some(Request {
        key: uid.into(),
        source,
        sha256,
        format: image.spec.disk_format.map(format),
        limits: Limits::default(),
    })
}
