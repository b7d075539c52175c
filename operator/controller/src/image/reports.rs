//! What do the nodes say of each image? The Hypervisors' reports, by image.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    pin::pin,
    sync::{Arc, PoisonError, RwLock},
};

use futures::{Stream, StreamExt, stream};
use kube::{ResourceExt as _, runtime::reflector::ObjectRef};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use virga_core::hypervisor::{is_ready, transfer_address};
use virga_crds::{CachedImage, Hypervisor, Image};
use virga_runtime::{wake::Wakeups, watch::Change};

use crate::stores::{Stores, Watches};

/// The reports of the Hypervisors that are Ready.
pub(super) struct Reports {
    index: RwLock<Index>,
    complete: watch::Sender<bool>,
    touched: Wakeups<ObjectRef<Image>>,
}

/// What a node says of an image, and where the node's agent is reached.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Told {
    pub(super) image: CachedImage,
    pub(super) address: Option<String>,
}

#[derive(Default)]
struct Index {
    /// By image uid, then by node.
    by_image: HashMap<String, BTreeMap<String, Told>>,
    /// The images that a node reports.
    by_node: HashMap<String, BTreeSet<String>>,
    /// How the images are called, by uid.
    names: HashMap<String, ObjectRef<Image>>,
}

enum Seen {
    Host(Change<Hypervisor>),
    Image(Change<Image>),
}

impl Reports {
    /// An index that a task of its own keeps from now on, until `stop` is cancelled.
    pub(super) fn start(watches: &Watches, stop: CancellationToken) -> Arc<Self> {
        let reports = Arc::new(Self {
            index: RwLock::default(),
            complete: watch::Sender::new(false),
            touched: Wakeups::default(),
        });
        let hosts = watches.hypervisors.changes().map(Seen::Host).boxed();
        let images = watches.images.changes().map(Seen::Image).boxed();
        let keep = reports.clone().keep(watches.stores(), stream::select(hosts, images));
        tokio::spawn(async move { stop.run_until_cancelled_owned(keep).await });
        reports
    }

    /// Node and report, for each node that has one; waits until the index is complete.
    pub(super) async fn of(&self, uid: &str) -> Vec<(String, Told)> {
        // The sender lives as long as we do.
        let _ = self.complete.subscribe().wait_for(|complete| *complete).await;
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        index
            .by_image
            .get(uid)
            .into_iter()
            .flatten()
            .map(|(node, told)| (node.clone(), told.clone()))
            .collect()
    }

    /// The images whose reports change, from now on.
    pub(super) fn touched(&self) -> impl Stream<Item = ObjectRef<Image>> + Send + use<> {
        self.touched.picked(Some)
    }

    async fn keep(self: Arc<Self>, stores: Stores, changes: impl Stream<Item = Seen>) {
        let mut changes = pin!(changes);
        if !stores.synced().await {
            return;
        }
        for host in stores.hypervisors.state() {
            self.write(|index| index.host(&host));
        }
        self.complete.send_replace(true);
        while let Some(change) = changes.next().await {
            let touched = self.write(|index| match change {
                Seen::Host(Change::Applied(host)) => index.host(&host),
                Seen::Host(Change::Deleted(host)) => index.set(&host.name_any(), BTreeMap::new()),
                Seen::Image(Change::Applied(image)) => {
                    index
                        .names
                        .insert(image.uid().unwrap_or_default(), ObjectRef::from_obj(image.as_ref()));
                    Vec::new()
                }
                Seen::Image(Change::Deleted(image)) => {
                    index.names.remove(&image.uid().unwrap_or_default());
                    Vec::new()
                }
            });
            for image in touched {
                self.touched.send(image);
            }
        }
    }

    fn write<T>(&self, change: impl FnOnce(&mut Index) -> T) -> T {
        change(&mut self.index.write().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Index {
    fn host(&mut self, host: &Hypervisor) -> Vec<ObjectRef<Image>> {
        let images = host
            .status
            .iter()
            .filter(|_| is_ready(host))
            .flat_map(|status| &status.images);
        let address = transfer_address(host);
        let told = |image: &CachedImage| Told {
            image: image.clone(),
            address: address.clone(),
        };
        self.set(
            &host.name_any(),
            images.map(|image| (image.uid.clone(), told(image))).collect(),
        )
    }

    /// Takes note of all that a node reports. Returns the images whose report is new, other or gone.
    fn set(&mut self, node: &str, images: BTreeMap<String, Told>) -> Vec<ObjectRef<Image>> {
        let mut touched = Vec::new();
        let before = self.by_node.remove(node).unwrap_or_default();
        for gone in before.iter().filter(|uid| !images.contains_key(*uid)) {
            if let Some(reports) = self.by_image.get_mut(gone) {
                reports.remove(node);
                if reports.is_empty() {
                    self.by_image.remove(gone);
                }
            }
            touched.extend(self.names.get(gone).cloned());
        }
        if !images.is_empty() {
            self.by_node.insert(node.to_owned(), images.keys().cloned().collect());
        }
        for (uid, image) in images {
            let reports = self.by_image.entry(uid.clone()).or_default();
            if reports.get(node) != Some(&image) {
                reports.insert(node.to_owned(), image);
                touched.extend(self.names.get(&uid).cloned());
            }
        }
        touched
    }
}
