//! How does what the watches see get into the scheduler's index? By one task, on every replica.

use std::{sync::Arc, time::Duration};

use futures::{Stream, StreamExt, stream};
use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    index::key_of,
    missing,
    state::{Key, Scheduler},
};
use crate::stores::Watches;

/// How often the index is made equal to the stores, should a change have been lost.
const RESYNC: Duration = Duration::from_mins(5);

/// What was seen.
enum Seen {
    Instance(Key),
    Hypervisor(String),
    Lease(Arc<Lease>),
    Migration(Key),
    Volume(Key),
    Flavor(String),
    Image(Key),
    ServerGroup(Key),
    HostAggregate(String),
}

/// What the watches see, from now on.
fn seen(watches: &Watches) -> impl Stream<Item = Seen> + Send + Unpin + use<> {
    stream::select_all([
        watches
            .instances
            .touched()
            .map(|object| Seen::Instance(key_of(object.as_ref())))
            .boxed(),
        watches
            .hypervisors
            .touched()
            .map(|object| Seen::Hypervisor(object.name_any()))
            .boxed(),
        watches.leases.touched().map(Seen::Lease).boxed(),
        watches
            .migrations
            .touched()
            .map(|object| Seen::Migration(key_of(object.as_ref())))
            .boxed(),
        watches
            .volumes
            .touched()
            .map(|object| Seen::Volume(key_of(object.as_ref())))
            .boxed(),
        watches
            .flavors
            .touched()
            .map(|object| Seen::Flavor(object.name_any()))
            .boxed(),
        watches
            .images
            .applied()
            .map(|object| Seen::Image(key_of(object.as_ref())))
            .boxed(),
        watches
            .host_aggregates
            .touched()
            .map(|object| Seen::HostAggregate(object.name_any()))
            .boxed(),
        watches
            .server_groups
            .applied()
            .map(|object| Seen::ServerGroup(key_of(object.as_ref())))
            .boxed(),
    ])
}

/// Subscribes now, and then keeps the index up to date until `stop` is cancelled.
pub fn run(
    scheduler: Arc<Scheduler>,
    watches: &Watches,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let mut seen = seen(watches);
    async move {
        if !tokio::select! { synced = scheduler.stores.synced() => synced, () = stop.cancelled() => false } {
            return;
        }
        scheduler.rebuild();
        let mut resync = Instant::now() + RESYNC;
        let mut silence = scheduler.note_time();
        loop {
            let next = silence.map_or(resync, |silence| silence.min(resync));
            tokio::select! {
                () = stop.cancelled() => return,
                seen = seen.next() => match seen {
                    Some(seen) => {
                        if note(&scheduler, seen) {
                            silence = scheduler.next_silence();
                        }
                    }
                    None => return,
                },
                () = tokio::time::sleep_until(next) => {
                    silence = scheduler.note_time();
                    if Instant::now() >= resync {
                        scheduler.rebuild();
                        resync = Instant::now() + RESYNC;
                    }
                }
            }
        }
    }
}

/// Returns whether a node was heard of.
fn note(scheduler: &Scheduler, seen: Seen) -> bool {
    match seen {
        Seen::Instance(key) => scheduler.note_instance(&key),
        Seen::Hypervisor(name) => scheduler.note_hypervisor(&name),
        Seen::Lease(lease) => {
            scheduler.note_lease(&lease);
            return true;
        }
        Seen::Migration(key) => scheduler.note_migration(&key),
        Seen::Volume(key) => scheduler.note_volume(&key),
        Seen::Flavor(name) => scheduler.note_flavor(&name),
        Seen::HostAggregate(name) => scheduler.note_aggregate(&name),
        Seen::Image((namespace, name)) => scheduler.note_appeared(&missing::key("Image", &namespace, &name)),
        Seen::ServerGroup((namespace, name)) => {
            scheduler.note_appeared(&missing::key("ServerGroup", &namespace, &name));
        }
    }
    false
}
