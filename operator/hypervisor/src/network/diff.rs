//! The way from the network that is to the network that should be, in steps that libvirt accepts.

use std::collections::{HashMap, HashSet};

use super::spec::{Dhcp, DhcpHost, DnsHost, NetworkSpec, SubnetSpec};

/// A change that virNetworkUpdate can make while the network runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostChange {
    /// A new DHCP host. libvirt refuses it while another entry has its MAC, address or name.
    AddDhcp {
        /// The position of the subnet in the network.
        subnet: usize,
        /// The host.
        host: DhcpHost,
    },
    /// Another address or name for a known MAC.
    ModifyDhcp {
        /// The position of the subnet in the network.
        subnet: usize,
        /// The host as it should be.
        host: DhcpHost,
    },
    /// A DHCP host that goes.
    DeleteDhcp {
        /// The position of the subnet in the network.
        subnet: usize,
        /// The host as it is.
        host: DhcpHost,
    },
    /// A new DNS entry. libvirt refuses it while another entry has its address; it can't modify one.
    AddDns(DnsHost),
    /// A DNS entry that goes, known by its address.
    DeleteDns(DnsHost),
}

impl HostChange {
    /// Whether it is of the name server, and not of DHCP.
    pub(crate) fn is_dns(&self) -> bool {
        matches!(self, Self::AddDns(_) | Self::DeleteDns(_))
    }
}

/// What differs between two networks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NetworkDiff {
    /// Whether something differs that virNetworkUpdate can't change: then the definition has to be written anew, and
    /// what runs restarted.
    pub structure: bool,
    /// Changes of DHCP and DNS entries, in an order that libvirt accepts. Empty when `structure` is set and the subnets
    /// differ: then they have no place to go to.
    pub hosts: Vec<HostChange>,
}

impl NetworkDiff {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        !self.structure && self.hosts.is_empty()
    }
}

/// What has to be done to `current` to make it `desired`. The order of entries does not matter.
pub fn diff(current: &NetworkSpec, desired: &NetworkSpec) -> NetworkDiff {
    let structure = without_hosts(current) != without_hosts(desired);
    let same_subnets = current.subnets.len() == desired.subnets.len()
        && current
            .subnets
            .iter()
            .zip(&desired.subnets)
            .all(|(a, b)| a.address == b.address && a.prefix == b.prefix);
    if !same_subnets {
        return NetworkDiff {
            structure,
            hosts: Vec::new(),
        };
    }
    let mut deletes = Vec::new();
    let mut modifies = Vec::new();
    let mut adds = Vec::new();
    for (subnet, (current, desired)) in current.subnets.iter().zip(&desired.subnets).enumerate() {
        diff_dhcp(
            subnet,
            hosts_of(current),
            hosts_of(desired),
            &mut deletes,
            &mut modifies,
            &mut adds,
        );
    }
    diff_dns(&current.dns_hosts, &desired.dns_hosts, &mut deletes, &mut adds);
    deletes.append(&mut modifies);
    deletes.append(&mut adds);
    NetworkDiff {
        structure,
        hosts: deletes,
    }
}

fn hosts_of(subnet: &SubnetSpec) -> &[DhcpHost] {
    subnet.dhcp.as_ref().map_or(&[], |dhcp| &dhcp.hosts)
}

/// DHCP without anything in it counts as none: libvirt does not keep the difference, and nobody gets an address either
/// way. The generation counts as an entry of its own kind: it changes with every edit of the object, also with those that
/// change nothing here, and must not restart a network.
fn without_hosts(spec: &NetworkSpec) -> NetworkSpec {
    let mut spec = spec.clone();
    spec.dns_hosts.clear();
    spec.owner.generation = 0;
    for subnet in &mut spec.subnets {
        if let Some(dhcp) = &mut subnet.dhcp {
            dhcp.hosts.clear();
        }
        subnet.dhcp.take_if(|dhcp| *dhcp == Dhcp::default());
    }
    spec
}

fn diff_dhcp(
    subnet: usize,
    current: &[DhcpHost],
    desired: &[DhcpHost],
    deletes: &mut Vec<HostChange>,
    modifies: &mut Vec<HostChange>,
    adds: &mut Vec<HostChange>,
) {
    let wanted: HashMap<_, _> = desired.iter().map(|host| (host.mac, host)).collect();
    let known: HashMap<_, _> = current.iter().map(|host| (host.mac, host)).collect();
    // Addresses and names of entries that stay or change: an entry may only be modified into ones that nobody else had
    // before, or two entries that swap addresses would meet halfway.
    let (mut addresses, mut names) = (HashMap::new(), HashMap::new());
    for host in current.iter().filter(|host| wanted.contains_key(&host.mac)) {
        addresses.insert(host.address, host.mac);
        if let Some(name) = &host.name {
            names.insert(name.as_str(), host.mac);
        }
    }
    for host in current.iter().filter(|host| !wanted.contains_key(&host.mac)) {
        deletes.push(HostChange::DeleteDhcp {
            subnet,
            host: host.clone(),
        });
    }
    for host in desired {
        match known.get(&host.mac) {
            Some(before) if *before == host => {}
            Some(before) => {
                // libvirt finds an IPv6 entry to modify by its name only, and it may have none.
                let free = host.address.is_ipv4()
                    && addresses.get(&host.address).is_none_or(|mac| *mac == host.mac)
                    && host
                        .name
                        .as_deref()
                        .and_then(|name| names.get(name))
                        .is_none_or(|mac| *mac == host.mac);
                if free {
                    modifies.push(HostChange::ModifyDhcp {
                        subnet,
                        host: host.clone(),
                    });
                } else {
                    deletes.push(HostChange::DeleteDhcp {
                        subnet,
                        host: (*before).clone(),
                    });
                    adds.push(HostChange::AddDhcp {
                        subnet,
                        host: host.clone(),
                    });
                }
            }
            None => adds.push(HostChange::AddDhcp {
                subnet,
                host: host.clone(),
            }),
        }
    }
}

fn diff_dns(current: &[DnsHost], desired: &[DnsHost], deletes: &mut Vec<HostChange>, adds: &mut Vec<HostChange>) {
    let wanted: HashSet<_> = desired.iter().collect();
    let known: HashSet<_> = current.iter().collect();
    deletes.extend(
        current
            .iter()
            .filter(|host| !wanted.contains(host))
            .cloned()
            .map(HostChange::DeleteDns),
    );
    adds.extend(
        desired
            .iter()
            .filter(|host| !known.contains(host))
            .cloned()
            .map(HostChange::AddDns),
    );
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use proptest::prelude::*;

    use super::*;
    use crate::network::{MacAddress, fixtures};

    fn network(hosts: Vec<DhcpHost>, dns_hosts: Vec<DnsHost>) -> NetworkSpec {
        NetworkSpec {
            dns_hosts,
            ..fixtures::network(hosts)
        }
    }

    /// A list in which MAC, address and name each occur once, as `validate` asks for.
    fn hosts() -> impl Strategy<Value = Vec<DhcpHost>> {
        prop::collection::vec((0..6_u8, 0..6_u8, prop::option::of(0..6_u8)), 0..6).prop_map(|raw| {
            let (mut macs, mut addresses, mut names) = (HashSet::new(), HashSet::new(), HashSet::new());
            raw.into_iter()
                .filter(|(m, a, n)| {
                    let fresh = !macs.contains(m) && !addresses.contains(a) && n.is_none_or(|n| !names.contains(&n));
                    if fresh {
                        macs.insert(*m);
                        addresses.insert(*a);
                        names.extend(*n);
                    }
                    fresh
                })
                .map(|(m, a, n)| DhcpHost {
                    mac: MacAddress([2, 0, 0, 0, 0, m]),
                    address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 10 + a)),
                    name: n.map(|n| format!("host-{n}")),
                })
                .collect()
        })
    }

    fn dns() -> impl Strategy<Value = Vec<DnsHost>> {
        prop::collection::hash_map(0..5_u8, 0..3_u8, 0..5).prop_map(|raw| {
            raw.into_iter()
                .map(|(a, n)| DnsHost {
                    address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 10 + a)),
                    names: vec![format!("host-{n}")],
                })
                .collect()
        })
    }

    /// libvirt's own rules, as seen on libvirt 11.3.
    fn apply(spec: &mut NetworkSpec, change: &HostChange) {
        fn list(subnets: &mut [SubnetSpec], subnet: usize) -> &mut Vec<DhcpHost> {
            &mut subnets[subnet].dhcp.as_mut().unwrap().hosts
        }
        let NetworkSpec { subnets, dns_hosts, .. } = spec;
        match change {
            HostChange::AddDhcp { subnet, host } => {
                let hosts = list(subnets, *subnet);
                let taken = hosts.iter().any(|h| {
                    h.mac == host.mac || h.address == host.address || (h.name.is_some() && h.name == host.name)
                });
                assert!(!taken, "there is an existing dhcp host entry that matches {host:?}");
                hosts.push(host.clone());
            }
            HostChange::ModifyDhcp { subnet, host } => {
                let hosts = list(subnets, *subnet);
                let others = hosts.iter().filter(|h| h.mac != host.mac);
                assert!(
                    others
                        .clone()
                        .all(|h| h.address != host.address && (h.name.is_none() || h.name != host.name))
                );
                *hosts.iter_mut().find(|h| h.mac == host.mac).unwrap() = host.clone();
            }
            HostChange::DeleteDhcp { subnet, host } => {
                let hosts = list(subnets, *subnet);
                assert!(hosts.contains(host));
                hosts.retain(|h| h.mac != host.mac);
            }
            HostChange::AddDns(host) => {
                assert!(dns_hosts.iter().all(|h| h.address != host.address));
                dns_hosts.push(host.clone());
            }
            HostChange::DeleteDns(host) => {
                assert_eq!(dns_hosts.iter().filter(|h| h.address == host.address).count(), 1);
                dns_hosts.retain(|h| h.address != host.address);
            }
        }
    }

    proptest! {
        #[test]
        fn the_changes_lead_from_any_network_to_any_other_and_each_is_one_that_libvirt_accepts(
            from_hosts in hosts(), from_dns in dns(), to_hosts in hosts(), to_dns in dns()
        ) {
            let mut current = network(from_hosts, from_dns);
            let desired = network(to_hosts, to_dns);
            let changes = diff(&current, &desired);
            prop_assert!(!changes.structure);
            for change in &changes.hosts {
                apply(&mut current, change);
            }
            prop_assert!(diff(&current, &desired).is_empty());
        }
    }

    #[test]
    fn a_new_generation_alone_changes_nothing() {
        let current = network(Vec::new(), Vec::new());
        let mut desired = current.clone();
        desired.owner.generation = 7;
        assert!(diff(&current, &desired).is_empty());
    }

    #[test]
    fn another_mtu_is_a_change_of_structure() {
        let current = network(Vec::new(), Vec::new());
        let desired = NetworkSpec {
            mtu: Some(1400),
            ..current.clone()
        };
        assert_eq!(
            diff(&current, &desired),
            NetworkDiff {
                structure: true,
                hosts: Vec::new()
            }
        );
    }
}
