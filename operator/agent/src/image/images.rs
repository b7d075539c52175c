//! Which images are there, and how do the others stand?

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use futures::{Stream, stream};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use virga_core::instance::Cache as CacheState;
use virga_crds::{Bytes, DiskFormat, Image};
use virga_images::{
    Digest, Format,
    cache::{Cache, Entry},
};

use super::peers::Coming;
use crate::{layout::Layout, stores::Stores, transfer::Transfers};

/// How many changes a slow listener may be behind; one that is further behind looks at everything.
const BACKLOG: usize = 256;

/// The node's images. Clones share them.
#[derive(Clone)]
pub struct Images {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) node: String,
    pub(super) cache: Cache,
    pub(super) layout: Layout,
    pub(super) stores: Stores,
    pub(super) transfers: Transfers,
    pulls: Mutex<HashMap<String, Pull>>,
    changed: broadcast::Sender<String>,
    pub(super) stop: CancellationToken,
}

/// A pull, or what came of it.
pub(super) struct Pull {
    pub(super) cancel: CancellationToken,
    pub(super) coming: Option<Coming>,
    pub(super) failure: Option<Failure>,
    pub(super) digest: Option<Digest>,
}

#[derive(Clone)]
pub(crate) struct Failure {
    /// Whether trying again is no use.
    pub(crate) invalid: bool,
    pub(crate) message: String,
}

/// A change of one image's state, or of so many that one should look at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// The image with this uid.
    One(String),
    /// Any.
    All,
}

impl Images {
    /// The images of this node. Pulls end when `stop` is cancelled.
    pub fn new(
        node: &str,
        cache: Cache,
        layout: Layout,
        stores: Stores,
        transfers: Transfers,
        stop: CancellationToken,
    ) -> Self {
        let shared = Shared {
            node: node.into(),
            cache,
            layout,
            stores,
            transfers,
            pulls: Mutex::default(),
            changed: broadcast::channel(BACKLOG).0,
            stop,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Tells of each image whose state changes: that it is fetched a few percent further, is there, or failed.
    pub fn changes(&self) -> impl Stream<Item = Changed> + Send + use<> {
        stream::unfold(self.shared.changed.subscribe(), |mut receiver| async move {
            let changed = match receiver.recv().await {
                Ok(uid) => Changed::One(uid),
                Err(broadcast::error::RecvError::Lagged(_)) => Changed::All,
                Err(broadcast::error::RecvError::Closed) => return None,
            };
            Some((changed, receiver))
        })
    }

    /// How an image stands.
    pub fn state(&self, image: &Image) -> CacheState {
        if let Some(entry) = self.entry(image) {
            let virtual_size = Bytes(entry.inspection.virtual_size);
            return CacheState::Cached { virtual_size };
        }
        let pulls = self.pulls();
        match image.metadata.uid.as_ref().and_then(|uid| pulls.get(uid)) {
            None => CacheState::Absent,
            // It was there, and is no more: it was evicted.
            Some(pull) if pull.digest.is_some() => CacheState::Absent,
            Some(pull) => match &pull.failure {
                Some(failure) if failure.invalid => CacheState::Invalid(failure.message.clone()),
                Some(failure) => CacheState::Unreachable(failure.message.clone()),
                None => CacheState::Pulling(pull.coming.as_ref().and_then(Coming::percent)),
            },
        }
    }

    /// The cached file of an image, if it is there and of the format that the Image claims.
    pub fn entry(&self, image: &Image) -> Option<Entry> {
        let entry = self.shared.cache.get(self.digest(image)?)?;
        let claim = image.spec.disk_format.map(format);
        claim
            .is_none_or(|claim| claim == entry.inspection.format)
            .then_some(entry)
    }

    /// The same by the Image's uid.
    pub fn entry_of(&self, uid: &str) -> Option<Entry> {
        let image = self.shared.stores.image(uid)?;
        self.entry(&image)
    }

    /// All images in the cache.
    pub fn entries(&self) -> Vec<Entry> {
        self.shared.cache.entries()
    }

    /// How many bytes the cache takes.
    pub fn used_bytes(&self) -> u64 {
        self.shared.cache.used_bytes()
    }

    /// What the image's bytes hash to: as its publisher says, as the import found, or as was found here.
    pub(super) fn digest(&self, image: &Image) -> Option<Digest> {
        let claimed = image.spec.source.http.as_ref().map(|http| http.checksum.value.as_str());
        let imported = image.status.as_ref().and_then(|status| status.digest.as_deref());
        let named = claimed.or(imported).and_then(|text| text.parse().ok());
        named.or_else(|| {
            let uid = image.metadata.uid.as_ref()?;
            self.pulls().get(uid)?.digest
        })
    }

    pub(crate) fn tell(&self, uid: Option<&str>) {
        // Nobody listening is fine.
        let _ = self.shared.changed.send(uid.unwrap_or_default().to_owned());
    }

    pub(super) fn pulls(&self) -> std::sync::MutexGuard<'_, HashMap<String, Pull>> {
        self.shared.pulls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The format in the cache's words.
pub(super) fn format(format: DiskFormat) -> Format {
    match format {
        DiskFormat::Qcow2 => Format::Qcow2,
        DiskFormat::Raw => Format::Raw,
    }
}
