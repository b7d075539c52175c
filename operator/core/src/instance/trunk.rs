//! What is an Instance plugged into: by interfaces, and by the sub-ports of their trunks?

use std::{borrow::Cow, collections::BTreeSet};

use virga_crds::{InstanceSpec, Interface, Port, TrunkParent};

use super::port_of;
use crate::problem::Problems;

/// Why libvirt's networks have no trunks here.
pub const NO_TRUNK: &str =
    "libvirt's networks carry no VLANs of guests: leave it out, or have the operator install Virga with OVN";

/// One that an Instance asks a Port for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plug<'a> {
    /// The interface; of a sub-port, what it would be as one.
    pub interface: Cow<'a, Interface>,
    /// For a sub-port: the interface whose frames its own are among, and their tag.
    pub tagged: Option<(&'a Interface, u16)>,
}

impl Plug<'_> {
    /// The path of its field.
    pub fn field(&self) -> String {
        match self.tagged {
            None => format!("spec.interfaces[{}]", self.interface.network),
            Some((parent, tag)) => format!("spec.interfaces[{}].trunk.subPorts[{tag}]", parent.network),
        }
    }

    /// The name of the Port whose guest tags its frames.
    pub fn parent_name(&self, instance: &str) -> Option<String> {
        let (parent, _) = self.tagged?;
        Some(port_of(instance, parent))
    }

    /// The name of its own Port.
    pub fn port_name(&self, instance: &str) -> String {
        port_of(instance, &self.interface)
    }

    /// What its Port says of its trunk, with this parent.
    pub fn trunk(&self, parent: Option<&Port>) -> Option<TrunkParent> {
        let (_, segment_id) = self.tagged?;
        let parent = parent?;
        Some(TrunkParent {
            port: parent.metadata.name.clone()?,
            uid: parent.metadata.uid.clone()?,
            segment_id,
        })
    }
}

/// All that an Instance is to be plugged into. A parent comes before its sub-ports.
pub fn plugs(spec: &InstanceSpec) -> impl Iterator<Item = Plug<'_>> {
    spec.interfaces.iter().flat_map(|interface| {
        let own = Plug {
            interface: Cow::Borrowed(interface),
            tagged: None,
        };
        std::iter::once(own).chain(sub_ports(interface))
    })
}

/// The sub-ports of an interface.
pub fn sub_ports(interface: &Interface) -> impl Iterator<Item = Plug<'_>> {
    let subs = interface.trunk.iter().flat_map(|trunk| &trunk.sub_ports);
    subs.map(move |sub| Plug {
        interface: Cow::Owned(sub.as_interface()),
        tagged: Some((interface, sub.segment_id)),
    })
}

/// Whether what the controller says is of a trunk: it begins with the field.
pub(super) fn tells_of_trunk(message: &str) -> bool {
    message.starts_with("spec.interfaces[") && message.contains("].trunk")
}

/// What is wrong with a trunk whose parent carries packets of this size and a sub-port of that: the guest's VLAN interface
/// has no more than what it is made upon.
pub fn too_small(plug: &Plug<'_>, parent: Option<u16>, own: Option<u16>) -> Option<String> {
    let ((carrier, _), parent, own) = (plug.tagged?, parent?, own?);
    (own > parent).then(|| {
        let network = &plug.interface.network;
        format!(
            "{}.network: Network {network} has packets of {own} bytes, and those of Network {}, which carry its own, have \
             at most {parent}: give {network} that mtu, or take another",
            plug.field(),
            carrier.network
        )
    })
}

/// What is wrong with the tags of an interface's trunk.
pub(super) fn validate(interface: &Interface) -> Problems {
    let mut problems = Problems::default();
    let mut tags = BTreeSet::new();
    for sub in interface.trunk.iter().flat_map(|trunk| &trunk.sub_ports) {
        let field = format!(
            "spec.interfaces[{}].trunk.subPorts[{}]",
            interface.network, sub.segment_id
        );
        if !(1..=4094).contains(&sub.segment_id) {
            problems.add(format!("{field}.segmentID"), "a VLAN is 1 to 4094");
        }
        if !tags.insert(sub.segment_id) {
            problems.add(field, "the VLAN is listed twice: a trunk has it once");
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use virga_crds::{SubPort, Trunk};

    use super::*;

    fn spec() -> InstanceSpec {
        let sub = |network: &str, segment_id| SubPort {
            network: network.into(),
            segment_id,
            ..SubPort::default()
        };
        let plain = Interface {
            network: "back".into(),
            ..Interface::default()
        };
        let front = Interface {
            network: "front".into(),
            trunk: Some(Trunk {
                sub_ports: vec![sub("dmz", 100), sub("voice", 200)],
            }),
            ..Interface::default()
        };
        InstanceSpec {
            interfaces: vec![front, plain],
            ..InstanceSpec::default()
        }
    }

    #[test]
    fn parents_come_first_and_each_plug_knows_its_field() {
        let spec = spec();
        let fields: Vec<String> = plugs(&spec).map(|plug| plug.field()).collect();
        assert_eq!(
            fields,
            [
                "spec.interfaces[front]",
                "spec.interfaces[front].trunk.subPorts[100]",
                "spec.interfaces[front].trunk.subPorts[200]",
                "spec.interfaces[back]",
            ]
        );
        let sub = plugs(&spec).nth(1).unwrap();
        assert_eq!(sub.parent_name("web-1").as_deref(), Some("web-1-front"));
        let mut parent = Port::new("web-1-front", virga_crds::PortSpec::default());
        assert_eq!(sub.trunk(Some(&parent)), None, "it is not known by its uid yet");
        parent.metadata.uid = Some("u".into());
        let trunk = sub.trunk(Some(&parent)).unwrap();
        assert_eq!(
            (trunk.port.as_str(), trunk.uid.as_str(), trunk.segment_id),
            ("web-1-front", "u", 100)
        );
        assert_eq!(plugs(&spec).last().unwrap().trunk(Some(&parent)), None);
        assert_eq!(sub.port_name("web-1"), "web-1-dmz");
        let mut named = spec.clone();
        named.interfaces[0].port = Some("kept".into());
        let trunk = named.interfaces[0].trunk.as_mut().unwrap();
        trunk.sub_ports[0].port = Some("kept-too".into());
        let sub = plugs(&named).nth(1).unwrap();
        assert_eq!(sub.port_name("web-1"), "kept-too");
        assert_eq!(sub.parent_name("web-1").as_deref(), Some("kept"));
    }

    #[test]
    fn a_vlan_is_no_larger_than_what_it_is_made_upon() {
        let spec = spec();
        let sub = plugs(&spec).nth(1).unwrap();
        assert_eq!(too_small(&sub, Some(1442), Some(1442)), None);
        assert_eq!(too_small(&sub, Some(1442), None), None);
        let said = too_small(&sub, Some(1442), Some(1500)).unwrap();
        assert!(
            said.starts_with("spec.interfaces[front].trunk.subPorts[100].network: "),
            "{said}"
        );
        assert!(said.contains("1500") && said.contains("1442"), "{said}");
    }

    #[test]
    fn a_tag_is_there_once_and_no_reserved_one() {
        let mut spec = spec();
        assert!(validate(&spec.interfaces[0]).is_empty());
        let trunk = spec.interfaces[0].trunk.as_mut().unwrap();
        trunk.sub_ports[1].segment_id = 100;
        let said = validate(&spec.interfaces[0]).to_string();
        assert!(said.contains("subPorts[100]: the VLAN is listed twice"), "{said}");
        spec.interfaces[0].trunk.as_mut().unwrap().sub_ports[0].segment_id = 4095;
        assert!(
            validate(&spec.interfaces[0])
                .to_string()
                .contains("a VLAN is 1 to 4094")
        );
    }
}
