//! Which images does this node have, and which are on their way?

mod pull;
mod report;

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use futures::{Stream, StreamExt, stream};
use kube::ResourceExt;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use virga_core::instance::Cache as CacheState;
use virga_crds::{Bytes, DiskFormat, Image};
use virga_images::{
    Digest, Format,
    cache::{Cache, Entry, Evicted, Fetch, Request, Source},
};
use virga_runtime::{class::chain, watch::Change};

use crate::{layout::Layout, stores::Stores};

/// How many changes a slow listener may be behind; one that is further behind looks at everything.
const BACKLOG: usize = 256;

/// The node's images. Clones share them.
#[derive(Clone)]
pub struct Images {
    shared: Arc<Shared>,
}

struct Shared {
    node: String,
    cache: Cache,
    layout: Layout,
    stores: Stores,
    pulls: Mutex<HashMap<String, Pull>>,
    changed: broadcast::Sender<String>,
    stop: CancellationToken,
}

/// A pull, or what came of it.
struct Pull {
    cancel: CancellationToken,
    fetch: Option<Fetch>,
    failure: Option<Failure>,
    digest: Option<Digest>,
}

#[derive(Clone)]
struct Failure {
    /// Whether trying again is no use.
    invalid: bool,
    message: String,
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
    pub fn new(node: &str, cache: Cache, layout: Layout, stores: Stores, stop: CancellationToken) -> Self {
        let shared = Shared {
            node: node.into(),
            cache,
            layout,
            stores,
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
                None => CacheState::Pulling(pull.fetch.as_ref().and_then(|fetch| fetch.progress().percent())),
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
        self.find(uid).and_then(|image| self.entry(&image))
    }

    /// The Image with this uid.
    pub fn find(&self, uid: &str) -> Option<Arc<Image>> {
        self.shared
            .stores
            .images
            .find(|image| image.metadata.uid.as_deref() == Some(uid))
    }

    /// Begins to fetch an image, unless that is under way. Goes on until it is there or its Image is gone.
    pub fn pull(&self, image: Arc<Image>) {
        let Some(uid) = image.uid() else { return };
        let cancel = self.shared.stop.child_token();
        {
            let mut pulls = self.pulls();
            if pulls.get(&uid).is_some_and(|pull| pull.digest.is_none()) {
                return;
            }
            let pull = Pull {
                cancel: cancel.clone(),
                fetch: None,
                failure: None,
                digest: None,
            };
            pulls.insert(uid.clone(), pull);
        }
        tokio::spawn(pull::run(self.clone(), image, uid, cancel));
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

    /// Makes room, when the cache is too large or the disk too full. What a disk here lies over, or an Instance here
    /// names, stays.
    pub async fn evict(&self) {
        match self.shared.cache.evict(self.pins().await).await {
            Ok(Evicted { digests, .. }) if digests.is_empty() => {}
            Ok(Evicted { digests, bytes }) => {
                tracing::info!(images = digests.len(), bytes, "evicted images");
                let _ = self.shared.changed.send(String::new());
            }
            Err(error) => tracing::warn!(error = chain(&error), "evicting images"),
        }
    }

    /// How many bytes the cache takes.
    pub fn used_bytes(&self) -> u64 {
        self.shared.cache.used_bytes()
    }

    fn imports(&self, image: &Image) -> bool {
        let importer = image.status.as_ref().and_then(|status| status.importer.as_deref());
        importer == Some(self.shared.node.as_str()) && image.metadata.deletion_timestamp.is_none()
    }

    async fn pins(&self) -> HashSet<Digest> {
        let mut pins = bases(&self.shared.layout.instances()).await;
        for instance in self.shared.stores.instances.state() {
            let Some(named) = &instance.spec.image else { continue };
            let namespace = named.namespace.clone().or_else(|| instance.namespace());
            let image = self
                .shared
                .stores
                .images
                .find(|image| image.name_any() == named.name && image.namespace() == namespace);
            pins.extend(image.and_then(|image| self.digest(&image)));
        }
        pins
    }

    /// What the image's bytes hash to: as its publisher says, as the import found, or as was found here.
    fn digest(&self, image: &Image) -> Option<Digest> {
        let claimed = image.spec.source.http.as_ref().map(|http| http.checksum.value.as_str());
        let imported = image.status.as_ref().and_then(|status| status.digest.as_deref());
        let named = claimed.or(imported).and_then(|text| text.parse().ok());
        named.or_else(|| {
            let uid = image.metadata.uid.as_ref()?;
            self.pulls().get(uid)?.digest
        })
    }

    fn tell(&self, uid: Option<&str>) {
        // Nobody listening is fine.
        let _ = self.shared.changed.send(uid.unwrap_or_default().to_owned());
    }

    fn pulls(&self) -> std::sync::MutexGuard<'_, HashMap<String, Pull>> {
        self.shared.pulls.lock().unwrap_or_else(PoisonError::into_inner)
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
        limits: virga_images::cache::Limits::default(),
    })
}

fn format(format: DiskFormat) -> Format {
    match format {
        DiskFormat::Qcow2 => Format::Qcow2,
        DiskFormat::Raw => Format::Raw,
    }
}

/// The digests of all images that a root disk on this node lies over, from the links beside the disks.
async fn bases(instances: &Path) -> HashSet<Digest> {
    let instances = instances.to_owned();
    let read = move || -> std::io::Result<HashSet<Digest>> {
        let mut bases = HashSet::new();
        for directory in std::fs::read_dir(instances)? {
            let Ok(target) = std::fs::read_link(directory?.path().join("base")) else {
                continue;
            };
            bases.extend(digest_in(&target));
        }
        Ok(bases)
    };
    match tokio::task::spawn_blocking(read).await {
        Ok(Ok(bases)) => bases,
        Ok(Err(error)) => {
            tracing::warn!(%error, "looking for images in use");
            HashSet::new()
        }
        Err(_) => HashSet::new(),
    }
}

/// The digest in the name of a cached image's file: `sha256-<hex>.<format>`.
fn digest_in(path: &Path) -> Option<Digest> {
    let stem = path.file_stem()?.to_str()?;
    stem.strip_prefix("sha256-")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_read_from_its_links_target() {
        let hex = "ab".repeat(32);
        let digest = digest_in(Path::new(&format!("/images/sha256-{hex}.qcow2")));
        assert_eq!(digest.map(|digest| digest.hex()), Some(hex));
        assert_eq!(digest_in(Path::new("/etc/passwd")), None);
    }
}
