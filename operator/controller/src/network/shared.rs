//! Which Network does an interface or a Port mean, and may it be plugged in there?

use std::sync::Arc;

use virga_crds::{Interface, Network};

use crate::stores::Stores;

/// The Network of an interface in this namespace. One of another namespace has to be shared with this one: who it isn't
/// shared with is not told whether it exists.
pub fn of_interface(stores: &Stores, own: &str, interface: &Interface) -> Result<Arc<Network>, String> {
    named(stores, own, interface.network_in(own), &interface.network)
}

/// The same of a Network that something in this namespace names.
pub fn named(stores: &Stores, own: &str, from: &str, name: &str) -> Result<Arc<Network>, String> {
    let found = stores.network(from, name);
    if from == own {
        return found.ok_or_else(|| format!("Network {own}/{name} doesn't exist: create it"));
    }
    found.filter(|network| network.spec.is_shared_with(own)).ok_or_else(|| {
        format!("Network {from}/{name} doesn't exist, or isn't shared with namespace {own}: have it named in its spec.sharedWith")
    })
}
