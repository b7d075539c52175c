//! Images: names the node that imports each, folds the agents' reports, and keeps those that are in use.

mod reports;

use std::{future::Future, sync::Arc, time::Duration};

use kube::{ResourceExt as _, runtime::Controller};
use tokio_util::sync::CancellationToken;
use virga_core::{
    hypervisor::is_ready,
    image::{self, Importer, Origin, Report},
    uses::TargetKind,
};
use virga_crds::{CachedImageState, Image, ImageState, Instance};
use virga_runtime::{
    apply,
    reconcile::{self, Done, Reconcile, Settings},
};

use self::reports::Reports;
use crate::{Context, protect, stores::Watches, uses::UseIndex};

/// How soon to look again while an image is not there, for the host that came or went meanwhile.
const AGAIN: Duration = Duration::from_secs(5);
/// How long an image is left alone after each look: many hosts may tell of it at once.
const REST: Duration = Duration::from_millis(100);

struct Images {
    context: Arc<Context>,
    uses: Arc<UseIndex>,
    reports: Arc<Reports>,
}

/// The kind's loop.
pub fn controller(
    context: Arc<Context>,
    watches: &Watches,
    uses: Arc<UseIndex>,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let reports = Reports::start(watches, stop.clone());
    let controller = Controller::for_shared_stream(watches.images.applied(), watches.images.store())
        .reconcile_on(uses.touched(TargetKind::Image))
        .reconcile_on(reports.touched());
    let metrics = context.metrics.clone();
    let settings = Settings {
        rest: REST,
        ..Settings::default()
    };
    reconcile::run(Images { context, uses, reports }, controller, settings, metrics, stop)
}

impl Reconcile for Images {
    type Kind = Image;
    type Error = apply::Error;

    fn name(&self) -> &'static str {
        "image"
    }

    async fn reconcile(&self, live: Arc<Image>) -> Result<Done, apply::Error> {
        let users = self.uses.of(TargetKind::Image, live.as_ref()).await;
        let reports = self.reports.of(&live.uid().unwrap_or_default()).await;
        let reports: Vec<_> = reports
            .iter()
            .map(|(node, told)| Report {
                node,
                address: told.address.as_deref(),
                image: &told.image,
            })
            .collect();
        // Only an image that is not there yet needs the hosts.
        let active = live
            .status
            .as_ref()
            .is_some_and(|status| status.state == Some(ImageState::Active));
        let hosts = if active {
            Vec::new()
        } else {
            self.context.stores.hypervisors.state()
        };
        let ready = hosts
            .iter()
            .filter(|host| is_ready(host) && host.metadata.deletion_timestamp.is_none());
        let importers: Vec<_> = ready
            .map(|host| {
                let images = host.status.iter().flat_map(|status| &status.images);
                let busy = images.filter(|image| image.state == CachedImageState::Pulling).count();
                Importer {
                    busy,
                    node: host.metadata.name.as_deref().unwrap_or_default(),
                }
            })
            .collect();
        let now = self.context.clock.now();
        let (instance, base) = self.source(&live);
        let origin = match live.spec.source.instance {
            None => Origin::Anywhere,
            Some(_) => Origin::Instance {
                instance: instance.as_deref(),
                image: base.as_deref(),
            },
        };
        let (protection, status) = image::plan(&live, &reports, &importers, origin, users.iter(), now);
        let done = protect::settle(&self.context.writer, live.as_ref(), &protection, &status).await?;
        Ok(if status.state == Some(ImageState::Active) {
            done
        } else {
            done.again_in(AGAIN)
        })
    }
}

impl Images {
    /// The Instance that an image is made of, and the Image that this was made from.
    fn source(&self, image: &Image) -> (Option<Arc<Instance>>, Option<Arc<Image>>) {
        let namespace = image.namespace().unwrap_or_default();
        let Some(source) = &image.spec.source.instance else {
            return (None, None);
        };
        let instance = self.context.stores.instance(&namespace, &source.name);
        let named = instance.as_ref().and_then(|instance| instance.spec.image.as_ref());
        let base = named.and_then(|named| {
            let namespace = named.namespace.as_deref().unwrap_or(&namespace);
            self.context.stores.image(namespace, &named.name)
        });
        (instance, base)
    }
}

#[cfg(test)]
mod tests;
