//! Which other nodes have an image, and what comes from them?
//!
//! The controller tells in `status.holders` whom to ask. What comes is what has the image's digest, whoever sent it.

use std::path::Path;

use kube::ResourceExt;
use tokio::sync::watch;
use virga_crds::Image;
use virga_images::{
    Digest, Format,
    cache::{Adoption, Entry, Error, Fetch, Limits},
};
use virga_runtime::class::chain;
use virga_transfer::client::{self, Client, Phase, Progress, Request, What};

use super::images::{Images, format};
use crate::transfer::Peer;

/// Why an image was not had from another node.
#[derive(Debug, thiserror::Error)]
pub enum NotFetched {
    /// The agent was not given a certificate yet.
    #[error("this node has no certificate yet")]
    NoCertificate,
    /// It did not come.
    #[error(transparent)]
    Transfer(#[from] client::Error),
    /// It came, and is no image that can be used.
    #[error(transparent)]
    Cache(#[from] Error),
}

/// What comes, and from where.
#[derive(Clone)]
pub(super) enum Coming {
    /// From the Image's own source.
    Source(Fetch),
    /// From another node.
    Peer(watch::Receiver<Progress>),
    /// It is made here.
    Made(Option<u8>),
}

impl Coming {
    /// How much of it is here.
    pub(super) fn percent(&self) -> Option<u8> {
        match self {
            Self::Source(fetch) => fetch.progress().percent(),
            Self::Made(percent) => *percent,
            Self::Peer(progress) => {
                let progress = *progress.borrow();
                match progress.phase {
                    Phase::Queued => None,
                    Phase::Transferring => (progress.total > 0).then(|| progress.percent()),
                    Phase::Verifying | Phase::Received => Some(100),
                }
            }
        }
    }
}

impl Images {
    /// Fetches an image from another node that has it. `None`: there is none, or none gave it.
    pub(super) async fn fetch_from_peers(&self, image: &Image, uid: &str) -> Option<Result<Entry, Error>> {
        let digest = self.digest(image)?;
        let client = self.shared.transfers.client()?;
        let holders = image.status.iter().flat_map(|status| &status.holders);
        let others = holders.filter(|holder| holder.node != self.shared.node);
        let peers: Vec<Peer> = others
            .filter_map(|holder| Peer::parse(&holder.node, &holder.address))
            .collect();
        for peer in peers {
            match self.fetch_from_peer(&client, &peer, digest, uid).await {
                Ok(()) => {
                    let adoption = Adoption {
                        key: uid.to_owned(),
                        file: self.shared.layout.incoming_image(uid),
                        digest: Some(digest),
                        format: image.spec.disk_format.map(format),
                        limits: Limits::default(),
                    };
                    let (name, node) = (image.name_any(), peer.node);
                    tracing::info!(name, uid, %node, %digest, "image fetched from another node");
                    return Some(self.shared.cache.adopt(adoption).await);
                }
                Err(error) => {
                    tracing::warn!(uid, node = %peer.node, error = chain(&error), "fetching an image from another node");
                    if matches!(error, client::Error::NoSpace { .. }) {
                        self.evict().await;
                    }
                }
            }
        }
        None
    }

    async fn fetch_from_peer(
        &self,
        client: &Client,
        peer: &Peer,
        digest: Digest,
        uid: &str,
    ) -> Result<(), client::Error> {
        let destination = self.shared.layout.incoming_image(uid);
        remove_leftover(client, &destination).await?;
        let request = Request {
            source: peer.source(What::Digest(digest)),
            destination,
            max_length: self.shared.cache.max_image_size(),
        };
        let (progress, seen) = watch::channel(Progress::default());
        self.came_closer(uid, Coming::Peer(seen));
        client.receive(&request, &progress).await?;
        Ok(())
    }

    /// The image with this digest: from the cache, else from this node. `key` names who wants it.
    pub async fn fetch_digest(
        &self,
        peer: &Peer,
        digest: Digest,
        format: Format,
        key: &str,
    ) -> Result<Entry, NotFetched> {
        if let Some(entry) = self.shared.cache.get(digest) {
            return Ok(entry);
        }
        let client = self.shared.transfers.client().ok_or(NotFetched::NoCertificate)?;
        self.fetch_from_peer(&client, peer, digest, key).await?;
        let adoption = Adoption {
            key: key.to_owned(),
            file: self.shared.layout.incoming_image(key),
            digest: Some(digest),
            format: Some(format),
            limits: Limits::default(),
        };
        let entry = self.shared.cache.adopt(adoption).await?;
        self.tell(None);
        Ok(entry)
    }

    /// Removes what came of an image that nobody wants any more.
    pub async fn abandon_peers(&self, uid: &str) {
        let destination = self.shared.layout.incoming_image(uid);
        let Some(client) = self.shared.transfers.client() else {
            return;
        };
        let gone = match client.abandon(&destination).await {
            Ok(()) => remove_leftover(&client, &destination).await,
            failed => failed,
        };
        if let Err(error) = gone {
            tracing::warn!(uid, error = chain(&error), "removing what came of an image");
        }
    }
}

/// A whole file without a journal is one that a crash kept out of the cache; what it was verified for is not known any
/// more.
async fn remove_leftover(client: &Client, destination: &Path) -> Result<(), client::Error> {
    if client.state(destination).await?.is_none() {
        // Gone is as good.
        let _ = tokio::fs::remove_file(destination).await;
    }
    Ok(())
}
