//! Has the host room for one more?

mod offer;

use std::sync::Arc;

use kube::ResourceExt;
use virga_core::{
    hypervisor::partition,
    instance::{Counted, Room, counted as counted_sizes},
};
use virga_crds::{BuiltFlavor, Bytes, Instance, Resources};

use crate::{
    capacity::{Disk, capacity},
    host::Host,
    topology,
};
pub use offer::ratios;
use offer::{Offer, Promise, largest, sum};

/// Whether the host has room for an Instance of which nothing exists here yet.
pub async fn room(host: &Host, instance: &Instance) -> virga_hypervisor::Result<Room> {
    let facts = host.facts.get(&host.calls).await?;
    let spec = topology::spec(host);
    let mut capacity = capacity(&facts, Disk::of(&host.layout));
    // Those that are given to one guest each are promised one by one, when they are claimed.
    capacity.vcpus = partition(&spec).unwrap_or_default().shared_count(capacity.vcpus);
    let offer = Offer::new(capacity, &spec, host.ratios);
    let Some(mine) = promise(host, instance) else {
        return Ok(Room::Enough);
    };
    let others = host.stores.instances.state();
    let mut others: Vec<Promise> = others.iter().filter_map(|other| promise(host, other)).collect();
    others.push(volumes(host));
    Ok(offer.room(&mine, &others))
}

/// What the volumes of this host take.
fn volumes(host: &Host) -> Promise {
    let sizes = host.stores.volumes.state().into_iter().map(|volume| volume.spec.size.0);
    Promise {
        built: true,
        created: None,
        uid: String::new(),
        resources: Resources {
            disk: Bytes(sizes.fold(0, u64::saturating_add)),
            ..Resources::default()
        },
    }
}

/// What was promised to all Instances and Volumes here, and how many Instances there are.
pub fn promised(host: &Host) -> (Resources, usize) {
    let instances = host.stores.instances.state();
    let staying: Vec<&Arc<Instance>> = instances.iter().filter(|instance| !rejected(host, instance)).collect();
    let promises = staying.iter().filter_map(|instance| promise(host, instance));
    let promises = promises.chain([volumes(host)]);
    (
        promises.fold(Resources::default(), |all, one| sum(all, one.resources)),
        staying.len(),
    )
}

fn rejected(host: &Host, instance: &Instance) -> bool {
    let status = instance.status.as_ref();
    status.is_some_and(|status| status.rejected_by.contains(&host.node) && status.flavor.is_none())
}

fn promise(host: &Host, instance: &Instance) -> Option<Promise> {
    if rejected(host, instance) {
        return None;
    }
    let built = instance.status.as_ref().is_some_and(|status| status.flavor.is_some());
    let uid = instance.uid()?;
    let begun = || {
        let files = uid.parse().ok().map(|uid| host.layout.instance(uid));
        files.is_some_and(|files| files.directory().is_dir())
    };
    let local = instance.spec.image.is_some();
    let own = |flavor: &BuiltFlavor| Resources {
        vcpus: flavor.vcpus.into(),
        memory: flavor.memory,
        // A boot volume's room is its own Volume's.
        disk: if local { flavor.disk } else { Bytes::ZERO },
    };
    let sizes = sizes(host, instance);
    let counted = sizes.iter().map(|size| counted(host, instance, size, own(size)));
    Some(Promise {
        built: built || begun(),
        created: instance.metadata.creation_timestamp.as_ref().map(|time| time.0),
        resources: counted.reduce(largest)?,
        uid,
    })
}

/// The sizes that count: of one that is resized, that it has, and that it gets or may have again.
fn sizes(host: &Host, instance: &Instance) -> Vec<BuiltFlavor> {
    let Counted { mut built, granted } = counted_sizes(instance);
    if built.is_empty() {
        built.extend(host.stores.flavor_of(instance));
    }
    built.extend(granted.and_then(|name| host.stores.flavor_named(&name)));
    built
}

/// The same amounts as the scheduler counts: the Flavor's extra specs may say others than its own fields, and CPUs of
/// its own are none of the shared ones. Memory counts in full, whatever pages back it.
fn counted(host: &Host, instance: &Instance, size: &BuiltFlavor, own: Resources) -> Resources {
    let extra = host.stores.extra_specs_of(&size.name);
    let shape = topology::shape(host, instance).unwrap_or_default();
    extra.map_or(own, |extra| extra.counted(own, &shape))
}
