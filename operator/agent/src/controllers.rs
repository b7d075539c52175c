//! Which changes in the API wake which loop?

use std::sync::Arc;

use kube::{
    ResourceExt,
    runtime::{controller::Controller, reflector::ObjectRef},
};
use virga_core::volume::volume_names;
use virga_crds::{Flavor, Hypervisor, Image, Instance, Migration, Network, Port, PowerState, Scheduling, Volume};
use virga_runtime::watch::Watch;

use crate::{
    stores::{Stores, Watches},
    wake,
};

/// Instances, and what they are made from.
pub fn instances(watches: &Watches, stores: &Stores) -> Controller<Instance> {
    let (by_flavor, by_image, by_network, by_volume, by_instance, by_host) = (
        stores.clone(),
        stores.clone(),
        stores.clone(),
        stores.clone(),
        stores.clone(),
        stores.clone(),
    );
    Controller::for_shared_stream(watches.instances.applied(), stores.instances.clone())
        .watches_shared_stream(watches.flavors.respecified(), move |flavor: Arc<Flavor>| {
            wake::matching(&by_flavor, |instance| instance.spec.flavor == flavor.name_any())
        })
        .watches_shared_stream(watches.images.touched(), move |image: Arc<Image>| {
            wake::instances_of_image(&by_image, &image)
        })
        .watches_shared_stream(watches.networks.respecified(), move |network: Arc<Network>| {
            wake::matching(&by_network, |instance| {
                let own = instance.namespace().unwrap_or_default();
                let mut interfaces = instance.spec.interfaces.iter();
                interfaces.any(|interface| {
                    interface.network == network.name_any()
                        && Some(interface.network_in(&own)) == network.metadata.namespace.as_deref()
                })
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
        .watches_shared_stream(watches.migrations_out.touched(), |migration: Arc<Migration>| {
            instance_of(&migration)
        })
        // What comes from another host becomes an Instance of this one.
        .watches_shared_stream(watches.migrations_in.touched(), |migration: Arc<Migration>| {
            instance_of(&migration)
        })
        // What is shelved leaves a host in maintenance.
        .watches_shared_stream(watches.hypervisor.touched(), move |host: Arc<Hypervisor>| {
            let maintenance = host.spec.scheduling == Scheduling::Maintenance;
            wake::matching(&by_host, |instance| {
                maintenance && instance.spec.power_state == PowerState::Shelved
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
    Controller::for_shared_stream(watches.networks.respecified(), watches.networks.store()).watches_shared_stream(
        watches.ports.touched(),
        |port: Arc<Port>| {
            port.namespace()
                .map(|own| ObjectRef::new(&port.spec.network).within(port.spec.network_in(&own)))
        },
    )
}

/// Migrations that leave this node, and their Instances.
pub fn outgoing(watches: &Watches) -> Controller<Migration> {
    migrations(&watches.migrations_out, watches)
}

/// Migrations that come to this node, and their Instances.
pub fn incoming(watches: &Watches) -> Controller<Migration> {
    migrations(&watches.migrations_in, watches)
}

fn migrations(watch: &Watch<Migration>, watches: &Watches) -> Controller<Migration> {
    let known = watch.store();
    Controller::for_shared_stream(watch.applied(), watch.store()).watches_shared_stream(
        watches.instances.touched(),
        move |instance: Arc<Instance>| {
            let its = known.state().into_iter().filter(|migration| {
                migration.namespace() == instance.namespace() && migration.spec.instance == instance.name_any()
            });
            its.map(|migration| ObjectRef::from_obj(migration.as_ref()))
                .collect::<Vec<_>>()
        },
    )
}

fn instance_of(migration: &Migration) -> Option<ObjectRef<Instance>> {
    let namespace = migration.namespace()?;
    Some(ObjectRef::new(&migration.spec.instance).within(&namespace))
}
