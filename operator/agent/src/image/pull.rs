//! One pull, from the first byte until the image is there or nobody wants it any more.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use virga_crds::Image;
use virga_images::cache::{Class, Entry, Error, Fetch};
use virga_runtime::class::chain;

use super::{Failure, Images, request};

/// How often a listener hears how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// An image whose bytes are wrong is asked for again, seldom: its server may be repaired.
const INVALID_PAUSE: Duration = Duration::from_mins(10);

pub(super) async fn run(images: Images, image: Arc<Image>, uid: String, cancel: CancellationToken) {
    let mut pause = FIRST_PAUSE;
    let Some(request) = request(&image, &uid) else {
        let message = "spec.source has neither a usable http nor a path".to_owned();
        images.failed(&uid, Failure { invalid: true, message });
        return;
    };
    loop {
        let fetch = images.shared.cache.ensure(request.clone());
        images.update(&uid, |pull| pull.fetch = Some(fetch.clone()));
        let result = tokio::select! {
            () = cancel.cancelled() => {
                images.abandon(&uid).await;
                return;
            }
            result = follow(&images, &uid, fetch) => result,
        };
        let error = match result {
            Ok(entry) => {
                tracing::info!(uid, digest = %entry.digest, "image cached");
                images.update(&uid, |pull| {
                    pull.fetch = None;
                    pull.failure = None;
                    pull.digest = Some(entry.digest);
                });
                images.tell(Some(&uid));
                return;
            }
            Err(error) => error,
        };
        let invalid = error.class() == Class::Invalid;
        let message = chain(&error);
        tracing::warn!(uid, error = message, "fetching an image");
        images.failed(&uid, Failure { invalid, message });
        if matches!(error, Error::NoSpace { .. }) {
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

/// Waits for the end, and tells how far it is meanwhile.
async fn follow(images: &Images, uid: &str, fetch: Fetch) -> Result<Entry, Error> {
    let mut told = None;
    let mut end = std::pin::pin!(fetch.clone().wait());
    loop {
        tokio::select! {
            result = &mut end => return result,
            () = sleep(PROGRESS_EVERY) => {
                let percent = fetch.progress().percent();
                if percent != told {
                    told = percent;
                    images.tell(Some(uid));
                }
            }
        }
    }
}

impl Images {
    fn update(&self, uid: &str, change: impl FnOnce(&mut super::Pull)) {
        if let Some(pull) = self.pulls().get_mut(uid) {
            change(pull);
        }
    }

    fn failed(&self, uid: &str, failure: Failure) {
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
    }
}
