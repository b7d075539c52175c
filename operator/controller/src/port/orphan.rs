//! Is a Port an address of something that is no more?
//!
//! A Router, FloatingIP or LoadBalancer gives its addresses back before it goes. One whose finalizer was taken away by force
//! did not, and nothing owns across namespaces: so whoever finds such a Port collects it.

use kube::{ResourceExt, runtime::reflector::ObjectRef};
use virga_core::network::{Purpose, is_held_by};
use virga_crds::{FloatingIP, FloatingIPSpec, LoadBalancer, LoadBalancerSpec, Port, PortHolder, Router, RouterSpec};
use virga_runtime::apply;

use crate::{Context, stores::Stores};

/// Whether a Port's holder is gone. The API server has the last word: a store may not have heard of a holder that another
/// leader gave an address to.
pub(super) async fn is_orphan(context: &Context, port: &Port) -> Result<bool, apply::Error> {
    let Some((purpose, holder)) = Purpose::of(port) else {
        return Ok(false);
    };
    if is_known(&context.stores, purpose, holder) {
        return Ok(false);
    }
    let writer = &context.writer;
    let name = holder.name.as_str();
    let there = match purpose {
        Purpose::Router => {
            let router = same(Router::new(name, RouterSpec::default()), holder);
            writer.read(&router).await?.is_some()
        }
        Purpose::FloatingIp => {
            let floating = same(FloatingIP::new(name, FloatingIPSpec::default()), holder);
            writer.read(&floating).await?.is_some()
        }
        Purpose::Vip | Purpose::HealthCheck => {
            let balancer = same(LoadBalancer::new(name, LoadBalancerSpec::default()), holder);
            writer.read(&balancer).await?.is_some()
        }
    };
    Ok(!there)
}

/// The Ports that an object held and has not given back though it is gone.
pub(super) fn left_by(stores: &Stores, purpose: Purpose, gone: &impl ResourceExt) -> Vec<ObjectRef<Port>> {
    let holder = PortHolder {
        namespace: gone.namespace().unwrap_or_default(),
        name: gone.name_any(),
        uid: gone.uid().unwrap_or_default(),
    };
    if is_known(stores, purpose, &holder) {
        return Vec::new();
    }
    let ports = stores.ports.state().into_iter();
    let held = ports.filter(|port| is_held_by(port, gone.meta()));
    held.map(|port| ObjectRef::from_obj(port.as_ref())).collect()
}

fn is_known(stores: &Stores, purpose: Purpose, holder: &PortHolder) -> bool {
    let PortHolder { namespace, name, uid } = holder;
    let found = match purpose {
        Purpose::Router => stores.router(namespace, name).and_then(|found| found.uid()),
        Purpose::FloatingIp => stores.floating_ip(namespace, name).and_then(|found| found.uid()),
        Purpose::Vip | Purpose::HealthCheck => stores.load_balancer(namespace, name).and_then(|found| found.uid()),
    };
    found.as_ref() == Some(uid)
}

/// An object with the name and the uid of a Port's holder.
fn same<K: ResourceExt>(mut object: K, holder: &PortHolder) -> K {
    let meta = object.meta_mut();
    meta.namespace = Some(holder.namespace.clone());
    meta.uid = Some(holder.uid.clone());
    object
}
