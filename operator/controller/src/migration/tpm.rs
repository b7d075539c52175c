//! Has an Instance a TPM? Its secrets are where libvirt keeps them on its host, and are in no file that moves.

use kube::ResourceExt as _;
use virga_core::{flavor::extra_specs, instance::flavor_name};
use virga_crds::Instance;

use crate::stores::Stores;

/// Whether it has, as its Flavor and its image ask for it.
pub fn has_tpm(stores: &Stores, instance: &Instance) -> bool {
    let Some(flavor) = stores.flavor(flavor_name(instance)) else {
        return false;
    };
    let told = instance.status.as_ref().and_then(|status| status.image.as_ref());
    let named = told.or(instance.spec.image.as_ref());
    let image = named.and_then(|named| {
        let own = instance.namespace().unwrap_or_default();
        stores.image(named.namespace.as_deref().unwrap_or(&own), &named.name)
    });
    let properties = image.as_ref().map(|image| &image.spec.properties);
    let machine = extra_specs(&flavor.spec).and_then(|extra| extra.machine(flavor.spec.vcpus.into(), properties));
    machine.is_ok_and(|machine| machine.tpm.is_some())
}
