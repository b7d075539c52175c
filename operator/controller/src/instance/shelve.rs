//! Shelved Instances: their Images, the bindings of those that have left their hosts, and what is said of them then. What
//! is to be done is decided in [`virga_core::instance::shelving`].

use std::{future::Future, sync::Arc};

use kube::{ResourceExt as _, runtime::Controller};
use tokio_util::sync::CancellationToken;
use virga_core::instance::{Shelving, shelved_image_name, shelving};
use virga_crds::{Image, Instance, conditions::Reason, labels};
use virga_runtime::{
    apply,
    class::{Class, Classify},
    reconcile::{self, Done, Reconcile, Settings, object_ref},
};

use crate::{Context, scheduling::bind, stores::Watches};

/// Why it did not get on.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Write(#[from] apply::Error),
    #[error("taking the binding of a shelved Instance away")]
    Unbind(#[from] bind::Error),
}

impl Classify for Error {
    fn class(&self) -> Class {
        match self {
            Self::Write(error) => error.class(),
            Self::Unbind(_) => Class::Transient,
        }
    }
}

struct ShelveLoop {
    context: Arc<Context>,
}

/// The loop over the Instances, most of which have nothing to do with it.
pub fn controller(
    context: Arc<Context>,
    watches: &Watches,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let of_image = |image: Arc<Image>| {
        let source = image.spec.source.instance.as_ref();
        let ours = source.filter(|_| image.labels().contains_key(labels::SHELVED_OF));
        ours.map(|source| object_ref(image.namespace().as_deref(), &source.name))
    };
    let controller = Controller::for_shared_stream(watches.instances.applied(), watches.instances.store())
        .watches_shared_stream(watches.images.touched(), of_image);
    let metrics = context.metrics.clone();
    reconcile::run(ShelveLoop { context }, controller, Settings::default(), metrics, stop)
}

impl Reconcile for ShelveLoop {
    type Kind = Instance;
    type Error = Error;

    fn name(&self) -> &'static str {
        "shelve"
    }

    async fn reconcile(&self, instance: Arc<Instance>) -> Result<Done, Error> {
        let (namespace, name) = (instance.namespace().unwrap_or_default(), instance.name_any());
        let image = self.context.stores.image(&namespace, &shelved_image_name(&instance));
        let Shelving {
            create,
            delete,
            unbind,
            status,
        } = shelving(&instance, image.as_deref(), self.context.clock.now());
        let writer = &self.context.writer;
        let mut changed = false;
        if let Some(image) = create {
            // One that is there already is looked at when the watch shows it.
            changed |= writer.create(image.as_ref()).await?.is_some();
        }
        if let Some(image) = image.filter(|_| delete) {
            writer.delete(image.as_ref()).await?;
            tracing::info!(
                namespace,
                name,
                image = image.name_any(),
                "the Image of a former shelving is deleted"
            );
            changed = true;
        }
        if unbind {
            match bind::unbind(&self.context.client, &instance).await {
                Ok(unbound) => {
                    tracing::info!(kind = "Instance", namespace, name, "shelved, and on no host any more");
                    let message = "it is shelved, and its host is free";
                    let events = &self.context.events;
                    events.normal(&unbound, Reason::Offloaded.as_str(), "Offloading", message);
                    return Ok(Done::changed());
                }
                // Somebody changed it: that wakes this loop.
                Err(error) if error.is_stale() => return Ok(Done::waiting()),
                Err(error) => return Err(error.into()),
            }
        }
        if let Some(status) = status {
            changed |= writer.apply_status(instance.as_ref(), &status).await?.is_some();
        }
        Ok(Done::changed_if(changed))
    }
}
