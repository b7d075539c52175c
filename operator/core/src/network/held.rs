use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use virga_crds::{Port, PortAddress, PortHolder, PortSpec};

use super::Allocated;
use crate::{instance::port_name, router::Need};

/// How an object is named as the holder of a Port.
pub fn holder(meta: &ObjectMeta) -> PortHolder {
    PortHolder {
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
    }
}

/// The Port that is the record of an address that no Instance has. It is where its Network is; nothing owns across
/// namespaces, so its holder's finalizer is what takes it away, and the label is how it is found.
pub fn held_port(
    kind: &str,
    label: &str,
    holder: &PortHolder,
    need: &Need,
    mac: String,
    addresses: &[Allocated],
) -> Port {
    let short = holder.uid.get(..8).unwrap_or(&holder.uid);
    let addresses = addresses.iter().map(|address| PortAddress {
        subnet: address.subnet.clone(),
        ip: address.ip.to_string(),
    });
    Port {
        metadata: ObjectMeta {
            name: Some(port_name(&format!("{kind}-{short}"), &need.network)),
            namespace: Some(need.namespace.clone()),
            labels: Some(BTreeMap::from([(label.to_owned(), holder.uid.clone())])),
            ..ObjectMeta::default()
        },
        spec: PortSpec {
            network: need.network.clone(),
            mac,
            addresses: addresses.collect(),
            ..PortSpec::default()
        },
        status: None,
    }
}
