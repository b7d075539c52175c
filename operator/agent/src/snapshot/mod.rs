//! Images that are made here: copies of Instances' root disks.
//!
//! A guest that runs is copied by QEMU, by a push backup, so that its own disks stay as they are; its file systems stand
//! still while that begins, if the guest agent answers. One that is off is copied from its file. What was begun is noted
//! beside the copy, so that an agent that was killed lets the guest go on, ends the copy, and begins anew.

mod clean_up;
mod error;
mod note;
mod take;
mod taking;

use std::{sync::Arc, time::Duration};

use futures::{Stream, StreamExt};
use kube::ResourceExt;
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use virga_crds::Image;
use virga_runtime::{class::chain, watch::Change};

pub use taking::Snapshots;

use crate::{host::Host, image::Failure};

const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// How soon to ask whether another image of the same Instance is made.
const BUSY_PAUSE: Duration = Duration::from_secs(1);

/// Makes the images that this node is to make, until the process stops. What an earlier process left comes first.
pub async fn run(host: Host, changes: impl Stream<Item = Change<Image>> + Send, stop: CancellationToken) {
    tokio::select! {
        () = clean_up::after_restart(&host) => {}
        () = stop.cancelled() => return,
    }
    let mut making = JoinSet::new();
    let mut changes = std::pin::pin!(changes);
    loop {
        let change = tokio::select! {
            () = stop.cancelled() => break,
            change = changes.next() => change,
        };
        let Some(change) = change else { break };
        // What has ended is let go of.
        while making.try_join_next().is_some() {}
        let Change::Applied(image) = change else { continue };
        let Some((uid, instance)) = named(&image) else { continue };
        if is_made_here(&host, &image) {
            if let Some(cancel) = host.images.begin(&uid) {
                making.spawn(make(host.clone(), image.clone(), uid, instance, cancel));
            }
        } else if host.images.digest_of(&image).is_none() {
            host.images.end(&uid);
        }
    }
    // What is under way is told to stop by the same token, and lets the guests go on first.
    while making.join_next().await.is_some() {}
}

/// The Image's uid and its Instance's, when the controller has told them.
fn named(image: &Image) -> Option<(String, Uuid)> {
    let from = image.status.as_ref()?.snapshot.as_ref()?;
    Some((image.uid()?, from.instance_uid.parse().ok()?))
}

fn is_made_here(host: &Host, image: &Image) -> bool {
    let known = image.status.as_ref().is_some_and(|status| status.digest.is_some());
    image.spec.source.instance.is_some() && !known && host.images.imports(image)
}

/// Makes one image, however often it has to be tried, until it is there or nobody wants it any more.
async fn make(host: Host, image: Arc<Image>, uid: String, instance: Uuid, cancel: CancellationToken) {
    let mut pause = FIRST_PAUSE;
    while !cancel.is_cancelled() {
        // One image of an Instance after the other: libvirt takes one backup of a domain at a time.
        let Some(taking) = host.snapshots.begin(instance) else {
            wait(BUSY_PAUSE, &cancel).await;
            continue;
        };
        host.images.tell(Some(&uid));
        let result = tokio::select! {
            () = cancel.cancelled() => None,
            result = take::take(&host, &image, &uid, instance, &taking) => Some(result),
        };
        let error = match result {
            Some(Ok(entry)) => {
                drop(taking);
                host.images.made(&uid, &entry);
                return;
            }
            Some(Err(error)) => Some(error),
            None => None,
        };
        if let Some(error) = &error {
            let message = chain(error);
            tracing::warn!(uid, %instance, error = message, "making an image of an Instance");
            let invalid = error.is_invalid();
            host.images.failed(&uid, Failure { invalid, message });
        }
        // The guest goes on before anything else, also when the process is to stop.
        while let Err(error) = clean_up::clean_up(&host, &uid).await {
            tracing::warn!(uid, %instance, error = chain(&error), "putting right what a copy left");
            sleep(FIRST_PAUSE).await;
        }
        drop(taking);
        host.images.tell(Some(&uid));
        wait(pause, &cancel).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn wait(pause: Duration, cancel: &CancellationToken) {
    tokio::select! {
        () = cancel.cancelled() => {}
        () = sleep(pause) => {}
    }
}
