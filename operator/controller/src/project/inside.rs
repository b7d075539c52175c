use kube::{Resource, ResourceExt as _, runtime::reflector::Store};
use virga_core::project::Inside;

use crate::stores::Stores;

/// How many names are told of each kind.
const NAMED: usize = 5;

/// What of ours is in a namespace: asked only while a project waits to be deleted.
pub(super) fn inside(stores: &Stores, namespace: &str) -> Vec<Inside> {
    let kinds = [
        of("Instances", &stores.instances, namespace),
        of("Volumes", &stores.volumes, namespace),
        of("Networks", &stores.networks, namespace),
        of("Images", &stores.images, namespace),
        of("ServerGroups", &stores.server_groups, namespace),
        of("FloatingIPs", &stores.floating_ips, namespace),
        of("Ports", &stores.ports, namespace),
        of("Routers", &stores.routers, namespace),
    ];
    kinds.into_iter().filter(|inside| inside.count > 0).collect()
}

fn of<K>(kind: &'static str, store: &Store<K>, namespace: &str) -> Inside
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let all = store.state();
    let mut names: Vec<String> = all
        .iter()
        .filter(|object| object.namespace().as_deref() == Some(namespace))
        .map(|o| o.name_any())
        .collect();
    names.sort();
    let count = names.len();
    names.truncate(NAMED);
    Inside { kind, names, count }
}
