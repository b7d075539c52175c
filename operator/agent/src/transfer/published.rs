//! Which images do other hosts get from this one? All that are in its cache, by their digest.

use std::{collections::HashSet, time::Duration};

use futures::StreamExt;
use tokio::time::{MissedTickBehavior, interval};
use virga_images::Digest;
use virga_runtime::class::chain;
use virga_transfer::offers::Offers;

use crate::image::Images;

/// How often what is published is made equal to the cache, should a change have been lost.
const RESYNC: Duration = Duration::from_mins(1);

/// Publishes what is in the cache, as it comes and goes.
pub async fn publish(images: Images, offers: Offers) {
    let mut published = HashSet::new();
    let mut changes = std::pin::pin!(images.changes());
    let mut resync = interval(RESYNC);
    resync.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = resync.tick() => {}
            change = changes.next() => if change.is_none() { return },
        }
        published = equalise(&images, &offers, &published).await;
    }
}

async fn equalise(images: &Images, offers: &Offers, before: &HashSet<Digest>) -> HashSet<Digest> {
    let entries = images.entries();
    let now: HashSet<Digest> = entries.iter().map(|entry| entry.digest).collect();
    for gone in before.difference(&now) {
        offers.unpublish(gone);
    }
    let mut published: HashSet<Digest> = before.intersection(&now).copied().collect();
    for entry in entries.into_iter().filter(|entry| !before.contains(&entry.digest)) {
        match offers.publish(entry.digest, entry.path).await {
            Ok(()) => {
                published.insert(entry.digest);
            }
            Err(error) => tracing::warn!(digest = %entry.digest, error = chain(&error), "serving an image"),
        }
    }
    published
}
