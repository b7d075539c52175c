//! Which Instances does a change outside the API concern?

use std::sync::Arc;

use futures::{Stream, StreamExt, stream};
use kube::{ResourceExt, runtime::reflector::ObjectRef};
use tokio::sync::broadcast;
use virga_crds::{Image, Instance, Volume};
use virga_hypervisor::{Event, EventStream};

use crate::{
    host::Host,
    image::{Changed, Images},
    node,
    plugged::Plugged,
    stores::Stores,
};

/// How many events of libvirt may wait; more become one look at everything.
pub const EVENTS: usize = 1024;

/// Instances to look at, as libvirt's events, the images and a regained connection call for.
pub fn instances(
    host: &Host,
    events: EventStream,
    all: &broadcast::Sender<()>,
    wake: node::Wake,
) -> impl Stream<Item = ObjectRef<Instance>> + Send + use<> {
    let (stores, images) = (host.stores.clone(), &host.images);
    let by_event = from_libvirt(stores.clone(), events, host.plugged.clone(), wake);
    let by_image = {
        let stores = stores.clone();
        images.changes().map(move |changed| of_image(&stores, &changed))
    };
    let by_return = {
        stream::unfold((all.subscribe(), stores), |(mut all, stores)| async move {
            match all.recv().await {
                Ok(()) | Err(broadcast::error::RecvError::Lagged(_)) => {
                    let instances = everything(&stores);
                    Some((instances, (all, stores)))
                }
                Err(broadcast::error::RecvError::Closed) => None,
            }
        })
    };
    stream::select(stream::select(by_event.boxed(), by_image.boxed()), by_return.boxed()).flat_map(stream::iter)
}

fn from_libvirt(
    stores: Stores,
    events: EventStream,
    plugged: Plugged,
    wake: node::Wake,
) -> impl Stream<Item = Vec<ObjectRef<Instance>>> + Send {
    stream::unfold(
        (events, stores, plugged, wake),
        |(mut events, stores, plugged, wake)| async move {
            let concerned = match events.next().await? {
                Event::Domain { uuid, .. } => {
                    plugged.touch(uuid);
                    let found = stores.instance(&uuid.to_string());
                    found
                        .iter()
                        .map(|instance| ObjectRef::from_obj(instance.as_ref()))
                        .collect()
                }
                Event::Disconnected => {
                    plugged.touch_all();
                    wake.lost("the connection to libvirt was lost");
                    everything(&stores)
                }
                Event::Resync => {
                    plugged.touch_all();
                    everything(&stores)
                }
            };
            Some((concerned, (events, stores, plugged, wake)))
        },
    )
}

fn everything(stores: &Stores) -> Vec<ObjectRef<Instance>> {
    let instances = stores.instances.state();
    instances
        .iter()
        .map(|instance| ObjectRef::from_obj(instance.as_ref()))
        .collect()
}

fn of_image(stores: &Stores, changed: &Changed) -> Vec<ObjectRef<Instance>> {
    let Changed::One(uid) = changed else {
        return everything(stores);
    };
    let image = stores.image(uid);
    image.map_or_else(Vec::new, |image| instances_of_image(stores, &image))
}

/// The Instances that boot from an image, are to be rescued with it, or that it is made of.
pub fn instances_of_image(stores: &Stores, image: &Image) -> Vec<ObjectRef<Instance>> {
    matching(stores, |instance| {
        let of_it = image
            .spec
            .source
            .instance
            .as_ref()
            .is_some_and(|source| source.name == instance.name_any() && instance.namespace() == image.namespace());
        let rescue = instance.spec.rescue.as_ref().and_then(|rescue| rescue.image.as_ref());
        let mut named = instance.spec.image.iter().chain(rescue);
        of_it
            || named.any(|named| {
                let namespace = named.namespace.clone().or_else(|| instance.namespace());
                named.name == image.name_any() && namespace == image.namespace()
            })
    })
}

/// The Instances for which this holds.
pub fn matching(stores: &Stores, is_concerned: impl Fn(&Instance) -> bool) -> Vec<ObjectRef<Instance>> {
    let instances = stores.instances.state();
    let concerned = instances.iter().filter(|instance| is_concerned(instance));
    concerned
        .map(|instance| ObjectRef::from_obj(instance.as_ref()))
        .collect()
}

/// Volumes to look at when an image changes, or when they were plugged in or out.
pub fn volumes(
    stores: Stores,
    images: &Images,
    plugged: &Plugged,
) -> impl Stream<Item = ObjectRef<Volume>> + Send + use<> {
    let of = move |changed: Changed| -> Vec<ObjectRef<Volume>> {
        let volumes: Vec<Arc<Volume>> = stores.volumes.state();
        let image = match &changed {
            Changed::All => None,
            Changed::One(uid) => stores.image(uid),
        };
        let concerned = volumes.iter().filter(|volume| {
            let named = volume.spec.source.as_ref().map(|source| &source.image);
            match (named, &image) {
                (None, _) => false,
                (Some(_), None) => changed == Changed::All,
                (Some(named), Some(image)) => {
                    let namespace = named.namespace.clone().or_else(|| volume.namespace());
                    named.name == image.name_any() && namespace == image.namespace()
                }
            }
        });
        concerned.map(|volume| ObjectRef::from_obj(volume.as_ref())).collect()
    };
    let by_image = images.changes().map(of).flat_map(stream::iter);
    stream::select(by_image.boxed(), plugged.changes().boxed())
}
