//! What few requests ask for: traits, resource classes, aggregates, hints.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::topology::{GuestTopology, PciRequest};
use crate::{Query, Uid};

/// What a request asks for beyond room, zone and group. Kept apart, for most requests have none of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Demands {
    /// Units of resource classes other than VCPU, MEMORY_MB and DISK_GB, such as `CUSTOM_LICENCE: 1`. Accounted like
    /// memory.
    pub resources: BTreeMap<String, u64>,
    /// Traits that the host must have.
    pub required_traits: BTreeSet<String>,
    /// Traits that the host must not have.
    pub forbidden_traits: BTreeSet<String>,
    /// Of each set, the host must have at least one trait.
    pub any_traits: Vec<BTreeSet<String>>,
    /// Of each set, the host must be in at least one aggregate (Placement's `member_of`).
    pub member_of: Vec<BTreeSet<String>>,
    /// Aggregates that the host must not be in (Placement's `member_of=!`).
    pub not_member_of: BTreeSet<String>,
    /// Extra specs `aggregate_instance_extra_specs:KEY`, without the prefix.
    pub aggregate_specs: BTreeMap<String, String>,
    /// Extra specs `capabilities:PATH`, without the prefix, such as `cpu_info:features`.
    pub capabilities: BTreeMap<String, String>,
    /// Extra specs without a scope. Nova takes each for a capability where the host has one of that name, and for a key
    /// of an aggregate's metadata in any case.
    pub unscoped: BTreeMap<String, String>,
    /// NUMA nodes, CPUs of its own and pages.
    pub topology: Option<GuestTopology>,
    /// Devices to pass through.
    pub devices: Vec<PciRequest>,
    /// The owner's wishes.
    pub hints: Hints,
}

/// Scheduler hints.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Hints {
    /// Instances whose hosts will not do.
    pub different_host: BTreeSet<Uid>,
    /// Instances of which one at least must be on the host.
    pub same_host: BTreeSet<Uid>,
    /// An expression that must be true of the host.
    pub query: Option<Query>,
    /// The host's address must be in this network (Nova's `build_near_host_ip` with `cidr`, see [`near`]).
    pub near: Option<IpNet>,
}

/// Why hints about an address are none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NearError {
    /// Not an address.
    #[error("reading the hint buildNearHostIP: {0:?} is no IP address")]
    Address(String),
    /// Not a length of prefix for this kind of address.
    #[error("reading the hint cidr: {0:?} is not a prefix length such as /24 that fits the address")]
    Prefix(String),
}

/// The network of the hints `buildNearHostIP` and `cidr`. Without a `cidr` it is `/24`, as in Nova.
pub fn near(address: &str, cidr: Option<&str>) -> Result<IpNet, NearError> {
    let short = |text: &str| text.chars().take(64).collect::<String>();
    let ip: IpAddr = address.parse().map_err(|_| NearError::Address(short(address)))?;
    let text = cidr.unwrap_or("/24");
    let prefix = text.strip_prefix('/').unwrap_or(text);
    let refused = || NearError::Prefix(short(text));
    let digits = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
    let length: u8 = if digits {
        prefix.parse().map_err(|_| refused())?
    } else {
        return Err(refused());
    };
    Ok(IpNet::new(ip, length).map_err(|_| refused())?.trunc())
}

/// The image that a request boots from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ImageFacts {
    /// The Image's UID.
    pub uid: String,
    /// Its properties, such as `hw_architecture` or `img_hv_type`.
    pub properties: BTreeMap<String, String>,
}

impl Demands {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_read_from_an_address_and_a_length() {
        assert_eq!(near("10.1.2.3", None).unwrap().to_string(), "10.1.2.0/24");
        assert_eq!(near("10.1.2.3", Some("/30")).unwrap().to_string(), "10.1.2.0/30");
        assert_eq!(near("fd00::1:2", Some("64")).unwrap().to_string(), "fd00::/64");
    }

    #[test]
    fn what_is_no_network_is_refused_with_the_field() {
        assert!(matches!(near("node-1", None), Err(NearError::Address(_))));
        for cidr in ["/33", "24/", "", "/", "/+1", "/999"] {
            assert!(
                matches!(near("10.0.0.1", Some(cidr)), Err(NearError::Prefix(_))),
                "{cidr}"
            );
        }
    }
}
