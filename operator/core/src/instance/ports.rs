use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use uuid::Uuid;
use virga_crds::{Instance, Interface, Port, PortAddress, PortSpec, labels};

use super::hostname;
use crate::network::Allocated;

/// An object's name has at most this many characters.
const NAME: usize = 253;

/// The name of an Instance's Port in a Network: both names, or the beginning and a hash where that is too long.
pub fn port_name(instance: &str, network: &str) -> String {
    let name = format!("{instance}-{network}");
    if name.len() <= NAME {
        return name;
    }
    let hash = Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes()).simple().to_string();
    let kept: String = name.chars().take(NAME - 9).collect();
    format!("{}-{}", kept.trim_end_matches(['-', '.']), &hash[..8])
}

/// The Port of one of an Instance's interfaces, which goes when the Instance goes.
pub fn port(instance: &Instance, interface: &Interface, mac: String, addresses: &[Allocated]) -> Port {
    let meta = &instance.metadata;
    let name = meta.name.clone().unwrap_or_default();
    let owner = OwnerReference {
        api_version: format!("{}/{}", virga_crds::GROUP, virga_crds::VERSION),
        kind: "Instance".into(),
        name: name.clone(),
        uid: meta.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(false),
    };
    let addresses = addresses.iter().map(|a| PortAddress {
        subnet: a.subnet.clone(),
        ip: a.ip.to_string(),
    });
    Port {
        metadata: ObjectMeta {
            name: Some(port_name(&name, &interface.network)),
            namespace: meta.namespace.clone(),
            labels: Some(BTreeMap::from([(labels::INSTANCE.to_owned(), name.clone())])),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: PortSpec {
            network: interface.network.clone(),
            hostname: hostname(instance).to_owned(),
            instance: name,
            node_name: instance.spec.node_name.clone(),
            mac,
            addresses: addresses.collect(),
        },
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_cut_and_stay_apart() {
        assert_eq!(port_name("web-1", "front"), "web-1-front");
        let (one, two) = (
            port_name(&"a".repeat(250), "front"),
            port_name(&"a".repeat(250), "back"),
        );
        assert!(one.len() <= NAME && one != two);
    }
}
