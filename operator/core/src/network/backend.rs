use super::{Segment, ValidNetwork};
use crate::problem::Problems;

/// What Geneve takes of the hosts' packets over IPv4: 20 bytes of IP, 8 of UDP, 8 of its own, 8 of OVN's option, and the
/// 14 of the guest's own frame.
const GENEVE: u16 = 58;

/// Why libvirt's networks have no QoS here.
pub const NO_QOS: &str =
    "libvirt's networks limit and mark nothing: leave it out, or have the operator install Virga with OVN";

/// What carries the networks of a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// libvirt's networks, one on each host.
    #[default]
    Libvirt,
    /// OVN, from host to host.
    Ovn {
        /// The largest packet between the hosts, in bytes.
        underlay_mtu: u16,
    },
}

impl Backend {
    /// Its name in a Network's status.
    pub fn name(self) -> &'static str {
        match self {
            Self::Libvirt => "libvirt",
            Self::Ovn { .. } => "ovn",
        }
    }

    /// The largest packet that it can carry in a network, if it says.
    pub fn largest_packet(self, network: &ValidNetwork) -> Option<u16> {
        match (self, &network.segment) {
            (Self::Libvirt, _) => None,
            (Self::Ovn { underlay_mtu }, Segment::Overlay) => Some(underlay_mtu.saturating_sub(GENEVE)),
            (Self::Ovn { underlay_mtu }, Segment::Physical { .. }) => Some(underlay_mtu),
        }
    }

    /// The MTU that guests are told: as asked, else the largest.
    pub fn mtu(self, network: &ValidNetwork) -> Option<u16> {
        network.mtu.or_else(|| self.largest_packet(network))
    }

    /// What of a network it can't do.
    pub fn check(self, network: &ValidNetwork) -> Result<(), Problems> {
        let mut problems = Problems::default();
        if let (Some(asked), Some(largest)) = (network.mtu, self.largest_packet(network))
            && asked > largest
        {
            problems.add(
                "spec.mtu",
                format!("{asked} is more than the {largest} bytes that fit between the hosts: take 0, or at most that"),
            );
        }
        if self == Self::Libvirt && network.segment != Segment::Overlay {
            problems.add(
                "spec.type",
                "libvirt's networks reach no physical network: take Overlay, or have the operator install Virga with OVN",
            );
        }
        let derived = network.subnets.iter().find(|subnet| subnet.is_derived());
        if let (Self::Libvirt, Some(subnet)) = (self, derived) {
            problems.add(
                format!("spec.subnets[{}].ipv6Mode", subnet.name),
                "libvirt's networks tell IPv6 addresses by DHCPv6 only: leave it out, or have the operator install Virga with OVN",
            );
        }
        if self == Self::Libvirt && network.qos {
            problems.add("spec.qos", NO_QOS);
        }
        problems.or(|| ())
    }
}

#[cfg(test)]
mod tests {
    use virga_crds::{NetworkSpec, NetworkType, Subnet};

    use super::*;
    use crate::network::validate;

    const OVN: Backend = Backend::Ovn { underlay_mtu: 1500 };

    fn network(mtu: u16, type_: NetworkType) -> ValidNetwork {
        let subnet = Subnet {
            name: "v4".into(),
            cidr: "10.0.0.0/24".into(),
            ..Subnet::default()
        };
        let spec = NetworkSpec {
            mtu,
            type_,
            physical_network: (type_ != NetworkType::Overlay).then(|| "physnet".into()),
            subnets: vec![subnet],
            ..NetworkSpec::default()
        };
        validate(&spec).unwrap()
    }

    #[test]
    fn a_tunnel_takes_its_part_of_the_mtu_and_a_physical_network_none() {
        let mtu = |mtu, type_| OVN.mtu(&network(mtu, type_));
        assert_eq!(mtu(0, NetworkType::Overlay), Some(1442));
        assert_eq!(mtu(0, NetworkType::Flat), Some(1500));
        assert_eq!(mtu(1400, NetworkType::Overlay), Some(1400));
        assert_eq!(Backend::Libvirt.mtu(&network(0, NetworkType::Overlay)), None);
    }

    #[test]
    fn what_a_backend_cannot_do_is_said_with_the_cure() {
        let problems = OVN.check(&network(9000, NetworkType::Overlay)).unwrap_err().to_string();
        assert_eq!(
            problems,
            "spec.mtu: 9000 is more than the 1442 bytes that fit between the hosts: take 0, or at most that"
        );
        assert!(Backend::Libvirt.check(&network(9000, NetworkType::Overlay)).is_ok());
        let flat = network(0, NetworkType::Flat);
        assert!(OVN.check(&flat).is_ok());
        let limited = ValidNetwork {
            qos: true,
            ..network(0, NetworkType::Overlay)
        };
        assert!(OVN.check(&limited).is_ok());
        let problems = Backend::Libvirt.check(&limited).unwrap_err().to_string();
        assert!(problems.starts_with("spec.qos: libvirt's networks limit and mark nothing"));
        assert!(
            Backend::Libvirt
                .check(&flat)
                .unwrap_err()
                .to_string()
                .contains("spec.type")
        );
    }
}
