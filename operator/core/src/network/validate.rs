use std::net::IpAddr;

use ipnet::{IpAdd as _, IpNet};
use virga_crds::{Dhcp, Ipv6Mode, NetworkScope, NetworkSpec, NetworkType, PortSecurity, Subnet};

use super::ipv6;
use crate::problem::Problems;

/// A network whose addresses all make sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidNetwork {
    /// The largest packet, in bytes; none: what the back end can carry.
    pub mtu: Option<u16>,
    /// The domain that names are resolved in.
    pub dns_domain: Option<String>,
    /// How frames get from host to host.
    pub segment: Segment,
    /// Whether guests may send from their own addresses only.
    pub port_security: bool,
    /// Whether what its guests send is limited or marked.
    pub qos: bool,
    /// Whether Routers of every Project may go out through it.
    pub external: bool,
    /// Whether guests reach the outside.
    pub egress: Egress,
    /// The subnets, in the order of the spec.
    pub subnets: Vec<ValidSubnet>,
}

/// How frames get from host to host.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Segment {
    /// In tunnels.
    Overlay,
    /// In a physical network.
    Physical {
        /// Its name, that hosts map to a bridge.
        network: String,
        /// Its tag; none: untagged.
        vlan: Option<u16>,
    },
}

/// Whether a network's guests reach the outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Egress {
    /// Through the host, with its address: some subnet has a gateway.
    Nat,
    /// Not at all: no subnet has a gateway.
    Isolated,
}

/// A subnet whose addresses all make sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidSubnet {
    /// Its name in the network.
    pub name: String,
    /// The range.
    pub cidr: IpNet,
    /// The gateway.
    pub gateway: Option<IpAddr>,
    /// The ranges that addresses are chosen from, both ends included, in order and apart from each other. Network
    /// address, broadcast address and gateway are in none of them.
    pub pools: Vec<(IpAddr, IpAddr)>,
    /// Whether guests get their address by DHCP.
    pub dhcp: bool,
    /// How IPv6 guests come by theirs then.
    pub ipv6_mode: Ipv6Mode,
    /// The name servers that guests are told.
    pub dns_servers: Vec<IpAddr>,
    /// The routes that guests are told: destination and next hop.
    pub routes: Vec<(IpNet, IpAddr)>,
}

impl ValidSubnet {
    /// Whether a guest can have this address: it is in the range, and not one of the range's own.
    pub fn is_host_address(&self, address: IpAddr) -> bool {
        self.cidr.contains(&address) && !self.is_reserved(address)
    }

    /// Whether the address is the network's, the broadcast or the gateway.
    pub fn is_reserved(&self, address: IpAddr) -> bool {
        let broadcast = matches!(self.cidr, IpNet::V4(_)) && address == self.cidr.broadcast();
        address == self.cidr.network() || broadcast || Some(address) == self.gateway
    }
}

/// What a spec says, or all that is wrong with it.
pub fn validate(spec: &NetworkSpec) -> Result<ValidNetwork, Problems> {
    let mut problems = Problems::default();
    let mut subnets: Vec<ValidSubnet> = Vec::new();
    for subnet in &spec.subnets {
        match validate_subnet(subnet) {
            Ok(valid) => {
                if let Some(other) = subnets.iter().find(|other| overlap(&other.cidr, &valid.cidr)) {
                    problems.add(
                        format!("spec.subnets[{}].cidr", valid.name),
                        format!("{} overlaps with {} of subnet {}", valid.cidr, other.cidr, other.name),
                    );
                }
                subnets.push(valid);
            }
            Err(found) => problems.extend(found),
        }
    }
    ipv6::check_all(&subnets, &mut problems);
    let segment = segment(spec, &mut problems);
    let external = spec.scope == NetworkScope::External;
    if external && segment == Segment::Overlay {
        problems.add(
            "spec.scope",
            "External is for the types Flat and VLAN: tunnels between the hosts lead nowhere else",
        );
    }
    let isolated = subnets.iter().all(|subnet| subnet.gateway.is_none());
    problems.or(|| ValidNetwork {
        mtu: (spec.mtu > 0).then_some(spec.mtu),
        dns_domain: spec.dns_domain.clone(),
        segment,
        qos: spec.qos.is_some(),
        external,
        port_security: spec.port_security == PortSecurity::Enabled,
        egress: if isolated { Egress::Isolated } else { Egress::Nat },
        subnets,
    })
}

/// The schema says the same; this is for who asks without it.
fn segment(spec: &NetworkSpec, problems: &mut Problems) -> Segment {
    if (spec.type_ == NetworkType::Vlan) != spec.segment_id.is_some() {
        problems.add(
            "spec.segmentID",
            "is for the type VLAN, which needs it: its tag, from 1 to 4094",
        );
    }
    match (spec.type_, &spec.physical_network) {
        (NetworkType::Overlay, None) => return Segment::Overlay,
        (NetworkType::Flat | NetworkType::Vlan, Some(network)) => {
            return Segment::Physical {
                network: network.clone(),
                vlan: spec.segment_id,
            };
        }
        (NetworkType::Overlay, Some(_)) => {
            problems.add("spec.physicalNetwork", "is for the types Flat and VLAN: leave it out");
        }
        (NetworkType::Flat | NetworkType::Vlan, None) => {
            problems.add(
                "spec.physicalNetwork",
                "is missing: name the one that the hosts are mapped to",
            );
        }
    }
    Segment::Overlay
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

fn validate_subnet(subnet: &Subnet) -> Result<ValidSubnet, Problems> {
    let mut problems = Problems::default();
    let at = |field: &str| format!("spec.subnets[{}].{field}", subnet.name);
    let cidr = match range(&subnet.cidr) {
        Ok(cidr) => cidr,
        Err(message) => {
            problems.add(at("cidr"), message);
            return Err(problems);
        }
    };
    let gateway = match subnet.gateway.as_deref() {
        None => Some(cidr.network().saturating_add_one()),
        Some("None") => None,
        Some(text) => match text.parse() {
            Ok(address) if cidr.contains(&address) && address != cidr.network() => Some(address),
            Ok(address) => {
                problems.add(at("gateway"), format!("{address} is not a host address of {cidr}"));
                None
            }
            Err(_) => {
                problems.add(at("gateway"), format!("{text:?} is not an address; write one, or None"));
                None
            }
        },
    };
    let mut valid = ValidSubnet {
        name: subnet.name.clone(),
        cidr,
        gateway,
        pools: Vec::new(),
        dhcp: subnet.dhcp == Dhcp::Enabled,
        ipv6_mode: subnet.ipv6_mode.unwrap_or_default(),
        dns_servers: Vec::new(),
        routes: Vec::new(),
    };
    if matches!(cidr, IpNet::V4(_)) && gateway == Some(cidr.broadcast()) {
        problems.add(
            at("gateway"),
            format!("{} is the broadcast address of {cidr}", cidr.broadcast()),
        );
    }
    ipv6::check(subnet, &valid, &mut problems);
    valid.pools = pools(subnet, &valid, &mut problems);
    for text in &subnet.dns_servers {
        match text.parse() {
            Ok(address) => valid.dns_servers.push(address),
            Err(_) => problems.add(at("dnsServers"), format!("{text:?} is not an address")),
        }
    }
    for route in &subnet.host_routes {
        let field = at(&format!("hostRoutes[{}]", route.destination));
        match (route.destination.parse::<IpNet>(), route.next_hop.parse::<IpAddr>()) {
            (Ok(destination), Ok(hop)) if cidr.contains(&hop) => valid.routes.push((destination, hop)),
            (Ok(_), Ok(hop)) => problems.add(field, format!("next hop {hop} is not in {cidr}: guests can't reach it")),
            _ => problems.add(
                field,
                "destination must be a network in CIDR notation and nextHop an address",
            ),
        }
    }
    problems.or(|| valid)
}

/// The range of a subnet, when guests can live in it.
fn range(text: &str) -> Result<IpNet, String> {
    let cidr: IpNet = text
        .parse()
        .map_err(|_| format!("{text:?} is not a network in CIDR notation, like 10.0.0.0/24"))?;
    if cidr.trunc() != cidr {
        return Err(format!("{text} has host bits set; did you mean {}?", cidr.trunc()));
    }
    let (least, most) = match cidr {
        IpNet::V4(_) => (8, 30),
        IpNet::V6(_) => (48, 120),
    };
    if !(least..=most).contains(&cidr.prefix_len()) {
        return Err(format!("the prefix of {cidr} must be from /{least} to /{most}"));
    }
    let unusable = match cidr.network() {
        IpAddr::V4(a) => {
            a.is_loopback() || a.is_multicast() || a.is_link_local() || a.octets()[0] == 0 || a.octets()[0] >= 240
        }
        IpAddr::V6(a) => a.is_loopback() || a.is_multicast() || a.is_unspecified() || a.is_unicast_link_local(),
    };
    if unusable {
        return Err(format!(
            "{cidr} is reserved for another use (RFC 6890); take a range such as 10.0.0.0/24"
        ));
    }
    Ok(cidr)
}

/// The pools of a subnet, cut where the gateway is when they are the default.
fn pools(subnet: &Subnet, valid: &ValidSubnet, problems: &mut Problems) -> Vec<(IpAddr, IpAddr)> {
    let field = format!("spec.subnets[{}].allocationPools", subnet.name);
    if subnet.allocation_pools.is_empty() {
        return default_pools(valid);
    }
    let mut pools = Vec::new();
    for pool in &subnet.allocation_pools {
        let (Ok(start), Ok(end)) = (pool.start.parse::<IpAddr>(), pool.end.parse::<IpAddr>()) else {
            problems.add(&field, format!("{} to {}: not addresses", pool.start, pool.end));
            continue;
        };
        if !valid.cidr.contains(&start) || !valid.cidr.contains(&end) {
            problems.add(&field, format!("{start} to {end} is not inside {}", valid.cidr));
        } else if start > end {
            problems.add(&field, format!("{start} comes after {end}: swap start and end"));
        } else if let Some(gateway) = valid.gateway.filter(|gateway| (start..=end).contains(gateway)) {
            problems.add(
                &field,
                format!("{start} to {end} holds the gateway {gateway}: leave it out"),
            );
        } else if valid.is_reserved(start) || valid.is_reserved(end) {
            problems.add(
                &field,
                format!("{start} to {end} holds the network's own or the broadcast address"),
            );
        } else {
            pools.push((start, end));
        }
    }
    pools.sort_unstable();
    for pair in pools.windows(2) {
        if pair[1].0 <= pair[0].1 {
            problems.add(
                &field,
                format!(
                    "{} to {} and {} to {} overlap",
                    pair[0].0, pair[0].1, pair[1].0, pair[1].1
                ),
            );
        }
    }
    pools
}

fn default_pools(valid: &ValidSubnet) -> Vec<(IpAddr, IpAddr)> {
    let first = valid.cidr.network().saturating_add_one();
    let last = match valid.cidr {
        IpNet::V4(_) => valid.cidr.broadcast().saturating_sub_one(),
        IpNet::V6(_) => valid.cidr.broadcast(),
    };
    let Some(gateway) = valid.gateway else {
        return vec![(first, last)];
    };
    let before = (first, gateway.saturating_sub_one());
    let after = (gateway.saturating_add_one(), last);
    [before, after]
        .into_iter()
        .filter(|(start, end)| start <= end && *start >= first && *end <= last && *start != gateway && *end != gateway)
        .collect()
}

trait Neighbours {
    fn saturating_add_one(self) -> Self;
    fn saturating_sub_one(self) -> Self;
}

impl Neighbours for IpAddr {
    fn saturating_add_one(self) -> Self {
        match self {
            Self::V4(a) => Self::V4(a.saturating_add(1)),
            Self::V6(a) => Self::V6(a.saturating_add(1)),
        }
    }

    fn saturating_sub_one(self) -> Self {
        match self {
            Self::V4(a) => Self::V4(ipnet::IpSub::saturating_sub(a, 1)),
            Self::V6(a) => Self::V6(ipnet::IpSub::saturating_sub(a, 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use virga_crds::{AllocationPool, HostRoute};

    use super::*;

    fn spec(change: impl FnOnce(&mut Subnet)) -> NetworkSpec {
        let mut subnet = Subnet {
            name: "v4".into(),
            cidr: "10.0.0.0/24".into(),
            ..Subnet::default()
        };
        change(&mut subnet);
        NetworkSpec {
            subnets: vec![subnet],
            ..NetworkSpec::default()
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_gateway_is_the_first_address_and_the_pool_what_is_left() {
        let valid = validate(&spec(|_| {})).unwrap();
        assert_eq!(valid.egress, Egress::Nat);
        assert_eq!(valid.subnets[0].gateway, Some(ip("10.0.0.1")));
        assert_eq!(valid.subnets[0].pools, [(ip("10.0.0.2"), ip("10.0.0.254"))]);
    }

    #[test]
    fn a_gateway_in_the_middle_splits_the_default_pool() {
        let valid = validate(&spec(|s| s.gateway = Some("10.0.0.100".into()))).unwrap();
        let pools = [(ip("10.0.0.1"), ip("10.0.0.99")), (ip("10.0.0.101"), ip("10.0.0.254"))];
        assert_eq!(valid.subnets[0].pools, pools);
        let last = validate(&spec(|s| s.gateway = Some("10.0.0.254".into()))).unwrap();
        assert_eq!(last.subnets[0].pools, [(ip("10.0.0.1"), ip("10.0.0.253"))]);
    }

    #[test]
    fn without_a_gateway_the_network_is_isolated() {
        let valid = validate(&spec(|s| s.gateway = Some("None".into()))).unwrap();
        assert_eq!((valid.egress, valid.subnets[0].gateway), (Egress::Isolated, None));
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once_with_its_field() {
        let mut bad = spec(|s| {
            s.gateway = Some("10.1.0.1".into());
            s.allocation_pools = vec![
                AllocationPool {
                    start: "10.0.0.20".into(),
                    end: "10.0.0.10".into(),
                },
                AllocationPool {
                    start: "10.0.1.1".into(),
                    end: "10.0.1.9".into(),
                },
            ];
            s.host_routes = vec![HostRoute {
                destination: "10.9.0.0/16".into(),
                next_hop: "10.2.0.1".into(),
            }];
        });
        bad.subnets.push(Subnet {
            name: "b".into(),
            cidr: "10.9.0.1/24".into(),
            ..Subnet::default()
        });
        let fields: Vec<_> = validate(&bad).unwrap_err().iter().map(|p| p.field.clone()).collect();
        assert_eq!(
            fields,
            [
                "spec.subnets[v4].gateway",
                "spec.subnets[v4].allocationPools",
                "spec.subnets[v4].allocationPools",
                "spec.subnets[v4].hostRoutes[10.9.0.0/16]",
                "spec.subnets[b].cidr",
            ]
        );
    }

    #[test]
    fn ranges_that_guests_cannot_live_in_are_refused() {
        for cidr in [
            "127.0.0.0/8",
            "224.0.0.0/8",
            "169.254.0.0/16",
            "10.0.0.0/31",
            "10.0.0.0/4",
            "fe80::/64",
            "fd00::/127",
            "x",
        ] {
            assert!(validate(&spec(|s| s.cidr = cidr.into())).is_err(), "{cidr}");
        }
        assert!(validate(&spec(|s| s.cidr = "fd00:1::/64".into())).is_ok());
    }

    #[test]
    fn subnets_and_pools_that_overlap_are_refused() {
        let mut two = spec(|_| {});
        two.subnets.push(Subnet {
            name: "b".into(),
            cidr: "10.0.0.128/25".into(),
            ..Subnet::default()
        });
        assert!(
            validate(&two)
                .unwrap_err()
                .to_string()
                .contains("overlaps with 10.0.0.0/24")
        );
        let pools = spec(|s| {
            s.allocation_pools = vec![
                AllocationPool {
                    start: "10.0.0.10".into(),
                    end: "10.0.0.20".into(),
                },
                AllocationPool {
                    start: "10.0.0.20".into(),
                    end: "10.0.0.30".into(),
                },
            ];
        });
        assert!(validate(&pools).unwrap_err().to_string().contains("overlap"));
        let gateway = spec(|s| {
            s.allocation_pools = vec![AllocationPool {
                start: "10.0.0.1".into(),
                end: "10.0.0.20".into(),
            }];
        });
        assert!(
            validate(&gateway)
                .unwrap_err()
                .to_string()
                .contains("holds the gateway")
        );
    }
}
