//! Which changes in the API wake which loop?

use std::sync::Arc;

use kube::{
    ResourceExt,
    runtime::{controller::Controller, reflector::ObjectRef},
};
use virga_core::volume::volume_names;
use virga_crds::{Flavor, Image, Instance, Network, Port, Volume};

use crate::{
    stores::{Stores, Watches},
    wake,
};

/// Instances, and what they are made from.
pub fn instances(watches: &Watches, stores: &Stores) -> Controller<Instance> {
    let (by_flavor, by_image, by_network, by_volume, by_instance) = (
        stores.clone(),
        stores.clone(),
        stores.clone(),
        stores.clone(),
        stores.clone(),
    );
    Controller::for_shared_stream(watches.instances.applied(), stores.instances.clone())
        .watches_shared_stream(watches.flavors.touched(), move |flavor: Arc<Flavor>| {
            wake::matching(&by_flavor, |instance| instance.spec.flavor == flavor.name_any())
        })
        .watches_shared_stream(watches.images.touched(), move |image: Arc<Image>| {
            wake::instances_of_image(&by_image, &image)
        })
        .watches_shared_stream(watches.networks.touched(), move |network: Arc<Network>| {
            wake::matching(&by_network, |instance| {
                let mut interfaces = instance.spec.interfaces.iter();
                instance.namespace() == network.namespace()
                    && interfaces.any(|interface| interface.network == network.name_any())
            })
        })
        .watches_shared_stream(watches.ports.touched(), |port: Arc<Port>| {
            port.namespace()
                .map(|namespace| ObjectRef::new(&port.spec.instance).within(&namespace))
        })
        .watches_shared_stream(watches.volumes.touched(), move |volume: Arc<Volume>| {
            wake::matching(&by_volume, |instance| {
                instance.namespace() == volume.namespace()
                    && volume_names(instance).any(|name| name == volume.name_any())
            })
        })
        // An Instance that goes may leave a volume to one that waits for it.
        .watches_shared_stream(watches.instances.touched(), move |other: Arc<Instance>| {
            wake::matching(&by_instance, |instance| {
                instance.metadata.uid != other.metadata.uid
                    && instance.namespace() == other.namespace()
                    && volume_names(instance).any(|name| volume_names(&other).any(|theirs| theirs == name))
            })
        })
}

/// Volumes, and the Instances that name them.
pub fn volumes(watches: &Watches, stores: &Stores) -> Controller<Volume> {
    Controller::for_shared_stream(watches.volumes.applied(), stores.volumes.clone()).watches_shared_stream(
        watches.instances.touched(),
        |instance: Arc<Instance>| {
            let namespace = instance.namespace().unwrap_or_default();
            let names = volume_names(&instance).map(|name| ObjectRef::new(name).within(&namespace));
            names.collect::<Vec<_>>()
        },
    )
}

/// Networks, and the Ports in them.
pub fn networks(watches: &Watches) -> Controller<Network> {
    Controller::for_shared_stream(watches.networks.applied(), watches.networks.store()).watches_shared_stream(
        watches.ports.touched(),
        |port: Arc<Port>| {
            port.namespace()
                .map(|namespace| ObjectRef::new(&port.spec.network).within(&namespace))
        },
    )
}
