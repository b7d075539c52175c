//! Can a host give an interface the kind of card that it asks for?

use virga_crds::{Instance, Interface};

/// Why no host can, and the cure. Agents report no functions of network cards, and plug in none: a device of a Flavor
/// (`pci_passthrough:alias`) is the guest's alone, without a Port's addresses and rules.
pub fn no_such_card(interface: &Interface) -> Option<String> {
    let kind = interface.vnic_type;
    (!kind.is_normal()).then(|| {
        format!(
            "no host has network cards whose functions its agent can plug into a Network ({kind:?}): take the interface out \
             and add it as Normal, or give the guest a whole device by its Flavor's pci_passthrough:alias"
        )
    })
}

/// The first interface that asks for a card that no host has: the path of the field, and why.
pub fn without_card(instance: &Instance) -> Option<(String, String)> {
    instance.spec.interfaces.iter().find_map(|interface| {
        let field = format!("spec.interfaces[{}].vnicType", interface.network);
        Some((field, no_such_card(interface)?))
    })
}

#[cfg(test)]
mod tests {
    use virga_crds::{InstanceSpec, VnicType};

    use super::*;

    #[test]
    fn what_is_no_virtual_card_is_refused_with_the_field_and_the_cure() {
        let interface = |network: &str, vnic_type| Interface {
            network: network.into(),
            vnic_type,
            ..Interface::default()
        };
        let of = |kind| {
            let interfaces = vec![interface("front", VnicType::Normal), interface("fast", kind)];
            let spec = InstanceSpec {
                interfaces,
                ..InstanceSpec::default()
            };
            without_card(&Instance::new("web-1", spec))
        };
        assert_eq!(of(VnicType::Normal), None);
        let (field, why) = of(VnicType::Direct).unwrap();
        assert_eq!(field, "spec.interfaces[fast].vnicType");
        assert!(why.contains("(Direct)") && why.contains("as Normal"), "{why}");
    }
}
