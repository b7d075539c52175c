use kube::{Resource, ResourceExt as _, runtime::reflector::Store};
use virga_core::{project::Inside, security_group::DEFAULT};
use virga_crds::SecurityGroup;

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
        security_groups(&stores.security_groups, namespace),
        of("AddressGroups", &stores.address_groups, namespace),
        of("ServerGroups", &stores.server_groups, namespace),
        of("FloatingIPs", &stores.floating_ips, namespace),
        of("LoadBalancers", &stores.load_balancers, namespace),
        of("Ports", &stores.ports, namespace),
        of("Routers", &stores.routers, namespace),
    ];
    kinds.into_iter().filter(|inside| inside.count > 0).collect()
}

/// All but the one that the project made.
fn security_groups(store: &Store<SecurityGroup>, namespace: &str) -> Inside {
    but("SecurityGroups", store, namespace, DEFAULT)
}

fn of<K>(kind: &'static str, store: &Store<K>, namespace: &str) -> Inside
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    but(kind, store, namespace, "")
}

fn but<K>(kind: &'static str, store: &Store<K>, namespace: &str, except: &str) -> Inside
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let all = store.state();
    let mut names: Vec<String> = all
        .iter()
        .filter(|object| object.namespace().as_deref() == Some(namespace))
        .map(|o| o.name_any())
        .filter(|name| name != except)
        .collect();
    names.sort();
    let count = names.len();
    names.truncate(NAMED);
    Inside { kind, names, count }
}
