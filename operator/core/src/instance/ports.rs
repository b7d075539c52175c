use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use uuid::Uuid;
use virga_crds::{Instance, Interface, Port, PortAddress, PortSpec, TrunkParent, labels};

use super::{hostname, trunk};
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

/// The Port of one of an Instance's interfaces, which goes when the Instance goes; of a sub-port with its parent.
pub fn port(
    instance: &Instance,
    interface: &Interface,
    trunk: Option<TrunkParent>,
    mac: String,
    addresses: &[Allocated],
) -> Port {
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
            network_namespace: interface.network_namespace.clone(),
            hostname: hostname(instance).to_owned(),
            instance: name,
            instance_uid: None,
            allocation: None,
            node_name: instance.spec.node_name.clone(),
            mac,
            addresses: addresses.collect(),
            router: None,
            floating_ip: None,
            load_balancer: None,
            health_check: None,
            security_groups: interface.security_groups.clone(),
            allowed_address_pairs: interface.allowed_address_pairs.clone(),
            qos: interface.qos,
            dhcp_options: Vec::new(),
            trunk,
        },
        status: None,
    }
}

/// The name of the Port of an Instance's interface: the one that it names, or else its own.
pub fn port_of(instance: &str, interface: &Interface) -> String {
    let own = || port_name(instance, &interface.network);
    interface.port.clone().unwrap_or_else(own)
}

/// Whether nothing is, or can be, plugged into an Instance's Port any more. Its agent says so, by leaving its addresses out of
/// a status of the present spec. Until then they can't be another's.
pub fn is_unplugged(instance: &Instance, port: &Port) -> bool {
    let (spec, name) = (&instance.spec, instance.metadata.name.as_deref().unwrap_or_default());
    if trunk::plugs(spec).any(|plug| Some(port_of(name, &plug.interface)) == port.metadata.name) {
        return false;
    }
    let Some(node) = &spec.node_name else { return true };
    let network = &port.spec.network;
    instance.status.as_ref().is_some_and(|status| {
        status.host.as_ref() == Some(node)
            && status.observed_generation == instance.metadata.generation
            && status
                .addresses
                .iter()
                .all(|address| address.network != *network || address.mac != port.spec.mac)
    })
}

#[cfg(test)]
mod tests {
    use virga_crds::{Address, InstanceSpec, InstanceStatus};

    use super::*;

    #[test]
    fn a_port_is_let_go_only_on_the_word_of_the_agent_on_the_present_spec() {
        let mut instance = Instance::new("web-1", InstanceSpec::default());
        let of = |name: &str, mac: &str| {
            let spec = PortSpec {
                network: "front".into(),
                mac: mac.into(),
                ..PortSpec::default()
            };
            Port::new(name, spec)
        };
        let (front, kept) = (of("web-1-front", "fa:16:3e:00:00:01"), of("kept", "fa:16:3e:00:00:02"));
        assert!(is_unplugged(&instance, &front), "nobody has it yet");
        instance.spec.node_name = Some("node-1".into());
        instance.metadata.generation = Some(3);
        assert!(!is_unplugged(&instance, &front), "the agent has not spoken");
        let address = Address {
            network: "front".into(),
            mac: front.spec.mac.clone(),
            ..Address::default()
        };
        let mut status = InstanceStatus {
            host: Some("node-1".into()),
            observed_generation: Some(3),
            addresses: vec![address],
            ..InstanceStatus::default()
        };
        instance.status = Some(status.clone());
        assert!(!is_unplugged(&instance, &front), "the guest has it still");
        status.addresses.clear();
        instance.status = Some(status.clone());
        assert!(is_unplugged(&instance, &front));
        status.observed_generation = Some(2);
        instance.status = Some(status.clone());
        assert!(!is_unplugged(&instance, &front), "of an older spec");
        instance.spec.interfaces = vec![Interface {
            network: "front".into(),
            ..Interface::default()
        }];
        status.observed_generation = Some(3);
        instance.status = Some(status);
        assert!(!is_unplugged(&instance, &front), "it is asked for again");

        // Another Port in the same Network is another one.
        assert!(is_unplugged(&instance, &kept), "it is not named");
        instance.spec.interfaces[0].port = Some("kept".into());
        assert!(is_unplugged(&instance, &front) && !is_unplugged(&instance, &kept));
    }

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
