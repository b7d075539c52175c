use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use uuid::Uuid;
use virga_crds::conditions::Reason;

use super::{ValidNetwork, ValidSubnet};

/// Who has which address of one network: IPAM without I/O.
///
/// An owner is a Port (any text that names it for ever). What is claimed stays claimed until it is released; claiming
/// the same for the same owner again changes nothing, so a state can be rebuilt from the Ports at any time.
#[derive(Clone, Debug)]
pub struct NetworkAddresses {
    subnets: Vec<SubnetAddresses>,
}

/// An address that was taken, and the subnet it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocated {
    /// The subnet's name.
    pub subnet: String,
    /// The address.
    pub ip: IpAddr,
}

/// Why an address can't be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// In none of the network's subnets.
    #[error("{ip} is in no subnet of the network ({cidrs}); choose one that is, or leave the address out")]
    Outside {
        /// The address.
        ip: IpAddr,
        /// The subnets' ranges.
        cidrs: String,
    },
    /// One of the subnet's own.
    #[error("{ip} is the network, broadcast or gateway address of subnet {subnet}; choose another, or leave it out")]
    Reserved {
        /// The address.
        ip: IpAddr,
        /// The subnet.
        subnet: String,
    },
    /// Guests make theirs of their MAC address there.
    #[error("{ip} can't be asked for: guests of subnet {subnet} make their address of their MAC address; leave it out")]
    Derived {
        /// The address.
        ip: IpAddr,
        /// The subnet.
        subnet: String,
    },
    /// Somebody else's.
    #[error("{ip} belongs to {owner}; choose another, or leave the address out")]
    Taken {
        /// The address.
        ip: IpAddr,
        /// Whose it is.
        owner: String,
    },
    /// Somebody else's MAC address.
    #[error("{mac} belongs to {owner}; choose another, or leave it out")]
    MacTaken {
        /// The MAC address.
        mac: String,
        /// Whose it is.
        owner: String,
    },
    /// No address is left.
    #[error("no address is free: {usage}; delete Instances or Ports, or add a subnet to the network")]
    Exhausted {
        /// Each subnet with what is used of it.
        usage: String,
    },
}

impl AddressError {
    /// For a condition.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Exhausted { .. } => Reason::AddressExhausted,
            Self::Taken { .. } | Self::MacTaken { .. } => Reason::AddressInUse,
            Self::Outside { .. } | Self::Reserved { .. } | Self::Derived { .. } => Reason::AddressInvalid,
        }
    }
}

#[derive(Clone, Debug)]
struct SubnetAddresses {
    subnet: ValidSubnet,
    /// What is free in the pools: start to end, apart from each other.
    free: BTreeMap<u128, u128>,
    /// What is taken, in the pools or not, and by whom; and the other way round.
    taken: HashMap<u128, String>,
    held: HashMap<String, BTreeSet<u128>>,
    total: u128,
    used: u128,
}

impl NetworkAddresses {
    /// All free.
    pub fn new(network: &ValidNetwork) -> Self {
        Self {
            subnets: network.subnets.iter().cloned().map(SubnetAddresses::new).collect(),
        }
    }

    /// Takes what an owner was given before. An address of none of the subnets is passed over: its subnet is gone.
    pub fn adopt(&mut self, owner: &str, ip: IpAddr) {
        if let Some(subnet) = self.subnets.iter_mut().find(|s| s.subnet.cidr.contains(&ip)) {
            subnet.take(to_number(ip), owner);
        }
    }

    /// Whether the owner could have this address; changes nothing.
    pub fn check(&self, owner: &str, ip: IpAddr) -> Result<(), AddressError> {
        let Some(subnet) = self.subnets.iter().find(|s| s.subnet.cidr.contains(&ip)) else {
            let cidrs: Vec<_> = self.subnets.iter().map(|s| s.subnet.cidr.to_string()).collect();
            return Err(AddressError::Outside {
                ip,
                cidrs: cidrs.join(", "),
            });
        };
        if subnet.subnet.is_reserved(ip) {
            return Err(AddressError::Reserved {
                ip,
                subnet: subnet.subnet.name.clone(),
            });
        }
        match subnet.taken.get(&to_number(ip)) {
            Some(other) if other != owner => Err(AddressError::Taken {
                ip,
                owner: other.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// Takes one address of each family that the network has: the one asked for, and the lowest free one of the others.
    /// All or nothing.
    pub fn allocate(&mut self, owner: &str, wanted: Option<IpAddr>) -> Result<Vec<Allocated>, AddressError> {
        self.take(owner, wanted.as_slice(), None, &[true, false])
    }

    /// Takes one address: the one asked for, or the lowest free one of IPv4.
    pub fn allocate_one(&mut self, owner: &str, wanted: Option<IpAddr>) -> Result<Vec<Allocated>, AddressError> {
        let v4 = wanted.is_none_or(|ip| ip.is_ipv4());
        if wanted.is_none() && !self.subnets.iter().any(|s| s.subnet.cidr.addr().is_ipv4()) {
            return Err(AddressError::Exhausted {
                usage: "the network has no subnet of IPv4".into(),
            });
        }
        self.take(owner, wanted.as_slice(), None, &[v4])
    }

    /// The same for a guest with this MAC address, which may make its IPv6 address itself; and which may ask for several
    /// addresses, each of another subnet.
    pub fn allocate_for(&mut self, owner: &str, wanted: &[IpAddr], mac: &str) -> Result<Vec<Allocated>, AddressError> {
        let derived = self
            .subnets
            .iter()
            .find_map(|held| Some((held, held.subnet.derived(mac)?)));
        let derived = derived.map(|(held, ip)| (held.subnet.name.clone(), ip));
        if let Some((subnet, made)) = &derived
            && let Some(other) = wanted.iter().find(|ip| ip.is_ipv6() && *ip != made)
        {
            return Err(AddressError::Derived {
                ip: *other,
                subnet: subnet.clone(),
            });
        }
        self.take(owner, wanted, derived.map(|(_, ip)| ip), &[true, false])
    }

    fn take(
        &mut self,
        owner: &str,
        wanted: &[IpAddr],
        derived: Option<IpAddr>,
        families: &[bool],
    ) -> Result<Vec<Allocated>, AddressError> {
        let asked: BTreeSet<IpAddr> = wanted.iter().copied().chain(derived).collect();
        for ip in &asked {
            self.check(owner, *ip)?;
        }
        let mut chosen: Vec<(usize, u128)> = Vec::new();
        for &v4 in families {
            let family: Vec<usize> = (0..self.subnets.len())
                .filter(|&i| self.subnets[i].subnet.cidr.addr().is_ipv4() == v4)
                .collect();
            if family.is_empty() {
                continue;
            }
            let of_family = asked.iter().filter(|ip| ip.is_ipv4() == v4).map(|ip| to_number(*ip));
            let its = of_family.filter_map(|n| Some((*family.iter().find(|&&i| self.subnets[i].contains(n))?, n)));
            let its: Vec<_> = its.collect();
            if !its.is_empty() {
                chosen.extend(its);
                continue;
            }
            let held = family
                .iter()
                .find_map(|&i| self.subnets[i].held_by(owner).map(|n| (i, n)));
            let found = held.or_else(|| {
                let mut free = family.iter();
                free.find_map(|&i| self.subnets[i].free.keys().next().map(|&n| (i, n)))
            });
            chosen.push(found.ok_or_else(|| AddressError::Exhausted {
                usage: self.usage_of(&family),
            })?);
        }
        let mut allocated = Vec::new();
        for (i, number) in chosen {
            let subnet = &mut self.subnets[i];
            subnet.take(number, owner);
            allocated.push(Allocated {
                subnet: subnet.subnet.name.clone(),
                ip: subnet.address(number),
            });
        }
        Ok(allocated)
    }

    /// Gives back all that an owner has.
    pub fn release(&mut self, owner: &str) {
        for subnet in &mut self.subnets {
            for number in subnet.held.remove(owner).unwrap_or_default() {
                subnet.give_back(number);
            }
        }
    }

    /// Name, size of the pools and number of addresses taken, of each subnet.
    pub fn usage(&self) -> impl Iterator<Item = (&str, i64, i64)> {
        let bounded = |n: u128| i64::try_from(n).unwrap_or(i64::MAX).min(1 << 53);
        self.subnets
            .iter()
            .map(move |s| (s.subnet.name.as_str(), bounded(s.total), bounded(s.used)))
    }

    fn usage_of(&self, family: &[usize]) -> String {
        let parts: Vec<_> = family
            .iter()
            .map(|&i| &self.subnets[i])
            .map(|s| {
                format!(
                    "{} of {} are used in subnet {} ({})",
                    s.used, s.total, s.subnet.name, s.subnet.cidr
                )
            })
            .collect();
        parts.join(", ")
    }
}

impl SubnetAddresses {
    fn new(subnet: ValidSubnet) -> Self {
        let free: BTreeMap<u128, u128> = subnet
            .pools
            .iter()
            .map(|(start, end)| (to_number(*start), to_number(*end)))
            .collect();
        let total = free.iter().map(|(start, end)| end - start + 1).sum();
        Self {
            subnet,
            free,
            taken: HashMap::new(),
            held: HashMap::new(),
            total,
            used: 0,
        }
    }

    fn contains(&self, number: u128) -> bool {
        self.subnet.cidr.contains(&self.address(number))
    }

    fn address(&self, number: u128) -> IpAddr {
        if self.subnet.cidr.addr().is_ipv4() {
            Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)).into()
        } else {
            Ipv6Addr::from(number).into()
        }
    }

    fn held_by(&self, owner: &str) -> Option<u128> {
        self.held.get(owner).and_then(|numbers| numbers.first().copied())
    }

    /// The first owner keeps it: a second claim of the same address changes nothing.
    fn take(&mut self, number: u128, owner: &str) {
        if self.taken.contains_key(&number) {
            return;
        }
        self.taken.insert(number, owner.to_owned());
        self.held.entry(owner.to_owned()).or_default().insert(number);
        if let Some((&start, &end)) = self
            .free
            .range(..=number)
            .next_back()
            .filter(|(_, end)| **end >= number)
        {
            self.free.remove(&start);
            if start < number {
                self.free.insert(start, number - 1);
            }
            if number < end {
                self.free.insert(number + 1, end);
            }
            self.used += 1;
        }
    }

    fn give_back(&mut self, number: u128) {
        self.taken.remove(&number);
        let in_pool = self
            .subnet
            .pools
            .iter()
            .any(|(a, b)| (to_number(*a)..=to_number(*b)).contains(&number));
        if !in_pool {
            return;
        }
        self.used -= 1;
        let (mut start, mut end) = (number, number);
        if let Some((&s, _)) = self.free.range(..number).next_back().filter(|(_, e)| **e + 1 == number) {
            self.free.remove(&s);
            start = s;
        }
        if let Some(e) = number.checked_add(1).and_then(|next| self.free.remove(&next)) {
            end = e;
        }
        self.free.insert(start, end);
    }
}

fn to_number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(a) => u32::from(a).into(),
        IpAddr::V6(a) => a.into(),
    }
}

/// A MAC address with Neutron's prefix, the same for the same seed; `attempt` gives another one when it is taken.
pub fn mac_address(seed: &str, attempt: u32) -> String {
    let hash = Uuid::new_v5(
        &Uuid::NAMESPACE_URL,
        format!("virga.dev/mac/{attempt}/{seed}").as_bytes(),
    );
    let [a, b, c, ..] = hash.into_bytes();
    format!("fa:16:3e:{a:02x}:{b:02x}:{c:02x}")
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashMap};

    use proptest::prelude::*;
    use virga_crds::{AllocationPool, NetworkSpec, Subnet};

    use super::*;
    use crate::network::validate;

    fn network(subnets: &[(&str, Option<(&str, &str)>)]) -> NetworkAddresses {
        let subnets = subnets.iter().enumerate().map(|(n, (cidr, pool))| Subnet {
            name: format!("s{n}"),
            cidr: (*cidr).into(),
            allocation_pools: pool
                .map(|(start, end)| {
                    vec![AllocationPool {
                        start: start.into(),
                        end: end.into(),
                    }]
                })
                .unwrap_or_default(),
            ..Subnet::default()
        });
        let spec = NetworkSpec {
            subnets: subnets.collect(),
            ..NetworkSpec::default()
        };
        NetworkAddresses::new(&validate(&spec).unwrap())
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_family_gives_one_address_the_lowest_that_is_free() {
        let mut net = network(&[("10.0.0.0/29", None), ("fd00::/64", None), ("10.1.0.0/29", None)]);
        let got = net.allocate("a", None).unwrap();
        assert_eq!(
            got.iter().map(|a| a.ip).collect::<Vec<_>>(),
            [ip("10.0.0.2"), ip("fd00::2")]
        );
        assert_eq!(
            net.allocate("a", None).unwrap(),
            got,
            "the same owner gets the same again"
        );
        assert_eq!(net.allocate("b", None).unwrap()[0].ip, ip("10.0.0.3"));
    }

    #[test]
    fn a_full_subnet_overflows_into_the_next_and_then_says_what_is_used() {
        let mut net = network(&[("10.0.0.0/30", None), ("10.1.0.0/30", None)]);
        assert_eq!(net.allocate("a", None).unwrap()[0].subnet, "s0");
        assert_eq!(net.allocate("b", None).unwrap()[0].subnet, "s1");
        let refusal = net.allocate("c", None).unwrap_err().to_string();
        assert!(
            refusal.contains("1 of 1 are used in subnet s0 (10.0.0.0/30)"),
            "{refusal}"
        );
        net.release("a");
        assert_eq!(net.allocate("c", None).unwrap()[0].ip, ip("10.0.0.2"));
    }

    #[test]
    fn an_owner_that_gave_its_address_back_gets_one_that_is_still_free() {
        let mut net = network(&[("10.0.0.0/28", None)]);
        let first = net.allocate("a", None).unwrap();
        net.release("a");
        assert_eq!(net.allocate("b", None).unwrap(), first);
        assert_eq!(net.allocate("a", None).unwrap()[0].ip, ip("10.0.0.3"));
        net.release("a");
        net.release("a");
        assert_eq!(net.usage().next(), Some(("s0", 13, 1)), "giving back twice counts once");
    }

    #[test]
    fn an_address_that_is_asked_for_may_be_outside_the_pools_but_not_reserved_or_taken() {
        let mut net = network(&[("10.0.0.0/24", Some(("10.0.0.100", "10.0.0.110")))]);
        assert_eq!(net.allocate("a", Some(ip("10.0.0.5"))).unwrap()[0].ip, ip("10.0.0.5"));
        assert!(matches!(
            net.allocate("b", Some(ip("10.0.0.5"))),
            Err(AddressError::Taken { .. })
        ));
        assert!(matches!(
            net.allocate("b", Some(ip("10.0.0.1"))),
            Err(AddressError::Reserved { .. })
        ));
        assert!(matches!(
            net.allocate("b", Some(ip("10.0.0.255"))),
            Err(AddressError::Reserved { .. })
        ));
        assert!(matches!(
            net.allocate("b", Some(ip("10.0.9.5"))),
            Err(AddressError::Outside { .. })
        ));
        assert_eq!(net.usage().collect::<Vec<_>>(), [("s0", 11, 0)]);
    }

    #[test]
    fn mac_addresses_are_neutrons_and_steady() {
        assert!(mac_address("uid/front", 0).starts_with("fa:16:3e:"));
        assert_eq!(mac_address("uid/front", 0), mac_address("uid/front", 0));
        assert_ne!(mac_address("uid/front", 0), mac_address("uid/front", 1));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Allocate(u8),
        Ask(u8, u8),
        Release(u8),
        Rebuild,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0..12_u8).prop_map(Step::Allocate),
            (0..12_u8, 0..16_u8).prop_map(|(o, a)| Step::Ask(o, a)),
            (0..12_u8).prop_map(Step::Release),
            Just(Step::Rebuild),
        ];
        prop::collection::vec(step, 0..60)
    }

    proptest! {
        #[test]
        fn no_address_is_ever_given_twice_or_lost(steps in steps()) {
            let fresh = || network(&[("10.0.0.0/28", Some(("10.0.0.4", "10.0.0.10")))]);
            let mut net = fresh();
            let mut model: HashMap<u8, BTreeSet<IpAddr>> = HashMap::new();
            for step in steps {
                match step {
                    Step::Allocate(owner) => {
                        if let Ok(got) = net.allocate(&owner.to_string(), None) {
                            model.entry(owner).or_default().insert(got[0].ip);
                        } else {
                            let pool: BTreeSet<IpAddr> = (4..=10).map(|n| IpAddr::from([10, 0, 0, n])).collect();
                            let taken: BTreeSet<IpAddr> = model.values().flatten().copied().collect();
                            prop_assert!(pool.is_subset(&taken), "refused while an address was free");
                        }
                    }
                    Step::Ask(owner, last) => {
                        let wanted = IpAddr::from([10, 0, 0, last]);
                        if net.allocate(&owner.to_string(), Some(wanted)).is_ok() {
                            model.entry(owner).or_default().insert(wanted);
                        }
                    }
                    Step::Release(owner) => {
                        net.release(&owner.to_string());
                        model.remove(&owner);
                    }
                    Step::Rebuild => {
                        net = fresh();
                        for (owner, addresses) in &model {
                            for address in addresses {
                                net.adopt(&owner.to_string(), *address);
                            }
                        }
                    }
                }
                let all: Vec<IpAddr> = model.values().flatten().copied().collect();
                let distinct: BTreeSet<IpAddr> = all.iter().copied().collect();
                prop_assert_eq!(all.len(), distinct.len(), "an address was given twice");
                let in_pool = distinct.iter().filter(|a| (ip("10.0.0.4")..=ip("10.0.0.10")).contains(*a)).count();
                prop_assert_eq!(net.usage().next(), Some(("s0", 7, i64::try_from(in_pool).unwrap())));
            }
        }
    }
}
